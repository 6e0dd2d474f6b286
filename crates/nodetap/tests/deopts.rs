//! Code that is given up while it is on the stack, or replaced by newer code.
//!
//! The functions of the fixture `deopts` are optimized and call down to where an
//! assumption is broken that their code was built on: V8 leaves such code when the call
//! returns, until then it is on the stack. There the program collects its own call sites
//! (`Error.prepareStackTrace`), and spins. Others call themselves while they are compiled
//! again: each activation has other code.
//!
//! Of the samples of that time, 99 in 100 must be exactly that stack, in those tiers.

mod common;

use std::time::{Duration, UNIX_EPOCH};

use common::matrix::{self, Node, Test};
use common::recording::{self, Frame, Recording};
use common::target::Target;
use common::truth::list;
use serde::Deserialize;

/// What the spinner calls to read the time.
const CLOCK: &str = "used";

/// What the fixture says of one stack.
#[derive(Debug, Deserialize)]
struct Report {
    kind: String,
    /// The function whose code is given up.
    of: String,
    /// The tiers of its frames, outermost first.
    tiers: String,
    /// V8's `%GetOptimizationStatus` of that function, before and after it happened.
    before: u32,
    afterwards: u32,
    /// Innermost first.
    sites: Vec<CallSite>,
    /// From when to when it spun, in milliseconds since 1970.
    wall: [u64; 2],
}

#[derive(Debug, Deserialize)]
struct CallSite {
    function: String,
    file: Option<String>,
    line: u32,
    column: u32,
}

impl CallSite {
    fn is(&self, frame: &Frame, is_innermost: bool) -> bool {
        // Which names there are before V8 gives them to call sites as to its profiler,
        // and in Node's own scripts, is for other tests.
        let own = self
            .file
            .as_deref()
            .is_some_and(|it| it.contains("/deopts/"));
        let is_named = !own || self.function == "(anonymous)" || frame.function == self.function;
        let is_at = match is_innermost {
            // Where on its line the spinner is, nobody knows; in its first loop V8 10 may
            // have no line for it either.
            true => frame.line.is_none_or(|line| line == self.line),
            false => (frame.line, frame.column) == (Some(self.line), Some(self.column)),
        };
        is_named && frame.file == self.file && is_at
    }
}

impl Report {
    /// What is wrong with a stack, outermost first.
    fn fault(&self, stack: &[&Frame]) -> Option<String> {
        let mut js: Vec<&Frame> = stack.iter().copied().filter(|it| it.is_js()).collect();
        // The clock is not looked at when it is being read.
        if let Some(clock) = js.iter().position(|it| it.function == CLOCK) {
            js.truncate(clock);
        }
        if js.len() != self.sites.len() {
            return Some(format!("{} frames, not {}", js.len(), self.sites.len()));
        }
        for (index, (frame, site)) in js.iter().rev().zip(&self.sites).enumerate() {
            if !site.is(frame, index == 0) {
                return Some(format!("{frame} is not {site:?}"));
            }
        }
        let tier = |frame: &&&Frame| match frame.tier.as_deref() {
            Some("optimized") => 'o',
            Some("maglev") => 'm',
            Some("interpreted" | "baseline" | "unoptimized") => '-',
            _ => '?',
        };
        let own = js.iter().filter(|frame| frame.function == self.of);
        let tiers: String = own.map(|frame| tier(&frame)).collect();
        (tiers != self.tiers).then(|| format!("tiers {tiers}, not {}", self.tiers))
    }

    /// The samples that were taken while its stack was there.
    fn samples<'a>(&self, recording: &'a Recording, tid: u32) -> Vec<Vec<&'a Frame>> {
        let at = |milliseconds| UNIX_EPOCH + Duration::from_millis(milliseconds);
        // Whole milliseconds, rounded down; and the two clocks may differ by a little.
        let during = at(self.wall[0] + 2)..at(self.wall[1] - 1);
        let started = recording.started();
        let is_of_it = |&&(time, thread, _): &&(u64, usize, usize)| {
            recording.threads[thread].tid == tid
                && during.contains(&(started + Duration::from_micros(time)))
        };
        let samples = recording.samples.iter().filter(is_of_it);
        let frames = |stack: usize| recording.stacks[stack].iter();
        samples
            .map(|&(_, _, stack)| frames(stack).map(|&it| &recording.frames[it]).collect())
            .collect()
    }

    /// Fails unless V8 did with the code what this kind is there for.
    fn assert_reached(&self) {
        let lost = self.before & self.afterwards != self.before;
        assert_eq!(lost, self.kind != "nothing", "{self:#?}");
    }
}

fn check(node: &Node) {
    common::measure(|| check_once(node));
}

fn check_once(node: &Node) {
    let _alone = common::one_at_a_time();
    let flags = ["--allow-natives-syntax"];
    let mut target = Target::start(&node.version, &flags, "deopts/main.js", &["--wait"]);
    let kinds: usize = target.line().parse().expect("how many kinds there are");
    let running = recording::start(&target, 60.0, &["-r", "1999"]).wait_until_sampling();
    target.tell("go");
    let report = |_| serde_json::from_str(&target.line()).expect("a report");
    let reports: Vec<Report> = (0..kinds).map(report).collect();
    let recording = running.finish();
    assert_eq!(recording.lost, 0, "{}", recording.notes);

    let (mut right, mut all) = (0, 0);
    let mut wrong_kinds = Vec::new();
    for report in reports {
        report.assert_reached();
        let samples = report.samples(&recording, target.pid());
        let faults: Vec<_> = samples
            .iter()
            .filter_map(|stack| Some((stack, report.fault(stack)?)))
            .collect();
        all += samples.len();
        right += samples.len() - faults.len();
        // An accident may hit some samples: what is wrong for a kind is so in most of them.
        if samples.len() < 5 || faults.len() * 2 > samples.len() {
            let (of, wrong) = (samples.len(), faults.len());
            let last = faults.last().map(|(stack, fault)| {
                let js = stack.iter().copied().rev().filter(|it| it.is_js());
                format!("{fault}\n{}", list(js.take(12)))
            });
            let kind = report.kind;
            wrong_kinds.push(format!(
                "{kind:?}: {wrong} of {of}: {}",
                last.unwrap_or_default()
            ));
        }
    }
    assert!(
        wrong_kinds.is_empty() && right * 100 >= all * 99,
        "{right} of {all} samples are right\n{}",
        wrong_kinds.join("\n")
    );
}

fn main() -> std::process::ExitCode {
    matrix::main([Test::new("given_up", 0, check).seldom_if(|_| true)])
}
