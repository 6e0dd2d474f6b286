//! Writing a recording, piece by piece: nothing of the size of the samples is built up.

use std::cell::RefCell;
use std::fmt::{self, Write as _};
use std::io::{self, Write};

use serde::{Serialize, Serializer};
use serde_json::ser::Formatter;

use super::VERSION;
use crate::{Frame, Mode, Process, Profile, Sample, StackId, Thread};

/// Writes all of the profile.
pub fn write(profile: &Profile, out: &mut dyn Write) -> io::Result<()> {
    let numbering = Numbering::new(profile)?;
    let metadata = &profile.metadata;
    let sequence = Sequence {
        profile,
        error: RefCell::new(None),
    };
    let recording = Recording {
        nodetap: VERSION,
        sampler: &metadata.sampler,
        rate_hz: metadata.rate_hz,
        start: metadata.start.to_string(),
        duration_ms: (metadata.duration.as_micros() + 500) / 1000,
        lost: metadata.lost,
        truncated: metadata.truncated,
        incomplete: metadata.incomplete,
        processes: profile.processes(),
        threads: profile.threads(),
        frames: profile.frames(),
        stacks: Stacks {
            profile,
            numbering: &numbering,
        },
        samples: Samples {
            sequence: &sequence,
            numbering: &numbering,
        },
        modes: profile
            .counts()
            .any(|(key, _)| key.mode != Mode::Unknown)
            .then_some(Modes(&sequence)),
        counts: numbering.any_stands_for_more.then_some(Counts(&sequence)),
    };
    let mut serializer = serde_json::Serializer::with_formatter(&mut *out, EntryALine::default());
    recording.serialize(&mut serializer)?;
    if let Some(error) = sequence.error.take() {
        return Err(error);
    }
    writeln!(out)
}

/// The samples one after the other, several times over.
struct Sequence<'a> {
    profile: &'a Profile,
    /// Why one ended early.
    error: RefCell<Option<io::Error>>,
}

impl Sequence<'_> {
    fn samples(&self) -> impl Iterator<Item = Sample> {
        self.profile
            .samples()
            .map_while(|sample| sample.map_err(|error| self.error.replace(Some(error))).ok())
    }
}

#[derive(Serialize)]
struct Recording<'a> {
    nodetap: u32,
    sampler: &'a str,
    rate_hz: u32,
    start: String,
    duration_ms: u128,
    lost: u64,
    truncated: u64,
    incomplete: u64,
    processes: &'a [Process],
    threads: &'a [Thread],
    frames: &'a [Frame],
    stacks: Stacks<'a>,
    samples: Samples<'a>,
    #[serde(skip_serializing_if = "Option::is_none")]
    modes: Option<Modes<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    counts: Option<Counts<'a>>,
}

/// Of all stacks those that a sample has, numbered in the order of their first sample.
struct Numbering {
    stacks: Vec<StackId>,
    number_of: Vec<u32>,
    /// Whether there are samples that stand for more than one, or for none.
    any_stands_for_more: bool,
}

impl Numbering {
    fn new(profile: &Profile) -> io::Result<Self> {
        const NONE: u32 = u32::MAX;
        let mut stacks = Vec::new();
        let mut number_of = vec![NONE; profile.stack_count()];
        let mut any_stands_for_more = false;
        for sample in profile.samples() {
            let sample = sample?;
            any_stands_for_more |= sample.count != 1;
            let number = &mut number_of[sample.stack.index()];
            if *number == NONE {
                *number = u32::try_from(stacks.len()).expect("stack ids are of 32 bits");
                stacks.push(sample.stack);
            }
        }
        Ok(Self {
            stacks,
            number_of,
            any_stands_for_more,
        })
    }
}

struct Stacks<'a> {
    profile: &'a Profile,
    numbering: &'a Numbering,
}

impl Serialize for Stacks<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.numbering.stacks.iter().map(|&stack| {
            let mut frames: Vec<usize> = self
                .profile
                .stack_frames(stack)
                .map(|frame| frame.index())
                .collect();
            frames.reverse();
            frames
        }))
    }
}

struct Samples<'a> {
    sequence: &'a Sequence<'a>,
    numbering: &'a Numbering,
}

impl Serialize for Samples<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let entry = |sample: Sample| {
            let stack = self.numbering.number_of[sample.stack.index()];
            (sample.time_us, sample.thread.index(), stack)
        };
        serializer.collect_seq(self.sequence.samples().map(entry))
    }
}

/// What the thread of each sample was in: one string, a letter each.
struct Modes<'a>(&'a Sequence<'a>);

impl fmt::Display for Modes<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0
            .samples()
            .try_for_each(|sample| f.write_char(sample.mode.letter()))
    }
}

impl Serialize for Modes<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// For how many samples each one stands.
struct Counts<'a>(&'a Sequence<'a>);

impl Serialize for Counts<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.0.samples().map(|sample| sample.count))
    }
}

/// JSON without blanks, but each entry of the outer object's lists on a line of its own:
/// the file can be read, searched and compared by lines.
#[derive(Default)]
struct EntryALine {
    depth: usize,
}

/// How deep within objects and lists the entries of the outer object's lists stand.
const ENTRIES: usize = 2;

impl Formatter for EntryALine {
    fn begin_object<W: ?Sized + Write>(&mut self, writer: &mut W) -> io::Result<()> {
        self.depth += 1;
        writer.write_all(b"{")
    }

    fn end_object<W: ?Sized + Write>(&mut self, writer: &mut W) -> io::Result<()> {
        self.depth -= 1;
        writer.write_all(b"}")
    }

    fn begin_array<W: ?Sized + Write>(&mut self, writer: &mut W) -> io::Result<()> {
        self.depth += 1;
        writer.write_all(b"[")
    }

    fn end_array<W: ?Sized + Write>(&mut self, writer: &mut W) -> io::Result<()> {
        self.depth -= 1;
        writer.write_all(b"]")
    }

    fn begin_array_value<W: ?Sized + Write>(
        &mut self,
        writer: &mut W,
        first: bool,
    ) -> io::Result<()> {
        let separator: &[u8] = match (first, self.depth == ENTRIES) {
            (true, true) => b"\n",
            (true, false) => b"",
            (false, true) => b",\n",
            (false, false) => b",",
        };
        writer.write_all(separator)
    }
}
