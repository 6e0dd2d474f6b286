//! Native and kernel frames: what they are called, and what stands for them where they
//! were not asked for.

mod common;

use std::collections::BTreeSet;

use common::matrix::{self, Node, Test};
use common::recording::{Frame, Recording, record};
use common::target::Target;

/// How many frames of a kind were seen, and how many of these have a name.
fn named(recording: &Recording, kind: &str) -> (u64, u64) {
    let (mut named, mut all) = (0, 0);
    for &(_, _, stack) in &recording.samples {
        let frames = recording.stacks[stack].iter();
        for frame in frames.map(|&frame| &recording.frames[frame]) {
            if frame.kind == kind {
                all += 1;
                named += u64::from(frame.has_name());
            }
        }
    }
    (named, all)
}

/// Fails unless some sample has a frame of which `holds` is true above the JavaScript
/// function of that name.
fn assert_above(recording: &Recording, tid: u32, function: &str, holds: impl Fn(&Frame) -> bool) {
    let stacks = recording.stacks_of(tid);
    let mut above = BTreeSet::new();
    for (stack, _) in &stacks {
        let is_it = |frame: &&Frame| frame.is_js() && frame.function == function;
        if let Some(at) = stack.iter().rposition(is_it) {
            above.extend(stack[at + 1..].iter().copied());
        }
    }
    assert!(
        above.iter().any(|frame| holds(frame)),
        "not above {function}; there is {:#?}",
        above
            .iter()
            .map(|frame| &frame.function)
            .collect::<Vec<_>>()
    );
}

/// Until then the kernel may not know yet how to unwind native code.
const KNOWN_AFTER_US: u64 = 500_000;

/// The functions of `native.js` that take turns.
const TURNS: [&str; 6] = ["derive", "hash", "compress", "serialize", "match", "sort"];

/// Fails unless the stacks of the main thread are whole, from `node::Start` to the native
/// code on top: the program never goes back to the event loop, so that each has the
/// program's own script and, if anything is called, one of the functions that take turns.
fn assert_whole(node: &Node, recording: &Recording, pid: u32) {
    let (mut whole, mut all) = (0_u64, 0_u64);
    for &(time, thread, stack) in &recording.samples {
        if recording.threads[thread].tid != pid || time < KNOWN_AFTER_US {
            continue;
        }
        all += 1;
        let stack = &recording.stacks[stack];
        let stack: Vec<&Frame> = stack.iter().map(|&it| &recording.frames[it]).collect();
        let mut natives = stack.iter().take_while(|frame| frame.kind == "native");
        if !natives.any(|frame| frame.function == "node::Start") {
            continue;
        }
        whole += 1;
        let is_own = |frame: &&Frame| {
            let file = frame.file.as_deref();
            file.is_some_and(|file| file.ends_with("/native.js"))
        };
        let javascript: Vec<&Frame> = stack.iter().filter(|it| it.is_js()).copied().collect();
        let script = javascript.iter().position(is_own);
        let turn = script.and_then(|script| javascript.get(script + 1));
        let is_turn = |frame: &&Frame| is_own(frame) && TURNS.contains(&&*frame.function);
        assert!(script.is_some() && turn.is_none_or(is_turn), "{stack:#?}");
    }
    // OpenSSL's assembly tells nothing of its frames before.
    let missing = match node.major() >= 12 {
        true => 2.max(all / 1000),
        false => all / 5,
    };
    assert!(
        all > 100 && whole + missing >= all,
        "{whole} of {all} stacks reach node::Start"
    );
}

fn native_frames(node: &Node) {
    common::measure(|| native_frames_once(node));
}

fn native_frames_once(node: &Node) {
    let _alone = common::one_at_a_time();
    let target = Target::start(&node.version, &[], "native.js", &[]).wait_until_ready();
    let pid = target.pid();
    let recording = record(&target, 2.0, &["--native"]);
    let (with_name, all) = named(&recording, "native");
    assert!(all > 1000, "{all} native frames");
    assert!(
        (all - with_name) * 100 < all,
        "{with_name} of {all} have a name"
    );
    let has = |part: &'static str| move |frame: &Frame| frame.function.contains(part);
    assert_above(&recording, pid, "derive", has("PBKDF2"));
    assert_above(&recording, pid, "compress", has("deflate"));
    assert_above(&recording, pid, "serialize", has("Json"));
    assert_whole(node, &recording, pid);

    // Without --native the same code is pseudo frames: what it was for, and more of that.
    let recording = record(&target, 2.0, &[]);
    assert_eq!(named(&recording, "native"), (0, 0));
    let is =
        |name: &'static str| move |frame: &Frame| frame.kind == "pseudo" && frame.function == name;
    assert_above(&recording, pid, "derive", is("(program)"));
    assert_above(&recording, pid, "match", is("(regexp)"));
    assert_above(&recording, pid, "serialize", is("(JSON)"));
    for (stack, _) in recording.stacks_of(pid) {
        let first = stack.iter().position(|frame| frame.kind == "pseudo");
        let pseudo = &stack[first.unwrap_or(stack.len())..];
        assert!(
            pseudo.len() <= 3 && pseudo.iter().all(|frame| frame.kind == "pseudo"),
            "{stack:#?}"
        );
    }
}

fn kernel_frames(node: &Node) {
    common::measure(|| kernel_frames_once(node));
}

fn kernel_frames_once(node: &Node) {
    let _alone = common::one_at_a_time();
    let target = Target::start(&node.version, &[], "syscalls.js", &[]).wait_until_ready();
    let pid = target.pid();
    let recording = record(&target, 1.5, &["--native", "--kernel"]);
    let (with_name, all) = named(&recording, "kernel");
    assert!(all > 1000, "{all} kernel frames");
    assert!(
        (all - with_name) * 100 < all,
        "{with_name} of {all} have a name"
    );
    // At first it has the name that V8 inferred.
    let read_sync = match node.major() < 10 || node.is_of("10.0.") {
        true => "fs.readSync",
        false => "readSync",
    };
    assert_above(&recording, pid, read_sync, |frame| {
        frame.kind == "kernel" && frame.function.contains("read")
    });
    // The kernel is inside: nothing of the program is above it.
    for (stack, _) in recording.stacks_of(pid) {
        let first = stack.iter().position(|frame| frame.kind == "kernel");
        let kernel = &stack[first.unwrap_or(stack.len())..];
        assert!(
            kernel.iter().all(|frame| frame.kind == "kernel"),
            "{stack:#?}"
        );
    }

    let recording = record(&target, 1.0, &[]);
    assert_eq!(named(&recording, "kernel"), (0, 0));
}

fn main() -> std::process::ExitCode {
    matrix::main([
        Test::new("native_frames", 8, native_frames),
        Test::new("kernel_frames", 8, kernel_frames),
    ])
}
