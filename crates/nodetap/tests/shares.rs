//! How CPU time is shared among functions, by either sampler, against what the program
//! measured itself.

mod common;

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use common::matrix::{self, Test};
use common::recording::{Frame, Recording, start};
use common::target::Target;
use serde::Deserialize;

/// What the fixture has used so far, in microseconds of CPU time.
#[derive(Clone, Copy, Debug, Deserialize)]
struct Used {
    /// Milliseconds since 1970.
    time: u64,
    fifty: u64,
    thirty: u64,
    twenty: u64,
}

impl Used {
    fn since(self, start: Used) -> [f64; 3] {
        let used = [
            self.fifty - start.fifty,
            self.thirty - start.thirty,
            self.twenty - start.twenty,
        ];
        let all: u64 = used.iter().sum();
        used.map(|used| 100.0 * used as f64 / all as f64)
    }
}

fn check(version: &str) {
    common::measure(|| check_once(version));
}

fn check_once(version: &str) {
    let _alone = common::one_at_a_time();
    let target = Target::start(version, &[], "shares.js", &[]).wait_until_ready();
    let pid = target.pid();
    let by_ebpf = start(&target, 10.0, &["--sampler", "ebpf", "-r", "999"]);
    // At the same time, the other one.
    let by_ptrace = start(&target, 10.0, &["--sampler", "ptrace", "-r", "499"]);
    let recording = by_ebpf.finish();
    let by_ptrace = by_ptrace.finish();
    recording.assert_sampled(&target);
    assert_eq!(by_ptrace.lost, 0, "{}", by_ptrace.notes);
    let reports: Vec<Used> = target
        .finish()
        .iter()
        .filter_map(|line| serde_json::from_str(line).ok())
        .collect();

    compare(&recording, pid, &reports, 2.0);
    // Every sample is one of the three functions or not, by chance: shares of so many
    // are off by more than four of these deviations in one case of 16,000.
    let deviation = 50.0 / (by_ptrace.samples_of(pid) as f64).sqrt();
    compare(&by_ptrace, pid, &reports, 1.0 + 4.0 * deviation);

    // The V8 of 15.14 inlines it nowhere (its --trace-turbo-inlining).
    if version.starts_with("15.") {
        return;
    }
    // One of them is to be inlined, or this test does not test what it is there for.
    let twenty = recording.count(pid, |stack| {
        stack.iter().any(|frame| frame.function == "twenty")
    });
    let inlined = recording.count(pid, |stack| {
        let mut frames = stack.iter();
        frames.any(|frame| frame.function == "twenty" && frame.inlined)
    });
    assert!(
        inlined * 10 > twenty * 9,
        "of {twenty} samples in `twenty`, {inlined} in inlined code"
    );
}

/// Fails where a function's share is further off than `allowed`, in percent of all.
fn compare(recording: &Recording, pid: u32, reports: &[Used], allowed: f64) {
    let started = recording.started();
    let last_before = |moment: SystemTime| {
        let is_before = |used: &&Used| UNIX_EPOCH + Duration::from_millis(used.time) <= moment;
        *reports.iter().rfind(is_before).expect("a report")
    };
    let truth = last_before(started + recording.duration()).since(last_before(started));

    let all = recording.samples_of(pid) as f64;
    let names = ["fifty", "thirty", "twenty"];
    let measured = names.map(|name| {
        let has = |stack: &[&Frame]| stack.iter().any(|frame| frame.function == name);
        100.0 * recording.count(pid, has) as f64 / all
    });
    let sampler = &recording.sampler;
    for ((name, truth), measured) in names.iter().zip(truth).zip(measured) {
        assert!(
            (truth - measured).abs() <= allowed,
            "{name} used {truth:.1} % and is reported with {measured:.1} % ({sampler})"
        );
    }
}

fn main() -> std::process::ExitCode {
    matrix::main([
        Test::new("shares", 18, |node| check(&node.version)),
        Test::new("shares", 8, |node| check(&node.version))
            .before(18)
            .seldom_if(|_| true),
    ])
}
