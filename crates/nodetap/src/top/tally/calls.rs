//! The calls of all threads as one tree.

use std::cmp::Reverse;

use super::{Count, NONE, Tally};

impl Tally {
    /// The calls of all threads as one tree.
    pub fn calls(&self) -> Calls<'_> {
        // The children of each node side by side, as in `nodetap_profile::CallTree`.
        let mut starts = vec![0_u32; self.nodes.len() + 1];
        let parents = || self.nodes.iter().map(|node| node.parent);
        for parent in parents().filter(|&parent| parent != NONE) {
            starts[parent as usize + 1] += 1;
        }
        for index in 0..self.nodes.len() {
            starts[index + 1] += starts[index];
        }
        let mut next = starts.clone();
        let mut children = vec![0_u32; starts[self.nodes.len()] as usize];
        for (index, parent) in parents().enumerate() {
            if parent != NONE {
                let place = &mut next[parent as usize];
                children[*place as usize] = index as u32;
                *place += 1;
            }
        }
        Calls {
            tally: self,
            totals: self.totals(),
            starts,
            children,
        }
    }
}

/// A tree of calls, in which those of all threads are put together.
pub struct Calls<'a> {
    tally: &'a Tally,
    totals: Vec<Count>,
    starts: Vec<u32>,
    children: Vec<u32>,
}

/// A function as it was called by a chain of callers.
#[derive(Clone, Debug)]
pub struct Call {
    /// Its number; `None` for the root, which has called everything.
    pub function: Option<u32>,
    /// How often it was on top.
    pub own: Count,
    /// How often it was, or what it had called.
    pub total: Count,
    nodes: Vec<u32>,
}

impl Calls<'_> {
    /// What has called everything.
    pub fn root(&self) -> Call {
        self.call(None, self.tally.threads.iter().map(|it| it.root).collect())
    }

    /// What `call` has called: that which was seen most first, since the start.
    pub fn of(&self, call: &Call) -> Vec<Call> {
        let mut nodes: Vec<(u32, u32)> = Vec::new();
        for &node in &call.nodes {
            let range =
                self.starts[node as usize] as usize..self.starts[node as usize + 1] as usize;
            let children = self.children[range].iter();
            nodes.extend(children.map(|&it| (self.tally.nodes[it as usize].function, it)));
        }
        nodes.sort_unstable();
        let mut calls: Vec<Call> = nodes
            .chunk_by(|(one, _), (other, _)| one == other)
            .map(|group| {
                let nodes = group.iter().map(|&(_, node)| node).collect();
                self.call(Some(group[0].0), nodes)
            })
            .collect();
        calls.sort_by_key(|call| (Reverse(call.total.all), call.function));
        calls
    }

    fn call(&self, function: Option<u32>, nodes: Vec<u32>) -> Call {
        let (mut own, mut total) = (Count::default(), Count::default());
        for &node in &nodes {
            let it = &self.tally.nodes[node as usize];
            own += Count {
                recent: self.tally.recent(it),
                all: it.all,
            };
            total += self.totals[node as usize];
        }
        Call {
            function,
            own,
            total,
            nodes,
        }
    }
}
