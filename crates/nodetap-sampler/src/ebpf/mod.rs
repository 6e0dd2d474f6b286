//! The eBPF sampler: a program in the kernel that takes stacks, and its loader.
//!
//! A `perf_event` program (`walk.bpf.c`) runs at every tick of the software CPU
//! clock on every CPU. Where the tick hit a thread of a watched process it walks
//! that thread's frame pointers and sends what it found through a ring buffer.
//! Everything hangs on file descriptors of this process: when it ends, however
//! it ends, the kernel unloads all of it.

pub mod shared;

mod error;
mod record;

use std::time::Duration;

use aya::maps::{HashMap, MapData, PerCpuArray, RingBuf};
use aya::programs::perf_event::{
    PerfEvent, PerfEventConfig, PerfEventLink, PerfEventScope, SamplePolicy, SoftwareEvent,
};
use aya::{Ebpf, EbpfLoader};
use rustix::event::{PollFd, PollFlags, Timespec};

pub use error::Error;
pub use shared::ProcessConfig;

use crate::raw::RawSampleRef;

/// The name of the program, as the kernel lists it.
pub const PROGRAM_NAME: &str = "nodetap_sample";

static OBJECT: &[u8] = aya::include_bytes_aligned!(concat!(env!("OUT_DIR"), "/walk.bpf.o"));

/// How to sample.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Options {
    /// Ticks a second on every CPU, at least 1.
    pub rate_hz: u32,
    /// Keep the kernel's frames too.
    pub kernel: bool,
    /// Size of the ring buffer: a power of two, a multiple of the page size.
    pub ring_bytes: u32,
}

impl Default for Options {
    fn default() -> Self {
        Options {
            rate_hz: 999,
            kernel: false,
            ring_bytes: 8 << 20,
        }
    }
}

// SAFETY: `repr(C)`, integers only, no padding.
unsafe impl aya::Pod for ProcessConfig {}

/// A running sampler. Dropping it ends the sampling and unloads the program.
pub struct EbpfSampler {
    /// One event a CPU. Declared first: sampling ends before its maps go.
    links: Vec<PerfEventLink>,
    processes: HashMap<MapData, u32, ProcessConfig>,
    lost: PerCpuArray<MapData, u64>,
    malformed: u64,
    ring: RingBuf<MapData>,
    ring_bytes: usize,
    _ebpf: Ebpf,
}

impl std::fmt::Debug for EbpfSampler {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("EbpfSampler")
            .field("events", &self.links.len())
            .field("ring_bytes", &self.ring_bytes)
            .finish_non_exhaustive()
    }
}

impl EbpfSampler {
    /// Loads the program and starts to sample `processes` (process ids as this
    /// process's PID namespace numbers them).
    pub fn start(options: &Options, processes: &[(u32, ProcessConfig)]) -> Result<Self, Error> {
        let cpus = aya::util::nr_cpus().map_err(|(path, error)| Error::from_file(path, error))?;
        let want_kernel = u32::from(options.kernel);
        let wake_bytes = u64::from(options.ring_bytes / 4);
        let mut loader = EbpfLoader::new();
        loader
            // The program needs no relocation against the kernel's own types.
            .btf(None)
            .map_max_entries("scratches", cpus as u32)
            .map_max_entries("samples", options.ring_bytes)
            .override_global("want_kernel", &want_kernel, true)
            .override_global("wake_bytes", &wake_bytes, true);
        let mut ebpf = loader.load(OBJECT)?;

        let mut sampler = EbpfSampler {
            links: Vec::new(),
            processes: HashMap::try_from(take_map(&mut ebpf, "processes")?)?,
            lost: PerCpuArray::try_from(take_map(&mut ebpf, "lost")?)?,
            malformed: 0,
            ring: RingBuf::try_from(take_map(&mut ebpf, "samples")?)?,
            ring_bytes: options.ring_bytes as usize,
            _ebpf: ebpf,
        };
        let program: &mut PerfEvent = sampler
            ._ebpf
            .program_mut(PROGRAM_NAME)
            .ok_or(Error::Object(PROGRAM_NAME))?
            .try_into()?;
        program.load()?;
        for (pid, config) in processes {
            sampler.processes.insert(pid, config, 0)?;
        }
        let period = SamplePolicy::Period(1_000_000_000 / u64::from(options.rate_hz.max(1)));
        let online =
            aya::util::online_cpus().map_err(|(path, error)| Error::from_file(path, error))?;
        for cpu in online {
            let link = program.attach(
                PerfEventConfig::Software(SoftwareEvent::CpuClock),
                PerfEventScope::AllProcessesOneCpu { cpu },
                period,
                false,
            )?;
            sampler.links.push(program.take_link(link)?);
        }
        Ok(sampler)
    }

    /// Samples one process more, or changes what is known of one.
    pub fn add_process(&mut self, pid: u32, config: &ProcessConfig) -> Result<(), Error> {
        Ok(self.processes.insert(pid, config, 0)?)
    }

    /// Ends the sampling of a process; of one that is not sampled: nothing.
    pub fn remove_process(&mut self, pid: u32) -> Result<(), Error> {
        match self.processes.remove(&pid) {
            Ok(()) | Err(aya::maps::MapError::KeyNotFound) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// Waits until the ring buffer fills up or `timeout` has passed, then hands
    /// every sample that is there to `sink`. Returns how many there were.
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
            Err(errno) => return Err(Error::Poll(errno.into())),
        }
        Ok(self.drain(sink))
    }

    /// How many samples were taken and could not be delivered, so far.
    pub fn lost(&self) -> Result<u64, Error> {
        let counters = self.lost.get(&0, 0)?;
        Ok(counters.iter().sum::<u64>() + self.malformed)
    }

    /// Ends the sampling and hands what is left in the ring buffer to `sink`.
    /// Returns how many samples were lost from start to end.
    pub fn stop(mut self, sink: &mut dyn FnMut(RawSampleRef<'_>)) -> Result<u64, Error> {
        self.links.clear();
        self.drain(sink);
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
                Some(sample) => {
                    samples += 1;
                    sink(sample);
                }
                None => self.malformed += 1,
            }
        }
        samples
    }
}

fn take_map(ebpf: &mut Ebpf, name: &'static str) -> Result<aya::maps::Map, Error> {
    ebpf.take_map(name).ok_or(Error::Object(name))
}
