//! The processes that are recorded, and what was taken of them.

use std::io;
use std::path::Path;
use std::time::{Duration, Instant};

use nodetap_profile::{Format, Metadata, Process, Profile};
use nodetap_sampler::image::Images;
use nodetap_sampler::ptrace::Stops;
use nodetap_sampler::raw::RawSample;
use nodetap_sampler::sampler::Sampler;
use nodetap_sampler::target::{Target, TargetError};
use nodetap_symbols::summary::Summary;
use nodetap_symbols::{Options, Symbolizer};
use rustc_hash::{FxHashMap, FxHashSet};
use rustix::time::{ClockId, clock_gettime};

use super::failure_of_sampler;
use crate::failure::Failure;
use crate::permissions;
use crate::terminal;
use crate::watch::{End, Watch};

/// How long samples may wait in the ring buffer before they are named.
const POLL_INTERVAL: Duration = Duration::from_millis(20);
/// The same at first, where nothing has been read yet.
const FIRST_POLL_INTERVAL: Duration = Duration::from_millis(5);
/// The same while the target's collector moves or frees what they name before
/// it was read.
const SHORTEST_POLL_INTERVAL: Duration = Duration::from_millis(1);

/// How often those without samples are asked whether they run another program.
const LOOK_INTERVAL: Duration = Duration::from_millis(100);

/// Why a process cannot be recorded.
#[derive(Debug)]
pub enum Cannot {
    /// It is none that could.
    Attach(TargetError),
    /// For another reason.
    Other(Failure),
}

impl From<Cannot> for Failure {
    fn from(cannot: Cannot) -> Failure {
        match cannot {
            Cannot::Attach(error) => permissions::failure_of_target(&error),
            Cannot::Other(failure) => failure,
        }
    }
}

/// One process that is recorded, or one program of it.
#[derive(Debug)]
struct Recorded {
    target: Target,
    watch: Watch,
    /// Earlier samples are of what it ran before.
    since: Duration,
    end: Option<End>,
    /// Whether a batch was named after its end was seen; the one after that is the
    /// last that may have samples of it.
    was_named: bool,
}

/// All of them, and what has been taken so far.
pub struct Targets {
    /// Those that may have samples to come: what a process holds (files that are open,
    /// what is known of its code) is let go after its end. There may be many of them.
    recorded: Vec<Recorded>,
    images: Images,
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
    /// When all were asked last whether they run another program.
    looked_at_all: Instant,
}

impl Targets {
    /// None yet; their frames will be shown as `options` say.
    pub fn new(options: Options) -> Targets {
        Targets {
            recorded: Vec::new(),
            images: Images::default(),
            symbolizer: Symbolizer::new(options),
            profile: Profile::new(Metadata::new("", 0)),
            started: Duration::ZERO,
            batch: Vec::new(),
            patience: FIRST_POLL_INTERVAL,
            dropped: 0,
            looked_at_all: Instant::now(),
        }
    }

    /// These processes; their frames will be shown as `options` say.
    ///
    /// # Errors
    /// Where one is not Node.js, may not be looked at, or is gone.
    pub fn attached(pids: &[u32], options: Options) -> Result<Targets, Cannot> {
        let mut targets = Targets::new(options);
        for &pid in pids {
            targets.attach(pid)?;
        }
        Ok(targets)
    }

    /// Gets ready to record process `pid`.
    ///
    /// # Errors
    /// Where it is not Node.js, may not be looked at, or is gone.
    pub fn attach(&mut self, pid: u32) -> Result<&Target, Cannot> {
        let since = monotonic();
        // First the watch: of an exec from here on it will tell.
        let watch = Watch::open(pid);
        let target = Target::attach_with(pid, &mut self.images).map_err(Cannot::Attach)?;
        let watch = watch.map_err(|error| not_watched(&target, error))?;
        self.symbolizer
            .attach(&target)
            .map_err(|error| Cannot::Attach(TargetError::io(pid, &target.command, error)))?;
        self.profile.add_process(process_of(&target));
        self.recorded.push(Recorded {
            target,
            watch,
            since,
            end: None,
            was_named: false,
        });
        // It was put there just now.
        let last = self.recorded.len() - 1;
        Ok(&self.recorded[last].target)
    }

    /// Reads now what the first samples would wait for to be named: they may not be able
    /// to, as what they name is moved or gone soon.
    pub fn warm_up(&mut self) {
        for recorded in &self.recorded {
            self.symbolizer.warm_up(&recorded.target);
        }
    }

    /// Each of them.
    pub fn iter(&self) -> impl Iterator<Item = &Target> {
        self.recorded.iter().map(|it| &it.target)
    }

    /// Whether there have been any.
    pub fn is_empty(&self) -> bool {
        self.profile.processes().is_empty()
    }

    /// Whether one of them has not come to its end.
    pub fn are_alive(&self) -> bool {
        self.recorded.iter().any(|it| it.end.is_none())
    }

    /// What is taken will be written in this format: no more is kept than that needs.
    /// What does not stay in memory goes to `directory`.
    pub fn keep_for(&mut self, format: Format, directory: Option<&Path>) {
        if format == Format::Nodetap {
            self.profile.hand_out_samples();
        } else if !format.needs_sequence() {
            self.profile.keep_no_sequence();
        }
        if let Some(directory) = directory {
            self.profile.write_sequence_to(directory);
        }
    }

    /// What is taken is looked at while it is: samples are only counted.
    pub fn keep_counts_only(&mut self) {
        self.profile.keep_no_sequence();
    }

    /// What was taken and named since samples were forgotten the last time.
    pub fn taken(&self) -> &Profile {
        &self.profile
    }

    /// Forgets all samples: they have been counted.
    pub fn forget_samples(&mut self) {
        self.profile.forget_samples();
    }

    /// What the threads that run JavaScript have done by now.
    pub fn summary(&self) -> Summary {
        self.symbolizer.summary()
    }

    /// How many samples were thrown away.
    pub fn dropped(&self) -> u64 {
        self.dropped
    }

    /// From now on samples are taken, by this sampler.
    pub fn start(&mut self, sampler: &str, rate_hz: u32) {
        self.profile.metadata = Metadata::new(sampler, rate_hz);
        self.started = monotonic();
    }

    /// How long samples have been taken.
    pub fn elapsed(&self) -> Duration {
        monotonic() - self.started
    }

    /// How long samples may wait for now.
    pub fn patience(&self) -> Duration {
        self.patience
    }

    /// How many samples have been named.
    pub fn samples(&self) -> u64 {
        self.profile.sample_count()
    }

    /// What has been recorded so far.
    pub fn profile(&mut self) -> &mut Profile {
        &mut self.profile
    }

    /// What was taken and does not get into the profile yet, as far as it is known.
    pub fn waiting(&self) -> Profile {
        self.symbolizer.waiting(&self.profile)
    }

    /// Where samples are put to be named.
    pub fn batch(&mut self) -> &mut Vec<RawSample> {
        &mut self.batch
    }

    /// Whether the kernel hides its functions' names from this user.
    pub fn kernel_names_are_hidden(&self) -> bool {
        self.symbolizer.kernel_names_are_hidden()
    }

    /// The processes that have come to an end since the last look.
    ///
    /// Whether one runs another program is asked of `all` of them if that is to be
    /// attached to; else of those that the batch has samples of, which it may not name,
    /// and of the others from time to time.
    pub fn new_ends(&mut self, all: bool) -> Vec<(u32, End)> {
        let sampled: FxHashSet<u32> = self.batch.iter().map(|sample| sample.pid).collect();
        let all = all || self.looked_at_all.elapsed() >= LOOK_INTERVAL;
        if all {
            self.looked_at_all = Instant::now();
        }
        let exited = Watch::exited(self.recorded.iter().map(|it| &it.watch));
        let mut ends = Vec::new();
        for (recorded, exited) in self.recorded.iter_mut().zip(exited) {
            let pid = recorded.target.pid;
            if recorded.end.is_some() {
                continue;
            }
            recorded.end = match exited {
                true => Some(End::Exited),
                false if all || sampled.contains(&pid) => recorded.watch.end_of_program(),
                false => None,
            };
            ends.extend(recorded.end.map(|end| (pid, end)));
        }
        ends
    }

    /// Names the samples of the batch and adds them to the profile.
    ///
    /// Those that may be of another program already are thrown away: what was
    /// read of the old one would give them wrong names.
    pub fn name_batch(&mut self) {
        let missed = self.symbolizer.missed();
        for Recorded { target, .. } in &mut self.recorded {
            if target.node_version.is_none() && target.node_version_by_now().is_some() {
                self.profile.add_process(process_of(target));
            }
        }
        // Of one that has run several programs, the last one.
        let of_pid: FxHashMap<u32, &Recorded> =
            self.recorded.iter().map(|it| (it.target.pid, it)).collect();
        // Those that have ended too: what was known of their code is not known to have
        // held until then.
        let sampled: FxHashSet<u32> = self.batch.iter().map(|sample| sample.pid).collect();
        for recorded in sampled.iter().filter_map(|pid| of_pid.get(pid)) {
            self.symbolizer.begin_batch(&recorded.target);
        }
        // The last first: what they saw is there still, most likely.
        for sample in self.batch.iter().rev() {
            if let Some(recorded) = of_pid.get(&sample.pid) {
                self.symbolizer.meet(&recorded.target, &sample.as_ref());
            }
        }
        for sample in self.batch.drain(..) {
            let time = Duration::from_nanos(sample.time_ns);
            match of_pid.get(&sample.pid) {
                Some(recorded) if recorded.end != Some(End::Execed) && time >= recorded.since => {
                    let time = time.saturating_sub(self.started);
                    let sample = sample.as_ref();
                    let profile = &mut self.profile;
                    self.symbolizer
                        .add(&recorded.target, &sample, time, profile);
                }
                _ => self.dropped += 1,
            }
        }
        self.symbolizer.settle(&mut self.profile);
        self.patience = if self.symbolizer.missed() > missed {
            (self.patience / 4).max(SHORTEST_POLL_INTERVAL)
        } else {
            (self.patience * 5 / 4).min(POLL_INTERVAL)
        };
        self.let_go();
    }

    /// What waits that nobody wants to see are known by, since this was last asked.
    pub fn take_unwanted_waits(&mut self) -> Vec<u32> {
        self.symbolizer.take_unwanted_waits()
    }

    /// Lets go of what is held for processes of which no sample will come any more.
    fn let_go(&mut self) {
        let is_over = |it: &mut Recorded| it.end.is_some() && it.was_named;
        let over: Vec<Recorded> = self.recorded.extract_if(.., is_over).collect();
        for Recorded { target, .. } in over {
            let is_of_it = |it: &Recorded| it.target.pid == target.pid;
            // Its names are those of the program that it runs now, if that is recorded.
            if !self.recorded.iter().any(is_of_it) {
                self.symbolizer.detach(target.pid);
            }
        }
        for recorded in &mut self.recorded {
            recorded.was_named = recorded.end.is_some();
        }
    }

    /// Stops the sampling, tells what somebody should know of it, and returns what was
    /// taken. Whatever is held by `until_then` is let go when no samples are taken any more.
    pub fn stop<T>(mut self, sampler: Sampler, until_then: T) -> Result<Taken, Failure> {
        let duration = self.elapsed();
        let batch = &mut self.batch;
        let totals = sampler
            .stop(&mut |sample| batch.push(sample.to_owned()))
            .map_err(failure_of_sampler)?;
        drop(until_then);
        self.new_ends(true);
        self.name_batch();
        self.symbolizer.finish(&mut self.profile);
        let metadata = &mut self.profile.metadata;
        metadata.duration = duration;
        metadata.lost += totals.lost + self.dropped;
        let notes = self.symbolizer.take_notes();
        notes.iter().for_each(terminal::note);
        Ok(Taken {
            summary: self.symbolizer.summary(),
            profile: self.profile,
            stops: totals.stops,
        })
    }
}

/// What was taken, when no more is.
#[derive(Debug)]
pub struct Taken {
    /// All of it, or what nobody has taken away meanwhile.
    pub profile: Profile,
    /// What the threads that run JavaScript have done.
    pub summary: Summary,
    /// How threads were stopped for it, if they were.
    pub stops: Option<Stops>,
}

fn process_of(target: &Target) -> Process {
    Process {
        pid: target.pid,
        command: target.command.clone(),
        node: target.node_version.clone(),
        v8: Some(target.v8_version.clone()),
    }
}

/// A process that can be read but not watched: most likely it is none.
fn not_watched(target: &Target, error: io::Error) -> Cannot {
    if let Some(failure) = permissions::pids::failure_of_foreign_proc() {
        return Cannot::Other(failure);
    }
    let pid = target.pid;
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let process = status.lines().find_map(|line| line.strip_prefix("Tgid:"));
    match process.map(str::trim).and_then(|id| id.parse::<u32>().ok()) {
        Some(process) if process != pid => Cannot::Other(
            Failure::new(format_args!("{pid} is a thread of process {process}"))
                .hint(format_args!("name the process: {process}")),
        ),
        _ => Cannot::Attach(TargetError::io(pid, &target.command, error)),
    }
}

/// The time of the clock that samples carry.
fn monotonic() -> Duration {
    let now = clock_gettime(ClockId::Monotonic);
    // Both count up from 0 at boot.
    Duration::new(now.tv_sec.unsigned_abs(), now.tv_nsec.unsigned_abs() as u32)
}
