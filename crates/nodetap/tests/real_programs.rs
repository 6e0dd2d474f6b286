//! Real programs, against V8's own CPU profiler on the same work, at the same time.
//!
//! Not in turn: what V8 compiles, and what it inlines where, is not the same when the
//! same process does the same work again.

mod common;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::num::NonZero;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use common::as_v8;
use common::cpu_profile::CpuProfile;
use common::matrix::{self, Node, Test};
use common::target::Target as Process;
use nodetap_profile::{Frame, Kind, Metadata, Profile};
use nodetap_sampler::ebpf::{self, EbpfSampler};
use nodetap_sampler::raw::RawSample;
use nodetap_sampler::target::Target;
use nodetap_symbols::{Options, Symbolizer};

const RATE_HZ: u32 = 999;
const MAX_DEPTH: u32 = 512;

/// A function: name, file, line and column where it starts.
type Function = (Arc<str>, Arc<str>, u32, u32);

/// What was seen at a moment.
struct Sample {
    /// In microseconds of the system's monotonic clock.
    time: i64,
    /// The functions on the stack, outermost first.
    stack: Vec<Function>,
    /// How many of them, the outermost, V8's profiler would have seen.
    seen: usize,
}

/// In how many samples each function was on top, and on the stack.
#[derive(Default)]
struct Times<'a> {
    samples: f64,
    own: BTreeMap<&'a Function, f64>,
    total: BTreeMap<&'a Function, f64>,
}

impl<'a> Times<'a> {
    /// Those of stacks, outermost first.
    fn of(stacks: impl Iterator<Item = &'a [Function]>) -> Times<'a> {
        let mut times = Times::default();
        for stack in stacks {
            let Some(top) = stack.last() else {
                continue;
            };
            times.samples += 1.0;
            *times.own.entry(top).or_default() += 1.0;
            for function in BTreeSet::from_iter(stack) {
                *times.total.entry(function).or_default() += 1.0;
            }
        }
        times
    }
}

/// How many microseconds after the one before a tick of V8's profiler, at 1 kHz, comes in
/// its time. One that is late found the thread waiting for a processor, and says where it
/// lost it; those that make up for it come in a burst, at one place. nodetap samples the
/// time on the processor alone.
const IN_TIME: Range<i64> = 500..2000;

/// What V8's profiler saw of the work that `process` has done. What it shows on top of a
/// function that has no script (a builtin, a C++ function) is that one's own time, as with
/// nodetap; collecting garbage is left out of both.
fn profiled(mut process: Process, path: &Path) -> Vec<Sample> {
    process.tell("write it");
    process.wait();
    let text = fs::read_to_string(path).expect("a profile");
    let profile: CpuProfile = serde_json::from_str(&text).expect("a .cpuprofile");
    let stacks = profile.stacks();
    let nodes = profile.nodes.iter();
    let names: BTreeMap<u32, &str> = nodes
        .map(|node| (node.id, node.call_frame.function_name.as_str()))
        .collect();
    let mut samples = Vec::new();
    let mut time = profile.start_time;
    for (id, delta) in profile.samples.iter().zip(&profile.time_deltas) {
        time += delta;
        if names[id] == "(garbage collector)" || !IN_TIME.contains(delta) {
            continue;
        }
        let scripted = stacks[id].iter().filter(|frame| !frame.url.is_empty());
        let functions = scripted.map(|frame| {
            let file = frame.url.strip_prefix("file://").unwrap_or(&frame.url);
            let (line, column) = frame.start();
            (frame.name().into(), file.into(), line, column)
        });
        let stack: Vec<Function> = functions.collect();
        samples.push(Sample {
            time,
            seen: stack.len(),
            stack,
        });
    }
    samples
}

/// How long samples may wait to be named, as in nodetap's own recordings.
const POLL_INTERVAL: Duration = Duration::from_millis(20);

/// Records the work of `process`. By nodetap's libraries rather than by its command, for
/// what V8's profiler would have made of a sample is not told by the names alone.
fn recorded(node: &Node, mut process: Process) -> (Vec<Sample>, Process) {
    let target = Target::attach(process.pid()).expect("attach");
    let mut symbolizer = Symbolizer::new(Options::default());
    symbolizer.attach(&target).expect("its mappings");
    let mut profile = Profile::new(Metadata::new("ebpf", RATE_HZ));
    let watched = [(target.pid, target.config(MAX_DEPTH))];
    let mut sampler =
        EbpfSampler::start(&ebpf::Options::with_rate(RATE_HZ), &watched).expect("the eBPF sampler");
    process.tell("go");
    let done = thread::spawn(move || {
        assert_eq!(process.line(), "done");
        process
    });
    let mut recorded = Vec::new();
    while !done.is_finished() {
        let mut batch: Vec<RawSample> = Vec::new();
        sampler
            .poll(POLL_INTERVAL, &mut |sample| batch.push(sample.to_owned()))
            .expect("poll");
        symbolizer.begin_batch(&target);
        for sample in batch.iter().filter(|sample| sample.tid == target.pid) {
            let reference = sample.as_ref();
            // This waits until all is known of the frames: then they are added at once.
            let mut named = symbolizer.stacks(&target, [reference], &mut profile);
            symbolizer.add(&target, &reference, Duration::ZERO, &mut profile);
            let Some(named) = named.pop().flatten() else {
                continue;
            };
            let shown = profile.last_sample().expect("it was added").stack;
            let mut shown = profile.stack_frames(shown).map(|id| profile.frame(id));
            if shown.any(|frame| &*frame.function == "(garbage collector)")
                || named.frames.iter().any(is_of_profiler)
            {
                continue;
            }
            let seen = as_v8::first_seen(node, &target, sample, &named.frames);
            recorded.push(Sample {
                time: i64::try_from(sample.time_ns / 1000).expect("a time"),
                stack: functions(&named.frames),
                seen: functions(&named.frames[seen..]).len(),
            });
        }
    }
    assert_eq!(sampler.stop(&mut |_| {}).expect("stop"), 0);
    (recorded, done.join().expect("it did its work"))
}

/// Whether a frame is V8's profiler's own: it interrupts the thread to take its stack.
fn is_of_profiler(frame: &Frame) -> bool {
    frame.function.contains("HandleProfilerSignal")
}

/// The functions of a stack's frames in scripts, outermost first.
fn functions(innermost_first: &[Frame]) -> Vec<Function> {
    let is_js = |frame: &&Frame| frame.kind == Kind::Js;
    let function = |frame: &Frame| {
        let start = frame.function_position;
        let line = start.map_or(0, |start| start.line.get());
        let column = start.and_then(|start| start.column).map_or(0, NonZero::get);
        let file = frame.file.clone().unwrap_or_default();
        (frame.function.clone(), file, line, column)
    };
    let js = innermost_first.iter().rev().filter(is_js);
    js.map(function).collect()
}

/// How many microseconds apart two looks at the same moment may be.
const MOMENT: i64 = 1000;

/// What both saw, each moment once. Where the thread has to wait for a processor, V8's
/// profiler has few ticks in their time for what it does then, and nodetap has all.
fn same_moments<'a>(theirs: &'a [Sample], ours: &'a [Sample]) -> Vec<(&'a Sample, &'a Sample)> {
    let mut pairs = Vec::new();
    let mut ours = ours.iter().peekable();
    for tick in theirs.iter().filter(|tick| !tick.stack.is_empty()) {
        while ours.next_if(|it| it.time < tick.time - MOMENT).is_some() {}
        if let Some(sample) = ours.next_if(|it| it.time <= tick.time + MOMENT) {
            pairs.push((tick, sample));
        }
    }
    pairs
}

/// Pearson's coefficient of pairs.
fn correlation(pairs: &[(f64, f64)]) -> f64 {
    let n = pairs.len() as f64;
    let mean = |of: fn(&(f64, f64)) -> f64| pairs.iter().map(of).sum::<f64>() / n;
    let (x, y) = (mean(|p| p.0), mean(|p| p.1));
    let sum = |f: &dyn Fn(&(f64, f64)) -> f64| pairs.iter().map(f).sum::<f64>();
    let together = sum(&|p| (p.0 - x) * (p.1 - y));
    together / (sum(&|p| (p.0 - x).powi(2)) * sum(&|p| (p.1 - y).powi(2))).sqrt()
}

/// How far two looks at the same are apart.
struct Comparison {
    /// The most by which the shares of own time differ, in points, of the functions that
    /// have most of it.
    worst: f64,
    /// The coefficient of the shares of all functions' total time.
    correlation: f64,
    /// The shares that were compared.
    lines: String,
}

fn compare(theirs: &Times, ours: &Times) -> Comparison {
    let share = |times: &Times, of: &BTreeMap<&Function, f64>, function: &Function| {
        of.get(function).copied().unwrap_or(0.0) / times.samples
    };
    let mut hottest: Vec<&Function> = theirs.own.keys().copied().collect();
    hottest.sort_by(|a, b| theirs.own[*b].total_cmp(&theirs.own[*a]));
    let mut worst: f64 = 0.0;
    let mut lines = String::new();
    for function in hottest.into_iter().take(20) {
        let a = 100.0 * share(theirs, &theirs.own, function);
        let b = 100.0 * share(ours, &ours.own, function);
        worst = worst.max((a - b).abs());
        lines += &format!(
            "  {a:5.2} % {b:5.2} % {} {}:{}\n",
            function.0, function.1, function.2
        );
    }
    let all: BTreeSet<&Function> = theirs
        .total
        .keys()
        .chain(ours.total.keys())
        .copied()
        .collect();
    let pairs = all.into_iter().map(|it| {
        let ours = share(ours, &ours.total, it);
        (share(theirs, &theirs.total, it), ours)
    });
    Comparison {
        worst,
        correlation: correlation(&pairs.collect::<Vec<_>>()),
        lines,
    }
}

fn check(node: &Node, program: &str) {
    common::measure(|| {
        let _alone = common::one_at_a_time();
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = folder.path().join("work.cpuprofile");
        let modules = common::programs();
        let text = |path: &Path| path.to_str().expect("UTF-8").to_owned();
        let arguments = [program, &text(&modules), &text(&path)];
        let process = Process::start(&node.version, &[], "real.js", &arguments);
        let (ours, process) = recorded(node, process.wait_until_ready());
        let theirs = profiled(process, &path);
        let pairs = same_moments(&theirs, &ours);
        let theirs = Times::of(pairs.iter().map(|(tick, _)| &*tick.stack));
        let [shown, as_v8] = [false, true].map(|as_v8| {
            let seen = |ours: &Sample| if as_v8 { ours.seen } else { ours.stack.len() };
            let ours = Times::of(pairs.iter().map(|(_, ours)| &ours.stack[..seen(ours)]));
            compare(&theirs, &ours)
        });
        let line = format!(
            "{program} on {}: {} moments that both saw of {}, at most {:.2} points apart, \
             r = {:.4}; with all that V8's profiler leaves out {:.2} and {:.4}",
            node.version,
            pairs.len(),
            ours.len(),
            as_v8.worst,
            as_v8.correlation,
            shown.worst,
            shown.correlation,
        );
        eprintln!("{line}");
        assert!(
            as_v8.worst <= 2.0 && as_v8.correlation >= 0.98 && shown.correlation >= 0.98,
            "{line}\n{}",
            as_v8.lines
        );
    });
}

fn main() -> std::process::ExitCode {
    let tests = ["minifier", "compiler", "bundler"];
    // Those programs do not run on what is older.
    matrix::main(
        tests.map(|program| Test::new(program, 18, move |node| check(node, program)).long()),
    )
}
