//! The eBPF sampler: a program in the kernel that takes stacks, and its loader.
//!
//! A `perf_event` program (`walk.bpf.c`) runs at every tick of the software CPU
//! clock on every CPU. Where the tick hit a thread of a watched process it walks
//! that thread's stack (`unwind.h`, `identify.h`) and sends what it found through a ring buffer.
//! For off-CPU time a second program (`wall.h`) runs whenever a CPU is given to another
//! thread.
//! Everything hangs on file descriptors of this process: when it ends, however
//! it ends, the kernel unloads all of it.

mod code;
mod error;
mod host;
mod keeper;
mod loading;
mod record;
mod sampler;
pub mod shared;
mod wall;

pub use error::Error;
pub use loading::Loading;
pub use sampler::{EbpfSampler, Options, PROGRAM_NAME};
pub use shared::ProcessConfig;
