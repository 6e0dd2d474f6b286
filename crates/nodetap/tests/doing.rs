//! What stands on top of JavaScript is what V8 was doing there: programs that do one
//! thing for long.

mod common;

use std::collections::BTreeMap;

use common::matrix::{self, Node, Test};
use common::recording::{Frame, Recording, record};
use common::target::Target;
use serde::Deserialize;

/// What the samples of one JavaScript function had on top of it.
struct Above {
    function: String,
    /// Samples by the pseudo frames' names, each counted once a sample.
    names: BTreeMap<String, u64>,
    samples: u64,
}

impl Above {
    fn of(recording: &Recording, tid: u32, function: &str) -> Above {
        let mut names = BTreeMap::new();
        let mut samples = 0;
        for (stack, count) in recording.stacks_of(tid) {
            let is_it = |frame: &&Frame| frame.is_js() && frame.function == function;
            if stack.iter().any(is_it) {
                samples += count;
                for frame in stack.iter().filter(|frame| frame.kind == "pseudo") {
                    *names.entry(frame.function.clone()).or_insert(0) += count;
                }
            }
        }
        assert!(samples >= 20, "{samples} samples of {function}");
        Above {
            function: function.to_owned(),
            names,
            samples,
        }
    }

    /// In percent.
    fn share(&self, names: &[&str]) -> u64 {
        let counts = names.iter().filter_map(|&name| self.names.get(name));
        100 * counts.sum::<u64>() / self.samples
    }

    #[track_caller]
    fn assert(&self, names: &[&str], percent: std::ops::RangeInclusive<u64>) {
        let share = self.share(names);
        assert!(
            percent.contains(&share),
            "{names:?}: {share} % of {} samples of {}, not {percent:?}; there is {:#?}",
            self.samples,
            self.function,
            self.names
        );
    }
}

const GC: &str = "(garbage collector)";

fn activities(node: &Node) {
    common::measure(|| activities_once(node));
}

/// A recording with samples enough to tell shares: on a machine that has other work,
/// that takes longer.
fn enough(target: &Target) -> Recording {
    let mut seconds = 2.0;
    loop {
        let recording = record(target, seconds, &[]);
        if recording.samples_of(target.pid()) >= 800 || seconds > 15.0 {
            return recording;
        }
        seconds *= 2.0;
    }
}

/// Each function does what it is called.
fn activities_once(node: &Node) {
    let _alone = common::one_at_a_time();
    let functions = "compute,scavenge,collect,parse,readJson,writeJson,match,compileRegexp,\
                     megamorphic,pool";
    let flags = ["--expose-gc"];
    let target = Target::start(&node.version, &flags, "doing.js", &[functions]);
    let target = target.wait_until_ready();
    let tid = target.pid();
    let recording = enough(&target);
    let above = |function: &str| Above::of(&recording, tid, function);

    above("compute").assert(&[GC, "(regexp)", "(JSON)", "(inline cache)"], 0..=5);
    let scavenge = above("scavenge");
    assert!(
        scavenge.names.contains_key("(scavenge)"),
        "{:?}",
        scavenge.names
    );
    scavenge.assert(&["(regexp)", "(JSON)", "(inline cache)"], 0..=5);
    let collect = above("collect");
    collect.assert(&[GC], 90..=100);
    collect.assert(&["(mark-compact)"], 60..=100);
    let parse = above("parse");
    parse.assert(&["(compiler)", GC], 75..=100);
    parse.assert(&["(parser)"], 40..=100);
    parse.assert(&["(TurboFan)", "(Crankshaft)", "(Maglev)"], 0..=5);
    // In JavaScript in part, before.
    if node.major() >= 8 {
        above("readJson").assert(&["(JSON)", GC], 90..=100);
        above("writeJson").assert(&["(JSON)", GC], 90..=100);
    } else {
        assert!(above("readJson").share(&["(JSON)", GC]) > 70);
        assert!(above("writeJson").names.contains_key("(JSON)"));
    }
    above("compileRegexp").assert(&["(regexp compiler)", GC], 50..=100);
    // 0.10 has no kind of its own for compiled regular expressions, and what was compiled
    // before V8 6 is not always found.
    if node.major() >= 8 {
        above("match").assert(&["(regexp)"], 90..=100);
    } else if node.major() >= 4 {
        above("match").assert(&["(regexp)"], 40..=100);
    }
    // Before Ignition megamorphic code is a stub like others.
    if node.major() >= 10 {
        above("megamorphic").assert(&["(megamorphic)"], 20..=100);
    }
    modes(&recording, tid);
    summary(&recording);
    pool(&recording, tid);
}

/// Each sample says what the thread was in, by what its stack is.
fn modes(recording: &Recording, tid: u32) {
    let modes = recording.modes.as_deref().expect("modes");
    assert_eq!(modes.chars().count(), recording.samples.len());
    let mut of_compute: BTreeMap<char, u64> = BTreeMap::new();
    let mut of_json = of_compute.clone();
    for (&(_, thread, stack), mode) in recording.samples.iter().zip(modes.chars()) {
        if recording.threads[thread].tid != tid {
            continue;
        }
        let has = |name: &str| {
            let mut frames = recording.stacks[stack].iter();
            frames.any(|&frame| recording.frames[frame].function == name)
        };
        if has("compute") {
            *of_compute.entry(mode).or_default() += 1;
        } else if has("(JSON)") {
            *of_json.entry(mode).or_default() += 1;
        }
    }
    let most = |counts: &BTreeMap<char, u64>, mode| {
        let all: u64 = counts.values().sum();
        let share = counts.get(&mode).copied().unwrap_or_default() * 100 / all;
        assert!(share >= 80, "{share} % {mode}: {counts:?}");
    };
    most(&of_compute, 'j');
    let native = of_json.get(&'n').copied().unwrap_or_default();
    assert!(native > 0 && !of_json.contains_key(&'j'), "{of_json:?}");
}

/// The line after the closing line has the largest shares.
fn summary(recording: &Recording) {
    let line = recording
        .notes
        .lines()
        .find_map(|line| line.strip_prefix("main thread: "));
    let line = line.unwrap_or_else(|| panic!("no summary: {}", recording.notes));
    let shares: Vec<(u64, &str)> = line
        .split(", ")
        .filter_map(|share| share.split_once(" % "))
        .map(|(percent, what)| (percent.parse().expect("a number"), what))
        .collect();
    let all: u64 = shares.iter().map(|(percent, _)| percent).sum();
    assert!((95..=105).contains(&all), "{line}");
    for expected in [
        "JavaScript",
        "garbage collector",
        "compiler",
        "regexp",
        "JSON",
    ] {
        assert!(shares.iter().any(|&(_, what)| what == expected), "{line}");
    }
}

/// The threads of libuv's pool say what they work at, and V8's what they do.
fn pool(recording: &Recording, main: u32) {
    let mut seen: BTreeMap<(String, String), u64> = BTreeMap::new();
    for thread in recording.threads.iter().filter(|thread| thread.tid != main) {
        for (stack, count) in recording.stacks_of(thread.tid) {
            if let [role, work] = stack[..] {
                let key = (role.function.clone(), work.function.clone());
                *seen.entry(key).or_default() += count;
            }
        }
    }
    let of_libuv = ["(crypto)", "(zlib)", "(file system)", "(dns)"];
    for (role, work) in seen.keys() {
        match &**role {
            "(libuv worker)" => assert!(of_libuv.contains(&&**work), "{seen:?}"),
            "(v8 worker)" => assert!(!of_libuv.contains(&&**work), "{seen:?}"),
            _ => panic!("{role} {work}"),
        }
    }
    // Of the others the C library's functions may hide who calls them.
    for work in ["(crypto)", "(zlib)"] {
        let key = ("(libuv worker)".to_owned(), work.to_owned());
        assert!(seen.contains_key(&key), "{work}: {seen:?}");
    }
}

#[derive(Deserialize)]
struct Spent {
    minor: f64,
    others: f64,
}

fn kinds_of_collections(node: &Node) {
    common::measure(|| kinds_of_collections_once(node));
}

/// Of the time that collections take the main thread, as much is scavenges as the
/// program itself measures.
fn kinds_of_collections_once(node: &Node) {
    let _alone = common::one_at_a_time();
    // All on one thread: it would wait for others, which is no time of its CPU.
    let flags = ["--single-threaded-gc"];
    let arguments = ["churn", "observe"];
    let target = Target::start(&node.version, &flags, "doing.js", &arguments);
    let mut target = target.wait_until_ready();
    let recording = record(&target, 3.0, &[]);
    target.tell("stop");
    let line = target.line();
    let spent: Spent = serde_json::from_str(&line).expect("what was spent");
    let churn = Above::of(&recording, target.pid(), "churn");
    let count = |name: &str| churn.names.get(name).copied().unwrap_or_default() as f64;
    let minor = count("(scavenge)");
    let others = count("(mark-compact)") + count("(incremental marking)");
    let sampled = 100.0 * minor / (minor + others);
    let measured = 100.0 * spent.minor / (spent.minor + spent.others);
    assert!(
        (sampled - measured).abs() <= 12.0,
        "{sampled:.1} % of {:?}, but {line}, which is {measured:.1} %",
        churn.names
    );
    churn.assert(&["(minor mark-sweep)", "(minor mark-compact)"], 0..=0);
}

/// What flags make V8 do.
fn flags(node: &Node) {
    let above = |flags: &[&str], function: &str| {
        let _alone = common::one_at_a_time();
        let target = Target::start(&node.version, flags, "doing.js", &[function]);
        let target = target.wait_until_ready();
        let recording = record(&target, 1.5, &[]);
        Above::of(&recording, target.pid(), function)
    };
    let interpreted = above(&["--regexp-interpret-all"], "match");
    interpreted.assert(&["(regexp interpreter)"], 90..=100);
    if node.major() >= 18 {
        let baseline = above(&["--always-sparkplug", "--no-opt"], "tierUp");
        let compiled = baseline.names.contains_key("(Sparkplug)");
        assert!(compiled, "{:?}", baseline.names);
        baseline.assert(&["(TurboFan)"], 0..=0);
        let optimized = above(&["--no-concurrent-recompilation"], "tierUp");
        optimized.assert(&["(TurboFan)", "(Maglev)"], 10..=100);
    }
}

fn main() -> std::process::ExitCode {
    let is_often = |node: &Node| ["6.", "20.", "24."].iter().any(|line| node.is_of(line));
    let is_24 = |node: &Node| node.is_of("24.");
    matrix::main([
        Test::new("activities", 4, activities).only_on(is_often),
        Test::new("activities_of_others", 0, activities)
            .only_on(move |node| !is_often(node))
            .long(),
        Test::new("kinds_of_collections", 16, kinds_of_collections).only_on(is_24),
        Test::new("kinds_of_collections_of_others", 16, kinds_of_collections)
            .only_on(move |node| !is_24(node))
            .long(),
        Test::new("flags", 14, flags).long(),
    ])
}
