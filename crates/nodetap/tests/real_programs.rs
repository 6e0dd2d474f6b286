//! Real programs, against V8's own CPU profiler on the same work.

mod common;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::num::NonZero;
use std::ops::Range;
use std::path::Path;
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
type Function = (String, String, u32, u32);

/// In how many samples each function was on top, and on the stack.
#[derive(Default)]
struct Times {
    samples: f64,
    own: BTreeMap<Function, f64>,
    total: BTreeMap<Function, f64>,
}

impl Times {
    /// Adds `count` samples of a stack, outermost first.
    fn add(&mut self, stack: Vec<Function>, count: f64) {
        let Some(top) = stack.last() else {
            return;
        };
        self.samples += count;
        *self.own.entry(top.clone()).or_default() += count;
        for function in BTreeSet::from_iter(stack) {
            *self.total.entry(function).or_default() += count;
        }
    }
}

/// How many microseconds after the one before a tick of V8's profiler, at 1 kHz, comes in
/// its time. One that is late found the thread waiting for a processor, and says where it
/// lost it; those that make up for it come in a burst, at one place. nodetap samples the
/// time on the processor alone.
const IN_TIME: Range<i64> = 500..2000;

/// What V8's profiler saw of the work that `process` does again. What it shows on top of a
/// function that has no script (a builtin, a C++ function) is that one's own time, as with
/// nodetap; collecting garbage is left out of both.
fn profiled(mut process: Process, path: &Path) -> Times {
    process.tell("go");
    process.wait();
    let text = fs::read_to_string(path).expect("a profile");
    let profile: CpuProfile = serde_json::from_str(&text).expect("a .cpuprofile");
    let stacks = profile.stacks();
    let names: BTreeMap<u32, &str> = profile
        .nodes
        .iter()
        .map(|node| (node.id, node.call_frame.function_name.as_str()))
        .collect();
    let mut times = Times::default();
    for (id, delta) in profile.samples.iter().zip(&profile.time_deltas) {
        if names[id] == "(garbage collector)" || !IN_TIME.contains(delta) {
            continue;
        }
        let scripted = stacks[id].iter().filter(|frame| !frame.url.is_empty());
        let functions = scripted.map(|frame| {
            let file = frame.url.strip_prefix("file://").unwrap_or(&frame.url);
            let (line, column) = frame.start();
            (frame.name(), file.to_owned(), line, column)
        });
        times.add(functions.collect(), 1.0);
    }
    times
}

/// What nodetap saw of the same work.
#[derive(Default)]
struct Recorded {
    /// As it shows it.
    times: Times,
    /// Without the frames that V8's profiler does not see.
    as_v8: Times,
}

/// How long samples may wait to be named, as in nodetap's own recordings.
const POLL_INTERVAL: Duration = Duration::from_millis(20);

/// Records the work of `process`. By nodetap's libraries rather than by its command, for
/// what V8's profiler would have made of a sample is not told by the names alone.
fn recorded(node: &Node, mut process: Process) -> (Recorded, Process) {
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
    let mut recorded = Recorded::default();
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
            if shown.any(|frame| &*frame.function == "(garbage collector)") {
                continue;
            }
            let seen = as_v8::first_seen(node, &target, sample, &named.frames);
            recorded.times.add(functions(&named.frames), 1.0);
            recorded.as_v8.add(functions(&named.frames[seen..]), 1.0);
        }
    }
    assert_eq!(sampler.stop(&mut |_| {}).expect("stop"), 0);
    (recorded, done.join().expect("it did its work"))
}

/// The functions of a stack's frames in scripts, outermost first.
fn functions(innermost_first: &[Frame]) -> Vec<Function> {
    let is_js = |frame: &&Frame| frame.kind == Kind::Js;
    let function = |frame: &Frame| {
        let file = frame.file.as_deref().unwrap_or_default().to_owned();
        let start = frame.function_position;
        let line = start.map_or(0, |start| start.line.get());
        let column = start.and_then(|start| start.column).map_or(0, NonZero::get);
        (frame.function.to_string(), file, line, column)
    };
    let js = innermost_first.iter().rev().filter(is_js);
    js.map(function).collect()
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
    let share = |times: &Times, of: &BTreeMap<Function, f64>, function: &Function| {
        of.get(function).copied().unwrap_or(0.0) / times.samples
    };
    let mut hottest: Vec<&Function> = theirs.own.keys().collect();
    hottest.sort_by(|a, b| theirs.own[*b].total_cmp(&theirs.own[*a]));
    let mut worst: f64 = 0.0;
    let mut lines = String::new();
    for function in hottest.iter().take(20) {
        let a = 100.0 * share(theirs, &theirs.own, function);
        let b = 100.0 * share(ours, &ours.own, function);
        worst = worst.max((a - b).abs());
        lines += &format!(
            "  {a:5.2} % {b:5.2} % {} {}:{}\n",
            function.0, function.1, function.2
        );
    }
    let all: BTreeSet<&Function> = theirs.total.keys().chain(ours.total.keys()).collect();
    let pairs = all.iter().map(|it| {
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
        // One process: what V8 compiles, and what it inlines where, is never twice the same.
        let process = Process::start(&node.version, &[], "real.js", &arguments);
        let (ours, process) = recorded(node, process.wait_until_ready());
        let theirs = profiled(process, &path);
        let [shown, as_v8] = [&ours.times, &ours.as_v8].map(|ours| compare(&theirs, ours));
        let line = format!(
            "{program} on {}: {} and {} samples, at most {:.2} points apart, r = {:.4}; \
             with all that V8's profiler leaves out {:.2} and {:.4}",
            node.version,
            theirs.samples,
            ours.times.samples,
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
