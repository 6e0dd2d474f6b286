//! How to get from a frame of native code to its caller's.
//!
//! Compilers write down for every instruction where the caller's registers are,
//! for exceptions, in a file's `.eh_frame`: as programs, to be run from the start
//! of each function (`program`; most are read by `usual`). The eBPF walk can run no programs, so these are run
//! before, once for a file ([`table`]), and what comes out is kept as rows of eight
//! bytes: from this offset on, that rule ([`rule`]). `ebpf/unwind.h` finds rows
//! and applies rules while a thread stands still.
//!
//! The ptrace walker follows the same rules, and runs the programs of those functions alone
//! that it meets ([`lookup`]). [`file`] is where a process's files are opened.

pub(crate) mod file;
mod function;
pub(crate) mod lookup;
mod program;
pub mod rule;
pub mod table;
mod usual;

pub use rule::{Rule, Step};
pub use table::Table;

/// A frame's registers, as far as walking goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cursor {
    /// Where it executes.
    pub pc: u64,
    /// Its stack pointer.
    pub sp: u64,
    /// Its frame pointer.
    pub fp: u64,
}
