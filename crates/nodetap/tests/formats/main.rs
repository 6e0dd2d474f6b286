//! The formats of other programs, read back by those: all of them have the same samples.

#[path = "../common/mod.rs"]
mod common;
mod firefox;
mod own;
mod readers;

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use common::recording::Recording;
use common::target::Target;
use firefox::FirefoxProfiler;
use nodetap_profile::formats::{self, json};
use nodetap_profile::{Format, Frame, Kind, Metadata, Mode, Position, Profile, Sample, Thread};
use own::{Function, Own, add, by_name, merged, of_recording, total, whole};
use readers::{
    as_in_pprof, of_devtools, of_nodes, of_page, of_pprof, of_top, speedscope, without_anonymous,
};

const VERSION: &str = "24.21.0";

/// The files of one profile, one a format.
struct Files {
    folder: tempfile::TempDir,
    /// How long a sample takes in those that tell times, in nanoseconds.
    period: f64,
}

impl Files {
    fn write(profile: &Profile) -> Files {
        let files = Files {
            folder: tempfile::tempdir().expect("a temporary folder"),
            period: (1_000_000_000 / profile.metadata.rate_hz).into(),
        };
        for (name, format) in [
            ("out.cpuprofile", Format::CpuProfile),
            ("out.speedscope.json", Format::Speedscope),
            ("out.pb.gz", Format::Pprof),
            ("out.firefox.json", Format::Firefox),
            ("out.html", Format::Html),
        ] {
            assert_eq!(Format::from_path(Path::new(name)), Ok(format));
            let mut file = File::create(files.path(name)).expect("create");
            formats::write(profile, format, &mut file).expect("write");
        }
        files
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }
}

/// What runs the readers: their newest needs a new Node.js.
fn node(script: &Path) -> Command {
    let mut command = Command::new(common::node(VERSION));
    command.arg(script);
    command
}

/// Runs a reader, and gives what it prints.
fn output(command: &mut Command) -> String {
    let output = command.stdin(Stdio::null()).output().expect("run");
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}: {errors}");
    String::from_utf8(output.stdout).expect("UTF-8")
}

/// Fails unless all readers find these samples, of which a cpuprofile has those of `main`.
fn assert_all_agree(files: &Files, threads: &BTreeMap<u32, Own>, main: u32) {
    let all = merged(threads);

    let cpuprofile = files.path("out.cpuprofile");
    assert_eq!(of_nodes(&cpuprofile), threads[&main]);
    assert_eq!(of_devtools(&cpuprofile, files.period), threads[&main]);
    let [read] = &speedscope(&files.path("out.cpuprofile"))[..] else {
        panic!("a cpuprofile has one thread");
    };
    assert_eq!(read.unit, "microseconds");
    assert_eq!(
        whole(read.busy / (files.period / 1e3)),
        total(&threads[&main])
    );
    assert_eq!(
        without_anonymous(&read.own(files.period / 1e3)),
        without_anonymous(&threads[&main])
    );

    let read = speedscope(&files.path("out.speedscope.json"));
    let tid = |name: &str| -> u32 {
        let name = name.trim_end_matches(" (main thread)");
        let (name, _process) = name.split_once(" of ").unwrap_or((name, ""));
        name.rsplit(' ')
            .next()
            .expect("a name")
            .parse()
            .expect(name)
    };
    let read: BTreeMap<u32, Own> = read
        .iter()
        .map(|it| (tid(&it.name), it.own(files.period)))
        .collect();
    assert_eq!(read, *threads);

    let path = files.path("out.pb.gz");
    let in_pprof = as_in_pprof(&all);
    assert_eq!(of_pprof(&path), in_pprof);
    assert_eq!(of_top(&path), by_name(&in_pprof));
    let [read] = &speedscope(&files.path("out.pb.gz"))[..] else {
        panic!("a pprof file has one profile");
    };
    // It knows nothing of functions that were inlined, and of each place the outermost.
    assert_eq!(read.unit, "nanoseconds");
    assert_eq!(whole(read.busy / files.period), total(&all));

    assert_eq!(
        FirefoxProfiler::load(&files.path("out.firefox.json")).own(),
        *threads
    );

    assert_eq!(of_page(&files.path("out.html")), *threads);
}

/// The server of the fixtures as it would be deployed: one minified file with a source map.
fn bundle(folder: &Path) -> PathBuf {
    let bundle = folder.join("server.js");
    let mut command = Command::new(common::node(VERSION));
    command
        .arg(common::fixture("formats/bundle.js"))
        .arg(common::transpilers())
        .arg(common::fixture("formats/server/main.ts"))
        .arg(&bundle);
    output(&mut command);
    bundle
}

#[test]
fn all_formats_of_a_recording_agree() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = folder.path().join("out.json");
    let bundle = bundle(folder.path());
    // On a busy machine two seconds may be too short to see all of it.
    common::measure(|| {
        let main = {
            let _alone = common::one_at_a_time();
            let node = [common::node(VERSION).into_os_string()];
            let target = Target::start_as(&node, &[], &bundle, &[]).wait_until_ready();
            let pid = target.pid();
            let mut command = Command::new(env!("CARGO_BIN_EXE_nodetap"));
            let command = command.args(["record", "-d", "2", "-p", &pid.to_string(), "-o"]);
            output(command.arg(&path));
            pid
        };
        let text = fs::read_to_string(&path).expect("nodetap wrote its output");
        let recording: Recording = serde_json::from_str(&text).expect("JSON");
        let threads = of_recording(&recording);
        // It is of what it is meant to be of: functions of several threads, where they
        // were written.
        let is_of_source = |(name, file, _): &Function| {
            name == "burn" && file.ends_with("/formats/server/work.ts")
        };
        assert!(merged(&threads).keys().any(is_of_source), "{threads:?}");
        assert!(threads.len() > 1 && threads.contains_key(&main));

        let profile = json::read(text.as_bytes()).expect("a recording");
        assert_all_agree(&Files::write(&profile), &threads, main);
    });
}

/// Names that were chosen to do harm, a stack as deep as speedscope can take, waits, and functions that were
/// inlined; with what readers are to find.
fn hostile() -> (Profile, BTreeMap<u32, Own>) {
    let mut profile = Profile::new(Metadata::new("ebpf", 999));
    let threads = [(7, 7, "no\x1b[2Jde"), (7, 8, ""), (9, 9, "<script>")];
    let threads = threads.map(|(pid, tid, name)| {
        let name = name.to_owned();
        (tid, profile.add_thread(Thread { pid, tid, name }))
    });
    let cut = |name: &str, length: usize| {
        let kept: String = name.chars().take(length - 1).collect();
        format!("{kept}…")
    };
    let long = "long".repeat(1 << 18);
    let names = [
        (
            "<b onclick=\"x\">&amp;",
            "<b onclick=\"x\">&amp;".to_owned(),
        ),
        (
            "\x1b[2J\x1b]0;x\x07",
            r"\u{1b}[2J\u{1b}]0;x\u{7}".to_owned(),
        ),
        ("a;b\nc 5\n", r"a;b\nc 5\n".to_owned()),
        (
            "\0\r\u{202e}z\u{ffff}",
            r"\u{0}\r\u{202e}z\u{ffff}".to_owned(),
        ),
        ("constructor", "constructor".to_owned()),
        ("", "(anonymous)".to_owned()),
        ("__proto__", "__proto__".to_owned()),
        ("\"\\", "\"\\".to_owned()),
        (long.as_str(), cut(&long, 500)),
    ];
    let mut expected: BTreeMap<u32, Own> = BTreeMap::new();
    let mut time_us = 0;
    for (number, (name, shown)) in (1..).zip(&names) {
        for &(tid, thread) in &threads {
            let named = |file: &str, inlined| Frame {
                file: Some(file.into()),
                position: Position::new(number + 2, 3),
                function_position: Position::new(number, 1),
                inlined,
                ..Frame::new(Kind::Js, *name)
            };
            let outer = profile.intern_frame(named("/srv/a.js", false));
            let inner = profile.intern_frame(named("b;<c>.js", number % 2 == 0));
            let stack = profile.intern_stack([outer, outer, inner]);
            // Each a little after the one before, and some of them long waits.
            time_us += 700 * u64::from(number);
            let (mode, count) = match number % 3 {
                0 => (Mode::Waiting, 1 + 10 * number),
                _ => (Mode::JavaScript, 1),
            };
            let sample = Sample::new(time_us, thread, stack, mode);
            profile.add_sample(Sample { count, ..sample });
            let function = (shown.clone(), "b;<c>.js".to_owned(), number);
            add(expected.entry(tid).or_default(), function, count.into());
        }
    }
    let (tid, main) = threads[0];
    let own = expected.entry(tid).or_default();
    let mut stack = profile.intern_stack([]);
    profile.add_sample(Sample::new(time_us, main, stack, Mode::Unknown));
    add(own, ("(no frames)".to_owned(), String::new(), 0), 1);
    for depth in 0..2000 {
        let frame = Frame::new(Kind::Native, format!("deep{}", depth % 700));
        let frame = profile.intern_frame(frame);
        stack = profile.push_frame(stack, frame);
    }
    profile.add_sample(Sample::new(time_us + 90_000, main, stack, Mode::Native));
    add(own, ("deep599".to_owned(), String::new(), 0), 1);
    (profile, expected)
}

#[test]
fn all_formats_of_what_was_made_to_do_harm_agree() {
    let (profile, threads) = hostile();
    let files = Files::write(&profile);
    assert_all_agree(&files, &threads, 7);
}
