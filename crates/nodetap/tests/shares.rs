//! How CPU time is shared among functions, against what the program measured itself.

mod common;

use std::time::{Duration, UNIX_EPOCH};

use common::matrix::{self, Test};
use common::recording::record;
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
    let recording = record(&target, 10.0, &["-r", "999"]);
    recording.assert_sampled(&target);
    let reports: Vec<Used> = target
        .finish()
        .iter()
        .filter_map(|line| serde_json::from_str(line).ok())
        .collect();

    let started = recording.started();
    let last_before = |moment: std::time::SystemTime| {
        let is_before = |used: &&Used| UNIX_EPOCH + Duration::from_millis(used.time) <= moment;
        *reports.iter().rfind(is_before).expect("a report")
    };
    let truth = last_before(started + recording.duration()).since(last_before(started));

    let all = recording.samples_of(pid) as f64;
    let names = ["fifty", "thirty", "twenty"];
    let measured = names.map(|name| {
        let has = |stack: &[&_]| {
            let mut frames = stack.iter();
            frames.any(|frame: &&common::recording::Frame| frame.function == name)
        };
        100.0 * recording.count(pid, has) as f64 / all
    });
    for ((name, truth), measured) in names.iter().zip(truth).zip(measured) {
        assert!(
            (truth - measured).abs() <= 2.0,
            "{name} used {truth:.1} % and is reported with {measured:.1} %"
        );
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

fn main() -> std::process::ExitCode {
    matrix::main([
        Test::new("shares", 18, |node| check(&node.version)),
        Test::new("shares", 8, |node| check(&node.version))
            .before(18)
            .seldom_if(|_| true),
    ])
}
