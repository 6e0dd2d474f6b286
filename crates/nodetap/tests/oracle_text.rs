//! The one-liner on the demo program: `nodetap sample PID text SECONDS`.

mod common;

use std::process::Command;

use common::matrix::{self, Node, Test};
use common::target::Target;

/// A line of a text tree.
#[derive(Debug, PartialEq)]
struct Line<'a> {
    /// 1 for what is outermost.
    level: usize,
    count: u64,
    label: &'a str,
}

impl<'a> Line<'a> {
    fn parse(text: &'a str) -> Line<'a> {
        let trimmed = text.trim_start_matches(' ');
        let indent = text.len() - trimmed.len();
        assert!(indent > 0 && indent.is_multiple_of(2), "{text:?}");
        let (count, label) = trimmed.split_once(' ').expect("a count and a label");
        let count = count.parse().expect("a number");
        let level = indent / 2;
        Line {
            level,
            count,
            label,
        }
    }
}

/// The path from the root that is heaviest at each level.
fn heaviest<'a>(lines: &[Line<'a>]) -> Vec<&'a str> {
    // Children are sorted by their counts: the heaviest is the line below its parent.
    lines
        .iter()
        .enumerate()
        .take_while(|(i, line)| line.level == i + 1)
        .map(|(_, line)| line.label)
        .collect()
}

/// Fails unless children have no more samples than their parent, the heaviest first.
fn assert_is_tree(lines: &[Line], total: u64) {
    let mut parents: Vec<(u64, u64)> = vec![(total, u64::MAX)];
    for line in lines {
        assert!(line.level <= parents.len(), "{line:?} has no parent");
        parents.truncate(line.level);
        let (left, before) = parents.last_mut().expect("a parent");
        assert!(line.count <= *before, "{line:?} is heavier than its elder");
        *left = left
            .checked_sub(line.count)
            .expect("no more than its parent");
        *before = line.count;
        parents.push((line.count, u64::MAX));
    }
}

fn check(node: &Node) {
    common::measure(|| check_once(node));
}

fn check_once(node: &Node) {
    let _alone = common::one_at_a_time();
    let script = common::demo();
    let target = Target::start_demo(&node.version);
    let pid = target.pid().to_string();
    let output = Command::new(env!("CARGO_BIN_EXE_nodetap"))
        .args(["sample", &pid, "text", "2"])
        .output()
        .expect("cannot run nodetap");
    let notes = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{notes}");
    let first = format!("Sampling {pid} for 2s, outputting text.");
    assert_eq!(notes.lines().next(), Some(first.as_str()));

    let text = String::from_utf8(output.stdout).expect("UTF-8");
    let mut lines = text.lines().skip_while(|line| line.is_empty());
    let title = lines.next().expect("a first line");
    let total = title.strip_prefix("Total samples: ").expect(title);
    let total: u64 = total.parse().expect("a number");
    let lines: Vec<Line> = lines.map(Line::parse).collect();
    assert_is_tree(&lines, total);

    let path = heaviest(&lines);
    let script = script.display();
    let chain = [
        format!("(anonymous) {script}:1"),
        format!("outer {script}:13"),
        format!("inner {script}:9"),
        format!("log {script}:5"),
    ];
    let at = path.iter().position(|label| *label == chain[0]);
    let at = at.unwrap_or_else(|| panic!("no main module in {text}"));
    assert!(at > 0, "nothing is outside of the main module in {text}");
    // Node's own scripts are files of `node:internal`, before Node 16 `internal`, before
    // Node 12 also others without a folder.
    let internal = |label: &&str| {
        let place = label.split(' ').nth(1).unwrap_or_default();
        let place = place.strip_prefix("node:").unwrap_or(place);
        place.starts_with("internal/")
            || place.starts_with("diagnostics_channel:")
            || node.major() < 12 && !place.contains('/')
    };
    assert!(path[..at].iter().all(internal), "{text}");
    assert_eq!(path[at..at + 4], chain, "{text}");
    // `log` calls two things: what makes the stack's text, and the console.
    let console = lines.iter().any(|line| {
        let (function, place) = line.label.split_once(' ').unwrap_or_default();
        line.level == at + 5
            && match node.major() {
                ..12 => {
                    // 11 has both files.
                    ["log", "Console.log"].contains(&function) && place.contains("console")
                }
                _ => function == "log" && place.contains("internal/console/constructor"),
            }
    });
    assert!(console, "{text}");
}

fn main() -> std::process::ExitCode {
    matrix::main([
        Test::new("text", 12, check),
        Test::new("text", 0, check).before(12).long(),
    ])
}
