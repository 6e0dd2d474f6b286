//! A tree that is only added to, each distinct child of a node once.

use std::hash::BuildHasher;

use hashbrown::HashTable;
use rustc_hash::FxBuildHasher;

/// A tree whose nodes have numbers. A parent's is below its children's, so that a pass over
/// all nodes in either direction needs no recursion.
#[derive(Clone, Debug)]
pub(crate) struct Prefixes {
    /// For each node its parent and what it has; the root's are not looked at.
    nodes: Vec<(u32, u32)>,
    ids: HashTable<u32>,
}

impl Prefixes {
    /// The node above all others.
    pub const ROOT: u32 = 0;

    /// The child of `parent` that has `item`, which is added if it is not there.
    pub fn child(&mut self, parent: u32, item: u32) -> u32 {
        let Self { nodes, ids } = self;
        let node = (parent, item);
        let next = u32::try_from(nodes.len()).expect("four billion nodes don't fit in memory");
        let id = *ids
            .entry(
                FxBuildHasher.hash_one(node),
                |&id| nodes[id as usize] == node,
                |&id| FxBuildHasher.hash_one(nodes[id as usize]),
            )
            .or_insert(next)
            .get();
        if id == next {
            nodes.push(node);
        }
        id
    }

    /// A node's parent and what it has; none of the root.
    pub fn get(&self, node: u32) -> Option<(u32, u32)> {
        (node != Self::ROOT).then(|| self.nodes[node as usize])
    }

    /// For each node its parent and what it has; the root's mean nothing.
    pub fn into_nodes(self) -> Vec<(u32, u32)> {
        self.nodes
    }

    /// How many nodes there are, the root included.
    pub fn len(&self) -> usize {
        self.nodes.len()
    }
}

impl Default for Prefixes {
    fn default() -> Self {
        Self {
            nodes: vec![(Self::ROOT, u32::MAX)],
            ids: HashTable::new(),
        }
    }
}
