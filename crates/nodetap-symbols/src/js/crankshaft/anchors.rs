//! The instructions of optimized code whose place V8 knows: those with a
//! deoptimization entry.

use std::collections::VecDeque;

use nodetap_v8::crankshaft::safepoints::CallSite;
use rustc_hash::{FxHashMap, FxHashSet};

use super::graph::{Graph, Index, NodeKind};

/// How many instructions a search looks at.
const MAX_VISITED: usize = 1 << 14;

/// How many anchors a search finds at most.
const MAX_FOUND: usize = 8;

/// How far behind a comparison with the stack limit its jump is, and how far
/// behind the jump the call is that it decides on.
const MAX_STACK_CHECK: usize = 48;

/// What a deoptimization entry stands at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AnchorKind {
    /// A check: what its entry tells was before it.
    Check,
    /// A call: its entry tells what is right behind it.
    Call,
    /// The decision on a call of the stack guard, right behind the place that
    /// its entry tells.
    StackCheck,
}

/// An instruction with a deoptimization entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Anchor {
    /// The index of the entry.
    pub entry: u32,
    /// What stands there.
    pub kind: AnchorKind,
}

/// The anchors of a piece of code.
#[derive(Debug)]
pub struct Anchors {
    /// Its control flow.
    pub graph: Graph,
    anchors: FxHashMap<Index, Anchor>,
}

impl Anchors {
    /// The anchors of `graph`: the jumps to its exits, which are deoptimization
    /// entries, and `calls`.
    pub fn new(graph: Graph, calls: &[CallSite]) -> Anchors {
        let mut anchors = FxHashMap::default();
        for index in 0..graph.len() as Index {
            let target = graph.jumps_to(index).and_then(|target| graph.exit(target));
            if let Some(entry) = target.or(graph.exit(index)) {
                let kind = AnchorKind::Check;
                anchors.insert(index, Anchor { entry, kind });
            }
        }
        let mut entries = FxHashMap::default();
        for call in calls {
            let index = call.pc.checked_sub(1).and_then(|byte| graph.at(byte));
            if let (Some(index), Some(entry)) = (index, call.entry)
                && graph.kind(index) == NodeKind::Call
            {
                let kind = AnchorKind::Call;
                anchors.insert(index, Anchor { entry, kind });
                entries.insert(index, entry);
            }
        }
        for index in 0..graph.len() as Index {
            if graph.kind(index) == NodeKind::StackLimit
                && let Some((jump, entry)) = stack_check(&graph, index, &entries)
            {
                let kind = AnchorKind::StackCheck;
                anchors.insert(jump, Anchor { entry, kind });
            }
        }
        Anchors { graph, anchors }
    }

    /// The anchor at `index`.
    pub fn at(&self, index: Index) -> Option<Anchor> {
        self.anchors.get(&index).copied()
    }

    /// The last anchors before `index` and where they are, or the one that is
    /// being passed there. None is found where the code begins.
    pub fn before(&self, index: Index) -> Vec<(Index, Anchor)> {
        // A call is not behind itself.
        let passed = self.at(index);
        if let Some(anchor) = passed.filter(|anchor| anchor.kind != AnchorKind::Call) {
            return vec![(index, anchor)];
        }
        let mut found: Vec<(Index, Anchor)> = Vec::new();
        let mut search = Search::new([index]);
        while let Some(at) = search.next() {
            for previous in self.graph.previous(at) {
                match self.at(previous) {
                    Some(anchor) if found.iter().any(|(_, known)| *known == anchor) => {}
                    Some(anchor) => found.push((previous, anchor)),
                    None => search.push(previous),
                }
            }
            if found.len() >= MAX_FOUND {
                break;
            }
        }
        found
    }

    /// The first anchors from `index` on, and where they are. None is found
    /// where the code returns.
    pub fn from(&self, index: Index) -> Vec<(Index, Anchor)> {
        self.first([index], Some)
    }

    /// What `accept` makes of the first anchors behind the one at `index`;
    /// those that it makes nothing of are passed.
    pub fn behind<T: PartialEq>(
        &self,
        index: Index,
        accept: impl FnMut(Anchor) -> Option<T>,
    ) -> Vec<T> {
        let found = self.first(self.graph.next(index), accept);
        found.into_iter().map(|(_, found)| found).collect()
    }

    fn first<T: PartialEq>(
        &self,
        starts: impl IntoIterator<Item = Index>,
        mut accept: impl FnMut(Anchor) -> Option<T>,
    ) -> Vec<(Index, T)> {
        let mut found: Vec<(Index, T)> = Vec::new();
        let mut search = Search::new(starts);
        while let Some(at) = search.next() {
            match self.at(at).and_then(&mut accept) {
                Some(accepted) if found.iter().any(|(_, known)| *known == accepted) => {}
                Some(accepted) => found.push((at, accepted)),
                None => self.graph.next(at).for_each(|next| search.push(next)),
            }
            if found.len() >= MAX_FOUND {
                break;
            }
        }
        found
    }
}

/// The jump that decides on a call of the stack guard after the comparison at
/// `compare`, and the entry of that call, one of `calls`
/// (`LCodeGen::DoStackCheck` in `src/x64/lithium-codegen-x64.cc`).
fn stack_check(
    graph: &Graph,
    compare: Index,
    calls: &FxHashMap<Index, u32>,
) -> Option<(Index, u32)> {
    let jump = graph.falls_to(compare)?;
    // In a loop the call is out of line, else right there.
    let [taken, not_taken] = [graph.jumps_to(jump)?, graph.falls_to(jump)?];
    for start in [taken, not_taken] {
        let mut at = start;
        for _ in 0..MAX_STACK_CHECK {
            if let Some(&entry) = calls.get(&at) {
                return Some((jump, entry));
            }
            if graph.jumps_to(at).is_some() || graph.kind(at) == NodeKind::Call {
                break;
            }
            match graph.falls_to(at) {
                Some(next) => at = next,
                None => break,
            }
        }
    }
    None
}

/// Instructions to look at, each once, the nearest first.
struct Search {
    seen: FxHashSet<Index>,
    waiting: VecDeque<Index>,
}

impl Search {
    fn new(starts: impl IntoIterator<Item = Index>) -> Search {
        let mut search = Search {
            seen: FxHashSet::default(),
            waiting: VecDeque::new(),
        };
        starts.into_iter().for_each(|start| search.push(start));
        search
    }

    fn push(&mut self, index: Index) {
        if self.seen.len() < MAX_VISITED && self.seen.insert(index) {
            self.waiting.push_back(index);
        }
    }

    fn next(&mut self) -> Option<Index> {
        self.waiting.pop_front()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 00  nop
    /// 01  cmp rsp,[r13+8]
    /// 05  jb 18
    /// 07  test eax,eax
    /// 09  jz 1f
    /// 0b  inc eax
    /// 0d  call rax
    /// 0f  inc ecx
    /// 11  jo 24
    /// 13  jz 01
    /// 15  ret
    /// 16  (unreached)
    /// 18  push rax
    /// 19  call rcx
    /// 1b  pop rax
    /// 1c  jmp 07
    /// 1e  (unreached)
    /// 1f  call 100h
    /// 24  call 10ah
    const CODE: [u8; 0x29] = [
        0x90, 0x49, 0x3b, 0x65, 0x08, 0x72, 0x11, 0x85, 0xc0, 0x74, 0x14, 0xff, 0xc0, 0xff, 0xd0,
        0xff, 0xc1, 0x70, 0x11, 0x74, 0xec, 0xc3, 0x90, 0x90, 0x50, 0xff, 0xd1, 0x58, 0xeb, 0xe9,
        0x90, 0xe8, 0xdc, 0, 0, 0, 0xe8, 0xe1, 0, 0, 0,
    ];

    fn anchors() -> Anchors {
        let exit = |target: u64| Some(target.checked_sub(0x100)? as u32 / 10 + 5);
        let graph = Graph::new(0, &CODE, [0], exit);
        let call = |pc, entry| CallSite {
            pc,
            entry: Some(entry),
        };
        Anchors::new(graph, &[call(0x0f, 1), call(0x1b, 2)])
    }

    #[test]
    fn checks_calls_and_stack_checks_are_anchors() {
        let anchors = anchors();
        let at = |offset| {
            let anchor = anchors.at(anchors.graph.at(offset)?)?;
            Some((anchor.entry, anchor.kind))
        };
        assert_eq!(at(5), Some((2, AnchorKind::StackCheck)));
        assert_eq!(at(9), Some((5, AnchorKind::Check)));
        assert_eq!(at(0xd), Some((1, AnchorKind::Call)));
        assert_eq!(at(0x11), Some((6, AnchorKind::Check)));
        assert_eq!(at(0x19), Some((2, AnchorKind::Call)));
        assert_eq!(at(0x13), None);
    }

    #[test]
    fn the_anchors_around_a_place_are_found() {
        let anchors = anchors();
        let before = |offset| {
            let found = anchors.before(anchors.graph.at(offset).unwrap());
            let mut found: Vec<_> = found.iter().map(|(_, anchor)| anchor.entry).collect();
            found.sort_unstable();
            found
        };
        let from = |offset| {
            let found = anchors.from(anchors.graph.at(offset).unwrap());
            let mut found: Vec<_> = found.iter().map(|(_, anchor)| anchor.entry).collect();
            found.sort_unstable();
            found
        };
        assert_eq!(before(1), [6]);
        assert_eq!(from(1), [2]);
        assert_eq!(before(7), [2, 2]);
        assert_eq!(before(0xb), [5]);
        assert_eq!(from(0xb), [1]);
        // At the call.
        assert_eq!(before(0xd), [5]);
        assert_eq!(from(0xd), [1]);
        // At the check.
        assert_eq!(before(0x11), [6]);
        assert_eq!(from(0x11), [6]);
        assert_eq!(before(0x15), [6]);
        assert!(from(0x15).is_empty());
        let check = anchors.graph.at(9).unwrap();
        let accept = |anchor: Anchor| (anchor.entry != 5).then_some(anchor.entry);
        assert_eq!(anchors.behind(check, accept), [1]);
    }
}
