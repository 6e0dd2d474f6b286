//! Code of Maglev and TurboFan: which functions are active at a pc in it.
//!
//! A call's return address has a deoptimization entry, which tells it as V8's
//! own stack traces do. Other pcs are told by the source position table; where
//! that does not cover them, by what leads there; and where Maglev wrote none,
//! by the deoptimization entries around them.

use std::cell::{OnceCell, RefCell};
use std::rc::Rc;

use nodetap_v8::code::{Code, CodeKind};
use nodetap_v8::deoptimization::DeoptimizationData;
use nodetap_v8::safepoint::Safepoint;
use nodetap_v8::source_position::{Entry, SourcePosition};
use nodetap_v8::{Error, Heap, Tagged};
use rustc_hash::FxHashMap;

use super::PcKind;
use super::active::{ActiveFunction, common};
use super::deopt_frames::{self, Anchors, Reading, WithoutPositions};
use super::flow::Flow;
use super::functions::{FunctionInfo, Functions};
use super::loops::Loops;

/// The functions that code was made of, by the addresses that they had when
/// it was read; the garbage collector may have moved them since. `None` for
/// builtins, which have no script.
pub type KnownFunctions = FxHashMap<Tagged, Option<Rc<FunctionInfo>>>;

/// The functions that are active at one place, innermost first.
type Stack = Rc<[ActiveFunction]>;

/// More bytes than there are before the first position, where each node's code has one:
/// the code that makes the frame and checks for a stack overflow.
const LONGEST_PROLOGUE: i64 = 64;
/// More jumps than lead from one piece of seldom needed code to another.
const MAX_JUMPS_BACK: u32 = 64;

/// What is known of a piece of optimized code.
#[derive(Debug)]
pub struct OptimizedCode {
    /// Source positions by offset; empty where V8 wrote none.
    positions: Vec<Entry>,
    /// Whether these are of calls alone, and say nothing of what is between.
    of_calls: bool,
    data: DeoptimizationData,
    functions: KnownFunctions,
    safepoints: Vec<Safepoint>,
    flow: OnceCell<Flow>,
    loops: OnceCell<Loops>,
    anchors: OnceCell<Anchors>,
    /// What was found before.
    active: RefCell<FxHashMap<(u32, PcKind), Stack>>,
}

impl OptimizedCode {
    /// Reads what describes `code`.
    ///
    /// # Errors
    /// Where it cannot be read.
    pub fn read(
        heap: &Heap<'_>,
        functions: &mut Functions,
        code: &Code,
    ) -> Result<OptimizedCode, Error> {
        let data = heap.deoptimization_data(code)?;
        let mut named = KnownFunctions::default();
        for shared in data.functions() {
            if let Ok(function) = functions.at(heap, shared) {
                named.insert(shared, function);
            }
        }
        let positions = heap.code_positions(code)?;
        let has_start = positions
            .first()
            .is_some_and(|first| first.code_offset == 0);
        Ok(OptimizedCode {
            of_calls: heap.layout.code.positions_of_calls && !has_start,
            positions,
            functions: named,
            safepoints: heap.safepoints(code).unwrap_or_else(|error| {
                tracing::debug!(?code, %error, "safepoints not read");
                Vec::new()
            }),
            data,
            flow: OnceCell::new(),
            loops: OnceCell::new(),
            anchors: OnceCell::new(),
            active: RefCell::default(),
        })
    }

    /// The function that the code was compiled for.
    pub fn function(&self) -> Option<&Rc<FunctionInfo>> {
        self.functions.get(&self.data.shared)?.as_ref()
    }

    /// Whether there is a deoptimization entry for a call that returns to `offset`.
    pub fn has_entry(&self, offset: u32) -> bool {
        self.entry(offset, PcKind::Return).is_some()
    }

    /// The functions that are active at `offset` of `code`, innermost first,
    /// as far as they are certain; the last is the code's own. Empty only
    /// where that is not known. `instructions` are those of `code`.
    pub fn active(
        &self,
        reading: &mut Reading<'_>,
        code: &Code,
        instructions: &[u8],
        offset: u32,
        kind: PcKind,
    ) -> Stack {
        let key = (offset, kind);
        if let Some(known) = self.active.borrow().get(&key) {
            return known.clone();
        }
        let entry = self.entry(offset, kind);
        let found = match entry {
            Some(entry) => {
                deopt_frames::at_entry(reading, code, &self.data, &self.functions, entry)
            }
            None => None,
        };
        let found = match found {
            Some(found) => Some(found),
            None => {
                let at = match kind {
                    PcKind::Return => offset.saturating_sub(1),
                    PcKind::Own => offset,
                };
                self.between_entries(reading, code, instructions, at)
            }
        };
        let own = self.function();
        let is_own = |active: &ActiveFunction| {
            own.is_some_and(|own| own.id.is_some() && own.id == active.function.id)
        };
        let mut active = found
            .filter(|found| found.first().is_some_and(is_own))
            .or_else(|| {
                let own = own?;
                let start = own.start.filter(|_| self.is_in_prologue(offset, kind));
                Some(vec![ActiveFunction::new(own.clone(), start)])
            })
            .unwrap_or_default();
        active.reverse();
        let active: Stack = active.into();
        // Positions of bytecode may be there the next time.
        let complete =
            |active: &ActiveFunction| active.position.is_some() || active.function.script.is_none();
        let is_certain = entry.is_none() && !reading.now.late;
        if is_certain || active.iter().all(complete) {
            self.active.borrow_mut().insert(key, active.clone());
        }
        active
    }

    /// The deoptimization entry of the call that returns to `offset`, or of
    /// the exit that `offset` is in.
    fn entry(&self, offset: u32, kind: PcKind) -> Option<u32> {
        match kind {
            PcKind::Own => self.data.exit_at(offset),
            PcKind::Return => {
                let is_at = |safepoint: &&Safepoint| {
                    safepoint.pc == offset || safepoint.trampoline == Some(offset)
                };
                match self.safepoints.iter().find(is_at) {
                    Some(safepoint) => Some(safepoint.entry),
                    None => self.data.exit_at(offset.checked_sub(1)?),
                }
            }
        }
    }

    /// Whether the function has only been entered at `offset`. That has the position
    /// where the function starts: in its table, where V8 writes all that it knows
    /// (`CodeGenerator::AssembleCode` in `src/compiler/backend/code-generator.cc`), else
    /// in none.
    fn is_in_prologue(&self, offset: u32, kind: PcKind) -> bool {
        // Code for on-stack replacement is entered in the midst of its function.
        kind == PcKind::Own
            && self.data.osr_entry.is_none()
            && precedes_positions(&self.positions, offset)
    }

    fn between_entries(
        &self,
        reading: &mut Reading<'_>,
        code: &Code,
        instructions: &[u8],
        at: u32,
    ) -> Option<Vec<ActiveFunction>> {
        if self.of_calls {
            let loops = self.loops.get_or_init(|| {
                let entries = [0].into_iter().chain(self.data.osr_entry);
                let returns = self.safepoints.iter().map(|point| point.pc);
                Loops::new(instructions, entries, returns)
            });
            let described = (code, &self.data);
            return loops.active(reading, described, &self.functions, &self.safepoints, at);
        }
        let flow = self.flow.get_or_init(|| self.follow(instructions));
        if self.positions.is_empty() {
            let calls = self.safepoints.iter().map(|point| (point.pc, point.entry));
            let anchors = self
                .anchors
                .get_or_init(|| Anchors::new(flow, &self.data, calls));
            let without = WithoutPositions {
                code,
                data: &self.data,
                known: &self.functions,
                flow,
                anchors,
            };
            return without.at(reading, at);
        }
        let positions = positions_at(&self.positions, flow, code.kind, at);
        let mut stacks = positions
            .into_iter()
            .map(|position| self.inlining_stack(position));
        let first = stacks.next()??;
        stacks.try_fold(first, |one, other| Some(common(one, &other?)))
    }

    fn follow(&self, instructions: &[u8]) -> Flow {
        // What follows are the exits, and constants.
        let exits = self.data.exit_start.map_or(usize::MAX, |at| at as usize);
        let end = instructions.len().min(exits);
        let returns = self.safepoints.iter().map(|point| point.pc);
        let entries = [0].into_iter().chain(self.data.osr_entry).chain(returns);
        Flow::new(&instructions[..end], entries)
    }

    /// The functions that are active at `position`, outermost first.
    fn inlining_stack(&self, position: SourcePosition) -> Option<Vec<ActiveFunction>> {
        let mut active = Vec::new();
        for inlined in self.data.inlining_stack(position).ok()?.iter().rev() {
            // A builtin that was inlined has no script, and no place in one.
            if let Some(function) = self.functions.get(&inlined.shared)? {
                active.push(ActiveFunction::new(function.clone(), inlined.script_offset));
            }
        }
        Some(active)
    }
}

/// Whether the instruction at `at` comes before all that have a position, and these
/// begin where a prologue may end.
fn precedes_positions(table: &[Entry], at: u32) -> bool {
    table.first().is_some_and(|first| {
        i64::from(at) < first.code_offset && first.code_offset <= LONGEST_PROLOGUE
    })
}

/// The positions that the instruction at `at` may have: the table's, unless
/// control gets there from somewhere that has another.
pub fn positions_at(table: &[Entry], flow: &Flow, kind: CodeKind, at: u32) -> Vec<SourcePosition> {
    let mut found = Vec::new();
    let mut seen = Vec::new();
    let mut jumps = 0;
    let mut work = vec![at];
    while let Some(mut at) = work.pop() {
        let after = table.partition_point(|entry| entry.code_offset <= i64::from(at));
        let Some(entry) = table[..after].last() else {
            // Before the first position: the function's prologue.
            return Vec::new();
        };
        let block = loop {
            match flow.block_at(at) {
                Some(block) if i64::from(block.start) > entry.code_offset => {
                    if !block.falls_in {
                        break Some(block);
                    }
                    at = block.start - 1;
                }
                _ => break None,
            }
        };
        let Some(block) = block else {
            found.push(entry.position);
            continue;
        };
        // Control gets here by jumps alone, and has passed no position since.
        // TurboFan writes none for what has the same as what precedes it by
        // address, so here that may be right as well.
        let is_last = after == table.len();
        if kind == CodeKind::Turbofan || !is_last {
            found.push(entry.position);
        }
        if seen.contains(&block.start) {
            continue;
        }
        seen.push(block.start);
        if block.sources.is_empty() && is_last {
            return Vec::new();
        }
        for &source in &block.sources {
            jumps += 1;
            if jumps > MAX_JUMPS_BACK {
                return Vec::new();
            }
            work.push(source);
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(code_offset: i64, script_offset: u32) -> Entry {
        Entry {
            code_offset,
            position: SourcePosition {
                script_offset: Some(script_offset),
                inlining_id: None,
            },
        }
    }

    /// 00  test eax,eax
    /// 02  jz 0d
    /// 04  nop
    /// 05  test eax,eax
    /// 07  jz 10
    /// 09  nop; nop; nop
    /// 0c  ret
    /// 0d  nop
    /// 0e  jmp 04
    /// 10  nop
    /// 11  jmp 09
    const CODE: [u8; 0x13] = [
        0x85, 0xc0, 0x74, 0x09, 0x90, 0x85, 0xc0, 0x74, 0x07, 0x90, 0x90, 0x90, 0xc3, 0x90, 0xeb,
        0xf4, 0x90, 0xeb, 0xf6,
    ];

    #[test]
    fn code_out_of_line_has_the_position_of_what_jumps_there() {
        let flow = Flow::new(&CODE, [0]);
        let table = [entry(0, 100), entry(5, 200), entry(9, 300)];
        let at = |kind, at| -> Vec<u32> {
            positions_at(&table, &flow, kind, at)
                .into_iter()
                .map(|position| position.script_offset.unwrap())
                .collect()
        };
        for kind in [CodeKind::Maglev, CodeKind::Turbofan] {
            assert_eq!(at(kind, 2), [100]);
            assert_eq!(at(kind, 4), [100]);
            assert_eq!(at(kind, 7), [200]);
            assert_eq!(at(kind, 0xc), [300]);
        }
        assert_eq!(at(CodeKind::Maglev, 0xd), [100]);
        assert_eq!(at(CodeKind::Maglev, 0xe), [100]);
        assert_eq!(at(CodeKind::Maglev, 0x10), [200]);
        assert_eq!(at(CodeKind::Turbofan, 0x11), [300, 200]);
        assert!(!precedes_positions(&table, 0));
        let table = [entry(5, 200)];
        assert!(precedes_positions(&table, 4) && !precedes_positions(&table, 5));
        assert!(!precedes_positions(&[entry(400, 200)], 4) && !precedes_positions(&[], 4));
        assert_eq!(positions_at(&table, &flow, CodeKind::Maglev, 2), []);
        assert_eq!(positions_at(&table, &flow, CodeKind::Maglev, 0xd), []);
    }
}
