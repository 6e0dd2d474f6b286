//! A flame graph of the second recording, in colours that tell the difference: red has more
//! of all samples on top than it had in the first one, blue has less.
//!
//! Widths are those of the second recording, so what is gone cannot be drawn. The number
//! of samples that a stack had before is put in proportion to the samples of both.

use std::collections::HashMap;
use std::io::{self, Write};

use inferno::flamegraph::color::BackgroundColor;
use inferno::flamegraph::{Direction, Options, TextTruncateDirection, from_lines};

use super::{Diff, text};
use crate::formats::flame::legend::Legend;
use crate::formats::folded::{Path, frame_name};
use crate::{CallTree, Node};

/// Frames narrower than this share of all, in percent, are not drawn.
const MIN_WIDTH: f64 = 0.01;
/// How many bytes of lines inferno is given at most, all of which it needs in memory.
const MAX_LINES: usize = 32 << 20;

pub(super) fn write(diff: &Diff, out: &mut dyn Write) -> io::Result<()> {
    let before = CallTree::new(&diff.before.profile);
    let after = CallTree::new(&diff.after.profile);
    let lines = lines(&before, &after);
    let mut options = Options::default();
    options.title = "nodetap diff".into();
    options.subtitle = Some(format!(
        "before: {} · after: {} · red: more than before, blue: less",
        text::summary(&diff.before),
        text::summary(&diff.after)
    ));
    options.direction = Direction::Inverted;
    options.bgcolors = Some(BackgroundColor::Grey);
    options.min_width = MIN_WIDTH;
    options.text_truncate_direction = TextTruncateDirection::Right;
    options.count_name = "samples".into();
    // As in `formats/flame`: lines are taken in the order given, the last one first.
    options.flame_chart = true;
    let mut out = Legend::none(out);
    from_lines(
        &mut options,
        lines.iter().rev().map(String::as_str),
        &mut out,
    )?;
    out.finish()
}

/// For each stack that is drawn its own samples before and after, in the order in which
/// they are drawn. A function's own come before those of what it called: inferno takes the
/// difference of a frame from the first line it stands in. What is too narrow to be drawn
/// counts as its caller's own, and for no difference.
fn lines(before: &CallTree, after: &CallTree) -> Vec<String> {
    let samples = after.total_samples();
    let least = samples as f64 * MIN_WIDTH / 100.0;
    let scale = samples as f64 / before.total_samples().max(1) as f64;
    let drawn = |nodes: &mut dyn Iterator<Item = &'_ Node>| -> Vec<Node> {
        let is_wide = |node: &&Node| node.total_samples as f64 >= least;
        nodes.filter(is_wide).cloned().collect()
    };
    // Each with what it was before, in the order in which they are drawn.
    let pairs = |old: Option<&Node>, new: Option<&Node>| -> Vec<(Option<Node>, Node)> {
        let olds: HashMap<&str, &Node> = match (old, new) {
            (Some(old), _) => labelled(before, before.children(old)),
            (None, None) => labelled(before, before.roots()),
            (None, Some(_)) => HashMap::new(),
        };
        let news = match new {
            Some(new) => drawn(&mut after.children(new)),
            None => drawn(&mut after.roots()),
        };
        news.into_iter()
            .map(|new| {
                let old = olds.get(after.label(&new).text.as_str());
                (old.map(|&old| old.clone()), new)
            })
            .collect()
    };

    let mut lines = Vec::new();
    let mut bytes = 0;
    let mut path = Path::default();
    let mut waiting: Vec<(usize, Option<Node>, Node)> = Vec::new();
    let push = |waiting: &mut Vec<_>, depth, pairs: Vec<(Option<Node>, Node)>| {
        waiting.extend(pairs.into_iter().rev().map(|(old, new)| (depth, old, new)));
    };
    push(&mut waiting, 0, pairs(None, None));
    while let Some((depth, old, new)) = waiting.pop() {
        path.enter(depth, &frame_name(&after.label(&new).text));
        let below = pairs(old.as_ref(), Some(&new));
        let drawn_below: u64 = below.iter().map(|(_, new)| new.total_samples).sum();
        let too_narrow = new.total_samples - drawn_below - new.self_samples;
        let own_before = old.as_ref().map_or(0, |old| old.self_samples);
        let own_before = (own_before as f64 * scale).round() as u64 + too_narrow;
        let own_after = new.self_samples + too_narrow;
        let line = format!("{} {own_before} {own_after}", path.as_str());
        bytes += line.len();
        if bytes > MAX_LINES {
            break;
        }
        lines.push(line);
        push(&mut waiting, depth + 1, below);
    }
    lines
}

fn labelled<'a>(
    tree: &'a CallTree,
    nodes: impl Iterator<Item = &'a Node>,
) -> HashMap<&'a str, &'a Node> {
    nodes
        .map(|node| (tree.label(node).text.as_str(), node))
        .collect()
}
