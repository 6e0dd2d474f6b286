//! Reading a recording. The file may be damaged or not ours: nothing in it is trusted.

use std::fmt;
use std::io::{self, BufReader, Read};
use std::time::Duration;

use jiff::Timestamp;
use serde::Deserialize;
use serde::de::{self, DeserializeSeed, Deserializer, SeqAccess, Visitor};

use super::VERSION;
use crate::stacks::Stacks;
use crate::{Frame, FrameId, Metadata, Mode, Process, Profile, Sample, StackId, Thread};

/// Why a recording could not be read.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// The file could not be read.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// It is not JSON, or not of the form that this version writes.
    #[error("not a recording of nodetap's: {0}")]
    Form(serde_json::Error),
    /// A sample was taken in a mode that there is not.
    #[error("a damaged recording: `modes` has a letter that stands for nothing")]
    Mode,
    /// An index leads nowhere.
    #[error("a damaged recording: {of} {index} is named, but there are {count}")]
    Index {
        /// What the index is of: `frame`, `stack` or `thread`.
        of: &'static str,
        /// The index that was named, counted from 0.
        index: u32,
        /// How many of these the recording has.
        count: usize,
    },
}

/// Reads what [`write`](super::write()) wrote.
///
/// Fields that aren't known are passed over, so that a newer nodetap may add some.
pub fn read(input: impl Read) -> Result<Profile, ReadError> {
    let recording: Recording = serde_json::from_reader(BufReader::new(input)).map_err(|error| {
        if error.is_io() {
            ReadError::Io(error.into())
        } else {
            ReadError::Form(error)
        }
    })?;
    let mut profile = Profile::new(Metadata {
        sampler: recording.sampler,
        rate_hz: recording.rate_hz,
        start: recording.start.0,
        duration: Duration::from_millis(recording.duration_ms),
        lost: recording.lost,
        truncated: recording.truncated,
        incomplete: recording.incomplete,
    });
    for process in recording.processes {
        profile.add_process(process);
    }
    for thread in recording.threads {
        profile.add_thread(thread);
    }
    let frames: Vec<FrameId> = recording
        .frames
        .into_iter()
        .map(|frame| profile.intern_frame(frame))
        .collect();
    let stacks = recording.stacks.resolve(&mut profile, &frames)?;
    let modes: Option<Vec<Mode>> = recording.modes.chars().map(Mode::of_letter).collect();
    let modes = modes.ok_or(ReadError::Mode)?;
    for (at, (time_us, thread, stack)) in recording.samples.into_iter().enumerate() {
        let id = profile.thread_id(thread).ok_or(ReadError::Index {
            of: "thread",
            index: thread,
            count: profile.threads().len(),
        })?;
        let stack = *stacks.get(stack as usize).ok_or(ReadError::Index {
            of: "stack",
            index: stack,
            count: stacks.len(),
        })?;
        let mode = modes.get(at).copied().unwrap_or_default();
        profile.add_sample(Sample {
            count: recording.counts.get(at).copied().unwrap_or(1),
            ..Sample::new(time_us, id, stack, mode)
        });
    }
    Ok(profile)
}

#[derive(Deserialize)]
struct Recording {
    #[serde(rename = "nodetap")]
    _version: Version,
    sampler: String,
    rate_hz: u32,
    start: Start,
    duration_ms: u64,
    lost: u64,
    truncated: u64,
    incomplete: u64,
    processes: Vec<Process>,
    threads: Vec<Thread>,
    frames: Vec<Frame>,
    stacks: StackList,
    samples: Vec<(u64, u32, u32)>,
    #[serde(default)]
    modes: String,
    #[serde(default)]
    counts: Vec<u32>,
}

/// The version, which can only be ours: others are refused where they are met.
struct Version;

impl<'de> Deserialize<'de> for Version {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match u32::deserialize(deserializer)? {
            VERSION => Ok(Self),
            other => Err(de::Error::custom(format_args!(
                "it has form {other}, this version reads form {VERSION}"
            ))),
        }
    }
}

/// The start, in the form of RFC 3339.
struct Start(Timestamp);

impl<'de> Deserialize<'de> for Start {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map(Self).map_err(de::Error::custom)
    }
}

/// The stacks as they stand in the file, their outer parts shared; the frames' indexes are
/// not checked yet.
#[derive(Default)]
struct StackList {
    tree: Stacks,
    stacks: Vec<StackId>,
}

impl StackList {
    /// The stacks in the profile, of which `frames` are those of the file.
    fn resolve(self, profile: &mut Profile, frames: &[FrameId]) -> Result<Vec<StackId>, ReadError> {
        // A file may hold equal frames twice, which are one in the profile.
        let mut resolved = Vec::with_capacity(self.tree.len());
        for stack in self.tree.ids() {
            resolved.push(match self.tree.get(stack) {
                None => StackId::EMPTY,
                Some((caller, frame)) => {
                    let frame = *frames.get(frame.index()).ok_or(ReadError::Index {
                        of: "frame",
                        index: frame.number(),
                        count: frames.len(),
                    })?;
                    profile.push_frame(resolved[caller.index()], frame)
                }
            });
        }
        Ok(self
            .stacks
            .into_iter()
            .map(|stack| resolved[stack.index()])
            .collect())
    }
}

impl<'de> Deserialize<'de> for StackList {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_seq(StackListVisitor)
    }
}

struct StackListVisitor;

impl<'de> Visitor<'de> for StackListVisitor {
    type Value = StackList;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list of stacks")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<StackList, A::Error> {
        let mut list = StackList::default();
        while let Some(stack) = seq.next_element_seed(OneStack(&mut list.tree))? {
            list.stacks.push(stack);
        }
        Ok(list)
    }
}

/// Reads one stack straight into the tree, so that deep ones don't pile up.
struct OneStack<'a>(&'a mut Stacks);

impl<'de> DeserializeSeed<'de> for OneStack<'_> {
    type Value = StackId;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<StackId, D::Error> {
        deserializer.deserialize_seq(self)
    }
}

impl<'de> Visitor<'de> for OneStack<'_> {
    type Value = StackId;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list of indexes of frames")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<StackId, A::Error> {
        let mut stack = StackId::EMPTY;
        while let Some(frame) = seq.next_element()? {
            stack = self.0.intern(stack, FrameId::from_number(frame));
        }
        Ok(stack)
    }
}
