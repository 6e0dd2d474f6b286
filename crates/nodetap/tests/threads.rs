//! Threads: workers that are there, workers that come while it is recorded, and the
//! threads that V8 and libuv keep for themselves.

mod common;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, SystemTime};

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

/// How often each role was the outermost frame of a thread that runs no JavaScript.
/// Fails where there is more on top of that than a pseudo frame that says what it did.
fn roles(recording: &Recording, main: u32) -> BTreeMap<String, u64> {
    let mut roles = BTreeMap::new();
    for thread in recording.threads.iter().filter(|thread| thread.tid != main) {
        for (stack, count) in recording.stacks_of(thread.tid) {
            assert!(
                stack.len() <= 2 && stack.iter().all(|frame| frame.kind == "pseudo"),
                "thread {thread:?} has the stack {stack:#?}"
            );
            let role = stack.first().expect("a role");
            *roles.entry(role.function.clone()).or_insert(0) += count;
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
        let mut pseudo = stack.iter().filter(|frame| frame.kind == "pseudo");
        pseudo.any(|frame| frame.function == "(garbage collector)")
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

/// How much CPU time each thread of a process has had so far, in seconds.
fn cpu_times(pid: u32) -> BTreeMap<u32, f64> {
    let time = |entry: fs::DirEntry| {
        let text = fs::read_to_string(entry.path().join("schedstat")).ok()?;
        let nanoseconds: f64 = text.split(' ').next()?.parse().ok()?;
        let tid = entry.file_name().to_str()?.parse().ok()?;
        Some((tid, nanoseconds / 1e9))
    };
    let entries = fs::read_dir(format!("/proc/{pid}/task"));
    let entries = entries.into_iter().flatten().flatten();
    entries.filter_map(time).collect()
}

/// Records with the ptrace sampler; the CPU time that each thread had meanwhile.
fn record_and_meter(target: &Target) -> (Recording, BTreeMap<u32, f64>) {
    let ended = AtomicBool::new(false);
    thread::scope(|scope| {
        let meter = scope.spawn(|| {
            let mut readings = Vec::new();
            while !ended.load(Ordering::Relaxed) {
                readings.push((SystemTime::now(), cpu_times(target.pid())));
                thread::sleep(Duration::from_millis(20));
            }
            readings.push((SystemTime::now(), cpu_times(target.pid())));
            readings
        });
        let recording = record(target, 4.0, &["--sampler", "ptrace"]);
        ended.store(true, Ordering::Relaxed);
        let readings = meter.join().expect("the meter ran");
        let at = |moment: SystemTime| {
            let after = readings.iter().find(|&&(time, _)| time >= moment);
            &after.expect("a reading after that").1
        };
        let (first, last) = (at(recording.started()), {
            at(recording.started() + recording.duration())
        });
        let had = |(tid, time): (&u32, &f64)| (*tid, last.get(tid).unwrap_or(time) - time);
        let had = first.iter().map(had).collect();
        (recording, had)
    })
}

/// Many more threads than CPUs, for the sampler that has to wait until a thread runs
/// before it can stop it: each gets a sample for each period of its CPU time.
fn crowd(node: &Node) {
    common::measure(|| crowd_once(node));
}

fn crowd_once(node: &Node) {
    let _alone = common::one_at_a_time();
    let target = Target::start(&node.version, &[], "crowd.js", &["50"]).wait_until_ready();
    let (recording, had) = record_and_meter(&target);
    assert_eq!(recording.lost, 0, "{}", recording.notes);

    let mut workers = 0;
    let (mut all, mut all_expected) = (0.0, 0.0);
    for (&tid, had) in &had {
        let expected = f64::from(recording.rate_hz) * had;
        let samples = recording.samples_of(tid) as f64;
        all += samples;
        all_expected += expected;
        workers += u32::from(expected > 1.0);
        // It may be some samples behind, or ahead.
        assert!(
            (samples - expected).abs() <= 8.0 + 0.1 * expected,
            "{samples} samples of {tid} instead of {expected:.1}\n{}",
            recording.notes
        );
    }
    assert!(workers >= 50, "{workers} threads ran");
    assert!(
        (0.4..1.2).contains(&(all / all_expected)),
        "{all} samples instead of {all_expected}\n{}",
        recording.notes
    );
    // On a machine as busy as this, a name may be looked for too late.
    let spinning = threads_in(&recording, "spin").len();
    assert!(spinning >= 40, "{spinning} threads in `spin`");
}

/// Workers that come and go: each maps V8's builtins where the code of another may have
/// been. What runs once is told by where the interpreter's entry is.
fn generations(node: &Node) {
    common::measure(|| generations_once(node));
}

fn generations_once(node: &Node) {
    let _alone = common::one_at_a_time();
    let target = Target::start(&node.version, &[], "generations.js", &[]).wait_until_ready();
    let recording = record(&target, 6.0, &["-r", "499"]);
    assert_eq!(recording.lost, 0, "{}", recording.notes);

    let is_whole = |stack: &[&Frame]| {
        let mut js = stack.iter().filter(|frame| frame.is_js());
        let own = ["outer", "inWorker", "burn"];
        let mut own = own.iter().peekable();
        js.all(|frame| {
            own.next_if(|name| ***name == *frame.function);
            frame.has_name() && frame.tier.is_some() && frame.line.is_some()
        }) && own.next().is_none()
            && stack.iter().all(|frame| frame.function != "(unknown code)")
    };
    let burns = |stack: &[&Frame]| stack.iter().any(|frame| frame.function == "burn");
    let (mut whole, mut all) = (0, 0);
    let mut broken = Vec::new();
    for thread in &recording.threads {
        all += recording.count(thread.tid, burns);
        whole += recording.count(thread.tid, |stack| burns(stack) && is_whole(stack));
        let stacks = recording.stacks_of(thread.tid).into_iter();
        let not_whole = stacks.filter(|(stack, _)| burns(stack) && !is_whole(stack));
        broken.extend(not_whole.map(|(stack, count)| {
            let frames = stack.iter().filter(|frame| frame.kind != "native");
            let frame = |it: &&Frame| format!("{} {:?}:{:?}", it.function, it.tier, it.line);
            (count, frames.map(frame).collect::<Vec<_>>())
        }));
    }
    let workers = threads_in(&recording, "burn").len();
    assert!(workers >= 20, "{workers} workers");
    // Code and scripts of a worker that has ended may be gone before they are read.
    assert!(
        whole * 100 >= all * 99,
        "{whole} of {all} stacks are whole; not {:#?}",
        broken.iter().max()
    );
}

fn main() -> std::process::ExitCode {
    matrix::main([
        // 10.0 has none.
        Test::new("workers", 10, workers).only_on(|node| !node.is_of("10.0.")),
        // 17 and 18 copy the builtins, later ones map them again.
        Test::new("generations", 12, generations)
            .only_on(|node| [14, 18, 24].contains(&node.major())),
        Test::new("generations", 12, generations)
            .only_on(|node| ![14, 18, 24].contains(&node.major()))
            .long(),
        Test::new("crowd", 24, crowd)
            .only_on(|node| node.is_of("24."))
            .long(),
        Test::new("helpers", 8, |node| helpers(&node.version)),
    ])
}
