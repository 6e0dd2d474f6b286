//! The model of a recording and the formats it is written in.
//!
//! A [`Profile`] is what one recording took: the processes and threads it saw, every
//! distinct [`Frame`] once, every distinct stack once, how often it was taken, and one small
//! [`Sample`] for each time. It is filled through its own methods while samples come in:
//!
//! ```
//! use nodetap_profile::{Frame, Kind, Metadata, Mode, Profile, Sample, Thread};
//!
//! let mut profile = Profile::new(Metadata::new("ebpf", 999));
//! let thread = profile.add_thread(Thread { pid: 1, tid: 1, name: "node".into() });
//! let outer = profile.intern_frame(Frame::new(Kind::Js, "main"));
//! let inner = profile.intern_frame(Frame::new(Kind::Js, "work"));
//! let stack = profile.intern_stack([outer, inner]);
//! profile.add_sample(Sample::new(1001, thread, stack, Mode::JavaScript));
//! assert_eq!(profile.sample_count(), 1);
//! ```
//!
//! This crate knows neither V8 nor Linux: whoever takes and names the stacks has already
//! turned addresses into frames.

mod by;
mod diff;
pub mod dump;
mod filter;
pub mod formats;
mod frame;
mod label;
mod numbers;
mod origin;
mod prefixes;
mod profile;
pub mod recording;
mod sample;
mod sequence;
mod stacks;
#[cfg(test)]
mod testing;
mod tree;
mod weights;

pub use by::By;
pub use diff::{Diff, DiffFormat};
pub use dump::{Dump, ThreadDump};
pub use filter::{Filter, ThreadChoice};
pub use formats::Format;
pub use frame::{Frame, Kind, Position, Tier};
pub use label::{executing_label, frame_label, process_label, source_label, visible};
pub use origin::{Origin, Package};
pub use profile::{Metadata, Process, Profile, Thread, ThreadId};
pub use regex::Regex;
pub use sample::{Mode, Sample, SampleKey};
pub use stacks::{FrameId, StackId};
pub use tree::{CallTree, Label, Node};
pub use weights::Weight;
