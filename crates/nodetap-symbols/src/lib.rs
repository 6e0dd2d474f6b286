//! Raw stacks in, named frames out.

pub mod js;
pub mod stack;
