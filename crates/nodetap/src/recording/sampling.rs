//! Starting the sampler that is wanted, or the best one that is allowed.

use clap::ValueEnum;
use nodetap_sampler::ebpf;
use nodetap_sampler::sampler::{Options, Sampler};
use tracing::debug;

use super::targets::Targets;
use super::{NEEDS_EBPF, failure_of_sampler};
use crate::arguments::{DEFAULT_RATE, DEFAULT_RATE_OF_PTRACE};
use crate::failure::Result;
use crate::permissions;
use crate::permissions::observer::Observer;
use crate::permissions::remedy::Task;

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

/// How samples are to be taken.
#[derive(Clone, Copy, Debug)]
pub struct Sampling {
    /// By what.
    pub sampler: SamplerChoice,
    /// How many a second of CPU time; what suits the sampler where that is not said.
    pub rate_hz: Option<u32>,
    /// The most frames of a stack.
    pub max_depth: u32,
    /// Whether the kernel's frames are wanted.
    pub kernel: bool,
    /// Whether waits are wanted too.
    pub wall: bool,
}

impl Sampling {
    fn options(&self, default_rate: u32) -> Options {
        Options {
            rate_hz: self.rate_hz.unwrap_or(default_rate),
            kernel: self.kernel,
            max_depth: self.max_depth,
            wall: self.wall,
        }
    }

    /// Begins with what can be done for the processes with these numbers before anything
    /// else is known of them.
    pub fn prepare(&self, pids: &[u32]) -> Prepared {
        let ebpf = match self.sampler {
            SamplerChoice::Ptrace => None,
            _ => Some(Sampler::load_ebpf(&self.options(DEFAULT_RATE), pids)),
        };
        Prepared { ebpf }
    }
}

/// A sampler that is on its way.
#[derive(Debug)]
pub struct Prepared {
    ebpf: Option<ebpf::Loading>,
}

/// Starts the sampler that is wanted. Where it is the second best, a hint tells
/// what it would take to get the best.
pub fn start(
    sampling: &Sampling,
    prepared: Prepared,
    targets: &mut Targets,
    task: Task,
) -> Result<(Sampler, Option<String>)> {
    let of_ebpf = sampling.options(DEFAULT_RATE);
    let of_ptrace = sampling.options(DEFAULT_RATE_OF_PTRACE);
    let ptrace = || {
        let sampler = Sampler::ptrace(&of_ptrace, targets.iter());
        sampler.map_err(|error| failure_of_sampler(error.into()))
    };
    let ebpf = prepared
        .ebpf
        .map(|loading| Sampler::ebpf(loading, targets.iter()));
    let (sampler, better) = match ebpf {
        None => (ptrace()?, None),
        Some(Ok(sampler)) => (sampler, None),
        Some(Err(error)) if sampling.wall => {
            let advice = permissions::advice_of_ebpf(&error, &Observer::gather(), task);
            return Err(advice.failure(NEEDS_EBPF));
        }
        Some(Err(error)) if sampling.sampler == SamplerChoice::Auto => {
            debug!(%error, "no eBPF");
            (ptrace()?, Some(better_sampler(&error, task)))
        }
        Some(Err(error)) => return Err(permissions::failure_of_sampler(&error.into(), task)),
    };
    let rate_hz = match sampler {
        Sampler::Ebpf(_) => of_ebpf.rate_hz,
        Sampler::Ptrace(_) => of_ptrace.rate_hz,
    };
    targets.start(sampler.name(), rate_hz);
    Ok((sampler, better))
}

/// What it would take to sample by eBPF, which failed with `error`.
fn better_sampler(error: &ebpf::Error, task: Task) -> String {
    const BETTER: &str = "the eBPF sampler stops nothing and samples ten times as often";
    let advice = permissions::advice_of_ebpf(error, &Observer::gather(), task);
    match advice.hint {
        Some(hint) => format!("{BETTER}: {hint}"),
        None => format!("{BETTER}, but: {}", advice.reason),
    }
}
