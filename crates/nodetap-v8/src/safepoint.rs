//! Safepoint tables: which deoptimization entry belongs to a call
//! (`src/codegen/safepoint-table.h`, `src/codegen/maglev-safepoint-table.h`).
//!
//! They stand right behind the instructions, first of their metadata.

use crate::code::{Code, CodeKind};
use crate::crankshaft::safepoints;
use crate::heap::{Error, Heap};
use crate::layout::{SafepointFormat, SafepointPlace};

/// A table is smaller than the code it belongs to.
const MAX_BYTES: u32 = 16 << 20;

/// A call that can be deoptimized when it returns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Safepoint {
    /// Where the call returns to, in bytes from the code's start.
    pub pc: u32,
    /// Where it returns to instead once the code has been given up: V8
    /// replaces the return address on the stack.
    pub trampoline: Option<u32>,
    /// The index of its deoptimization entry.
    pub entry: u32,
}

impl Heap<'_> {
    /// The calls of optimized code that can be deoptimized; empty where this
    /// version's tables are not known.
    ///
    /// # Errors
    /// Where the table cannot be read or is none.
    pub fn safepoints(&self, code: &Code) -> Result<Vec<Safepoint>, Error> {
        let Some(layout) = &self.layout.code.safepoints else {
            return Ok(Vec::new());
        };
        let u32_at =
            |offset| -> Result<u32, Error> { Ok(self.memory.u32(code.object.field(offset)?)?) };
        let (start, size) = match layout.place {
            SafepointPlace::Metadata { size } => (code.size, u32_at(size)?),
            SafepointPlace::Instructions { offset, shift } => {
                let start = u32_at(offset)? >> shift;
                let size = code.size.checked_sub(start);
                (
                    start,
                    size.ok_or(Error::Unbelievable("no such safepoints"))?,
                )
            }
        };
        if size > MAX_BYTES {
            return Err(Error::Unbelievable("metadata of impossible size"));
        }
        let table = self
            .memory
            .bytes(code.start + u64::from(start), size as usize)?;
        let points = match layout.format {
            SafepointFormat::Pairs => pairs(&table),
            SafepointFormat::Words { index } => words(&table, index),
            SafepointFormat::Packed {
                length,
                header,
                maglev_header,
            } => match code.kind {
                CodeKind::Maglev => packed(&table, length, maglev_header, true),
                _ => packed(&table, length, header, false),
            },
        };
        points.ok_or(Error::Unbelievable("no safepoint table"))
    }
}

/// A table of two words an entry.
fn pairs(table: &[u8]) -> Option<Vec<Safepoint>> {
    let calls = safepoints::decode(table)?;
    let found = calls.into_iter().filter_map(|call| {
        Some(Safepoint {
            pc: call.pc,
            entry: call.entry?,
            trampoline: None,
        })
    });
    Some(found.collect())
}

/// A table of three words an entry: pc, deoptimization index (in the bits of
/// the mask `index`), trampoline.
fn words(table: &[u8], index: u32) -> Option<Vec<Safepoint>> {
    let mut head = table.chunks_exact(4);
    let length = u32::from_le_bytes(head.next()?.try_into().ok()?) as usize;
    let bytes = table.get(8..)?.get(..length.checked_mul(12)?)?;
    let found = bytes.chunks_exact(12).filter_map(|entry| {
        let word = |index: usize| {
            let bytes = entry[4 * index..][..4].try_into().expect("4 bytes");
            Some(u32::from_le_bytes(bytes)).filter(|&word| word != u32::MAX)
        };
        Some(Safepoint {
            pc: word(0)?,
            entry: Some(word(1)? & index).filter(|&entry| entry != index)?,
            trampoline: word(2),
        })
    });
    Some(found.collect())
}

/// A table whose numbers are as wide as `entry_configuration_` says.
fn packed(metadata: &[u8], length: u32, header: u32, maglev: bool) -> Option<Vec<Safepoint>> {
    let u32_at = |offset: usize| {
        let bytes = metadata.get(offset..offset + 4)?;
        Some(u32::from_le_bytes(bytes.try_into().ok()?))
    };
    let after = length as usize + 4;
    let length = u32_at(length as usize)?;
    // `entry_configuration_`, bit fields: HasDeoptData, RegisterIndexesSize,
    // PcSize, DeoptIndexSize.
    let configuration = u32_at(after)?;
    let field = |shift: u32| (configuration >> shift & 7) as usize;
    let (registers, pc, index) = (field(1), field(4), field(7));
    if configuration & 1 == 0 {
        return Some(Vec::new());
    }
    if !(1..=4).contains(&pc) || index > 4 || registers > 4 {
        return None;
    }
    // Maglev's have a byte more: the slots that registers are spilled to.
    let entry = pc + index + pc + usize::from(maglev) + registers;
    let bytes = (length as usize).checked_mul(entry)?;
    let entries = metadata.get(header as usize..)?.get(..bytes)?;
    let number = |bytes: &[u8]| bytes.iter().rev().fold(0, |n, &b| n << 8 | u32::from(b));
    let found = entries.chunks_exact(entry).filter_map(|entry| {
        // The last two are stored plus one, for -1 says that there is none.
        Some(Safepoint {
            pc: number(&entry[..pc]),
            entry: number(&entry[pc..pc + index]).checked_sub(1)?,
            trampoline: number(&entry[pc + index..pc + index + pc]).checked_sub(1),
        })
    });
    Some(found.collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_are_as_wide_as_the_table_says() {
        let decode = |table: &[u8], header, maglev| packed(table, 4, header, maglev);
        // Two bytes a pc, one an index, one for registers.
        let configuration = 1 | 1 << 1 | 2 << 4 | 1 << 7;
        let mut table = Vec::new();
        for word in [9_u32, 3, configuration] {
            table.extend(word.to_le_bytes());
        }
        let mut maglev = table.clone();
        maglev.extend([7, 0, 0, 0]);
        for (pc, entry, trampoline) in [(0x110_u16, 0_u8, 0_u16), (0x120, 1, 0x301), (0x140, 3, 0)]
        {
            for (table, spills) in [(&mut table, &[][..]), (&mut maglev, &[1][..])] {
                table.extend(pc.to_le_bytes());
                table.push(entry);
                table.extend(trampoline.to_le_bytes());
                table.extend(spills);
                table.push(0xaa);
            }
        }
        let expected = [
            Safepoint {
                pc: 0x120,
                trampoline: Some(0x300),
                entry: 0,
            },
            Safepoint {
                pc: 0x140,
                trampoline: None,
                entry: 2,
            },
        ];
        assert_eq!(decode(&table, 12, false).unwrap(), expected);
        assert_eq!(decode(&maglev, 16, true).unwrap(), expected);
        for end in 0..table.len() {
            assert_eq!(decode(&table[..end], 12, false), None);
        }
        table[8] = 0;
        assert_eq!(decode(&table, 12, false).unwrap(), []);
        table[4..12].fill(0xff);
        assert_eq!(decode(&table, 12, false), None);
    }

    #[test]
    fn entries_of_three_words_are_read() {
        let mut table = Vec::new();
        let entries = [
            0x110,
            u32::MAX,
            u32::MAX,
            0x120,
            0,
            0x300,
            0x140,
            2,
            u32::MAX,
        ];
        for word in [3, 2].into_iter().chain(entries) {
            table.extend(word.to_le_bytes());
        }
        // One entry for all calls: none of them can be deoptimized.
        let mut one = table.clone();
        one[0] = 1;
        one[8..12].fill(0xff);
        assert_eq!(words(&one, u32::MAX).unwrap(), []);
        let expected =
            [(0x120, Some(0x300), 0), (0x140, None, 2)].map(|(pc, trampoline, entry)| Safepoint {
                pc,
                trampoline,
                entry,
            });
        assert_eq!(words(&table, u32::MAX).unwrap(), expected);
        // Other things may stand above the index.
        let mut narrow = table.clone();
        narrow[12..16].copy_from_slice(&0x1fff_ffff_u32.to_le_bytes());
        narrow[27] = 0x30;
        assert_eq!(words(&narrow, 0x0fff_ffff).unwrap(), expected);
        for end in 0..table.len() {
            assert_eq!(words(&table[..end], u32::MAX), None);
        }
    }
}
