//! Native and kernel frames: what they are called, and what stands for them where they
//! were not asked for.

mod common;

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;

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
    let missing = match node.is_since(12, 16) {
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

/// An addon of C++ without frame pointers.
fn build_addon(folder: &Path) -> String {
    let addon = folder.join("addon.node");
    let status = Command::new("clang")
        .args(["-shared", "-fPIC", "-O3", "-fomit-frame-pointer"])
        .args(["-fno-optimize-sibling-calls", "-o"])
        .arg(&addon)
        .arg(common::fixture("frameless/addon.cc"))
        .status()
        .expect("cannot run clang");
    assert!(status.success(), "{status}");
    addon.to_str().expect("UTF-8").to_owned()
}

/// The addon's own functions that are above one of JavaScript, outermost first, each once
/// for all of it that follow each other, and who called them; `None` if there are none.
fn in_addon<'a>(stack: &[&'a Frame]) -> Option<(&'a str, Vec<&'a str>)> {
    // They call each other through stubs.
    let is_own = |frame: &&&Frame| {
        frame.function.starts_with("frameless_") && !frame.function.ends_with("@plt")
    };
    let caller = stack.iter().rev().find(|frame| frame.is_js())?;
    let mut own: Vec<&str> = stack
        .iter()
        .filter(is_own)
        .map(|it| &*it.function)
        .collect();
    own.dedup();
    (!own.is_empty()).then_some((&caller.function, own))
}

fn frameless_addon(node: &Node) {
    common::measure(|| frameless_addon_once(node));
}

fn frameless_addon_once(node: &Node) {
    let _alone = common::one_at_a_time();
    let folder = tempfile::tempdir().expect("a temporary folder");
    let addon = build_addon(folder.path());
    let target = Target::start(&node.version, &[], "frameless/main.js", &[&addon]);
    let target = target.wait_until_ready();
    let pid = target.pid();
    let recording = record(&target, 3.0, &["--native"]);
    let mut turns = BTreeSet::new();
    let (mut whole, mut all, mut first) = (0_u64, 0_u64, None);
    for &(time, thread, stack) in &recording.samples {
        let stack = &recording.stacks[stack];
        let stack: Vec<&Frame> = stack.iter().map(|&it| &recording.frames[it]).collect();
        let Some((caller, own)) = in_addon(&stack) else {
            continue;
        };
        // How to unwind it is known soon after it was loaded.
        let first = *first.get_or_insert(time);
        if recording.threads[thread].tid != pid || time < first + KNOWN_AFTER_US {
            continue;
        }
        all += 1;
        let expected: &[&str] = match caller {
            "inDeep" => &["frameless_deep", "frameless_leaf"],
            "inSort" => &["frameless_sort", "frameless_compare", "frameless_leaf"],
            "inCatches" => &["frameless_catcher", "frameless_thrower"],
            _ => panic!("{stack:#?}"),
        };
        assert!(expected.starts_with(&own), "{stack:#?}");
        let deep = |name: &str| stack.iter().filter(|it| it.function == name).count();
        // Where the innermost of them runs, all others are there.
        if own.len() == expected.len() {
            turns.insert(caller);
            match caller {
                "inDeep" => assert_eq!(deep("frameless_deep"), 21, "{stack:#?}"),
                "inSort" => assert_eq!(deep("frameless_sort"), 1, "{stack:#?}"),
                _ => assert!(deep("frameless_thrower") <= 11, "{stack:#?}"),
            }
        }
        whole += u64::from(stack.iter().any(|it| it.function == "node::Start"));
    }
    assert_eq!(turns.len(), 3, "{turns:?}");
    assert!(
        all > 100 && whole + 2.max(all / 1000) >= all,
        "{whole} of {all} stacks in the addon reach node::Start"
    );
}

fn main() -> std::process::ExitCode {
    matrix::main([
        Test::new("frameless_addon", 24, frameless_addon).seldom_if(|_| true),
        Test::new("native_frames", 8, native_frames),
        Test::new("kernel_frames", 8, kernel_frames).seldom_if(|_| true),
    ])
}
