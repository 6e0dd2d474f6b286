//! Loads the program, feeds it, reads what it sends.

use std::fmt;
use std::time::Duration;

use aya::maps::{HashMap, Map, MapData, PerCpuArray, RingBuf};
use aya::programs::perf_event::{
    PerfEvent, PerfEventConfig, PerfEventLink, PerfEventScope, SamplePolicy, SoftwareEvent,
};
use aya::util::{KernelVersion, nr_cpus, online_cpus};
use aya::{Ebpf, EbpfLoader};
use rustix::event::{PollFd, PollFlags, Timespec};

use super::code::{Files, KnownCode, Outer};
use super::error::Error;
use super::host;
use super::keeper::Keeper;
use super::loading::Loading;
use super::record::{self, Record};
use super::shared::{MAX_FRAMES, MET_NEW_CODE, OFF_CPU, ProcessConfig};
use super::wall::Wall;
use crate::raw::RawSampleRef;

/// The name of the program, as the kernel lists it.
pub const PROGRAM_NAME: &str = "nodetap_sample";

/// The program with room for stacks of usual depth, and with room for the
/// deepest; see `build.rs`.
static SHALLOW: &[u8] = aya::include_bytes_aligned!(concat!(env!("OUT_DIR"), "/walk-512.bpf.o"));
static DEEP: &[u8] = aya::include_bytes_aligned!(concat!(env!("OUT_DIR"), "/walk-16384.bpf.o"));
const SHALLOW_FRAMES: u32 = 512;

/// The smallest ring buffer: several of the largest samples fit.
const SMALLEST_RING: u32 = 1 << 20;
/// The same with room for the deepest stacks: a sample has up to 1.2 MiB then.
const SMALLEST_DEEP_RING: u32 = 1 << 22;
/// What a program with deep stacks fills in half a second at 99 samples of each.
const USUAL_DEEP_RING: u32 = 1 << 25;
const LARGEST_RING: u32 = 1 << 30;
/// Where there are many processes that all want to run, everything takes long, reading them
/// above all: for each so much, up to [`LARGEST_FOR_PROCESSES`].
const RING_FOR_PROCESS: u32 = 512 << 10;
const LARGEST_FOR_PROCESSES: u32 = 64 << 20;
/// Half a second of twenty thousand waits a second.
const RING_FOR_WALL: u32 = 32 << 20;
const NANOSECONDS: u64 = 1_000_000_000;

/// How long the first sample may wait for what it takes to unwind native code.
const LONGEST_WAIT_FOR_TABLES: Duration = Duration::from_millis(50);

/// How to sample.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Options {
    /// Ticks a second on every CPU: 1 or more, at most what
    /// `kernel.perf_event_max_sample_rate` allows (usually 100,000).
    pub rate_hz: u32,
    /// Keep the kernel's frames too.
    pub kernel: bool,
    /// Take waits too: threads that have no CPU.
    pub wall: bool,
    /// The most frames of a stack that any process will ask for.
    pub max_depth: u32,
    /// Size of the ring buffer; rounded up to a power of two of at least 1 MiB.
    pub ring_bytes: u32,
}

impl Default for Options {
    fn default() -> Self {
        Options::with_rate(999)
    }
}

impl Options {
    /// Without kernel frames, and with a ring buffer that takes in half a
    /// second of usual stacks at this rate on every CPU (4 to 32 MiB).
    pub fn with_rate(rate_hz: u32) -> Self {
        // A header, and fifty frames.
        const USUAL_SAMPLE: u64 = 5000;
        let cpus = online_cpus().map_or(1, |cpus| cpus.len() as u64);
        let bytes = u64::from(rate_hz) * cpus * USUAL_SAMPLE / 2;
        Options {
            rate_hz,
            kernel: false,
            wall: false,
            max_depth: SHALLOW_FRAMES,
            ring_bytes: bytes.clamp(4 << 20, 32 << 20) as u32,
        }
    }

    /// The same, with room for stacks of `max_depth` frames.
    pub fn with_depth(self, max_depth: u32) -> Self {
        let least = match max_depth {
            0..=SHALLOW_FRAMES => SMALLEST_RING,
            _ => USUAL_DEEP_RING,
        };
        Options {
            max_depth,
            ring_bytes: self.ring_bytes.max(least),
            ..self
        }
    }

    /// The same, with room for so many processes.
    pub(super) fn with_processes(self, count: usize) -> Self {
        let bytes = u32::try_from(count)
            .unwrap_or(u32::MAX)
            .saturating_mul(RING_FOR_PROCESS);
        Options {
            ring_bytes: self.ring_bytes.max(bytes.min(LARGEST_FOR_PROCESSES)),
            ..self
        }
    }

    fn ring_bytes(&self, room: u32) -> u32 {
        let smallest = match (self.wall, room) {
            // A thread may lose its CPU many thousand times a second.
            (true, _) => RING_FOR_WALL,
            (false, 0..=SHALLOW_FRAMES) => SMALLEST_RING,
            (false, _) => SMALLEST_DEEP_RING,
        };
        self.ring_bytes
            .clamp(smallest, LARGEST_RING)
            .next_power_of_two()
    }

    /// The time between two ticks.
    fn tick_ns(&self) -> u64 {
        NANOSECONDS / u64::from(self.rate_hz.max(1))
    }
}

// SAFETY: `repr(C)`, integers only, no padding.
unsafe impl aya::Pod for ProcessConfig {}

/// A running sampler. Dropping it ends the sampling and unloads the program.
pub struct EbpfSampler {
    /// One event a CPU. Declared first: sampling ends before its maps go.
    links: Vec<PerfEventLink>,
    wall: Option<Wall>,
    processes: Keeper,
    /// The most frames that the loaded program has room for.
    room: u32,
    lost: PerCpuArray<MapData, u64>,
    malformed: u64,
    ring: RingBuf<MapData>,
    ring_bytes: usize,
    ebpf: Ebpf,
}

impl fmt::Debug for EbpfSampler {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EbpfSampler")
            .field("events", &self.links.len())
            .field("room", &self.room)
            .field("ring_bytes", &self.ring_bytes)
            .finish_non_exhaustive()
    }
}

impl EbpfSampler {
    /// Whether this machine and user allow it: loads the program, attaches it
    /// to one CPU and takes everything away again (some 40 ms).
    pub fn probe() -> Result<(), Error> {
        let options = Options {
            rate_hz: 1,
            kernel: false,
            wall: false,
            max_depth: SHALLOW_FRAMES,
            ring_bytes: SMALLEST_RING,
        };
        let mut sampler = EbpfSampler::load(&options, SHALLOW_FRAMES, Files::new())?;
        let online = online_cpus().map_err(|(path, source)| Error::File { path, source })?;
        sampler.attach(1, online.get(..1).unwrap_or_default())
    }

    /// Loads the program and starts to sample `processes` (process ids as this
    /// process's PID namespace numbers them).
    ///
    /// There is room for the deepest of their `max_depth`, at least 512.
    pub fn start(options: &Options, processes: &[(u32, ProcessConfig)]) -> Result<Self, Error> {
        let depth = processes.iter().map(|(_, config)| config.max_depth).max();
        let options = Options {
            max_depth: options.max_depth.max(depth.unwrap_or(0)),
            ..*options
        };
        let pids: Vec<u32> = processes.iter().map(|&(pid, _)| pid).collect();
        EbpfSampler::start_loaded(Loading::begin(&options, &pids), processes)
    }

    /// Starts to sample `processes`, by a program that is being loaded since it was known
    /// which they are.
    pub fn start_loaded(
        loading: Loading,
        processes: &[(u32, ProcessConfig)],
    ) -> Result<Self, Error> {
        let options = *loading.options();
        let highest = host::highest_rate();
        if !(1..=highest).contains(&options.rate_hz) {
            return Err(Error::Rate {
                rate_hz: options.rate_hz,
                highest,
            });
        }
        let mut sampler = loading.finish()?;
        for (pid, config) in processes {
            sampler.add_process(*pid, config)?;
        }
        if !processes.is_empty() {
            sampler.processes.wait(LONGEST_WAIT_FOR_TABLES);
        }
        let online = online_cpus().map_err(|(path, source)| Error::File { path, source })?;
        sampler.attach(options.rate_hz, &online)?;
        if options.wall {
            sampler.wall = Some(Wall::start(&mut sampler.ebpf, options.tick_ns())?);
        }
        Ok(sampler)
    }

    /// `files`: those whose tables are being made already.
    pub(super) fn load(options: &Options, depth: u32, files: Files) -> Result<Self, Error> {
        let (object, room) = if depth <= SHALLOW_FRAMES {
            (SHALLOW, SHALLOW_FRAMES)
        } else {
            (DEEP, MAX_FRAMES)
        };
        let possible = nr_cpus().map_err(|(path, source)| Error::File { path, source })?;
        // CPUs need not be numbered without gaps.
        let highest = online_cpus().map_or(0, |cpus| cpus.into_iter().max().unwrap_or(0));
        let cpus = highest.saturating_add(1).max(possible as u32);
        let ring_bytes = options.ring_bytes(room);
        let want_kernel = u32::from(options.kernel);
        let wake_bytes = u64::from(ring_bytes / 4);
        let has_loop = u32::from(
            KernelVersion::current().is_ok_and(|running| running >= KernelVersion::new(5, 17, 0)),
        );
        let pid_namespace = host::pid_namespace();

        let tick_ns = options.tick_ns();

        let mut loader = EbpfLoader::new();
        if options.wall {
            loader.override_global("tick_ns", &tick_ns, true);
        } else {
            loader.map_max_entries("waits", 1);
            loader.map_max_entries("ignored", 1);
            if pid_namespace == 0 {
                // Only what numbers processes in another namespace, and what takes
                // waits, depends on where the kernel's own types have their members.
                loader.btf(None);
            }
        }
        let mut ebpf = loader
            .map_max_entries("scratches", cpus)
            .map_max_entries("samples", ring_bytes)
            .override_global("want_kernel", &want_kernel, true)
            .override_global("wake_bytes", &wake_bytes, true)
            .override_global("has_loop", &has_loop, true)
            .override_global("pid_namespace", &pid_namespace, true)
            .load(object)?;
        program(&mut ebpf)?.load()?;
        Ok(EbpfSampler {
            links: Vec::new(),
            wall: None,
            processes: Keeper::start(
                HashMap::try_from(take_map(&mut ebpf, "processes")?)?,
                KnownCode::new(
                    files,
                    Outer::new(take_map(&mut ebpf, "tables")?)?,
                    Outer::new(take_map(&mut ebpf, "code")?)?,
                ),
            ),
            room,
            lost: PerCpuArray::try_from(take_map(&mut ebpf, "lost")?)?,
            malformed: 0,
            ring: RingBuf::try_from(take_map(&mut ebpf, "samples")?)?,
            ring_bytes: ring_bytes as usize,
            ebpf,
        })
    }

    fn attach(&mut self, rate_hz: u32, cpus: &[u32]) -> Result<(), Error> {
        let program = program(&mut self.ebpf)?;
        let period = SamplePolicy::Period(NANOSECONDS / u64::from(rate_hz));
        for &cpu in cpus {
            let link = program
                .attach(
                    PerfEventConfig::Software(SoftwareEvent::CpuClock),
                    PerfEventScope::AllProcessesOneCpu { cpu },
                    period,
                    false,
                )
                .map_err(Error::of_attach)?;
            self.links.push(program.take_link(link)?);
        }
        Ok(())
    }

    /// Samples one process more, or changes what is known of one.
    pub fn add_process(&mut self, pid: u32, config: &ProcessConfig) -> Result<(), Error> {
        if config.max_depth > self.room {
            return Err(Error::Depth {
                asked: config.max_depth,
                possible: self.room,
            });
        }
        // One read takes in both: `SHARED_WINDOW` of `walk.bpf.c`.
        let to_literal = |from: u32| config.shared_literal_id.wrapping_sub(from);
        let first = match (config.shared_code, config.shared_scope_info) {
            (0, 0) => config.shared_script,
            (code, scope_info) => code.max(scope_info),
        };
        let fits = first <= config.shared_script
            && to_literal(config.shared_script) >= 8
            && to_literal(first) < 128;
        if config.has_v8 != 0 && !fits {
            return Err(Error::Layout(format!(
                "SharedFunctionInfo has its script at {} and its literal id at {}",
                config.shared_script, config.shared_literal_id
            )));
        }
        self.processes.add(pid, config)
    }

    /// Ends the sampling of a process; of one that is not sampled: nothing.
    pub fn remove_process(&mut self, pid: u32) -> Result<(), Error> {
        self.processes.remove(pid)
    }

    /// Waits until the ring buffer is a quarter full or `timeout` has passed,
    /// then hands every sample that is there to `sink`. Returns how many there
    /// were. (It may return early; a signal ends the wait too.)
    pub fn poll(
        &mut self,
        timeout: Duration,
        sink: &mut dyn FnMut(RawSampleRef<'_>),
    ) -> Result<usize, Error> {
        let timeout = Timespec {
            tv_sec: timeout.as_secs().try_into().unwrap_or(i64::MAX),
            tv_nsec: timeout.subsec_nanos().into(),
        };
        let mut fds = [PollFd::new(&self.ring, PollFlags::IN)];
        match rustix::event::poll(&mut fds, Some(&timeout)) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(errno) => {
                return Err(Error::System {
                    call: "poll".to_owned(),
                    source: errno.into(),
                });
            }
        }
        let samples = self.drain(sink);
        if let Some(wall) = &mut self.wall {
            wall.flush(false, sink);
        }
        self.processes.end_batch();
        Ok(samples)
    }

    /// Begins to count: what threads have waited by now is of no interest.
    pub fn begin_recording(&mut self) {
        if let Some(wall) = &mut self.wall {
            wall.begin_recording();
        }
    }

    /// Takes no more waits of the threads that are known by these keys
    /// ([`Wait::key`](crate::raw::Wait::key)), but for a CPU.
    pub fn ignore_waits(&mut self, keys: &[u32]) {
        if let Some(wall) = &mut self.wall {
            wall.ignore(keys);
        }
    }

    /// Whether waits are taken.
    pub fn takes_waits(&self) -> bool {
        self.wall.is_some()
    }

    /// How many samples were taken and could not be delivered, so far.
    pub fn lost(&self) -> Result<u64, Error> {
        let counters = self.lost.get(&0, 0)?;
        let unknown = self.wall.as_ref().map_or(0, Wall::lost);
        Ok(counters.iter().sum::<u64>() + self.malformed + unknown)
    }

    /// Ends the sampling and hands what is left in the ring buffer to `sink`.
    /// Returns how many samples were lost from start to end.
    pub fn stop(mut self, sink: &mut dyn FnMut(RawSampleRef<'_>)) -> Result<u64, Error> {
        self.links.clear();
        self.drain(sink);
        if let Some(mut wall) = self.wall.take() {
            wall.flush(true, sink);
            self.malformed += wall.lost();
        }
        self.lost()
    }

    /// At most one ring buffer full, so that a slow `sink` does not keep the
    /// caller here for ever.
    fn drain(&mut self, sink: &mut dyn FnMut(RawSampleRef<'_>)) -> usize {
        let mut samples = 0;
        let mut bytes = 0;
        while bytes < self.ring_bytes
            && let Some(item) = self.ring.next()
        {
            bytes += item.len();
            match record::parse(&item) {
                Some(Record::Sample(header, sample)) => {
                    if header.flags & MET_NEW_CODE != 0 {
                        self.processes.met_new_code(sample.pid);
                    }
                    match &mut self.wall {
                        Some(wall) if header.flags & OFF_CPU != 0 => wall.begin(header, sample),
                        _ => {
                            samples += 1;
                            sink(sample);
                        }
                    }
                }
                Some(Record::WaitEnd(end)) => {
                    if let Some(wall) = &mut self.wall {
                        wall.end(end, sink);
                    }
                }
                None => self.malformed += 1,
            }
        }
        samples
    }
}

fn program(ebpf: &mut Ebpf) -> Result<&mut PerfEvent, Error> {
    let program = ebpf
        .program_mut(PROGRAM_NAME)
        .ok_or_else(|| absent(PROGRAM_NAME))?;
    Ok(program.try_into()?)
}

pub(super) fn take_map(ebpf: &mut Ebpf, name: &str) -> Result<Map, Error> {
    ebpf.take_map(name).ok_or_else(|| absent(name))
}

pub(super) fn absent(what: &str) -> Error {
    Error::Object(format!("it has no {what}"))
}
