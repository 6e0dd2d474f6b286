//! Either sampler, as one.

use std::time::Duration;

use crate::raw::RawSampleRef;
use crate::target::Target;
use crate::{ebpf, ptrace};

/// A running sampler. Dropping it ends the sampling.
#[derive(Debug)]
pub enum Sampler {
    /// A program in the kernel.
    Ebpf(Box<ebpf::EbpfSampler>),
    /// A thread of ours that stops those of the target.
    Ptrace(ptrace::PtraceSampler),
}

/// How to sample, with either.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Options {
    /// Samples a second of CPU time.
    pub rate_hz: u32,
    /// Keep the kernel's frames too, which only the kernel can tell.
    pub kernel: bool,
    /// The most frames of a stack.
    pub max_depth: u32,
    /// Take waits too, which only the kernel can tell: threads that have no CPU.
    pub wall: bool,
}

/// Why samples cannot be taken.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// By the program in the kernel.
    #[error(transparent)]
    Ebpf(#[from] ebpf::Error),
    /// By stopping threads.
    #[error(transparent)]
    Ptrace(#[from] ptrace::Error),
}

impl Error {
    /// What would help, in one line.
    pub fn hint(&self) -> Option<String> {
        match self {
            Error::Ebpf(error) => error.hint(),
            Error::Ptrace(error) => error.hint().map(Into::into),
        }
    }
}

/// What a recording came to besides its samples.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// Samples that were due and were not delivered.
    pub lost: u64,
    /// For how long threads stood still for it; `None` where none had to.
    pub stops: Option<ptrace::Stops>,
}

impl Sampler {
    /// Begins to load what samples in the kernel, to be used for the processes with these
    /// numbers, of which nothing else has to be known yet.
    pub fn load_ebpf(options: &Options, pids: &[u32]) -> ebpf::Loading {
        let options = ebpf::Options {
            kernel: options.kernel,
            wall: options.wall,
            ..ebpf::Options::with_rate(options.rate_hz).with_depth(options.max_depth)
        };
        ebpf::Loading::begin(&options, pids)
    }

    /// Begins to sample `targets` by a program in the kernel, which is being loaded.
    ///
    /// # Errors
    /// Where this machine or user does not allow it.
    pub fn ebpf<'a>(
        loading: ebpf::Loading,
        targets: impl IntoIterator<Item = &'a Target>,
    ) -> Result<Sampler, ebpf::Error> {
        let targets: Vec<&Target> = targets.into_iter().collect();
        let depth = loading.max_depth();
        let configs: Vec<_> = targets
            .iter()
            .map(|target| (target.pid, target.config(depth)))
            .collect();
        let mut sampler = ebpf::EbpfSampler::start_loaded(loading, &configs)?;
        if sampler.takes_waits() {
            targets.iter().for_each(|target| begin_waits(target.pid));
            sampler.begin_recording();
        }
        Ok(Sampler::Ebpf(Box::new(sampler)))
    }

    /// Begins to sample `targets` by stopping their threads.
    ///
    /// # Errors
    /// Where that is not allowed, or one has ended.
    pub fn ptrace<'a>(
        options: &Options,
        targets: impl IntoIterator<Item = &'a Target>,
    ) -> Result<Sampler, ptrace::Error> {
        let options = ptrace::Options {
            rate_hz: options.rate_hz,
            max_depth: options.max_depth,
        };
        let sampler = ptrace::PtraceSampler::start(&options, targets)?;
        Ok(Sampler::Ptrace(sampler))
    }

    /// What it is called.
    pub fn name(&self) -> &'static str {
        match self {
            Sampler::Ebpf(_) => "ebpf",
            Sampler::Ptrace(_) => "ptrace",
        }
    }

    /// Waits for `timeout` or until there is much, then hands every sample that
    /// is there to `sink`.
    ///
    /// # Errors
    /// Where the kernel does not hand them out.
    pub fn poll(
        &mut self,
        timeout: Duration,
        sink: &mut dyn FnMut(RawSampleRef<'_>),
    ) -> Result<(), Error> {
        match self {
            Sampler::Ebpf(sampler) => {
                sampler.poll(timeout, sink)?;
            }
            Sampler::Ptrace(sampler) => sampler.poll(timeout, sink),
        }
        Ok(())
    }

    /// How many samples were due and were not delivered so far, as far as that is known
    /// before the end.
    pub fn lost(&self) -> u64 {
        match self {
            Sampler::Ebpf(sampler) => sampler.lost().unwrap_or(0),
            Sampler::Ptrace(_) => 0,
        }
    }

    /// Samples one process more.
    ///
    /// # Errors
    /// Where the kernel refuses, or it may not be stopped.
    pub fn add_process(&mut self, target: &Target, max_depth: u32) -> Result<(), Error> {
        match self {
            Sampler::Ebpf(sampler) => {
                sampler.add_process(target.pid, &target.config(max_depth))?;
                if sampler.takes_waits() {
                    begin_waits(target.pid);
                }
            }
            Sampler::Ptrace(sampler) => sampler.add_process(target, max_depth)?,
        }
        Ok(())
    }

    /// Ends the sampling of a process; of one that is not sampled: nothing.
    ///
    /// # Errors
    /// Where the kernel refuses.
    pub fn remove_process(&mut self, pid: u32) -> Result<(), Error> {
        match self {
            Sampler::Ebpf(sampler) => sampler.remove_process(pid)?,
            Sampler::Ptrace(sampler) => sampler.remove_process(pid),
        }
        Ok(())
    }

    /// Takes no more waits of the threads that are known by these keys, but for a CPU:
    /// nobody wants to see them.
    pub fn ignore_waits(&mut self, keys: &[u32]) {
        if let Sampler::Ebpf(sampler) = self {
            sampler.ignore_waits(keys);
        }
    }

    /// Stops this process, as Ctrl-Z does, at a moment when no thread of a target stands
    /// still. It may return before that.
    pub fn suspend(&mut self) {
        match self {
            Sampler::Ebpf(_) => ptrace::stop_ourselves(),
            Sampler::Ptrace(sampler) => sampler.suspend(),
        }
    }

    /// Ends the sampling and hands what is left to `sink`.
    ///
    /// # Errors
    /// Where the kernel does not tell how many samples were lost.
    pub fn stop(self, sink: &mut dyn FnMut(RawSampleRef<'_>)) -> Result<Totals, Error> {
        Ok(match self {
            Sampler::Ebpf(sampler) => Totals {
                lost: sampler.stop(sink)?,
                stops: None,
            },
            Sampler::Ptrace(sampler) => {
                let totals = sampler.stop(sink);
                Totals {
                    lost: totals.lost,
                    stops: Some(totals.stops),
                }
            }
        })
    }
}

/// Has threads that wait already be seen. Where they may not be stopped, they are when
/// they wait the next time.
fn begin_waits(pid: u32) {
    if let Err(error) = ptrace::nudge(pid) {
        tracing::debug!(pid, %error, "waits that have begun are not known");
    }
}
