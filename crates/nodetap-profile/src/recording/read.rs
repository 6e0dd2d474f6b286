//! Reading a recording. The file may be cut, damaged or not ours: nothing in it is trusted.

use std::collections::{HashMap, HashSet};
use std::io::{self, BufReader, Read};
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;

use super::block::{self, Block};
use super::{
    END, FRAMES, INLINED, KINDS, MAGIC, METADATA, MODES, NEW, ONE, ORDER, PACKAGES, PROCESS,
    PROGRESS, SAMPLES, SOURCES, STACKS, STRINGS, THREADS, TIERS, TOTAL, VERSION, WAITING,
};
use crate::numbers::{Bytes, after_step};
use crate::{
    Frame, FrameId, Metadata, Package, Position, Process, Profile, Sample, StackId, Thread,
};

/// A small file does not become more than so many times its size, beyond these bytes: what
/// was recorded never does, and memory is not to be filled by a file that was made to.
const MOST_UNPACKED: u64 = 100;
const ALWAYS_UNPACKED: u64 = 32 << 20;

/// What a file held.
#[derive(Debug)]
pub struct Recording {
    /// What was recorded, as far as it could be read.
    pub profile: Profile,
    /// Whether that is all.
    pub ending: Ending,
}

/// How a file ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// As it should.
    Whole,
    /// In the midst: whoever wrote it was ended, or has not come to the end yet.
    CutShort,
    /// From this byte on there is something that nobody wrote so.
    Damaged {
        /// How many bytes before it are sound.
        at: u64,
    },
}

/// Why a recording could not be read.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// The file could not be read.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// It is something else.
    #[error("not a recording of nodetap's")]
    Form,
    /// It is of a version of nodetap's that came later.
    #[error("a recording in form {0}, and this version of nodetap reads form {VERSION}")]
    Version(u32),
    /// It is damaged, or ends, before anything that could be shown.
    #[error("a damaged recording: there is nothing in it that can be read")]
    Nothing,
}

/// Reads what [`write`](super::write()) or a [`Writer`](super::Writer) wrote, up to where it
/// is damaged or ends. With `one_by_one` the profile
/// has [its samples](Profile::samples) in their order; otherwise how many of a kind there
/// are, which takes less.
///
/// # Errors
/// Where nothing of it can be read.
pub fn read(input: impl Read, one_by_one: bool) -> Result<Recording, ReadError> {
    let mut input = Counted {
        input: BufReader::new(input),
        count: 0,
    };
    let mut start = Vec::new();
    let len = MAGIC.len() + size_of::<u32>();
    input.by_ref().take(len as u64).read_to_end(&mut start)?;
    let Some((magic, version)) = start.split_first_chunk() else {
        return Err(ReadError::Form);
    };
    if *magic != MAGIC {
        return Err(ReadError::Form);
    }
    match version.try_into().map(u32::from_le_bytes) {
        Ok(VERSION) => {}
        Ok(other) => return Err(ReadError::Version(other)),
        Err(_) => return Err(ReadError::Nothing),
    }

    let mut reader = Reader::new(one_by_one);
    let mut unpacked = 0;
    let mut waiting = None;
    let ending = loop {
        let at = input.count;
        match block::read(&mut input)? {
            Block::None | Block::Part => break Ending::CutShort,
            Block::Damaged => break Ending::Damaged { at },
            Block::Whole(kind, payload) => {
                unpacked += payload.len() as u64;
                if unpacked > ALWAYS_UNPACKED + MOST_UNPACKED * input.count {
                    break Ending::Damaged { at };
                }
                match kind {
                    NEW | END => match reader.add(&payload) {
                        None => break Ending::Damaged { at },
                        Some(()) if kind == END => break Ending::Whole,
                        Some(()) => {}
                    },
                    WAITING => waiting = Some(payload),
                    // Of a later version.
                    _ => {}
                }
            }
        }
    };
    if ending != Ending::Whole
        && let Some(waiting) = waiting
    {
        // What there is of it holds.
        let _ = reader.add_waiting(&waiting);
    }
    match reader.has_metadata {
        true => Ok(Recording {
            profile: reader.profile,
            ending,
        }),
        false => Err(ReadError::Nothing),
    }
}

/// Counts what is read.
struct Counted<R> {
    input: R,
    count: u64,
}

impl<R: Read> Read for Counted<R> {
    fn read(&mut self, to: &mut [u8]) -> io::Result<usize> {
        let read = self.input.read(to)?;
        self.count += read as u64;
        Ok(read)
    }
}

/// What has been read, and what its numbers stand for.
struct Reader {
    profile: Profile,
    has_metadata: bool,
    strings: Vec<Arc<str>>,
    /// The same, to find out whether one comes twice.
    distinct: HashSet<Arc<str>>,
    packages: Vec<Arc<Package>>,
    /// By the numbers of frames that are still to come.
    sources: HashMap<usize, Arc<str>>,
    /// A file may hold equal ones twice, which are one in the profile.
    frames: Vec<FrameId>,
    stacks: Vec<StackId>,
    time_us: u64,
    /// Entries of samples.
    samples: u64,
    /// How many of those that come have come already.
    again: u64,
}

impl Reader {
    fn new(one_by_one: bool) -> Self {
        let mut profile = Profile::new(Metadata::new("", 0));
        if !one_by_one {
            profile.keep_no_sequence();
        }
        Self {
            profile,
            has_metadata: false,
            strings: Vec::new(),
            distinct: HashSet::new(),
            packages: Vec::new(),
            sources: HashMap::new(),
            frames: Vec::new(),
            stacks: vec![StackId::EMPTY],
            time_us: 0,
            samples: 0,
            again: 0,
        }
    }

    /// Adds what a payload holds of samples that waited, as far as they have not come after
    /// that. Its numbers are its own, but for threads.
    fn add_waiting(&mut self, payload: &[u8]) -> Option<()> {
        self.strings.clear();
        self.distinct.clear();
        self.packages.clear();
        self.sources.clear();
        self.frames.clear();
        self.stacks.truncate(1);
        self.time_us = 0;
        self.add(payload)
    }

    /// Adds what a payload holds; `None` where it is none.
    fn add(&mut self, payload: &[u8]) -> Option<()> {
        let mut payload = Bytes(payload);
        while !payload.is_empty() {
            let tag = payload.byte()?;
            let length = payload.length()?;
            let section = Bytes(payload.take(length)?);
            match tag {
                METADATA => self.metadata(section)?,
                PROGRESS => self.progress(section)?,
                PROCESS => self.process(section)?,
                THREADS => self.threads(section)?,
                STRINGS => self.strings(section)?,
                PACKAGES => self.packages(section)?,
                FRAMES => self.frames(section)?,
                STACKS => self.stacks(section)?,
                SAMPLES => self.samples(section)?,
                TOTAL => self.total(section)?,
                SOURCES => self.sources(section)?,
                ORDER => self.order(section)?,
                // Of a later version.
                _ => {}
            }
        }
        Some(())
    }

    fn metadata(&mut self, mut from: Bytes<'_>) -> Option<()> {
        let sampler = text(&mut from)?.to_owned();
        let rate_hz = from.number32()?;
        let seconds = after_step(0, from.number()?).cast_signed();
        let nanoseconds = after_step(0, from.number()?).cast_signed();
        let metadata = &mut self.profile.metadata;
        metadata.sampler = sampler;
        metadata.rate_hz = rate_hz;
        metadata.start = Timestamp::new(seconds, i32::try_from(nanoseconds).ok()?).ok()?;
        self.has_metadata = true;
        Some(())
    }

    fn progress(&mut self, mut from: Bytes<'_>) -> Option<()> {
        let duration = Duration::from_nanos(from.number()?);
        let [lost, truncated, incomplete] = [from.number()?, from.number()?, from.number()?];
        let metadata = &mut self.profile.metadata;
        metadata.duration = duration;
        metadata.lost = lost;
        metadata.truncated = truncated;
        metadata.incomplete = incomplete;
        Some(())
    }

    fn process(&mut self, mut from: Bytes<'_>) -> Option<()> {
        let pid = from.number32()?;
        let mut maybe = || {
            let is_known = from.number()? != 0;
            let text = text(&mut from)?;
            Some(is_known.then(|| text.to_owned()))
        };
        let (node, v8) = (maybe()?, maybe()?);
        let mut command = Vec::new();
        while !from.is_empty() {
            command.push(text(&mut from)?.to_owned());
        }
        self.profile.add_process(Process {
            pid,
            command,
            node,
            v8,
        });
        Some(())
    }

    fn threads(&mut self, mut from: Bytes<'_>) -> Option<()> {
        while !from.is_empty() {
            let thread = Thread {
                pid: from.number32()?,
                tid: from.number32()?,
                name: text(&mut from)?.to_owned(),
            };
            self.profile.add_thread(thread);
        }
        Some(())
    }

    fn strings(&mut self, mut from: Bytes<'_>) -> Option<()> {
        while !from.is_empty() {
            let text: Arc<str> = text(&mut from)?.into();
            if !self.distinct.insert(Arc::clone(&text)) {
                return None;
            }
            self.strings.push(text);
        }
        Some(())
    }

    fn packages(&mut self, mut from: Bytes<'_>) -> Option<()> {
        while !from.is_empty() {
            let name = from.length()?;
            let package = Package {
                name: Arc::clone(self.strings.get(name)?),
                version: self.maybe_string(&mut from)?,
                is_dependency: from.number()? != 0,
            };
            self.packages.push(Arc::new(package));
        }
        Some(())
    }

    fn sources(&mut self, mut from: Bytes<'_>) -> Option<()> {
        while !from.is_empty() {
            let frame = from.length()?;
            let source = from.length()?;
            let source = Arc::clone(self.strings.get(source)?);
            if frame < self.frames.len() || self.sources.insert(frame, source).is_some() {
                return None;
            }
        }
        Some(())
    }

    fn frames(&mut self, mut from: Bytes<'_>) -> Option<()> {
        while !from.is_empty() {
            let kind = from.byte()?;
            let tier = match from.byte()? {
                0 => None,
                tier => Some(*TIERS.get(usize::from(tier) - 1)?),
            };
            let function = from.length()?;
            let frame = Frame {
                kind: *KINDS.get(usize::from(kind & !INLINED))?,
                function: Arc::clone(self.strings.get(function)?),
                file: self.maybe_string(&mut from)?,
                position: position(&mut from)?,
                function_position: position(&mut from)?,
                tier,
                inlined: kind & INLINED != 0,
                package: match from.length()? {
                    0 => None,
                    package => Some(Arc::clone(self.packages.get(package - 1)?)),
                },
                source: self.sources.remove(&self.frames.len()),
            };
            self.frames.push(self.profile.intern_frame(frame));
        }
        Some(())
    }

    fn stacks(&mut self, mut from: Bytes<'_>) -> Option<()> {
        while !from.is_empty() {
            let caller = self.stacks.len().checked_sub(from.length()?)?;
            let caller = *self.stacks.get(caller)?;
            let frame = *self.frames.get(from.length()?)?;
            self.stacks.push(self.profile.push_frame(caller, frame));
        }
        Some(())
    }

    fn samples(&mut self, mut from: Bytes<'_>) -> Option<()> {
        let count = from.length()?;
        let heads = from.take(count)?;
        // As many of each as there are heads, which are there.
        let column = |from: &mut Bytes<'_>| {
            let numbers = heads.iter().map(|_| from.number());
            numbers.collect::<Option<Vec<u64>>>()
        };
        let times = column(&mut from)?;
        let threads = column(&mut from)?;
        let stacks = column(&mut from)?;
        for (at, head) in heads.iter().enumerate() {
            self.time_us = after_step(self.time_us, times[at]);
            let thread = u32::try_from(threads[at]).ok()?;
            let stack = usize::try_from(stacks[at]).ok()?;
            let mode = MODES.get(usize::from(head >> 1))?;
            let sample = Sample::new(
                self.time_us,
                self.profile.thread_id(thread)?,
                *self.stacks.get(stack)?,
                *mode,
            );
            let count = match head & ONE {
                0 => from.number32()?,
                _ => 1,
            };
            if self.again > 0 {
                self.again -= 1;
                continue;
            }
            self.profile.add_sample(Sample { count, ..sample });
            self.samples += 1;
        }
        Some(())
    }

    fn order(&mut self, mut from: Bytes<'_>) -> Option<()> {
        self.again = self.samples.saturating_sub(from.number()?);
        Some(())
    }

    fn total(&mut self, mut from: Bytes<'_>) -> Option<()> {
        (from.number()? == self.samples).then_some(())
    }

    fn maybe_string(&self, from: &mut Bytes<'_>) -> Option<Option<Arc<str>>> {
        match from.length()? {
            0 => Some(None),
            number => Some(Some(Arc::clone(self.strings.get(number - 1)?))),
        }
    }
}

fn text<'a>(from: &mut Bytes<'a>) -> Option<&'a str> {
    let length = from.length()?;
    std::str::from_utf8(from.take(length)?).ok()
}

/// A line and, where there is one, its column.
fn position(from: &mut Bytes<'_>) -> Option<Option<Position>> {
    match from.number32()? {
        0 => Some(None),
        line => Some(Position::new(line, from.number32()?)),
    }
}
