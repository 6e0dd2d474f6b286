//! nodetap is killed with SIGKILL: its target goes on as if there had been none.

use std::process::Stdio;

use crate::common::matrix::Node;
use crate::common::one_at_a_time;
use crate::moments::{Moment, Moments};
use crate::worker::{Place, Sender, Worker, kill_9};

/// Often, so that many moments are in the middle of a stop.
fn rate(sampler: &str) -> &'static str {
    match sampler {
        "ptrace" => "5000",
        _ => "999",
    }
}

pub fn record(node: &Node, sampler: &str) {
    let words = [
        "record",
        "--sampler",
        sampler,
        "--rate",
        rate(sampler),
        "-p",
    ];
    while_running(node, &words, sampler);
}

pub fn dump(node: &Node, _: &str) {
    while_running(node, &["dump", "-p"], "");
}

fn while_running(node: &Node, words: &[&str], sampler: &str) {
    let is_dump = sampler.is_empty();
    let _alone = one_at_a_time();
    let mut moments = Moments::of(node);
    let place = Place::new(node);
    let mut worker = place.worker();
    let pid = worker.pid();
    let sender = place.has_addon().then(|| Sender::to(pid));
    for round in 0..moments.rounds() {
        let moment = match is_dump {
            true => moments.of_dump(round),
            false => moments.of_record(round, sampler),
        };
        moments.note(round, moment);
        let pid_word = pid.to_string();
        let mut words = words.to_vec();
        words.push(&pid_word);
        let mut nodetap = place.nodetap(&words).spawn().expect("cannot run nodetap");
        moment.wait(&mut nodetap, pid, is_dump);
        kill_9(&mut nodetap);
        worker.assert_at_work();
    }
    if let Some(sender) = sender {
        sender.assert_all_came(&mut worker);
    }
}

/// The program that nodetap started has either not begun, and then never does, or it
/// runs on to its end.
pub fn launch(node: &Node, sampler: &str) {
    let _alone = one_at_a_time();
    let mut moments = Moments::of(node);
    let place = Place::new(node);
    for round in 0..moments.rounds() {
        let moment = moments.of_launch(round);
        moments.note(round, moment);
        let is_ready = matches!(moment, Moment::Ready(_));
        let mut command = place.command();
        // The shell tells that it has begun, and becomes the worker.
        let by_shell = round % 2 == 1;
        if by_shell {
            let shell = ["sh", "-c", "echo begun; exec \"$@\"", "sh"];
            command.splice(0..0, shell.map(str::to_owned));
        }
        let words = [
            "record",
            "--sampler",
            sampler,
            "--rate",
            rate(sampler),
            "--",
        ];
        let mut nodetap = place.nodetap(&words);
        nodetap.args(&command).stderr(Stdio::null());
        let mut worker = Worker::spawn(nodetap);
        let mut lines = Vec::new();
        while is_ready && lines.last().is_none_or(|line| line != "ready") {
            lines.push(worker.line().expect("it begins"));
        }
        let pid = worker.pid();
        moment.wait(&mut worker.child, pid, false);
        kill_9(&mut worker.child);
        while lines.last().is_none_or(|line| line != "ready")
            && let Some(line) = worker.line()
        {
            lines.push(line);
        }
        match (
            by_shell,
            &lines.iter().map(String::as_str).collect::<Vec<_>>()[..],
        ) {
            (true, ["begun", "ready"]) | (false, ["ready"]) => {}
            (_, []) if !is_ready => continue,
            (_, lines) => panic!("it said {lines:?}"),
        }
        worker.assert_at_work();
        worker.tell("end");
        assert_eq!(worker.line(), None);
    }
}
