//! The control flow of a piece of machine code, instruction by instruction.

use iced_x86::{Code as Opcode, Decoder, DecoderOptions, FlowControl, Instruction, OpKind};

/// More instructions than a function has that V8 would optimize.
const MAX_INSTRUCTIONS: usize = 1 << 18;

/// No instruction.
const NONE: u32 = u32::MAX;

/// An instruction's place in its [`Graph`].
pub type Index = u32;

/// The instructions that control reaches, in the order of their addresses.
#[derive(Debug, Default)]
pub struct Graph {
    nodes: Vec<Node>,
    /// The predecessors of all instructions, one after the other.
    previous: Vec<Index>,
}

#[derive(Clone, Copy, Debug)]
struct Node {
    start: u32,
    end: u32,
    /// The next instruction, if control goes on there.
    falls_to: Index,
    /// Where it jumps to.
    jumps_to: Index,
    /// Where its predecessors begin in `previous`.
    first_previous: u32,
    exit: Option<u32>,
    kind: NodeKind,
}

/// What matters of an instruction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NodeKind {
    /// It compares the stack pointer with a limit in memory.
    StackLimit,
    /// It calls something that returns.
    Call,
    /// Anything else.
    Other,
}

impl Graph {
    /// Follows `code`, which stands at `base`, from each of `entries` on.
    /// `exit` tells what it means if control leaves the code for good, by a
    /// call or a jump to an address.
    pub fn new(
        base: u64,
        code: &[u8],
        entries: impl IntoIterator<Item = u32>,
        mut exit: impl FnMut(u64) -> Option<u32>,
    ) -> Graph {
        let Ok(length) = u32::try_from(code.len()) else {
            return Graph::default();
        };
        let inside = |target: u64| target.wrapping_sub(base) < u64::from(length);
        let mut found = vec![false; code.len()];
        // Jump targets are offsets until all instructions are known.
        let mut nodes = Vec::new();
        let mut work: Vec<u32> = entries.into_iter().collect();
        let mut decoder = Decoder::new(64, code, DecoderOptions::NONE);
        let mut instruction = Instruction::default();
        while let Some(mut at) = work.pop() {
            while at < length && !found[at as usize] && nodes.len() < MAX_INSTRUCTIONS {
                if decoder.set_position(at as usize).is_err() {
                    break;
                }
                decoder.set_ip(base.wrapping_add(u64::from(at)));
                decoder.decode_out(&mut instruction);
                if instruction.is_invalid() {
                    break;
                }
                found[at as usize] = true;
                let end = at + instruction.len() as u32;
                let mut node = Node {
                    start: at,
                    end,
                    falls_to: NONE,
                    jumps_to: NONE,
                    first_previous: 0,
                    exit: exit_of(&instruction, code.get(end as usize..), inside, &mut exit),
                    kind: kind_of(&instruction),
                };
                if node.exit.is_none() {
                    if instruction.is_jcc_short_or_near() || instruction.is_jmp_short_or_near() {
                        let target = instruction.near_branch_target();
                        if inside(target) {
                            node.jumps_to = target.wrapping_sub(base) as u32;
                            work.push(node.jumps_to);
                        }
                    }
                    if matches!(
                        instruction.flow_control(),
                        FlowControl::Next
                            | FlowControl::ConditionalBranch
                            | FlowControl::Call
                            | FlowControl::IndirectCall
                    ) {
                        node.falls_to = end;
                    }
                }
                nodes.push(node);
                if node.falls_to == NONE {
                    break;
                }
                at = end;
            }
        }
        Graph::linked(nodes)
    }

    /// Makes indices of offsets.
    fn linked(mut nodes: Vec<Node>) -> Graph {
        nodes.sort_unstable_by_key(|node| node.start);
        let starts: Vec<u32> = nodes.iter().map(|node| node.start).collect();
        let index = |offset: u32| match starts.binary_search(&offset) {
            Ok(index) => index as Index,
            Err(_) => NONE,
        };
        let mut counts = vec![0_u32; nodes.len() + 1];
        for node in &mut nodes {
            node.falls_to = index(node.falls_to);
            node.jumps_to = index(node.jumps_to);
            for next in [node.falls_to, node.jumps_to] {
                if next != NONE {
                    counts[next as usize] += 1;
                }
            }
        }
        let mut total = 0;
        for (node, count) in nodes.iter_mut().zip(&mut counts) {
            node.first_previous = total;
            total += std::mem::replace(count, total);
        }
        let mut previous = vec![0; total as usize];
        for (from, node) in (0..).zip(&nodes) {
            for next in [node.falls_to, node.jumps_to] {
                if next != NONE {
                    let place = &mut counts[next as usize];
                    previous[*place as usize] = from;
                    *place += 1;
                }
            }
        }
        Graph { nodes, previous }
    }

    /// How many instructions there are.
    pub fn len(&self) -> usize {
        self.nodes.len()
    }

    /// The instruction that the byte at `offset` is of.
    pub fn at(&self, offset: u32) -> Option<Index> {
        let after = self.nodes.partition_point(|node| node.start <= offset);
        let index = after.checked_sub(1)?;
        (offset < self.nodes[index].end).then_some(index as Index)
    }

    /// The instruction's first byte, and where it ends.
    pub fn range(&self, index: Index) -> (u32, u32) {
        let node = &self.nodes[index as usize];
        (node.start, node.end)
    }

    /// What matters of the instruction.
    pub fn kind(&self, index: Index) -> NodeKind {
        self.nodes[index as usize].kind
    }

    /// What `exit` said of where the instruction leaves the code for good.
    pub fn exit(&self, index: Index) -> Option<u32> {
        self.nodes[index as usize].exit
    }

    /// The next instruction in memory, if control may go on there.
    pub fn falls_to(&self, index: Index) -> Option<Index> {
        Some(self.nodes[index as usize].falls_to).filter(|&next| next != NONE)
    }

    /// Where the instruction jumps to.
    pub fn jumps_to(&self, index: Index) -> Option<Index> {
        Some(self.nodes[index as usize].jumps_to).filter(|&next| next != NONE)
    }

    /// Where control may go on from the instruction.
    pub fn next(&self, index: Index) -> impl Iterator<Item = Index> {
        self.falls_to(index).into_iter().chain(self.jumps_to(index))
    }

    /// Where control may come from.
    pub fn previous(&self, index: Index) -> impl Iterator<Item = Index> {
        let index = index as usize;
        let from = self.nodes[index].first_previous as usize;
        let to = match self.nodes.get(index + 1) {
            Some(next) => next.first_previous as usize,
            None => self.previous.len(),
        };
        self.previous[from..to].iter().copied()
    }
}

/// The exit that `instruction` leaves by: a call or a jump to it, or, as V8
/// 3.14 has it, the load of its address and a jump there.
fn exit_of(
    instruction: &Instruction,
    following: Option<&[u8]>,
    inside: impl Fn(u64) -> bool,
    exit: &mut impl FnMut(u64) -> Option<u32>,
) -> Option<u32> {
    const JMP_R10: [u8; 3] = [0x41, 0xff, 0xe2];
    if instruction.is_call_near() || instruction.is_jmp_near() {
        let target = instruction.near_branch_target();
        return if inside(target) { None } else { exit(target) };
    }
    let loads_address = instruction.code() == Opcode::Mov_r64_imm64;
    if loads_address && following?.starts_with(&JMP_R10) {
        return exit(instruction.immediate64());
    }
    None
}

fn kind_of(instruction: &Instruction) -> NodeKind {
    let compares_stack_pointer = instruction.code() == Opcode::Cmp_r64_rm64
        && instruction.op0_register() == iced_x86::Register::RSP
        && instruction.op1_kind() == OpKind::Memory;
    match instruction.flow_control() {
        FlowControl::Call | FlowControl::IndirectCall => NodeKind::Call,
        _ if compares_stack_pointer => NodeKind::StackLimit,
        _ => NodeKind::Other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 00  cmp rsp,[r13+8]
    /// 04  jb 0f
    /// 06  test eax,eax
    /// 08  jz 11
    /// 0a  call rax
    /// 0c  jmp 06
    /// 0e  (unreached)
    /// 0f  jmp 06
    /// 11  call 100h behind the start
    /// 16  ret
    const CODE: [u8; 0x17] = [
        0x49, 0x3b, 0x65, 0x08, 0x72, 0x09, 0x85, 0xc0, 0x74, 0x07, 0xff, 0xd0, 0xeb, 0xf8, 0x90,
        0xeb, 0xf5, 0xe8, 0xea, 0, 0, 0, 0xc3,
    ];

    fn offsets(graph: &Graph, found: impl Iterator<Item = Index>) -> Vec<u32> {
        let mut found: Vec<u32> = found.map(|index| graph.range(index).0).collect();
        found.sort_unstable();
        found
    }

    #[test]
    fn control_is_followed_both_ways() {
        let graph = Graph::new(0x1000, &CODE, [0], |target| (target == 0x1100).then_some(7));
        let at = |offset| graph.at(offset).unwrap();
        assert_eq!(graph.range(at(9)), (8, 10));
        assert_eq!(graph.at(0xe), None);
        assert_eq!(graph.at(0x16), None);
        assert_eq!(graph.kind(at(0)), NodeKind::StackLimit);
        assert_eq!(graph.kind(at(0xa)), NodeKind::Call);
        assert_eq!(graph.exit(at(0x11)), Some(7));
        assert_eq!(offsets(&graph, graph.next(at(8))), [0xa, 0x11]);
        assert!(graph.next(at(0x11)).next().is_none());
        assert_eq!(offsets(&graph, graph.previous(at(6))), [4, 0xc, 0xf]);
        assert!(graph.previous(at(0)).next().is_none());
        // Else it is a call as any other.
        let graph = Graph::new(0x1000, &CODE, [0], |_| None);
        let at = |offset| graph.at(offset).unwrap();
        assert_eq!(offsets(&graph, graph.next(at(0x11))), [0x16]);
    }

    #[test]
    fn an_exit_may_be_loaded_first() {
        // mov r10,1234h; jmp r10; nop
        let code = [
            0x49, 0xba, 0x34, 0x12, 0, 0, 0, 0, 0, 0, 0x41, 0xff, 0xe2, 0x90,
        ];
        let graph = Graph::new(0x1000, &code, [0], |target| (target == 0x1234).then_some(3));
        assert_eq!(graph.exit(0), Some(3));
        assert_eq!(graph.len(), 1);
    }

    #[test]
    fn any_bytes_are_followed_to_an_end() {
        let mut state = 1_u32;
        for length in 0..200_u32 {
            let code: Vec<u8> = (0..length)
                .map(|_| {
                    state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                    (state >> 24) as u8
                })
                .collect();
            let graph = Graph::new(0, &code, [0, length / 2, length, u32::MAX], |_| None);
            for index in 0..graph.len() as Index {
                for next in graph.next(index) {
                    assert!(graph.previous(next).any(|previous| previous == index));
                }
            }
        }
    }
}
