//! `.nodetap`: all that was recorded, in few bytes, written while the recording goes on.
//!
//! A file is a sequence of blocks, each whole in itself: compressed, with a checksum. A
//! block holds what is new since the one before. So a recording that ended in the midst
//! (nodetap was killed, the disk was full) is read up to its last whole block, and memory
//! does not grow with time while it is written.
//!
//! ```text
//! "nodetap\0"  version u32
//! block*:      kind u8  stored u32  length u32  checksum u32  payload (stored bytes)
//! payload:     section*, deflated:  tag u8  length  bytes
//! ```
//!
//! `docs/recording-format.md` tells all of it. [`Writer`] writes, [`read`] reads; both keep
//! names exactly as they were found.

mod block;
mod read;
#[cfg(test)]
mod tests;
mod write;

pub use read::{Ending, ReadError, Recording, read};
pub use write::{Writer, write};

use crate::{Kind, Mode, Tier};

/// What the file begins with.
pub const MAGIC: [u8; 8] = *b"nodetap\0";
/// The version of the form that is written here. Sections and blocks that are not known
/// are passed over, so that only a change of those there are needs another one.
const VERSION: u32 = 1;

/// A block that holds what is new.
const NEW: u8 = 1;
/// The last block.
const END: u8 = 2;
/// A block that holds samples before they are final: they come again.
const WAITING: u8 = 3;

/// How the recording was made: sampler, rate, start.
const METADATA: u8 = 1;
/// How far it is: duration, lost, truncated, incomplete.
const PROGRESS: u8 = 2;
const PROCESS: u8 = 3;
const THREADS: u8 = 4;
const STRINGS: u8 = 5;
const PACKAGES: u8 = 6;
const FRAMES: u8 = 7;
const STACKS: u8 = 8;
const SAMPLES: u8 = 9;
/// In the last block: how many entries there were of samples.
const TOTAL: u8 = 10;
/// What stands on the lines where frames were executing, before these frames.
const SOURCES: u8 = 11;
/// In a block of those that wait: how many samples come before its first one.
const ORDER: u8 = 12;

/// A name is cut after so many bytes. None is as long: V8's are read to 64 Ki characters.
const MAX_STRING: usize = 4 << 20;
/// A payload is ended when it has so many bytes.
const FULL_BLOCK: usize = 1 << 20;
/// A payload that claims to have more is none of ours: that of a full block and a section
/// of the longest entries.
const MAX_BLOCK: usize = FULL_BLOCK + 3 * MAX_STRING;

/// What stands in a file for each kind, tier and mode is its place here.
const KINDS: [Kind; 6] = [
    Kind::Js,
    Kind::Builtin,
    Kind::Wasm,
    Kind::Native,
    Kind::Kernel,
    Kind::Pseudo,
];
const TIERS: [Tier; 5] = [
    Tier::Interpreted,
    Tier::Baseline,
    Tier::Maglev,
    Tier::Optimized,
    Tier::Unoptimized,
];
const MODES: [Mode; 6] = [
    Mode::Unknown,
    Mode::JavaScript,
    Mode::Builtin,
    Mode::Native,
    Mode::Kernel,
    Mode::Waiting,
];

/// In a frame's first byte: it was inlined. The kind is below it.
const INLINED: u8 = 0x80;
/// In a sample's first byte: it stands for one. The mode is above it.
const ONE: u8 = 1;
