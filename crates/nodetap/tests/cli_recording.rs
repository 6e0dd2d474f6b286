//! How a recording ends: by a signal, with its target, without a reader, on a full disk.
//! Whatever was taken until then is written, and stderr says so.

mod common;

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::thread::sleep;
use std::time::Duration;

use common::recording::Recording;
use common::target::Target;
use rustix::process::{Pid, Signal, kill_process};

const VERSION: &str = "24.21.0";

fn nodetap(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_nodetap"));
    command
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    command
}

/// Starts it and waits until it has sampled for a while.
fn start_sampling(arguments: &[&str]) -> Child {
    let mut child = nodetap(arguments).spawn().expect("cannot run nodetap");
    wait_until_sampling(&mut child);
    sleep(Duration::from_millis(300));
    child
}

/// Waits until its program has been linked to the clock of a CPU, the last step before
/// samples come.
fn wait_until_sampling(child: &mut Child) {
    let is_link = |fd: fs::DirEntry| {
        fs::read_link(fd.path()).is_ok_and(|link| link == Path::new("anon_inode:bpf_link"))
    };
    loop {
        if let Some(status) = child.try_wait().expect("wait") {
            panic!("nodetap ended before it sampled: {status}");
        }
        let fds = fs::read_dir(format!("/proc/{}/fd", child.id()));
        if fds.is_ok_and(|mut fds| fds.any(|fd| fd.is_ok_and(is_link))) {
            return;
        }
        sleep(Duration::from_millis(5));
    }
}

fn send(child: &Child, signal: Signal) {
    let pid = Pid::from_child(child);
    kill_process(pid, signal).expect("kill");
}

fn stderr(output: &Output) -> Vec<String> {
    let text = String::from_utf8(output.stderr.clone()).expect("UTF-8");
    text.lines().map(str::to_owned).collect()
}

/// Fails unless `line`, which comes after the closing line, tells what the main threads,
/// so many, were doing.
#[track_caller]
fn assert_summary(line: &str, main_threads: usize) {
    let threads = match main_threads {
        1 => "main thread: ".to_owned(),
        several => format!("{several} main threads: "),
    };
    let shares = line.strip_prefix(&threads).expect(line);
    let percents = shares.split(", ").map(|share| {
        let (percent, _) = share.split_once(" % ").expect(line);
        percent.parse::<u32>().expect(line)
    });
    let percents: Vec<u32> = percents.collect();
    assert!(percents.is_sorted_by(|a, b| a >= b), "{line}");
    // All but what is less than half a percent of each.
    assert!((90..=105).contains(&percents.iter().sum::<u32>()), "{line}");
}

/// Fails unless `line` is the closing line of a recording at the usual rate that lost
/// nothing and truncated nothing. Returns how many samples it tells of.
#[track_caller]
fn assert_closing_line(line: &str) -> usize {
    let words: Vec<&str> = line.split(' ').collect();
    let [
        samples,
        "samples",
        "in",
        seconds,
        "s",
        "at",
        "999",
        "Hz",
        "(ebpf):",
        "0",
        "lost,",
        "0",
        "truncated,",
        incomplete,
        "incomplete",
        share,
        "%)",
    ] = words[..]
    else {
        panic!("no closing line: {line}");
    };
    let (_, tenths) = seconds.split_once('.').expect("tenths of seconds");
    assert_eq!(tenths.len(), 1, "{line}");
    let samples: usize = samples.parse().expect(line);
    let incomplete: usize = incomplete.parse().expect(line);
    let expected = format!("({:.2}", 100.0 * incomplete as f64 / samples.max(1) as f64);
    assert_eq!(share, expected, "{line}");
    samples
}

fn read(path: &Path) -> Recording {
    let text = fs::read_to_string(path).expect("nodetap wrote its output");
    serde_json::from_str(&text).expect("the JSON of a record")
}

/// The names of all JavaScript functions of the program itself.
fn own_functions(recording: &Recording) -> BTreeSet<&str> {
    let own = |file: &Option<String>| file.as_deref().is_some_and(|it| it.contains("/fixtures/"));
    let frames = recording.frames.iter();
    let frames = frames.filter(|frame| frame.is_js() && own(&frame.file));
    frames.map(|frame| frame.function.as_str()).collect()
}

#[test]
fn a_signal_ends_it_and_the_result_is_written() {
    let target = Target::start(VERSION, &[], "lifecycle.js", &[]).wait_until_ready();
    let pid = target.pid().to_string();
    let folder = tempfile::tempdir().expect("a temporary folder");
    for signal in [Signal::INT, Signal::TERM, Signal::HUP] {
        let path = folder.path().join(format!("{}.json", signal.as_raw()));
        let path_text = path.to_str().expect("UTF-8");
        let child = start_sampling(&["record", "-p", &pid, "-o", path_text]);
        assert!(!path.exists(), "it is written when it is whole");
        send(&child, signal);
        let output = child.wait_with_output().expect("wait");
        assert_eq!(output.status.code(), Some(0), "{:?}", stderr(&output));
        assert_eq!(output.stdout, b"");
        let lines = stderr(&output);
        let [closing, summary] = &lines[..] else {
            panic!("{lines:?}");
        };
        let recording = read(&path);
        assert_eq!(recording.samples.len(), assert_closing_line(closing));
        assert_summary(summary, 1);
        assert!(own_functions(&recording).contains("beforeEnd"));
    }
}

#[test]
fn a_signal_ends_the_one_liner_too() {
    let target = Target::start(VERSION, &[], "lifecycle.js", &[]).wait_until_ready();
    let pid = target.pid().to_string();
    let child = start_sampling(&["sample", &pid, "text", "1000"]);
    send(&child, Signal::INT);
    let output = child.wait_with_output().expect("wait");
    assert_eq!(output.status.code(), Some(0), "{:?}", stderr(&output));
    let lines = stderr(&output);
    let [announcement, closing, summary] = &lines[..] else {
        panic!("{lines:?}");
    };
    let announced = format!("Sampling {pid} for 1000s, outputting text.");
    assert_eq!(*announcement, announced);
    let samples = assert_closing_line(closing);
    assert_summary(summary, 1);
    let text = String::from_utf8(output.stdout).expect("UTF-8");
    let (_, text) = text.split_once("Total samples: ").expect("a total");
    let (total, tree) = text.split_once('\n').expect("a tree");
    assert_eq!(total, samples.to_string());
    assert!(tree.contains(" beforeEnd /"), "{tree}");
}

#[test]
fn a_second_signal_ends_it_at_once() {
    let target = Target::start(VERSION, &[], "lifecycle.js", &[]).wait_until_ready();
    let pid = target.pid().to_string();
    let child = start_sampling(&["record", "-p", &pid]);
    // Stopped, so that it finds both of them when it goes on.
    for signal in [Signal::STOP, Signal::INT, Signal::TERM, Signal::CONT] {
        send(&child, signal);
    }
    let output = child.wait_with_output().expect("wait");
    assert_eq!(stderr(&output), [""; 0]);
    // Which of them is handled first is up to the kernel.
    let status = output.status.code();
    assert!(matches!(status, Some(130 | 143)), "{status:?}");
    assert_eq!(output.stdout, b"");
}

#[test]
fn the_end_of_the_target_ends_it() {
    let mut target = Target::start(VERSION, &[], "lifecycle.js", &[]).wait_until_ready();
    let pid = target.pid().to_string();
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = folder.path().join("out.json");
    let path_text = path.to_str().expect("UTF-8");
    let child = start_sampling(&["record", "-p", &pid, "-d", "1000", "-o", path_text]);
    target.tell("exit");
    let output = child.wait_with_output().expect("wait");
    assert_eq!(output.status.code(), Some(0), "{:?}", stderr(&output));
    let lines = stderr(&output);
    let [note, closing, summary] = &lines[..] else {
        panic!("{lines:?}");
    };
    assert_eq!(*note, format!("note: process {pid} has ended"));
    let recording = read(&path);
    assert_eq!(recording.samples.len(), assert_closing_line(closing));
    assert_summary(summary, 1);
    assert!(own_functions(&recording).contains("beforeEnd"));
    assert!(recording.duration() < Duration::from_secs(1000));
}

#[test]
fn of_two_targets_the_other_goes_on() {
    let mut first = Target::start(VERSION, &[], "lifecycle.js", &[]).wait_until_ready();
    let mut second = Target::start("20.20.2", &[], "lifecycle.js", &[]).wait_until_ready();
    let pids = [first.pid(), second.pid()];
    let [one, two] = pids.map(|pid| pid.to_string());
    let arguments = ["record", "-p", &one, "-p", &two, "-p", &one, "-f", "json"];
    let child = start_sampling(&arguments);
    first.tell("exit");
    while Path::new(&format!("/proc/{one}/fd/0")).exists() {
        sleep(Duration::from_millis(5));
    }
    sleep(Duration::from_millis(300));
    second.tell("exit");
    let output = child.wait_with_output().expect("wait");
    assert_eq!(output.status.code(), Some(0), "{:?}", stderr(&output));
    let lines = stderr(&output);
    let [first_note, second_note, closing, summary] = &lines[..] else {
        panic!("{lines:?}");
    };
    assert_eq!(*first_note, format!("note: process {one} has ended"));
    assert_eq!(*second_note, format!("note: process {two} has ended"));
    let recording: Recording = serde_json::from_slice(&output.stdout).expect("JSON");
    assert_eq!(recording.samples.len(), assert_closing_line(closing));
    assert_summary(summary, 2);
    let processes = recording.processes.iter();
    assert_eq!(processes.map(|it| it.pid).collect::<Vec<_>>(), pids);
    let last = |pid: u32| {
        let threads = |thread: usize| recording.threads[thread].pid == pid;
        let mut samples = recording.samples.iter().rev();
        samples
            .find(|(_, thread, _)| threads(*thread))
            .expect("no samples")
            .0
    };
    assert!(last(pids[0]) < last(pids[1]));
}

#[test]
fn an_exec_of_the_target_ends_it() {
    let mut target = Target::start(VERSION, &[], "lifecycle.js", &[]).wait_until_ready();
    let pid = target.pid().to_string();
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = folder.path().join("out.json");
    let path_text = path.to_str().expect("UTF-8");
    let child = start_sampling(&["record", "-p", &pid, "-o", path_text]);
    target.tell("exec");
    assert_eq!(target.line(), "again");
    let output = child.wait_with_output().expect("wait");
    assert_eq!(output.status.code(), Some(0), "{:?}", stderr(&output));
    let lines = stderr(&output);
    let [note, closing, summary] = &lines[..] else {
        panic!("{lines:?}");
    };
    assert_eq!(
        *note,
        format!("note: process {pid} runs another program now")
    );
    let recording = read(&path);
    assert!(closing.starts_with(&format!("{} samples in ", recording.samples.len())));
    assert_summary(summary, 1);
    let functions = own_functions(&recording);
    assert!(functions.contains("beforeEnd"), "{functions:?}");
    assert!(!functions.contains("afterExec"), "{functions:?}");
}

#[test]
fn a_reader_who_leaves_ends_it_quietly() {
    let target = Target::start(VERSION, &[], "lifecycle.js", &[]).wait_until_ready();
    let pid = target.pid().to_string();
    // While it records: it would otherwise go on for a quarter of an hour.
    let mut child = start_sampling(&["sample", &pid, "text", "1000"]);
    drop(child.stdout.take());
    let output = child.wait_with_output().expect("wait");
    let announced = format!("Sampling {pid} for 1000s, outputting text.");
    assert_eq!(stderr(&output), [announced]);
    assert_eq!(output.status.code(), Some(0));
}

#[test]
fn a_full_disk_is_an_error() {
    let target = Target::start(VERSION, &[], "lifecycle.js", &[]).wait_until_ready();
    let pid = target.pid().to_string();
    let arguments = ["record", "-p", &pid, "-d", "0.5", "-o", "/dev/full"];
    let output = nodetap(&arguments).output().expect("run");
    let error = "error: cannot write to '/dev/full': No space left on device";
    assert_eq!(stderr(&output), [error]);
    assert_eq!(output.status.code(), Some(1));

    let full = File::options()
        .write(true)
        .open("/dev/full")
        .expect("/dev/full");
    let mut command = nodetap(&["record", "-p", &pid, "-d", "0.5"]);
    let output = command.stdout(full).output().expect("run");
    let error = "error: cannot write to stdout: No space left on device";
    assert_eq!(stderr(&output), [error]);
    assert_eq!(output.status.code(), Some(1));
}

#[test]
fn an_output_that_cannot_be_written_is_told_before_it_records() {
    let target = Target::start(VERSION, &[], "lifecycle.js", &[]).wait_until_ready();
    let pid = target.pid().to_string();
    let folder = tempfile::tempdir().expect("a temporary folder");
    let folder = folder.path().to_str().expect("UTF-8");
    for (path, lines) in [
        (
            format!("{folder}/none/out.svg"),
            [
                format!(
                    "error: cannot write to '{folder}/none/out.svg': No such file or directory"
                ),
                format!("hint: create the directory first: mkdir -p '{folder}/none'"),
            ],
        ),
        (
            folder.to_owned(),
            [
                format!("error: cannot write to '{folder}': is a directory"),
                "hint: name a file in it".to_owned(),
            ],
        ),
    ] {
        // Should it record, it would do so for a quarter of an hour.
        let arguments = [
            "record", "-p", &pid, "-d", "1000", "-f", "flame", "-o", &path,
        ];
        let output = nodetap(&arguments).output().expect("run");
        assert_eq!(stderr(&output), lines);
        assert_eq!(output.status.code(), Some(1));
    }
}

#[test]
fn a_thread_is_not_a_process() {
    let target = Target::start(VERSION, &[], "lifecycle.js", &[]).wait_until_ready();
    let pid = target.pid();
    let thread = target.threads().into_iter().find(|&thread| thread != pid);
    let thread = thread.expect("V8 has threads").to_string();
    let output = nodetap(&["record", "-p", &thread]).output().expect("run");
    let lines = [
        format!("error: {thread} is a thread of process {pid}"),
        format!("hint: name the process: {pid}"),
    ];
    assert_eq!(stderr(&output), lines);
    assert_eq!(output.status.code(), Some(1));
}

#[test]
fn ps_lists_the_target() {
    let target = Target::start(VERSION, &[], "lifecycle.js", &["two words"]).wait_until_ready();
    let pid = target.pid().to_string();
    let output = nodetap(&["ps"]).output().expect("run");
    assert_eq!(output.status.code(), Some(0), "{:?}", stderr(&output));
    let table = String::from_utf8(output.stdout).expect("UTF-8");
    let rows: Vec<Vec<&str>> = table
        .lines()
        .map(|line| line.split_whitespace().collect())
        .collect();
    let headings = [
        "PID", "NODE", "V8", "THREADS", "CPU", "%", "PROFILE", "COMMAND",
    ];
    assert_eq!(rows[0], headings);
    let row = rows.iter().find(|row| row[0] == pid).expect("it is listed");
    let [_, node, v8, threads, cpu, profile, _, script, a, b] = row[..] else {
        panic!("{row:?}");
    };
    assert_eq!((node, v8), ("v24.21.0", "13.6.233.17-node.53"));
    assert_eq!(threads, target.threads().len().to_string());
    assert!(cpu.parse::<f64>().expect("a number") > 0.0);
    assert_eq!(profile, "yes");
    assert!(script.ends_with("/tests/fixtures/lifecycle.js"));
    assert_eq!((a, b), ("two", "words"));
}
