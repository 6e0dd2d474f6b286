//! Names and places of functions against what V8's own CPU profiler says of them.
//!
//! The fixture `names` calls a function of every kind, and of every way to come to a
//! name; each of them calls `burn`. It runs once under `--cpu-prof` (before Node.js 12.2 it
//! asks the module `inspector` for the same) and once under
//! nodetap: the stacks above which `burn` was seen must be the same, each function with
//! its name, script, line and column.

mod common;

use std::collections::BTreeMap;

use common::cpu_profile;
use common::matrix::{self, Node, Test};
use common::recording;
use common::target::Target;

/// A function: its name, its script, and where it starts.
type Function = (String, String, u32, u32);

/// How often `burn` was seen in a call from a stack, outermost function first.
type Stacks = BTreeMap<Vec<Function>, u64>;

/// As often as a stack must be seen to be no accident of the moment.
const OFTEN: u64 = 3;

/// A script's path without what tells URLs from paths: V8's inspector shows a script that
/// was given a path with a URL.
fn path(name: &str) -> String {
    let name = name.strip_prefix("file://").unwrap_or(name);
    let mut bytes = Vec::new();
    let mut rest = name.as_bytes();
    while let Some((&first, others)) = rest.split_first() {
        let hex = others
            .get(..2)
            .and_then(|hex| std::str::from_utf8(hex).ok());
        let escaped = hex.and_then(|hex| u8::from_str_radix(hex, 16).ok());
        match (first, escaped) {
            (b'%', Some(byte)) => {
                bytes.push(byte);
                rest = &others[2..];
            }
            _ => {
                bytes.push(first);
                rest = others;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// A name as both write it: of a surrogate that stands alone, UTF-8 has nothing, and the
/// profiler's JSON has its three bytes as three characters (from the module `inspector`
/// those of Latin 1). That of V8 8 leaves out DEL,
/// too, and what follows the first 1,024 UTF-16 units.
fn name(node: &Node, name: &str) -> String {
    let name = name.replace("\u{fffd}\u{fffd}\u{fffd}", "\u{fffd}");
    let name = name.replace("\u{ed}\u{a0}\u{80}", "\u{fffd}");
    if node.major() >= 16 {
        return name;
    }
    name.chars().filter(|&it| it != '\x7f').take(500).collect()
}

/// Adds what was seen to `stacks` if it ends with `burn`.
fn add(node: &Node, stacks: &mut Stacks, mut stack: Vec<Function>, count: u64) {
    if node.version.starts_with("8.0.") {
        // The profiler of V8 5.8 leaves out the code of scripts and what eval is given.
        let is_code = |it: &Function| it.0 == "(anonymous)" && matches!((it.2, it.3), (1, 1 | 6));
        stack.retain(|function| !is_code(function));
    }
    let burn = stack.iter().position(|function| function.0 == "burn");
    if let Some(burn) = burn.filter(|_| count > 0) {
        stack.truncate(burn);
        *stacks.entry(stack).or_default() += count;
    }
}

/// What V8's profiler says. On a busy machine it may see nothing of some milliseconds.
fn profiled(node: &Node) -> (usize, Stacks) {
    let flags = ["--cpu-prof-interval=500"];
    let mut stacks = Stacks::new();
    let mut kinds = usize::MAX;
    for _ in 0..5 {
        let (text, profiles) = cpu_profile::profile(node, &flags, "names/main.js", &[]);
        kinds = text.trim().parse().expect("a number of kinds");
        for profile in &profiles {
            let all = profile.stacks();
            for seen in &profile.nodes {
                let function = |frame: &&cpu_profile::CallFrame| {
                    let (line, column) = start(node, frame);
                    (name(node, &frame.name()), path(&frame.url), line, column)
                };
                let stack = all[&seen.id].iter().map(function).collect();
                add(node, &mut stacks, stack, seen.hit_count);
            }
        }
        if stacks.len() >= kinds {
            break;
        }
    }
    (kinds, stacks)
}

/// Where a function starts, 0:0 where nobody can tell: V8 7.8 counts the lines of a
/// `new Function` from its body on, but moves them when its profiler is told of it.
fn start(node: &Node, frame: &cpu_profile::CallFrame) -> (u32, u32) {
    let start = frame.start();
    let heads = ["(function", "(function*", "(async function"];
    let is_head = |head: &str| start == (1, format!("{head} anonymous").len() as u32 + 1);
    let has_no_file = !frame.url.contains('/');
    let is_7_8 = node.major() == 12 && node.is_since(12, 16);
    if is_7_8 && has_no_file && heads.into_iter().any(is_head) {
        (0, 0)
    } else {
        start
    }
}

fn recorded(node: &Node) -> (usize, Stacks) {
    let mut target = Target::start(&node.version, &[], "names/main.js", &["--wait"]);
    let kinds = target.line().parse().expect("a number of kinds");
    let running = recording::start(&target, 60.0, &["-r", "1999"]).wait_until_sampling();
    target.tell("go");
    let recording = running.finish();
    assert_eq!(recording.lost, 0, "{}", recording.notes);

    let mut stacks = Stacks::new();
    for (stack, count) in recording.stacks_of(target.pid()) {
        let js = stack.iter().filter(|frame| frame.is_js());
        let function = |frame: &&recording::Frame| {
            (
                name(node, &frame.function),
                path(frame.file.as_deref().unwrap_or_default()),
                frame.function_line.unwrap_or(0),
                frame.function_column.unwrap_or(0),
            )
        };
        add(node, &mut stacks, js.map(function).collect(), count);
    }
    (kinds, stacks)
}

/// The stacks of `one` that are missing in `other`, their three innermost functions.
fn missing(one: &Stacks, other: &Stacks) -> String {
    let is_missing = |(stack, count): &(&Vec<Function>, &u64)| {
        **count >= OFTEN && !other.contains_key(stack.as_slice())
    };
    let show = |(stack, count): (&Vec<Function>, &u64)| {
        let functions: String = stack
            .iter()
            .rev()
            .take(3)
            .map(|(name, file, line, column)| {
                let name: String = name.chars().take(60).collect();
                format!("    {name:?} {file}:{line}:{column}\n")
            })
            .collect();
        format!("  {count} times:\n{functions}")
    };
    one.iter().filter(is_missing).map(show).collect()
}

fn check(node: &Node) {
    common::measure(|| {
        let _alone = common::one_at_a_time();
        let (kinds, profiled) = profiled(node);
        let (kinds_too, recorded) = recorded(node);
        assert_eq!(kinds, kinds_too);
        let ours = missing(&recorded, &profiled);
        let theirs = missing(&profiled, &recorded);
        assert!(
            ours.is_empty() && theirs.is_empty(),
            "nodetap alone has\n{ours}--cpu-prof alone has\n{theirs}"
        );
        assert!(
            profiled.len() >= kinds,
            "{} of {kinds} kinds",
            profiled.len()
        );
    });
}

fn main() -> std::process::ExitCode {
    matrix::main([
        Test::new("names", 14, check),
        Test::new("names", 8, check).before(14).long(),
    ])
}
