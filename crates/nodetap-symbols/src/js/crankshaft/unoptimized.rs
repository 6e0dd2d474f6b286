//! The unoptimized code of a function: the map of its syntax tree.
//!
//! Optimized code says where it is by nodes of the syntax tree. Unoptimized
//! code tells where in the script these are, and what lies between them.

use std::cell::OnceCell;

use nodetap_v8::crankshaft::BailoutPoints;
use nodetap_v8::crankshaft::relocation::{CodePosition, position_before};
use nodetap_v8::{Error, Heap, Tagged};

use super::graph::{Graph, Index};

/// The longest unoptimized code whose control flow is followed.
const MAX_CODE: u32 = 1 << 20;

/// What unoptimized code tells of its function.
#[derive(Debug, Default)]
pub struct Unoptimized {
    points: BailoutPoints,
    positions: Vec<CodePosition>,
    instructions: Vec<u8>,
    graph: OnceCell<Graph>,
}

impl Unoptimized {
    /// Reads the unoptimized code of the function of `shared`.
    ///
    /// # Errors
    /// Where there is none, or it cannot be read.
    pub fn read(heap: &Heap<'_>, shared: Tagged) -> Result<Unoptimized, Error> {
        let code = heap.unoptimized_code(shared)?;
        Ok(Unoptimized::new(
            heap.bailout_points(&code)?,
            heap.relocated_positions(&code)?,
            heap.memory
                .bytes(code.start, code.size.min(MAX_CODE) as usize)
                .unwrap_or_default(),
        ))
    }

    fn new(points: BailoutPoints, positions: Vec<CodePosition>, instructions: Vec<u8>) -> Self {
        Unoptimized {
            points,
            positions,
            instructions,
            graph: OnceCell::new(),
        }
    }

    /// The position of the call that the node `ast_id` stands behind.
    pub fn position(&self, ast_id: i32) -> Option<u32> {
        position_before(&self.positions, self.points.pc(ast_id)?)
    }

    /// The last position of the function: that of its closing brace
    /// (`FullCodeGenerator::EmitReturnSequence`).
    pub fn last_position(&self) -> Option<u32> {
        self.positions.iter().map(|at| at.position).max()
    }

    /// Whether control gets from the node `from` to the node `to`.
    pub fn leads(&self, from: i32, to: i32) -> bool {
        let graph = self.graph();
        let (Some(start), Some(end)) = (self.index(from), self.index(to)) else {
            return false;
        };
        let leads = |next| reach(graph.len(), next, None, |index| graph.next(index))[end as usize];
        graph.next(start).any(leads)
    }

    /// The positions that may be executed on a way from the node `from` to the
    /// node `to`. `None` where there is no such way, or it is not known.
    pub fn between(&self, from: i32, to: i32) -> Option<Vec<u32>> {
        let graph = self.graph();
        let (start, end) = (self.index(from)?, self.index(to)?);
        let ahead = reach(graph.len(), start, Some(end), |index| graph.next(index));
        if !ahead[end as usize] {
            return None;
        }
        let back = reach(graph.len(), end, Some(start), |index| graph.previous(index));
        let mut positions = Vec::new();
        for (index, (ahead, back)) in (0..).zip(ahead.into_iter().zip(back)) {
            // The end has not been executed.
            if ahead && back && (index != end || start == end) {
                let (first, _) = graph.range(index);
                positions.extend(position_before(&self.positions, first + 1));
            }
        }
        positions.sort_unstable();
        positions.dedup();
        Some(positions)
    }

    fn graph(&self) -> &Graph {
        self.graph
            .get_or_init(|| Graph::new(0, &self.instructions, self.entries(), |_| None))
    }

    /// The instruction that the node `ast_id` stands at.
    fn index(&self, ast_id: i32) -> Option<Index> {
        self.graph().at(self.points.pc(ast_id)?)
    }

    /// Where control may come from elsewhere: the deoptimizer.
    fn entries(&self) -> impl Iterator<Item = u32> {
        [0].into_iter().chain(self.points.pcs())
    }
}

/// What `step` after `step` leads to from `start`, both ends included; none
/// goes on from `end`.
fn reach<I: Iterator<Item = Index>>(
    length: usize,
    start: Index,
    end: Option<Index>,
    step: impl Fn(Index) -> I,
) -> Vec<bool> {
    let mut reached = vec![false; length];
    let mut work = vec![start];
    let mut first = true;
    while let Some(index) = work.pop() {
        if Some(index) == end && !first {
            reached[index as usize] = true;
            continue;
        }
        // A way round leads back to the start.
        if std::mem::replace(&mut reached[index as usize], true) && !first {
            continue;
        }
        first = false;
        work.extend(step(index));
    }
    reached
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 00  nop
    /// 01  jmp 06
    /// 03  inc eax         (node 1)
    /// 05  nop             (node 2)
    /// 06  jnz 03          (node 3)
    /// 08  nop             (node 4)
    /// 09  ret
    fn unoptimized() -> Unoptimized {
        let at = |pc_offset, position| CodePosition {
            pc_offset,
            position,
            is_statement: false,
        };
        Unoptimized::new(
            BailoutPoints::new([(1, 3), (2, 5), (3, 6), (4, 8)]),
            vec![at(0, 100), at(3, 200), at(6, 300), at(8, 400)],
            vec![0x90, 0xeb, 3, 0xff, 0xc0, 0x90, 0x75, 0xfb, 0x90, 0xc3],
        )
    }

    #[test]
    fn what_is_between_two_nodes_is_found() {
        let code = unoptimized();
        assert_eq!(code.position(2), Some(200));
        assert_eq!(code.position(3), Some(200));
        assert_eq!(code.position(9), None);
        assert_eq!(code.between(1, 2), Some(vec![200]));
        assert_eq!(code.between(2, 3), Some(vec![200]));
        assert_eq!(code.between(2, 4), Some(vec![200, 300]));
        // Around the loop.
        assert_eq!(code.between(2, 1), Some(vec![200, 300]));
        assert_eq!(code.between(1, 1), Some(vec![200, 300]));
        assert_eq!(code.between(4, 1), None);
        assert_eq!(code.between(4, 4), Some(vec![400]));
        assert_eq!(code.between(1, 9), None);
    }

    #[test]
    fn a_node_leads_to_itself_in_a_loop_only() {
        let code = unoptimized();
        assert!(code.leads(1, 4) && code.leads(2, 1) && code.leads(1, 1));
        assert!(!code.leads(4, 1) && !code.leads(4, 4) && !code.leads(1, 9));
    }
}
