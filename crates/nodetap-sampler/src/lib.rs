//! Takes stacks of a running process: addresses and identities, no names.
//!
//! [`ebpf`] samples every thread of the watched processes at a fixed rate from
//! inside the kernel, at the moment of the tick, while the thread stands still.
//! [`ptrace`] does what can be done without the kernel's help: it stops the
//! threads that run, and all threads once. [`sampler::Sampler`] is either.
//! [`core`] has the stacks of a process that left a core file.
//! [`event_loop`] tells how long the main thread keeps its event loop waiting.
//! What comes out is [`raw::RawSample`] or, without a copy,
//! [`raw::RawSampleRef`]; naming its frames is another crate's work.

mod builtin_table;
pub mod builtins;
pub mod core;
pub mod discover;
pub mod ebpf;
pub mod event_loop;
pub mod image;
pub mod launch;
pub mod memory;
pub mod priority;
pub mod ptrace;
pub mod raw;
pub mod root;
pub mod sampler;
pub mod sandbox;
pub mod source;
mod stripped;
pub mod target;
pub mod unwind;
