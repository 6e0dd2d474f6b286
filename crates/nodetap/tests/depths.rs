//! Stacks that are very deep, and those of several processes at once.

mod common;

use common::matrix::{self, Node, Test};
use common::recording::{Frame, record};
use common::target::Target;
use serde::Deserialize;

/// How many times the fixture calls itself. (Of a stack of more than 10,000 frames V8 3.14
/// does not tell the fixture where it begins.)
const DEPTH: usize = 9_950;

/// Where a fixture says that one of its functions waits.
#[derive(Debug, Deserialize)]
struct CallSite {
    function: String,
    line: u32,
    column: u32,
}

impl CallSite {
    fn is(&self, frame: &Frame) -> bool {
        frame.is_js()
            && frame.function == self.function
            && (frame.line, frame.column) == (Some(self.line), Some(self.column))
    }
}

fn recursion(node: &Node) {
    common::measure(|| recursion_once(node));
}

fn recursion_once(node: &Node) {
    let _alone = common::one_at_a_time();
    let arguments = [DEPTH.to_string()];
    let arguments = arguments.each_ref().map(String::as_str);
    let mut target = Target::start(&node.version, &["--stack-size=3900"], "deep.js", &arguments);
    let sites: [CallSite; 4] = serde_json::from_str(&target.line()).expect("call sites");
    let [innermost, bottom, again, start] = sites;
    // A walk of so many frames takes longer than a millisecond.
    let recording = record(&target, 1.5, &["-r", "49", "--max-depth", "16384"]);
    assert_eq!(
        (recording.lost, recording.truncated, recording.incomplete),
        (0, 0, 0),
        "{}",
        recording.notes
    );

    let is_right = |stack: &[&Frame]| {
        let js: Vec<&Frame> = stack.iter().copied().filter(|it| it.is_js()).collect();
        let Some(first) = js.iter().position(|it| it.function == "descend") else {
            return false;
        };
        first > 0
            && start.is(js[first - 1])
            && js.len() == first + DEPTH + 2
            && js[first..first + DEPTH].iter().all(|it| again.is(it))
            && bottom.is(js[first + DEPTH])
            && js[first + DEPTH + 1].function == innermost.function
    };
    let all = recording.samples_of(target.pid());
    let right = recording.count(target.pid(), is_right);
    assert!(all >= 3, "{all} samples");
    assert!(
        right * 100 >= all * 99,
        "{right} of {all} samples are right"
    );

    // As deep as it was asked for, and it says so.
    let recording = record(&target, 0.5, &["-r", "49", "--max-depth", "8192"]);
    assert_eq!(recording.truncated, recording.samples_of(target.pid()));
}

/// What a child of the cluster says of itself.
#[derive(Deserialize)]
struct Report {
    pid: u32,
    /// Its call sites in the fixture, innermost first.
    sites: Vec<CallSite>,
}

fn cluster(node: &Node) {
    common::measure(|| {
        let _alone = common::one_at_a_time();
        let mut target = Target::start(&node.version, &[], "cluster.js", &[]);
        let mut report = || -> Report { serde_json::from_str(&target.line()).expect("a report") };
        let reports = [report(), report()];
        let pids = reports.each_ref().map(|report| report.pid.to_string());
        let recording = record(&target, 1.0, &["-p", &pids[0], "-p", &pids[1]]);
        assert_eq!(recording.lost, 0, "{}", recording.notes);
        assert_eq!(recording.processes.len(), 3);

        for Report { pid, sites } in reports {
            let innermost = &sites[0];
            let is_right = |stack: &[&Frame]| {
                let file = common::fixture("cluster.js");
                let mut js: Vec<&Frame> = stack.iter().copied().filter(|it| it.is_js()).collect();
                js.retain(|it| it.file.as_deref() == file.to_str());
                js.reverse();
                js.len() == sites.len()
                    && js[0].function == innermost.function
                    && js[0].line == Some(innermost.line)
                    && js
                        .iter()
                        .zip(&sites)
                        .skip(1)
                        .all(|(frame, site)| site.is(frame))
            };
            let all = recording.samples_of(pid);
            let right = recording.count(pid, is_right);
            assert!(all >= 50, "{all} samples of {pid}");
            // Of so few, one is more than a hundredth.
            let wrong = all - right;
            assert!(wrong <= 1.max(all / 100), "{right} of {all} of {sites:?}");
        }
    });
}

fn main() -> std::process::ExitCode {
    matrix::main([
        Test::new("recursion", 0, recursion).seldom_if(|_| true),
        Test::new("cluster", 0, cluster).seldom_if(|_| true),
    ])
}
