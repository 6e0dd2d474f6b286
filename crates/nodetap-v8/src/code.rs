//! Compiled code: from a pc to the object that describes it.

use rustc_hash::FxHashSet;

use crate::crankshaft::relocation::{self, CodePosition};
use crate::heap::{Error, Heap, Tagged};
use crate::source_position::{self, Entry};
use crate::vlq::Vlq;

/// How far back from a pc its code object is looked for. The largest distance
/// seen in real programs is 17 KB; V8 optimizes no function of more than 60 KB
/// of bytecode (`max_optimized_bytecode_size`).
const MAX_SCAN: u64 = 1 << 20;

/// How many code objects that end before a pc are passed on the way back. Code
/// lies end to end: where the nearest one does not contain the pc, none does;
/// but a few may be none that only look like one.
const MAX_BEFORE: u32 = 32;

/// Bytes of a `Code` object that all its fields of interest are in, in any
/// version.
const CODE_HEADER: usize = 96;

/// What instructions are aligned to at least (`kCodeAlignment`, `src/common/globals.h`).
const CODE_ALIGNMENT: u64 = 32;

/// Bytes of baseline code that its `BytecodeArray` is named in.
const PROLOGUE: usize = 128;

/// What compiled a piece of code (`src/objects/code-kind.h`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum CodeKind {
    /// Sparkplug
    Baseline,
    /// Maglev
    Maglev,
    /// TurboFan
    Turbofan,
    /// A regular expression, compiled
    RegExp,
    /// A function of a WebAssembly module
    Wasm,
    /// Full-codegen, before Ignition
    Unoptimized,
    /// Crankshaft, or TurboFan in its place, before Ignition
    Crankshaft,
    /// A builtin on the heap, by its number
    Builtin(u32),
    /// A bytecode's handler on the heap
    Handler,
    /// What no JavaScript function was compiled to, and what it is called:
    /// most are from before Ignition.
    Stub(&'static str),
    /// Anything else: builtins on the heap, stubs, wrappers
    Other,
}

/// A code object.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Code {
    /// The object: `Code`, which since V8 11 is apart from its instructions.
    pub object: Tagged,
    /// Where its instructions start.
    pub start: u64,
    /// Bytes of instructions, including the constants that follow them.
    pub size: u32,
    /// What compiled it.
    pub kind: CodeKind,
    /// Its `DeoptimizationData`, in baseline code the `BytecodeArray`.
    pub data: Tagged,
    /// Its source position table, in baseline code its bytecode offset table,
    /// before Ignition its relocation information.
    pub table: Tagged,
}

impl Code {
    /// Whether `pc` is in its instructions.
    pub fn contains(&self, pc: u64) -> bool {
        (self.start..self.start + u64::from(self.size)).contains(&pc)
    }
}

impl Heap<'_> {
    /// The code object whose instructions contain `pc`, found by going back
    /// from `pc` to the header that precedes them.
    ///
    /// `hint` is the map of instruction holders as found the last time; it
    /// saves looking at every word that could point to a map, and is set.
    ///
    /// # Errors
    /// Where there is none, or it cannot be read.
    pub fn code_at(&self, pc: u64, hint: &mut Option<Tagged>) -> Result<Code, Error> {
        let known = *hint;
        match (self.search_code(pc, hint), known) {
            // Each isolate of a process may have its own map.
            (Err(_), Some(_)) => {
                *hint = None;
                self.search_code(pc, hint)
            }
            (found, _) => found,
        }
    }

    fn search_code(&self, pc: u64, hint: &mut Option<Tagged>) -> Result<Code, Error> {
        const CHUNK: u64 = 4096;
        // Words that proved to be no map of an instruction holder.
        let mut others = FxHashSet::default();
        let mut before = 0;
        let mut end = pc & !7;
        let lowest = end.saturating_sub(MAX_SCAN);
        'back: while end > lowest {
            // Up to the page's start, so that a hole below does not hide it.
            let start = (end - 1) & !(CHUNK - 1);
            let words = self.memory.words(start, ((end - start) / 8) as usize)?;
            for (index, &word) in words.iter().enumerate().rev() {
                let map = Tagged(word);
                // Objects are aligned to 8 bytes.
                if word & 7 != 1 || hint.is_some_and(|hint| hint != map) || others.contains(&word) {
                    continue;
                }
                let holder = Tagged(start + index as u64 * 8 + 1);
                // Any byte may be the one that says what an object is, where
                // instance types have no more (before V8 7).
                if self.instance_type(holder) != Ok(self.layout.types.instruction_stream)
                    || !self.is_map(map)
                {
                    others.insert(word);
                    continue;
                }
                if let Ok(code) = self.code_of(holder) {
                    if code.contains(pc) {
                        *hint = Some(map);
                        return Ok(code);
                    }
                    before += 1;
                    if before >= MAX_BEFORE {
                        break 'back;
                    }
                }
            }
            end = start;
        }
        Err(Error::Unbelievable("a pc in no code object"))
    }

    /// The code object of `holder`, an object that holds instructions.
    fn code_of(&self, holder: Tagged) -> Result<Code, Error> {
        let layout = &self.layout.code;
        let types = &self.layout.types;
        let object = match (layout.stream_code, layout.code_stream) {
            (Some(to_code), Some(to_stream)) => {
                let object = self.tagged(holder.field(to_code)?)?;
                self.expect(object, types.code, "a Code")?;
                if self.tagged(object.field(to_stream)?)? != holder {
                    return Err(Error::Unbelievable("a Code that is not its stream's"));
                }
                object
            }
            _ => holder,
        };
        self.code(object)
    }

    /// Reads the `Code` at `object` again, to see whether it still is what it
    /// was.
    ///
    /// # Errors
    /// Where it is none, or cannot be read.
    pub fn code(&self, object: Tagged) -> Result<Code, Error> {
        let layout = &self.layout.code;
        self.expect(object, self.layout.types.code, "a Code")?;
        // All at once: this is asked often.
        let address = object.address()?;
        let last = layout
            .flags
            .max(layout.instruction_size)
            .max(layout.instruction_start.map_or(0, |start| start + 4));
        let mut header = [0; CODE_HEADER];
        let used = header
            .get_mut(..last as usize + 4)
            .ok_or(Error::Unbelievable("a Code larger than any"))?;
        self.memory.read(address, used)?;
        let u32_at = |offset: u32| -> u32 {
            let at = offset as usize;
            u32::from_le_bytes(header[at..at + 4].try_into().expect("4 bytes"))
        };
        let u64_at = |offset: u32| -> u64 {
            let at = offset as usize;
            u64::from_le_bytes(header[at..at + 8].try_into().expect("8 bytes"))
        };
        let mut code = Code {
            object,
            start: match layout.instruction_start {
                Some(offset) => u64_at(offset),
                None => address + u64::from(layout.instructions),
            },
            size: u32_at(layout.instruction_size),
            kind: self.code_kind(u32_at(layout.flags) & layout.kind_mask),
            data: Tagged(u64_at(layout.deoptimization_or_interpreter_data)),
            table: Tagged(u64_at(layout.position_table)),
        };
        if !code.start.is_multiple_of(CODE_ALIGNMENT) {
            return Err(Error::Unbelievable("code that is not aligned"));
        }
        if let Some(offset) = layout.builtin_index
            && u32_at(layout.flags) & layout.kind_mask == layout.kinds.builtin
        {
            code.kind = CodeKind::Builtin(self.memory.u32(object.field(offset)?)?);
        }
        if code.kind == CodeKind::Crankshaft && self.is_of_bytecode(&code)? {
            code.kind = CodeKind::Turbofan;
        }
        if code.kind == CodeKind::Baseline && !layout.has_bytecode {
            code.data = self.bytecode_in(&code)?;
        }
        Ok(code)
    }

    /// Whether TurboFan made the optimized `code`, where it does so of bytecode
    /// and Crankshaft makes the other.
    fn is_of_bytecode(&self, code: &Code) -> Result<bool, Error> {
        match &self.layout.code.crankshaft {
            Some(layout) if layout.turbofan_of_bytecode => self.is_turbofanned(code),
            _ => Ok(false),
        }
    }

    /// The `BytecodeArray` that the instructions of baseline code name: the
    /// first they do is hand it to what makes their frame
    /// (`BaselineCompiler::Prologue`, `src/baseline/baseline-compiler.cc`).
    fn bytecode_in(&self, code: &Code) -> Result<Tagged, Error> {
        let length = PROLOGUE.min(code.size as usize);
        let instructions = self.memory.bytes(code.start, length)?;
        instructions
            .windows(10)
            .filter_map(|bytes| match *bytes {
                // mov r64,imm64
                [0x48 | 0x49, 0xb8..=0xbf, ref number @ ..] => {
                    Some(Tagged(u64::from_le_bytes(number.try_into().ok()?)))
                }
                _ => None,
            })
            .find(|&word| {
                let found = self.instance_type(word);
                found == Ok(self.layout.types.bytecode_array)
            })
            .ok_or(Error::Unbelievable("baseline code without bytecode"))
    }

    fn code_kind(&self, kind: u32) -> CodeKind {
        let kinds = &self.layout.code.kinds;
        match kind {
            kind if kind == kinds.baseline => CodeKind::Baseline,
            kind if kind == kinds.maglev => CodeKind::Maglev,
            kind if kind == kinds.turbofan => CodeKind::Turbofan,
            kind if kind == kinds.regexp => CodeKind::RegExp,
            kind if kind == kinds.wasm_function => CodeKind::Wasm,
            kind if kind == kinds.js_to_wasm_function => CodeKind::Stub("js-to-wasm"),
            kind if kind == kinds.unoptimized => CodeKind::Unoptimized,
            kind if kind == kinds.crankshaft => CodeKind::Crankshaft,
            kind if kind == kinds.bytecode_handler => CodeKind::Handler,
            kind => match kinds.stubs.get((kind >> kinds.kind_shift) as usize) {
                Some(name) => CodeKind::Stub(name),
                None => CodeKind::Other,
            },
        }
    }

    /// The source positions of optimized code, by offset from its start.
    ///
    /// # Errors
    /// Where they cannot be read.
    pub fn code_positions(&self, code: &Code) -> Result<Vec<Entry>, Error> {
        let table = self.position_table(code.table)?;
        Ok(source_position::decode(&table, self.layout.position_format))
    }

    /// The source positions of full-codegen's code and Crankshaft's, by offset
    /// from its start.
    ///
    /// # Errors
    /// Where they cannot be read.
    pub fn relocated_positions(&self, code: &Code) -> Result<Vec<CodePosition>, Error> {
        let Some(format) = self.crankshaft()?.relocation else {
            let entries = self.code_positions(code)?;
            return Ok(relocation::in_order(&entries));
        };
        let info = self.byte_array(code.table)?;
        relocation::positions(&info, format, code.size).ok_or(Error::Unbelievable(
            "relocation information that does not decode",
        ))
    }

    /// Where the calls of baseline code return to, in bytes from its start, and
    /// the bytecodes that they are of, by their offset: for versions whose table
    /// has no more ([`CodeLayout::baseline_calls_only`]). Of two calls that
    /// return to one place the first counts.
    ///
    /// [`CodeLayout::baseline_calls_only`]: crate::layout::CodeLayout::baseline_calls_only
    ///
    /// # Errors
    /// Where they cannot be read.
    pub fn baseline_calls(&self, code: &Code) -> Result<Vec<(u32, u32)>, Error> {
        let table = self.byte_array(code.table)?;
        Ok(decode_baseline_calls(&table))
    }

    /// Where the code of each bytecode ends, in bytes from the start of
    /// baseline code; the first is the prologue's end, before any bytecode
    /// (`BytecodeOffsetIterator`, `src/baseline/bytecode-offset-iterator.h`).
    ///
    /// # Errors
    /// Where it cannot be read.
    pub fn baseline_ends(&self, code: &Code) -> Result<Vec<u32>, Error> {
        let table = self.byte_array(code.table)?;
        let mut bytes = Vlq::new(&table);
        let mut ends = Vec::with_capacity(table.len());
        let mut end = 0_u32;
        while let Some(delta) = bytes.unsigned() {
            end = end.saturating_add(u32::try_from(delta).unwrap_or(u32::MAX));
            ends.push(end);
        }
        Ok(ends)
    }
}

/// Pairs of how far it is from one call to the next, in bytes of machine code
/// and of bytecode (`BytecodeOffsetTableBuilder` in
/// `src/baseline/baseline-compiler.h` of 9.0).
fn decode_baseline_calls(table: &[u8]) -> Vec<(u32, u32)> {
    let mut bytes = Vlq::new(table);
    let mut calls: Vec<(u32, u32)> = Vec::new();
    let (mut pc, mut bytecode) = (0_u32, 0_u32);
    let add = |sum: u32, delta: u64| sum.wrapping_add(delta as u32);
    while let (Some(to_pc), Some(to_bytecode)) = (bytes.unsigned(), bytes.unsigned()) {
        (pc, bytecode) = (add(pc, to_pc), add(bytecode, to_bytecode));
        if calls.last().is_none_or(|&(last, _)| last < pc) {
            calls.push((pc, bytecode));
        }
    }
    calls
}

/// The index of the bytecode whose baseline code contains the byte before
/// `pc_offset` (a return address: the call is before it) or, for
/// `pc_offset + 1` of a thread's own pc, the one that executes.
/// `None` in the prologue, and past the end.
pub fn baseline_bytecode_index(ends: &[u32], pc_offset: u32) -> Option<usize> {
    let index = ends.partition_point(|&end| end < pc_offset);
    if index >= ends.len() {
        return None;
    }
    index.checked_sub(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calls_of_baseline_code_are_pairs_of_distances() {
        let table = [20, 4, 0xac, 0x02, 3, 0, 9, 7, 0x80, 0x01, 5];
        let calls = decode_baseline_calls(&table);
        assert_eq!(calls, [(20, 4), (320, 7), (327, 144)]);
        assert_eq!(decode_baseline_calls(&table[..1]), []);
    }

    #[test]
    fn a_return_address_belongs_to_the_bytecode_before_it() {
        // Prologue to 20, then three bytecodes.
        let ends = [20, 30, 45, 50];
        assert_eq!(baseline_bytecode_index(&ends, 20), None);
        assert_eq!(baseline_bytecode_index(&ends, 21), Some(0));
        assert_eq!(baseline_bytecode_index(&ends, 30), Some(0));
        assert_eq!(baseline_bytecode_index(&ends, 31), Some(1));
        assert_eq!(baseline_bytecode_index(&ends, 50), Some(2));
        assert_eq!(baseline_bytecode_index(&ends, 51), None);
        assert_eq!(baseline_bytecode_index(&[], 1), None);
    }
}
