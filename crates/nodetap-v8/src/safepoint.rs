//! Safepoint tables: which deoptimization entry belongs to a call
//! (`src/codegen/safepoint-table.h`, `src/codegen/maglev-safepoint-table.h`).
//!
//! They stand right behind the instructions, first of their metadata.

use crate::code::{Code, CodeKind};
use crate::heap::{Error, Heap};
use crate::layout::SafepointLayout;

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
        let size = self
            .memory
            .u32(code.object.field(self.layout.code.metadata_size)?)?;
        if size > MAX_BYTES {
            return Err(Error::Unbelievable("metadata of impossible size"));
        }
        let metadata = self
            .memory
            .bytes(code.start + u64::from(code.size), size as usize)?;
        let header = match code.kind {
            CodeKind::Maglev => layout.maglev_header,
            _ => layout.header,
        };
        decode(&metadata, layout, header, code.kind == CodeKind::Maglev)
            .ok_or(Error::Unbelievable("no safepoint table"))
    }
}

fn decode(
    metadata: &[u8],
    layout: &SafepointLayout,
    header: u32,
    maglev: bool,
) -> Option<Vec<Safepoint>> {
    let u32_at = |offset: usize| {
        let bytes = metadata.get(offset..offset + 4)?;
        Some(u32::from_le_bytes(bytes.try_into().ok()?))
    };
    let length = u32_at(layout.length as usize)?;
    // `entry_configuration_`, bit fields: HasDeoptData, RegisterIndexesSize,
    // PcSize, DeoptIndexSize.
    let configuration = u32_at(layout.length as usize + 4)?;
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
        let layout = SafepointLayout {
            length: 4,
            header: 12,
            maglev_header: 16,
        };
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
        assert_eq!(decode(&table, &layout, 12, false).unwrap(), expected);
        assert_eq!(decode(&maglev, &layout, 16, true).unwrap(), expected);
        for end in 0..table.len() {
            assert_eq!(decode(&table[..end], &layout, 12, false), None);
        }
        table[8] = 0;
        assert_eq!(decode(&table, &layout, 12, false).unwrap(), []);
        table[4..12].fill(0xff);
        assert_eq!(decode(&table, &layout, 12, false), None);
    }
}
