//! Where threads wait: `record --wall`.
//!
//! The fixture waits in known ways and measures by the monotonic clock how long each of
//! them took. So many samples must have that function on their stack, whatever the
//! machine does meanwhile: as many as ticks fell into that time. And those that wait say
//! for what, under the whole stack of JavaScript that led there.

mod common;

use std::collections::BTreeMap;
use std::process::{Command, ExitCode, Stdio};
use std::time::{Duration, UNIX_EPOCH};
use std::{fs, thread};

use common::matrix::{self, Node, Test};
use common::recording::{self, Frame, Recording};
use common::target::Target;
use serde::Deserialize;

fn main() -> ExitCode {
    matrix::main([
        Test::new("waits_take_the_time_that_they_take", 10, known_waits).seldom_if(|_| true),
        // The first 0.10 is built so that no stack of it is whole.
        Test::new("early_waits_take_the_time_that_they_take", 0, known_waits)
            .before(10)
            .only_on(|node| node.version != "0.10.0")
            .long(),
        Test::new("what_hangs_is_seen", 10, what_hangs).seldom_if(|_| true),
    ])
}

/// What the fixture says of one round.
#[derive(Deserialize)]
struct Round {
    /// When it began, in milliseconds since 1970.
    at: f64,
    /// How long it was in each function, in milliseconds.
    #[serde(flatten)]
    took: BTreeMap<String, f64>,
}

fn known_waits(node: &Node) {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let fifo = folder.path().join("fifo");
    let made = Command::new("mkfifo").arg(&fifo).status();
    assert!(made.expect("mkfifo").success());
    let output = Command::new(env!("CARGO_BIN_EXE_nodetap"))
        .args(["record", "--wall", "-f", "json", "-o"])
        .arg(folder.path().join("recording.json"))
        .arg("--")
        .arg(common::node(&node.version))
        .arg(common::fixture("wall.js"))
        .arg(&fifo)
        .stdin(Stdio::null())
        .output()
        .expect("cannot run nodetap");
    let notes = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{notes}");
    let mut rounds: Vec<Round> =
        serde_json::from_slice(&output.stdout).expect("what the fixture measured");
    let text = fs::read_to_string(folder.path().join("recording.json")).expect("a recording");
    let recording: Recording = serde_json::from_str(&text).expect("the JSON of a record");
    assert_eq!(recording.lost, 0, "{notes}");
    assert!(notes.contains("\nmain thread: "), "{notes}");

    let main = recording.processes[0].pid;
    let started = recording.started();
    let at = |time_us: u64| -> f64 {
        let time = started.duration_since(UNIX_EPOCH).expect("after 1970");
        time.as_secs_f64() * 1e3 + time_us as f64 / 1e3
    };
    let samples = recording.samples.iter().zip(&recording.counts);
    let of_main = samples.filter(|((_, thread, _), _)| recording.threads[*thread].tid == main);
    let mut stacks: Vec<(f64, u64, Vec<&str>)> = of_main
        .map(|(&(time, _, stack), &count)| {
            let frames = recording.stacks[stack].iter();
            let names = frames.map(|&frame| &*recording.frames[frame].function);
            (at(time), count, names.collect())
        })
        .collect();
    // How to walk through the program's files is read while it runs already, and of what
    // is looked at late not all has a name: such rounds are not counted. (Nothing but the
    // event loop waits without JavaScript, and that is idle.)
    let is_cut = |stack: &[&str]| {
        stack.len() == 1 && stack[0].starts_with("(blocked") || stack.contains(&"(unknown)")
    };
    let begins: Vec<f64> = rounds.iter().map(|round| round.at).collect();
    let round_at = |time: f64| {
        begins
            .partition_point(|&begun| begun <= time)
            .checked_sub(1)
    };
    let mut is_whole = vec![true; rounds.len()];
    for (time, _, stack) in &stacks {
        if let Some(round) = round_at(*time) {
            is_whole[round] &= !is_cut(stack);
        }
    }
    let mut whole = is_whole.iter();
    rounds.retain(|_| whole.next() == Some(&true));
    assert!(
        rounds.len() >= 10,
        "stacks are not whole\n{notes}{stacks:#?}"
    );
    stacks.retain(|&(time, ..)| round_at(time).is_some_and(|round| is_whole[round]));
    let count = |holds: &dyn Fn(&[&str]) -> bool| -> f64 {
        let stacks = stacks.iter().filter(|(_, _, stack)| holds(stack));
        stacks.map(|&(_, count, _)| count as f64).sum()
    };

    let took = |function: &str| -> f64 { rounds.iter().map(|it| it.took[function]).sum() };
    let ticks = |time: f64| time / 1e3 * f64::from(recording.rate_hz);
    let whole: f64 = rounds.iter().flat_map(|round| round.took.values()).sum();
    let points = |samples: f64| 100.0 * samples / ticks(whole);
    // What each of them waits in, and for how long at least, each time.
    for (function, waits_in, least) in [
        (
            "reads",
            &[
                "(blocked in openat)",
                "(blocked in open)",
                "(blocked in read)",
            ][..],
            20.0,
        ),
        ("atomics", &["(blocked in futex)"], 40.0),
        (
            "shell",
            &["(blocked in epoll_wait)", "(blocked in epoll_pwait)"],
            20.0,
        ),
        ("spins", &[], 0.0),
    ] {
        if !rounds[0].took.contains_key(function) {
            continue;
        }
        let calls = |stack: &[&str]| {
            let round = stack.iter().position(|&name| name == "round");
            round.is_some_and(|at| stack[at..].starts_with(&["round", "measured", function]))
        };
        let (samples, expected) = (count(&calls), ticks(took(function)));
        assert!(
            points(samples - expected).abs() <= 2.0,
            "{function}: {samples} samples, {expected:.0} expected\n{notes}{stacks:#?}"
        );
        // All that they do is wait; to have no CPU when that is over is no part of it.
        let waits = |stack: &[&str]| {
            calls(stack) && stack.last().is_some_and(|last| waits_in.contains(last))
        };
        let waiting = count(&waits);
        assert!(
            waiting >= 0.95 * ticks(least * rounds.len() as f64),
            "{function}: {waiting} samples of waits, of {samples}\n{notes}{stacks:#?}"
        );
    }
    let idle = count(&|stack| stack == ["(idle)"]);
    let (least, most) = (30.0 * rounds.len() as f64, took("idle"));
    assert!(
        idle >= 0.9 * ticks(least) && points(idle - ticks(most)) <= 2.0,
        "{idle} samples are idle\n{notes}{stacks:#?}"
    );

    // Nobody wants to see how the other threads wait for something to do.
    let helpers = recording.threads.iter().filter(|it| it.tid != main);
    for thread in helpers {
        for (stack, _) in recording.stacks_of(thread.tid) {
            let last = stack.last().map(|frame| &*frame.function);
            assert_ne!(last, Some("(blocked in futex)"), "{thread:?}: {stack:?}");
        }
    }
}

/// A thread that waited before the recording began, and goes on to do so.
fn what_hangs(node: &Node) {
    let target = Target::start(&node.version, &[], "waits.js", &["read"]).wait_until_ready();
    wait_until_it_reads(target.pid());
    let recording = recording::record(&target, 0.5, &["--wall"]);
    let names = |stack: &[&Frame]| -> Vec<String> {
        stack.iter().map(|frame| frame.function.clone()).collect()
    };
    let all = recording.samples_of(target.pid());
    let hanging = recording.count(target.pid(), |stack| {
        names(stack)
            .ends_with(&["asked", "read", "readSync", "(blocked in read)"].map(str::to_owned))
    });
    let expected = recording.duration().as_secs_f64() * f64::from(recording.rate_hz);
    assert!(
        hanging * 20 >= all * 19 && (hanging as f64 - expected).abs() <= 0.1 * expected,
        "{hanging} of {all} samples, {expected:.0} expected\n{}",
        recording.notes
    );
}

/// Until the main thread waits for a line.
fn wait_until_it_reads(pid: u32) {
    for _ in 0..1000 {
        let call = fs::read_to_string(format!("/proc/{pid}/syscall")).unwrap_or_default();
        if call.starts_with("0 0x0 ") {
            return;
        }
        thread::sleep(Duration::from_millis(20));
    }
    panic!("it does not read");
}
