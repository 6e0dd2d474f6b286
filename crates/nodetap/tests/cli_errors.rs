//! What is typed wrongly or cannot be done: the whole of stderr and the exit status.

mod common;

use std::fs;
use std::io::ErrorKind;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

use tempfile::TempDir;

/// A user without any rights.
const NOBODY: u32 = 65534;

fn nodetap(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_nodetap"));
    command.args(arguments).stdin(Stdio::null());
    command
}

/// Runs it and fails unless it ends with `status` after these lines, and no others, and
/// nothing on stdout.
#[track_caller]
fn assert_fails(mut command: Command, status: i32, lines: &[&str]) {
    let output = command.output().expect("cannot run nodetap");
    assert_eq!(stderr(&output), lines, "{command:?}");
    assert_eq!(output.status.code(), Some(status), "{command:?}");
    assert_eq!(output.stdout, b"", "{command:?}");
}

fn stderr(output: &Output) -> Vec<&str> {
    let text = std::str::from_utf8(&output.stderr).expect("UTF-8");
    text.lines().collect()
}

fn stdout(output: &Output) -> Vec<&str> {
    let text = std::str::from_utf8(&output.stdout).expect("UTF-8");
    text.lines().collect()
}

/// A process that is killed when this is dropped.
struct Running(Child);

impl Running {
    fn start(program: impl AsRef<Path>, arguments: &[&str]) -> Running {
        let mut command = Command::new(program.as_ref());
        command.args(arguments).stdin(Stdio::null());
        loop {
            match command.spawn() {
                // What was written just now is open for writing, for a moment, in what
                // another test starts at the same time.
                Err(error) if error.kind() == ErrorKind::ExecutableFileBusy => {
                    std::thread::sleep(std::time::Duration::from_millis(5));
                }
                started => return Running(started.expect("cannot start it")),
            }
        }
    }

    fn pid(&self) -> String {
        self.0.id().to_string()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The number of a process that has just ended.
fn unused_pid() -> String {
    let mut child = Command::new("true").spawn().expect("cannot run true");
    child.wait().expect("wait");
    child.id().to_string()
}

/// A copy of nodetap that everybody may run, in a folder that goes with it.
fn public_nodetap() -> (TempDir, PathBuf) {
    let folder = tempfile::tempdir().expect("a temporary folder");
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).expect("chmod");
    let path = folder.path().join("nodetap");
    common::copy_program(Path::new(env!("CARGO_BIN_EXE_nodetap")), &path);
    (folder, path)
}

/// `path` as nobody runs it.
fn as_nobody(path: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(path);
    command.args(arguments).stdin(Stdio::null());
    command.uid(NOBODY).gid(NOBODY).current_dir("/");
    command
}

const PID_HINT: &str = "hint: 'nodetap ps' lists the Node.js processes with their ids";
const DURATION_HINT: &str = "hint: give a number of seconds, such as 10 or 0.5";

#[test]
fn a_duration_must_be_a_positive_number() {
    for (value, reason) in [
        ("0", "must be more than 0"),
        ("-1", "must be more than 0"),
        ("0.0", "must be more than 0"),
        ("ten", "not a number"),
        ("10s", "not a number"),
        ("NaN", "not a number"),
        ("", "not a number"),
    ] {
        let option = format!("error: invalid value '{value}' for '--duration <SECS>': {reason}");
        assert_fails(
            nodetap(&["record", "-p", "1", "-d", value]),
            2,
            &[&option, DURATION_HINT],
        );
        let argument = format!("error: invalid value '{value}' for '<SECONDS>': {reason}");
        assert_fails(
            nodetap(&["sample", "1", "text", value]),
            2,
            &[&argument, DURATION_HINT],
        );
    }
    assert_fails(
        nodetap(&["record", "-p", "1", "-d", "inf"]),
        2,
        &[
            "error: invalid value 'inf' for '--duration <SECS>': too long",
            "hint: to record until Ctrl-C, use 'nodetap record' without --duration",
        ],
    );
}

#[test]
fn a_pid_must_be_one() {
    for value in ["node", "0", "-1", "1.5", "99999999999"] {
        let option = format!("error: invalid value '{value}' for '--pid <PID>': not a process id");
        assert_fails(nodetap(&["record", "-p", value]), 2, &[&option, PID_HINT]);
        let argument = format!("error: invalid value '{value}' for '<PID>': not a process id");
        assert_fails(
            nodetap(&["sample", value, "text", "1"]),
            2,
            &[&argument, PID_HINT],
        );
    }
}

#[test]
fn a_format_must_be_known() {
    assert_fails(
        nodetap(&["record", "-p", "1", "-f", "xml"]),
        2,
        &[
            "error: invalid value 'xml' for '--format <FORMAT>': unknown format",
            "hint: one of: text, raw, folded, json, flame, html, cpuprofile, speedscope, pprof, firefox, nodetap",
        ],
    );
    assert_fails(
        nodetap(&["sample", "1", "json", "1"]),
        2,
        &[
            "error: invalid value 'json' for '<FORMAT>': unknown format",
            "hint: one of: text, flame, raw",
        ],
    );
    // An extension that promises what cannot be written yet.
    assert_fails(
        nodetap(&["record", "-p", "1", "-o", "out.png"]),
        2,
        &[
            "error: cannot tell a format from 'out.png': unknown format 'png' \
             (known are text, raw, folded, json, flame, html, cpuprofile, speedscope, pprof, firefox, nodetap)",
            "hint: name one with --format",
        ],
    );
}

#[test]
fn rate_and_depth_have_bounds() {
    for value in ["0", "-5", "10001", "1e3"] {
        let reason = match value {
            "1e3" => "not a whole number",
            _ => "must be from 1 to 10000",
        };
        let error = format!("error: invalid value '{value}' for '--rate <HZ>': {reason}");
        assert_fails(
            nodetap(&["record", "-p", "1", "-r", value]),
            2,
            &[&error, "hint: 999 samples a second is a good rate"],
        );
    }
    assert_fails(
        nodetap(&["record", "-p", "1", "--max-depth", "16385"]),
        2,
        &[
            "error: invalid value '16385' for '--max-depth <N>': must be from 1 to 16384",
            "hint: 512 frames are enough for most programs",
        ],
    );
}

#[test]
fn a_sampler_that_is_not_there_is_not_pretended() {
    assert_fails(
        nodetap(&["record", "-p", "1", "--sampler", "dtrace"]),
        2,
        &[
            "error: invalid value 'dtrace' for '--sampler <SAMPLER>'",
            "hint: one of: auto, ebpf, ptrace",
        ],
    );
}

#[test]
fn what_is_missing_or_too_much_is_named() {
    const COMMANDS: &str = "hint: the commands are sample, record, report, diff, dump, top, ps, \
                            doctor, completions, man; see 'nodetap --help'";
    let cases: &[(&[&str], [&str; 2])] = &[
        (&["trace"], ["error: no such command: 'trace'", COMMANDS]),
        (
            &["dump"],
            [
                "error: missing: --pid <PID>",
                "hint: see 'nodetap dump --help'",
            ],
        ),
        (
            &["recrd"],
            [
                "error: no such command: 'recrd'",
                "hint: did you mean 'record'?",
            ],
        ),
        (
            &["record"],
            [
                "error: nothing to record: no process is named",
                "hint: name one with --pid, 'nodetap ps' lists them, or start a program: \
                 nodetap record -- COMMAND",
            ],
        ),
        (
            &["record", "-p"],
            [
                "error: '--pid <PID>' needs a value",
                "hint: see 'nodetap record --help'",
            ],
        ),
        (
            &["record", "-p", "1", "--durtion", "5"],
            [
                "error: unexpected argument '--durtion'",
                "hint: did you mean '--duration'?",
            ],
        ),
        (
            &["record", "-p", "1", "-d", "1", "-d", "2"],
            [
                "error: '--duration <SECS>' is given twice",
                "hint: see 'nodetap record --help'",
            ],
        ),
        (
            &["sample", "1", "text"],
            [
                "error: missing: <SECONDS>",
                "hint: see 'nodetap sample --help'",
            ],
        ),
        (
            &["sample", "1", "text", "1", "2"],
            [
                "error: unexpected argument '2'",
                "hint: see 'nodetap sample --help'",
            ],
        ),
        (
            &["ps", "-a\n"],
            [
                "error: unexpected argument '-a'",
                "hint: see 'nodetap ps --help'",
            ],
        ),
    ];
    for (arguments, lines) in cases {
        assert_fails(nodetap(arguments), 2, lines);
    }
}

#[test]
fn a_live_view_takes_a_terminal() {
    assert_fails(
        nodetap(&["top", "-p", "1"]),
        2,
        &[
            "error: 'nodetap top' needs a terminal to draw on",
            "hint: for a pipe or a file: nodetap record -p PID -d 10",
        ],
    );
}

#[test]
fn what_goes_to_stdout_is_not_opened() {
    assert_fails(
        nodetap(&["record", "-p", "1", "--open", "-o", "-"]),
        2,
        &[
            "error: --open cannot show what goes to stdout",
            "hint: leave out --output, or name a file",
        ],
    );
}

/// Who asks for nothing is told, in short, what there is.
#[test]
fn nothing_asked_gets_the_help() {
    let output = nodetap(&[]).output().expect("run");
    assert_eq!(output.status.code(), Some(2));
    assert_eq!(output.stdout, b"");
    let asked = nodetap(&["-h"]).output().expect("run");
    assert!(asked.status.success());
    assert_eq!(stderr(&output), stdout(&asked));
}

#[test]
fn every_command_has_examples_and_fits_a_terminal() {
    let output = nodetap(&["--help"]).output().expect("run");
    let lines = stdout(&output);
    let commands = lines
        .iter()
        .skip_while(|line| **line != "Commands:")
        .skip(1);
    let commands = commands.map_while(|line| line.strip_prefix("  ")?.split(' ').next());
    let commands: Vec<&str> = commands.filter(|it| *it != "help").collect();
    assert!(
        commands.contains(&"record") && commands.len() >= 7,
        "{commands:?}"
    );
    for command in commands {
        let output = nodetap(&[command, "--help"]).output().expect("run");
        let lines = stdout(&output);
        let text = lines.join("\n");
        let examples = text
            .split_once("\nExamples:\n")
            .map(|(_, examples)| examples);
        let examples = examples.unwrap_or_else(|| panic!("{command} has no examples"));
        assert!(examples.contains(&format!("nodetap {command}")), "{text}");
        for line in lines {
            assert!(line.chars().count() <= 100, "{command}: {line}");
        }
        for line in examples.lines() {
            assert!(line.chars().count() <= 80, "{command}: {line}");
        }
    }
}

#[test]
fn help_and_version_go_to_stdout() {
    let output = nodetap(&["--version"]).output().expect("run");
    let version = concat!("nodetap ", env!("CARGO_PKG_VERSION"), "\n");
    assert_eq!(String::from_utf8_lossy(&output.stdout), version);
    assert!(output.status.success());
    for arguments in [
        &["--help"][..],
        &["help"],
        &["record", "--help"],
        &["ps", "-h"],
    ] {
        let output = nodetap(arguments).output().expect("run");
        let text = String::from_utf8_lossy(&output.stdout);
        assert!(text.contains("Usage: nodetap"), "{arguments:?}: {text}");
        assert_eq!(stderr(&output), [""; 0]);
        assert!(output.status.success());
    }
}

#[test]
fn a_pid_that_is_no_process() {
    let pid = unused_pid();
    assert_fails(
        nodetap(&["sample", &pid, "text", "1"]),
        1,
        &[
            &format!("error: there is no process {pid}"),
            "hint: `nodetap ps` lists the Node.js processes of this machine",
        ],
    );
}

#[test]
fn a_process_that_is_not_node() {
    let sleep = Running::start("sleep", &["1000"]);
    let pid = sleep.pid();
    // Until it has exec'ed, it is another program that is not Node.
    while fs::read(format!("/proc/{pid}/comm")).expect("comm") != b"sleep\n" {
        std::thread::yield_now();
    }
    assert_fails(
        nodetap(&["record", "-p", &pid]),
        1,
        &[
            &format!("error: process {pid} (sleep) is not a Node.js process"),
            "hint: `nodetap ps` lists the Node.js processes of this machine",
        ],
    );
}

#[test]
fn a_process_that_is_not_ours() {
    let (_folder, nodetap) = public_nodetap();
    let sleep = Running::start("sleep", &["1000"]);
    let pid = sleep.pid();
    while fs::read(format!("/proc/{pid}/comm")).expect("comm") != b"sleep\n" {
        std::thread::yield_now();
    }
    assert_fails(
        as_nobody(&nodetap, &["record", "-p", &pid]),
        1,
        &[
            &format!(
                "error: no permission to read the memory of process {pid} (sleep): it belongs to \
                 root"
            ),
            "hint: run it as root: sudo nodetap …",
        ],
    );
}

#[test]
fn doctor_of_a_user_without_rights() {
    let (_folder, nodetap) = public_nodetap();
    let output = as_nobody(&nodetap, &["doctor"]).output().expect("run");
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(
        text.contains(
            "\nsampler: ptrace: for eBPF, which stops nothing, CAP_BPF and CAP_PERFMON are \
             missing\nto improve it: run it as root: sudo nodetap …\n"
        ),
        "{text}"
    );
    assert_eq!(stderr(&output), [""; 0]);
    assert_eq!(output.status.code(), Some(0));
}

#[test]
fn doctor_where_all_is_allowed() {
    let output = nodetap(&["doctor"]).output().expect("run");
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(text.contains("\nsampler: ebpf: "), "{text}");
    assert_eq!(stderr(&output), [""; 0]);
    assert_eq!(output.status.code(), Some(0));
}

#[test]
fn an_argument_cannot_write_control_characters() {
    assert_fails(
        nodetap(&["record", "-p", "1", "-f", "x\n\x1b[2Jerror: other"]),
        2,
        &[
            "error: invalid value 'x\\n\\u{1b}[2Jerror: other' for '--format <FORMAT>': \
             unknown format",
            "hint: one of: text, raw, folded, json, flame, html, cpuprofile, speedscope, pprof, firefox, nodetap",
        ],
    );
}

#[test]
fn a_reader_who_leaves_is_no_error() {
    for arguments in [&["--help"][..], &["doctor"], &["ps"]] {
        let mut child = nodetap(arguments)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("run");
        drop(child.stdout.take());
        let output = child.wait_with_output().expect("wait");
        assert!(
            output.status.success(),
            "{arguments:?}: {:?} {:?}",
            output.status,
            stderr(&output)
        );
    }
}

#[test]
fn a_closed_stderr_is_survived() {
    let mut child = nodetap(&["record", "-p", "1", "-d", "0"])
        .stderr(Stdio::piped())
        .spawn()
        .expect("run");
    drop(child.stderr.take());
    assert_eq!(child.wait().expect("wait").code(), Some(2));
}

/// Runs a copy of Node.js in which `edit` changed what its V8 says of itself: that one is
/// refused by all that read it, and `why` is said.
fn assert_altered_is_refused(edit: impl FnOnce(&mut Vec<u8>), why: &str) {
    // It is one that does not check whether its snapshot was changed.
    let folder = tempfile::tempdir().expect("a temporary folder");
    let node = folder.path().join("node");
    let mut binary = fs::read(common::node("24.21.0")).expect("node");
    edit(&mut binary);
    fs::write(&node, binary).expect("write");
    fs::set_permissions(&node, fs::Permissions::from_mode(0o755)).expect("chmod");
    let target = Running::start(&node, &["-e", "setInterval(() => {}, 1000)"]);
    std::thread::sleep(std::time::Duration::from_millis(500));
    let error = format!(
        "error: process {} runs a V8 that nodetap cannot read: {why}",
        target.pid()
    );
    for arguments in [&["record", "-d", "1"][..], &["dump"]] {
        let command = nodetap(&[arguments, &["-p", &target.pid()]].concat());
        let output = { command }.output().expect("cannot run nodetap");
        let lines = stderr(&output);
        assert_eq!(lines[0], error);
        assert!(
            lines[1].starts_with("hint: nodetap reads Node.js 0.10"),
            "{lines:?}"
        );
        assert_eq!((lines.len(), output.status.code()), (2, Some(1)));
        assert_eq!(output.stdout, b"");
    }
}

/// Puts `new` in place of `old`, wherever that is.
fn replace(binary: &mut [u8], old: &[u8], new: &[u8]) {
    assert_eq!(old.len(), new.len());
    let mut replaced = 0;
    for start in 0..binary.len() - old.len() {
        if binary[start] == old[0] && &binary[start..start + old.len()] == old {
            binary[start..start + new.len()].copy_from_slice(new);
            replaced += 1;
        }
    }
    assert!(replaced > 0, "nothing to replace");
}

/// A Node.js whose V8 does not tell all that every known one does: its layout is not
/// guessed.
#[test]
fn an_unknown_layout_is_refused() {
    assert_altered_is_refused(
        |binary| {
            let name = b"v8dbg_off_fp_context\0";
            replace(binary, name, b"v8dbg_off_fp_contexx\0");
        },
        "V8 13.6 does not tell off_fp_context",
    );
}

/// The V8 of a release that is not out: none of the rules are taken to be true of it.
#[test]
fn an_unreleased_v8_is_refused() {
    // `Version::patch_`, `build_`, `minor_` and `major_` lie one after the other.
    let numbers = |minor: u32| [17, 233, minor, 13].map(u32::to_le_bytes).concat();
    assert_altered_is_refused(
        |binary| {
            replace(binary, &numbers(6), &numbers(7));
            // V8's snapshot says which V8 it is for.
            replace(binary, b"13.6.233.17-node", b"13.7.233.17-node");
        },
        "V8 13.7 is not known",
    );
}
