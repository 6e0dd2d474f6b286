//! One recording, from the process ids to the written result.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use clap::ValueEnum;
use jiff::Timestamp;
use nodetap_profile::{Format, Metadata, Process, Profile, formats};
use nodetap_sampler::raw::RawSample;
use nodetap_sampler::sampler::{self, Options, Sampler};
use nodetap_sampler::target::Target;
use nodetap_symbols::Symbolizer;
use rustix::time::{ClockId, clock_gettime};
use tracing::debug;

use crate::arguments::{DEFAULT_RATE, DEFAULT_RATE_OF_PTRACE};
use crate::failure::{Failure, Result, reason};
use crate::interrupt::Interrupts;
use crate::output::Output;
use crate::progress::Progress;
use crate::terminal;
use crate::watch::{End, Watch};

/// What to record, and what to make of it.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The processes, at least one, each once.
    pub pids: Vec<u32>,
    /// How long; without it until a signal comes or the last process has ended.
    pub duration: Option<Duration>,
    /// Samples a second of CPU time; what suits the sampler where there is none.
    pub rate_hz: Option<u32>,
    /// What takes the stacks.
    pub sampler: SamplerChoice,
    /// The most frames of a stack.
    pub max_depth: u32,
    /// Whether C++ frames are wanted.
    pub native: bool,
    /// Whether the kernel's frames are wanted.
    pub kernel: bool,
    /// What the result is written as.
    pub format: Format,
    /// Where to; none or `-`: stdout.
    pub output: Option<PathBuf>,
    /// A line for stderr when the sampling starts.
    pub announcement: Option<String>,
}

/// What takes the stacks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum SamplerChoice {
    /// eBPF where this machine and user allow it, else ptrace
    #[default]
    Auto,
    /// A program in the kernel: nothing is stopped
    Ebpf,
    /// Stopping each thread for a moment: needs no rights but to trace the process
    Ptrace,
}

/// How long samples may wait in the ring buffer before they are named.
const POLL_INTERVAL: Duration = Duration::from_millis(20);
/// The same while the target's collector moves or frees what they name before
/// it was read.
const SHORTEST_POLL_INTERVAL: Duration = Duration::from_millis(1);

/// Records, and writes the result.
pub fn record(settings: &Settings) -> Result<()> {
    let begun = monotonic();
    let mut recording = Recording::new(settings);
    for &pid in &settings.pids {
        recording.attach(pid)?;
    }
    debug!(after = ?monotonic() - begun, "attached");

    let output = Output::open(settings.output.as_deref())?;
    if settings.format.is_binary() && output.is_terminal() {
        let message = format!("{} is a binary format, not for a terminal", settings.format);
        return Err(Failure::usage(message).hint("write it to a file: --output FILE"));
    }
    let mut interrupts = Interrupts::listen().map_err(|error| {
        Failure::new(format_args!(
            "cannot listen for signals: {}",
            reason(&error)
        ))
    })?;

    let (mut sampler, better) = recording.start_sampler(settings)?;
    debug!(after = ?monotonic() - begun, "sampling");
    let is_ebpf = matches!(sampler, Sampler::Ebpf(_));
    if settings.kernel && !is_ebpf {
        terminal::note("there will be no kernel frames: only the eBPF sampler sees them");
    }
    if settings.kernel && is_ebpf && recording.symbolizer.kernel_names_are_hidden() {
        terminal::note("kernel frames will have no names: /proc/kallsyms hides its addresses");
        terminal::hint("as root: sysctl kernel.kptr_restrict=1");
    }
    if let Some(line) = &settings.announcement {
        terminal::line(line);
    }
    let mut progress = Progress::start(settings.duration);
    let ran = recording.run(
        &mut sampler,
        settings.duration,
        &mut interrupts,
        &output,
        &mut progress,
    );
    progress.finish();
    ran?;
    let stopped = monotonic();
    let started = recording.started;
    let (profile, stopped_for) = recording.finish(sampler)?;
    if let Some(first) = profile.samples().first() {
        let taken = started + Duration::from_micros(first.time_us);
        debug!(after = ?taken - begun, "first sample");
    }
    if profile.samples().is_empty() {
        terminal::note("no samples: the process used no CPU time meanwhile");
    }
    output.write(|to| formats::write(&profile, settings.format, to))?;
    debug!(took = ?monotonic() - stopped, "named the rest and written");
    let samples = profile.samples().len();
    terminal::line(closing_line(&profile.metadata, samples, stopped_for));
    if let Some(better) = better {
        terminal::hint(better);
    }
    Ok(())
}

/// A process that can be read but not watched: most likely it is none.
fn not_watched(pid: u32, error: &io::Error) -> Failure {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let process = status.lines().find_map(|line| line.strip_prefix("Tgid:"));
    match process.map(str::trim).and_then(|id| id.parse::<u32>().ok()) {
        Some(process) if process != pid => {
            Failure::new(format_args!("{pid} is a thread of process {process}"))
                .hint(format_args!("name the process: {process}"))
        }
        _ => Failure::new(format_args!(
            "cannot watch process {pid}: {}",
            reason(error)
        )),
    }
}

/// One process that is recorded.
struct Recorded {
    target: Target,
    watch: Watch,
    end: Option<End>,
}

/// What has been taken so far.
struct Recording {
    targets: Vec<Recorded>,
    symbolizer: Symbolizer,
    profile: Profile,
    /// When the sampling started, by the monotonic clock.
    started: Duration,
    /// Samples that have not been named yet.
    batch: Vec<RawSample>,
    /// How long samples may wait for now.
    patience: Duration,
    /// Samples that were thrown away because their process may have run
    /// another program by then.
    dropped: u64,
}

impl Recording {
    fn new(settings: &Settings) -> Recording {
        Recording {
            targets: Vec::new(),
            symbolizer: Symbolizer::new(nodetap_symbols::Options {
                native: settings.native,
                kernel: settings.kernel,
            }),
            profile: Profile::new(Metadata::new("", 0)),
            started: Duration::ZERO,
            batch: Vec::new(),
            patience: POLL_INTERVAL,
            dropped: 0,
        }
    }

    fn attach(&mut self, pid: u32) -> Result<()> {
        // First the watch: of an exec from here on it will tell.
        let watch = Watch::open(pid);
        let target =
            Target::attach(pid).map_err(|error| Failure::new(&error).hint_maybe(error.hint()))?;
        let watch = watch.map_err(|error| not_watched(pid, &error))?;
        self.symbolizer.attach(&target).map_err(|error| {
            Failure::new(format_args!(
                "cannot read the mappings of process {pid}: {}",
                reason(&error)
            ))
        })?;
        self.profile.add_process(Process {
            pid,
            command: target.command.clone(),
            node: target.node_version.clone(),
            v8: Some(target.v8_version.clone()),
        });
        self.targets.push(Recorded {
            target,
            watch,
            end: None,
        });
        Ok(())
    }

    /// Starts the sampler that is wanted. Where it is the second best, a hint tells
    /// what it would take to get the best.
    fn start_sampler(&mut self, settings: &Settings) -> Result<(Sampler, Option<String>)> {
        let options = |default_rate| Options {
            rate_hz: settings.rate_hz.unwrap_or(default_rate),
            kernel: settings.kernel,
            max_depth: settings.max_depth,
        };
        let targets = || self.targets.iter().map(|it| &it.target);
        let ebpf = || Sampler::ebpf(&options(DEFAULT_RATE), targets()).map_err(Into::into);
        let ptrace =
            || Sampler::ptrace(&options(DEFAULT_RATE_OF_PTRACE), targets()).map_err(Into::into);
        let (sampler, better) = match settings.sampler {
            SamplerChoice::Ebpf => (ebpf().map_err(failure_of_sampler)?, None),
            SamplerChoice::Ptrace => (ptrace().map_err(failure_of_sampler)?, None),
            SamplerChoice::Auto => match ebpf() {
                Ok(sampler) => (sampler, None),
                Err(error) => {
                    debug!(%error, "no eBPF");
                    let sampler = ptrace().map_err(failure_of_sampler)?;
                    (sampler, Some(better_sampler(&error)))
                }
            },
        };
        let metadata = &mut self.profile.metadata;
        metadata.sampler = sampler.name().to_owned();
        metadata.rate_hz = match sampler {
            Sampler::Ebpf(_) => options(DEFAULT_RATE).rate_hz,
            Sampler::Ptrace(_) => options(DEFAULT_RATE_OF_PTRACE).rate_hz,
        };
        metadata.start = Timestamp::now();
        self.started = monotonic();
        Ok((sampler, better))
    }

    /// Takes samples until there is a reason to stop.
    fn run(
        &mut self,
        sampler: &mut Sampler,
        duration: Option<Duration>,
        interrupts: &mut Interrupts,
        output: &Output,
        progress: &mut Progress,
    ) -> Result<()> {
        while self.targets.iter().any(|target| target.end.is_none()) && !interrupts.received() {
            let elapsed = monotonic() - self.started;
            let wait = match duration {
                Some(duration) if duration <= elapsed => break,
                Some(duration) => (duration - elapsed).min(self.patience),
                None => self.patience,
            };
            // Whoever was to get the result has gone: it would be for nobody.
            if output.is_abandoned() {
                return Err(Failure::silent(0));
            }
            let batch = &mut self.batch;
            sampler
                .poll(wait, &mut |sample| batch.push(sample.to_owned()))
                .map_err(failure_of_sampler)?;
            for (pid, end) in self.new_ends() {
                sampler.remove_process(pid).map_err(failure_of_sampler)?;
                progress.suspend(|| match end {
                    End::Exited => terminal::note(format_args!("process {pid} has ended")),
                    End::Execed => {
                        terminal::note(format_args!("process {pid} runs another program now"));
                    }
                });
            }
            self.name_batch();
            progress.update(elapsed, self.profile.samples().len());
        }
        Ok(())
    }

    /// Stops the sampling and names what is left. Tells as well for how long
    /// threads stood still for it, where they had to.
    fn finish(mut self, sampler: Sampler) -> Result<(Profile, Option<Duration>)> {
        let duration = monotonic() - self.started;
        let batch = &mut self.batch;
        let totals = sampler
            .stop(&mut |sample| batch.push(sample.to_owned()))
            .map_err(failure_of_sampler)?;
        self.new_ends();
        self.name_batch();
        let metadata = &mut self.profile.metadata;
        metadata.duration = duration;
        metadata.lost = totals.lost + self.dropped;
        Ok((self.profile, totals.stopped))
    }

    /// The processes that have come to an end since the last look.
    fn new_ends(&mut self) -> Vec<(u32, End)> {
        let mut ends = Vec::new();
        for recorded in self
            .targets
            .iter_mut()
            .filter(|recorded| recorded.end.is_none())
        {
            recorded.end = recorded.watch.end();
            ends.extend(recorded.end.map(|end| (recorded.target.pid, end)));
        }
        ends
    }

    /// Names the samples of the batch and adds them to the profile.
    ///
    /// Those that may be of another program already are thrown away: what was
    /// read of the old one would give them wrong names.
    fn name_batch(&mut self) {
        let missed = self.symbolizer.missed();
        for recorded in &self.targets {
            self.symbolizer.begin_batch(&recorded.target);
        }
        // The last first: what they saw is there still, most likely.
        for sample in self.batch.iter().rev() {
            if let Some(recorded) = self.targets.iter().find(|it| it.target.pid == sample.pid) {
                self.symbolizer.meet(&recorded.target, &sample.as_ref());
            }
        }
        for sample in self.batch.drain(..) {
            let of_it = |recorded: &&Recorded| recorded.target.pid == sample.pid;
            match self.targets.iter().find(of_it) {
                Some(recorded) if recorded.end != Some(End::Execed) => {
                    let time = Duration::from_nanos(sample.time_ns).saturating_sub(self.started);
                    let sample = sample.as_ref();
                    let profile = &mut self.profile;
                    self.symbolizer
                        .add(&recorded.target, &sample, time, profile);
                }
                _ => self.dropped += 1,
            }
        }
        self.patience = if self.symbolizer.missed() > missed {
            (self.patience / 4).max(SHORTEST_POLL_INTERVAL)
        } else {
            (self.patience * 5 / 4).min(POLL_INTERVAL)
        };
    }
}

fn failure_of_sampler(error: sampler::Error) -> Failure {
    Failure::new(&error).hint_maybe(error.hint())
}

/// What it would take to sample by eBPF, which failed with `error`.
fn better_sampler(error: &sampler::Error) -> String {
    const BETTER: &str = "the eBPF sampler stops nothing and samples ten times as often";
    match error.hint() {
        Some(hint) => format!("{BETTER}: {hint}"),
        None => format!("{BETTER}, but: {error}"),
    }
}

/// The time of the clock that samples carry.
fn monotonic() -> Duration {
    let now = clock_gettime(ClockId::Monotonic);
    // Both count up from 0 at boot.
    Duration::new(now.tv_sec.unsigned_abs(), now.tv_nsec.unsigned_abs() as u32)
}

/// What was kept and what was not, and for how long threads stood still for it.
fn closing_line(metadata: &Metadata, samples: usize, stopped: Option<Duration>) -> String {
    let Metadata {
        sampler,
        rate_hz,
        lost,
        truncated,
        incomplete,
        ..
    } = metadata;
    let seconds = metadata.duration.as_secs_f64();
    let share = match samples {
        0 => 0.0,
        _ => 100.0 * *incomplete as f64 / samples as f64,
    };
    let stopped = stopped.map_or_else(String::new, |stopped| {
        format!("; stopped for {:.0} ms in all", stopped.as_secs_f64() * 1e3)
    });
    format!(
        "{samples} samples in {seconds:.1} s at {rate_hz} Hz ({sampler}): \
         {lost} lost, {truncated} truncated, {incomplete} incomplete ({share:.2} %){stopped}"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_closing_line_is_that_of_the_contract() {
        let metadata = Metadata {
            duration: Duration::from_millis(5003),
            incomplete: 2,
            ..Metadata::new("ebpf", 999)
        };
        assert_eq!(
            closing_line(&metadata, 4995, None),
            "4995 samples in 5.0 s at 999 Hz (ebpf): \
             0 lost, 0 truncated, 2 incomplete (0.04 %)"
        );
        assert_eq!(
            closing_line(
                &Metadata::new("ptrace", 1),
                0,
                Some(Duration::from_micros(31_400))
            ),
            "0 samples in 0.0 s at 1 Hz (ptrace): 0 lost, 0 truncated, 0 incomplete (0.00 %); \
             stopped for 31 ms in all"
        );
    }
}
