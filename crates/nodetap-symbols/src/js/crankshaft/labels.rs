//! The source positions that Crankshaft writes beside its instructions.
//!
//! They are those of calls, accesses, and arithmetic; other instructions keep
//! what the last such expression left (`LCodeGenBase::GenerateBody` in
//! `src/lithium-codegen.cc`). So a position is believed of the instruction that
//! it is written at; and of one between two that are on the same line.

use rustc_hash::{FxHashMap, FxHashSet};

use nodetap_v8::crankshaft::relocation::CodePosition;

use super::graph::{Graph, Index};

/// How many instructions a search looks at.
const MAX_VISITED: usize = 256;

/// The positions of a piece of code, by the instructions they are written at.
#[derive(Debug)]
pub struct Labels {
    at: FxHashMap<Index, u32>,
    /// The same in the order of addresses.
    in_order: Vec<(Index, u32)>,
}

impl Labels {
    /// From the positions of the code that `graph` is of.
    pub fn new(graph: &Graph, positions: &[CodePosition]) -> Labels {
        let mut at = FxHashMap::default();
        for position in positions {
            // Of several at one instruction the last one holds.
            if let Some(index) = graph.at(position.pc_offset) {
                at.insert(index, position.position);
            }
        }
        let mut in_order: Vec<(Index, u32)> = at.iter().map(|(&at, &label)| (at, label)).collect();
        in_order.sort_unstable();
        Labels { at, in_order }
    }

    /// The position that is written at `index` itself.
    pub fn own(&self, index: Index) -> Option<u32> {
        self.at.get(&index).copied()
    }

    /// The positions that `index` may have: the one written before it by
    /// address, and those that control may come from.
    pub fn covering(&self, graph: &Graph, index: Index) -> Vec<u32> {
        let mut found = Vec::new();
        self.search(index, |at| graph.previous(at), &mut found);
        if !found.is_empty() {
            let after = self.in_order.partition_point(|&(at, _)| at <= index);
            found.extend(self.in_order[..after].last().map(|&(_, label)| label));
        }
        found
    }

    /// The first positions that are written behind `index`.
    pub fn following(&self, graph: &Graph, index: Index) -> Vec<u32> {
        let mut found = Vec::new();
        for next in graph.next(index) {
            self.search(next, |at| graph.next(at), &mut found);
        }
        found
    }

    fn search<I: Iterator<Item = Index>>(
        &self,
        start: Index,
        step: impl Fn(Index) -> I,
        found: &mut Vec<u32>,
    ) {
        let mut seen = FxHashSet::default();
        let mut work = vec![start];
        while let Some(at) = work.pop() {
            if !seen.insert(at) || seen.len() > MAX_VISITED {
                continue;
            }
            match self.own(at) {
                Some(label) => found.push(label),
                None => work.extend(step(at)),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 00  test eax,eax
    /// 02  jz 0a
    /// 04  nop
    /// 05  nop
    /// 06  nop
    /// 07  ret
    /// 08  nop; nop
    /// 0a  nop
    /// 0b  jmp 05
    #[test]
    fn positions_are_found_along_the_flow_of_control() {
        let code = [
            0x85, 0xc0, 0x74, 0x06, 0x90, 0x90, 0x90, 0xc3, 0x90, 0x90, 0x90, 0xeb, 0xf8,
        ];
        let graph = Graph::new(0, &code, [0], |_| None);
        let at = |pc_offset, position| CodePosition {
            pc_offset,
            position,
            is_statement: false,
        };
        let labels = Labels::new(&graph, &[at(0, 1), at(0, 2), at(4, 3), at(6, 4)]);
        let index = |offset| graph.at(offset).unwrap();
        let sorted = |mut found: Vec<u32>| {
            found.sort_unstable();
            found.dedup();
            found
        };
        assert_eq!(labels.own(index(0)), Some(2));
        assert_eq!(labels.own(index(2)), None);
        let covering = |offset| sorted(labels.covering(&graph, index(offset)));
        assert_eq!(covering(4), [3]);
        assert_eq!(covering(2), [2]);
        assert_eq!(covering(5), [2, 3]);
        assert_eq!(covering(0xa), [2, 4]);
        let following = |offset| sorted(labels.following(&graph, index(offset)));
        assert_eq!(following(0), [3, 4]);
        assert_eq!(following(0xb), [4]);
        assert_eq!(following(6), [0; 0]);
    }
}
