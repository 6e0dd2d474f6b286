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

fn native_frames(version: &str) {
    common::measure(|| native_frames_once(version));
}

fn native_frames_once(version: &str) {
    let _alone = common::one_at_a_time();
    let target = Target::start(version, &[], "native.js", &[]).wait_until_ready();
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
    // Outermost is the program's own start.
    let whole = recording.count(pid, |stack| {
        let mut natives = stack.iter().take_while(|frame| frame.kind == "native");
        natives.any(|frame| frame.function == "node::Start")
    });
    let all = recording.samples_of(pid);
    assert!(
        whole * 10 > all * 8,
        "{whole} of {all} stacks reach node::Start"
    );

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
        Test::new("native_frames", 8, |node| native_frames(&node.version)),
        Test::new("kernel_frames", 8, kernel_frames),
    ])
}
