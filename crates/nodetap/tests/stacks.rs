//! Every kind of stack against what the program says of it.
//!
//! The fixture `stacks` calls a spinner from stacks of more than a hundred kinds, one
//! after the other: callbacks of builtins, conversions, traps of proxies, generators,
//! what the event loop calls, workers, native addons. Each time the spinner collects its
//! own call sites (`Error.prepareStackTrace`) and says when it spun. What the functions
//! are called and where they start is asked of V8's own CPU profiler, in another run;
//! before Node.js 8 the call sites say what they are called.
//!
//! Each stack is there twice: when it is entered for the first time, and when what leads
//! there ran until it had been optimized.
//!
//! Of the samples of that time, 99 in 100 must be exactly that stack.

mod common;

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::process::Command;
use std::time::{Duration, UNIX_EPOCH};

use common::cpu_profile::{self, CallFrame, CpuProfile};
use common::matrix::{self, Node, Test};
use common::recording::{self, Frame, Recording};
use common::target::Target;
use common::truth::{self, CallSite, Place, TrueFrame};
use serde::Deserialize;

/// What the fixture says of one stack.
#[derive(Debug, Deserialize)]
struct Report {
    kind: String,
    /// Innermost first.
    sites: Vec<NamedSite>,
    /// From when to when it spun, by `process.hrtime` in microseconds.
    monotonic: [i64; 2],
    /// Likewise, in milliseconds since 1970.
    wall: [u64; 2],
}

/// A call site, and what its function is called.
#[derive(Debug, Deserialize)]
struct NamedSite {
    function: String,
    #[serde(flatten)]
    site: CallSite,
}

/// The function in which all kinds spin, and what it calls to read the time.
const SPINNER: &str = "spin";
const CLOCK: &str = "used";

/// The functions on the stack of a report, outermost first, as V8's profiler saw them;
/// `None` if it did not, on a busy machine.
fn functions(report: &Report, profiles: &[CpuProfile]) -> Option<Vec<CallFrame>> {
    let mut seen: BTreeMap<Vec<CallFrame>, u64> = BTreeMap::new();
    for profile in profiles {
        let stacks = profile.stacks();
        let mut time = profile.start_time;
        for (node, delta) in profile.samples.iter().zip(&profile.time_deltas) {
            time += delta;
            if !(report.monotonic[0]..report.monotonic[1]).contains(&time) {
                continue;
            }
            let stack = &stacks[node];
            if let Some(spinner) = stack.iter().position(|it| it.function_name == SPINNER) {
                let stack = stack[..=spinner].iter().map(|&it| it.clone()).collect();
                *seen.entry(stack).or_default() += 1;
            }
        }
    }
    let (stack, _) = seen.into_iter().max_by_key(|&(_, count)| count)?;
    let sites = report.sites.len();
    assert_eq!(stack.len(), sites, "{:?}: {stack:#?}", report.kind);
    Some(stack)
}

/// What V8's profiler calls the functions that wait at a call site. Places in scripts
/// without a name are only those of one kind. In Node's own scripts a function may wait
/// at one place this time and at another the next.
#[derive(Default)]
struct Names {
    of_kind: BTreeMap<(String, CallSite), CallFrame>,
    anywhere: BTreeMap<CallSite, CallFrame>,
    of_function: BTreeMap<(String, Option<String>), CallFrame>,
}

impl Names {
    /// Learns those of a report; tells whether the profiler saw its stack.
    fn learn(&mut self, report: &Report, profiles: &[CpuProfile]) -> bool {
        let Some(functions) = functions(report, profiles) else {
            return false;
        };
        for (named, function) in report.sites.iter().rev().zip(functions) {
            let of_kind = (report.kind.clone(), named.site.clone());
            self.of_kind.insert(of_kind, function.clone());
            self.anywhere.insert(named.site.clone(), function.clone());
            let of_function = (named.function.clone(), named.site.file.clone());
            self.of_function.insert(of_function, function);
        }
        true
    }

    /// The true stack that `report` tells, outermost first.
    fn true_stack(&self, node: &Node, report: &Report) -> Vec<TrueFrame> {
        if !has_profiler(node) {
            return report.sites.iter().rev().map(NamedSite::frame).collect();
        }
        let name = |named: &NamedSite| {
            let of_kind = (report.kind.clone(), named.site.clone());
            let of_function = (named.function.clone(), named.site.file.clone());
            let known = self.of_kind.get(&of_kind);
            let known = known.or_else(|| self.anywhere.get(&named.site));
            known.or_else(|| self.of_function.get(&of_function))
        };
        let frame = |named: &NamedSite| match name(named) {
            Some(function) => {
                let sites = vec![named.site.clone()];
                truth::true_stack(node, sites, std::slice::from_ref(function)).remove(0)
            }
            // Node goes another way while it is being profiled.
            None if named.is_of_node() => named.frame(),
            None if is_blind(node) => named.frame(),
            None => panic!("V8's profiler has not met {named:?}"),
        };
        report.sites.iter().rev().map(frame).collect()
    }
}

impl NamedSite {
    /// Whether it is in one of Node's own scripts.
    fn is_of_node(&self) -> bool {
        let file = self.site.file.as_deref();
        file.is_some_and(|file| file.starts_with("node:") || file.starts_with("internal/"))
    }

    /// The frame that waits there; where its function starts is not known.
    fn frame(&self) -> TrueFrame {
        TrueFrame {
            function: self.function.clone(),
            file: self.site.file.clone(),
            line: self.site.line,
            column: self.site.column,
            start: None,
        }
    }
}

/// Whether a program can ask V8's profiler, and that tells of all functions: the one of
/// V8 5.8 leaves out what eval is given.
fn has_profiler(node: &Node) -> bool {
    node.major() >= 8 && !node.version.starts_with("8.0.")
}

/// Whether what `--cpu-prof` writes of workers may lack stacks, and ends where the process
/// gets a signal.
fn is_blind(node: &Node) -> bool {
    !node.is_since(12, 12)
}

/// What the functions of all kinds are called, with those flags: with others than its own
/// Node's code cache is of no use, and functions are called what their source tells.
fn ask_profiler(node: &Node, flags: &[&str], addon: Option<&str>) -> Names {
    let mut names = Names::default();
    if !has_profiler(node) {
        return names;
    }
    let flags = [&["--cpu-prof-interval=500"], flags].concat();
    let mut seen = BTreeSet::new();
    for _ in 0..5 {
        let (text, profiles) =
            cpu_profile::profile(node, &flags, "stacks/main.js", addon.as_slice());
        let reports = text.lines().skip(1);
        let reports: Vec<Report> = reports
            .map(|line| serde_json::from_str(line).expect("a report"))
            .collect();
        for report in &reports {
            if names.learn(report, &profiles) {
                seen.insert(report.kind.clone());
            }
        }
        let is_hidden = |kind: &str| kind.starts_with("once worker") || kind == "a signal";
        let is_known = |kind: &String| seen.contains(kind) || is_blind(node) && is_hidden(kind);
        if reports.iter().all(|report| is_known(&report.kind)) {
            return names;
        }
    }
    panic!("V8's profiler saw no more than {seen:?}");
}

/// A native addon that calls the function that it is given, as a C compiler makes it.
fn build_addon(folder: &Path) -> String {
    let addon = folder.join("addon.node");
    let status = Command::new("clang")
        .args(["-shared", "-fPIC", "-O2", "-fno-omit-frame-pointer", "-o"])
        .arg(&addon)
        .arg(common::fixture("stacks/addon.c"))
        .status()
        .expect("cannot run clang");
    assert!(status.success(), "{status}");
    addon.to_str().expect("UTF-8").to_owned()
}

/// The samples that were taken while the stack of `report` was there: of the one thread
/// that ran JavaScript then.
fn samples<'a>(recording: &'a Recording, report: &Report) -> Vec<Vec<&'a Frame>> {
    let at = |milliseconds| UNIX_EPOCH + Duration::from_millis(milliseconds);
    // Whole milliseconds, rounded down; and the two clocks may differ by a little.
    let (from, to) = (at(report.wall[0] + 2), at(report.wall[1] - 1));
    let started = recording.started();
    let mut threads: BTreeMap<usize, Vec<Vec<&Frame>>> = BTreeMap::new();
    for &(time, thread, stack) in &recording.samples {
        let time = started + Duration::from_micros(time);
        if (from..to).contains(&time) {
            let frames = recording.stacks[stack].iter();
            let frames = frames.map(|&frame| &recording.frames[frame]).collect();
            threads.entry(thread).or_default().push(frames);
        }
    }
    let javascript = |stacks: &Vec<Vec<&Frame>>| {
        let is_js = |stack: &&Vec<&Frame>| stack.iter().any(|frame| frame.is_js());
        stacks.iter().filter(is_js).count()
    };
    threads
        .into_values()
        .max_by_key(javascript)
        .unwrap_or_default()
}

/// Whether the JavaScript frames of a sample are the true stack, and what is said of
/// where the spinner is if `spinner`. The clock is not looked at when it is being read.
fn is_true(node: &Node, stack: &[&Frame], truth: &[TrueFrame], spinner: Place) -> bool {
    let stack = stack.iter().filter(|it| it.is_js());
    let mut stack: Vec<Frame> = stack.map(|&it| it.clone()).collect();
    if stack
        .get(truth.len())
        .is_some_and(|it| it.function == CLOCK)
    {
        stack.truncate(truth.len());
    }
    for (frame, truth) in stack.iter_mut().zip(truth) {
        if truth.start.is_none() && (is_blind(node) || truth.file.is_some()) {
            frame.function_line = None;
            frame.function_column = None;
        }
        // A computed name, which V8's profiler does not know: `[Symbol.iterator]`.
        if !has_profiler(node) && truth.function.contains('[') {
            frame.function.clone_from(&truth.function);
        }
    }
    let stack: Vec<&Frame> = stack.iter().collect();
    truth::is_true(&stack, truth, None, spinner)
}

fn check(node: &Node, flags: &[&str], options: &[&str]) {
    // What is wrong of a kind is wrong each time. Code that is dropped at once may be
    // gone before it is read, once of this kind and once of that.
    let wrong_before = RefCell::new(None);
    common::measure(|| {
        let _alone = common::one_at_a_time();
        let folder = tempfile::tempdir().expect("a temporary folder");
        // Before 10.2 node does not know the function by which it makes itself known.
        let knows_it = node.major() >= 10 && !node.version.starts_with("10.0.");
        let addon = knows_it.then(|| build_addon(folder.path()));
        let addon = addon.as_deref();
        let names = ask_profiler(node, flags, addon);
        let mut arguments = vec!["--wait"];
        arguments.extend(options);
        arguments.extend(addon);
        let wrong = check_recording(node, flags, &arguments, &names);
        let before = wrong_before.replace(Some(wrong.clone()));
        let is_wrong_again = |(kind, _): &(&String, &String)| match &before {
            Some(before) => before.contains_key(*kind),
            None => true,
        };
        let details: String = wrong
            .iter()
            .filter(is_wrong_again)
            .map(|it| &**it.1)
            .collect();
        assert!(details.is_empty(), "{flags:?}\n{details}");
    });
}

/// Records all kinds; tells what is wrong of those that are wrong.
fn check_recording(
    node: &Node,
    flags: &[&str],
    arguments: &[&str],
    names: &Names,
) -> BTreeMap<String, String> {
    let mut target = Target::start(&node.version, flags, "stacks/main.js", arguments);
    let count: usize = target.line().parse().expect("how many stacks there are");
    let running = recording::start(&target, 300.0, &["-r", "1999"]).wait_until_sampling();
    target.tell("go");
    let report = |_| serde_json::from_str(&target.line()).expect("a report");
    let reports: Vec<Report> = (0..count).map(report).collect();
    let recording = running.finish();
    assert_eq!(recording.lost, 0, "{}", recording.notes);

    let (mut right, mut with_line, mut all) = (0, 0, 0);
    let mut wrong_kinds = BTreeMap::new();
    for report in reports {
        let samples = samples(&recording, &report);
        let truth = names.true_stack(node, &report);
        let kind = report.kind;
        let is_wrong = |it: &&Vec<&Frame>| !is_true(node, it, &truth, Place::LineOrSilent);
        let wrong: Vec<_> = samples.iter().filter(is_wrong).collect();
        let has_line = |it: &&Vec<&Frame>| is_true(node, it, &truth, Place::Line);
        with_line += samples.iter().filter(has_line).count();
        all += samples.len();
        right += samples.len() - wrong.len();
        // Of the few samples of one kind an accident may hit some: what is wrong for a
        // kind is so in all of them.
        if samples.len() < 5 || wrong.len() > 2.max(samples.len() / 2) {
            let difference = wrong.last().map(|stack| truth::difference(stack, &truth));
            let details = format!(
                "{kind:?}: {} of {} samples are wrong:\n{}\n",
                wrong.len(),
                samples.len(),
                difference.unwrap_or_default()
            );
            wrong_kinds.insert(kind, details);
        }
    }
    println!(
        "{} {flags:?}: {right} of {all} samples right, {with_line} with the spinner's line",
        node.version
    );
    // In its first loop V8 10 may have no line for it.
    assert!(
        right * 100 >= all * 99 && with_line * 100 >= all * 97,
        "{flags:?}: {right} of {all} samples are right, {with_line} with the spinner's line\n{}",
        wrong_kinds.into_values().collect::<String>()
    );
    wrong_kinds
}

fn main() -> std::process::ExitCode {
    matrix::main([
        // V8's profiler, which is asked what functions are called, tells too little of
        // workers in 12.0 to 12.11.
        Test::new("stacks", 0, |node| check(node, &[], &["--warm"]))
            .seldom_if(|_| true)
            .only_on(|node| node.major() != 12 || node.is_since(12, 12)),
        // Baseline code for everything.
        Test::new("baseline", 16, |node| {
            check(node, &["--always-sparkplug"], &[]);
        })
        // Node.js 16.0 itself crashes with it.
        .only_on(|node| node.is_since(16, 5))
        .long(),
        // Nothing beyond Maglev. (Up to Node.js 24.11 its code has no places but where it
        // can deoptimize.)
        Test::new("maglev", 24, |node| {
            check(node, &["--no-turbofan"], &["--warm"]);
        })
        .only_on(|node| node.is_since(24, 12))
        .long(),
    ])
}
