//! Where in the script a place between the anchors of optimized code is.
//!
//! The deoptimization entries before and after it tell the functions that are
//! active, and nodes of the innermost one's syntax tree that are executed
//! before and after; unoptimized code tells what can be executed between them.

use std::collections::BTreeSet;

use nodetap_v8::crankshaft::DeoptimizationInput;
use nodetap_v8::crankshaft::translation::{FunctionLiteral, JavaScriptFrame};

use super::anchors::{Anchor, AnchorKind, Anchors};
use super::graph::Index;

/// What of a place is certain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// The functions that are active, outermost first; all but the innermost
    /// are at the node that their frame tells.
    pub frames: Vec<JavaScriptFrame>,
    /// The line that the innermost is on.
    pub line: Option<u32>,
}

/// What unoptimized code tells of the functions in the code.
pub trait SyntaxTrees {
    /// Whether `function` can get from one node to the other.
    fn leads(&self, function: FunctionLiteral, from: Option<i32>, to: Option<i32>) -> bool;

    /// The lines that `function` may be on between the two nodes. `None` where
    /// one does not lead to the other.
    fn lines(
        &self,
        function: FunctionLiteral,
        from: Option<i32>,
        to: Option<i32>,
    ) -> Option<BTreeSet<u32>>;
}

/// The frames of deoptimization entry `entry`, outermost first. The outermost
/// function is the code's own, however the translation names it.
pub fn frames(input: &DeoptimizationInput, entry: u32) -> Option<Vec<JavaScriptFrame>> {
    let mut frames = input.frames(entry)?;
    frames.first_mut()?.function = FunctionLiteral::Own;
    Some(frames)
}

/// An anchor next to the place.
struct Neighbor {
    index: Index,
    anchor: Anchor,
    frames: Vec<JavaScriptFrame>,
}

/// What looking at a place takes.
pub struct Surroundings<'a, T> {
    /// The anchors of the code.
    pub anchors: &'a Anchors,
    /// Its deoptimization entries.
    pub input: &'a DeoptimizationInput,
    /// The functions in it.
    pub trees: &'a T,
}

impl<T: SyntaxTrees> Surroundings<'_, T> {
    /// What is certain of the instruction at `index`. `None` where that is
    /// nothing.
    pub fn place(&self, index: Index) -> Option<Place> {
        let before = self.neighbors(self.anchors.before(index));
        let after = self.neighbors(self.anchors.from(index));
        let mut best: Option<Place> = None;
        let mut lines: Option<BTreeSet<u32>> = None;
        for before in &before {
            for after in &after {
                let depth = certain_depth(self.trees, before, after, index);
                let known = best.as_ref().map_or(1, |best| best.frames.len());
                if depth < known {
                    continue;
                }
                if best.is_none() || depth > known {
                    lines = None;
                    best = Some(Place {
                        frames: after.frames[..depth].to_vec(),
                        line: None,
                    });
                }
                let innermost = after.frames[depth - 1].function;
                let from = before.frames[depth - 1].ast_id;
                for end in self.ends(after, depth) {
                    // Each pair of nodes encloses the place.
                    if let Some(found) = self.trees.lines(innermost, from, Some(end)) {
                        lines = Some(match lines {
                            Some(lines) => lines.intersection(&found).copied().collect(),
                            None => found,
                        });
                    }
                }
            }
        }
        let mut best = best?;
        best.line = match lines.as_ref().map(BTreeSet::len) {
            Some(1) => lines.and_then(|lines| lines.first().copied()),
            _ => None,
        };
        Some(best)
    }

    fn neighbors(&self, anchors: Vec<(Index, Anchor)>) -> Vec<Neighbor> {
        let neighbor = |(index, anchor): (Index, Anchor)| {
            Some(Neighbor {
                index,
                anchor,
                frames: frames(self.input, anchor.entry)?,
            })
        };
        anchors.into_iter().filter_map(neighbor).collect()
    }

    /// The nodes of the `depth`-th function that have not been passed before
    /// the anchor `after` has.
    fn ends(&self, after: &Neighbor, depth: usize) -> Vec<i32> {
        let (callers, rest) = after.frames.split_at(depth - 1);
        let here = rest[0];
        // A function that is called there is active, or will be; or the loop
        // goes on there.
        if rest.len() > 1 || after.anchor.kind != AnchorKind::Check {
            return here.ast_id.into_iter().collect();
        }
        // A check stands behind its node: one with another is behind that. The
        // node of anything else is next to it, so that it comes once more.
        let found = self.anchors.behind(after.index, |anchor| {
            let next = frames(self.input, anchor.entry).unwrap_or_default();
            match next.strip_prefix(callers).and_then(|rest| rest.first()) {
                Some(there) if there.function == here.function => {
                    let is_behind = there.ast_id != here.ast_id || anchor.kind != AnchorKind::Check;
                    is_behind.then_some(there.ast_id)
                }
                // The function has been left.
                _ => Some(None),
            }
        });
        found.into_iter().flatten().collect()
    }
}

/// How many functions, from the outermost on, are active at `index` because
/// they are all the way from `before` to `after`.
fn certain_depth(
    trees: &impl SyntaxTrees,
    before: &Neighbor,
    after: &Neighbor,
    index: Index,
) -> usize {
    let mut depth = 0;
    for (before, after) in before.frames.iter().zip(&after.frames) {
        if before.function != after.function {
            break;
        }
        depth += 1;
        if before.ast_id != after.ast_id {
            break;
        }
    }
    // Code stands in the order of its execution but for loops. In one, an
    // inlined function may have been left and entered once more, unless there
    // is a way within itself.
    let in_order = before.index < after.index || before.index == index;
    while depth > 1 && !in_order {
        let [from, to] = [before, after].map(|neighbor| neighbor.frames[depth - 1]);
        if trees.leads(from.function, from.ast_id, to.ast_id) {
            break;
        }
        depth -= 1;
    }
    depth
}

#[cfg(test)]
mod tests {
    use super::super::graph::Graph;
    use super::*;
    use nodetap_v8::crankshaft::translation::TranslationFormat;
    use nodetap_v8::{Tagged, Version};

    /// The node n stands on line n / 10. Nodes lead to higher ones, in the
    /// outermost function to all.
    struct Trees;

    impl SyntaxTrees for Trees {
        fn leads(&self, function: FunctionLiteral, from: Option<i32>, to: Option<i32>) -> bool {
            function == FunctionLiteral::Own || from < to
        }

        fn lines(
            &self,
            function: FunctionLiteral,
            from: Option<i32>,
            to: Option<i32>,
        ) -> Option<BTreeSet<u32>> {
            let leads = self.leads(function, from, to);
            leads.then(|| (from?..=to?).map(|node| Some(node as u32 / 10)).collect())?
        }
    }

    fn frame(&(function, node): &(i32, i32)) -> JavaScriptFrame {
        JavaScriptFrame {
            function: match function {
                0 => FunctionLiteral::Own,
                index => FunctionLiteral::Index(index as u32),
            },
            ast_id: Some(node),
        }
    }

    #[test]
    fn what_is_active_before_and_after_is_active_between() {
        let neighbor = |index, nodes: &[(i32, i32)]| Neighbor {
            index,
            anchor: Anchor {
                entry: 0,
                kind: AnchorKind::Check,
            },
            frames: nodes.iter().map(frame).collect(),
        };
        let depth = |before: (Index, &[(i32, i32)]), after: (Index, &[(i32, i32)]), at| {
            let [before, after] = [before, after].map(|(index, nodes)| neighbor(index, nodes));
            certain_depth(&Trees, &before, &after, at)
        };
        assert_eq!(depth((1, &[(0, 3)]), (9, &[(0, 7)]), 5), 1);
        // Within an inlined function, also where its node stays the same.
        assert_eq!(depth((1, &[(0, 3), (1, 2)]), (9, &[(0, 3), (1, 4)]), 5), 2);
        assert_eq!(depth((1, &[(0, 3), (1, 2)]), (9, &[(0, 3), (1, 2)]), 5), 2);
        // Into it, out of it, from one to another.
        assert_eq!(depth((1, &[(0, 3)]), (9, &[(0, 5), (1, 4)]), 5), 1);
        assert_eq!(depth((1, &[(0, 3), (1, 2)]), (9, &[(0, 4)]), 5), 1);
        assert_eq!(depth((1, &[(0, 3), (1, 2)]), (9, &[(0, 3), (2, 2)]), 5), 1);
        assert_eq!(depth((1, &[(0, 3), (1, 2)]), (9, &[(0, 5), (1, 2)]), 5), 1);
        // Around a loop of the caller's, or of its own.
        assert_eq!(depth((9, &[(0, 3), (1, 2)]), (9, &[(0, 3), (1, 2)]), 5), 1);
        assert_eq!(depth((9, &[(0, 3), (1, 4)]), (7, &[(0, 3), (1, 2)]), 5), 1);
        assert_eq!(depth((9, &[(0, 3), (1, 2)]), (7, &[(0, 3), (1, 4)]), 5), 2);
        // At the check itself.
        assert_eq!(depth((9, &[(0, 3), (1, 2)]), (9, &[(0, 3), (1, 2)]), 9), 2);
    }

    #[test]
    fn a_line_is_told_where_all_between_is_on_it() {
        // A check of node 21, one of 24, one of 38, one of 38: jumps to exits,
        // then a return.
        let mut code = Vec::new();
        for entry in 0..4_u8 {
            code.extend([
                0x90,
                0x90,
                0x0f,
                0x80,
                0x28 - 8 - 8 * entry + 5 * entry,
                0,
                0,
                0,
            ]);
        }
        code.extend([0xc3; 8]);
        for entry in 0..4_u32 {
            code.push(0xe8);
            code.extend((0x1000 + entry * 10 - (0x2d + 5 * entry)).to_le_bytes());
        }
        let exit = |target: u64| Some(target.checked_sub(0x1000)? as u32 / 10);
        let anchors = Anchors::new(Graph::new(0, &code, [0], exit), &[]);
        let mut translations = Vec::new();
        let mut entries = Vec::new();
        for node in [21_u8, 24, 38, 38] {
            entries.push(translations.len() as u32);
            // BEGIN, frames, JavaScript frames; JS_FRAME, node, literal, height
            for number in [0, 1, 1, 1, node, 0, 0] {
                let bits = u16::from(number) << 1;
                if bits > 0x7f {
                    translations.push((bits as u8 & 0x7f) << 1 | 1);
                    translations.push((bits >> 7 << 1) as u8);
                } else {
                    translations.push((bits << 1) as u8);
                }
            }
        }
        let format = TranslationFormat::of(Version::new(4, 5)).unwrap();
        let input = DeoptimizationInput::new(format, translations, vec![Tagged(0)], entries);
        let surroundings = Surroundings {
            anchors: &anchors,
            input: &input,
            trees: &Trees,
        };
        let line = |offset| {
            let place = surroundings.place(anchors.graph.at(offset).unwrap());
            place.map(|place| (place.frames.len(), place.line))
        };
        // Before the first.
        assert_eq!(line(0), None);
        // Behind node 21, and before 38.
        assert_eq!(line(8), Some((1, None)));
        assert_eq!(line(0x11), Some((1, None)));
        // Behind node 38, and before what nobody knows.
        assert_eq!(line(0x18), Some((1, None)));
        assert_eq!(line(0x20), None);
    }
}
