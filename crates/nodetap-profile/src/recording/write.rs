//! Writing a recording: all at once, or what is new from time to time.

use std::collections::HashMap;
use std::io::{self, Write};
use std::sync::Arc;
use std::time::Duration;

use super::{
    END, FRAMES, FULL_BLOCK, INLINED, KINDS, MAGIC, MAX_BLOCK, MAX_STRING, METADATA, MODES, NEW,
    ONE, ORDER, PACKAGES, PROCESS, PROGRESS, SAMPLES, SOURCES, STACKS, STRINGS, THREADS, TIERS,
    TOTAL, VERSION, WAITING, block,
};
use crate::numbers::{encode, encode_step};
use crate::{Frame, Metadata, Package, Position, Process, Profile, Sample};

/// So many samples make a section.
const SECTION: usize = 1 << 14;
/// So many entries of other things do, unless they are long.
const ENTRIES: usize = 1 << 12;
/// How often it is told that nothing is new.
const IDLE_INTERVAL: Duration = Duration::from_secs(10);

/// Writes all of a profile.
pub fn write(profile: &Profile, out: &mut dyn Write) -> io::Result<()> {
    let mut writer = Writer::new(out);
    writer.begin(profile)?;
    writer.add_progress(&profile.metadata);
    let mut samples = Vec::with_capacity(SECTION);
    for sample in profile.samples() {
        samples.push(sample?);
        if samples.len() == SECTION {
            writer.add_samples(&samples)?;
            samples.clear();
        }
    }
    writer.add_samples(&samples)?;
    writer.end(&profile.metadata)?;
    Ok(())
}

/// Writes a recording while it goes on. What has been written can be read, whatever becomes
/// of the rest.
///
/// ```
/// # use nodetap_profile::{Frame, Kind, Metadata, Mode, Profile, Sample, Thread, recording};
/// # use std::time::Duration;
/// let mut profile = Profile::new(Metadata::new("ebpf", 999));
/// profile.hand_out_samples();
/// let mut writer = recording::Writer::new(Vec::new());
/// let thread = profile.add_thread(Thread { pid: 1, tid: 1, name: "node".into() });
/// let frame = profile.intern_frame(Frame::new(Kind::Js, "work"));
/// let stack = profile.intern_stack([frame]);
/// profile.add_sample(Sample::new(1001, thread, stack, Mode::JavaScript));
/// writer.write_new(&mut profile, None, Duration::from_millis(2)).unwrap();
/// // …and so on, until at its end:
/// let file = writer.finish(&mut profile).unwrap();
/// let again = recording::read(file.as_slice(), true).unwrap();
/// assert_eq!(again.profile.sample_count(), 1);
/// ```
#[derive(Debug)]
pub struct Writer<W> {
    out: W,
    /// Sections that no block has been made of yet.
    payload: Vec<u8>,
    /// How many bytes of them make a block.
    full: usize,
    has_begun: bool,
    processes: Vec<Process>,
    /// How many threads, frames and stacks have been written.
    threads: usize,
    frames: usize,
    stacks: usize,
    /// Their numbers. The texts come from the target, hence the keyed hash.
    strings: HashMap<Arc<str>, u32>,
    packages: HashMap<Arc<Package>, u32>,
    /// When the last sample was taken.
    time_us: u64,
    samples: u64,
    /// How far the recording was when that was written last.
    told: Duration,
}

impl<W: Write> Writer<W> {
    /// A writer that has written nothing yet.
    pub fn new(out: W) -> Self {
        Self {
            out,
            payload: Vec::new(),
            full: FULL_BLOCK,
            has_begun: false,
            processes: Vec::new(),
            threads: 0,
            frames: 0,
            // The empty one is known.
            stacks: 1,
            strings: HashMap::new(),
            packages: HashMap::new(),
            time_us: 0,
            samples: 0,
            told: Duration::ZERO,
        }
    }

    /// Writes what is new in the profile, which
    /// [hands out its samples](Profile::hand_out_samples), and that the recording has gone
    /// on for `elapsed`. All of it is given to the output before this returns.
    ///
    /// Samples may have been taken that do not get into the profile yet, for there is more to
    /// be known of their frames. `waiting` hands out all of them, as far as they are known;
    /// its threads are those of `profile`. They count if nothing comes after them.
    ///
    /// # Errors
    /// Where the output cannot be written to. The rest should not be written then.
    pub fn write_new(
        &mut self,
        profile: &mut Profile,
        waiting: Option<&mut Profile>,
        elapsed: Duration,
    ) -> io::Result<()> {
        let samples = profile.take_samples();
        let waiting = waiting.map(|it| (it.take_samples(), it));
        let waiting = waiting.filter(|(samples, _)| !samples.is_empty());
        self.begin(profile)?;
        for samples in samples.chunks(SECTION) {
            self.add_samples(samples)?;
        }
        let is_idle = samples.is_empty() && waiting.is_none() && self.payload.is_empty();
        if is_idle && elapsed.saturating_sub(self.told) < IDLE_INTERVAL {
            return Ok(());
        }
        self.told = elapsed;
        self.add_progress(&Metadata {
            duration: elapsed,
            ..profile.metadata.clone()
        });
        self.write_block(NEW)?;
        if let Some((samples, waiting)) = waiting {
            self.write_waiting(&samples, waiting)?;
        }
        self.out.flush()
    }

    /// Writes all samples that wait, once more, into a block that names nothing that is not
    /// in it but threads. They come after those that were written.
    fn write_waiting(&mut self, samples: &[Sample], waiting: &Profile) -> io::Result<()> {
        let mut writer = Writer {
            full: usize::MAX,
            has_begun: true,
            threads: waiting.threads().len(),
            ..Writer::new(io::sink())
        };
        let mut order = Vec::new();
        encode(&mut order, self.samples);
        writer.add_section(ORDER, &order);
        writer.begin(waiting)?;
        for samples in samples.chunks(SECTION) {
            writer.add_samples(samples)?;
        }
        match writer.payload.len() <= MAX_BLOCK {
            true => block::write(WAITING, &writer.payload, &mut self.out),
            // So many wait that they are not worth it.
            false => Ok(()),
        }
    }

    /// Writes what is new and the end, and gives the output back.
    ///
    /// # Errors
    /// Where the output cannot be written to.
    pub fn finish(mut self, profile: &mut Profile) -> io::Result<W> {
        self.write_new(profile, None, profile.metadata.duration)?;
        self.end(&profile.metadata)?;
        Ok(self.out)
    }

    /// Adds what the profile has beside samples, and was not written yet.
    fn begin(&mut self, profile: &Profile) -> io::Result<()> {
        if !self.has_begun {
            self.has_begun = true;
            self.out.write_all(&MAGIC)?;
            self.out.write_all(&VERSION.to_le_bytes())?;
            self.add_metadata(&profile.metadata);
        }
        self.add_processes(profile.processes())?;
        self.add_entries(THREADS, &profile.threads()[self.threads..], |to, thread| {
            encode(to, thread.pid.into());
            encode(to, thread.tid.into());
            encode_text(to, &thread.name);
        })?;
        self.threads = profile.threads().len();
        for frames in profile.frames()[self.frames..].chunks(ENTRIES) {
            self.add_frames(frames)?;
        }
        let stacks: Vec<(u64, u64)> = profile
            .stack_ids()
            .skip(self.stacks)
            .filter_map(|stack| {
                let (caller, frame) = profile.caller_and_frame(stack)?;
                // Most stacks are one frame more than the one before.
                Some((
                    (stack.index() - caller.index()) as u64,
                    frame.index() as u64,
                ))
            })
            .collect();
        self.add_entries(STACKS, &stacks, |to, &(back, frame)| {
            encode(to, back);
            encode(to, frame);
        })?;
        self.stacks = profile.stack_count();
        Ok(())
    }

    fn add_metadata(&mut self, metadata: &Metadata) {
        let mut section = Vec::new();
        encode_text(&mut section, &metadata.sampler);
        encode(&mut section, metadata.rate_hz.into());
        let seconds = metadata.start.as_second().cast_unsigned();
        encode_step(&mut section, 0, seconds);
        let nanoseconds = i64::from(metadata.start.subsec_nanosecond());
        encode_step(&mut section, 0, nanoseconds.cast_unsigned());
        self.add_section(METADATA, &section);
    }

    fn add_progress(&mut self, metadata: &Metadata) {
        let nanoseconds = u64::try_from(metadata.duration.as_nanos()).unwrap_or(u64::MAX);
        let mut section = Vec::new();
        for number in [
            nanoseconds,
            metadata.lost,
            metadata.truncated,
            metadata.incomplete,
        ] {
            encode(&mut section, number);
        }
        self.add_section(PROGRESS, &section);
    }

    /// Those that are new, or of which something else is known now.
    fn add_processes(&mut self, processes: &[Process]) -> io::Result<()> {
        for (at, process) in processes.iter().enumerate() {
            if self.processes.get(at) == Some(process) {
                continue;
            }
            let mut section = Vec::new();
            encode(&mut section, process.pid.into());
            for text in [&process.node, &process.v8] {
                encode(&mut section, text.is_some().into());
                encode_text(&mut section, text.as_deref().unwrap_or_default());
            }
            for argument in &process.command {
                encode_text(&mut section, argument);
            }
            self.add_section(PROCESS, &section);
            self.end_full_block()?;
        }
        if self.processes != processes {
            self.processes = processes.to_vec();
        }
        Ok(())
    }

    /// Adds frames, after the strings and packages that are new in them, and after what
    /// stands on their lines.
    fn add_frames(&mut self, frames: &[Frame]) -> io::Result<()> {
        let (mut strings, mut packages) = (Vec::new(), Vec::new());
        for frame in frames {
            let package = frame.package.as_deref();
            let source = frame.source.as_ref();
            let texts = [Some(&frame.function), frame.file.as_ref(), source];
            let of_package = [
                package.map(|package| &package.name),
                package.and_then(|package| package.version.as_ref()),
            ];
            for text in texts.into_iter().chain(of_package).flatten() {
                let next = number_of_next(self.strings.len())?;
                if !self.strings.contains_key(text) {
                    self.strings.insert(Arc::clone(text), next);
                    strings.push(Arc::clone(text));
                }
            }
            if let Some(package) = &frame.package
                && !self.packages.contains_key(package)
            {
                let next = number_of_next(self.packages.len())?;
                self.packages.insert(Arc::clone(package), next);
                packages.push(Arc::clone(package));
            }
        }
        self.add_entries(STRINGS, &strings, |to, text| encode_text(to, text))?;
        let numbers = std::mem::take(&mut self.strings);
        let of_packages = std::mem::take(&mut self.packages);
        let sources = (self.frames as u64..).zip(frames);
        let sources = sources.filter_map(|(at, frame)| Some((at, numbers[frame.source.as_ref()?])));
        let sources: Vec<(u64, u32)> = sources.collect();
        self.frames += frames.len();
        let added = self
            .add_entries(PACKAGES, &packages, |to, package| {
                encode(to, numbers[&package.name].into());
                let version = package.version.as_ref().map(|text| numbers[text]);
                encode_maybe(to, version);
                encode(to, package.is_dependency.into());
            })
            .and_then(|()| {
                self.add_entries(SOURCES, &sources, |to, &(frame, source)| {
                    encode(to, frame);
                    encode(to, source.into());
                })
            })
            .and_then(|()| {
                self.add_entries(FRAMES, frames, |to, frame| {
                    encode_frame(to, frame, &numbers, &of_packages);
                })
            });
        self.strings = numbers;
        self.packages = of_packages;
        added
    }

    /// Adds samples, at most some thousands: a column of each of what they are.
    fn add_samples(&mut self, samples: &[Sample]) -> io::Result<()> {
        if samples.is_empty() {
            return Ok(());
        }
        let mut section = Vec::new();
        encode(&mut section, samples.len() as u64);
        section.extend(samples.iter().map(|sample| {
            let mode = place(&MODES, sample.mode);
            mode << 1 | if sample.count == 1 { ONE } else { 0 }
        }));
        for sample in samples {
            encode_step(&mut section, self.time_us, sample.time_us);
            self.time_us = sample.time_us;
        }
        for sample in samples {
            encode(&mut section, sample.thread.number().into());
        }
        for sample in samples {
            encode(&mut section, sample.stack.number().into());
        }
        for sample in samples.iter().filter(|sample| sample.count != 1) {
            encode(&mut section, sample.count.into());
        }
        self.samples += samples.len() as u64;
        self.add_section(SAMPLES, &section);
        self.end_full_block()
    }

    /// Adds sections of entries, one after the other.
    fn add_entries<T>(
        &mut self,
        tag: u8,
        entries: &[T],
        mut entry: impl FnMut(&mut Vec<u8>, &T),
    ) -> io::Result<()> {
        let mut section = Vec::new();
        let mut in_section = 0;
        for it in entries {
            entry(&mut section, it);
            in_section += 1;
            if in_section == ENTRIES || section.len() >= self.full {
                self.add_section(tag, &section);
                self.end_full_block()?;
                section.clear();
                in_section = 0;
            }
        }
        if in_section > 0 {
            self.add_section(tag, &section);
        }
        self.end_full_block()
    }

    fn add_section(&mut self, tag: u8, section: &[u8]) {
        self.payload.push(tag);
        encode(&mut self.payload, section.len() as u64);
        self.payload.extend_from_slice(section);
    }

    fn end_full_block(&mut self) -> io::Result<()> {
        match self.payload.len() >= self.full {
            true => self.write_block(NEW),
            false => Ok(()),
        }
    }

    fn write_block(&mut self, kind: u8) -> io::Result<()> {
        block::write(kind, &self.payload, &mut self.out)?;
        self.payload.clear();
        Ok(())
    }

    fn end(&mut self, metadata: &Metadata) -> io::Result<()> {
        if !self.payload.is_empty() {
            self.write_block(NEW)?;
        }
        self.add_progress(metadata);
        let mut section = Vec::new();
        encode(&mut section, self.samples);
        self.add_section(TOTAL, &section);
        self.write_block(END)?;
        self.out.flush()
    }
}

fn encode_frame(
    to: &mut Vec<u8>,
    frame: &Frame,
    strings: &HashMap<Arc<str>, u32>,
    packages: &HashMap<Arc<Package>, u32>,
) {
    let inlined = if frame.inlined { INLINED } else { 0 };
    to.push(place(&KINDS, frame.kind) | inlined);
    to.push(frame.tier.map_or(0, |tier| 1 + place(&TIERS, tier)));
    encode(to, strings[&frame.function].into());
    encode_maybe(to, frame.file.as_ref().map(|file| strings[file]));
    for position in [frame.position, frame.function_position] {
        let Position { line, column } = match position {
            Some(position) => position,
            None => {
                encode(to, 0);
                continue;
            }
        };
        encode(to, line.get().into());
        encode(to, column.map_or(0, |column| column.get().into()));
    }
    encode_maybe(to, frame.package.as_ref().map(|it| packages[it]));
}

/// A text: its length, its bytes. One that is longer than any is cut.
fn encode_text(to: &mut Vec<u8>, text: &str) {
    let mut end = text.len().min(MAX_STRING);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    let text = &text[..end];
    encode(to, text.len() as u64);
    to.extend_from_slice(text.as_bytes());
}

/// A number that may be absent.
fn encode_maybe(to: &mut Vec<u8>, number: Option<u32>) {
    encode(to, number.map_or(0, |number| 1 + u64::from(number)));
}

/// Where in `all` something stands. All that there is stands there.
fn place<T: PartialEq>(all: &[T], it: T) -> u8 {
    let place = all.iter().position(|other| *other == it);
    u8::try_from(place.unwrap_or(0)).unwrap_or(0)
}

fn number_of_next(len: usize) -> io::Result<u32> {
    u32::try_from(len).map_err(io::Error::other)
}
