//! The samples folded into one call tree.

use std::cmp::Reverse;
use std::collections::{BTreeSet, HashMap};
use std::ops::Range;

use rustc_hash::FxHashMap;

use crate::label::{frame_label, process_label};
use crate::prefixes::Prefixes;
use crate::{FrameId, Profile, StackId};

/// A call tree: what called what, and in how many samples.
///
/// Calls that would read the same are one: nodes under the same parent merge by
/// [label](frame_label), that is by function, script and the line where the function starts.
/// The threads of a process are merged. Where the profile has more than one process, the
/// first level is the processes and what they ran stands below them. Samples without any
/// frame count for `(no frames)`.
///
/// Children stand in the order most samples first, then by name.
#[derive(Clone, Debug)]
pub struct CallTree {
    total_samples: u64,
    labels: Vec<Label>,
    /// The children of one node stand side by side; those of the first level come first.
    nodes: Vec<Node>,
    roots: Range<u32>,
}

/// What a node of a [`CallTree`] is called.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Label {
    /// The text, safe to print.
    pub text: String,
    /// Of the frames that read so, the one that was seen most; a process has none.
    pub frame: Option<FrameId>,
}

/// A function as called by a certain chain of callers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Node {
    label: u32,
    children: Range<u32>,
    /// Samples that had it on top.
    pub self_samples: u64,
    /// Samples that had it on top or called from it.
    pub total_samples: u64,
}

impl CallTree {
    /// The tree of all samples of a profile.
    pub fn new(profile: &Profile) -> Self {
        let groups = Groups::new(profile);
        let mut labels = Labels::default();
        let empty = labels.intern("(no frames)".into());
        let frame_labels: Vec<u32> = profile
            .frames()
            .iter()
            .map(|frame| labels.intern(frame_label(frame)))
            .collect();

        let counts = count_stacks(profile, &groups);
        let mut growing = Growing::default();
        // For each stack its node, and the group for which that was found out.
        let mut node_of: Vec<(u32, u32)> = vec![(u32::MAX, ROOT); profile.stack_count()];
        let mut path = Vec::new();
        for &(group, stack, count) in &counts {
            if node_of[StackId::EMPTY.index()].0 != group {
                let root = match &groups.names {
                    Some(names) => {
                        let label = labels.intern(names[group as usize].clone());
                        growing.child(ROOT, label)
                    }
                    None => ROOT,
                };
                node_of[StackId::EMPTY.index()] = (group, root);
            }
            // Up to an outer part that has its node already, then down again: each stack is
            // visited once a group, however many share it.
            let mut at = stack;
            while node_of[at.index()].0 != group {
                path.push(at);
                at = profile
                    .caller_and_frame(at)
                    .map_or(StackId::EMPTY, |it| it.0);
            }
            let mut node = node_of[at.index()].1;
            while let Some(stack) = path.pop() {
                if let Some((_, frame)) = profile.caller_and_frame(stack) {
                    node = growing.child(node, frame_labels[frame.index()]);
                    node_of[stack.index()] = (group, node);
                }
            }
            if stack == StackId::EMPTY {
                node = growing.child(node, empty);
            }
            growing.add(node, count);
        }

        labels.choose_frames(&frame_labels, &frame_weights(profile, &counts));
        growing.finish(labels)
    }

    /// How many samples the tree was made of.
    pub fn total_samples(&self) -> u64 {
        self.total_samples
    }

    /// The nodes of the first level.
    pub fn roots(&self) -> impl DoubleEndedIterator<Item = &Node> {
        self.nodes_at(&self.roots)
    }

    /// The nodes that this one called.
    pub fn children(&self, node: &Node) -> impl DoubleEndedIterator<Item = &Node> {
        self.nodes_at(&node.children)
    }

    /// What a node is called.
    pub fn label(&self, node: &Node) -> &Label {
        &self.labels[node.label as usize]
    }

    /// Every node after its parent and before its parent's next child, with its depth; that
    /// of the first level is 0.
    pub fn walk(&self) -> impl Iterator<Item = (usize, &Node)> {
        let mut waiting: Vec<(usize, &Node)> = self.roots().rev().map(|root| (0, root)).collect();
        std::iter::from_fn(move || {
            let (depth, node) = waiting.pop()?;
            waiting.extend(self.children(node).rev().map(|child| (depth + 1, child)));
            Some((depth, node))
        })
    }

    fn nodes_at(&self, range: &Range<u32>) -> impl DoubleEndedIterator<Item = &Node> {
        self.nodes[range.start as usize..range.end as usize].iter()
    }
}

/// The root of a growing tree, which is no node of the finished one's.
const ROOT: u32 = Prefixes::ROOT;

/// Which process each thread belongs to.
struct Groups {
    /// For each thread the index of its group.
    of_thread: Vec<u32>,
    /// What the groups are called; absent where there is only one.
    names: Option<Vec<String>>,
}

impl Groups {
    fn new(profile: &Profile) -> Self {
        let pids: BTreeSet<u32> = profile
            .processes()
            .iter()
            .map(|process| process.pid)
            .chain(profile.threads().iter().map(|thread| thread.pid))
            .collect();
        let group_of: FxHashMap<u32, u32> = pids.iter().copied().zip(0..).collect();
        let names = || {
            let processes: FxHashMap<u32, _> = profile
                .processes()
                .iter()
                .map(|process| (process.pid, process))
                .collect();
            pids.iter()
                .map(|&pid| process_label(pid, processes.get(&pid).copied()))
                .collect()
        };
        Self {
            of_thread: profile
                .threads()
                .iter()
                .map(|thread| group_of[&thread.pid])
                .collect(),
            names: (pids.len() > 1).then(names),
        }
    }
}

/// How many samples each group had of each stack, in the order of groups, then stacks.
fn count_stacks(profile: &Profile, groups: &Groups) -> Vec<(u32, StackId, u64)> {
    let mut counts: FxHashMap<(u32, StackId), u64> = FxHashMap::default();
    for (key, count) in profile.counts() {
        let group = groups.of_thread[key.thread.index()];
        *counts.entry((group, key.stack)).or_default() += count;
    }
    let mut counts: Vec<(u32, StackId, u64)> = counts
        .into_iter()
        .map(|((group, stack), count)| (group, stack, count))
        .collect();
    counts.sort_unstable();
    counts
}

/// For each frame, how often it stands in the stacks of all samples.
fn frame_weights(profile: &Profile, counts: &[(u32, StackId, u64)]) -> Vec<u64> {
    let mut totals = vec![0_u64; profile.stack_count()];
    for &(_, stack, count) in counts {
        totals[stack.index()] += count;
    }
    let mut weights = vec![0_u64; profile.frames().len()];
    for stack in profile.stack_ids().rev() {
        if let Some((caller, frame)) = profile.caller_and_frame(stack) {
            let total = totals[stack.index()];
            totals[caller.index()] += total;
            weights[frame.index()] += total;
        }
    }
    weights
}

/// The distinct labels. Their texts come from the target, hence the keyed hash.
#[derive(Default)]
struct Labels {
    ids: HashMap<String, u32>,
    frames: Vec<Option<FrameId>>,
}

impl Labels {
    fn intern(&mut self, text: String) -> u32 {
        let next = u32::try_from(self.frames.len()).expect("fewer labels than frames");
        let id = *self.ids.entry(text).or_insert(next);
        if id == next {
            self.frames.push(None);
        }
        id
    }

    /// Gives each label the heaviest of its frames, of equally heavy ones the first.
    fn choose_frames(&mut self, frame_labels: &[u32], weights: &[u64]) {
        let mut best: Vec<u64> = vec![0; self.frames.len()];
        for ((&label, &weight), number) in frame_labels.iter().zip(weights).zip(0..) {
            let label = label as usize;
            if weight > best[label] {
                best[label] = weight;
                self.frames[label] = Some(FrameId::from_number(number));
            }
        }
    }

    /// The labels by name, and for each id its index among them.
    fn sorted(self) -> (Vec<Label>, Vec<u32>) {
        let mut by_name: Vec<(String, u32)> = self.ids.into_iter().collect();
        by_name.sort_unstable();
        let mut index_of = vec![0; by_name.len()];
        for ((_, id), index) in by_name.iter().zip(0..) {
            index_of[*id as usize] = index;
        }
        let labels = by_name
            .into_iter()
            .map(|(text, id)| Label {
                text,
                frame: self.frames[id as usize],
            })
            .collect();
        (labels, index_of)
    }
}

/// A tree that nodes are still added to. A parent's index is below its children's, and node
/// 0 is the root.
#[derive(Default)]
struct Growing {
    /// Of labels.
    nodes: Prefixes,
    self_samples: Vec<u64>,
}

impl Growing {
    fn child(&mut self, parent: u32, label: u32) -> u32 {
        self.nodes.child(parent, label)
    }

    fn add(&mut self, node: u32, samples: u64) {
        self.self_samples.resize(self.nodes.len(), 0);
        self.self_samples[node as usize] += samples;
    }

    fn finish(self, labels: Labels) -> CallTree {
        let Self {
            nodes,
            mut self_samples,
        } = self;
        let nodes = nodes.into_nodes();
        self_samples.resize(nodes.len(), 0);
        let (labels, index_of) = labels.sorted();
        let below_root = 1..nodes.len();

        let mut totals = self_samples.clone();
        for index in below_root.clone().rev() {
            totals[nodes[index].0 as usize] += totals[index];
        }

        // The children of each parent side by side: where those of parent p start is
        // starts[p], and where they end is where the next one's start.
        let mut starts = vec![0_u32; nodes.len() + 1];
        for index in below_root.clone() {
            starts[nodes[index].0 as usize + 1] += 1;
        }
        for index in below_root.clone() {
            starts[index + 1] += starts[index];
        }
        let mut next = starts.clone();
        let mut order = vec![0_u32; nodes.len() - 1];
        for (&(parent, _), index) in nodes.iter().zip(0..).skip(1) {
            let place = &mut next[parent as usize];
            order[*place as usize] = index;
            *place += 1;
        }
        drop(next);
        for siblings in starts.windows(2) {
            order[siblings[0] as usize..siblings[1] as usize].sort_unstable_by_key(|&index| {
                // Labels are numbered by name.
                let label = index_of[nodes[index as usize].1 as usize];
                (Reverse(totals[index as usize]), label)
            });
        }

        let nodes = order
            .into_iter()
            .map(|index| {
                let index = index as usize;
                Node {
                    label: index_of[nodes[index].1 as usize],
                    children: starts[index]..starts[index + 1],
                    self_samples: self_samples[index],
                    total_samples: totals[index],
                }
            })
            .collect();
        CallTree {
            total_samples: totals[ROOT as usize],
            labels,
            nodes,
            roots: starts[0]..starts[1],
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{add, deep, empty, js, several_processes, small};
    use crate::{Frame, Kind, Tier};

    /// Depth, label, self and total of every node.
    fn rows(tree: &CallTree) -> Vec<(usize, &str, u64, u64)> {
        tree.walk()
            .map(|(depth, node)| {
                let label = tree.label(node).text.as_str();
                (depth, label, node.self_samples, node.total_samples)
            })
            .collect()
    }

    #[test]
    fn samples_count_for_all_callers() {
        let tree = CallTree::new(&small());
        assert_eq!(tree.total_samples(), 10);
        assert_eq!(
            rows(&tree),
            [
                (0, "main /srv/app.js:1", 1, 6),
                (1, "work /srv/app.js:3", 4, 5),
                (2, "malloc libc.so.6", 1, 1),
                (0, "f /srv/app.js:1", 1, 2),
                (1, "(garbage collector)", 1, 1),
                (0, "(no frames)", 1, 1),
                (0, "f /srv/app.js:10", 1, 1),
            ]
        );
        let main = tree.roots().next().unwrap();
        let work: Vec<&Node> = tree.children(main).collect();
        assert_eq!(work.len(), 1);
        assert_eq!(tree.label(work[0]).text, "work /srv/app.js:3");
    }

    #[test]
    fn processes_that_run_the_same_stay_apart() {
        assert_eq!(
            rows(&CallTree::new(&several_processes())),
            [
                (0, "node b.js (pid 7)", 0, 6),
                (1, "main /srv/app.js:1", 0, 5),
                (2, "work /srv/app.js:3", 5, 5),
                (1, "(no frames)", 1, 1),
                (0, "node /srv/app.js (pid 32642)", 0, 4),
                (1, "main /srv/app.js:1", 2, 4),
                (2, "work /srv/app.js:3", 2, 2),
            ]
        );
    }

    #[test]
    fn recursion_is_a_chain() {
        let (mut profile, thread) = empty();
        let f = js("f", 1, Tier::Optimized);
        let frames = vec![f; 3];
        add(&mut profile, thread, &frames, 2);
        add(&mut profile, thread, &frames[..1], 1);
        assert_eq!(
            rows(&CallTree::new(&profile)),
            [
                (0, "f /srv/app.js:1", 1, 3),
                (1, "f /srv/app.js:1", 0, 2),
                (2, "f /srv/app.js:1", 2, 2),
            ]
        );
    }

    #[test]
    fn a_label_stands_for_the_frame_seen_most() {
        let (mut profile, thread) = empty();
        let callee = Frame::new(Kind::Native, "malloc");
        add(&mut profile, thread, &[js("f", 1, Tier::Interpreted)], 2);
        add(
            &mut profile,
            thread,
            &[js("f", 1, Tier::Optimized), callee],
            3,
        );
        let tree = CallTree::new(&profile);
        let root = tree.roots().next().unwrap();
        let frame = profile.frame(tree.label(root).frame.unwrap());
        assert_eq!(frame.tier, Some(Tier::Optimized));
        let tree = CallTree::new(&several_processes());
        assert_eq!(tree.label(tree.roots().next().unwrap()).frame, None);
    }

    #[test]
    fn nothing_makes_an_empty_tree() {
        let (profile, _) = empty();
        let tree = CallTree::new(&profile);
        assert_eq!(tree.total_samples(), 0);
        assert_eq!(tree.walk().count(), 0);
    }

    #[test]
    fn depth_costs_no_machine_stack() {
        let tree = CallTree::new(&deep(200_000));
        assert_eq!(tree.walk().count(), 200_000);
        assert_eq!(tree.walk().last().unwrap().0, 199_999);
    }
}
