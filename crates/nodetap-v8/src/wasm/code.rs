//! `WasmCode`: a piece of machine code of a module, and its tables
//! (`src/wasm/wasm-code-manager.h`).

use crate::code::Code;
use crate::heap::{Error, Heap};
use crate::source_position::{self, Entry, SourcePosition};

/// Bytes of a `WasmCode` that all fields of interest are in.
const HEADER: usize = 128;

/// The largest piece of code that is believed (`kMaxWasmCodeMemory` would allow
/// more, no function comes near).
const MAX_SIZE: u32 = 64 << 20;

/// The longest table that is read.
const MAX_TABLE: u32 = 16 << 20;

/// A piece of code.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct WasmCode {
    /// The C++ object.
    pub address: u64,
    /// Where its instructions start.
    pub start: u64,
    /// How many bytes of them there are, with what follows them.
    pub size: u32,
    /// The index in the module of the function that it is; `None` where it is
    /// something else: a table of jumps, or the way out to a function that is
    /// imported.
    pub function: Option<u32>,
    positions: Table,
    inlined: Table,
}

/// A function that was inlined.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Inlined {
    /// Its index in the module.
    pub function: u32,
    /// Where it was called.
    pub caller: SourcePosition,
    /// Whether its caller's frame had ended by then.
    pub was_tail_call: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Table {
    start: u64,
    size: u32,
}

impl WasmCode {
    /// `code` in the heap, which is that of the function at an index.
    pub(super) fn in_heap(code: &Code, function: u32) -> WasmCode {
        let none = Table { start: 0, size: 0 };
        WasmCode {
            address: code.object.0,
            start: code.start,
            size: code.size,
            function: Some(function),
            positions: none,
            inlined: none,
        }
    }

    /// Whether `pc` is in it.
    pub fn contains(&self, pc: u64) -> bool {
        (self.start..self.end()).contains(&pc)
    }

    /// Where it ends.
    pub fn end(&self) -> u64 {
        self.start + u64::from(self.size)
    }
}

impl Heap<'_> {
    /// Reads the `WasmCode` at `address`, which is one of the `NativeModule`
    /// at `native`.
    ///
    /// # Errors
    /// Where it is none, or cannot be read.
    pub fn wasm_code(&self, address: u64, native: u64) -> Result<WasmCode, Error> {
        let layout = self.layout.wasm.as_ref();
        let Some(layout) = layout.and_then(|layout| layout.code.as_ref()) else {
            return Err(Error::Unbelievable("WebAssembly is not known"));
        };
        if !super::is_pointer(address) {
            return Err(Error::Unbelievable("no pointer to code"));
        }
        let mut header = [0; HEADER];
        self.memory.read(address, &mut header)?;
        let u64_at = |offset: u32| -> u64 {
            let at = offset as usize;
            u64::from_le_bytes(header[at..at + 8].try_into().expect("8 bytes"))
        };
        let u32_at = |offset: u32| u64_at(offset) as u32;
        if u64_at(layout.native_module) != native {
            return Err(Error::Unbelievable("code of another module"));
        }
        let start = u64_at(layout.instructions);
        let size = u32_at(layout.instructions_size);
        if start == 0 || start >> 47 != 0 || size == 0 || size > MAX_SIZE {
            return Err(Error::Unbelievable("code without instructions"));
        }
        let kind = header[layout.kind as usize] & layout.kind_mask;
        // `kAnonymousFuncIndex` is -1; `kWasmFunction` is the first kind.
        let index = u32_at(layout.index);
        let before = layout.before_positions.iter();
        let before = before.map(|&offset| u64::from(u32_at(offset))).sum::<u64>();
        let positions = Table {
            start: u64_at(layout.tables).wrapping_add(before),
            size: u32_at(layout.positions_size),
        };
        let inlined = Table {
            start: positions.start.wrapping_add(u64::from(positions.size)),
            size: layout.inlining.map_or(0, |inlining| u32_at(inlining.size)),
        };
        Ok(WasmCode {
            address,
            start,
            size,
            function: (kind == 0 && index != u32::MAX).then_some(index),
            positions,
            inlined,
        })
    }

    fn wasm_table(&self, table: Table) -> Result<Vec<u8>, Error> {
        if table.size > MAX_TABLE {
            return Err(Error::Unbelievable("a table that long"));
        }
        Ok(self.memory.bytes(table.start, table.size as usize)?)
    }

    /// The source positions of `code`, by offset from its start. They are
    /// offsets in the body of the function.
    ///
    /// # Errors
    /// Where they cannot be read.
    pub fn wasm_positions(&self, code: &WasmCode) -> Result<Vec<Entry>, Error> {
        let table = self.wasm_table(code.positions)?;
        Ok(source_position::decode(&table, self.layout.position_format))
    }

    /// The functions that are inlined in `code`, by the inlining ids of its
    /// source positions.
    ///
    /// # Errors
    /// Where they cannot be read.
    pub fn wasm_inlined(&self, code: &WasmCode) -> Result<Vec<Inlined>, Error> {
        let layout = self.layout.wasm.as_ref();
        let Some(layout) = layout.and_then(|layout| layout.code?.inlining) else {
            return Ok(Vec::new());
        };
        let table = self.wasm_table(code.inlined)?;
        let entry = |bytes: &[u8]| {
            let caller = &bytes[layout.caller..layout.caller + 8];
            Inlined {
                function: u32::from_le_bytes(bytes[..4].try_into().expect("4 bytes")),
                caller: SourcePosition::unpack(
                    u64::from_le_bytes(caller.try_into().expect("8 bytes")),
                    self.layout.position_format,
                ),
                // Where there is a byte for it.
                was_tail_call: layout.caller == 5 && bytes[4] != 0,
            }
        };
        Ok(table.chunks_exact(layout.entry).map(entry).collect())
    }
}
