//! `pprof`: for `go tool pprof`, Grafana and all that reads its format.
//!
//! `profile.proto`, compressed. A sample has two values, `samples` and `cpu` (nanoseconds:
//! whole periods of the sampling rate); with waits, which take no CPU time, a third one,
//! `wall`. It has as labels the thread (`thread`, `thread_name`, `pid`), what the thread was in
//! (`mode`), whose code was on top (`origin`), and, where it is of an npm package, which one
//! (`package`).
//!
//! Functions are known by name, and most readers put those of one name together: functions
//! without one have the end of their file's path and their line behind `(anonymous)`.

mod locations;
mod proto;

use std::collections::HashMap;
use std::io::{self, Write};

use flate2::Compression;
use flate2::write::GzEncoder;
use prost::Message;

use self::locations::Locations;
use super::functions::{Function, Functions, NO_FRAMES};
use super::strings::Strings;
use super::timeline::period_ns;
use crate::label::visible;
use crate::{Kind, Mode, Origin, Profile, SampleKey, StackId};

/// So many messages are encoded at a time.
const AT_ONCE: usize = 256;

/// Writes the profile.
pub fn write(profile: &Profile, out: &mut dyn Write) -> io::Result<()> {
    let mut functions = Functions::new(profile);
    let no_frames = functions.statement(NO_FRAMES);
    let writer = Writer {
        profile,
        locations: Locations::new(profile, &functions),
        functions,
        no_frames,
        strings: Strings::default(),
        to: GzEncoder::new(out, Compression::new(LEVEL)),
        buffer: Vec::new(),
    };
    writer.write()
}

/// How hard to compress: more takes three times as long for a tenth less.
const LEVEL: u32 = 4;

struct Writer<'a, W: Write> {
    profile: &'a Profile,
    functions: Functions,
    /// The function that stands for no frames.
    no_frames: u32,
    locations: Locations,
    strings: Strings,
    to: GzEncoder<W>,
    buffer: Vec<u8>,
}

impl<W: Write> Writer<'_, W> {
    fn write(mut self) -> io::Result<()> {
        let has_waits = self
            .profile
            .counts()
            .any(|(it, _)| it.mode == Mode::Waiting);
        self.write_head(has_waits)?;
        let used = self.write_samples(has_waits)?;
        let mappings = self.write_mappings()?;
        self.write_locations(&used, &mappings)?;
        self.write_functions()?;
        let strings = std::mem::take(&mut self.strings).into_all();
        for strings in strings.chunks(AT_ONCE) {
            self.part(proto::Profile {
                string_table: strings.to_vec(),
                ..proto::Profile::default()
            })?;
        }
        self.to.finish()?;
        Ok(())
    }

    /// Writes a part of the profile's message.
    fn part(&mut self, part: proto::Profile) -> io::Result<()> {
        self.buffer.clear();
        part.encode(&mut self.buffer).map_err(io::Error::other)?;
        self.to.write_all(&self.buffer)
    }

    fn write_head(&mut self, has_waits: bool) -> io::Result<()> {
        let metadata = &self.profile.metadata;
        let strings = &mut self.strings;
        let mut value = |r#type: &str, unit: &str| proto::ValueType {
            r#type: strings.signed(r#type),
            unit: strings.signed(unit),
        };
        let cpu = value("cpu", "nanoseconds");
        let mut sample_type = vec![value("samples", "count"), cpu];
        if has_waits {
            sample_type.push(value("wall", "nanoseconds"));
        }
        let default_sample_type = strings.signed(if has_waits { "wall" } else { "cpu" });
        let mut comment = vec![strings.signed(&format!(
            "nodetap {}: {} samples at {} Hz ({}), {} lost, {} truncated, {} incomplete",
            env!("CARGO_PKG_VERSION"),
            self.profile.sample_count(),
            metadata.rate_hz,
            visible(&metadata.sampler),
            metadata.lost,
            metadata.truncated,
            metadata.incomplete,
        ))];
        for process in self.profile.processes() {
            let version = |name: &str, version: &Option<String>| {
                let version = version.as_deref().map(visible);
                version.map_or_else(String::new, |it| format!(", {name} {it}"))
            };
            comment.push(strings.signed(&format!(
                "{}{}{}",
                crate::process_label(process.pid, Some(process)),
                version("Node.js", &process.node),
                version("V8", &process.v8),
            )));
        }
        self.part(proto::Profile {
            sample_type,
            time_nanos: i64::try_from(metadata.start.as_nanosecond()).unwrap_or(0),
            duration_nanos: i64::try_from(metadata.duration.as_nanos()).unwrap_or(i64::MAX),
            period_type: Some(cpu),
            period: signed(period_ns(self.profile)),
            comment,
            default_sample_type,
            ..proto::Profile::default()
        })
    }

    /// Writes all samples; tells which places they name.
    fn write_samples(&mut self, has_waits: bool) -> io::Result<Vec<bool>> {
        let mut counts: Vec<(SampleKey, u64)> = self.profile.counts().collect();
        counts.sort_unstable();
        let period = period_ns(self.profile);
        let mut used = vec![false; self.locations.len()];
        let keys = LabelKeys::new(&mut self.strings);
        for counts in counts.chunks(AT_ONCE) {
            let mut sample = Vec::with_capacity(counts.len());
            for &(key, count) in counts {
                let wall = signed(count.saturating_mul(period));
                let cpu = if key.mode == Mode::Waiting { 0 } else { wall };
                let mut value = vec![signed(count), cpu];
                if has_waits {
                    value.push(wall);
                }
                let mut location_id = Vec::new();
                for place in self.locations.of(key.stack) {
                    used[place as usize] = true;
                    location_id.push(id(place));
                }
                if key.stack == StackId::EMPTY {
                    location_id.push(id(self.place_of_no_frames()));
                }
                sample.push(proto::Sample {
                    location_id,
                    value,
                    label: labels(self.profile, key, &keys, &mut self.strings),
                });
            }
            self.part(proto::Profile {
                sample,
                ..proto::Profile::default()
            })?;
        }
        Ok(used)
    }

    /// The place that stands for no frames, which comes after all others.
    fn place_of_no_frames(&self) -> u32 {
        u32::try_from(self.locations.len()).expect("no more places than stacks")
    }

    /// Writes the files that code is of; for each its id. The first one is what ran.
    fn write_mappings(&mut self) -> io::Result<HashMap<String, u64>> {
        let command = self
            .profile
            .processes()
            .first()
            .and_then(|it| it.command.first());
        let program = command.map_or_else(|| "node".into(), |it| visible(it));
        let mut names = vec![program.clone()];
        let mut ids = HashMap::from([(program, 1)]);
        for function in self.functions.as_slice() {
            if let (Kind::Native | Kind::Kernel, Some(file)) = (function.kind, &function.file)
                && !ids.contains_key(file)
            {
                names.push(file.clone());
                ids.insert(file.clone(), names.len() as u64);
            }
        }
        let mapping = names.iter().zip(1..).map(|(name, id)| proto::Mapping {
            id,
            filename: self.strings.signed(name),
            has_functions: true,
            has_filenames: true,
            has_line_numbers: true,
            has_inline_frames: true,
        });
        let mapping = mapping.collect();
        self.part(proto::Profile {
            mapping,
            ..proto::Profile::default()
        })?;
        Ok(ids)
    }

    fn write_locations(
        &mut self,
        used: &[bool],
        mappings: &HashMap<String, u64>,
    ) -> io::Result<()> {
        let places = (0..).zip(used).filter(|&(_, &is_used)| is_used);
        let places: Vec<u32> = places.map(|(place, _)| place).collect();
        for places in places.chunks(AT_ONCE) {
            let location = |&place: &u32| {
                let function = self.functions.of(self.locations.frame(place));
                let file = self.functions.get(function).file.as_ref();
                let mapping = file.and_then(|file| mappings.get(file));
                let line = self.locations.lines(place).map(|line| proto::Line {
                    function_id: id(line.function),
                    line: line.position.0.into(),
                    column: line.position.1.into(),
                });
                proto::Location {
                    id: id(place),
                    mapping_id: mapping.copied().unwrap_or(1),
                    line: line.collect(),
                }
            };
            let location = places.iter().map(location).collect();
            self.part(proto::Profile {
                location,
                ..proto::Profile::default()
            })?;
        }
        let line = proto::Line {
            function_id: id(self.no_frames),
            ..proto::Line::default()
        };
        self.part(proto::Profile {
            location: vec![proto::Location {
                id: id(self.place_of_no_frames()),
                mapping_id: 1,
                line: vec![line],
            }],
            ..proto::Profile::default()
        })
    }

    fn write_functions(&mut self) -> io::Result<()> {
        let mut all = Vec::with_capacity(self.functions.as_slice().len());
        for (function, number) in self.functions.as_slice().iter().zip(0..) {
            let name = self.strings.signed(&name(function));
            all.push(proto::Function {
                id: id(number),
                name,
                filename: function
                    .file
                    .as_deref()
                    .map_or(0, |file| self.strings.signed(file)),
                start_line: function.position.map_or(0, |at| at.line.get().into()),
            });
        }
        for function in all.chunks(AT_ONCE) {
            self.part(proto::Profile {
                function: function.to_vec(),
                ..proto::Profile::default()
            })?;
        }
        Ok(())
    }
}

/// The id by which the message names what has this number: 0 would be none.
fn id(number: u32) -> u64 {
    u64::from(number) + 1
}

fn signed(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

/// What a function is called, so that those without a name can be told apart.
fn name(function: &Function) -> String {
    match (&function.file, function.position) {
        (Some(file), Some(at)) if function.name == "(anonymous)" => {
            let file = file.rsplit('/').next().unwrap_or(file);
            format!("(anonymous) {file}:{}", at.line)
        }
        _ => function.name.clone(),
    }
}

/// What labels are called, by their places in the table of strings.
struct LabelKeys {
    thread: i64,
    thread_name: i64,
    pid: i64,
    mode: i64,
    origin: i64,
    package: i64,
}

impl LabelKeys {
    fn new(strings: &mut Strings) -> Self {
        Self {
            thread: strings.signed("thread"),
            thread_name: strings.signed("thread_name"),
            pid: strings.signed("pid"),
            mode: strings.signed("mode"),
            origin: strings.signed("origin"),
            package: strings.signed("package"),
        }
    }
}

fn labels(
    profile: &Profile,
    of: SampleKey,
    keys: &LabelKeys,
    strings: &mut Strings,
) -> Vec<proto::Label> {
    let thread = profile.thread(of.thread);
    let mut labels = Vec::with_capacity(6);
    let mut add = |key, value: &str| {
        let str = strings.signed(value);
        labels.push(proto::Label { key, str });
    };
    add(keys.thread, &thread.tid.to_string());
    if !thread.name.is_empty() {
        add(keys.thread_name, &visible(&thread.name));
    }
    add(keys.pid, &thread.pid.to_string());
    match of.mode {
        Mode::Unknown => {}
        Mode::JavaScript => add(keys.mode, "javascript"),
        Mode::Builtin => add(keys.mode, "builtin"),
        Mode::Native => add(keys.mode, "native"),
        Mode::Kernel => add(keys.mode, "kernel"),
        Mode::Waiting => add(keys.mode, "waiting"),
    }
    if let Some((_, frame)) = profile.caller_and_frame(of.stack) {
        let frame = profile.frame(frame);
        add(keys.origin, Origin::of(frame).name());
        if let Some(package) = &frame.package {
            add(keys.package, &visible(&package.label()));
        }
    }
    labels
}

#[cfg(test)]
mod tests;
