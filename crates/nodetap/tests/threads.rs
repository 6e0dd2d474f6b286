//! Threads: workers that are there, workers that come while it is recorded, and the
//! threads that V8 and libuv keep for themselves.

mod common;

use std::collections::{BTreeMap, BTreeSet};
use std::thread;
use std::time::Duration;

use common::matrix::{self, Node, Test};
use common::recording::{Frame, Recording, record, start};
use common::target::Target;

/// The threads of which some stack has a function of that name.
fn threads_in(recording: &Recording, function: &str) -> BTreeSet<u32> {
    let mut threads = BTreeSet::new();
    for &(_, thread, stack) in &recording.samples {
        let mut frames = recording.stacks[stack].iter();
        if frames.any(|&frame| recording.frames[frame].function == function) {
            threads.insert(recording.threads[thread].tid);
        }
    }
    threads
}

/// Whether a stack is one function over another, these two being its innermost
/// JavaScript frames.
fn ends_in(stack: &[&Frame], caller: &str, callee: &str) -> bool {
    let mut js = stack.iter().rev().filter(|frame| frame.is_js());
    js.next().is_some_and(|frame| frame.function == callee)
        && js.next().is_some_and(|frame| frame.function == caller)
}

fn workers(node: &Node) {
    common::measure(|| workers_once(node));
}

fn workers_once(node: &Node) {
    let _alone = common::one_at_a_time();
    let flags: &[&str] = match node.major() {
        ..12 => &["--experimental-worker"],
        _ => &[],
    };
    let target = Target::start(&node.version, flags, "threads.js", &[]);
    let mut target = target.wait_until_ready();
    let before: BTreeSet<u32> = target.threads().into_iter().collect();

    // The late workers start when nodetap has begun to record.
    let running = start(&target, 4.0, &[]);
    thread::sleep(Duration::from_millis(1500));
    target.tell("start");
    let recording = running.finish();

    let main = threads_in(&recording, "inMain");
    assert_eq!(main, BTreeSet::from([target.pid()]));
    let early = threads_in(&recording, "inEarlyWorker");
    assert_eq!(early.len(), 2, "{early:?}");
    assert!(early.is_subset(&before), "{early:?} {before:?}");
    let late = threads_in(&recording, "inLateWorker");
    assert_eq!(late.len(), 2, "{late:?}");
    assert!(late.is_disjoint(&before), "{late:?} {before:?}");

    for (threads, function) in [(&early, "inEarlyWorker"), (&late, "inLateWorker")] {
        for &tid in threads {
            let right = recording.count(tid, |stack| ends_in(stack, function, "burn"));
            // A worker that is born on the way has Node's own start before that.
            let ran = recording.count(tid, |stack| {
                stack.iter().any(|frame| frame.function == function)
            });
            assert!(right * 100 >= ran * 95, "{right} of {ran} of {function}");
        }
    }
    for thread in &recording.threads {
        assert_eq!(thread.pid, target.pid());
        assert!(!thread.name.is_empty(), "{thread:?}");
    }
}

/// How often each single frame was the whole stack of a thread that runs no JavaScript.
/// Fails where such a stack has more than one frame.
fn roles(recording: &Recording, main: u32) -> BTreeMap<String, u64> {
    let mut roles = BTreeMap::new();
    for thread in recording.threads.iter().filter(|thread| thread.tid != main) {
        for (stack, count) in recording.stacks_of(thread.tid) {
            let [frame] = stack[..] else {
                panic!("thread {thread:?} has the stack {stack:#?}");
            };
            assert_eq!(frame.kind, "pseudo", "{thread:?} {frame}");
            *roles.entry(frame.function.clone()).or_insert(0) += count;
        }
    }
    roles
}

fn helpers(version: &str) {
    common::measure(|| helpers_once(version));
}

fn helpers_once(version: &str) {
    let _alone = common::one_at_a_time();
    let target = Target::start(version, &[], "gc.js", &[]).wait_until_ready();
    let recording = record(&target, 1.5, &[]);
    let roles_seen = roles(&recording, target.pid());
    assert!(roles_seen.contains_key("(v8 worker)"), "{roles_seen:?}");
    let collecting = recording.count(target.pid(), |stack| {
        stack
            .last()
            .is_some_and(|top| top.kind == "pseudo" && top.function == "(garbage collector)")
    });
    assert!(collecting > 0, "no sample of the garbage collector");
    drop(target);

    let target = Target::start(version, &[], "syscalls.js", &[]).wait_until_ready();
    let recording = record(&target, 1.5, &[]);
    let roles_seen = roles(&recording, target.pid());
    assert!(roles_seen.contains_key("(libuv worker)"), "{roles_seen:?}");
    // The main thread is in the kernel most of the time, and its stack is no worse there.
    let reading = recording.count(target.pid(), |stack| {
        let mut js = stack.iter().filter(|frame| frame.is_js());
        js.any(|frame| frame.function == "readBlock")
    });
    let all = recording.samples_of(target.pid());
    assert!(
        reading * 10 > all * 9,
        "{reading} of {all} samples in readBlock"
    );
}

fn main() -> std::process::ExitCode {
    matrix::main([
        // 10.0 has none.
        Test::new("workers", 10, workers).only_on(|node| !node.is_of("10.0.")),
        Test::new("helpers", 8, |node| helpers(&node.version)),
    ])
}
