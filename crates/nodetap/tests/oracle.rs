//! What nodetap says of a stack against what V8 says of it.
//!
//! The fixture `oracle` collects, at the innermost point of a chain of calls, its own
//! call sites (`Error.prepareStackTrace`): every frame's script, line and column. Then
//! it spins right there. What the functions are called and where they start is asked of
//! V8's own CPU profiler, in another run of the same program under `--cpu-prof`, or
//! through the module `inspector`.
//!
//! Of the samples of that thread, 99 in 100 must be exactly this stack.

mod common;

use std::collections::HashMap;
use std::fmt;
use std::fs;
use std::process::{Command, Stdio};

use common::accuracy::{self, Truth};
use common::matrix::{self, Node, Test};
use common::recording::{Frame, Recording, record};
use common::target::Target;
use serde::Deserialize;

/// How V8 is made to run the chain.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Mode {
    /// As it comes: the chain is called once, the spinner gets hot.
    Cold,
    /// Nothing but the interpreter, also while the ticks fall.
    Interpreted,
    /// The interpreter of a V8 that makes no machine code at all.
    Jitless,
    /// Baseline code for everything.
    Baseline,
    /// The chain ran until it had been optimized.
    Warm,
}

impl Mode {
    fn flags(self, node: &Node) -> Vec<&'static str> {
        let mut flags = match self {
            Mode::Cold | Mode::Warm => return Vec::new(),
            Mode::Interpreted => vec!["--no-opt"],
            Mode::Jitless => return vec!["--jitless"],
            Mode::Baseline => vec!["--no-opt", "--always-sparkplug"],
        };
        // A version refuses flags that it does not know: baseline code came with V8 9,
        // Maglev with V8 11.
        if node.major() >= 16 && self == Mode::Interpreted {
            flags.push("--no-sparkplug");
        }
        if node.major() >= 20 {
            flags.push("--no-maglev");
        }
        flags
    }

    /// Whether the recording shows that the mode did what it is there for.
    fn assert_reached(self, recording: &Recording) {
        let js = || recording.frames.iter().filter(|frame| frame.is_js());
        let has = |tier: &str| js().any(|frame| frame.tier.as_deref() == Some(tier));
        let fits = match self {
            Mode::Cold => has("interpreted"),
            Mode::Interpreted | Mode::Jitless => {
                js().all(|frame| frame.tier.as_deref() == Some("interpreted"))
            }
            Mode::Baseline => has("baseline") && !has("maglev") && !has("optimized"),
            Mode::Warm => js().any(|frame| frame.inlined) && has("optimized"),
        };
        assert!(fits, "{self:?}, but the frames are\n{}", list(js()));
    }
}

/// One frame of the true stack.
#[derive(Clone, Debug, PartialEq)]
struct TrueFrame {
    function: String,
    file: Option<String>,
    line: u32,
    column: u32,
    /// Where its function starts, if V8 has a line for that.
    start: Option<(u32, u32)>,
}

impl TrueFrame {
    fn truth(&self) -> Truth<'_> {
        Truth {
            function: &self.function,
            file: self.file.as_deref(),
            line: self.line,
            column: self.column,
        }
    }
}

impl fmt::Display for TrueFrame {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} {}:{}:{} (function at {:?})",
            self.function,
            self.file.as_deref().unwrap_or("-"),
            self.line,
            self.column,
            self.start
        )
    }
}

/// What must be said of where a frame was executing.
#[derive(Clone, Copy, PartialEq)]
enum Place {
    /// Line and column: it waits for a call.
    Exact,
    /// The line: where on it the innermost function is when a tick falls, nobody knows.
    Line,
    /// The line, or nothing. While a function is entered or left, its pc may be nowhere.
    LineOrSilent,
}

impl TrueFrame {
    /// Whether `frame` says of this one all that is true of it.
    fn is(&self, frame: &Frame, place: Place) -> bool {
        frame.function == self.function
            && frame.file == self.file
            && frame.function_line == self.start.map(|(line, _)| line)
            && frame.function_column == self.start.map(|(_, column)| column)
            && match place {
                Place::Exact => (frame.line, frame.column) == (Some(self.line), Some(self.column)),
                Place::Line => frame.line == Some(self.line),
                Place::LineOrSilent => frame.line.is_none_or(|line| line == self.line),
            }
    }
}

/// A call site as the fixture reports it, and where V8's profiler says its function is.
#[derive(Debug, Deserialize)]
struct CallSite {
    file: Option<String>,
    line: u32,
    column: u32,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct CpuProfile {
    nodes: Vec<ProfileNode>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ProfileNode {
    id: u32,
    call_frame: CallFrame,
    #[serde(default)]
    hit_count: u64,
    #[serde(default)]
    children: Vec<u32>,
}

#[derive(Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
struct CallFrame {
    function_name: String,
    url: String,
    /// 0-based; -1 for what is no JavaScript function.
    line_number: i64,
    column_number: i64,
}

impl CpuProfile {
    /// The stack that was sampled most, outermost first.
    fn heaviest(&self) -> Vec<CallFrame> {
        let nodes: HashMap<u32, &ProfileNode> = self.nodes.iter().map(|n| (n.id, n)).collect();
        let parents: HashMap<u32, u32> = self
            .nodes
            .iter()
            .flat_map(|node| node.children.iter().map(|&child| (child, node.id)))
            .collect();
        let mut next = self.nodes.iter().max_by_key(|node| node.hit_count);
        let mut stack = Vec::new();
        while let Some(node) = next {
            stack.push(node.call_frame.clone());
            next = parents.get(&node.id).map(|parent| nodes[parent]);
        }
        // V8's own functions, some of which are scripts before Node.js 12.
        stack.retain(|frame| frame.line_number >= 0 && !frame.url.starts_with("native "));
        stack.reverse();
        stack
    }
}

/// What V8's CPU profiler calls the functions of the stack, outermost first.
fn ask_profiler(node: &Node, arguments: &[&str]) -> Vec<CallFrame> {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let file = folder.path().join("oracle.cpuprofile");
    let mut command = Command::new(common::node(&node.version));
    if node.major() >= 12 {
        command
            .args(["--cpu-prof", "--cpu-prof-name=oracle.cpuprofile"])
            .arg(format!("--cpu-prof-dir={}", folder.path().display()));
    }
    command
        .arg(common::fixture("oracle/main.js"))
        .args(arguments)
        .arg("--bounded");
    if node.major() < 12 {
        command.arg(format!("--profile={}", file.display()));
    }
    let status = command
        .stdout(Stdio::null())
        .status()
        .expect("cannot run node");
    assert!(status.success(), "{status}");
    let text = fs::read_to_string(file).expect("a profile");
    let profile: CpuProfile = serde_json::from_str(&text).expect("a .cpuprofile");
    profile.heaviest()
}

/// The true stack, outermost first: `sites` are innermost first. The profiler may have
/// met functions that are called from the innermost one.
fn true_stack(node: &Node, mut sites: Vec<CallSite>, functions: &[CallFrame]) -> Vec<TrueFrame> {
    sites.reverse();
    assert!(
        sites.len() <= functions.len(),
        "V8's profiler does not know all of its call sites"
    );
    let number = |n: i64| u32::try_from(n + 1).expect("a position");
    sites
        .into_iter()
        .zip(functions)
        .map(|(site, function)| {
            let start = (number(function.line_number), number(function.column_number));
            TrueFrame {
                function: match function.function_name.as_str() {
                    "" => "(anonymous)".to_owned(),
                    name => name.to_owned(),
                },
                start: (!starts_before_its_lines(node, &site, start)).then_some(start),
                file: site.file,
                line: site.line,
                column: site.column,
            }
        })
        .collect()
}

/// Whether it is the function of a `new Function` whose lines are counted from its body
/// on, so that it starts before the first. V8 7.8 does so, and moves the lines only when
/// its profiler has been told of the function.
fn starts_before_its_lines(node: &Node, site: &CallSite, start: (u32, u32)) -> bool {
    let column = "(function anonymous".len() as u32 + 1;
    node.major() == 12 && site.file.is_none() && start == (1, column)
}

/// How many frames, from the outermost on, are true; those of the innermost function
/// are if `innermost` of its place is.
fn count_true(js: &[&Frame], truth: &[TrueFrame], innermost: Place) -> usize {
    let is_true = |(i, (frame, true_frame)): &(usize, (&&Frame, &TrueFrame))| {
        let place = match (i + 1 == truth.len(), js.len() == truth.len()) {
            (true, true) => innermost,
            // The spinner, at its call: it reported from another column.
            (true, false) => Place::Line,
            (false, _) => Place::Exact,
        };
        true_frame.is(frame, place)
    };
    js.iter().zip(truth).enumerate().take_while(is_true).count()
}

/// Whether the JavaScript frames of a sample are the true stack. The function that the
/// spinner calls may be on top of it: all of that one is on the line where it starts.
fn is_true(stack: &[&Frame], truth: &[TrueFrame], callee: Option<&str>, innermost: Place) -> bool {
    let js: Vec<&Frame> = stack.iter().copied().filter(|f| f.is_js()).collect();
    let right = count_true(&js, truth, innermost) == truth.len();
    match js[truth.len().min(js.len())..] {
        [] => right,
        [top] if callee == Some(top.function.as_str()) => {
            let silent = top.line.is_none() && innermost == Place::LineOrSilent;
            right && (silent || top.line.is_some() && top.line == top.function_line)
        }
        _ => false,
    }
}

fn list<'a>(frames: impl IntoIterator<Item = &'a Frame>) -> String {
    frames.into_iter().map(|f| format!("    {f}\n")).collect()
}

/// The frames of a wrong stack beside the true ones, from the first that is wrong on.
fn difference(stack: &[&Frame], truth: &[TrueFrame]) -> String {
    let js: Vec<&Frame> = stack.iter().copied().filter(|f| f.is_js()).collect();
    let same = count_true(&js, truth, Place::LineOrSilent);
    let wanted: String = truth[same..]
        .iter()
        .take(6)
        .map(|frame| format!("    {frame}\n"))
        .collect();
    format!(
        "  the outermost {same} of {} JavaScript frames are right ({} in the sample); then\n  true:\n{wanted}  recorded:\n{}  the whole top of the stack:\n{}",
        truth.len(),
        js.len(),
        list(js[same..].iter().take(6).copied()),
        list(stack.iter().rev().take(4).copied()),
    )
}

/// Records the fixture and compares every sample of its main thread with the truth.
fn check(node: &Node, entry: &str, chain: &str, mode: Mode, calling: bool) {
    common::measure(|| check_once(node, entry, chain, mode, calling));
}

fn check_once(node: &Node, entry: &str, chain: &str, mode: Mode, calling: bool) {
    let mut arguments = vec![entry, chain];
    if calling {
        arguments.push("--calling");
    }
    let functions = ask_profiler(node, &arguments);
    let _alone = common::one_at_a_time();
    if mode == Mode::Warm {
        arguments.push("--warm");
    }
    let mut target = Target::start(
        &node.version,
        &mode.flags(node),
        "oracle/main.js",
        &arguments,
    );
    let sites: Vec<CallSite> = serde_json::from_str(&target.line()).expect("call sites");
    let truth = true_stack(node, sites, &functions);

    let recording = record(&target, 1.0, &[]);
    assert_eq!(recording.lost, 0, "{}", recording.notes);
    recording.assert_sampled(&target);

    let callee = calling.then_some("mix");
    let all = recording.samples_of(target.pid());
    let fail_below = |share: f64, innermost: Place| {
        let is_right = |stack: &[&Frame]| is_true(stack, &truth, callee, innermost);
        let right = recording.count(target.pid(), is_right);
        if (right as f64) >= share * all as f64 {
            return;
        }
        let mut wrong = recording.stacks_of(target.pid());
        wrong.retain(|(stack, _)| !is_right(stack));
        wrong.sort_by_key(|&(_, count)| std::cmp::Reverse(count));
        let details: String = wrong
            .iter()
            .take(3)
            .map(|(stack, count)| format!("{count} samples:\n{}", difference(stack, &truth)))
            .collect();
        panic!("{right} of {all} samples are right; of the others:\n{details}");
    };
    if calling {
        // It is being entered and left all the time.
        fail_below(0.99, Place::LineOrSilent);
        fail_below(0.9, Place::Line);
    } else {
        fail_below(0.99, Place::Line);
    }
    mode.assert_reached(&recording);
    let is_right = |stack: &[&Frame]| is_true(stack, &truth, callee, Place::Line);
    let right = recording.count(target.pid(), is_right);
    let truth: Vec<Truth<'_>> = truth.iter().map(TrueFrame::truth).collect();
    accuracy::note(node, &recording, target.pid(), &truth, right);
}

fn main() -> std::process::ExitCode {
    use Mode::{Baseline, Cold, Interpreted, Jitless, Warm};
    // Name, how the chain is entered, the chain, the mode, whether the spinner calls.
    let cases = [
        ("kinds_cold", "main", "kinds", Cold, false),
        ("kinds_interpreted", "main", "kinds", Interpreted, false),
        ("kinds_jitless", "main", "kinds", Jitless, false),
        ("kinds_baseline", "main", "kinds", Baseline, false),
        ("kinds_warm", "main", "kinds", Warm, false),
        ("recursion_cold", "main", "recurse", Cold, false),
        ("recursion_warm", "main", "recurse", Warm, false),
        ("calling_interpreted", "main", "short", Interpreted, true),
        ("calling_baseline", "main", "short", Baseline, true),
        ("calling_optimized", "main", "short", Cold, true),
        ("from_timeout", "timeout", "short", Cold, false),
        ("from_interval", "interval", "short", Cold, false),
        ("from_immediate", "immediate", "short", Cold, false),
        ("from_next_tick", "nextTick", "short", Cold, false),
        ("from_microtask", "microtask", "short", Cold, false),
        ("from_promise", "promise", "short", Cold, false),
        ("from_rejection", "rejection", "short", Cold, false),
        ("from_await", "await", "short", Cold, false),
        (
            "from_async_generator",
            "asyncGenerator",
            "short",
            Cold,
            false,
        ),
        ("from_emitter", "emitter", "short", Cold, false),
        ("from_callback", "callback", "short", Cold, false),
        ("from_module", "module", "short", Cold, false),
        (
            "from_top_level_await",
            "topLevelAwait",
            "short",
            Cold,
            false,
        ),
    ];
    matrix::main(cases.map(|(name, entry, chain, mode, calling)| {
        let since = match (mode, entry) {
            (Baseline, _) => 16,
            // The first of 14 had no such modules.
            (_, "topLevelAwait") => 16,
            (Jitless, _) | (_, "module" | "microtask") => 12,
            (_, "asyncGenerator") => 10,
            _ => 8,
        };
        Test::new(name, since, move |node| {
            check(node, entry, chain, mode, calling)
        })
        .seldom_if(|name| name.starts_with("from_"))
    }))
}
