//! Raw stacks in, named frames out.
//!
//! [`Symbolizer`] takes what a sampler took and adds it, named, to a profile.
//! [`stack`] decides what each frame is by its pc: [`js`] names what V8 runs,
//! [`native`] what is in files, [`kernel`] the kernel's functions. What was
//! named is then looked at as a whole: did the walk reach the thread's first
//! frame ([`complete`]), what is this thread for ([`roles`]), what was V8 doing
//! ([`doing`], [`summary`]), what did it wait for ([`waits`]), and what of it is
//! shown ([`view`]).

pub mod complete;
pub mod demangle;
pub mod doing;
pub mod elf;
mod generated;
mod held;
mod interpreter;
pub mod js;
pub mod kernel;
pub mod maps;
mod module;
pub mod native;
mod originals;
mod packages;
mod plt;
mod recent;
pub mod roles;
mod source_maps;
mod source_text;
pub mod stack;
pub mod summary;
mod symbolizer;
mod system_calls;
pub mod view;
pub mod waits;
mod wasm;

pub use symbolizer::{NamedStack, Options, Symbolizer};
