//! Code of V8 before Ignition: full-codegen's and Crankshaft's.

pub mod relocation;
