//! What loops tell of optimized code that has positions of its calls alone.
//!
//! Every loop looks whether it is to be interrupted, by a call that has a
//! deoptimization entry. V8 moves code out of loops, never into them: so whatever is
//! in the loop of machine code is executed by the function that has the loop, or by
//! one that was inlined in there.

use std::ops::Range;

use nodetap_profile::Position;
use nodetap_v8::Tagged;
use nodetap_v8::code::Code;
use nodetap_v8::deoptimization::DeoptimizationData;
use nodetap_v8::safepoint::Safepoint;
use nodetap_v8::translation::TranslatedFrame;

use super::active::ActiveFunction;
use super::crankshaft::graph::{Graph, Index};
use super::deopt_frames::{self, Reading};
use super::functions::FunctionKey;
use super::optimized::KnownFunctions;

/// The most loops that a piece of code is believed to have.
const MAX_LOOPS: usize = 256;

/// The loops of a piece of machine code.
#[derive(Debug, Default)]
pub struct Loops {
    graph: Graph,
    /// Of each, which instructions are in it.
    loops: Vec<Vec<bool>>,
}

impl Loops {
    /// Finds the loops of `instructions`, which are entered at `entries`; `returns`
    /// are where calls return to.
    pub fn new(
        instructions: &[u8],
        entries: impl Iterator<Item = u32>,
        returns: impl Iterator<Item = u32>,
    ) -> Loops {
        let entries: Vec<u32> = entries.collect();
        let all = entries.iter().copied().chain(returns);
        let mut loops = Loops {
            graph: Graph::new(0, instructions, all, |_| None),
            loops: Vec::new(),
        };
        let starts = entries.iter().filter_map(|&at| loops.graph.at(at));
        let mut jumps = loops.jumps_back(starts.collect());
        // Jumps to one place are of one loop.
        jumps.sort_unstable_by_key(|&(_, to)| to);
        let of_one: Vec<_> = jumps.chunk_by(|one, other| one.1 == other.1).collect();
        if of_one.len() <= MAX_LOOPS {
            loops.loops = of_one.into_iter().map(|jumps| loops.body(jumps)).collect();
        }
        loops
    }

    /// The jumps that lead back to where control has come from. V8's loops are entered
    /// at their start only, so these are the jumps to the start of one.
    fn jumps_back(&self, starts: Vec<Index>) -> Vec<(Index, Index)> {
        let mut seen = vec![false; self.graph.len()];
        let mut on_way = vec![false; self.graph.len()];
        let mut found = Vec::new();
        for start in starts {
            // What is on the way, and where to go on from there.
            let mut way: Vec<(Index, Vec<Index>)> = Vec::new();
            let mut enter = Some(start);
            loop {
                if let Some(at) = enter.take()
                    && !std::mem::replace(&mut seen[at as usize], true)
                {
                    on_way[at as usize] = true;
                    way.push((at, self.graph.next(at).collect()));
                }
                let Some((from, next)) = way.last_mut() else {
                    break;
                };
                match next.pop() {
                    Some(to) if on_way[to as usize] => found.push((*from, to)),
                    Some(to) => enter = Some(to),
                    None => {
                        on_way[*from as usize] = false;
                        way.pop();
                    }
                }
            }
        }
        found
    }

    /// What leads to the jumps back without passing the loop's start.
    fn body(&self, jumps: &[(Index, Index)]) -> Vec<bool> {
        let mut body = vec![false; self.graph.len()];
        body[jumps[0].1 as usize] = true;
        let mut work: Vec<Index> = jumps.iter().map(|&(from, _)| from).collect();
        while let Some(at) = work.pop() {
            if !std::mem::replace(&mut body[at as usize], true) {
                work.extend(self.graph.previous(at));
            }
        }
        body
    }

    /// The innermost loop around the byte at `offset`.
    fn innermost(&self, offset: u32) -> Option<usize> {
        let at = self.graph.at(offset)? as usize;
        let around = self.loops.iter().enumerate().filter(|(_, body)| body[at]);
        let size = |body: &[bool]| body.iter().filter(|&&inside| inside).count();
        Some(around.min_by_key(|(_, body)| size(body))?.0)
    }

    /// The functions that are active at the byte at `offset`, outermost first. The
    /// innermost may have called another that was inlined; it has a line where the
    /// loop is on one.
    pub fn active(
        &self,
        reading: &mut Reading<'_>,
        (code, data): (&Code, &DeoptimizationData),
        known: &KnownFunctions,
        safepoints: &[Safepoint],
        offset: u32,
    ) -> Option<Vec<ActiveFunction>> {
        let around = self.innermost(offset)?;
        let mut found: Option<(Vec<TranslatedFrame>, Option<BytecodeLoop>)> = None;
        for safepoint in safepoints {
            if self.innermost(safepoint.pc.checked_sub(1)?) != Some(around) {
                continue;
            }
            let mut frames = data.frames(safepoint.entry)?;
            frames.retain(|frame| *frame != TranslatedFrame::Other);
            let checked = BytecodeLoop::checked_by(reading, code, frames.last()?);
            let Some(checked) = checked else {
                continue;
            };
            found = Some(match found {
                None => (frames, Some(checked)),
                // A loop that was inlined and never comes to its end is none here.
                Some((before, _)) => (common(before, &frames), None),
            });
        }
        let (frames, bytecode) = found?;
        let mut active = deopt_frames::of_frames(reading, code, data, known, &frames)?;
        let innermost = active.last_mut()?;
        let positions = bytecode.and_then(|bytecode| bytecode.positions(reading));
        let mut lines = positions.into_iter().flatten().map(|position| {
            let place = innermost.function.locate(Some(position));
            place.map(|place| place.line.get())
        });
        let line = lines.next().flatten();
        let line = line.filter(|_| lines.all(|other| other == line));
        innermost.position = line.and_then(|line| Position::new(line, 0));
        Some(active)
    }
}

/// The frames that two places have in common, up to the first that goes on between.
fn common(mut one: Vec<TranslatedFrame>, other: &[TranslatedFrame]) -> Vec<TranslatedFrame> {
    let pairs = one.iter().zip(other);
    let same = pairs.take_while(|(one, other)| one == other).count();
    let function = |frame: Option<&TranslatedFrame>| match frame {
        Some(TranslatedFrame::Function { shared, .. }) => Some(*shared),
        _ => None,
    };
    let going_on = function(one.get(same));
    let goes_on = going_on.is_some() && going_on == function(other.get(same));
    one.truncate(same + usize::from(goes_on));
    one
}

/// A loop in a function's bytecode.
struct BytecodeLoop {
    array: Tagged,
    key: FunctionKey,
    /// Where it looks whether it is to be interrupted.
    check: u32,
    range: Range<u32>,
}

impl BytecodeLoop {
    /// The innermost loop that `frame` is in, if it is at the check of one.
    fn checked_by(
        reading: &Reading<'_>,
        code: &Code,
        frame: &TranslatedFrame,
    ) -> Option<BytecodeLoop> {
        let TranslatedFrame::Function {
            shared,
            bytecode_offset,
            ..
        } = *frame
        else {
            return None;
        };
        let heap = &reading.heap;
        let numbers = heap.layout.bytecode.loops?;
        let sizes = reading.sizes?;
        let shared = heap.deoptimization_literal(code, shared).ok()?;
        let key = FunctionKey::at(heap, shared).ok()??;
        let array = heap.translated_bytecode(code, frame).ok()?;
        let bytecodes = heap.bytecodes(array).ok()?;
        let check = u32::try_from(bytecode_offset).ok()?;
        if !sizes.is_at(&bytecodes, check, numbers.stack_check) {
            return None;
        }
        let loops = sizes.loops(&bytecodes, numbers).into_iter();
        let around = loops.filter(|range| range.contains(&check));
        Some(BytecodeLoop {
            array,
            key,
            check,
            range: around.min_by_key(|range| range.len())?,
        })
    }

    /// All places in the script that it has.
    fn positions(&self, reading: &mut Reading<'_>) -> Option<Vec<u32>> {
        let function = reading.functions.get(&reading.heap, self.key)?;
        let bytecode = &mut reading.bytecode;
        let check = i64::from(self.check);
        let of = (self.key, &function);
        bytecode.position(&reading.heap, reading.now, self.array, of, check)?;
        bytecode.positions_in(self.array, self.key, self.range.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 00  nop
    /// 01  nop            the outer loop
    /// 02  nop            the inner one
    /// 03  test eax,eax
    /// 05  jz 0e
    /// 07  jnz 02
    /// 09  jnz 01
    /// 0b  nop; ret
    /// 0e  call rax       out of line
    /// 10  jmp 07
    const CODE: [u8; 0x12] = [
        0x90, 0x90, 0x90, 0x85, 0xc0, 0x74, 0x07, 0x75, 0xf9, 0x75, 0xf6, 0x90, 0xc3, 0x90, 0xff,
        0xd0, 0xeb, 0xf5,
    ];

    #[test]
    fn code_out_of_line_is_in_the_loop_that_it_returns_to() {
        let loops = Loops::new(&CODE, [0].into_iter(), [0x10].into_iter());
        assert_eq!(loops.loops.len(), 2);
        let inner = loops.innermost(2);
        assert!(inner.is_some());
        assert_eq!(loops.innermost(0xf), inner);
        assert_eq!(loops.innermost(7), inner);
        let outer = loops.innermost(1);
        assert!(outer.is_some() && outer != inner);
        assert_eq!(loops.innermost(9), outer);
        for outside in [0, 0xb, 0xc, 0xd, 0x40] {
            assert_eq!(loops.innermost(outside), None);
        }
    }

    #[test]
    fn what_goes_on_between_two_places_is_active_at_both() {
        let frame = |shared, bytecode_offset| TranslatedFrame::Function {
            shared,
            bytecode_offset,
            bytecode_array: None,
        };
        let caller = frame(0, 10);
        let one = || vec![caller, frame(1, 2)];
        let longer = [caller, frame(1, 5), frame(2, 0)];
        assert_eq!(common(one(), &longer), [caller, frame(1, 2)]);
        assert_eq!(common(one(), &[caller]), [caller]);
        assert_eq!(common(one(), &[caller, frame(2, 2)]), [caller]);
    }
}
