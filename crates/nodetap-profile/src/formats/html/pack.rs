//! What a page knows of a recording, as bytes that a browser unpacks quickly.
//!
//! All numbers are written as one is in LEB128: seven bits a byte, the lowest first, the
//! highest bit says that another byte follows. A *signed* number is doubled, and one less
//! than that of its absolute value where it is negative. Tables are written by columns,
//! since what is alike packs best side by side. `page/read.js` is the other side. In this
//! order:
//!
//! | part | is |
//! | --- | --- |
//! | head | number of bytes, then [`Head`] as JSON |
//! | strings | length in bytes of each; then the bytes of all |
//! | packages | columns: name, version, whether it is a dependency |
//! | frames | columns: kind, origin, function, file, package (+ 1; 0: none), line and column where the function starts, line and column where it was executing (0: unknown), tier (+ 1) × 2 + whether it is inlined, text of the line where it was executing |
//! | stacks | columns, without the empty stack, which is 0: how far back its caller's stack is, its frame |
//! | leaves | the stacks that samples have, those with most first |
//! | runs | for each thread its number of runs, then columns: start minus the end before, signed; length minus what is due for its count, signed; count; leaf |
//!
//! Strings are labels: safe to show, and cut where they are very long. Number 0 is the empty
//! one, which stands for what is not known. Times are in units
//! of [`Head::unit_us`].

use std::io::{self, Write};
use std::sync::Arc;

use rustc_hash::FxHashMap;
use serde::Serialize;

use super::runs::{Run, Runs, period_us};
use crate::formats::strings::Strings;
use crate::label::{file_name, function_name, process_command};
use crate::{
    Frame, Kind, Origin, Package, Position, Profile, StackId, Tier, source_label, visible,
};

/// The names that stand for the numbers of kinds and tiers.
const KINDS: [(Kind, &str); 6] = [
    (Kind::Js, "JavaScript"),
    (Kind::Builtin, "builtin"),
    (Kind::Wasm, "WebAssembly"),
    (Kind::Native, "native"),
    (Kind::Kernel, "kernel"),
    (Kind::Pseudo, "state"),
];
const TIERS: [(Tier, &str); 5] = [
    (Tier::Interpreted, "interpreted"),
    (Tier::Baseline, "baseline"),
    (Tier::Maglev, "maglev"),
    (Tier::Optimized, "optimized"),
    (Tier::Unoptimized, "unoptimized"),
];

/// How many characters of a command line are shown.
const MAX_COMMAND: usize = 1000;

/// What the page is told in words.
#[derive(Serialize)]
struct Head {
    sampler: String,
    rate_hz: u32,
    start: String,
    duration_us: u64,
    lost: u64,
    truncated: u64,
    incomplete: u64,
    samples: u64,
    /// How many microseconds a unit of time has.
    unit_us: u64,
    /// How many units a sample stands for.
    period: u64,
    /// Within how many microseconds the order of samples is not known.
    step_us: u64,
    has_times: bool,
    processes: Vec<HeadProcess>,
    threads: Vec<HeadThread>,
    kinds: Vec<&'static str>,
    tiers: Vec<&'static str>,
    origins: Vec<&'static str>,
    strings: usize,
    packages: usize,
    frames: usize,
    stacks: usize,
    leaves: usize,
}

#[derive(Serialize)]
struct HeadProcess {
    pid: u32,
    command: String,
    node: Option<String>,
    v8: Option<String>,
}

#[derive(Serialize)]
struct HeadThread {
    pid: u32,
    tid: u32,
    name: String,
}

/// Writes all that the page needs.
pub(super) fn write(profile: &Profile, out: &mut dyn Write) -> io::Result<()> {
    let runs = Runs::new(profile)?;
    let units = Units::new(profile, &runs);
    let mut strings = Strings::default();
    let mut packages = Packages::default();
    let frames: Vec<PackedFrame> = profile
        .frames()
        .iter()
        .map(|frame| PackedFrame::new(frame, &mut strings, &mut packages))
        .collect();
    let (leaves, number_of) = leaves(profile, &runs);
    let strings = strings.into_all();

    let head = serde_json::to_vec(&Head {
        strings: strings.len(),
        packages: packages.list.len(),
        frames: frames.len(),
        stacks: profile.stack_count(),
        leaves: leaves.len(),
        ..Head::new(profile, &runs, &units)
    })?;
    let mut out = Numbers(io::BufWriter::with_capacity(64 << 10, out));
    out.number(head.len() as u64)?;
    out.0.write_all(&head)?;
    for string in &strings {
        out.number(string.len() as u64)?;
    }
    for string in &strings {
        out.0.write_all(string.as_bytes())?;
    }
    for column in 0..3 {
        for package in &packages.list {
            out.number(package[column].into())?;
        }
    }
    for column in 0..PackedFrame::COLUMNS {
        for frame in &frames {
            out.number(frame.0[column].into())?;
        }
    }
    write_stacks(profile, &mut out)?;
    for &leaf in &leaves {
        out.number(leaf.index() as u64)?;
    }
    for thread in &runs.threads {
        write_runs(thread, &units, &number_of, &mut out)?;
    }
    out.0.flush()
}

impl Head {
    fn new(profile: &Profile, runs: &Runs, units: &Units) -> Head {
        let metadata = &profile.metadata;
        let processes = profile.processes().iter().map(|process| HeadProcess {
            pid: process.pid,
            command: process_command(process, MAX_COMMAND),
            node: process.node.as_deref().map(visible),
            v8: process.v8.as_deref().map(visible),
        });
        let threads = profile.threads().iter().map(|thread| HeadThread {
            pid: thread.pid,
            tid: thread.tid,
            name: visible(&thread.name),
        });
        Head {
            sampler: visible(&metadata.sampler),
            rate_hz: metadata.rate_hz,
            start: metadata.start.to_string(),
            duration_us: u64::try_from(metadata.duration.as_micros()).unwrap_or(u64::MAX),
            lost: metadata.lost,
            truncated: metadata.truncated,
            incomplete: metadata.incomplete,
            samples: profile.sample_count(),
            unit_us: units.unit_us,
            period: units.period,
            step_us: runs.step_us,
            has_times: runs.has_times,
            processes: processes.collect(),
            threads: threads.collect(),
            kinds: KINDS.iter().map(|it| it.1).collect(),
            tiers: TIERS.iter().map(|it| it.1).collect(),
            origins: Origin::ALL.iter().map(|it| it.name()).collect(),
            strings: 0,
            packages: 0,
            frames: 0,
            stacks: 0,
            leaves: 0,
        }
    }
}

/// In what times are counted: finer than anybody can see, and in numbers of 31 bits.
struct Units {
    unit_us: u64,
    period: u64,
}

impl Units {
    /// A sample's time is known to some percent of the time between two.
    const PER_PERIOD: u64 = 16;
    const MAX_TIME: u64 = 1 << 31;

    fn new(profile: &Profile, runs: &Runs) -> Units {
        let period_us = period_us(profile);
        let ends = runs.threads.iter().flatten().map(|run| run.end_us);
        let shortest = ends.max().unwrap_or(0) / Self::MAX_TIME + 1;
        let unit_us = (period_us / Self::PER_PERIOD).max(shortest);
        let period = (period_us + unit_us / 2) / unit_us;
        Units { unit_us, period }
    }

    fn of(&self, time_us: u64) -> u64 {
        time_us / self.unit_us
    }
}

/// A package's columns.
type PackedPackage = [u32; 3];

#[derive(Default)]
struct Packages {
    list: Vec<PackedPackage>,
    numbers: FxHashMap<PackedPackage, u32>,
    /// Frames share their packages, which need to be looked at once only.
    seen: FxHashMap<*const Package, u32>,
}

impl Packages {
    fn number(&mut self, package: &Arc<Package>, strings: &mut Strings) -> u32 {
        if let Some(&number) = self.seen.get(&Arc::as_ptr(package)) {
            return number;
        }
        let mut string = |text: &str| strings.number(&visible(text));
        let version = package.version.as_deref().map_or(0, &mut string);
        let packed = [
            string(&package.name),
            version,
            u32::from(package.is_dependency),
        ];
        let next = self.list.len() as u32;
        let number = *self.numbers.entry(packed).or_insert(next);
        if number == next {
            self.list.push(packed);
        }
        self.seen.insert(Arc::as_ptr(package), number);
        number
    }
}

/// A frame's columns.
struct PackedFrame([u32; PackedFrame::COLUMNS]);

impl PackedFrame {
    const COLUMNS: usize = 11;

    fn new(frame: &Frame, strings: &mut Strings, packages: &mut Packages) -> PackedFrame {
        let package = frame.package.as_ref();
        let tier = frame.tier.map_or(0, |tier| 1 + place(&TIERS, tier));
        let [line, column] = numbers(frame.position);
        let [function_line, function_column] = numbers(frame.function_position);
        let origin = Origin::of(frame);
        let origin = Origin::ALL.iter().position(|&it| it == origin);
        PackedFrame([
            place(&KINDS, frame.kind),
            origin.expect("one of all") as u32,
            strings.number(&function_name(frame)),
            frame
                .file
                .as_deref()
                .map_or(0, |it| strings.number(&file_name(it))),
            package.map_or(0, |package| packages.number(package, strings) + 1),
            function_line,
            function_column,
            line,
            column,
            tier * 2 + u32::from(frame.inlined),
            source_label(frame).map_or(0, |text| strings.number(&text)),
        ])
    }
}

fn place<T: PartialEq>(table: &[(T, &str)], value: T) -> u32 {
    let place = table.iter().position(|it| it.0 == value);
    place.expect("the table has all") as u32
}

fn numbers(position: Option<Position>) -> [u32; 2] {
    position.map_or([0, 0], |it| {
        [it.line.get(), it.column.map_or(0, |column| column.get())]
    })
}

/// The stacks that samples have, those with most first, so that the numbers that are
/// written most often are short; and the place of each.
fn leaves(profile: &Profile, runs: &Runs) -> (Vec<StackId>, Vec<u32>) {
    let mut counts = vec![0_u64; profile.stack_count()];
    for run in runs.threads.iter().flatten() {
        counts[run.stack.index()] += run.count;
    }
    let mut leaves: Vec<StackId> = profile
        .stack_ids()
        .filter(|stack| counts[stack.index()] > 0)
        .collect();
    leaves.sort_by_key(|stack| std::cmp::Reverse(counts[stack.index()]));
    let mut number_of = vec![u32::MAX; profile.stack_count()];
    for (number, leaf) in (0..).zip(&leaves) {
        number_of[leaf.index()] = number;
    }
    (leaves, number_of)
}

fn write_stacks<W: Write>(profile: &Profile, out: &mut Numbers<W>) -> io::Result<()> {
    let stacks = || {
        profile.stack_ids().filter_map(|stack| {
            let (caller, frame) = profile.caller_and_frame(stack)?;
            Some((stack.index() - caller.index(), frame.index()))
        })
    };
    for (back, _) in stacks() {
        out.number(back as u64)?;
    }
    for (_, frame) in stacks() {
        out.number(frame as u64)?;
    }
    Ok(())
}

fn write_runs<W: Write>(
    runs: &[Run],
    units: &Units,
    number_of: &[u32],
    out: &mut Numbers<W>,
) -> io::Result<()> {
    // A run without samples says nothing.
    let runs = || runs.iter().filter(|run| run.count > 0);
    out.number(runs().count() as u64)?;
    let mut end = 0;
    for run in runs() {
        out.signed(units.of(run.start_us) as i64 - end)?;
        end = units.of(run.end_us) as i64;
    }
    for run in runs() {
        let length = units.of(run.end_us) as i64 - units.of(run.start_us) as i64;
        let due = run.count.saturating_mul(units.period).cast_signed();
        out.signed(length.saturating_sub(due))?;
    }
    for run in runs() {
        out.number(run.count)?;
    }
    for run in runs() {
        out.number(number_of[run.stack.index()].into())?;
    }
    Ok(())
}

/// A writer of numbers.
struct Numbers<W: Write>(W);

impl<W: Write> Numbers<W> {
    fn number(&mut self, mut number: u64) -> io::Result<()> {
        let mut bytes = [0; 10];
        let mut len = 0;
        while number >= 0x80 {
            bytes[len] = number as u8 | 0x80;
            len += 1;
            number >>= 7;
        }
        bytes[len] = number as u8;
        self.0.write_all(&bytes[..=len])
    }

    fn signed(&mut self, number: i64) -> io::Result<()> {
        self.number(((number << 1) ^ (number >> 63)).cast_unsigned())
    }
}
