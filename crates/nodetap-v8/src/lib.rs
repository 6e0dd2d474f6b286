//! V8 read from outside.
//!
//! Given a way to read a process's memory ([`Memory`]) and the layout of the
//! V8 build in it ([`Layout`]), this crate reads what a profiler needs of
//! V8's heap: strings, functions, scripts, bytecode, compiled code, and the
//! source positions of both.
//!
//! It does no I/O of its own: the same code reads a live process, a core file
//! and a test's buffer. Everything read is foreign and may be torn, moved or
//! freed at any moment, so each object's type is checked before it is
//! believed, every length and loop is bounded, and what does not check out is
//! an [`Error`], never a guess.
//!
//! ```text
//! Metadata (v8dbg_*) ─▶ Layout ─▶ Heap ─▶ Function, Script, Code, …
//!                      Memory ────┘
//! ```

mod array;
pub mod bytecode;
pub mod code;
pub mod crankshaft;
pub mod deoptimization;
mod function;
mod heap;
pub mod layout;
mod memory;
mod metadata;
mod oddball;
mod probe;
mod rules;
pub mod safepoint;
mod scope_info;
mod script;
pub mod source_map_url;
pub mod source_position;
mod string;
pub mod translation;
mod version;
mod vlq;
pub mod wasm;

pub use function::{Function, FunctionId};
pub use heap::{Error, Heap, Tagged};
pub use layout::Layout;
pub use memory::{Memory, Unreadable};
pub use metadata::Metadata;
pub use scope_info::ScopeInfo;
pub use script::{LineColumn, Lines, Script};
pub use version::{NotAVersion, Version};
