//! Real programs, against V8's own CPU profiler on the same work.

mod common;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::process::{Command, Stdio};
use std::thread;
use std::time::Duration;

use common::cpu_profile::CpuProfile;
use common::matrix::{self, Node, Test};
use common::recording::Recording;
use common::target::Target;

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

/// What V8's profiler saw. What it shows on top of a function that has no script (a
/// builtin, a C++ function) is that one's own time, as with nodetap; collecting garbage is
/// left out of both.
fn profiled(node: &Node, program: &str) -> Times {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = folder.path().join("work.cpuprofile");
    let modules = common::programs();
    let arguments = [
        program,
        modules.to_str().expect("UTF-8"),
        path.to_str().expect("UTF-8"),
    ];
    let target = Target::start(&node.version, &[], "real.js", &arguments);
    let mut target = target.wait_until_ready();
    target.tell("go");
    target.wait();
    let text = fs::read_to_string(path).expect("a profile");
    let profile: CpuProfile = serde_json::from_str(&text).expect("a .cpuprofile");
    let stacks = profile.stacks();
    let names: BTreeMap<u32, &str> = profile
        .nodes
        .iter()
        .map(|node| (node.id, node.call_frame.function_name.as_str()))
        .collect();
    let mut times = Times::default();
    for id in &profile.samples {
        if names[id] == "(garbage collector)" {
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

/// What nodetap saw of another run of the same.
fn recorded(node: &Node, program: &str) -> Times {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = folder.path().join("recording.json");
    let modules = common::programs();
    let arguments = [program, modules.to_str().expect("UTF-8")];
    let target = Target::start(&node.version, &[], "real.js", &arguments);
    let mut target = target.wait_until_ready();
    let mut nodetap = Command::new(env!("CARGO_BIN_EXE_nodetap"))
        .args(["record", "-f", "json", "-r", "999", "-p"])
        .arg(target.pid().to_string())
        .arg("-o")
        .arg(&path)
        .stdin(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("cannot run nodetap");
    // It is given the time to attach.
    thread::sleep(Duration::from_secs(1));
    let pid = target.pid();
    target.tell("go");
    // The recording ends with the target.
    target.wait();
    assert!(nodetap.wait().expect("wait").success());
    let text = fs::read_to_string(path).expect("a recording");
    let recording: Recording = serde_json::from_str(&text).expect("the JSON of a record");
    assert_eq!(recording.lost, 0);
    let mut times = Times::default();
    for (stack, count) in recording.stacks_of(pid) {
        if stack
            .iter()
            .any(|frame| frame.function == "(garbage collector)")
        {
            continue;
        }
        let js = stack.iter().filter(|frame| frame.is_js());
        let functions = js.map(|frame| {
            let file = frame.file.clone().unwrap_or_default();
            let (line, column) = (frame.function_line, frame.function_column);
            let start = (line.unwrap_or(0), column.unwrap_or(0));
            (frame.function.clone(), file, start.0, start.1)
        });
        times.add(functions.collect(), count as f64);
    }
    times
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

/// How far apart, in points, the shares of own time may be. For two functions of the
/// minifier, which call each other deep down and are inlined in one another, V8's profiler
/// and nodetap differ by up to seven; what they have in all is the same.
fn allowed(program: &str) -> f64 {
    match program {
        "minifier" => 9.0,
        _ => 2.0,
    }
}

fn check(node: &Node, program: &str) {
    common::measure(|| {
        let _alone = common::one_at_a_time();
        let (theirs, ours) = (profiled(node, program), recorded(node, program));
        let share = |times: &Times, of: &BTreeMap<Function, f64>, function: &Function| {
            of.get(function).copied().unwrap_or(0.0) / times.samples
        };
        let mut hottest: Vec<&Function> = theirs.own.keys().collect();
        hottest.sort_by(|a, b| theirs.own[*b].total_cmp(&theirs.own[*a]));
        let mut worst: f64 = 0.0;
        let mut lines = String::new();
        for function in hottest.iter().take(20) {
            let a = 100.0 * share(&theirs, &theirs.own, function);
            let b = 100.0 * share(&ours, &ours.own, function);
            worst = worst.max((a - b).abs());
            lines += &format!(
                "  {a:5.2} % {b:5.2} % {} {}:{}\n",
                function.0, function.1, function.2
            );
        }
        let all: BTreeSet<&Function> = theirs.total.keys().chain(ours.total.keys()).collect();
        let pairs: Vec<(f64, f64)> = all
            .iter()
            .map(|it| {
                (
                    share(&theirs, &theirs.total, it),
                    share(&ours, &ours.total, it),
                )
            })
            .collect();
        let correlation = correlation(&pairs);
        let line = format!(
            "{program} on {}: {} and {} samples, at most {worst:.2} points apart, r = {correlation:.4}",
            node.version, theirs.samples, ours.samples
        );
        eprintln!("{line}");
        assert!(
            worst <= allowed(program) && correlation >= 0.98,
            "{line}\n{lines}"
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
