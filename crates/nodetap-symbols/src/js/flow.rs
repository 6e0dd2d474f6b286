//! How control gets to a place in compiled code.
//!
//! V8 puts what is seldom needed behind what is often: calls of the garbage
//! collector for a new object, write barriers, conversions. Its source position
//! tables do not cover that code, so that by address it would belong to
//! whatever stands last in the function. By control flow it belongs to the
//! instruction that jumps there.

use iced_x86::{Decoder, DecoderOptions, FlowControl, Instruction};
use rustc_hash::FxHashMap;

/// `int3`: V8 ends such pieces with it (`Assembler::Trap`).
const TRAP: u8 = 0xcc;

/// The jumps of a piece of compiled code.
#[derive(Debug, Default)]
pub struct Flow {
    blocks: Vec<Block>,
    /// The jumps out of the code, in order.
    exits: Vec<Exit>,
    /// Where instructions end that control does not pass, in order, and
    /// whether a trap follows that nothing leads to.
    ends: Vec<(u32, bool)>,
}

/// A run of instructions that begins where a jump leads to.
#[derive(Debug, PartialEq, Eq)]
pub struct Block {
    /// Its first byte.
    pub start: u32,
    /// Whether control also comes from the instruction before.
    pub falls_in: bool,
    /// The jumps that lead there.
    pub sources: Vec<u32>,
}

/// A jump to a place behind the code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Exit {
    /// The jump's first byte.
    pub start: u32,
    /// Where it ends.
    pub end: u32,
    /// Where it leads.
    pub target: u32,
}

impl Flow {
    /// Follows the `code` from each of `entries` on.
    pub fn new(code: &[u8], entries: impl IntoIterator<Item = u32>) -> Flow {
        let Ok(length) = u32::try_from(code.len()) else {
            return Flow::default();
        };
        let mut seen = vec![Seen::default(); code.len() + 1];
        let mut sources: FxHashMap<u32, Vec<u32>> = FxHashMap::default();
        let mut flow = Flow::default();
        let mut work: Vec<u32> = entries.into_iter().filter(|&at| at < length).collect();
        for &entry in &work {
            // Unless another instruction turns out to lead there, it is not
            // known from where control comes.
            sources.entry(entry).or_default();
        }
        let mut decoder = Decoder::new(64, code, DecoderOptions::NONE);
        let mut instruction = Instruction::default();
        while let Some(start) = work.pop() {
            let mut at = start;
            while at < length && !seen[at as usize].decoded {
                if decoder.set_position(at as usize).is_err() {
                    break;
                }
                decoder.set_ip(u64::from(at));
                decoder.decode_out(&mut instruction);
                if instruction.is_invalid() {
                    break;
                }
                seen[at as usize].decoded = true;
                let end = at + instruction.len() as u32;
                if instruction.is_jcc_short_or_near() || instruction.is_jmp_short_or_near() {
                    let target = instruction.near_branch_target();
                    if target < u64::from(length) {
                        sources.entry(target as u32).or_default().push(at);
                        work.push(target as u32);
                    } else if let Ok(target) = u32::try_from(target) {
                        flow.exits.push(Exit {
                            start: at,
                            end,
                            target,
                        });
                    }
                }
                match instruction.flow_control() {
                    FlowControl::Next
                    | FlowControl::ConditionalBranch
                    | FlowControl::Call
                    | FlowControl::IndirectCall => {}
                    _ => {
                        flow.ends.push((end, false));
                        break;
                    }
                }
                seen[end as usize].falls_in = true;
                at = end;
            }
        }
        for (end, trap) in &mut flow.ends {
            let end = *end as usize;
            *trap = code.get(end) == Some(&TRAP) && !seen[end].decoded;
        }
        flow.blocks = sources
            .into_iter()
            .map(|(start, sources)| Block {
                start,
                falls_in: seen[start as usize].falls_in,
                sources,
            })
            // A call's return address is no block of its own.
            .filter(|block| !(block.falls_in && block.sources.is_empty()))
            .collect();
        flow.blocks.sort_unstable_by_key(|block| block.start);
        flow.exits.sort_unstable_by_key(|exit| exit.start);
        flow.ends.sort_unstable();
        flow
    }

    /// The block that contains `at`, the last one that begins there or before.
    pub fn block_at(&self, at: u32) -> Option<&Block> {
        let after = self.blocks.partition_point(|block| block.start <= at);
        self.blocks[..after].last()
    }

    /// The jumps out of the code, in order.
    pub fn exits(&self) -> &[Exit] {
        &self.exits
    }

    /// Whether `at` is in a piece of code that ends with a trap, as Maglev's
    /// deferred code does (`EmitDeferredCode` in
    /// `src/maglev/maglev-code-generator.cc`).
    pub fn is_deferred(&self, at: u32) -> bool {
        let before = self.ends.partition_point(|(end, _)| *end <= at);
        self.ends.get(before).is_some_and(|(_, trap)| *trap)
    }
}

#[derive(Clone, Copy, Default)]
struct Seen {
    decoded: bool,
    falls_in: bool,
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 00  test eax,eax
    /// 02  jz 12
    /// 04  test ecx,ecx
    /// 06  js 30 (out of the code)
    /// 0c  ret
    /// 0d  (unreached)
    /// 10  nop; nop
    /// 12  nop
    /// 13  jmp 04
    /// 15  int3
    /// 16  call rax
    /// 18  jmp 10
    const CODE: [u8; 0x1a] = [
        0x85, 0xc0, 0x74, 0x0e, 0x85, 0xc9, 0x0f, 0x88, 0x24, 0, 0, 0, 0xc3, 0xff, 0xff, 0xff,
        0x90, 0x90, 0x90, 0xeb, 0xef, 0xcc, 0xff, 0xd0, 0xeb, 0xf6,
    ];

    #[test]
    fn blocks_know_what_leads_to_them() {
        let flow = Flow::new(&CODE, [0, 0x18]);
        let blocks: Vec<_> = flow
            .blocks
            .iter()
            .map(|block| (block.start, block.falls_in, block.sources.as_slice()))
            .collect();
        assert_eq!(
            blocks,
            [
                (0, false, &[][..]),
                (4, true, &[0x13][..]),
                (0x10, false, &[0x18][..]),
                (0x12, true, &[2][..]),
                (0x18, false, &[][..]),
            ]
        );
        assert_eq!(
            flow.exits(),
            [Exit {
                start: 6,
                end: 0xc,
                target: 0x30
            }]
        );
        assert_eq!(flow.block_at(0x11).unwrap().start, 0x10);
        assert_eq!(flow.block_at(0x14).unwrap().start, 0x12);
        let deferred: Vec<bool> = [0, 0xc, 0x10, 0x14, 0x18]
            .map(|at| flow.is_deferred(at))
            .to_vec();
        assert_eq!(deferred, [false, false, true, true, false]);
        assert!(Flow::new(&[], [0]).block_at(0).is_none());
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
            let flow = Flow::new(&code, [0, length / 2, length, u32::MAX]);
            assert!(flow.blocks.iter().all(|block| block.start < length));
            assert!(flow.exits().iter().all(|exit| exit.target >= length));
        }
    }
}
