//! The page and the flame graph, in a real browser: what they say is compared with the
//! profile that they were made of, counted here in another way.

mod common;

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use nodetap_profile::{
    Format, Frame, FrameId, Kind, Metadata, Mode, Origin, Package, Position, Process, Profile,
    Sample, Thread, ThreadId, Tier,
};
use serde_json::{Value, json};

const NODE: &str = "24.21.0";

/// Runs a script of `fixtures/page` with the browser's path and the file that says what
/// is to be expected.
fn check(script: &str, expected: &Value, folder: &Path) {
    let told = folder.join("expected.json");
    fs::write(&told, expected.to_string()).unwrap();
    let output = Command::new(common::node(NODE))
        .arg(common::fixture("page").join(script))
        .args([common::chromium(), told])
        .output()
        .expect("cannot run node");
    assert!(
        output.status.success(),
        "{script}: {}\n{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
}

fn write(profile: &Profile, format: Format, path: &Path) {
    let mut file = File::create(path).unwrap();
    nodetap_profile::formats::write(profile, format, &mut file).unwrap();
}

/// A package that was installed.
fn dependency(name: &str, version: &str) -> Option<Arc<Package>> {
    Some(Arc::new(Package {
        name: name.into(),
        version: Some(version.into()),
        is_dependency: true,
    }))
}

fn js(function: &str, file: &str, line: u32, tier: Tier) -> Frame {
    Frame {
        file: Some(file.into()),
        position: Position::new(line + 1, 7),
        function_position: Position::new(line, 3),
        tier: Some(tier),
        ..Frame::new(Kind::Js, function)
    }
}

fn pseudo(statement: &str) -> Frame {
    Frame::new(Kind::Pseudo, statement)
}

/// A second of two threads and a bit of a third: own code, two packages, Node, native
/// code, the garbage collector, recursion, waits, and a function at two places in two tiers.
fn server() -> Profile {
    let mut profile = Profile::new(Metadata {
        duration: Duration::from_secs(2),
        incomplete: 3,
        ..Metadata::new("ebpf", 1000)
    });
    profile.add_process(Process {
        pid: 4711,
        command: vec!["node".into(), "/srv/app.js".into()],
        node: Some("v24.21.0".into()),
        v8: Some("13.6.233.17-node.53".into()),
    });
    let [main, worker, helper] = [4711, 4712, 4713].map(|tid| {
        profile.add_thread(Thread {
            pid: 4711,
            tid,
            name: if tid == 4711 { "node" } else { "worker" }.into(),
        })
    });
    let emit = js("emit", "node:events", 489, Tier::Optimized);
    let handle = js("handle", "/srv/app.js", 12, Tier::Optimized);
    let handle_slow = Frame {
        position: Position::new(40, 9),
        tier: Some(Tier::Interpreted),
        ..handle.clone()
    };
    let fib = Frame {
        source: Some("return n < 2 ? n :\tfib(n - 1) + fib(n - 2);".into()),
        ..js("fib", "/srv/app.js", 90, Tier::Maglev)
    };
    // The same line, further on.
    let fib_behind = Frame {
        position: Position::new(91, 30),
        ..fib.clone()
    };
    let parse = Frame {
        package: dependency("qs", "6.13.0"),
        inlined: true,
        ..js(
            "parse",
            "/srv/node_modules/qs/lib/parse.js",
            240,
            Tier::Optimized,
        )
    };
    let render = Frame {
        package: dependency("@view/ejs", "3.1.0"),
        ..js(
            "render",
            "/srv/node_modules/@view/ejs/lib/ejs.js",
            400,
            Tier::Baseline,
        )
    };
    let map = Frame::new(Kind::Builtin, "Array.prototype.map");
    let gc = pseudo("(garbage collector)");
    let scavenge = pseudo("(scavenge)");
    let stacks: [(&[&Frame], ThreadId, u32); 13] = [
        (&[&emit, &handle], main, 200),
        (&[&emit, &handle_slow], main, 50),
        (&[&emit, &handle, &parse], main, 120),
        (&[&emit, &handle, &parse, &map], main, 30),
        (&[&emit, &handle, &render], main, 80),
        (&[&emit, &handle, &render, &gc, &scavenge], main, 40),
        (&[&emit, &handle, &fib_behind], main, 10),
        (&[&emit, &handle, &fib, &fib, &fib], main, 170),
        (&[&pseudo("(idle)")], main, 150),
        (&[&fib, &fib, &render, &fib], worker, 333),
        (&[&fib, &pseudo("(blocked in read)")], worker, 60),
        (&[&pseudo("(v8 worker)")], helper, 17),
        (&[], helper, 2),
    ];
    let mut time = [0_u64; 3];
    for round in 0..10 {
        for (frames, thread, count) in &stacks {
            let ids: Vec<FrameId> = frames
                .iter()
                .map(|frame| profile.intern_frame((*frame).clone()))
                .collect();
            let stack = profile.intern_stack(ids);
            let waits = frames
                .last()
                .is_some_and(|frame| Origin::of(frame) == Origin::Waiting);
            let mode = if waits {
                Mode::Waiting
            } else {
                Mode::JavaScript
            };
            let time = &mut time[thread.index()];
            // All that is left in the last round, and before that a tenth.
            let due = count / 10 + if round == 9 { count % 10 } else { 0 };
            let (samples, each) = if waits { (1, due) } else { (due, 1) };
            for _ in 0..samples {
                profile.add_sample(Sample {
                    count: each,
                    ..Sample::new(*time, *thread, stack, mode)
                });
                *time += 1000 * u64::from(each);
            }
        }
    }
    profile
}

/// What a function is called in the tables, and where it is.
fn key(frame: &Frame) -> String {
    let place = frame.file.as_deref().map_or_else(String::new, |file| {
        let position = frame.function_position.map_or_else(String::new, |it| {
            let column = it.column.map_or_else(String::new, |it| format!(":{it}"));
            format!(":{}{column}", it.line)
        });
        format!("{file}{position}")
    });
    format!("{}\n{place}", frame.function)
}

/// What a group of the table by package is called.
fn group(frame: &Frame) -> String {
    match &frame.package {
        Some(package) => package.label(),
        None if &*frame.function == "(no frames)" => Origin::Unknown.name().to_owned(),
        None => Origin::of(frame).name().to_owned(),
    }
}

#[derive(Default)]
struct Counts {
    all: u64,
    /// Self and total.
    of_each: BTreeMap<String, (u64, u64)>,
}

/// Counts the samples of which `is_wanted`, by what `name` gives for their frames.
fn count(
    profile: &Profile,
    name: impl Fn(&Frame) -> String,
    is_wanted: impl Fn(&Sample) -> bool,
) -> Counts {
    let nothing = pseudo("(no frames)");
    let mut counts = Counts::default();
    for sample in profile.samples().map(Result::unwrap).filter(is_wanted) {
        let mut frames: Vec<&Frame> = profile
            .stack_frames(sample.stack)
            .map(|frame| profile.frame(frame))
            .collect();
        if frames.is_empty() {
            frames.push(&nothing);
        }
        let samples = u64::from(sample.count);
        counts.all += samples;
        counts.of_each.entry(name(frames[0])).or_default().0 += samples;
        let names: BTreeSet<String> = frames.iter().map(|frame| name(frame)).collect();
        for name in names {
            counts.of_each.entry(name).or_default().1 += samples;
        }
    }
    counts
}

fn told(counts: &Counts) -> Value {
    json!({ "all": counts.all, "of": counts.of_each })
}

/// How many samples count for each group: for that of the innermost frame of the program or
/// of a package, and where there is none for that of the innermost frame.
fn caused(profile: &Profile) -> BTreeMap<String, u64> {
    let mut counts = BTreeMap::new();
    for sample in profile.samples().map(Result::unwrap) {
        let frames: Vec<&Frame> = profile
            .stack_frames(sample.stack)
            .map(|frame| profile.frame(frame))
            .collect();
        let is_cause =
            |frame: &&&Frame| matches!(Origin::of(frame), Origin::Own | Origin::Dependency);
        let cause = frames.iter().find(is_cause).or(frames.first());
        let name = cause.map_or_else(|| Origin::Unknown.name().to_owned(), |it| group(it));
        *counts.entry(name).or_default() += u64::from(sample.count);
    }
    counts
}

/// How many samples have a frame whose label, place or package `matches`.
fn matching(profile: &Profile, matches: impl Fn(&str) -> bool) -> u64 {
    let samples = profile.samples().map(Result::unwrap);
    let has_match = |sample: &Sample| {
        profile.stack_frames(sample.stack).any(|frame| {
            let frame = profile.frame(frame);
            matches(&key(frame)) || matches(&group(frame))
        })
    };
    samples
        .filter(has_match)
        .map(|sample| u64::from(sample.count))
        .sum()
}

#[test]
fn the_page_says_what_the_profile_says() {
    let folder = tempfile::tempdir().unwrap();
    let profile = server();
    let page = folder.path().join("server.html");
    write(&profile, Format::Html, &page);
    let waits = |sample: &Sample| sample.mode == Mode::Waiting;
    let of_main = |sample: &Sample| profile.thread(sample.thread).tid == 4711;
    // Of a wait those of its samples count that are within.
    let [from, to] = [250_500, 600_500];
    let mut part = Profile::new(profile.metadata.clone());
    for thread in profile.threads() {
        part.add_thread(thread.clone());
    }
    for sample in profile.samples().map(Result::unwrap) {
        let mut frames: Vec<Frame> = profile
            .stack_frames(sample.stack)
            .map(|frame| profile.frame(frame).clone())
            .collect();
        frames.reverse();
        let ids: Vec<FrameId> = frames.into_iter().map(|it| part.intern_frame(it)).collect();
        let stack = part.intern_stack(ids);
        for nth in 0..sample.count {
            let time = sample.time_us + 1000 * u64::from(nth);
            if (from..to).contains(&time) {
                part.add_sample(Sample {
                    time_us: time,
                    stack,
                    count: 1,
                    ..sample
                });
            }
        }
    }
    let any = |_: &Sample| true;
    check(
        "check_page.js",
        &json!({
            "page": page,
            "functions": told(&count(&profile, key, any)),
            "groups": told(&count(&profile, group, any)),
            "caused": caused(&profile),
            "main": told(&count(&profile, key, of_main)),
            "running": told(&count(&profile, key, |it| !waits(it))),
            "range": [from as f64 / 1e6, to as f64 / 1e6],
            "part": told(&count(&part, key, any)),
            "matching": {
                "fib": matching(&profile, |it| it.contains("fib")),
                "ejs": matching(&profile, |it| it.contains("ejs")),
                "^(emit|\\(v8)": matching(&profile, |it| it.starts_with("emit") || it.starts_with("(v8")),
            },
        }),
        folder.path(),
    );
}

#[test]
fn hostile_empty_and_deep_pages_do_no_harm() {
    let folder = tempfile::tempdir().unwrap();
    let profiles = [
        ("hostile", hostile()),
        ("empty", Profile::new(Metadata::new("ebpf", 999))),
        ("deep", deep(10_000)),
        ("processes", processes()),
    ];
    let pages = profiles.map(|(name, profile)| {
        let path = folder.path().join(format!("{name}.html"));
        write(&profile, Format::Html, &path);
        (
            name.to_owned(),
            json!({ "page": path, "all": profile.sample_count() }),
        )
    });
    let pages: serde_json::Map<String, Value> = pages.into_iter().collect();
    check("check_pages.js", &Value::Object(pages), folder.path());
}

#[test]
fn the_flame_graph_can_be_searched_and_zoomed() {
    let folder = tempfile::tempdir().unwrap();
    let profile = server();
    let picture = folder.path().join("flame.svg");
    write(&profile, Format::Flame, &picture);
    let samples = matching(&profile, |it| it.contains("fib"));
    let share = 100.0 * samples as f64 / profile.sample_count() as f64;
    check(
        "check_flame.js",
        &json!({ "picture": picture, "all": profile.sample_count(), "fib": format!("{share:.1}") }),
        folder.path(),
    );
}

/// Adds a sample of frames, outermost first, a millisecond after the one before.
fn add(profile: &mut Profile, thread: ThreadId, frames: impl IntoIterator<Item = Frame>) {
    let ids: Vec<FrameId> = frames
        .into_iter()
        .map(|frame| profile.intern_frame(frame))
        .collect();
    let stack = profile.intern_stack(ids);
    let time = 1000 * profile.sample_count();
    profile.add_sample(Sample::new(time, thread, stack, Mode::JavaScript));
}

/// Names that were chosen to do harm.
fn hostile() -> Profile {
    let mut profile = Profile::new(Metadata::new("<script>alert(1)</script>", 999));
    let markup = "</script><img src=x onerror=\"document.title='harm'\"><b>'&amp;";
    profile.add_process(Process {
        pid: 1,
        command: vec![
            markup.into(),
            "\u{202e}\x1b[2J\0\n".into(),
            "x".repeat(1 << 20),
        ],
        node: Some(markup.into()),
        v8: Some(markup.into()),
    });
    let thread = profile.add_thread(Thread {
        pid: 1,
        tid: 2,
        name: markup.into(),
    });
    let names = [
        markup.to_owned(),
        "a\nb\0\x1b[31m\u{202e}\u{2028}\u{feff}".to_owned(),
        "${alert(1)}`\\\"'".to_owned(),
        "עברית العربية 🦀 e\u{301}".to_owned(),
        "long".repeat(1 << 18),
        "__proto__".to_owned(),
        "constructor".to_owned(),
        String::new(),
    ];
    for name in &names {
        let frame = |line| Frame {
            package: dependency(name, name),
            source: Some(name.as_str().into()),
            ..js(name, name, line, Tier::Optimized)
        };
        add(&mut profile, thread, [frame(1), frame(2)]);
        let native = Frame {
            file: Some(name.as_str().into()),
            ..Frame::new(Kind::Native, name.as_str())
        };
        add(&mut profile, thread, [frame(1), native]);
    }
    profile
}

fn deep(levels: u32) -> Profile {
    let mut profile = Profile::new(Metadata::new("ebpf", 999));
    let thread = profile.add_thread(Thread::default());
    let level = |level: u32| {
        js(
            &format!("f{}", level % 3),
            "/a.js",
            1 + level % 3,
            Tier::Optimized,
        )
    };
    for _ in 0..5 {
        add(&mut profile, thread, (0..levels).map(level));
        add(&mut profile, thread, (0..levels / 2).map(level));
    }
    profile
}

/// Two processes of two threads each.
fn processes() -> Profile {
    let mut profile = Profile::new(Metadata::new("ebpf", 999));
    for pid in [10, 20] {
        profile.add_process(Process {
            pid,
            command: vec!["node".into(), format!("{pid}.js")],
            ..Process::default()
        });
        for tid in [pid, pid + 1] {
            let thread = profile.add_thread(Thread {
                pid,
                tid,
                name: "node".into(),
            });
            for _ in 0..tid {
                add(
                    &mut profile,
                    thread,
                    [js("work", "/a.js", 1, Tier::Optimized)],
                );
            }
        }
    }
    profile
}
