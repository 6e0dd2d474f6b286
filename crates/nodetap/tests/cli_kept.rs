//! `record -o x.nodetap`: what is there however it ends.

mod common;

use std::fs;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use common::recording::Recording;
use common::target::Target;

const VERSION: &str = "24.21.0";

fn nodetap(folder: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_nodetap"));
    command
        .args(arguments)
        .current_dir(folder)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    command
}

fn run(folder: &Path, arguments: &[&str]) -> Output {
    nodetap(folder, arguments)
        .output()
        .expect("cannot run nodetap")
}

fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).expect("UTF-8")
}

/// What `report` reads of a file now: its samples, and what it says on stderr.
fn read(folder: &Path, file: &str) -> (Recording, Vec<String>) {
    let output = run(folder, &["report", file, "-f", "json"]);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    let recording = serde_json::from_slice(&output.stdout).expect("JSON");
    let lines = text(&output.stderr).lines().map(str::to_owned).collect();
    (recording, lines)
}

/// Waits until a file that is being written has so many samples.
fn wait_for_samples(folder: &Path, file: &str, samples: usize, recorder: &mut Child) {
    let deadline = Instant::now() + Duration::from_secs(60);
    let has_some = || {
        let output = run(folder, &["report", file, "-f", "json"]);
        let recording: Option<Recording> = serde_json::from_slice(&output.stdout).ok();
        recording.is_some_and(|it| it.samples.len() >= samples)
    };
    while !has_some() {
        assert_eq!(recorder.try_wait().expect("wait"), None, "nodetap ended");
        assert!(Instant::now() < deadline, "no samples come");
        sleep(Duration::from_millis(100));
    }
}

fn functions(recording: &Recording) -> Vec<&str> {
    recording
        .frames
        .iter()
        .map(|it| it.function.as_str())
        .collect()
}

#[test]
fn what_was_recorded_is_there_after_kill_9() {
    let target = Target::start(VERSION, &[], "lifecycle.js", &[]).wait_until_ready();
    let pid = target.pid().to_string();
    let folder = tempfile::tempdir().expect("a temporary folder");
    let folder = folder.path();
    let arguments = ["record", "-p", &pid, "-o", "x.nodetap"];
    let mut recorder = nodetap(folder, &arguments).spawn().expect("run");
    // It can be looked at while it is being recorded.
    wait_for_samples(folder, "x.nodetap", 300, &mut recorder);
    let (before, _) = read(folder, "x.nodetap");
    recorder.kill().expect("kill");
    recorder.wait().expect("wait");

    let (recording, lines) = read(folder, "x.nodetap");
    let samples = recording.samples.len();
    assert!(samples >= before.samples.len(), "{samples}");
    let note = format!(
        "note: 'x.nodetap' was cut short, or is still being written: {samples} samples of {:.1} s are there",
        recording.duration().as_secs_f64()
    );
    assert_eq!(lines[0], note);
    assert!(
        lines[1].starts_with(&format!("{samples} samples in ")),
        "{lines:?}"
    );
    assert!(functions(&recording).contains(&"beforeEnd"));
    assert_eq!(recording.processes[0].node, format!("v{VERSION}"));
    // Nothing else was left.
    let names = fs::read_dir(folder).expect("it is there");
    assert_eq!(names.count(), 1);

    // What is there is kept when another is recorded; that one ends as it should.
    let cut = fs::read(folder.join("x.nodetap")).expect("it is there");
    let output = run(folder, &[&arguments[..], &["-d", "0.7"]].concat());
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    assert!(fs::read(folder.join("x.nodetap.old")).expect("it is there") == cut);
    let (recording, lines) = read(folder, "x.nodetap");
    let closing = text(&output.stderr).lines().next().expect("a line");
    assert_eq!(lines, [closing]);
    assert!(closing.starts_with(&format!("{} samples in ", recording.samples.len())));

    // The same in words.
    let output = run(folder, &["diff", "x.nodetap.old", "x.nodetap"]);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    assert!(text(&output.stdout).starts_with(&format!("Before: {samples} samples in ")));
}

/// A thread of another process that stands still.
struct Held(libc::pid_t);

impl Held {
    /// Stops the thread of process `pid` that reads source maps, as soon as there is one.
    fn reader_of_maps(pid: u32, recorder: &mut Child) -> Held {
        let is_it = |tid: &u32| {
            let name = fs::read_to_string(format!("/proc/{pid}/task/{tid}/comm"));
            name.is_ok_and(|name| name.trim_end() == "nodetap-maps")
        };
        loop {
            let threads = fs::read_dir(format!("/proc/{pid}/task")).expect("it runs");
            let tid = |entry: fs::DirEntry| entry.file_name().to_str()?.parse().ok();
            let mut tids = threads.filter_map(|entry| tid(entry.ok()?));
            if let Some(tid) = tids.find(is_it) {
                let held = Held(tid as libc::pid_t);
                held.ask(libc::PTRACE_SEIZE);
                held.ask(libc::PTRACE_INTERRUPT);
                held.wait();
                return held;
            }
            assert_eq!(recorder.try_wait().expect("wait"), None, "nodetap ended");
            sleep(Duration::from_millis(1));
        }
    }

    fn ask(&self, request: libc::c_uint) {
        // SAFETY: neither request has the kernel write to our memory.
        let asked = unsafe { libc::ptrace(request, self.0, 0, 0) };
        assert_eq!(asked, 0, "{}", std::io::Error::last_os_error());
    }

    /// Waits until it has stopped, or has ended.
    fn wait(&self) {
        // SAFETY: it is not asked for a status.
        let tid = unsafe { libc::waitpid(self.0, std::ptr::null_mut(), libc::__WALL) };
        assert_eq!(tid, self.0, "{}", std::io::Error::last_os_error());
    }
}

#[test]
fn what_waits_for_a_source_map_is_there_after_kill_9() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let folder = folder.path();
    let script = folder.join("a.js");
    let text = "\
console.log('ready');
for (;;) spin();
function spin() { for (let i = 0; i < 1e6; i++); }
//# sourceMappingURL=a.js.map
";
    fs::write(&script, text).expect("write");
    // It takes its time to be read.
    let mappings = "AAAA;AACA;AACA,".to_owned() + &"AAAA,".repeat(12_000_000);
    let map = format!(r#"{{"version":3,"sources":["a.ts"],"names":[],"mappings":"{mappings}"}}"#);
    fs::write(folder.join("a.js.map"), map).expect("write");
    let node = [common::node(VERSION).into_os_string()];
    let target = Target::start_as(&node, &[], &script, &[]).wait_until_ready();
    let pid = target.pid().to_string();
    for _ in 0..5 {
        let arguments = ["record", "-p", &pid, "-o", "x.nodetap"];
        let mut recorder = nodetap(folder, &arguments).spawn().expect("run");
        let held = Held::reader_of_maps(recorder.id(), &mut recorder);
        wait_for_samples(folder, "x.nodetap", 300, &mut recorder);
        let (before, _) = read(folder, "x.nodetap");
        recorder.kill().expect("kill");
        held.wait();
        recorder.wait().expect("wait");

        let (recording, lines) = read(folder, "x.nodetap");
        assert!(recording.samples.len() >= before.samples.len());
        assert!(lines[0].starts_with("note: 'x.nodetap' was cut short"));
        let of_program = recording.frames.iter().filter(|it| it.function == "spin");
        let files: Vec<&str> = of_program.filter_map(|it| it.file.as_deref()).collect();
        assert!(!files.is_empty());
        // Unless it was quicker than we were.
        if files.iter().all(|file| file.ends_with("/a.js")) {
            return;
        }
    }
    panic!("the map is read before anybody can stop it");
}

#[test]
fn a_full_disk_leaves_what_was_written() {
    let target = Target::start(VERSION, &[], "lifecycle.js", &[]).wait_until_ready();
    let pid = target.pid().to_string();
    let folder = tempfile::tempdir().expect("a temporary folder");
    let folder = folder.path();
    // No file may have more than two kilobytes.
    let program = env!("CARGO_BIN_EXE_nodetap");
    let limited = r#"trap "" XFSZ; ulimit -f 4; exec "$@""#;
    let output = Command::new("sh")
        .args(["-c", limited, "sh", program, "record", "-p", &pid])
        .args(["-d", "60", "-o", "x.nodetap"])
        .current_dir(folder)
        .stdin(Stdio::null())
        .output()
        .expect("run");
    assert_eq!(
        text(&output.stderr),
        "error: cannot write to 'x.nodetap': File too large\n\
         hint: what was recorded until then is kept: nodetap report 'x.nodetap'\n"
    );
    assert_eq!(output.status.code(), Some(1));
    let (recording, lines) = read(folder, "x.nodetap");
    assert!(
        lines[0].starts_with("note: 'x.nodetap' was cut short"),
        "{lines:?}"
    );
    assert!(!recording.samples.is_empty());
    assert!(functions(&recording).contains(&"beforeEnd"));

    let arguments = ["record", "-p", &pid, "-f", "nodetap", "-o", "/dev/full"];
    let output = run(folder, &arguments);
    let error = "error: cannot write to '/dev/full': No space left on device\n";
    assert_eq!(text(&output.stderr), error);
    assert_eq!(output.status.code(), Some(1));
}

#[test]
fn a_program_from_its_start_goes_through_a_pipe() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let folder = folder.path();
    let node = common::node(VERSION);
    let node = node.to_str().expect("UTF-8");
    let script = "for (const end = Date.now() + 300; Date.now() < end;);";
    let output = run(
        folder,
        &["record", "-f", "nodetap", "--", node, "-e", script],
    );
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    fs::write(folder.join("x"), &output.stdout).expect("write");
    let (recording, lines) = read(folder, "x");
    let closing = text(&output.stderr).lines().next().expect("a line");
    assert_eq!(lines, [closing]);
    assert!(!recording.samples.is_empty(), "{closing}");

    // Where there is nothing to record, what was there stays.
    for command in [
        &["-o", "x", "--", "/nonexistent"][..],
        &["-o", "x", "--", "true"],
    ] {
        let arguments = [&["record", "-f", "nodetap"], command].concat();
        let failed = run(folder, &arguments);
        assert_ne!(failed.status.code(), Some(0));
        assert!(fs::read(folder.join("x")).expect("it is there") == output.stdout);
        assert!(!folder.join("x.old").exists());
    }
}
