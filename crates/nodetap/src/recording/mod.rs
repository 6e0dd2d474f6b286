//! One recording, from the process ids, or the command, to the written result.

mod family;
pub mod sampling;
mod stream;
pub mod targets;
mod wall;

use std::ffi::OsString;
use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::thread::sleep;
use std::time::{Duration, Instant};

use nodetap_profile::{By, Format, Metadata, formats};
use nodetap_sampler::priority::Preferred;
use nodetap_sampler::ptrace::Stops;
use nodetap_sampler::sampler::{self, Sampler};
use nodetap_symbols::Options;
use rustix::process::{Pid, Signal, kill_process};
use tracing::debug;

use crate::failure::{Failure, Result, reason};
use crate::interrupt::Interrupts;
use crate::job_control::HeldStops;
use crate::open::Place;
use crate::output::Output;
use crate::permissions;
use crate::permissions::remedy::Task;
use crate::progress::Progress;
use crate::terminal;
use crate::watch::End;
use family::Family;
pub use sampling::SamplerChoice;
use sampling::Sampling;
use stream::Stream;
use targets::{Taken, Targets};

const NEEDS_EBPF: &str = "off-CPU time needs the eBPF sampler";

/// What to record, and what to make of it.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The processes, each once.
    pub pids: Vec<u32>,
    /// What to start and to record, where there are no processes.
    pub command: Option<Vec<OsString>>,
    /// Whether the processes that those start are recorded as well.
    pub subprocesses: bool,
    /// How long; without it until a signal comes or the last process has ended.
    pub duration: Option<Duration>,
    /// How samples are taken.
    pub sampling: Sampling,
    /// What of them is shown.
    pub shown: Options,
    /// What the result is written as.
    pub format: Format,
    /// What a row of it is.
    pub by: By,
    /// Where to; none or `-`: stdout.
    pub output: Option<PathBuf>,
    /// Whether it is to be shown when it is there.
    pub open: bool,
    /// A line for stderr when the sampling starts.
    pub announcement: Option<String>,
}

/// Records, and writes the result.
pub fn record(settings: &Settings) -> Result<()> {
    let Sampling { wall, kernel, .. } = settings.sampling;
    if wall && settings.sampling.sampler == SamplerChoice::Ptrace {
        return Err(Failure::usage(NEEDS_EBPF).hint("leave out --sampler ptrace"));
    }
    let place = Place::if_asked(settings.open, settings.output.as_deref(), settings.format)?;
    let begun = Instant::now();
    let prepared = settings.sampling.prepare(&settings.pids);
    let mut targets = Targets::attached(&settings.pids, settings.shown)?;
    debug!(after = ?begun.elapsed(), "attached");

    let path = match &place {
        Some(place) => Some(place.path()),
        None => settings.output.as_deref(),
    };
    let output = Output::open_for(path, settings.format)?;
    targets.keep_for(settings.format, output.directory());
    let starts_command = settings.command.is_some();
    let mut interrupts = Interrupts::listen(starts_command)?;

    let task = match settings.command {
        Some(_) => Task::Start,
        None => Task::Attach,
    };
    // From the first sample on the target may be standing still.
    let stops = HeldStops::hold()?;
    let (mut sampler, better) = sampling::start(&settings.sampling, prepared, &mut targets, task)?;
    let stops = matches!(sampler, Sampler::Ptrace(_)).then_some(stops);
    debug!(after = ?begun.elapsed(), "sampling");
    // Samples are taken meanwhile.
    targets.warm_up();
    tell_what_is_missing(kernel, &sampler, &targets);
    let mut family = match &settings.command {
        Some(command) => Family::start(command, settings.subprocesses)?,
        None => Family::of_processes(&settings.pids, settings.subprocesses),
    };
    let mut stream = match settings.format {
        Format::Nodetap => Some(Stream::begin(&output, &mut targets)?),
        _ => None,
    };
    if let Some(line) = &settings.announcement {
        terminal::line(line);
    }
    let mut progress = Progress::start(settings.duration);
    let preferred = Preferred::start();
    let ran = Run {
        settings,
        targets: &mut targets,
        family: &mut family,
        interrupts: &mut interrupts,
        output: &output,
        stream: stream.as_mut(),
        stops: stops.as_ref(),
    }
    .run(&mut sampler, &mut progress);
    drop(preferred);
    progress.finish();
    // Nobody looks at it any more, and a shell that is traced would wait for that with
    // its first signal.
    family.release();
    ran?;
    let seen_any = !targets.is_empty();
    let Taken {
        mut profile,
        summary,
        stops,
    } = targets.stop(sampler, stops)?;
    if !seen_any && let Some(failure) = family.why_nothing() {
        if let Some(stream) = stream {
            stream.undo();
        }
        return Err(failure);
    }
    if let Some((directory, error)) = profile.sequence_error() {
        terminal::note(format_args!(
            "not all samples could be written to '{}' meanwhile: {}",
            directory.display(),
            reason(error)
        ));
    }
    if profile.sample_count() == 0 {
        terminal::note("no samples: the process used no CPU time meanwhile");
    }
    if let Some(left_out) = formats::left_out(&profile, settings.format) {
        terminal::note(left_out);
    }
    match stream {
        Some(stream) => stream.finish(&mut profile)?,
        None => {
            let width = output.width();
            let Settings { format, by, .. } = *settings;
            output.write(|to| formats::write_by(&profile, format, by, width, to))?;
        }
    }
    let samples = profile.sample_count();
    terminal::line(closing_line(&profile.metadata, samples, stops));
    if wall && let Some(line) = wall::summary(&profile) {
        terminal::line(line);
    }
    for line in summary.lines(wall) {
        terminal::line(line);
    }
    if let Some(better) = better {
        terminal::hint(better);
    }
    if let Some(place) = place {
        place.open();
    }
    match starts_command {
        true => end_as_the_command(&mut family, &mut interrupts),
        false => Ok(()),
    }
}

/// Tells of what was asked for and will not be there.
fn tell_what_is_missing(kernel: bool, sampler: &Sampler, targets: &Targets) {
    if !kernel {
        return;
    }
    if matches!(sampler, Sampler::Ptrace(_)) {
        terminal::note("there will be no kernel frames: only the eBPF sampler sees them");
    } else if targets.kernel_names_are_hidden() {
        terminal::note("kernel frames will have no names: /proc/kallsyms hides its addresses");
        terminal::hint("as root: sysctl kernel.kptr_restrict=1");
    }
}

/// A recording while it runs.
struct Run<'a> {
    settings: &'a Settings,
    targets: &'a mut Targets,
    family: &'a mut Family,
    interrupts: &'a mut Interrupts,
    output: &'a Output,
    /// Where what is recorded is written to meanwhile, if it is.
    stream: Option<&'a mut Stream>,
    /// Where nodetap may not stop at any time.
    stops: Option<&'a HeldStops>,
}

impl Run<'_> {
    /// Takes samples until there is a reason to stop.
    fn run(mut self, sampler: &mut Sampler, progress: &mut Progress) -> Result<()> {
        let duration = self.settings.duration;
        let max_depth = self.settings.sampling.max_depth;
        // What they run next is recorded too.
        let follows = self.settings.subprocesses || self.settings.command.is_some();
        self.family.look(self.targets, sampler, max_depth)?;
        while (self.targets.are_alive() || !self.family.is_over()) && !self.is_to_stop() {
            let elapsed = self.targets.elapsed();
            let wait = match duration {
                Some(duration) if duration <= elapsed => break,
                Some(duration) => (duration - elapsed).min(self.targets.patience()),
                None => self.targets.patience(),
            };
            // Whoever was to get the result has gone: it would be for nobody.
            if self.output.is_abandoned() {
                return Err(Failure::silent(0));
            }
            if self.stops.is_some_and(HeldStops::take) {
                sampler.suspend();
            }
            let batch = self.targets.batch();
            sampler
                .poll(wait, &mut |sample| batch.push(sample.to_owned()))
                .map_err(failure_of_sampler)?;
            for (pid, end) in self.targets.new_ends(follows) {
                sampler.remove_process(pid).map_err(failure_of_sampler)?;
                // Of what was started here it is no news.
                if self.settings.pids.contains(&pid) {
                    progress.suspend(|| match end {
                        End::Exited => terminal::note(format_args!("process {pid} has ended")),
                        End::Execed => {
                            terminal::note(format_args!("process {pid} runs another program now"));
                        }
                    });
                }
            }
            self.family.look(self.targets, sampler, max_depth)?;
            self.targets.name_batch();
            sampler.ignore_waits(&self.targets.take_unwanted_waits());
            if let Some(stream) = &mut self.stream {
                stream.write_new(self.targets)?;
            }
            progress.update(elapsed, self.targets.samples());
        }
        Ok(())
    }

    /// Whether a signal asks to stop. The first one is the command's, if one was
    /// started: the recording goes on until it has ended from it.
    fn is_to_stop(&mut self) -> bool {
        let before = self.interrupts.heeded();
        let received = self.interrupts.received();
        match self.family.started() {
            None => received > 0,
            Some(_) if received == 0 => false,
            Some(pid) if before == 0 => {
                pass_on(pid, self.interrupts.last());
                self.interrupts.heed(received);
                received > 1
            }
            Some(_) => received > before,
        }
    }
}

/// Gives `signal`, which we got, to the command. What the terminal sends, it sends to
/// both of us.
fn pass_on(pid: u32, signal: i32) {
    let from_terminal = signal != signal_hook::consts::SIGTERM && terminal::is_in_foreground();
    if let (false, Some(pid), Some(signal)) = (
        from_terminal,
        Pid::from_raw(pid as i32),
        Signal::from_named_raw(signal),
    ) {
        // It may have ended.
        let _ = kill_process(pid, signal);
    }
}

/// Waits for the command, where it goes on longer than the recording, and ends as it
/// did.
fn end_as_the_command(family: &mut Family, interrupts: &mut Interrupts) -> Result<()> {
    if family.status().is_none()
        && let Some(pid) = family.started()
    {
        terminal::note(format_args!(
            "the program goes on as process {pid}, and nodetap ends with it"
        ));
    }
    let status = loop {
        if let Some(status) = family.status() {
            break status;
        }
        let before = interrupts.heeded();
        let received = interrupts.received();
        if received > before
            && let Some(pid) = family.started()
        {
            pass_on(pid, interrupts.last());
            interrupts.heed(received);
        }
        sleep(Duration::from_millis(10));
    };
    let status = match (status.code(), status.signal()) {
        (Some(code), _) => code,
        // As shells have it.
        (None, Some(signal)) => 128 + signal,
        (None, None) => 1,
    };
    match u8::try_from(status) {
        Ok(0) => Ok(()),
        Ok(status) => Err(Failure::silent(status)),
        Err(_) => Err(Failure::silent(1)),
    }
}

/// Why samples cannot be taken of processes that run.
pub fn failure_of_sampler(error: sampler::Error) -> Failure {
    permissions::failure_of_sampler(&error, Task::Attach)
}

fn milliseconds(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1e3
}

/// What was kept and what was not, and for how long threads stood still for it.
pub fn closing_line(metadata: &Metadata, samples: u64, stops: Option<Stops>) -> String {
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
    let stopped = stops.map_or_else(String::new, |stops| {
        let [total, median, p99, longest] =
            [stops.total, stops.median, stops.p99, stops.longest].map(milliseconds);
        format!(
            "; stopped for {total:.0} ms in all \
             (median {median:.2}, 99 % within {p99:.2}, longest {longest:.2})"
        )
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
                Some(Stops {
                    count: 300,
                    total: Duration::from_micros(31_400),
                    median: Duration::from_micros(98),
                    p99: Duration::from_micros(214),
                    longest: Duration::from_micros(1_209),
                })
            ),
            "0 samples in 0.0 s at 1 Hz (ptrace): 0 lost, 0 truncated, 0 incomplete (0.00 %); \
             stopped for 31 ms in all (median 0.10, 99 % within 0.21, longest 1.21)"
        );
    }
}
