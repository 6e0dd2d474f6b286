//! No frame is named wrongly while the garbage collector moves and frees what it can.
//!
//! The functions of the fixture `torture` tell by their names who called them and where
//! they stand; so every stack can be checked for itself. One wrong frame fails the test:
//! there is no second try. What is missing, or has no name, is counted.

mod common;

use std::cell::Cell;
use std::collections::BTreeMap;
use std::fs;

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

/// Whether all that is said of a generated function is true of it. All of it is on
/// one line.
fn is_itself(frame: &Frame, generation: u32, depth: u32) -> bool {
    let line = 2 + generation % 7 + depth;
    let start = format!("function f_{generation}_{depth}(").len() as u32;
    let file = format!("torture-{generation}.js");
    frame.file.as_ref().is_none_or(|it| *it == file)
        && frame.function_line.is_none_or(|it| it == line)
        && frame.function_column.is_none_or(|it| it == start)
        && frame.line.is_none_or(|it| it == line)
        && frame.column.is_none_or(|it| it >= start)
}

/// The fixture's own functions, outermost first.
const OWN: [&str; 4] = ["turn", "make", "source", "allocate"];

/// Where the fixture's own functions start, by their names.
fn own_lines() -> BTreeMap<&'static str, u32> {
    let source = fs::read_to_string(common::fixture("torture.js")).expect("the fixture");
    let line = |name: &str| {
        let start = format!("function {name}(");
        let index = source.lines().position(|line| line.starts_with(&start));
        index.expect("a function of the fixture") as u32 + 1
    };
    OWN.map(|name| (name, line(name))).into()
}

/// Functions are missing, as where the code that they were inlined into is gone.
const MISSING: &str = "a function is missing between two others";

/// What is wrong with a stack of the fixture's, outermost first.
fn fault(stack: &[&Frame], own_lines: &BTreeMap<&str, u32>) -> Option<&'static str> {
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
            if let (Some(line), Some(its)) = (frame.function_line, own_lines.get(&*frame.function))
                && line != *its
            {
                return Some("one of the fixture's own functions is not where it stands");
            }
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
    let place = |name: &&str| OWN.iter().position(|it| it == name);
    let places: Vec<usize> = outside.iter().filter_map(place).collect();
    if !places.is_sorted_by(|one, next| one < next) {
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
    let wrong = Cell::new(None);
    // Again only where there was too little to look at.
    common::measure(|| {
        if let Err(fault) = check_once(node, flags, &enough) {
            wrong.set(Some(fault));
        }
    });
    if let Some(fault) = wrong.take() {
        panic!("{fault}");
    }
}

/// What is wrong with a recording, if anything is.
fn check_once(node: &Node, flags: &[&str], enough: &impl Fn(u64)) -> Result<(), String> {
    let _alone = common::one_at_a_time();
    let target = Target::start(&node.version, flags, "torture.js", &[]).wait_until_ready();
    let recording = record(&target, 1.5, &["-r", "4999"]);
    let stacks = recording.stacks_of(target.pid());
    let generated = recording.count(target.pid(), |stack| {
        stack.iter().any(|frame| parts(&frame.function).is_some())
    });
    let own_lines = own_lines();
    let mut missing = 0;
    for (stack, count) in &stacks {
        match fault(stack, &own_lines) {
            None => {}
            Some(MISSING) => missing += count,
            Some(fault) => return Err(format!("{fault}, in {count} samples:\n{}", list(stack))),
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
        "{}: {generated} samples, {unknown:.3} % unknown, in {missing} a function is missing",
        node.version
    );
    Ok(())
}

fn main() -> std::process::ExitCode {
    matrix::main([
        Test::new("dropped", 0, dropped),
        // Of what V8's collector interrupts, the first 0.10 shows little: its C++ keeps
        // no frame pointers.
        Test::new("moved", 0, moved)
            .seldom_if(|_| true)
            .only_on(|node| !node.is_of("0.10.0")),
    ])
}
