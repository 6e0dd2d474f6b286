//! Safepoint tables: which deoptimization entry belongs to a call
//! (`src/safepoint-table.h`).
//!
//! They stand behind the instructions, as part of them: the number of calls,
//! how many bytes of pointer map each has, then two numbers of each call.

/// `DeoptimizationIndexField` of a call's second number.
const ENTRY_MASK: u32 = (1 << 28) - 1;
/// `kNoDeoptimizationIndex`: the call does not come back to another code.
const NO_ENTRY: u32 = ENTRY_MASK;

/// A call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CallSite {
    /// Where it returns to, in bytes from the code's start.
    pub pc: u32,
    /// The index of its deoptimization entry.
    pub entry: Option<u32>,
}

/// The calls that the table at the start of `table` lists. `None` where they
/// would not fit into it.
pub fn decode(table: &[u8]) -> Option<Vec<CallSite>> {
    let (length, rest) = table.split_first_chunk()?;
    let (_pointer_map_bytes, rest) = rest.split_first_chunk::<4>()?;
    let length = u32::from_le_bytes(*length) as usize;
    let calls = rest.get(..length.checked_mul(8)?)?;
    let call = |pair: &[u8]| {
        let (pc, info) = pair.split_at(4);
        let number = |bytes: &[u8]| Some(u32::from_le_bytes(bytes.try_into().ok()?));
        Some(CallSite {
            pc: number(pc)?,
            entry: Some(number(info)? & ENTRY_MASK).filter(|&entry| entry != NO_ENTRY),
        })
    };
    calls.chunks_exact(8).map(call).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calls_have_a_pc_and_perhaps_an_entry() {
        let words = [
            3_u32,
            2,
            0x10,
            0,
            0x20,
            7 | 1 << 28,
            0x30,
            NO_ENTRY | 5 << 28,
        ];
        let mut table: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
        table.extend([0xff; 6]);
        let found: Vec<_> = decode(&table)
            .unwrap()
            .iter()
            .map(|call| (call.pc, call.entry))
            .collect();
        assert_eq!(found, [(0x10, Some(0)), (0x20, Some(7)), (0x30, None)]);
        for end in 0..8 * 4 {
            assert_eq!(decode(&table[..end]), None);
        }
        table[0..4].fill(0xff);
        assert_eq!(decode(&table), None);
        assert_eq!(decode(&[0; 8]).unwrap(), []);
    }
}
