//! What a V8 that nodetap does not know would look like: each value of V8's metadata is
//! changed, one at a time, and the same stack of a process that stands still is taken and
//! named by what follows from that.
//!
//! Such a V8 may be refused, frames may be missing, `(unknown)` or without their line;
//! but no function, file, line or column may be there that is not in the true stack. The
//! true one is what nodetap says by the values as they are, which is what other tests
//! compare with what the program says of itself.

mod common;

use std::collections::BTreeMap;
use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::thread::sleep;
use std::time::Duration;

use common::matrix::{self, Node, Test};
use common::target::Target;
use nodetap_profile::{Frame, Kind, Metadata as Recording, Profile};
use nodetap_sampler::{ptrace, target};
use nodetap_symbols::{Options, Symbolizer};
use nodetap_v8::{Layout, Metadata};
use object::{Object, ObjectSegment, ObjectSymbol};
use rustix::process::{Pid, Signal, kill_process};

/// By how much a value is wrong: a field further up or down, another index or type.
const SHIFTS: [i32; 6] = [-8, 8, -1, 1, 16, -4];

/// Values that nothing else in V8 confirms: by another one, a neighbour's words may look
/// like what is looked for. In 20.20 and 24.21 nothing wrong follows from any value.
const UNCONFIRMED: [&str; 6] = [
    // Nothing says where a ScopeInfo ends: a name or a start may be read behind it.
    "scopeinfo_idx_first_vars",
    // A pc in the last instruction may count as in other code, or not.
    "class_Code__instruction_size__int",
    "class_SharedFunctionInfo__flags__int",
    // Between two bytecodes a register has the one that runs, in the innermost frame.
    "InterpreterBytecodeArrayRegister",
    "InterpreterBytecodeOffsetRegister",
    "off_fp_bytecode_array",
];

/// V8's `v8dbg_*` values of a version.
fn metadata(node: &Node) -> BTreeMap<String, i32> {
    let bytes = fs::read(common::node(&node.version)).expect("read node");
    let file = object::File::parse(&*bytes).expect("an ELF file");
    let value = |address: u64| {
        let segments = file.segments();
        let data = segments.filter_map(|it| it.data_range(address, 4).ok().flatten());
        let bytes = data.last()?;
        Some(i32::from_le_bytes(bytes.try_into().ok()?))
    };
    let symbols = file.symbols().chain(file.dynamic_symbols());
    let named = symbols.filter_map(|symbol| {
        let name = symbol.name().ok()?.strip_prefix(Metadata::PREFIX)?;
        Some((name.to_owned(), value(symbol.address())?))
    });
    named.collect()
}

fn layout(version: nodetap_v8::Version, values: &BTreeMap<String, i32>) -> Option<Layout> {
    let values = values.iter().map(|(name, &value)| (name.as_str(), value));
    Layout::new(version, &values.collect()).ok()
}

/// Lets the process stand still.
fn stop(pid: u32) {
    let id = Pid::from_raw(pid.try_into().expect("a pid")).expect("a pid");
    kill_process(id, Signal::STOP).expect("stop");
    let stat = || fs::read_to_string(format!("/proc/{pid}/stat")).expect("stat");
    while !stat().contains(") T ") {
        sleep(Duration::from_millis(1));
    }
}

/// The JavaScript frames of the main thread.
fn stack(symbolizer: &mut Symbolizer, target: &target::Target) -> Vec<Frame> {
    // It forgets what was read by other values.
    symbolizer.attach(target).expect("mappings");
    let snapshot = ptrace::snapshot(target).expect("a snapshot");
    symbolizer.begin_batch(target);
    let mut frames = Profile::new(Recording::new("ptrace", 0));
    let main = snapshot.threads.into_iter().next().expect("a thread");
    let sample = main.sample.expect("its stack");
    let mut stacks = symbolizer.stacks(target, [sample.as_ref()], &mut frames);
    let stack = stacks.pop().flatten();
    let named = stack.expect("its frames").frames;
    let mut frames: Vec<Frame> = named.into_iter().collect();
    frames.retain(|frame| frame.kind == Kind::Js);
    frames
}

/// Whether `frame` says nothing of itself that `truth` does not.
fn is_part_of(frame: &Frame, truth: &Frame) -> bool {
    *frame.function == *truth.function
        && frame.file == truth.file
        && (frame.position.is_none() || frame.position == truth.position)
        && (frame.function_position.is_none() || frame.function_position == truth.function_position)
}

/// The first of `frames` that is not in `truth`, in its order.
fn wrong<'a>(frames: &'a [Frame], truth: &[Frame]) -> Option<&'a Frame> {
    let mut left = truth.iter();
    frames
        .iter()
        .filter(|frame| &*frame.function != "(unknown)")
        .find(|frame| !left.any(|truth| is_part_of(frame, truth)))
}

/// Where the program is stopped is chance. Between two bytecodes, where only a register of
/// the machine has the one that runs, a layout with another register gives the one before.
fn check(node: &Node) {
    common::measure(|| check_stopped(node));
}

fn check_stopped(node: &Node) {
    let mut process = Target::start(
        &node.version,
        &[],
        "oracle_es5/main.js",
        &["main", "kinds", "--warm"],
    );
    process.line();
    stop(process.pid());
    let mut target = target::Target::attach(process.pid()).expect("attach");
    let values = metadata(node);
    let known = target.layout.clone();
    assert_eq!(layout(known.version, &values).as_ref(), Some(&known));
    let mut symbolizer = Symbolizer::new(Options::default());
    let truth = stack(&mut symbolizer, &target);
    assert!(truth.len() > 8, "{truth:#?}");

    let is_strict = node.is_of("20.20.") || node.is_of("24.21.");
    let (mut tried, mut refused, mut silent) = (0, 0, 0);
    let mut failures = String::new();
    for name in values.keys() {
        for shift in SHIFTS {
            let mut altered = values.clone();
            *altered.get_mut(name).expect("it is there") += shift;
            let layout = match layout(known.version, &altered) {
                Some(layout) if layout == known => continue,
                layout => layout,
            };
            tried += 1;
            let Some(layout) = layout else {
                refused += 1;
                continue;
            };
            target.layout = layout;
            match catch_unwind(AssertUnwindSafe(|| stack(&mut symbolizer, &target))) {
                Ok(frames) => match wrong(&frames, &truth) {
                    Some(_) if !is_strict && UNCONFIRMED.contains(&&**name) => {}
                    Some(frame) => failures += &format!("{name} {shift:+}: {frame:?}\n"),
                    None => silent += u32::from(frames != truth),
                },
                Err(_) => failures += &format!("{name} {shift:+}: panic\n"),
            }
        }
    }
    println!(
        "{}: {tried} layouts, {refused} refused, {silent} silent",
        node.version
    );
    assert!(refused + silent > 20, "nothing was altered that is used");
    assert!(failures.is_empty(), "{failures}");
}

fn main() -> std::process::ExitCode {
    matrix::main([Test::new("altered", 12, check).seldom_if(|_| true)])
}
