//! `nodetap record -- COMMAND`: a program that nodetap starts, as root and as nobody.

mod common;

use std::fs;
use std::io::{Read, Write};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use common::recording::Recording;
use serde::Deserialize;
use tempfile::TempDir;

const VERSION: &str = "24.21.0";
/// `nobody` and `nogroup` of Debian and many others.
const NOBODY: u32 = 65534;

/// A folder that everybody may write to, with a program and a nodetap in it that
/// everybody may run.
struct Place {
    folder: TempDir,
}

impl Place {
    fn new(program: &str) -> Place {
        use std::os::unix::fs::PermissionsExt;
        let folder = tempfile::tempdir().expect("a temporary folder");
        let open = fs::Permissions::from_mode(0o777);
        fs::set_permissions(folder.path(), open).expect("chmod");
        let place = Place { folder };
        let nodetap = Path::new(env!("CARGO_BIN_EXE_nodetap"));
        common::copy_program(nodetap, place.path("nodetap").as_ref());
        common::copy_program(&common::node(VERSION), place.path("node").as_ref());
        fs::write(place.path("program.js"), program).expect("write");
        place
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// `nodetap record OPTIONS -f json -o recording.json -- COMMAND`
    fn record(&self, options: &[&str], command: &[&str]) -> Command {
        let mut nodetap = Command::new(self.path("nodetap"));
        nodetap
            .arg("record")
            .args(options)
            .args(["-f", "json", "-o", "recording.json", "--"])
            .args(command)
            .current_dir(self.folder.path())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        nodetap
    }

    fn recording(&self) -> Recording {
        let text = fs::read_to_string(self.path("recording.json")).expect("a recording");
        serde_json::from_str(&text).expect("the JSON of a record")
    }
}

const NODE: [&str; 2] = ["./node", "program.js"];

fn as_nobody(mut command: Command) -> Command {
    command.uid(NOBODY).gid(NOBODY);
    command
}

fn run(mut command: Command, input: &[u8]) -> Output {
    let mut child = command.spawn().expect("cannot run nodetap");
    // It may have ended before it has read all.
    let _ = child.stdin.take().expect("piped").write_all(input);
    child.wait_with_output().expect("wait")
}

fn stderr(output: &Output) -> Vec<&str> {
    let text = std::str::from_utf8(&output.stderr).expect("UTF-8");
    text.lines().collect()
}

/// Says what it is given, spins for a second in `inner`, called by
/// `outer`, and ends with status 7.
const SPINNING: &str = r"
const fs = require('fs');
process.stdout.write('read ' + fs.readFileSync(0));
function inner() {
  let s = 0;
  for (let i = 0; i < 1e5; i++) s += i % 7;
  return s;
}
function outer() {
  const end = process.cpuUsage().user + 1e6;
  while (process.cpuUsage().user < end) inner();
}
outer();
process.stderr.write('done\n');
process.exitCode = 7;
";

/// The functions of the program's own file on a stack, outermost first, where `inner` is
/// on it.
fn own_functions(recording: &Recording, pid: u32) -> Vec<(Vec<&str>, u64)> {
    let stacks = recording.stacks_of(pid);
    stacks
        .into_iter()
        .map(|(stack, count)| {
            let file = |file: &str| file.ends_with("/program.js");
            let frames = stack
                .into_iter()
                .filter(|frame| frame.file.as_deref().is_some_and(file));
            (frames.map(|frame| frame.function.as_str()).collect(), count)
        })
        .collect()
}

fn assert_spinning(output: &Output, recording: &Recording, sampler: &str) {
    assert_eq!(output.stdout, b"read some words");
    assert_eq!(output.status.code(), Some(7), "{:?}", stderr(output));
    assert_eq!(stderr(output)[0], "done");
    assert_eq!(recording.sampler, sampler);
    let [process] = &recording.processes[..] else {
        panic!("{:?}", recording.processes);
    };
    assert_eq!(process.command, NODE);
    assert_eq!(process.node, format!("v{VERSION}"));
    let stacks = own_functions(recording, process.pid);
    let all: u64 = stacks.iter().map(|(_, count)| count).sum();
    let spinning = |own: &[&str]| matches!(own, ["(anonymous)", "outer", "inner", ..]);
    let inner = stacks.iter().filter(|(own, _)| spinning(own));
    let inner: u64 = inner.map(|(_, count)| count).sum();
    // It takes some time to start.
    assert!(
        inner * 2 > all && inner > 10,
        "{inner} of {all}: {stacks:?}"
    );
    for (own, count) in &stacks {
        let known = ["(anonymous)", "outer", "inner"];
        assert_eq!(own[..], known[..own.len().min(3)], "{count} samples");
    }
}

#[test]
fn by_root_it_is_recorded_from_its_first_instruction_to_its_end() {
    let _alone = common::one_at_a_time();
    let place = Place::new(SPINNING);
    let output = run(place.record(&["--native"], &NODE), b"some words");
    let recording = place.recording();
    assert_spinning(&output, &recording, "ebpf");
    // Before anything of Node.js runs, the dynamic loader is at work.
    let (_, _, first) = recording.samples[0];
    let top = recording.stacks[first].last().expect("a frame");
    let file = recording.frames[*top].file.as_deref().unwrap_or_default();
    assert!(file.contains("/ld-linux"), "{file}");
}

#[test]
fn by_nobody_too() {
    let _alone = common::one_at_a_time();
    let place = Place::new(SPINNING);
    let output = run(as_nobody(place.record(&[], &NODE)), b"some words");
    let recording = place.recording();
    assert_spinning(&output, &recording, "ptrace");
    assert_eq!(recording.rate_hz, 99);
    let told = stderr(&output);
    let [.., closing, _summary, hint] = told[..] else {
        panic!("{told:?}");
    };
    assert!(closing.contains(" ms in all"), "{closing}");
    // As root it would be root's program.
    let nodetap = place.path("nodetap");
    let expected = format!(
        "hint: the eBPF sampler stops nothing and samples ten times as often: sudo setcap \
         cap_bpf,cap_perfmon=ep '{}'",
        nodetap.display()
    );
    assert_eq!(hint, expected);
}

#[test]
fn through_a_shell_that_becomes_it() {
    let _alone = common::one_at_a_time();
    let place = Place::new(SPINNING);
    for sampler in ["ebpf", "ptrace"] {
        let shell = ["sh", "-c", "exec sh -c 'exec ./node program.js'"];
        let output = run(place.record(&["--sampler", sampler], &shell), b"some words");
        assert_spinning(&output, &place.recording(), sampler);
    }
}

/// What a process of the fixture says of itself.
#[derive(Debug, Deserialize)]
struct Kid {
    pid: u32,
    name: String,
}

/// A cluster of three processes, each of which spins in a function of its own.
const FAMILY: &str = r"
const { fork } = require('child_process');
const name = process.argv[2] || 'parent';
const spin = { parent() { burn() }, first() { burn() }, second() { burn() } };
function burn() {
  let s = 0;
  const end = process.cpuUsage().user + 7e5;
  while (process.cpuUsage().user < end) for (let i = 0; i < 1e5; i++) s += i % 7;
  return s;
}
console.log(JSON.stringify({ pid: process.pid, name }));
if (name === 'parent') for (const kid of ['first', 'second']) fork(__filename, [kid]);
spin[name]();
";

#[test]
fn with_all_processes_that_it_starts() {
    let _alone = common::one_at_a_time();
    for (sampler, nobody) in [("ebpf", false), ("ptrace", true)] {
        let place = Place::new(FAMILY);
        let options = ["--subprocesses", "--sampler", sampler];
        let command = place.record(&options, &["sh", "-c", "./node program.js; exit 3"]);
        let output = match nobody {
            true => run(as_nobody(command), b""),
            false => run(command, b""),
        };
        assert_eq!(output.status.code(), Some(3), "{:?}", stderr(&output));
        let text = String::from_utf8_lossy(&output.stdout);
        let parse = |line: &str| serde_json::from_str::<Kid>(line).expect("a line");
        let kids: Vec<Kid> = text.lines().map(parse).collect();
        assert_eq!(kids.len(), 3, "{kids:?}");
        let recording = place.recording();
        assert_eq!(recording.processes.len(), 3, "{:?}", recording.processes);
        for kid in &kids {
            let stacks = own_functions(&recording, kid.pid);
            let of_it = stacks
                .iter()
                .filter(|(own, _)| own.contains(&kid.name.as_str()));
            let count: u64 = of_it.map(|(_, count)| count).sum();
            assert!(
                count > 10,
                "{sampler}: {count} samples of {kid:?}: {:#?}",
                recording.stacks_of(kid.pid)
            );
            for other in kids.iter().filter(|other| other.pid != kid.pid) {
                let is_wrong = |(own, _): &&(Vec<&str>, u64)| own.contains(&other.name.as_str());
                assert_eq!(stacks.iter().find(is_wrong), None);
            }
        }
    }
}

/// Spins until it is told to end, and takes its time with that.
const ENDING: &str = r"
for (const signal of ['SIGTERM', 'SIGINT']) process.on(signal, () => {
  process.stdout.write('got ' + signal + '\n', () => process.exit(5));
});
process.stdout.write('ready\n');
function spin() {
  for (let i = 0; i < 1e5; i++);
  setImmediate(spin);
}
spin();
";

/// Waits until a child has written this line to its stdout.
fn wait_for(child: &mut Child, line: &str) {
    let mut read = vec![0; line.len() + 1];
    let out = child.stdout.as_mut().expect("piped");
    out.read_exact(&mut read).expect("read");
    assert_eq!(read, format!("{line}\n").as_bytes());
}

#[test]
fn a_signal_is_passed_on_and_the_exit_status_back() {
    let _alone = common::one_at_a_time();
    let place = Place::new(ENDING);
    for (number, name) in [(libc::SIGTERM, "SIGTERM"), (libc::SIGINT, "SIGINT")] {
        let mut command = place.record(&[], &NODE);
        // Nobody's foreground process group: what it gets, nobody else gets.
        command.process_group(0);
        let mut nodetap = command.spawn().expect("cannot run nodetap");
        wait_for(&mut nodetap, "ready");
        sleep(Duration::from_millis(300));
        // SAFETY: a child that has not been waited for.
        unsafe { libc::kill(nodetap.id() as i32, number) };
        wait_for(&mut nodetap, &format!("got {name}"));
        let output = nodetap.wait_with_output().expect("wait");
        assert_eq!(output.status.code(), Some(5), "{:?}", stderr(&output));
        let recording = place.recording();
        let pid = recording.processes[0].pid;
        let spins = own_functions(&recording, pid);
        let spins = spins.iter().filter(|(own, _)| own[..] == ["spin"]);
        assert!(spins.map(|(_, count)| count).sum::<u64>() > 10);
    }
}

#[test]
fn how_it_was_killed_is_passed_back() {
    let place = Place::new("setTimeout(() => process.kill(process.pid, 'SIGKILL'), 300)");
    let output = run(place.record(&[], &NODE), b"");
    assert_eq!(output.status.code(), Some(128 + libc::SIGKILL));
    assert_eq!(place.recording().processes.len(), 1);
}

#[test]
fn after_the_recording_it_goes_on() {
    let place = Place::new(ENDING);
    let mut command = place.record(&["-d", "0.5"], &NODE);
    command.process_group(0);
    let mut nodetap = command.spawn().expect("cannot run nodetap");
    wait_for(&mut nodetap, "ready");
    let begun = Instant::now();
    while !place.path("recording.json").exists() {
        assert!(begun.elapsed() < Duration::from_secs(60), "no recording");
        sleep(Duration::from_millis(10));
    }
    assert_eq!(nodetap.try_wait().expect("wait"), None, "it waits");
    // SAFETY: a child that has not been waited for.
    unsafe { libc::kill(nodetap.id() as i32, libc::SIGTERM) };
    wait_for(&mut nodetap, "got SIGTERM");
    let output = nodetap.wait_with_output().expect("wait");
    assert_eq!(output.status.code(), Some(5), "{:?}", stderr(&output));
}

#[test]
fn a_shell_goes_on_too() {
    let _alone = common::one_at_a_time();
    for sampler in ["ebpf", "ptrace"] {
        let place = Place::new(SPINNING);
        let options = ["--subprocesses", "-d", "0.5", "--sampler", sampler];
        // The shell gets SIGCHLD when its child has ended, after the recording.
        let script = "./node program.js; test $? = 7 && exit 4";
        let mut nodetap = place.record(&options, &["sh", "-c", script]);
        nodetap.process_group(0);
        let nodetap = nodetap.spawn().expect("cannot run nodetap");
        let output = within(Duration::from_secs(60), nodetap);
        assert_eq!(output.status.code(), Some(4), "{:?}", stderr(&output));
        assert_eq!(place.recording().processes.len(), 1);
    }
}

#[test]
fn what_has_ended_is_let_go() {
    let _alone = common::one_at_a_time();
    // One that is over sooner may not have been seen.
    let place = Place::new("while (process.cpuUsage().user < 2e5);");
    let many = "for i in 1 2 3 4 5 6 7 8 9 10 11 12; do ./node program.js; done";
    let script = format!("echo begun; read go; {many}; echo done; read end");
    let mut nodetap = place.record(&["--subprocesses"], &["sh", "-c", &script]);
    let mut nodetap = nodetap.spawn().expect("cannot run nodetap");
    let folder = format!("/proc/{}/fd", nodetap.id());
    let files = || fs::read_dir(&folder).expect("it runs").count();
    let go_on = |nodetap: &mut Child| {
        let stdin = nodetap.stdin.as_mut().expect("piped");
        stdin.write_all(b"\n").expect("write");
    };
    wait_for(&mut nodetap, "begun");
    let before = files();
    go_on(&mut nodetap);
    wait_for(&mut nodetap, "done");
    // The symbols of the binary, and of what it is linked with, are kept for the next
    // one. Of each process there were three files.
    let begun = Instant::now();
    while files() > before + 10 {
        let many = format!("{} files, {before} before", files());
        assert!(begun.elapsed() < Duration::from_secs(60), "{many}");
        sleep(Duration::from_millis(10));
    }
    go_on(&mut nodetap);
    let output = within(Duration::from_secs(60), nodetap);
    assert_eq!(output.status.code(), Some(0), "{:?}", stderr(&output));
    assert_eq!(place.recording().processes.len(), 12);
}

/// What a process says and how it ends. If it does not end within `limit`, all of its
/// process group is killed.
fn within(limit: Duration, mut child: Child) -> Output {
    drop(child.stdin.take());
    let begun = Instant::now();
    while child.try_wait().expect("wait").is_none() {
        if begun.elapsed() > limit {
            // SAFETY: the process group of a child that has not been waited for.
            unsafe { libc::kill(-(child.id() as i32), libc::SIGKILL) };
            panic!("it hangs: {:?}", child.wait_with_output());
        }
        sleep(Duration::from_millis(10));
    }
    child.wait_with_output().expect("wait")
}

fn assert_fails(place: &Place, options: &[&str], command: &[&str], lines: &[&str]) {
    let output = run(place.record(options, command), b"");
    assert_eq!(stderr(&output), lines);
    assert_eq!(output.status.code(), Some(1));
    assert!(!place.path("recording.json").exists());
}

#[test]
fn what_is_not_node() {
    let place = Place::new(SPINNING);
    assert_fails(
        &place,
        &[],
        &["./no-such-program"],
        &[
            "error: cannot start ./no-such-program: No such file or directory",
            "hint: is it installed, and in the PATH?",
        ],
    );
    assert_fails(
        &place,
        &[],
        &["./program.js"],
        &["error: cannot start ./program.js: Permission denied"],
    );
    assert_fails(
        &place,
        &[],
        &["true"],
        &[
            "error: true did not run Node.js",
            "hint: --subprocesses records the processes that it starts too",
        ],
    );
    assert_fails(
        &place,
        &["--subprocesses"],
        &["sh", "-c", "sleep 0.1"],
        &["error: sh did not run Node.js"],
    );
}

#[test]
fn the_program_ends_with_nodetap_only_before_it_has_begun() {
    // An output that cannot be written is known before anything is started.
    let place = Place::new("require('fs').writeFileSync('started', '')");
    let mut nodetap = Command::new(place.path("nodetap"));
    nodetap
        .args(["record", "-o", "/no/such/folder/out.json", "--"])
        .args(NODE)
        .current_dir(place.folder.path());
    let output = nodetap.output().expect("run");
    assert_eq!(output.status.code(), Some(1));
    assert!(!place.path("started").exists());

    // Once it runs, nodetap's end does not touch it.
    let place = Place::new(ENDING);
    let mut nodetap = place
        .record(&[], &NODE)
        .spawn()
        .expect("cannot run nodetap");
    wait_for(&mut nodetap, "ready");
    let kids = fs::read_to_string(format!("/proc/{0}/task/{0}/children", nodetap.id()));
    let pid: i32 = kids.expect("read").trim().parse().expect("one child");
    nodetap.kill().expect("kill");
    nodetap.wait().expect("wait");
    let status = fs::read_to_string(format!("/proc/{pid}/status")).expect("it runs");
    assert!(status.contains("\nTracerPid:\t0\n"), "{status}");
    let runs = |status: &str| status.contains("State:\tR") || status.contains("State:\tS");
    assert!(runs(&status), "{status}");
    // SAFETY: a process that runs, and is nobody else's.
    unsafe { libc::kill(pid, libc::SIGTERM) };
    let mut out = String::new();
    let stdout = nodetap.stdout.as_mut().expect("piped");
    stdout.read_to_string(&mut out).expect("read");
    assert_eq!(out, "got SIGTERM\n");
    assert!(!Path::new(&place.path("recording.json")).exists());
}
