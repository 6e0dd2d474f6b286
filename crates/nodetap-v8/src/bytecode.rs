//! `BytecodeArray`: where the bytecodes stand in the source, and how long
//! each of them is.

use std::ops::Range;

use crate::heap::{Error, Heap, Tagged};
use crate::layout::{BytecodeLayout, LoopBytecodes};
use crate::source_position::{self, Entry};

/// `BaselineData.baseline_code`, `.data` (`src/objects/shared-function-info.tq`
/// of V8 9).
const BASELINE_DATA_CODE: u32 = 8;
const BASELINE_DATA_DATA: u32 = 16;

impl Heap<'_> {
    /// The offset of the bytecode that an interpreted frame executes, from the
    /// value its frame or register has: V8 counts from the tagged start of the
    /// `BytecodeArray` (`UnoptimizedFrameInfo`, `src/execution/frames.cc`).
    /// `None` where the value is before the first bytecode.
    pub fn bytecode_offset(&self, raw: i64) -> Option<u32> {
        let first = i64::from(self.layout.bytecode.data) - 1;
        u32::try_from(raw.checked_sub(first)?).ok()
    }

    /// The `BytecodeArray` of the function of `shared`
    /// (`SharedFunctionInfo::GetBytecodeArray`).
    ///
    /// # Errors
    /// Where it has none: it is a builtin, was never compiled, or its bytecode
    /// was given up.
    pub fn bytecode_of(&self, shared: Tagged) -> Result<Tagged, Error> {
        let types = &self.layout.types;
        self.expect(shared, types.shared_function_info, "a SharedFunctionInfo")?;
        let mut data = self.tagged(shared.field(self.layout.shared.function_data)?)?;
        let found = self.instance_type(data)?;
        if found == types.code {
            // Baseline code has it in place of deoptimization data.
            let offset = self.layout.code.deoptimization_or_interpreter_data;
            data = self.tagged(data.field(offset)?)?;
        } else if Some(found) == types.baseline_data {
            data = self.tagged(data.field(BASELINE_DATA_DATA)?)?;
        }
        // `InterpreterData.bytecode_array`, with a copy of the interpreter's
        // entry for each function (`--interpreted-frames-native-stack`).
        if self.instance_type(data)? == types.interpreter_data {
            data = self.tagged(data.field(8)?)?;
        }
        self.expect(data, types.bytecode_array, "a BytecodeArray")?;
        Ok(data)
    }

    /// The code that the function of `shared` has of its own: baseline code,
    /// before Ignition full-codegen's.
    ///
    /// # Errors
    /// Where it has none, or that cannot be read.
    pub fn newest_code(&self, shared: Tagged) -> Result<Tagged, Error> {
        if let Some(code) = self.layout.shared.code {
            return self.tagged(shared.field(code)?);
        }
        let data = self.tagged(shared.field(self.layout.shared.function_data)?)?;
        if Some(self.instance_type(data)?) == self.layout.types.baseline_data {
            return self.tagged(data.field(BASELINE_DATA_CODE)?);
        }
        Ok(data)
    }

    /// How many bytes of bytecode `array` has.
    ///
    /// # Errors
    /// Where `array` is no `BytecodeArray`.
    pub fn bytecode_length(&self, array: Tagged) -> Result<u32, Error> {
        self.expect(array, self.layout.types.bytecode_array, "a BytecodeArray")?;
        let length = self.smi(array.field(self.layout.bytecode.length)?)?;
        u32::try_from(length).map_err(|_| Error::Unbelievable("bytecode of negative length"))
    }

    /// The bytecodes themselves.
    ///
    /// # Errors
    /// Where `array` is no `BytecodeArray`, or too large.
    pub fn bytecodes(&self, array: Tagged) -> Result<Vec<u8>, Error> {
        let length = self.bytecode_length(array)? as usize;
        if length > 64 << 20 {
            return Err(Error::Unbelievable("bytecode of impossible length"));
        }
        Ok(self
            .memory
            .bytes(array.field(self.layout.bytecode.data)?, length)?)
    }

    /// The source positions of the bytecodes of `array`; `None` where V8 has
    /// not collected them yet (it does so when it first optimizes the function
    /// or prints a stack that it is on).
    ///
    /// # Errors
    /// Where `array` is no `BytecodeArray`.
    pub fn bytecode_positions(&self, array: Tagged) -> Result<Option<Vec<Entry>>, Error> {
        self.expect(array, self.layout.types.bytecode_array, "a BytecodeArray")?;
        let table = self.tagged(array.field(self.layout.bytecode.source_position_table)?)?;
        // Undefined, a Smi or the exception sentinel where there is none.
        match self.position_table(table) {
            Ok(bytes) if bytes.is_empty() => Ok(None),
            Ok(bytes) => Ok(Some(source_position::decode(
                &bytes,
                self.layout.position_format,
            ))),
            Err(Error::Type { .. } | Error::NotAnObject(_)) => Ok(None),
            Err(error) => Err(error),
        }
    }
}

/// The length of each bytecode at each operand scale: the build's own table
/// (`interpreter::Bytecodes::kBytecodeSizes`, one row a scale: single, double,
/// quadruple, before V8 6.2 one row a bytecode; of bytes, before V8 9 of 32-bit
/// numbers).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BytecodeSizes {
    rows: [Vec<u8>; 3],
    debug_prefixes: bool,
}

/// How wide a bytecode's operands are (`OperandScale`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scale {
    /// As they come.
    Single,
    /// After the prefix `Wide`.
    Double,
    /// After the prefix `ExtraWide`.
    Quadruple,
}

impl BytecodeSizes {
    /// From the table's bytes, as the binary has them. Each size is a byte,
    /// in older versions an int; none is 0. `None` where they cannot be that
    /// table.
    pub fn new(table: &[u8], layout: &BytecodeLayout) -> Option<BytecodeSizes> {
        let mut sizes = table.to_vec();
        let ints = table.chunks_exact(4);
        if ints.remainder().is_empty() && ints.clone().all(|int| int[1..] == [0; 3]) {
            sizes = ints.map(|int| int[0]).collect();
        }
        if sizes.is_empty() || !sizes.len().is_multiple_of(3) || sizes.contains(&0) {
            return None;
        }
        let count = sizes.len() / 3;
        let row = |scale: usize| match layout.sizes_by_bytecode {
            true => sizes.iter().skip(scale).step_by(3).copied().collect(),
            false => sizes[scale * count..][..count].to_vec(),
        };
        Some(BytecodeSizes {
            rows: [row(0), row(1), row(2)],
            debug_prefixes: layout.debug_prefixes,
        })
    }

    /// The scale and the number of the bytecode that `bytes` begin with, past
    /// its prefix. `None` where they end with that.
    pub fn bytecode(&self, bytes: &[u8]) -> Option<(Scale, u8)> {
        // The prefixes come first in `BYTECODE_LIST`
        // (`src/interpreter/bytecodes.h`): Wide, ExtraWide.
        let scale = match *bytes.first()? {
            0 => Scale::Double,
            1 => Scale::Quadruple,
            2 if self.debug_prefixes => Scale::Double,
            3 if self.debug_prefixes => Scale::Quadruple,
            bytecode => return Some((Scale::Single, bytecode)),
        };
        Some((scale, *bytes.get(1)?))
    }

    /// Whether each of `positions`, a table of `bytecodes`, is of a bytecode's start, as
    /// V8 writes them (`BytecodeArrayWriter::UpdateSourcePositionTable` in
    /// `src/interpreter/bytecode-array-writer.cc`), and the last bytecode ends where
    /// they all do. If not, one of the two is not what it seems to be.
    pub fn agree_with(&self, bytecodes: &[u8], positions: &[Entry]) -> bool {
        let (offsets, end) = self.walk(bytecodes);
        let is_start =
            |at: i64| u32::try_from(at).is_ok_and(|at| offsets.binary_search(&at).is_ok());
        // The entry of the function is no bytecode's.
        let mut of_bytecodes = positions.iter().filter(|entry| entry.code_offset >= 0);
        end == bytecodes.len() && of_bytecodes.all(|entry| is_start(entry.code_offset))
    }

    /// The offset at which each bytecode begins, prefixes counted as part of
    /// the bytecode that they scale, as `BytecodeArrayIterator` does.
    /// Ends where a byte is no bytecode.
    pub fn offsets(&self, bytecodes: &[u8]) -> Vec<u32> {
        self.walk(bytecodes).0
    }

    /// The same, and where the last of them ends.
    fn walk(&self, bytecodes: &[u8]) -> (Vec<u32>, usize) {
        let mut offsets = Vec::with_capacity(bytecodes.len() / 3);
        let mut at = 0;
        while let Some((scale, bytecode)) = bytecodes.get(at..).and_then(|left| self.bytecode(left))
        {
            let (prefix, row) = match scale {
                Scale::Single => (0, &self.rows[0]),
                Scale::Double => (1, &self.rows[1]),
                Scale::Quadruple => (1, &self.rows[2]),
            };
            let Some(&size) = row.get(usize::from(bytecode)) else {
                break;
            };
            offsets.push(at as u32);
            at += prefix + usize::from(size);
        }
        (offsets, at)
    }
}

impl BytecodeSizes {
    /// The loops of `bytecodes`, each from its start to the jump back there.
    pub fn loops(&self, bytecodes: &[u8], numbers: LoopBytecodes) -> Vec<Range<u32>> {
        let of_jump = |at: u32| {
            let bytes = bytecodes.get(at as usize..)?;
            let (scale, number) = self.bytecode(bytes)?;
            if number != numbers.jump_loop {
                return None;
            }
            let (prefix, width) = match scale {
                Scale::Single => (0, 1),
                Scale::Double => (1, 2),
                Scale::Quadruple => (1, 4),
            };
            // How far back, from behind the prefix.
            let operand = bytes.get(prefix + 1..prefix + 1 + width)?;
            let back = operand
                .iter()
                .rev()
                .fold(0_u32, |number, &byte| number << 8 | u32::from(byte));
            let jump = at + prefix as u32;
            Some(jump.checked_sub(back)?..jump + 1)
        };
        let offsets = self.offsets(bytecodes);
        offsets.into_iter().filter_map(of_jump).collect()
    }

    /// Whether the bytecode at `offset` is the one called `number`.
    pub fn is_at(&self, bytecodes: &[u8], offset: u32, number: u8) -> bool {
        let bytes = bytecodes.get(offset as usize..);
        let found = bytes.and_then(|bytes| self.bytecode(bytes));
        found.is_some_and(|(_, found)| found == number)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn layout(debug_prefixes: bool) -> BytecodeLayout {
        BytecodeLayout {
            length: 8,
            source_position_table: 32,
            data: 54,
            debug_prefixes,
            sizes_by_bytecode: false,
            loops: None,
        }
    }

    /// Bytecode 4 has no operand, bytecode 5 one of 1, 2 or 4 bytes.
    const TABLE: [u8; 18] = [
        1, 1, 1, 1, 1, 2, //
        1, 1, 1, 1, 1, 3, //
        1, 1, 1, 1, 1, 5,
    ];

    #[test]
    fn prefixes_belong_to_the_bytecode_they_scale() {
        let sizes = BytecodeSizes::new(&TABLE, &layout(true)).unwrap();
        assert_eq!(sizes.bytecode(&[5, 9]), Some((Scale::Single, 5)));
        assert_eq!(sizes.bytecode(&[0, 5]), Some((Scale::Double, 5)));
        assert_eq!(sizes.bytecode(&[3, 5]), Some((Scale::Quadruple, 5)));
        assert_eq!(sizes.bytecode(&[1]), None);
        assert_eq!(sizes.bytecode(&[]), None);
        let code = [4, 5, 9, 0, 5, 9, 9, 1, 5, 9, 9, 9, 9, 4];
        assert_eq!(sizes.offsets(&code), [0, 1, 3, 7, 13]);
        assert_eq!(sizes.offsets(&[4, 99, 4]), [0]);
        assert_eq!(sizes.offsets(&[4, 0]), [0]);
        assert!(BytecodeSizes::new(&[], &layout(true)).is_none());
        assert!(BytecodeSizes::new(&[1, 0, 1], &layout(true)).is_none());
    }

    #[test]
    fn loops_are_found_by_the_jump_back() {
        let sizes = BytecodeSizes::new(&TABLE, &layout(false)).unwrap();
        let numbers = LoopBytecodes {
            jump_loop: 5,
            stack_check: 4,
        };
        let loops = |code: &[u8]| -> Vec<(u32, u32)> {
            let found = sizes.loops(code, numbers).into_iter();
            found.map(|range| (range.start, range.end)).collect()
        };
        assert_eq!(loops(&[4, 4, 4, 5, 2, 4]), [(1, 4)]);
        assert_eq!(loops(&[4, 4, 0, 5, 3, 0, 4]), [(0, 4)]);
        // Before the first bytecode; cut off.
        assert_eq!(loops(&[4, 5, 2]), []);
        assert_eq!(loops(&[4, 5]), []);
        assert!(sizes.is_at(&[5, 4, 4], 2, 4));
        assert!(!sizes.is_at(&[5, 4], 0, 4));
        assert!(!sizes.is_at(&[5, 4], 2, 4));
    }

    #[test]
    fn older_tables_are_of_ints_and_their_third_bytecode_is_no_prefix() {
        let ints: Vec<u8> = TABLE.iter().flat_map(|&size| [size, 0, 0, 0]).collect();
        let sizes = BytecodeSizes::new(&ints, &layout(false)).unwrap();
        assert_eq!(sizes.offsets(&[2, 3, 0, 5, 9, 9, 4]), [0, 1, 2, 6]);
    }

    #[test]
    fn the_oldest_tables_have_a_row_for_each_bytecode() {
        let by_bytecode: Vec<u8> = (0..6)
            .flat_map(|bytecode| [0, 6, 12].map(|row| TABLE[row + bytecode]))
            .collect();
        let layout_5_8 = BytecodeLayout {
            sizes_by_bytecode: true,
            ..layout(false)
        };
        assert_eq!(
            BytecodeSizes::new(&by_bytecode, &layout_5_8),
            BytecodeSizes::new(&TABLE, &layout(false))
        );
    }
}
