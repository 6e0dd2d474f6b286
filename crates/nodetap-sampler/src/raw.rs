//! A stack as it was taken: addresses and identities, no names.

pub use crate::ebpf::shared::{FrameRecord, Registers};

/// One stack of one thread at one moment, as a sampler took it.
#[derive(Clone, Debug, Default)]
pub struct RawSample {
    /// `CLOCK_MONOTONIC`, in nanoseconds.
    pub time_ns: u64,
    /// Process id, as this process's PID namespace numbers it.
    pub pid: u32,
    /// Thread id, likewise.
    pub tid: u32,
    /// The tick hit the kernel; registers are those saved on entry to it.
    pub in_kernel: bool,
    /// Deeper than the depth asked for.
    pub truncated: bool,
    /// The walk ended at a frame that could not be read, or whose caller's
    /// frame pointer does not lie above it. (That alone does not make it
    /// incomplete: the chain of a thread's first frame ends like that too.)
    pub broken: bool,
    /// Registers in user mode.
    pub registers: Registers,
    /// The words from the stack pointer upwards, as many as could be read.
    pub stack: Vec<u64>,
    /// Innermost first. The first has `registers.rip` as its pc.
    pub frames: Vec<FrameRecord>,
    /// Kernel pcs, innermost first; empty unless asked for.
    pub kernel: Vec<u64>,
}
