//! Code of TurboFan's that V8 has deoptimized and emptied, before it was read.
//!
//! What was inlined in it is gone with its deoptimization data. Its source positions and
//! safepoints are not: they tell where the code's own function was.

use std::cell::OnceCell;

use nodetap_v8::code::{Code, CodeKind};
use nodetap_v8::safepoint::Safepoint;
use nodetap_v8::source_position::Entry;
use nodetap_v8::{Error, Heap};

use super::PcKind;
use super::flow::Flow;
use super::optimized::positions_at;

/// What is left of it.
#[derive(Debug)]
pub struct GivenUpCode {
    positions: Vec<Entry>,
    /// Whether these are of calls alone, and say nothing of what is between.
    of_calls: bool,
    /// Of calls that could be deoptimized.
    safepoints: Vec<Safepoint>,
    flow: OnceCell<Flow>,
}

impl GivenUpCode {
    /// Reads what is left of `code`.
    ///
    /// # Errors
    /// Where it cannot be read.
    pub fn read(heap: &Heap<'_>, code: &Code) -> Result<GivenUpCode, Error> {
        Ok(GivenUpCode {
            positions: heap.code_positions(code)?,
            of_calls: heap.layout.code.positions_of_calls,
            safepoints: heap.safepoints(code)?,
            flow: OnceCell::new(),
        })
    }

    /// Whether a call that could be deoptimized returns to `offset`.
    pub fn returns_to(&self, offset: u32) -> bool {
        self.call_at(offset).is_some()
    }

    /// Where the call returns that did so to `offset`: there, or elsewhere before V8 replaced the
    /// return address.
    fn call_at(&self, offset: u32) -> Option<u32> {
        let mut calls = self.safepoints.iter();
        let call = calls.find(|call| call.pc == offset || call.trampoline == Some(offset))?;
        Some(call.pc)
    }

    /// Where in its script the code's own function is at `offset` of its `instructions`,
    /// in UTF-16 units. `None` where a function is active there that was inlined, or where
    /// that is not certain.
    pub fn position(&self, instructions: &[u8], offset: u32, kind: PcKind) -> Option<u32> {
        let at = match kind {
            PcKind::Return => self.call_at(offset)?.checked_sub(1)?,
            PcKind::Own if self.of_calls => return None,
            PcKind::Own => offset,
        };
        let flow = self.flow.get_or_init(|| {
            let returns = self.safepoints.iter().map(|point| point.pc);
            Flow::new(instructions, [0].into_iter().chain(returns))
        });
        let mut found = positions_at(&self.positions, flow, CodeKind::Turbofan, at).into_iter();
        let first = found.next()?;
        let is_certain = first.inlining_id.is_none() && found.all(|other| other == first);
        first.script_offset.filter(|_| is_certain)
    }
}

#[cfg(test)]
mod tests {
    use nodetap_v8::source_position::SourcePosition;

    use super::*;

    /// 00  call; 05  nop; 06  call; 0b  ret
    const CODE: [u8; 12] = [0xe8, 0, 0, 0, 0, 0x90, 0xe8, 0, 0, 0, 0, 0xc3];

    fn code(of_calls: bool) -> GivenUpCode {
        let entry = |code_offset, script_offset, inlining_id| Entry {
            code_offset,
            position: SourcePosition {
                script_offset: Some(script_offset),
                inlining_id,
            },
        };
        let call = |pc, trampoline| Safepoint {
            pc,
            trampoline,
            entry: 0,
        };
        GivenUpCode {
            positions: vec![entry(0, 100, None), entry(6, 200, Some(0))],
            of_calls,
            safepoints: vec![call(5, Some(40)), call(11, None)],
            flow: OnceCell::new(),
        }
    }

    #[test]
    fn the_codes_own_function_has_a_place_where_nothing_was_inlined() {
        let code = code(false);
        let at = |offset, kind| code.position(&CODE, offset, kind);
        assert_eq!(at(5, PcKind::Return), Some(100));
        // V8 has replaced the return address.
        assert_eq!(at(40, PcKind::Return), Some(100));
        assert_eq!(at(11, PcKind::Return), None, "of what was inlined");
        assert_eq!(at(6, PcKind::Return), None, "no call returns there");
        assert_eq!(at(5, PcKind::Own), Some(100));
        assert_eq!(at(6, PcKind::Own), None);
        assert!(code.returns_to(40) && !code.returns_to(6));
    }

    #[test]
    fn positions_of_calls_say_nothing_of_what_is_between() {
        let code = code(true);
        assert_eq!(code.position(&CODE, 5, PcKind::Return), Some(100));
        assert_eq!(code.position(&CODE, 5, PcKind::Own), None);
    }
}
