//! A stack as it was taken: addresses and identities, no names.

use crate::ebpf::shared;
pub use crate::ebpf::shared::{FrameRecord, Registers};

/// Bytes of code in a sample.
pub const CODE_BYTES: usize = shared::CODE_BYTES as usize;
/// How many of them are before the pc.
pub const CODE_BEFORE: usize = shared::CODE_BEFORE as usize;

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
    /// The walk certainly reached the thread's first frame. (It may have done so
    /// where this is `false`.)
    pub complete: bool,
    /// The thread had no CPU: why, and for how long.
    pub wait: Option<Wait>,
    /// Registers in user mode.
    pub registers: Registers,
    /// The code from [`CODE_BEFORE`] bytes before `registers.rip` on, where that
    /// is V8's and was compiled while it ran.
    pub code: Option<[u8; CODE_BYTES]>,
    /// The words from the stack pointer upwards, as many as could be read.
    pub stack: Vec<u64>,
    /// Innermost first. The first has `registers.rip` as its pc. Empty for a
    /// thread without user registers (the kernel's io_uring workers, which
    /// count as the process's own).
    pub frames: Vec<FrameRecord>,
    /// Kernel pcs, innermost first; empty unless asked for.
    pub kernel: Vec<u64>,
}

/// For how long, and why, a thread had no CPU: `time_ns` is that of the first tick.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Wait {
    /// Why.
    pub cause: Cause,
    /// How many ticks fell into it: for as many samples it stands.
    pub ticks: u32,
    /// What the sampler knows the thread's waits by.
    pub key: u32,
    /// When it began: of one that comes in parts, each has the same.
    pub since_ns: u64,
}

/// Why a thread had no CPU.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Cause {
    /// It could have run, but others had the CPU, or its share was used up.
    Cpu,
    /// It waited in the system call with this number.
    SystemCall(u32),
    /// It touched memory that was not there.
    PageFault,
    /// It was stopped: by a signal, or by who traces it.
    Stopped,
}

/// A [`RawSample`] that borrows from the buffer it arrived in.
#[derive(Clone, Copy, Debug)]
pub struct RawSampleRef<'a> {
    /// See [`RawSample::time_ns`].
    pub time_ns: u64,
    /// See [`RawSample::pid`].
    pub pid: u32,
    /// See [`RawSample::tid`].
    pub tid: u32,
    /// See [`RawSample::in_kernel`].
    pub in_kernel: bool,
    /// See [`RawSample::truncated`].
    pub truncated: bool,
    /// See [`RawSample::broken`].
    pub broken: bool,
    /// See [`RawSample::complete`].
    pub complete: bool,
    /// See [`RawSample::wait`].
    pub wait: Option<Wait>,
    /// See [`RawSample::registers`].
    pub registers: &'a Registers,
    /// See [`RawSample::code`].
    pub code: Option<&'a [u8; CODE_BYTES]>,
    /// See [`RawSample::stack`].
    pub stack: &'a [u64],
    /// See [`RawSample::frames`].
    pub frames: &'a [FrameRecord],
    /// See [`RawSample::kernel`].
    pub kernel: &'a [u64],
}

impl RawSampleRef<'_> {
    /// A copy that owns what it holds.
    pub fn to_owned(&self) -> RawSample {
        RawSample {
            time_ns: self.time_ns,
            pid: self.pid,
            tid: self.tid,
            in_kernel: self.in_kernel,
            truncated: self.truncated,
            broken: self.broken,
            complete: self.complete,
            wait: self.wait,
            registers: *self.registers,
            code: self.code.copied(),
            stack: self.stack.to_vec(),
            frames: self.frames.to_vec(),
            kernel: self.kernel.to_vec(),
        }
    }
}

impl Registers {
    /// The register at this place of the record: 0 is `rip`.
    pub fn word(&self, place: u32) -> Option<u64> {
        let words = [
            self.rip, self.rsp, self.rbp, self.rax, self.rbx, self.rcx, self.rdx, self.rsi,
            self.rdi, self.r8, self.r9, self.r10, self.r11, self.r12, self.r13, self.r14, self.r15,
        ];
        words.get(place as usize).copied()
    }

    /// The register that the machine gives the number `number`: rax, rcx, rdx,
    /// rbx, rsp, rbp, rsi, rdi, then r8 to r15.
    pub fn numbered(&self, number: u32) -> Option<u64> {
        let registers = [
            self.rax, self.rcx, self.rdx, self.rbx, self.rsp, self.rbp, self.rsi, self.rdi,
            self.r8, self.r9, self.r10, self.r11, self.r12, self.r13, self.r14, self.r15,
        ];
        registers.get(number as usize).copied()
    }
}

impl RawSample {
    /// The same sample, borrowed.
    pub fn as_ref(&self) -> RawSampleRef<'_> {
        RawSampleRef {
            time_ns: self.time_ns,
            pid: self.pid,
            tid: self.tid,
            in_kernel: self.in_kernel,
            truncated: self.truncated,
            broken: self.broken,
            complete: self.complete,
            wait: self.wait,
            registers: &self.registers,
            code: self.code.as_ref(),
            stack: &self.stack,
            frames: &self.frames,
            kernel: &self.kernel,
        }
    }
}
