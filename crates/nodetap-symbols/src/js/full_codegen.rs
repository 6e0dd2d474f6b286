//! Code of full-codegen: where in its function a pc is.
//!
//! A call's place is the source position before its return address, as in V8's
//! own stack traces. For a thread's own pc that is not always so: before V8 4 a
//! position is not written where its statement begins, but at the first call that
//! the statement makes (`PositionsRecorder::WriteRecordedPositions` in
//! `src/assembler.cc`), so that what precedes that call stands behind the position
//! of some statement before. The code is emitted in the order of the syntax tree:
//! a pc between two positions of one line is on that line. Otherwise there is no
//! telling on which of the two it is, or between.

use std::cell::{Cell, OnceCell};

use nodetap_profile::{Position, Tier};
use nodetap_sampler::raw::FrameRecord;
use nodetap_v8::code::Code;
use nodetap_v8::crankshaft::relocation::{CodePosition, position_before};
use nodetap_v8::{Error, Heap, Tagged, Version};

use crate::generated::NamedFrame;

use super::code_cache::CachedCode;
use super::flow::Flow;
use super::functions::{FunctionInfo, FunctionKey};
use super::{JsNames, PcKind, function_frame, is_newest};

/// Since then positions stand where statements begin.
const POSITIONS_IN_PLACE: Version = Version::new(4, 0);

/// More jumps than lead to one place.
const MAX_JUMPS_BACK: usize = 64;

/// What is known of a piece of full-codegen's code.
#[derive(Debug)]
pub struct FullCode {
    positions: Vec<CodePosition>,
    /// Whether positions are written late.
    late: bool,
    flow: OnceCell<Flow>,
    /// The function that was seen to run it last.
    owner: Cell<Option<FunctionKey>>,
}

impl FullCode {
    /// Reads what describes `code`.
    ///
    /// # Errors
    /// Where it cannot be read.
    pub fn read(heap: &Heap<'_>, code: &Code) -> Result<FullCode, Error> {
        Ok(FullCode {
            positions: heap.relocated_positions(code)?,
            late: heap.layout.version < POSITIONS_IN_PLACE,
            flow: OnceCell::new(),
            owner: Cell::new(None),
        })
    }

    /// Whether the code, as it was read, is that of the function of `key`. What is
    /// in its place by now may look the same but for its positions.
    fn is_of(
        &self,
        heap: &Heap<'_>,
        (key, at_tick): (FunctionKey, Option<Tagged>),
        code: &CachedCode,
    ) -> bool {
        // The collector may have moved code to where it was before, or near.
        let is_newest = is_newest(heap, key.shared(), code);
        // Nothing to compare with where functions may have bytecode as well.
        let at_tick = at_tick.unwrap_or(code.code.object);
        match self.owner.get() {
            Some(owner) if owner.id() != key.id() => false,
            // It runs on in what was its code before it got another.
            Some(_) if at_tick != code.code.object => {
                !is_newest && heap.newest_code(key.shared()) == Ok(at_tick)
            }
            Some(_) => true,
            None if at_tick == code.code.object && is_newest => {
                self.owner.set(Some(key));
                true
            }
            None => false,
        }
    }

    /// Where the code, which is that of `function` and has these `instructions`,
    /// is at `offset`.
    fn place(
        &self,
        function: &FunctionInfo,
        instructions: &[u8],
        offset: u32,
        kind: PcKind,
    ) -> Option<Position> {
        match kind {
            PcKind::Return => function.locate(position_before(&self.positions, offset)),
            PcKind::Own if self.late => self.certain(function, instructions, offset),
            PcKind::Own => {
                let found = position_before(&self.positions, offset.checked_add(1)?);
                // Before the first one it is in the prologue.
                function.locate(found.or(function.start))
            }
        }
    }

    /// What the positions before and after `offset` say both.
    fn certain(
        &self,
        function: &FunctionInfo,
        instructions: &[u8],
        offset: u32,
    ) -> Option<Position> {
        let at = |offset: u32| function.locate(position_before(&self.positions, offset + 1));
        let next = self
            .positions
            .partition_point(|position| position.pc_offset < offset);
        let next = self.positions.get(next)?.pc_offset;
        let mut place = at(next)?;
        if next == offset {
            return Some(place);
        }
        let flow = self.flow.get_or_init(|| Flow::new(instructions, [0]));
        for before in last_before(&self.positions, flow, offset)? {
            let other = match before {
                Some(before) => at(before)?,
                None => function.locate(function.start)?,
            };
            if other.line != place.line {
                return None;
            }
            if other != place {
                place.column = None;
            }
        }
        Some(place)
    }
}

/// Where the last positions are that control may have passed on its way to
/// `offset`; `None` among them: it has passed none. Nothing where that cannot be
/// told.
fn last_before(positions: &[CodePosition], flow: &Flow, offset: u32) -> Option<Vec<Option<u32>>> {
    let mut found = Vec::new();
    let mut work = vec![offset];
    let mut seen = Vec::new();
    while let Some(at) = work.pop() {
        let after = positions.partition_point(|position| position.pc_offset <= at);
        let before = positions[..after].last().map(|position| position.pc_offset);
        let block = flow.block_at(at);
        match block {
            Some(block) if before.is_none_or(|before| before < block.start) => {
                if seen.contains(&block.start) {
                    continue;
                }
                seen.push(block.start);
                work.extend(&block.sources);
                if block.falls_in {
                    work.push(block.start.checked_sub(1)?);
                }
                if block.start == 0 {
                    found.push(None);
                }
                if work.len() > MAX_JUMPS_BACK {
                    return None;
                }
            }
            _ => found.push(before),
        }
    }
    Some(found)
}

impl JsNames {
    /// The frame of `record`, which runs the full-codegen code `code`.
    pub(super) fn unoptimized(
        &mut self,
        heap: &Heap<'_>,
        record: &FrameRecord,
        (code, full): (&CachedCode, &FullCode),
        (offset, kind): (u32, PcKind),
    ) -> NamedFrame {
        let tier = Tier::Unoptimized;
        let key = FunctionKey::of_record(record);
        let function = key.and_then(|key| Some((key, self.functions.get(heap, key)?)));
        let Some((key, function)) = function else {
            return self.js_frame(heap, record, None, tier);
        };
        let walked = heap.layout.only_full_codegen();
        let at_tick = walked.map(|_| Tagged(record.bytecode_array));
        let place = full
            .is_of(heap, (key, at_tick), code)
            .then(|| full.place(&function, &code.instructions, offset, kind));
        let mut frame = function_frame(&function, None, Some(tier), false);
        frame.frame.position = place.flatten();
        frame
    }

    /// The function that full-codegen's `code` is the newest code of: the one that
    /// it was called with, or that ran it before.
    pub(super) fn unoptimized_function(
        &mut self,
        heap: &Heap<'_>,
        (code, full): (&CachedCode, &FullCode),
        offset: u32,
        entered: Tagged,
    ) -> Option<NamedFrame> {
        let entered = FunctionKey::of_function(heap, entered);
        let candidates = [entered.ok().flatten(), full.owner.get()];
        let mut candidates = candidates.into_iter().flatten();
        let key = candidates.find(|key| is_newest(heap, key.shared(), code))?;
        let function = self.functions.get(heap, key)?;
        let place = full.place(&function, &code.instructions, offset, PcKind::Own);
        let mut frame = function_frame(&function, None, Some(Tier::Unoptimized), false);
        frame.frame.position = place;
        Some(frame)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 00  nop
    /// 01  jmp 06
    /// 03  nop; nop; nop
    /// 06  test eax,eax
    /// 08  jz 03
    /// 0a  nop; ret
    const LOOP: [u8; 12] = [
        0x90, 0xeb, 0x03, 0x90, 0x90, 0x90, 0x85, 0xc0, 0x74, 0xf9, 0x90, 0xc3,
    ];

    fn positions(offsets: &[u32]) -> Vec<CodePosition> {
        let position = |&pc_offset| CodePosition {
            pc_offset,
            position: pc_offset * 10,
            is_statement: false,
        };
        offsets.iter().map(position).collect()
    }

    #[test]
    fn a_loop_is_reached_from_its_end() {
        let flow = Flow::new(&LOOP, [0]);
        let before = |offsets: &[u32], at| {
            let mut found = last_before(&positions(offsets), &flow, at).expect("told");
            found.sort_unstable();
            found
        };
        // The body's begin, from the jump at its end.
        assert_eq!(before(&[0, 5, 8], 3), [Some(8)]);
        assert_eq!(before(&[0, 5, 8], 5), [Some(5)]);
        // The condition, from the body and from before the loop.
        assert_eq!(before(&[0, 5, 8], 6), [Some(0), Some(5)]);
        assert_eq!(before(&[5, 8], 6), [None, Some(5)]);
        // Round the loop without a position on it.
        assert_eq!(before(&[0], 4), [Some(0)]);
        assert_eq!(before(&[], 4), [None]);
    }
}
