//! One stack of one thread, and what the thread was in.

use crate::{StackId, ThreadId};

/// One stack of one thread at one moment, or for as long as it did not change: 24 bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Sample {
    /// Microseconds since the recording's start.
    pub time_us: u64,
    /// The thread it was taken of.
    pub thread: ThreadId,
    /// The stack it had.
    pub stack: StackId,
    /// For how many samples it stands: 1, but where a thread waited at many ticks.
    pub count: u32,
    /// What the thread was in.
    pub mode: Mode,
}

impl Sample {
    /// `thread` had `stack`, `time_us` microseconds after the start, and was in what the
    /// stack's innermost frame is.
    pub fn new(time_us: u64, thread: ThreadId, stack: StackId, mode: Mode) -> Self {
        Self {
            time_us,
            thread,
            stack,
            count: 1,
            mode,
        }
    }
}

/// What a thread was in when a sample was taken of it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Mode {
    /// It is not known.
    #[default]
    Unknown,
    /// JavaScript or WebAssembly, compiled or interpreted.
    JavaScript,
    /// One of V8's builtins.
    Builtin,
    /// Native code: V8 itself, Node.js, a library, an addon.
    Native,
    /// The kernel, which worked for it.
    Kernel,
    /// Nothing: it waited.
    Waiting,
}

impl Mode {
    /// All of them, in their order.
    pub const ALL: [Mode; 6] = [
        Mode::Unknown,
        Mode::JavaScript,
        Mode::Builtin,
        Mode::Native,
        Mode::Kernel,
        Mode::Waiting,
    ];

    /// What stands for it in `json`.
    pub fn letter(self) -> char {
        match self {
            Mode::Unknown => '?',
            Mode::JavaScript => 'j',
            Mode::Builtin => 'b',
            Mode::Native => 'n',
            Mode::Kernel => 'k',
            Mode::Waiting => 'w',
        }
    }

    /// What a letter stands for.
    pub fn of_letter(letter: char) -> Option<Mode> {
        Mode::ALL.into_iter().find(|mode| mode.letter() == letter)
    }
}

/// Samples that differ in their times alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SampleKey {
    /// The thread that they were taken of.
    pub thread: ThreadId,
    /// The stack that it had.
    pub stack: StackId,
    /// What it was in.
    pub mode: Mode,
}
