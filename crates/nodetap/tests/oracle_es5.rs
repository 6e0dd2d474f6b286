//! What nodetap says of a stack against what V8 says of it, before Ignition.
//!
//! As `oracle.rs`, for Node.js 0.10 to 8.0: they have no `--cpu-prof`, so the program
//! itself also says what its functions are called (`CallSite.getFunctionName`), and
//! finds where they start in the text that V8 was given.
//!
//! Of the samples of that thread, 99 in 100 must be exactly this stack.

mod common;

use std::fmt;

use common::accuracy::{self, Truth};
use common::matrix::{self, Node, Test};
use common::recording::{Frame, Recording, record};
use common::target::Target;
use serde::Deserialize;

/// How V8 is made to run the chain.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Mode {
    /// Nothing but full-codegen's code.
    Unoptimized,
    /// As it comes: the chain is called once, the spinner gets hot.
    Cold,
    /// The chain ran until it had been optimized.
    Warm,
    /// The same of the spinner itself, which is inlined.
    Inlined,
}

impl Mode {
    fn flags(self) -> &'static [&'static str] {
        match self {
            Mode::Unoptimized => &["--nocrankshaft"],
            Mode::Cold | Mode::Warm | Mode::Inlined => &[],
        }
    }

    /// Whether the recording shows that the mode did what it is there for.
    fn assert_reached(self, recording: &Recording) {
        let mut tiers = recording.frames.iter().filter(|frame| frame.is_js());
        let is = |tier| move |frame: &Frame| frame.tier.as_deref() == Some(tier);
        let fits = match self {
            // What only the interpreter can run has no other code in Node.js 8.
            Mode::Unoptimized => {
                tiers.all(|frame| is("unoptimized")(frame) || is("interpreted")(frame))
            }
            Mode::Cold => tiers.any(is("unoptimized")),
            Mode::Inlined => {
                let spins = |frame: &Frame| frame.inlined && frame.function == "turn";
                recording.frames.iter().any(spins)
            }
            Mode::Warm => {
                let inlined = recording.frames.iter().any(|frame| frame.inlined);
                inlined && tiers.any(is("optimized"))
            }
        };
        assert!(
            fits,
            "{self:?}, but the frames are\n{:#?}",
            recording.frames
        );
    }
}

/// One frame of the true stack, as the program tells it.
#[derive(Debug, Deserialize)]
struct TrueFrame {
    function: String,
    file: Option<String>,
    line: u32,
    column: u32,
    /// Line and column where the function starts, where the program can tell.
    start: Option<(u32, u32)>,
}

/// What must be said of where the innermost function is.
#[derive(Clone, Copy, PartialEq)]
enum Innermost {
    /// The line; where on it a tick falls, nobody knows.
    Line,
    /// The line, or nothing: its code does not always tell.
    LineOrSilent,
}

impl TrueFrame {
    /// Whether `frame` says of this one all that is true of it.
    fn is(&self, frame: &Frame, innermost: Option<Innermost>) -> bool {
        let start = frame.function_line.zip(frame.function_column);
        frame.function == self.function
            && frame.file == self.file
            && start.is_some()
            && (self.start.is_none() || self.start == start)
            && match innermost {
                None => (frame.line, frame.column) == (Some(self.line), Some(self.column)),
                Some(Innermost::Line) => frame.line == Some(self.line),
                Some(Innermost::LineOrSilent) => frame.line.is_none_or(|line| line == self.line),
            }
    }
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
        let file = self.file.as_deref().unwrap_or("-");
        let TrueFrame {
            function,
            line,
            column,
            start,
            ..
        } = self;
        write!(
            f,
            "{function} {file}:{line}:{column} (function at {start:?})"
        )
    }
}

/// How many frames, from the outermost on, are true.
fn count_true(js: &[&Frame], truth: &[TrueFrame], innermost: Innermost) -> usize {
    let is_true = |(index, (frame, truth_frame)): &(usize, (&&Frame, &TrueFrame))| {
        let innermost = (index + 1 == truth.len()).then_some(innermost);
        truth_frame.is(frame, innermost)
    };
    let pairs = js.iter().zip(truth).enumerate();
    pairs.take_while(is_true).count()
}

/// Whether the JavaScript frames of a sample are the true stack. The function that the
/// spinner calls may be on top of it: all of that one is on the line where it starts.
fn is_true(
    stack: &[&Frame],
    truth: &[TrueFrame],
    callee: Option<&str>,
    innermost: Innermost,
) -> bool {
    let js: Vec<&Frame> = stack.iter().copied().filter(|f| f.is_js()).collect();
    let right = count_true(&js, truth, innermost) == truth.len();
    match js[truth.len().min(js.len())..] {
        [] => right,
        [top] if callee == Some(top.function.as_str()) => {
            let silent = top.line.is_none() && innermost == Innermost::LineOrSilent;
            right && (silent || top.line.is_some() && top.line == top.function_line)
        }
        _ => false,
    }
}

/// The frames of a wrong stack beside the true ones, from the first that is wrong on.
fn difference(stack: &[&Frame], truth: &[TrueFrame]) -> String {
    let js: Vec<&Frame> = stack.iter().copied().filter(|f| f.is_js()).collect();
    let same = count_true(&js, truth, Innermost::LineOrSilent);
    let list = |frames: &mut dyn Iterator<Item = String>| -> String {
        frames
            .take(6)
            .map(|frame| format!("    {frame}\n"))
            .collect()
    };
    format!(
        "  the outermost {same} of {} JavaScript frames are right ({} in the sample); then\n  \
         true:\n{}  recorded:\n{}  the whole top of the stack:\n{}",
        truth.len(),
        js.len(),
        list(&mut truth[same..].iter().map(TrueFrame::to_string)),
        list(&mut js[same..].iter().map(|frame| frame.to_string())),
        list(&mut stack.iter().rev().take(4).map(|frame| frame.to_string())),
    )
}

/// Records the fixture and compares every sample of its main thread with the truth.
fn check(node: &Node, entry: &str, chain: &str, mode: Mode, calling: bool) {
    common::measure(|| check_once(node, entry, chain, mode, calling));
}

fn check_once(node: &Node, entry: &str, chain: &str, mode: Mode, calling: bool) {
    let _alone = common::one_at_a_time();
    let mut arguments = vec![entry, chain];
    if calling {
        arguments.push("--calling");
    }
    let script = "oracle_es5/main.js";
    if mode == Mode::Warm {
        arguments.push("--warm");
    }
    let mut target = Target::start(&node.version, mode.flags(), script, &arguments);
    let mut truth: Vec<TrueFrame> = serde_json::from_str(&target.line()).expect("call sites");
    truth.reverse();
    assert!(truth.iter().any(|frame| frame.start.is_some()));

    let recording = record(&target, 1.0, &[]);
    assert_eq!(recording.lost, 0, "{}", recording.notes);
    recording.assert_sampled(&target);
    let version = format!("v{}", node.version);
    assert_eq!(recording.processes[0].node, version);

    let callee = calling.then_some("mix");
    let all = recording.samples_of(target.pid());
    let fail_below = |share: f64, innermost: Innermost| {
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
    fail_below(0.99, Innermost::LineOrSilent);
    // From V8 4 on full-codegen says where each statement begins.
    let told = match mode {
        Mode::Unoptimized if node.major() < 4 => 0.9,
        _ if calling => 0.9,
        _ => 0.99,
    };
    fail_below(told, Innermost::Line);
    mode.assert_reached(&recording);
    let is_right = |stack: &[&Frame]| is_true(stack, &truth, callee, Innermost::Line);
    let right = recording.count(target.pid(), is_right);
    let truth: Vec<Truth<'_>> = truth.iter().map(TrueFrame::truth).collect();
    accuracy::note(node, &recording, target.pid(), &truth, right);
}

fn main() -> std::process::ExitCode {
    use Mode::{Cold, Inlined, Unoptimized, Warm};
    // Name, how the chain is entered, the chain, the mode, whether the spinner calls.
    let cases = [
        ("kinds_unoptimized", "main", "kinds", Unoptimized, false),
        ("kinds_cold", "main", "kinds", Cold, false),
        ("es6_unoptimized", "main", "es6", Unoptimized, false),
        ("es6_cold", "main", "es6", Cold, false),
        (
            "recursion_unoptimized",
            "main",
            "recurse",
            Unoptimized,
            false,
        ),
        ("recursion_cold", "main", "recurse", Cold, false),
        ("mutual_unoptimized", "main", "mutual", Unoptimized, false),
        ("inlined", "main", "inlined", Inlined, false),
        ("kinds_warm", "main", "kinds", Warm, false),
        ("recursion_warm", "main", "recurse", Warm, false),
        ("mutual_warm", "main", "mutual", Warm, false),
        ("calling_optimized", "main", "short", Cold, true),
        ("calling_warm", "main", "short", Warm, true),
        ("calling_unoptimized", "main", "short", Unoptimized, true),
        ("from_timeout", "timeout", "short", Cold, false),
        ("from_interval", "interval", "short", Cold, false),
        ("from_immediate", "immediate", "short", Cold, false),
        ("from_next_tick", "nextTick", "short", Cold, false),
        ("from_emitter", "emitter", "short", Cold, false),
        ("from_callback", "callback", "short", Cold, false),
    ];
    matrix::main(cases.map(|(name, entry, chain, mode, calling)| {
        let since = if chain == "es6" { 4 } else { 0 };
        let check = move |node: &Node| check(node, entry, chain, mode, calling);
        Test::new(name, since, check)
            .only_on(Node::has_full_codegen)
            .seldom_if(|name| name.starts_with("from_"))
    }))
}
