//! No frame is named wrongly while the garbage collector moves and frees what it can.
//!
//! The functions of the fixture `torture` tell by their names who called them and where
//! they stand; so every stack can be checked for itself.

mod common;

use common::matrix::{self, Node, Test};
use common::recording::{Frame, Recording, record};
use common::target::Target;

/// Options that make the collector work hard.
fn flags(node: &Node) -> Vec<&'static str> {
    let mut flags = vec!["--expose-gc"];
    // In megabytes; in 0.10 it was `--max-new-space-size`, in kilobytes.
    flags.push(if node.version.starts_with("0.10.") {
        "--max-new-space-size=2048"
    } else {
        "--max-semi-space-size=1"
    });
    flags
}

/// The generation and depth that a function of the fixture has in its name.
fn parts(name: &str) -> Option<(u32, u32)> {
    let (generation, depth) = name.strip_prefix("f_")?.split_once('_')?;
    Some((generation.parse().ok()?, depth.parse().ok()?))
}

/// Whether all that is said of a generated function is true of it. Code of full-codegen
/// does not say whose it is: where another function's was put in its place since the
/// tick, that one's lines may be given.
fn is_itself(frame: &Frame, generation: u32, depth: u32) -> bool {
    let line = 2 + generation % 7 + depth;
    let file = format!("torture-{generation}.js");
    frame.file.as_ref().is_none_or(|it| *it == file)
        && frame.function_line.is_none_or(|it| it == line)
        && (frame.line.is_none_or(|it| it == line) || frame.tier.as_deref() == Some("unoptimized"))
}

/// Functions are missing, as where the code that they were inlined into is gone.
const MISSING: &str = "a function is missing between two others";

/// What is wrong with a stack of the fixture's, outermost first.
fn fault(stack: &[&Frame]) -> Option<&'static str> {
    let js = stack.iter().filter(|frame| frame.is_js());
    let own = |frame: &&&Frame| {
        let file = frame.file.as_deref().unwrap_or_default();
        !(file.starts_with("node:") || file.starts_with("internal/"))
    };
    let known: Vec<&&Frame> = js.skip_while(|frame| !own(frame)).collect();
    let mut expected = Some(0);
    let mut generation_seen = None;
    let mut missing = None;
    let mut outside: Vec<&str> = Vec::new();
    for frame in known {
        if !frame.has_name() {
            // It may be any of them.
            expected = None;
            continue;
        }
        // Code that is gone does not tell what was inlined into it.
        let is_whole = frame.tier.is_some();
        let Some((generation, depth)) = parts(&frame.function) else {
            outside.push(&frame.function);
            if !is_whole {
                expected = None;
            }
            continue;
        };
        if !is_itself(frame, generation, depth) {
            return Some("a function is not where it stands");
        }
        if generation_seen.is_some_and(|seen| seen != generation) {
            return Some("two generations on one stack");
        }
        match expected {
            Some(expected) if expected > depth => {
                return Some("a function under another than its caller");
            }
            Some(expected) if expected < depth => missing = Some(MISSING),
            _ => {}
        }
        generation_seen = Some(generation);
        expected = is_whole.then_some(depth + 1);
    }
    let order = ["turn", "make", "source", "allocate"];
    let place = |name: &&str| order.iter().position(|it| it == name);
    let places: Vec<usize> = outside.iter().filter_map(place).collect();
    if !places.is_sorted() {
        return Some("the fixture's own functions are in another order");
    }
    missing
}

fn list(stack: &[&Frame]) -> String {
    stack.iter().map(|frame| format!("    {frame}\n")).collect()
}

/// The share of generated frames that have no name.
fn unknown_share(recording: &Recording, tid: u32) -> f64 {
    let (mut unknown, mut all) = (0, 0);
    for (stack, count) in recording.stacks_of(tid) {
        for frame in stack.iter().filter(|frame| frame.is_js()) {
            all += count;
            unknown += if frame.has_name() { 0 } else { count };
        }
    }
    unknown as f64 / all as f64
}

/// Functions are dropped as soon as they have run a little.
fn dropped(node: &Node) {
    check(node, &flags(node), |generated| {
        assert!(
            generated > 200,
            "{generated} samples of generated functions"
        );
    });
}

/// Every collection moves all that there is: most of what the ticks saw has another
/// place when it is looked at.
fn moved(node: &Node) {
    let mut flags = flags(node);
    flags.push("--stress-compaction");
    check(node, &flags, |_| ());
}

fn check(node: &Node, flags: &[&str], enough: impl Fn(u64)) {
    common::measure(|| check_once(node, flags, &enough));
}

fn check_once(node: &Node, flags: &[&str], enough: &impl Fn(u64)) {
    let _alone = common::one_at_a_time();
    let target = Target::start(&node.version, flags, "torture.js", &[]).wait_until_ready();
    let recording = record(&target, 1.5, &["-r", "4999"]);
    let stacks = recording.stacks_of(target.pid());
    let generated = recording.count(target.pid(), |stack| {
        stack.iter().any(|frame| parts(&frame.function).is_some())
    });
    let mut missing = 0;
    for (stack, count) in &stacks {
        match fault(stack) {
            None => {}
            Some(MISSING) => missing += count,
            Some(fault) => panic!("{fault}, in {count} samples:\n{}", list(stack)),
        }
    }
    assert!(
        missing * 20 <= generated.max(200),
        "{missing} of {generated}: {MISSING}"
    );
    enough(generated);
    let turns = recording.count(target.pid(), |stack| {
        stack.iter().any(|frame| frame.function == "turn")
    });
    assert!(turns > 100, "{turns} samples of what is never dropped");
    let unknown = 100.0 * unknown_share(&recording, target.pid());
    eprintln!(
        "{}: {generated} samples, {unknown:.3} % unknown",
        node.version
    );
}

fn main() -> std::process::ExitCode {
    matrix::main([
        Test::new("dropped", 0, dropped),
        Test::new("moved", 0, moved).seldom_if(|_| true),
    ])
}
