//! The folded stacks that inferno draws from, without those too thin to be seen.

use std::ops::Range;

use crate::formats::folded::{Path, frame_name};
use crate::{CallTree, Node};

/// Folded stacks, the last one first.
pub(super) struct Lines {
    text: String,
    ends: Vec<usize>,
    cut_to: Option<usize>,
}

impl Lines {
    /// The stacks of a tree. What has fewer than `min_samples` is left out and counts as its
    /// caller's own, and so does what is deeper than `max_bytes` of lines allow.
    pub(super) fn new(tree: &CallTree, min_samples: f64, max_bytes: usize) -> Self {
        let levels = levels_within(tree, min_samples, max_bytes);
        let mut lines = Self {
            text: String::new(),
            ends: Vec::new(),
            cut_to: levels,
        };
        let levels = levels.unwrap_or(usize::MAX);
        let mut path = Path::default();
        for (depth, node) in walk_backward(tree, min_samples, levels) {
            path.enter(depth, &frame_name(&tree.label(node).text));
            let count = if depth + 1 == levels {
                node.total_samples
            } else {
                own_samples(tree, node, min_samples)
            };
            if count > 0 {
                lines.text.push_str(path.as_str());
                lines.text.push_str(&format!(" {count}"));
                lines.ends.push(lines.text.len());
            }
        }
        lines
    }

    /// The lines, each `outermost;…;innermost COUNT`.
    pub(super) fn iter(&self) -> impl Iterator<Item = &str> {
        let mut start = 0;
        self.ends.iter().map(move |&end| {
            let line = Range { start, end };
            start = end;
            &self.text[line]
        })
    }

    /// To how many levels the graph had to be cut, if it had to.
    pub(super) fn cut_to(&self) -> Option<usize> {
        self.cut_to
    }
}

/// The nodes wide enough to be drawn, each after its parent, children lightest first.
fn walk_backward(
    tree: &CallTree,
    min_samples: f64,
    levels: usize,
) -> impl Iterator<Item = (usize, &Node)> {
    let wide = move |node: &&Node| is_wide(node, min_samples);
    let mut waiting: Vec<(usize, &Node)> = tree.roots().filter(wide).map(|it| (0, it)).collect();
    std::iter::from_fn(move || {
        let (depth, node) = waiting.pop()?;
        if depth + 1 < levels {
            waiting.extend(tree.children(node).filter(wide).map(|it| (depth + 1, it)));
        }
        Some((depth, node))
    })
}

fn is_wide(node: &Node, min_samples: f64) -> bool {
    node.total_samples as f64 >= min_samples
}

/// The samples of a node that none of its children shows.
fn own_samples(tree: &CallTree, node: &Node, min_samples: f64) -> u64 {
    let shown: u64 = tree
        .children(node)
        .filter(|child| is_wide(child, min_samples))
        .map(|child| child.total_samples)
        .sum();
    node.total_samples - shown
}

/// How many levels can be drawn if all lines together may have `max_bytes`; `None` if all
/// can. A line repeats all its callers, so that lines grow with the square of the depth.
fn levels_within(tree: &CallTree, min_samples: f64, max_bytes: usize) -> Option<usize> {
    // For each level, the bytes of its lines if it is the last one and if it isn't.
    let mut bytes: Vec<(usize, usize)> = Vec::new();
    let mut ends: Vec<usize> = Vec::new();
    for (depth, node) in walk_backward(tree, min_samples, usize::MAX) {
        ends.truncate(depth);
        let before = ends.last().copied().unwrap_or(0);
        let path = before + tree.label(node).text.len() + 1;
        ends.push(path);
        if bytes.len() == depth {
            bytes.push((0, 0));
        }
        bytes[depth].0 += path;
        if own_samples(tree, node, min_samples) > 0 {
            bytes[depth].1 += path;
        }
    }
    let mut outer = 0;
    let mut levels = 0;
    for (level, &(as_last, as_inner)) in bytes.iter().enumerate() {
        if outer + as_last <= max_bytes {
            levels = level + 1;
        }
        outer += as_inner;
    }
    (outer > max_bytes).then_some(levels.max(1))
}
