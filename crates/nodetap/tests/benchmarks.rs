//! The benchmarks of `bench/` work: a tiny amount of each is done.

mod common;

use std::path::Path;
use std::process::Command;

/// Runs a script of `bench/`; gives what it prints to stdout and to stderr.
fn run(script: &str, words: &[&str]) -> (String, String) {
    let _alone = common::one_at_a_time();
    let script = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../../bench")
        .join(script);
    // The packages that it needs are not fetched for tests: these words do without.
    let output = Command::new(common::node("20.20.2"))
        .arg(script)
        .arg(env!("CARGO_BIN_EXE_nodetap"))
        .arg(common::cache().join("nodes"))
        .arg(common::cache())
        .args(words)
        .output()
        .expect("cannot run Node.js");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let notes = text(&output.stderr);
    assert!(output.status.success(), "{}: {notes}", output.status);
    (text(&output.stdout), notes)
}

/// The cells of the row that has this name.
fn row<'a>(table: &'a str, name: &str) -> Vec<&'a str> {
    let mut rows = table
        .lines()
        .map(|line| line.split('|').map(str::trim).collect::<Vec<_>>());
    let row = rows.find(|cells| cells.get(1) == Some(&name));
    row.unwrap_or_else(|| panic!("no row '{name}' in\n{table}"))
}

#[test]
fn peers() {
    let words = [
        "rounds=1",
        "amount=0.03",
        "programs=mix,server",
        "variants=nothing,nodetap_eBPF_999,@datadog",
    ];
    let (table, notes) = run("bench.js", &words);
    for program in ["mix", "server"] {
        let title = format!("### {program}, ");
        let begin = table.find(&title).unwrap_or_else(|| panic!("{table}"));
        let table = &table[begin..];
        let head = row(table, "");
        let nodetap = row(table, "nodetap eBPF 999 Hz");
        assert_eq!(head.len(), nodetap.len(), "{table}\n{notes}");
        let cell = |name: &str| {
            let column = head.iter().position(|&cell| cell == name);
            nodetap[column.unwrap_or_else(|| panic!("no column '{name}': {table}"))]
        };
        for name in ["CPU time", "wall time", "samples", "complete", "own CPU"] {
            assert!(cell(name).contains('%'), "{name}: {table}\n{notes}");
        }
        assert!(cell("memory").ends_with("MB"), "{table}");
        assert!(row(table, "nothing")[2].ends_with('s'), "{table}");
        // What cannot run is a row that says why, and keeps nobody else from running.
        assert!(
            row(table, "@datadog/pprof")[2].starts_with("not here: "),
            "{table}"
        );
    }
}

#[test]
fn scale() {
    let words = ["cases=depth,time", "most=100", "seconds=0.5", "duration=1"];
    let (table, notes) = run("scale.js", &words);
    let head = row(&table, "");
    for name in ["100 frames deep", "0.0 minutes"] {
        let cells = row(&table, name);
        assert_eq!(cells.len(), head.len(), "{table}\n{notes}");
        let samples: u64 = cells[2].parse().expect("a number of samples");
        assert!(samples > 0, "{table}\n{notes}");
    }
    // One row for each eighth of the time.
    let times = table.lines().filter(|line| line.starts_with("| 0.0  "));
    assert_eq!(times.count(), 8, "{table}");
}
