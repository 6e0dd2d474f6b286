//! Code of V8 before Ignition (until 5.8): full-codegen's, which every
//! function has, and Crankshaft's (or TurboFan's) for hot ones.
//!
//! What a frame of optimized code stands for is told as the deoptimizer knows
//! it: the call's return address has an index in the safepoint table
//! ([`safepoints`]); the deoptimization entry of that index has a translation
//! ([`translation`]); that names each active function and a node of its syntax
//! tree, which unoptimized code has a pc for, and that pc a position in its
//! relocation information ([`relocation`]).

mod heap;
mod layout;
pub mod relocation;
pub mod safepoints;
pub mod translation;

pub use heap::{BailoutPoints, DeoptimizationInput};
pub use layout::CrankshaftLayout;
