//! The target is killed: nodetap ends with what it had.

use std::fs;
use std::process::Output;
use std::thread::sleep;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::common::matrix::Node;
use crate::common::one_at_a_time;
use crate::moments::{Moment, Moments};
use crate::worker::{LIMIT, Place, Worker, kill_9, output_within, within};

/// What came of it, for one round.
fn stderr(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).expect("UTF-8")
}

/// Makes sure that nodetap says in one line why there is no result.
fn assert_fails(output: &Output, place: &Place, reasons: &[&str]) {
    let text = stderr(output);
    let mut lines = text.lines();
    let error = lines.next().unwrap_or_default();
    assert!(reasons.contains(&error), "{text}");
    assert!(
        lines.next().is_none_or(|it| it.starts_with("hint: ")),
        "{text}"
    );
    assert_eq!(lines.next(), None, "{text}");
    assert_eq!(output.status.code(), Some(1), "{text}");
    assert!(!place.path("out.json").exists(), "{text}");
}

/// Makes sure that there is a recording.
fn assert_recorded(text: &str, place: &Place) {
    let written = fs::read_to_string(place.path("out.json")).expect(text);
    // Node's version is not there yet at first: the type of usual recordings wants it.
    let recording: Value = serde_json::from_str(&written).expect(text);
    assert_eq!(recording["processes"].as_array().map(Vec::len), Some(1));
    assert!(text.contains(" samples in "), "{text}");
    fs::remove_file(place.path("out.json")).expect("it is there");
}

pub fn record(node: &Node, sampler: &str) {
    let _alone = one_at_a_time();
    let mut moments = Moments::of(node);
    let place = Place::new(node);
    let mut recorded = 0;
    for round in 0..moments.rounds() {
        let moment = moments.of_record(round, sampler);
        moments.note(round, moment);
        let mut worker = place.worker();
        let pid = worker.pid();
        let words = ["record", "--sampler", sampler, "-o", "out.json", "-p"];
        let mut nodetap = place.nodetap(&words);
        nodetap.arg(pid.to_string());
        let mut nodetap = nodetap.spawn().expect("cannot run nodetap");
        moment.wait(&mut nodetap, pid, false);
        kill_9(&mut worker.child);
        let output = output_within(LIMIT, nodetap);
        if output.status.code() == Some(0) {
            recorded += 1;
            let text = stderr(&output);
            assert_recorded(&text, &place);
            let told = text.starts_with(&format!("note: process {pid} has ended\n"));
            assert!(told || matches!(moment, Moment::Ending(_)), "{text}");
            continue;
        }
        let reasons = [
            format!("error: there is no process {pid}"),
            format!("error: process {pid} has ended"),
        ];
        assert_fails(&output, &place, &reasons.each_ref().map(String::as_str));
    }
    assert_ne!(recorded, 0);
}

pub fn launch(node: &Node, sampler: &str) {
    let _alone = one_at_a_time();
    let mut moments = Moments::of(node);
    let place = Place::new(node);
    let mut recorded = 0;
    for round in 0..moments.rounds() {
        let moment = moments.of_launch(round);
        moments.note(round, moment);
        let words = ["record", "--sampler", sampler, "-o", "out.json", "--"];
        let mut nodetap = place.nodetap(&words);
        let command = place.command();
        nodetap.args(&command);
        let mut nodetap = Worker::spawn(nodetap);
        let Some(pid) = only_child(&mut nodetap) else {
            panic!("nothing was started");
        };
        if let Moment::Ready(_) = moment {
            assert_eq!(nodetap.line().as_deref(), Some("ready"));
        }
        moment.wait(&mut nodetap.child, pid, false);
        // SAFETY: no memory of ours is touched; nodetap has not ended, so the process is
        // there, even where it has ended.
        unsafe { libc::kill(pid as i32, libc::SIGKILL) };
        within(LIMIT, &mut nodetap.child);
        let status = nodetap.child.wait().expect("wait");
        let mut text = Vec::new();
        let pipe = nodetap.child.stderr.as_mut().expect("piped");
        std::io::Read::read_to_end(pipe, &mut text).expect("read");
        let output = Output {
            status,
            stdout: Vec::new(),
            stderr: text,
        };
        if status.code() == Some(128 + libc::SIGKILL) {
            recorded += 1;
            assert_recorded(&stderr(&output), &place);
            continue;
        }
        let program = &command[0];
        let reasons = [
            format!("error: {program} did not run Node.js"),
            format!("error: {program} was killed by signal 9 before it ran Node.js"),
        ];
        assert_fails(&output, &place, &reasons.each_ref().map(String::as_str));
    }
    assert_ne!(recorded, 0);
}

/// The process that `nodetap` starts.
fn only_child(nodetap: &mut Worker) -> Option<u32> {
    let begun = Instant::now();
    while begun.elapsed() < LIMIT {
        let tasks = fs::read_dir(format!("/proc/{}/task", nodetap.pid())).expect("it runs");
        for task in tasks {
            let children = task.expect("a thread").path().join("children");
            let children = fs::read_to_string(children).unwrap_or_default();
            if let Some(child) = children.split_whitespace().next() {
                return child.parse().ok();
            }
        }
        if nodetap.child.try_wait().expect("wait").is_some() {
            return None;
        }
        sleep(Duration::from_micros(50));
    }
    None
}

pub fn dump(node: &Node, _: &str) {
    let _alone = one_at_a_time();
    let mut moments = Moments::of(node);
    let place = Place::new(node);
    for round in 0..moments.rounds() {
        let moment = moments.of_dump(round);
        moments.note(round, moment);
        let mut worker = place.worker();
        let pid = worker.pid();
        let mut nodetap = place.nodetap(&["dump", "--json", "-p"]);
        nodetap.arg(pid.to_string());
        let mut nodetap = nodetap.spawn().expect("cannot run nodetap");
        moment.wait(&mut nodetap, pid, true);
        kill_9(&mut worker.child);
        let output = output_within(LIMIT, nodetap);
        if output.status.code() == Some(0) {
            let dump: Value = serde_json::from_slice(&output.stdout).expect("JSON");
            assert_eq!(dump["pid"], pid);
            continue;
        }
        let reasons = [
            format!("error: there is no process {pid}"),
            format!("error: process {pid} has ended"),
        ];
        assert_fails(&output, &place, &reasons.each_ref().map(String::as_str));
    }
}
