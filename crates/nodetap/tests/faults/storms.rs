//! What the target does while it is recorded: it is stopped and goes on, gets signals,
//! makes threads and processes, runs other programs.

use std::fs;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::common::matrix::Node;
use crate::common::one_at_a_time;
use crate::common::recording::Recording;
use crate::moments::{Moments, wait_until_sampling};
use crate::worker::{LIMIT, Place, Report, Sender, Worker, output_within, state, within};

fn rate(sampler: &str) -> &'static str {
    match sampler {
        "ptrace" => "2000",
        _ => "999",
    }
}

fn record(place: &Place, sampler: &str, options: &[&str]) -> Command {
    let words = ["record", "--sampler", sampler, "--rate", rate(sampler)];
    let words = [&words[..], &["-f", "json", "-o", "out.json"], options].concat();
    place.nodetap(&words)
}

/// Asks a recording to end, and makes sure that it is good.
fn finish(place: &Place, nodetap: Child) -> Recording {
    // SAFETY: a child that has not been waited for.
    unsafe { libc::kill(nodetap.id() as i32, libc::SIGTERM) };
    let output = output_within(LIMIT, nodetap);
    let text = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(0), "{text}");
    let written = fs::read_to_string(place.path("out.json")).expect("a recording");
    serde_json::from_str(&written).expect("the JSON of a record")
}

fn send(pid: u32, signal: i32) {
    // SAFETY: no memory of ours is touched; a child that has not been waited for.
    assert_eq!(unsafe { libc::kill(pid as i32, signal) }, 0);
}

/// Waits until a process is stopped, and makes sure that it stays so.
fn wait_until_stopped(pid: u32) {
    let begun = Instant::now();
    // The thread that gets the signal may be in the middle of being sampled.
    while state(pid) != Some('T') {
        assert!(begun.elapsed() < LIMIT, "not stopped: {:?}", state(pid));
    }
    let mut looks = 0;
    while looks < 30 {
        match state(pid) {
            Some('T') => looks += 1,
            // Somebody who saw it run before has just asked it to stop.
            Some('t') if begun.elapsed() < LIMIT => looks = 0,
            state => panic!("it was stopped, and is so no more: {state:?}"),
        }
        sleep(Duration::from_millis(1));
    }
}

/// What is stopped stays so, and what is continued goes on.
pub fn job_control(node: &Node, sampler: &str) {
    let _alone = one_at_a_time();
    let mut moments = Moments::of(node);
    let place = Place::new(node);
    let mut worker = place.worker();
    let pid = worker.pid();
    let sender = place.has_addon().then(|| Sender::to(pid));
    let mut nodetap = record(&place, sampler, &["-p", &pid.to_string()])
        .spawn()
        .expect("cannot run nodetap");
    assert!(wait_until_sampling(&mut nodetap), "nodetap ended");
    for _ in 0..moments.rounds() {
        for _ in 0..8 {
            send(pid, libc::SIGSTOP);
            sleep(Duration::from_secs_f64(moments.chance() * 0.002));
            send(pid, libc::SIGCONT);
            sleep(Duration::from_secs_f64(moments.chance() * 0.002));
        }
        send(pid, libc::SIGSTOP);
        wait_until_stopped(pid);
        send(pid, libc::SIGCONT);
        worker.report();
    }
    let recording = finish(&place, nodetap);
    assert!(recording.samples_of(pid) > 0);
    worker.assert_at_work();
    if let Some(sender) = sender {
        sender.assert_all_came(&mut worker);
    }
}

/// nodetap is stopped and goes on: the target does not stand still meanwhile.
pub fn ctrl_z(node: &Node, sampler: &str) {
    let _alone = one_at_a_time();
    let mut moments = Moments::of(node);
    let place = Place::new(node);
    let mut worker = place.worker();
    let pid = worker.pid();
    // In a group of its own, whose parent is in another one of this session: the kernel
    // stops no group that nobody could let go on.
    let mut nodetap = record(&place, sampler, &["-p", &pid.to_string()])
        .process_group(0)
        .spawn()
        .expect("cannot run nodetap");
    assert!(wait_until_sampling(&mut nodetap), "nodetap ended");
    for _ in 0..moments.rounds() * 8 {
        sleep(Duration::from_secs_f64(moments.chance() * 0.01));
        send(nodetap.id(), libc::SIGTSTP);
        let begun = Instant::now();
        while state(nodetap.id()) != Some('T') {
            assert!(begun.elapsed() < LIMIT, "nodetap is not stopped");
        }
        // Nobody would let it go.
        assert_ne!(state(pid), Some('t'));
        worker.assert_at_work();
        send(nodetap.id(), libc::SIGCONT);
    }
    let recording = finish(&place, nodetap);
    assert!(recording.samples_of(pid) > 0);
    worker.assert_at_work();
}

/// Threads and processes come and go, by the thousand.
pub fn storms(node: &Node, sampler: &str) {
    let _alone = one_at_a_time();
    let place = Place::new(node);
    if !place.has_addon() {
        return;
    }
    let mut worker = place.worker();
    let pid = worker.pid();
    let sender = Sender::to(pid);
    for (storms, options) in [
        (&["threads"][..], &[][..]),
        (&["threads", "forks", "spawns"], &["--subprocesses"]),
    ] {
        let before = worker.report();
        let pid_word = pid.to_string();
        let options = [options, &["-p", &pid_word]].concat();
        let mut nodetap = record(&place, sampler, &options)
            .spawn()
            .expect("cannot run nodetap");
        for storm in storms {
            worker.tell(storm);
        }
        assert!(wait_until_sampling(&mut nodetap), "nodetap ended");
        worker.report();
        sleep(Duration::from_secs(1));
        worker.report();
        let recording = finish(&place, nodetap);
        worker.tell("calm");
        assert!(recording.samples_of(pid) > 0);
        let report = worker.assert_at_work();
        assert_eq!(
            (report.failed, report.storms.failures),
            (0, 0),
            "{report:?}"
        );
        let made = |report: &Report| (report.storms.threads, report.storms.forks, report.spawned);
        let (threads, forks, spawned) = made(&report);
        let was = made(&before);
        assert_eq!(threads > was.0, storms.contains(&"threads"));
        assert_eq!(forks > was.1, storms.contains(&"forks"));
        assert_eq!(spawned > was.2, storms.contains(&"spawns"));
    }
    sender.assert_all_came(&mut worker);
}

/// The target runs other programs, which are itself, by a thread that is not its main one:
/// that thread gets the number of the main thread.
pub fn execs(node: &Node, sampler: &str) {
    let _alone = one_at_a_time();
    let moments = Moments::of(node);
    let place = Place::new(node);
    if !place.has_addon() {
        return;
    }
    let mut worker = place.worker();
    let pid = worker.pid();
    for _ in 0..moments.rounds() {
        let mut nodetap = record(&place, sampler, &["-p", &pid.to_string()])
            .spawn()
            .expect("cannot run nodetap");
        assert!(wait_until_sampling(&mut nodetap), "nodetap ended");
        worker.tell("threads");
        worker.tell("exec");
        assert_eq!(worker.line().as_deref(), Some("ready"));
        let output = output_within(LIMIT, nodetap);
        let text = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(0), "{text}");
        let note = format!("note: process {pid} runs another program now\n");
        assert!(text.starts_with(&note), "{text}");
        worker.assert_at_work();
    }
    drop(worker);

    let mut nodetap = record(&place, sampler, &["--subprocesses", "--"]);
    nodetap.args(place.command()).stderr(Stdio::inherit());
    let mut worker = Worker::spawn(nodetap);
    for _ in 0..moments.rounds() {
        assert_eq!(worker.line().as_deref(), Some("ready"));
        worker.tell("threads");
        worker.tell("exec");
    }
    assert_eq!(worker.line().as_deref(), Some("ready"));
    worker.report();
    worker.tell("end");
    let status = within(LIMIT, &mut worker.child);
    assert_eq!(status.code(), Some(7));
    let written = fs::read_to_string(place.path("out.json")).expect("a recording");
    // Node's version may be missing, which the type of usual recordings wants: it may
    // have ended before it was looked at again.
    let recording: Value = serde_json::from_str(&written).expect("JSON");
    let processes = recording["processes"].as_array().map(Vec::len);
    assert_eq!(processes, Some(1), "{written}");
}
