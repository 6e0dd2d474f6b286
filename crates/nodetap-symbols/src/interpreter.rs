//! Which bytecode the interpreter executes while one of its handlers runs.
//!
//! A frame's slot has the offset of the last bytecode that called something.
//! The live one is in a register, while another has the bytecode array and r15
//! the dispatch table (`kInterpreterBytecodeOffsetRegister`, `…ArrayRegister`,
//! `…DispatchTableRegister` in `src/codegen/x64/register-x64.h`). But a handler
//! advances it to the next bytecode before it jumps there, and looks ahead
//! (`InterpreterAssembler::Dispatch`, `::StarDispatchLookahead` in
//! `src/interpreter/interpreter-assembler.cc`), so the bytecode is the one whose
//! handler it is that runs.

use std::rc::Rc;

use nodetap_sampler::raw::{FrameRecord, RawSampleRef};
use nodetap_sampler::target::Target;
use nodetap_v8::bytecode::{BytecodeSizes, Scale};
use nodetap_v8::{FunctionId, Heap, Memory, Tagged};
use rustc_hash::FxHashMap;

/// How many bytecodes the register may be ahead.
const LOOKAHEAD: usize = 2;
/// Arrays are forgotten beyond this many.
const REMEMBERED: usize = 4096;

/// The bytecodes of functions that ran in the interpreter.
#[derive(Default)]
pub struct Interpreter {
    /// By where the array is and the function it is of.
    arrays: FxHashMap<(u64, u64, u32, u32), Option<Rc<Bytecodes>>>,
}

/// The handler that a thread is in.
#[derive(Clone, Copy, Debug)]
pub enum RunningHandler<'a> {
    /// An embedded builtin. Bytecodes may share one, and V8 may have mapped it
    /// several times.
    Named(&'a str),
    /// Code on the heap, by its first instruction.
    At(u64),
}

impl RunningHandler<'_> {
    /// Whether it is the one whose first instruction is at `address`.
    fn is_at(self, target: &Target, address: u64) -> bool {
        match self {
            RunningHandler::Named(name) => {
                let builtin = target.builtins.at(address);
                builtin.and_then(|builtin| builtin.name) == Some(name)
            }
            RunningHandler::At(start) => address == start,
        }
    }
}

/// Where the offset is of the bytecode that is executed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LiveOffset {
    /// In the interpreter's register: the offset as V8 counts it.
    InRegister(i64),
    /// In the frame's slot: the handler has called something.
    InSlot,
    /// In the register, but the bytecode is not there any more.
    Unknown,
}

struct Bytecodes {
    bytes: Vec<u8>,
    offsets: Vec<u32>,
}

impl Bytecodes {
    /// Which entry of the dispatch table has the handler of the bytecode at
    /// `offset`: the wide forms come after the plain ones
    /// (`Interpreter::GetDispatchTableIndex` in `src/interpreter/interpreter.cc`).
    fn handler_index(&self, sizes: &BytecodeSizes, offset: u32) -> Option<u64> {
        let (scale, bytecode) = sizes.bytecode(self.bytes.get(offset as usize..)?)?;
        let first = match scale {
            Scale::Single => 0,
            Scale::Double => 256,
            Scale::Quadruple => 512,
        };
        Some(first + u64::from(bytecode))
    }
}

impl Interpreter {
    /// Where the interpreted frame of `record` is while it executes a handler on
    /// top of it.
    pub fn live_offset(
        &mut self,
        target: &Target,
        sample: &RawSampleRef<'_>,
        record: &FrameRecord,
        running: RunningHandler<'_>,
    ) -> LiveOffset {
        let array = target.layout.interpreter.bytecode_array;
        if sample.registers.numbered(array) != Some(record.bytecode_array) {
            return LiveOffset::InSlot;
        }
        match self.in_register(target, sample, record, running) {
            Some(offset) => LiveOffset::InRegister(offset),
            // Handlers may use the register for something else.
            None if self.has_bytecodes(target, record) => LiveOffset::InSlot,
            None => LiveOffset::Unknown,
        }
    }

    fn has_bytecodes(&mut self, target: &Target, record: &FrameRecord) -> bool {
        let heap = Heap::new(&target.memory, &target.layout);
        self.bytecodes(target, &heap, record).is_some()
    }

    fn in_register(
        &mut self,
        target: &Target,
        sample: &RawSampleRef<'_>,
        record: &FrameRecord,
        running: RunningHandler<'_>,
    ) -> Option<i64> {
        let registers = sample.registers;
        let numbers = &target.layout.interpreter;
        let heap = Heap::new(&target.memory, &target.layout);
        let raw = i64::try_from(registers.numbered(numbers.bytecode_offset)?).ok()?;
        let at = heap.bytecode_offset(raw)?;
        let sizes = target.bytecode_sizes.as_ref()?;
        let bytecodes = self.bytecodes(target, &heap, record)?;
        let after = bytecodes.offsets.partition_point(|&offset| offset <= at);
        let candidates = &bytecodes.offsets[after.saturating_sub(LOOKAHEAD + 1)..after];
        let executed = candidates.iter().rev().find(|&&offset| {
            bytecodes
                .handler_index(sizes, offset)
                .and_then(|index| {
                    let mut address = [0; 8];
                    let entry = registers.r15.checked_add(8 * index)?;
                    target.memory.read(entry, &mut address).ok()?;
                    Some(u64::from_le_bytes(address))
                })
                .is_some_and(|handler| running.is_at(target, handler))
        });
        // After a jump backwards it is the jump's target.
        let offset = *executed.or(candidates.last())?;
        Some(raw + i64::from(offset) - i64::from(at))
    }

    fn bytecodes(
        &mut self,
        target: &Target,
        heap: &Heap<'_>,
        record: &FrameRecord,
    ) -> Option<Rc<Bytecodes>> {
        let key = (
            record.bytecode_array,
            record.shared,
            record.script_id,
            record.literal_id,
        );
        if self.arrays.len() >= REMEMBERED {
            self.arrays.clear();
        }
        self.arrays
            .entry(key)
            .or_insert_with(|| {
                let sizes = target.bytecode_sizes.as_ref()?;
                // There may be another function's where this one's was.
                let array = own_bytecode(heap, record)?;
                let bytes = heap.bytecodes(array).ok()?;
                if own_bytecode(heap, record)? != array {
                    return None;
                }
                let offsets = sizes.offsets(&bytes);
                Some(Rc::new(Bytecodes { bytes, offsets }))
            })
            .clone()
    }
}

/// Where the bytecode is of the function that `record` names, if that function
/// still is where it was.
fn own_bytecode(heap: &Heap<'_>, record: &FrameRecord) -> Option<Tagged> {
    let shared = Tagged(record.shared);
    let array = heap.bytecode_of(shared).ok()?;
    let id = FunctionId {
        script: record.script_id as i32,
        literal: record.literal_id as i32,
    };
    (heap.function_id(shared) == Ok(Some(id))).then_some(array)
}
