//! nodetap
fn main() {}
