//! What makes a tool of a program: completions, a manual, a question where nobody said what
//! to record, a browser that opens.

mod common;

use std::fs;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use common::target::Target;

const NODETAP: &str = env!("CARGO_BIN_EXE_nodetap");

fn run(command: &mut Command) -> Output {
    command
        .stdin(Stdio::null())
        .output()
        .expect("cannot run it")
}

fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).expect("UTF-8")
}

/// What bash would offer for the last of `words`.
fn completed(words: &[&str]) -> Vec<String> {
    const SCRIPT: &str = r#"
        source <("$NODETAP" completions bash) || exit 1
        complete -p nodetap > /dev/null || exit 1
        COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1))
        _nodetap nodetap "${COMP_WORDS[COMP_CWORD]}" "${COMP_WORDS[COMP_CWORD - 1]}"
        printf '%s\n' "${COMPREPLY[@]}""#;
    let mut bash = Command::new("bash");
    bash.args(["-c", SCRIPT, "bash"])
        .args(words)
        .env("NODETAP", NODETAP);
    let output = run(&mut bash);
    assert!(output.status.success(), "{}", text(&output.stderr));
    text(&output.stdout).lines().map(str::to_owned).collect()
}

#[test]
fn bash_completes_commands_options_and_values() {
    assert_eq!(completed(&["nodetap", "rec"]), ["record"]);
    assert_eq!(
        completed(&["nodetap", "record", "--subp"]),
        ["--subprocesses"]
    );
    assert_eq!(
        completed(&["nodetap", "record", "--format", "fla"]),
        ["flame"]
    );
    assert_eq!(
        completed(&["nodetap", "top", "--sampler", ""]),
        ["auto", "ebpf", "ptrace"]
    );
}

#[test]
fn other_shells_get_their_own() {
    for (shell, has) in [("zsh", "#compdef nodetap"), ("fish", "complete -c nodetap")] {
        let output = run(Command::new(NODETAP).args(["completions", shell]));
        assert!(output.status.success());
        assert!(text(&output.stdout).contains(has), "{shell}");
        assert!(text(&output.stdout).contains("subprocesses"), "{shell}");
    }
    let output = run(Command::new(NODETAP).args(["completions", "tcsh"]));
    assert_eq!(
        text(&output.stderr),
        "error: invalid value 'tcsh' for '<SHELL>'\nhint: one of: bash, zsh, fish\n"
    );
    assert_eq!(output.status.code(), Some(2));
}

/// Whether a shell is there to be asked. Not every machine has all of them.
fn has(shell: &str) -> bool {
    let found = Command::new(shell)
        .arg("--version")
        .stdout(Stdio::null())
        .status();
    found.is_ok_and(|status| status.success())
}

#[test]
fn fish_completes_and_zsh_understands() {
    if has("fish") {
        const SCRIPT: &str = r#"$NODETAP completions fish | source; complete -C "$argv""#;
        for (line, expected) in [
            ("nodetap rec", "record"),
            ("nodetap record --subp", "--subprocesses"),
            ("nodetap record --format fla", "flame"),
            ("nodetap top --no-source-m", "--no-source-maps"),
        ] {
            let mut fish = Command::new("fish");
            fish.args(["--no-config", "-c", SCRIPT, line])
                .env("NODETAP", NODETAP);
            let output = run(&mut fish);
            let words: Vec<&str> = text(&output.stdout)
                .lines()
                .filter_map(|line| line.split('\t').next())
                .collect();
            assert_eq!(words, [expected], "{line}: {}", text(&output.stderr));
        }
    }
    if has("zsh") {
        // The completion system is told of it at its end.
        const SCRIPT: &str = r#"
            compdef() { print compdef "$@" }
            eval "$("$NODETAP" completions zsh)"
            whence -w _nodetap"#;
        let mut zsh = Command::new("zsh");
        let output = run(zsh.args(["-f", "-c", SCRIPT]).env("NODETAP", NODETAP));
        assert_eq!(
            text(&output.stdout),
            "compdef _nodetap nodetap\n_nodetap: function\n",
            "{}",
            text(&output.stderr)
        );
    }
}

#[test]
fn the_manual_has_a_page_for_each_command() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let output = run(Command::new(NODETAP)
        .arg("man")
        .arg(folder.path().join("man1")));
    assert!(output.status.success(), "{}", text(&output.stderr));
    let names = [
        "",
        "-sample",
        "-record",
        "-dump",
        "-top",
        "-ps",
        "-doctor",
        "-completions",
        "-man",
    ];
    for name in names {
        let path = folder.path().join(format!("man1/nodetap{name}.1"));
        let page = fs::read_to_string(&path).expect("a page");
        for section in [
            ".SH NAME",
            ".SH SYNOPSIS",
            ".SH DESCRIPTION",
            ".SH EXAMPLES",
        ] {
            assert!(page.contains(section), "{section} of nodetap{name}\n{page}");
        }
        // Where there is one who reads such pages: he has nothing to say about it.
        let mut man = Command::new("man");
        man.args(["--warnings", "-l"])
            .arg(&path)
            .env("MANPAGER", "cat")
            .env("MANWIDTH", "80");
        if let Ok(output) = man.stdin(Stdio::null()).output()
            && output.status.success()
        {
            assert_eq!(text(&output.stderr), "", "nodetap{name}");
            assert!(text(&output.stdout).contains("nodetap"), "nodetap{name}");
        }
    }
    let record = fs::read_to_string(folder.path().join("man1/nodetap-record.1")).expect("a page");
    assert!(
        record.contains("Ctrl\\-C ends a recording early"),
        "{record}"
    );
    assert!(record.contains("\\-\\-subprocesses"), "{record}");
}

/// Records with `--open` and a browser that notes what it is given.
fn open(folder: &Path, browser: &str, arguments: &[&str]) -> Output {
    let target = Target::start("24.21.0", &[], "lifecycle.js", &[]).wait_until_ready();
    let noting = folder.join("browser");
    fs::write(&noting, format!("#!/bin/sh\n{browser}\n")).expect("write");
    let executable = Command::new("chmod").arg("755").arg(&noting).status();
    assert!(executable.expect("chmod").success());
    let mut command = Command::new(NODETAP);
    command
        .args([
            "record",
            "-d",
            "0.3",
            "--open",
            "-p",
            &target.pid().to_string(),
        ])
        .args(arguments)
        .current_dir(folder)
        .env("OUT", folder.join("given"))
        .env("BROWSER", &noting)
        .env("TMPDIR", folder);
    for name in [
        "DISPLAY",
        "WAYLAND_DISPLAY",
        "SUDO_UID",
        "SSH_CONNECTION",
        "SSH_CLIENT",
        "SSH_TTY",
    ] {
        command.env_remove(name);
    }
    run(&mut command)
}

#[test]
fn the_result_is_shown_in_the_users_browser() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let copy = r#"printf %s "$1" > "$OUT"; grep -q '<svg' "$1" && echo yes > "$OUT.svg""#;
    let output = open(folder.path(), copy, &["-o", "out.svg"]);
    assert!(output.status.success(), "{}", text(&output.stderr));
    let given = fs::read_to_string(folder.path().join("given")).expect("it was called");
    let path = folder
        .path()
        .canonicalize()
        .expect("it is there")
        .join("out.svg");
    assert_eq!(Path::new(&given), path);
    assert_eq!(
        fs::read_to_string(folder.path().join("given.svg")).expect("it is SVG"),
        "yes\n"
    );
    let last = text(&output.stderr).lines().last();
    assert_eq!(last, Some(&*format!("note: opened '{}'", path.display())));
}

#[test]
fn without_a_name_it_lies_in_a_temporary_file() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    // A browser that does not start: the result is there all the same.
    let output = open(folder.path(), "exit 1", &[]);
    assert!(output.status.success(), "{}", text(&output.stderr));
    assert_eq!(text(&output.stdout), "");
    let last = text(&output.stderr).lines().last().expect("a hint");
    let begin = "hint: nothing could be started to show it; open it in a browser: ";
    let path = Path::new(last.strip_prefix(begin).expect(last));
    assert!(
        path.starts_with(folder.path().canonicalize().expect("it is there")),
        "{last}"
    );
    let shown = fs::read_to_string(path).expect("it is there");
    assert!(shown.contains("<svg") || shown.contains("<html"), "{shown}");
}

#[test]
fn a_kept_recording_is_shown_too() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let output = open(folder.path(), "true", &["-o", "out.json"]);
    assert!(output.status.success(), "{}", text(&output.stderr));
    for arguments in [
        &["report", "out.json"][..],
        &["diff", "out.json", "out.json"],
    ] {
        let mut command = Command::new(NODETAP);
        command
            .args(arguments)
            .arg("--open")
            .current_dir(folder.path());
        let output = run(command
            .env("BROWSER", folder.path().join("browser"))
            .env("TMPDIR", folder.path()));
        assert!(output.status.success(), "{}", text(&output.stderr));
        let last = text(&output.stderr).lines().last().expect("a note");
        let path = last
            .strip_prefix("note: opened '")
            .and_then(|it| it.strip_suffix('\''));
        let shown = fs::read_to_string(path.expect(last)).expect("it is there");
        let expected = if arguments[0] == "report" {
            "<html"
        } else {
            "<svg"
        };
        assert!(shown.contains(expected), "{last}");
    }
}
