//! What nodetap says of stacks through WebAssembly against what V8 says of them.
//!
//! The fixture `wasm` goes through a module or several, reports all its call sites at
//! the innermost point, and spins there: in a function of the module, or in one that it
//! imports. Of the samples of that thread, 99 in 100 must be exactly that stack, none of
//! its frames missing, none between. What the functions of WebAssembly are called and
//! where they start is asked of V8's own CPU profiler too.

mod common;

use std::collections::BTreeSet;
use std::fs;
use std::process::{Command, Stdio};

use common::matrix::{self, Node, Test};
use common::recording::{Frame, Recording, record};
use common::target::Target;
use serde::Deserialize;

const FIXTURE: &str = "wasm/main.js";

/// The first version whose WebAssembly frames are known.
const SINCE: u32 = 8;

/// How V8 is made to run the module, and since when it can be.
const TIERS: [(&str, u32, &[&str]); 3] = [
    ("default", SINCE, &[]),
    ("liftoff", 10, &["--liftoff", "--no-wasm-tier-up"]),
    ("turbofan", 10, &["--no-liftoff"]),
];

/// A frame as the fixture reports it.
#[derive(Debug, Deserialize)]
struct Site {
    kind: String,
    /// Of WebAssembly only.
    function: Option<String>,
    /// Absent where V8 has none to say.
    file: Option<String>,
    line: u32,
    column: Option<u32>,
    /// Instead, from the function's start.
    offset: Option<u32>,
}

impl Site {
    /// Whether `frame` is this one, apart from where in it.
    fn is_of(&self, frame: &Frame) -> bool {
        frame.kind == self.kind
            && self
                .function
                .as_ref()
                .is_none_or(|it| *it == frame.function)
            && (self.file.is_none() || frame.file == self.file)
    }

    /// Whether `frame` is this one and where it is.
    fn is(&self, frame: &Frame) -> bool {
        self.is_of(frame) && frame.line == Some(self.line) && frame.column == self.column_in(frame)
    }

    fn column_in(&self, frame: &Frame) -> Option<u32> {
        let from_start = || Some(frame.function_column? + self.offset?);
        self.column.or_else(from_start)
    }

    /// Whether `frame` is this one where it spins. Of WebAssembly, only the places of
    /// calls are known.
    fn spins(&self, frame: &Frame) -> bool {
        let here = match self.kind.as_str() {
            "wasm" => frame.line.is_none_or(|line| line == 1),
            _ => frame.line == Some(self.line),
        };
        self.is_of(frame) && here
    }
}

/// The frames of a stack that the program has, not V8 or the system for it.
fn script<'a>(stack: &[&'a Frame]) -> Vec<&'a Frame> {
    let frames = stack.iter().copied();
    let is_script = |frame: &&Frame| frame.is_js() || frame.kind == "wasm";
    frames.filter(is_script).collect()
}

/// Whether a stack is the true one; both outermost first. `spin` may have called `mix`.
fn is_true(stack: &[&Frame], truth: &[Site]) -> bool {
    let stack = script(stack);
    let (Some(innermost), callers) = (truth.last(), &truth[..truth.len() - 1]) else {
        return false;
    };
    let spins = match stack.get(callers.len()..) {
        Some([spinner]) => innermost.spins(spinner),
        Some([spinner, callee]) => {
            // Which of the two calls it is, V8 cannot be asked; it is not the one that
            // reported.
            let calls = spinner.column != innermost.column_in(spinner) && spinner.column.is_some();
            let is_mix = ["mix", "wasm-function[5]"].contains(&&*callee.function);
            innermost.kind == "wasm"
                && innermost.is_of(spinner)
                && calls
                && is_mix
                && callee.kind == "wasm"
                && callee.file == spinner.file
        }
        _ => false,
    };
    spins
        && callers
            .iter()
            .zip(&stack)
            .all(|(site, frame)| site.is(frame))
}

#[derive(Deserialize)]
struct CpuProfile {
    nodes: Vec<ProfileNode>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ProfileNode {
    call_frame: CallFrame,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct CallFrame {
    function_name: String,
    url: String,
    line_number: i64,
    column_number: i64,
}

/// What V8's CPU profiler says of the functions of WebAssembly: name, URL, column.
fn ask_profiler(node: &Node, chain: &str) -> BTreeSet<(String, String, i64)> {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let status = Command::new(common::node(&node.version))
        .args(["--cpu-prof", "--cpu-prof-name=wasm.cpuprofile"])
        .arg(format!("--cpu-prof-dir={}", folder.path().display()))
        .arg(common::fixture(FIXTURE))
        .args([chain, "--bounded"])
        .stdout(Stdio::null())
        .status()
        .expect("cannot run node");
    assert!(status.success(), "{status}");
    let text = fs::read_to_string(folder.path().join("wasm.cpuprofile")).expect("a profile");
    let profile: CpuProfile = serde_json::from_str(&text).expect("a .cpuprofile");
    let frames = profile.nodes.into_iter().map(|node| node.call_frame);
    frames
        .filter(|frame| {
            frame.url.starts_with("wasm") && !frame.function_name.starts_with("wasm-to")
        })
        .inspect(|frame| assert!(frame.line_number <= 0, "a module has one line"))
        .map(|frame| (frame.function_name, frame.url, frame.column_number + 1))
        .collect()
}

/// The thread that ran the most WebAssembly.
fn busiest(recording: &Recording) -> u32 {
    let tids = recording.threads.iter().map(|thread| thread.tid);
    let spins = |stack: &[&Frame]| stack.iter().any(|frame| frame.kind == "wasm");
    tids.max_by_key(|&tid| recording.count(tid, spins))
        .expect("a thread")
}

fn list<'a>(frames: impl IntoIterator<Item = &'a Frame>) -> String {
    frames.into_iter().map(|f| format!("    {f}\n")).collect()
}

/// Records the fixture and compares the samples with what it reports.
fn check(node: &Node, chain: &str, flags: &[&str], options: &[&str]) {
    common::measure(|| check_once(node, chain, flags, options));
}

fn check_once(node: &Node, chain: &str, flags: &[&str], options: &[&str]) {
    let _alone = common::one_at_a_time();
    let arguments = [&[chain], options].concat();
    let mut target = Target::start(&node.version, flags, FIXTURE, &arguments);
    let mut truth: Vec<Site> = serde_json::from_str(&target.line()).expect("call sites");
    truth.reverse();
    let recording = record(&target, 1.0, &[]);
    assert_eq!(recording.lost, 0, "{}", recording.notes);

    let thread = busiest(&recording);
    let all = recording.samples_of(thread);
    let right = recording.count(thread, |stack| is_true(stack, &truth));
    if all < 20 || (right as f64) < 0.99 * all as f64 {
        let mut wrong = recording.stacks_of(thread);
        wrong.retain(|(stack, _)| !is_true(stack, &truth));
        wrong.sort_by_key(|&(_, count)| std::cmp::Reverse(count));
        let wrong: String = wrong
            .iter()
            .take(3)
            .map(|(stack, count)| {
                let shown = stack.iter().rev().take(9).rev();
                format!("{count} samples:\n{}", list(shown.copied()))
            })
            .collect();
        let truth = &truth[truth.len().saturating_sub(9)..];
        panic!("{right} of {all} samples are right; true: {truth:#?}\nothers:\n{wrong}");
    }
}

/// Names, URLs and starts are those that V8's profiler has. Before 16 it has names only.
fn check_names(node: &Node, chain: &str) {
    let told = |frame: (String, String, i64)| match node.major() {
        16.. => frame,
        _ => (frame.0, String::new(), 0),
    };
    let profiled: BTreeSet<_> = ask_profiler(node, chain).into_iter().map(told).collect();
    assert!(profiled.len() >= 3, "the profiler saw {profiled:?}");
    let _alone = common::one_at_a_time();
    let mut target = Target::start(&node.version, &[], FIXTURE, &[chain]);
    target.line();
    let recording = record(&target, 1.0, &[]);
    let recorded: BTreeSet<(String, String, i64)> = recording
        .frames
        .iter()
        .filter(|frame| frame.kind == "wasm")
        .map(|frame| {
            assert_eq!(frame.function_line, Some(1), "{frame}");
            let column = frame.function_column.map_or(-1, i64::from);
            let file = frame.file.clone().unwrap_or_default();
            told((frame.function.clone(), file, column))
        })
        .collect();
    assert_eq!(recorded, profiled);
}

fn main() -> std::process::ExitCode {
    let chains = [
        ("inside", "named.enter"),
        (
            "modules",
            "named.leave,bare.leave,named.leaveByTable,bare.enter",
        ),
    ];
    let mut tests = Vec::new();
    for (name, chain) in chains {
        for (tier, since, flags) in TIERS {
            tests.push(Test::new(&format!("{name}_{tier}"), since, move |node| {
                check(node, chain, flags, &[]);
            }));
        }
        // Functions are inlined in each other, the wrappers in JavaScript.
        tests.push(Test::new(&format!("{name}_warm"), SINCE, move |node| {
            check(node, chain, &[], &["--warm"]);
        }));
    }
    tests.push(Test::new("outside", SINCE, |node| {
        check(node, "bare.leaveByTable", &[], &["--warm"]);
    }));
    // The code on the stack is not the newest any more.
    tests.push(Test::new("replaced", SINCE, |node| {
        check(node, "named.leave,bare.leave", &[], &["--replace"]);
    }));
    // 12 is the first that has workers and `--cpu-prof` without being asked for them.
    tests.push(Test::new("worker", 12, |node| {
        check(node, "bare.leave,named.enter", &[], &["--worker"]);
    }));
    tests.push(Test::new("names", 12, |node| {
        check_names(node, "named.enter")
    }));
    let no_names = Test::new("no_names", 12, |node| check_names(node, "bare.enter"));
    // V8 8.1's profiler calls them all `<wasm-unnamed>`.
    tests.push(no_names.only_on(|node| !node.is_of("14.0.")));
    let always = ["modules_warm", "outside", "names"];
    let seldom = |test: Test| test.seldom_if(|name| !always.contains(&name));
    // Of WebAssembly nothing but that it is some is known of Node.js 10.0: its frames keep no
    // instance, and V8 6.6 finds code in a map of all addresses, to which no frame leads.
    let tests = tests
        .into_iter()
        .map(|test| test.only_on(|node| !node.is_of("10.0.")));
    matrix::main(tests.map(seldom))
}
