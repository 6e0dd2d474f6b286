//! How much of what nodetap says is true, counted by version and tier.
//!
//! `make accuracy` names a file in `NODETAP_ACCURACY`; the tests that know the true
//! stack add what they saw to it, and `scripts/accuracy.js` makes the README's table.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Write;

use serde_json::json;

use super::matrix::Node;
use super::recording::Recording;

/// What is true of a frame.
pub struct Truth<'a> {
    pub function: &'a str,
    pub file: Option<&'a str>,
    pub line: u32,
    pub column: u32,
}

/// Frames of one tier: how many there were, and of how many each part was right.
#[derive(Clone, Copy, Default)]
struct Counts {
    frames: u64,
    name: u64,
    script: u64,
    line: u64,
    /// Of the frames that wait for a call: at which column of its line the innermost
    /// function is when a tick falls, nobody knows.
    waiting: u64,
    column: u64,
}

/// Adds the samples of a thread to the count, if there is one: `truth` is its stack,
/// outermost first, and `right` of its samples had exactly that.
pub fn note(node: &Node, recording: &Recording, tid: u32, truth: &[Truth<'_>], right: u64) {
    let path = std::env::var_os("NODETAP_ACCURACY");
    let Some(path) = path.filter(|path| !path.is_empty()) else {
        return;
    };
    let mut tiers: BTreeMap<(&str, bool), Counts> = BTreeMap::new();
    let stacks = recording.stacks_of(tid);
    for (stack, samples) in &stacks {
        let js = stack.iter().filter(|frame| frame.is_js());
        for (index, (frame, is)) in js.zip(truth).enumerate() {
            let tier = frame.tier.as_deref().unwrap_or("unknown");
            let counts = tiers.entry((tier, frame.inlined)).or_default();
            let mut add = |to: fn(&mut Counts) -> &mut u64, is_so: bool| {
                *to(counts) += if is_so { *samples } else { 0 };
            };
            let same_line = frame.line == Some(is.line);
            add(|it| &mut it.frames, true);
            add(|it| &mut it.name, frame.function == is.function);
            add(|it| &mut it.script, frame.file.as_deref() == is.file);
            add(|it| &mut it.line, same_line);
            if index + 1 < truth.len() {
                add(|it| &mut it.waiting, true);
                add(
                    |it| &mut it.column,
                    same_line && frame.column == Some(is.column),
                );
            }
        }
    }
    let samples: u64 = stacks.iter().map(|(_, count)| count).sum();
    let tiers: Vec<_> = tiers
        .into_iter()
        .map(|((tier, inlined), it)| {
            json!({
                "tier": tier, "inlined": inlined, "frames": it.frames, "name": it.name,
                "script": it.script, "line": it.line, "waiting": it.waiting,
                "column": it.column,
            })
        })
        .collect();
    let v8 = &recording.processes[0].v8;
    let line = json!({
        "node": node.version, "v8": v8, "samples": samples, "right": right, "tiers": tiers,
    });
    let mut file = File::options()
        .append(true)
        .create(true)
        .open(path)
        .expect("NODETAP_ACCURACY");
    writeln!(file, "{line}").expect("write");
}
