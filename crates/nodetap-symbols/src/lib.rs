//! Raw stacks in, named frames out.

pub mod demangle;
pub mod elf;
pub mod js;
pub mod maps;
pub mod native;
mod plt;
pub mod stack;
mod symbolizer;

pub use symbolizer::{Options, Symbolizer};
