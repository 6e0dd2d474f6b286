//! Relocation information: besides what the garbage collector has to know of
//! a piece of code, it says where in the script each instruction comes from.
//! Full-codegen code has no other source positions
//! (`RelocInfoWriter`, `RelocIterator` in `src/assembler.cc`).
//!
//! It is written from the end of its byte array towards the start. A record is
//! one byte, or several: how far its pc is from that of the record before, its
//! mode, and for some modes a number.

use crate::source_position::Entry;

/// How relocation information is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RelocationFormat {
    /// V8 3.14: as [`RelocationFormat::Tags`], but the tag of constant pools
    /// is also the one of internal references.
    SharedPoolTag,
    /// V8 3.28 and 4.5: long records have a tag of four bits, positions far
    /// from each other are records of their own behind a jump of the pc.
    Tags,
    /// V8 5.0 and 5.1: long records have a mode of six bits.
    Modes(&'static Modes),
}

/// Values of `RelocInfo::Mode` (`src/assembler.h`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct Modes {
    pub code_target_with_id: u8,
    pub comment: u8,
    pub position: u8,
    pub statement_position: u8,
    pub const_pool: u8,
    pub veneer_pool: u8,
    pub pc_jump: u8,
    /// How many there are.
    pub count: u8,
}

/// V8 5.0.
pub const MODES_5_0: Modes = Modes {
    code_target_with_id: 1,
    comment: 6,
    position: 7,
    statement_position: 8,
    const_pool: 16,
    veneer_pool: 17,
    pc_jump: 19,
    count: 20,
};

/// V8 5.1, which has two more: for the memory of WebAssembly and for a debugger.
pub const MODES_5_1: Modes = Modes {
    code_target_with_id: 1,
    comment: 7,
    position: 8,
    statement_position: 9,
    const_pool: 18,
    veneer_pool: 19,
    pc_jump: 21,
    count: 22,
};

/// From where on in the code a place in the script holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CodePosition {
    /// In bytes from the code's first instruction.
    pub pc_offset: u32,
    /// In UTF-16 units from the script's start (in full-codegen code).
    pub position: u32,
    /// Whether a statement begins there (`STATEMENT_POSITION`).
    pub is_statement: bool,
}

const TAG_BITS: u32 = 2;
const EMBEDDED_OBJECT: u8 = 0;
const CODE_TARGET: u8 = 1;
const LOCATABLE: u8 = 2;
const SMALL_PC_BITS: u32 = 6;

// The two bits below the number of a short record, and the top two of a long
// one with a number.
const CODE_WITH_ID: u8 = 0;
const POSITION: u8 = 1;
const STATEMENT_POSITION: u8 = 2;
// In a short record it is a deoptimization reason.
const COMMENT: u8 = 3;

// `kPCJumpExtraTag`, `kDataJumpExtraTag`, `kPoolExtraTag`.
const PC_JUMP: u8 = 15;
const DATA: u8 = 14;
const POOL: u8 = 13;
/// `kVariableLengthPCJumpTopTag`
const LONG_JUMP: u8 = 1;

/// The source positions of a piece of code of `code_size` bytes, by its
/// relocation information, ordered by pc. `None` where that does not decode
/// to its end, or speaks of places outside the code.
pub fn positions(
    relocation_info: &[u8],
    format: RelocationFormat,
    code_size: u32,
) -> Option<Vec<CodePosition>> {
    let mut reader = Reader {
        bytes: relocation_info,
        pc: 0,
        position: 0,
        code_size,
        found: Vec::new(),
    };
    while !reader.bytes.is_empty() {
        match format {
            RelocationFormat::Modes(modes) => reader.record_with_mode(modes)?,
            _ => reader.record_with_tags(format)?,
        }
    }
    Some(reader.found)
}

/// The same of the entries of a source position table, which stand in the order
/// of the code. The last one of several at a place counts
/// (`AbstractCode::SourcePosition` in `src/objects.cc` of 5.8).
pub fn in_order(entries: &[Entry]) -> Vec<CodePosition> {
    let mut found: Vec<CodePosition> = Vec::with_capacity(entries.len());
    for entry in entries {
        let (Ok(pc_offset), Some(position)) = (
            u32::try_from(entry.code_offset),
            entry.position.script_offset,
        ) else {
            continue;
        };
        if found.last().is_some_and(|last| last.pc_offset == pc_offset) {
            found.pop();
        }
        // As relocation information: where it is another one.
        if found.last().is_some_and(|last| last.position == position) {
            continue;
        }
        found.push(CodePosition {
            pc_offset,
            position,
            is_statement: false,
        });
    }
    found
}

/// The position of the instruction before `pc_offset`: of the call that
/// returns there. For a thread's own pc add one. Of several as near the
/// highest counts (`Code::SourcePosition` in `src/objects.cc`).
pub fn position_before(positions: &[CodePosition], pc_offset: u32) -> Option<u32> {
    let before = positions.partition_point(|at| at.pc_offset < pc_offset);
    let nearest = positions[..before].last()?.pc_offset;
    let candidates = positions[..before].iter().rev();
    candidates
        .take_while(|at| at.pc_offset == nearest)
        .map(|at| at.position)
        .max()
}

/// Reads from the last byte to the first.
struct Reader<'a> {
    bytes: &'a [u8],
    pc: u32,
    position: i32,
    code_size: u32,
    found: Vec<CodePosition>,
}

impl Reader<'_> {
    fn byte(&mut self) -> Option<u8> {
        let (&byte, rest) = self.bytes.split_last()?;
        self.bytes = rest;
        Some(byte)
    }

    fn int(&mut self) -> Option<i32> {
        let mut bytes = [0; 4];
        for byte in &mut bytes {
            *byte = self.byte()?;
        }
        Some(i32::from_le_bytes(bytes))
    }

    fn skip(&mut self, count: usize) -> Option<()> {
        self.bytes = &self.bytes[..self.bytes.len().checked_sub(count)?];
        Some(())
    }

    fn advance(&mut self, delta: u32) -> Option<()> {
        // A record may stand behind the last instruction.
        self.pc = self.pc.checked_add(delta)?;
        (self.pc <= self.code_size).then_some(())
    }

    fn found(&mut self, delta: i32, is_statement: bool) -> Option<()> {
        self.position = self.position.checked_add(delta)?;
        // -1 says that there is none (`RelocInfo::kNoPosition`).
        if let Ok(position) = u32::try_from(self.position) {
            self.found.push(CodePosition {
                pc_offset: self.pc,
                position,
                is_statement,
            });
        }
        Some(())
    }

    /// The upper bits of a pc's distance, seven a byte, lowest first; the last
    /// byte has its lowest bit set.
    fn long_jump(&mut self) -> Option<()> {
        let mut jump = 0_u32;
        for index in 0..4 {
            let byte = self.byte()?;
            jump |= u32::from(byte >> 1) << (7 * index);
            if byte & 1 == 1 {
                break;
            }
        }
        self.advance(jump.checked_shl(SMALL_PC_BITS)?)
    }

    /// A record whose tag says that it is short, if `first` is one.
    fn short(&mut self, first: u8) -> Option<bool> {
        let tag = first & 3;
        if !matches!(tag, EMBEDDED_OBJECT | CODE_TARGET | LOCATABLE) {
            return Some(false);
        }
        self.advance(u32::from(first >> TAG_BITS))?;
        if tag == LOCATABLE {
            let data = self.byte()?;
            let delta = i32::from(data as i8 >> TAG_BITS);
            match data & 3 {
                POSITION => self.found(delta, false)?,
                STATEMENT_POSITION => self.found(delta, true)?,
                _ => {}
            }
        }
        Some(true)
    }

    fn record_with_tags(&mut self, format: RelocationFormat) -> Option<()> {
        let first = self.byte()?;
        if self.short(first)? {
            return Some(());
        }
        let top = first >> 6;
        match first >> TAG_BITS & 0xf {
            PC_JUMP if top == LONG_JUMP => self.long_jump(),
            DATA => match top {
                CODE_WITH_ID => self.skip(4),
                POSITION | STATEMENT_POSITION => {
                    let delta = self.int()?;
                    self.found(delta, top == STATEMENT_POSITION)
                }
                COMMENT => self.skip(8),
                _ => None,
            },
            POOL if top == 3 || format == RelocationFormat::Tags => self.skip(4),
            // A jump of the pc, or a mode without a number.
            _ => {
                let delta = self.byte()?;
                self.advance(u32::from(delta))
            }
        }
    }

    fn record_with_mode(&mut self, modes: &Modes) -> Option<()> {
        let first = self.byte()?;
        if self.short(first)? {
            return Some(());
        }
        let mode = first >> TAG_BITS;
        if mode == modes.pc_jump {
            return self.long_jump();
        }
        let delta = self.byte()?;
        self.advance(u32::from(delta))?;
        let is = |of: &[u8]| of.contains(&mode);
        if is(&[modes.position, modes.statement_position]) {
            let delta = self.int()?;
            self.found(delta, mode == modes.statement_position)
        } else if is(&[
            modes.code_target_with_id,
            modes.const_pool,
            modes.veneer_pool,
        ]) {
            self.skip(4)
        } else if mode == modes.comment {
            self.skip(8)
        } else {
            (mode < modes.count).then_some(())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Bytes as they lie in memory: the last one written first.
    fn backwards(records: &[&[u8]]) -> Vec<u8> {
        let mut bytes = records.concat();
        bytes.reverse();
        bytes
    }

    fn at(pc_offset: u32, position: u32, is_statement: bool) -> CodePosition {
        CodePosition {
            pc_offset,
            position,
            is_statement,
        }
    }

    const ALL: [RelocationFormat; 4] = [
        RelocationFormat::SharedPoolTag,
        RelocationFormat::Tags,
        RelocationFormat::Modes(&MODES_5_0),
        RelocationFormat::Modes(&MODES_5_1),
    ];

    #[test]
    fn short_records_are_the_same_in_all_versions() {
        let bytes = backwards(&[
            &[5 << 2],
            &[6 << 2 | 1],
            &[7 << 2 | 2, 20 << 2 | 2],
            &[2, (-3_i8 << 2) as u8 | 1],
            // A code target with an id.
            &[1 << 2 | 2, 9 << 2],
        ]);
        for format in ALL {
            assert_eq!(
                positions(&bytes, format, 100).unwrap(),
                [at(18, 20, true), at(18, 17, false)]
            );
            assert_eq!(positions(&bytes, format, 17), None);
        }
    }

    #[test]
    fn long_records_have_four_bits_of_tag_until_4_5() {
        let long = |top: u8, tag: u8| top << 6 | tag << 2 | 3;
        let bytes = backwards(&[
            // pc + 70, written as 1 << 6 and 6.
            &[long(1, PC_JUMP), 1 << 1 | 1],
            &[long(0, PC_JUMP), 6],
            &[long(2, DATA)],
            &1000_i32.to_le_bytes(),
            &[long(0, PC_JUMP), 10],
            &[long(3, DATA), 1, 2, 3, 4, 5, 6, 7, 8],
            &[long(0, PC_JUMP), 2],
            &[long(1, DATA)],
            &(-900_i32).to_le_bytes(),
            // An external reference.
            &[long(0, 10), 3],
            // pc + (1 + (2 << 7)) << 6
            &[long(1, PC_JUMP), 1 << 1, 2 << 1 | 1],
            &[2, 2 << 2 | 1],
        ]);
        let expected = [
            at(70, 1000, true),
            at(82, 100, false),
            at(85 + (257 << 6), 102, false),
        ];
        for format in [RelocationFormat::SharedPoolTag, RelocationFormat::Tags] {
            assert_eq!(positions(&bytes, format, 1 << 20).unwrap(), expected);
            for cut in 1..bytes.len() {
                // What is cut off never yields something else.
                if let Some(found) = positions(&bytes[cut..], format, 1 << 20) {
                    assert!(expected.starts_with(&found));
                }
            }
        }
        // The tag of an internal reference in 3.14 is that of a pool later.
        let bytes = backwards(&[&[long(0, POOL), 5], &[2, 7 << 2 | 1]]);
        let found = positions(&bytes, RelocationFormat::SharedPoolTag, 100);
        assert_eq!(found.unwrap(), [at(5, 7, false)]);
        assert_eq!(positions(&bytes, RelocationFormat::Tags, 100), None);
    }

    #[test]
    fn long_records_have_a_mode_since_5_0() {
        let long = |mode: u8| mode << 2 | 3;
        for modes in [&MODES_5_0, &MODES_5_1] {
            let bytes = backwards(&[
                &[long(modes.pc_jump), 1 << 1 | 1],
                &[long(modes.statement_position), 6],
                &1000_i32.to_le_bytes(),
                &[long(modes.comment), 10, 1, 2, 3, 4, 5, 6, 7, 8],
                &[long(modes.code_target_with_id), 0, 1, 2, 3, 4],
                &[long(modes.position), 2],
                &(-900_i32).to_le_bytes(),
                // An internal reference.
                &[long(15), 3],
                &[2, 2 << 2 | 1],
            ]);
            let format = RelocationFormat::Modes(modes);
            assert_eq!(
                positions(&bytes, format, 1000).unwrap(),
                [at(70, 1000, true), at(82, 100, false), at(85, 102, false)]
            );
            let unknown = backwards(&[&[long(modes.count), 0]]);
            assert_eq!(positions(&unknown, format, 1000), None);
        }
    }

    #[test]
    fn of_a_table_the_last_entry_at_a_place_counts() {
        let entry = |code_offset, script_offset| Entry {
            code_offset,
            position: crate::source_position::SourcePosition {
                script_offset,
                inlining_id: None,
            },
        };
        let entries = [
            entry(0, Some(7)),
            entry(4, None),
            entry(4, Some(9)),
            entry(4, Some(8)),
            entry(6, Some(8)),
            entry(9, Some(7)),
        ];
        let expected = [at(0, 7, false), at(4, 8, false), at(9, 7, false)];
        assert_eq!(in_order(&entries), expected);
    }

    #[test]
    fn no_position_is_none() {
        let bytes = backwards(&[&[2, (-1_i8 << 2) as u8 | 1], &[1 << 2 | 2, 5 << 2 | 1]]);
        let found = positions(&bytes, RelocationFormat::Tags, 10).unwrap();
        assert_eq!(found, [at(1, 4, false)]);
        assert_eq!(positions(&[], RelocationFormat::Tags, 0).unwrap(), []);
    }

    #[test]
    fn a_call_has_the_nearest_position_before_its_return() {
        let table = [
            at(10, 100, true),
            at(10, 104, false),
            at(10, 102, false),
            at(30, 90, false),
        ];
        assert_eq!(position_before(&table, 10), None);
        assert_eq!(position_before(&table, 11), Some(104));
        assert_eq!(position_before(&table, 30), Some(104));
        assert_eq!(position_before(&table, 31), Some(90));
        assert_eq!(position_before(&[], 31), None);
    }

    #[test]
    fn any_bytes_end() {
        let mut state = 1_u32;
        for length in 0..400 {
            let bytes: Vec<u8> = (0..length)
                .map(|_| {
                    state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                    (state >> 24) as u8
                })
                .collect();
            for format in ALL {
                let found = positions(&bytes, format, 1 << 16).unwrap_or_default();
                assert!(found.is_sorted_by_key(|at| at.pc_offset));
            }
        }
    }
}
