//! Recordings that are kept: `report` and `diff` as users call them, on one that is known to
//! the sample.

mod common;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use tempfile::TempDir;

/// Ten samples of two threads, one a millisecond.
const KNOWN: &str = r#"{"nodetap":1,"sampler":"ebpf","rate_hz":999,"start":"2024-05-06T07:08:09.25Z","duration_ms":10,"lost":1,"truncated":2,"incomplete":3,
"processes":[{"pid":7,"command":["node","/srv/shop/app.js"],"node":"v24.21.0","v8":"13.6.233.17-node.53"}],
"threads":[{"pid":7,"tid":7,"name":"MainThread"},{"pid":7,"tid":9,"name":"worker"}],
"frames":[
{"kind":"js","function":"main","file":"/srv/shop/app.js","line":2,"function_line":1,"package":{"name":"shop","version":"1.0.0"}},
{"kind":"js","function":"parse","file":"/srv/shop/node_modules/csv/index.js","line":8,"function_line":5,"package":{"name":"csv","version":"2.1.0","dependency":true}},
{"kind":"pseudo","function":"(garbage collector)"},
{"kind":"js","function":"parse","file":"/srv/shop/node_modules/csv/index.js","line":9,"function_line":5,"package":{"name":"csv","version":"2.1.0","dependency":true}}],
"stacks":[[0],[0,1],[0,1,2],[0,3]],
"samples":[[0,0,0],[1000,0,1],[2000,0,1],[3000,0,2],[4000,1,3],[5000,1,3],[6000,0,0],[7000,0,2],[8000,1,0],[9000,0,1]]}
"#;

fn nodetap(folder: &Path, arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_nodetap"))
        .args(arguments)
        .current_dir(folder)
        .stdin(Stdio::null())
        .output()
        .expect("cannot run nodetap")
}

fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).expect("UTF-8")
}

/// A folder with the known recording, as `a.json` and as `a.nodetap`.
fn known() -> TempDir {
    let folder = tempfile::tempdir().expect("a temporary folder");
    fs::write(folder.path().join("a.json"), KNOWN).expect("write");
    let output = nodetap(folder.path(), &["report", "a.json", "-o", "a.nodetap"]);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    folder
}

/// Fails unless `nodetap report FILE` with these arguments prints this, of either file.
#[track_caller]
fn assert_reports(folder: &Path, arguments: &[&str], stdout: &str, stderr: &str) {
    for file in ["a.json", "a.nodetap"] {
        let output = nodetap(folder, &[&["report", file], arguments].concat());
        assert_eq!(text(&output.stderr), format!("{stderr}\n"), "{arguments:?}");
        assert_eq!(text(&output.stdout), stdout, "{arguments:?}");
        assert_eq!(output.status.code(), Some(0), "{arguments:?}");
    }
}

#[track_caller]
fn assert_fails(folder: &Path, arguments: &[&str], status: i32, lines: &[&str]) {
    let output = nodetap(folder, arguments);
    let stderr: Vec<&str> = text(&output.stderr).lines().collect();
    assert_eq!(stderr, lines, "{arguments:?}");
    assert_eq!(output.status.code(), Some(status), "{arguments:?}");
    assert_eq!(text(&output.stdout), "", "{arguments:?}");
}

const CLOSING: &str =
    "10 samples in 0.0 s at 999 Hz (ebpf): 1 lost, 2 truncated, 3 incomplete (30.00 %)";

#[test]
fn a_recording_is_shown_whole_or_in_part() {
    let folder = known();
    let folder = folder.path();
    let whole = "\
Total samples: 10
  10 main /srv/shop/app.js:1
    7 parse /srv/shop/node_modules/csv/index.js:5
      2 (garbage collector)
";
    assert_reports(folder, &[], whole, CLOSING);
    assert_reports(folder, &["-f", "text", "-o", "-"], whole, CLOSING);
    let main = "\
Total samples: 7
  7 main /srv/shop/app.js:1
    5 parse /srv/shop/node_modules/csv/index.js:5
      2 (garbage collector)
";
    for thread in ["main", "MainThread", "7"] {
        let left = "7 of 10 samples (70.0 %)";
        assert_reports(folder, &["--thread", thread], main, left);
    }
    let both = ["--thread", "main", "--thread", "9", "--pid", "7"];
    assert_reports(folder, &both, whole, "10 of 10 samples (100.0 %)");
    assert_reports(
        folder,
        &["--from", "0.003", "--to", "0.006", "-f", "folded"],
        "\
main /srv/shop/app.js:1;parse /srv/shop/node_modules/csv/index.js:5 2
main /srv/shop/app.js:1;parse /srv/shop/node_modules/csv/index.js:5;(garbage collector) 1
",
        "3 of 10 samples (30.0 %)",
    );
    assert_reports(
        folder,
        &["--focus", "csv/index", "--ignore", r"^\(garbage"],
        "\
Total samples: 5
  5 main /srv/shop/app.js:1
    5 parse /srv/shop/node_modules/csv/index.js:5
",
        "5 of 10 samples (50.0 %)",
    );
}

#[test]
fn a_row_is_what_is_asked_for() {
    let folder = known();
    let folder = folder.path();
    assert_reports(
        folder,
        &["--by", "line"],
        "\
Total samples: 10
  10 main /srv/shop/app.js:2
    5 parse /srv/shop/node_modules/csv/index.js:8
      2 (garbage collector)
    2 parse /srv/shop/node_modules/csv/index.js:9
",
        CLOSING,
    );
    assert_reports(
        folder,
        &["--by", "package"],
        "\
Total samples: 10

           self         caused          total
      5  50.0 %      7  70.0 %      7  70.0 %  csv@2.1.0
      3  30.0 %      3  30.0 %     10 100.0 %  own code (shop)
      2  20.0 %      0   0.0 %      2  20.0 %  garbage collector

self    what runs is its code
caused  it is, or what runs was called by its code: V8, native code, the kernel
total   its code is on the stack
",
        CLOSING,
    );
    assert_reports(
        folder,
        &["--by", "package", "-f", "folded", "--thread", "worker"],
        "own code (shop) 1\nown code (shop);csv@2.1.0 2\n",
        "3 of 10 samples (30.0 %)",
    );
}

#[test]
fn threads_are_listed() {
    let folder = known();
    let list = "  samples              thread  name
node /srv/shop/app.js (pid 7)
        7   70.0 %          7  MainThread (main)
        3   30.0 %          9  worker
";
    for file in ["a.json", "a.nodetap"] {
        let output = nodetap(folder.path(), &["report", file, "--list"]);
        assert_eq!(text(&output.stdout), list);
        assert_eq!(text(&output.stderr), "");
    }
}

#[test]
fn any_format_can_be_made_and_none_loses_a_sample() {
    let folder = known();
    let folder = folder.path();
    let formats = [
        "text",
        "raw",
        "folded",
        "json",
        "flame",
        "html",
        "cpuprofile",
        "speedscope",
        "pprof",
        "firefox",
        "nodetap",
    ];
    for format in formats {
        for (file, out) in [("a.json", "1"), ("a.nodetap", "2")] {
            let arguments = ["report", file, "-f", format, "-o", out];
            let output = nodetap(folder, &arguments);
            assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
        }
        let [first, second] = ["1", "2"].map(|out| fs::read(folder.join(out)).expect("written"));
        assert!(!first.is_empty(), "{format}");
        assert!(first == second, "{format} of both files is the same");
    }
    let json = fs::read_to_string(folder.join("a.json")).expect("it is there");
    let again = nodetap(folder, &["report", "a.nodetap", "-f", "json"]);
    let value = |json: &str| serde_json::from_str::<serde_json::Value>(json).expect("JSON");
    let (mut expected, mut again) = (value(&json), value(text(&again.stdout)));
    // What is the default may be written or not.
    for value in [&mut expected, &mut again] {
        for frame in value["frames"].as_array_mut().expect("frames") {
            frame["inlined"] = false.into();
            if let Some(package) = frame.get_mut("package") {
                let is_dependency = package["dependency"] == true;
                package["dependency"] = is_dependency.into();
            }
        }
    }
    assert_eq!(again, expected);
    // A binary format is not for a terminal, but for a pipe.
    let piped = nodetap(folder, &["report", "a.nodetap", "-f", "nodetap"]);
    let file = fs::read(folder.join("a.nodetap")).expect("it is there");
    assert!(piped.stdout == file);
}

#[test]
fn a_recording_may_come_through_a_pipe() {
    let folder = known();
    let file = fs::File::open(folder.path().join("a.nodetap")).expect("it is there");
    let mut command = Command::new(env!("CARGO_BIN_EXE_nodetap"));
    let output = command
        .args(["report", "-"])
        .stdin(file)
        .output()
        .expect("run");
    assert!(text(&output.stdout).starts_with("Total samples: 10\n"));
    assert_eq!(text(&output.stderr), format!("{CLOSING}\n"));
}

#[test]
fn what_was_cut_or_damaged_is_shown_as_far_as_it_goes() {
    let folder = known();
    let folder = folder.path();
    let mut file = fs::read(folder.join("a.nodetap")).expect("it is there");
    // Its last block is the end alone.
    fs::write(folder.join("cut.nodetap"), &file[..file.len() - 1]).expect("write");
    let output = nodetap(folder, &["report", "cut.nodetap"]);
    assert!(text(&output.stdout).starts_with("Total samples: 10\n"));
    let note = "note: 'cut.nodetap' was cut short, or is still being written: \
                10 samples of 0.0 s are there";
    assert_eq!(text(&output.stderr), format!("{note}\n{CLOSING}\n"));
    assert_eq!(output.status.code(), Some(0));

    let last = file.len() - 1;
    file[last] ^= 1;
    fs::write(folder.join("damaged.nodetap"), &file).expect("write");
    let output = nodetap(folder, &["report", "damaged.nodetap"]);
    assert!(text(&output.stdout).starts_with("Total samples: 10\n"));
    let stderr = text(&output.stderr);
    let note = "note: 'damaged.nodetap' is damaged from byte ";
    assert!(stderr.starts_with(note), "{stderr}");
    assert_eq!(output.status.code(), Some(0));

    fs::write(folder.join("start.nodetap"), &file[..20]).expect("write");
    assert_fails(
        folder,
        &["report", "start.nodetap"],
        1,
        &[
            "error: cannot read 'start.nodetap': a damaged recording: there is nothing in it \
             that can be read",
        ],
    );
    file[8] = 2;
    fs::write(folder.join("newer.nodetap"), &file).expect("write");
    assert_fails(
        folder,
        &["report", "newer.nodetap"],
        1,
        &[
            "error: cannot read 'newer.nodetap': a recording in form 2, and this version of \
             nodetap reads form 1",
            "hint: a newer nodetap has written it, and reads it",
        ],
    );
}

#[test]
fn what_cannot_be_shown_is_told() {
    const HINT: &str =
        "hint: 'nodetap record -o FILE.nodetap' writes one; what -f json writes is one, too";
    let folder = known();
    let folder = folder.path();
    let error = "error: cannot read 'none': No such file or directory";
    assert_fails(folder, &["report", "none"], 1, &[error, HINT]);
    assert_fails(folder, &["diff", "a.json", "none"], 1, &[error, HINT]);
    let error = "error: cannot read '.': Is a directory";
    assert_fails(folder, &["report", "."], 1, &[error]);
    fs::write(folder.join("other"), "text\n").expect("write");
    let error = "error: cannot read 'other': not a recording of nodetap's";
    assert_fails(folder, &["report", "other"], 1, &[error, HINT]);
    fs::write(folder.join("other.json"), "{}").expect("write");
    let output = nodetap(folder, &["report", "other.json"]);
    let error = "error: cannot read 'other.json': not a recording of nodetap's: missing field";
    assert!(text(&output.stderr).starts_with(error));

    assert_fails(
        folder,
        &["report", "a.json", "--focus", "nothing is called so"],
        1,
        &[
            "error: none of the 10 samples in a.json is left",
            "hint: it has 0.0 s; 'nodetap report a.json' shows all that --focus may match",
        ],
    );
    assert_fails(
        folder,
        &["report", "a.json", "--thread", "libuv"],
        1,
        &[
            "error: there is no thread 'libuv' in a.json",
            "hint: 'nodetap report --list a.json' lists its threads",
        ],
    );
    assert_fails(
        folder,
        &["report", "a.json", "--pid", "8"],
        1,
        &[
            "error: there is no process 8 in a.json",
            "hint: 'nodetap report --list a.json' lists its processes",
        ],
    );
    assert_fails(
        folder,
        &["report", "a.json", "--from", "2", "--to", "1"],
        2,
        &["error: --from must be before --to"],
    );
    assert_fails(
        folder,
        &["report", "a.json", "--focus", "a("],
        2,
        &[
            "error: invalid value 'a(' for '--focus <REGEX>': not a regular expression: \
             unclosed group",
            r"hint: what is meant literally has a \ before it, as in 'a\(b\)'",
        ],
    );
    assert_fails(
        folder,
        &["report", "a.json", "--by", "thread"],
        2,
        &[
            "error: invalid value 'thread' for '--by <WHAT>': unknown",
            "hint: one of: function, line, file, package",
        ],
    );
    for command in [
        &["report", "a.json", "--by", "file", "-o", "x.pb.gz"][..],
        &["record", "-p", "1", "--by", "file", "-o", "x.pb.gz"],
    ] {
        assert_fails(
            folder,
            command,
            2,
            &[
                "error: --by file is not for pprof, which has every frame",
                "hint: name another with --format: text, raw, folded, flame",
            ],
        );
    }
    for command in [
        &["report", "a.json", "--open", "-o", "x.nodetap"][..],
        &["record", "-p", "1", "--open", "-f", "nodetap"],
    ] {
        assert_fails(
            folder,
            command,
            2,
            &[
                "error: --open cannot show a .nodetap file",
                "hint: leave it out; then 'nodetap report FILE --open' shows a page",
            ],
        );
    }
    assert_fails(
        folder,
        &["diff", "a.json", "a.nodetap", "-o", "x.html"],
        2,
        &[
            "error: diff does not write html",
            "hint: name a format that it does with --format: text, json, flame",
        ],
    );
    assert!(!folder.join("x.pb.gz").exists());
}

/// The known recording with a part of it spelled otherwise.
fn changed(folder: &Path, from: &str, to: &str) -> PathBuf {
    assert!(KNOWN.contains(from), "{from}");
    let path = folder.join("b.json");
    fs::write(&path, KNOWN.replace(from, to)).expect("write");
    path
}

#[test]
fn two_recordings_are_compared() {
    let folder = known();
    let folder = folder.path();
    // The package is another version whose function starts elsewhere, and collects no
    // garbage.
    let path = changed(folder, "[0,1,2]", "[0,1]");
    let after = fs::read_to_string(&path).expect("written");
    let after = after
        .replace("2.1.0", "3.0.0")
        .replace(r#""function_line":5"#, r#""function_line":6"#);
    fs::write(&path, after).expect("write");
    let output = nodetap(folder, &["diff", "a.nodetap", "b.json"]);
    assert_eq!(
        text(&output.stdout),
        "\
Before: 10 samples in 0.0 s at 999 Hz
After:  10 samples in 0.0 s at 999 Hz

           self                       total
   before    after     diff    before    after     diff
   20.0 %        -    -20.0    20.0 %        -    -20.0  (garbage collector) (gone)
   50.0 %   70.0 %    +20.0    70.0 %   70.0 %      0.0  parse /srv/shop/node_modules/csv/index.js:6

1 more changed by less than 0.05 points: not shown
"
    );
    assert_eq!(text(&output.stderr), "");
    let arguments = [
        "diff",
        "a.nodetap",
        "b.json",
        "--by",
        "package",
        "--thread",
        "main",
    ];
    let output = nodetap(folder, &arguments);
    assert_eq!(
        text(&output.stdout),
        "\
Before: 7 samples in 0.0 s at 999 Hz
After:  7 samples in 0.0 s at 999 Hz

           self                       total
   before    after     diff    before    after     diff
   28.6 %        -    -28.6    28.6 %        -    -28.6  garbage collector (gone)
   42.9 %   71.4 %    +28.6    71.4 %   71.4 %      0.0  csv@3.0.0

1 more changed by less than 0.05 points: not shown
"
    );
    assert_eq!(
        text(&output.stderr),
        "7 of 10 samples before, 7 of 10 after\n"
    );

    let output = nodetap(folder, &["diff", "a.nodetap", "b.json", "-f", "json"]);
    let json: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON");
    assert_eq!(json["before"]["samples"], 10);
    assert_eq!(json["rows"][0]["before"]["self"], 2);

    let output = nodetap(folder, &["diff", "a.nodetap", "b.json", "-o", "d.svg"]);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    let svg = fs::read_to_string(folder.join("d.svg")).expect("written");
    let title = "parse /srv/shop/node_modules/csv/index.js:6 (7 samples, 70.00%; +20.00%)";
    assert!(svg.contains(title), "{svg}");
}
