//! Source position tables: from an offset in bytecode or machine code to a
//! place in a script (`src/codegen/source-position-table.cc`,
//! `src/codegen/source-position.h`).

use crate::vlq::Vlq;

/// A place in a script, or in a function that was inlined.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct SourcePosition {
    /// In UTF-16 units from the script's start; `None` where V8 has none.
    pub script_offset: Option<u32>,
    /// Which of the code's inlining positions this is inside; `None` for the
    /// function that the code was compiled for.
    pub inlining_id: Option<u32>,
}

impl SourcePosition {
    /// Unpacks the bit fields of `SourcePosition::value_`.
    pub fn unpack(value: u64) -> SourcePosition {
        let external = value & 1 != 0;
        // Both are stored plus one, for -1 says that there is none.
        let script_offset = (value >> 1 & 0x3fff_ffff) as u32;
        let inlining_id = (value >> 31 & 0xffff) as u32;
        SourcePosition {
            script_offset: script_offset.checked_sub(1).filter(|_| !external),
            inlining_id: inlining_id.checked_sub(1),
        }
    }
}

/// How an entry's code offset is packed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TableFormat {
    /// A signed number; negative for an expression that is no statement.
    Signed,
    /// An unsigned number above two flag bits (`is_breakable`, `is_statement`).
    Flags,
}

/// An entry of a table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry {
    /// From where on it holds, in bytes from the code's start; -1 stands for
    /// the entry of the function.
    pub code_offset: i64,
    /// The place.
    pub position: SourcePosition,
}

/// Decodes a whole table. What does not decode ends it.
pub fn decode(table: &[u8], format: TableFormat) -> Vec<Entry> {
    let mut bytes = Vlq::new(table);
    let mut entries = Vec::with_capacity(table.len() / 3);
    let (mut code_offset, mut value) = (-1_i64, 0_i64);
    while let Some(packed) = bytes.unsigned() {
        let delta = match format {
            TableFormat::Flags => (packed >> 2) as i64,
            TableFormat::Signed => {
                let signed = Vlq::zigzag(packed);
                if signed >= 0 { signed } else { -(signed + 1) }
            }
        };
        let Some(change) = bytes.unsigned().map(Vlq::zigzag) else {
            break;
        };
        code_offset = code_offset.saturating_add(delta);
        value = value.wrapping_add(change);
        entries.push(Entry {
            code_offset,
            position: SourcePosition::unpack(value as u64),
        });
    }
    entries
}

/// The entry that holds at `offset`: the last one that begins there or before
/// (`AbstractCode::SourcePosition` in `src/objects/code.cc`).
pub fn lookup(entries: &[Entry], offset: i64) -> Option<SourcePosition> {
    let after = entries.partition_point(|entry| entry.code_offset <= offset);
    entries[..after].last().map(|entry| entry.position)
}
