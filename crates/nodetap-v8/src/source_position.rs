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
    pub fn unpack(value: u64, format: PositionFormat) -> SourcePosition {
        let external = format.external_bit && value & 1 != 0;
        // Both are stored plus one, for -1 says that there is none.
        let script_offset = if format.external_bit {
            (value >> 1 & 0x3fff_ffff) as u32
        } else {
            (value & 0x7fff_ffff) as u32
        };
        let inlining_id = (value >> 31 & 0xffff) as u32;
        SourcePosition {
            script_offset: script_offset.checked_sub(1).filter(|_| !external),
            inlining_id: inlining_id.checked_sub(1),
        }
    }
}

/// How source positions are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PositionFormat {
    /// How a table's entries are packed.
    pub table: TableFormat,
    /// The code offset that a table's first entry is relative to.
    pub start: i64,
    /// Whether a position's lowest bit says that it is in no script.
    pub external_bit: bool,
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
pub fn decode(table: &[u8], format: PositionFormat) -> Vec<Entry> {
    let mut bytes = Vlq::new(table);
    let mut entries = Vec::with_capacity(table.len() / 3);
    let (mut code_offset, mut value) = (format.start, 0_i64);
    while let Some(packed) = bytes.unsigned() {
        let delta = match format.table {
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
            position: SourcePosition::unpack(value as u64, format),
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

#[cfg(test)]
mod tests {
    use super::*;

    const MODERN: PositionFormat = PositionFormat {
        table: TableFormat::Signed,
        start: -1,
        external_bit: true,
    };
    const OLD: PositionFormat = PositionFormat {
        start: 0,
        external_bit: false,
        ..MODERN
    };

    fn place(script_offset: u32, inlining_id: Option<u32>) -> SourcePosition {
        SourcePosition {
            script_offset: Some(script_offset),
            inlining_id,
        }
    }

    #[test]
    fn positions_are_unpacked_with_and_without_the_external_bit() {
        let packed = 6 << 31 | 101 << 1;
        assert_eq!(SourcePosition::unpack(packed, MODERN), place(100, Some(5)));
        let unknown = SourcePosition::unpack(packed | 1, MODERN);
        assert_eq!(unknown.script_offset, None);
        let packed = 6 << 31 | 101;
        assert_eq!(SourcePosition::unpack(packed, OLD), place(100, Some(5)));
        assert_eq!(SourcePosition::unpack(101, OLD), place(100, None));
    }

    #[test]
    fn a_table_is_relative_to_its_start() {
        // A statement at +0, an expression at +3.
        let table = [0, 20, 7, 4];
        let offsets = |format| -> Vec<i64> {
            let entries = decode(&table, format);
            entries.iter().map(|entry| entry.code_offset).collect()
        };
        assert_eq!(offsets(MODERN), [-1, 2]);
        assert_eq!(offsets(OLD), [0, 3]);
        let entries = decode(&table, OLD);
        assert_eq!(lookup(&entries, 2), Some(place(9, None)));
        assert_eq!(lookup(&entries, 3), Some(place(11, None)));
    }
}
