//! The stubs through which a module calls functions of other modules.
//!
//! They have no symbols. What one is for is told by the slot of the global offset
//! table that it jumps through: a relocation says which function's address the
//! dynamic linker puts there.

use std::ops::Range;
use std::sync::OnceLock;

use object::elf::SHT_NOBITS;
use object::read::elf::{ElfFile64, SectionHeader};
use object::{Endianness, Object, ObjectSymbol, ObjectSymbolTable, ReadRef, RelocationTarget};
use rustc_hash::FxHashMap;

use crate::elf::{Parse, Source};

/// Stubs start at multiples of this, or (in `.plt.got`) of half of it.
const STUB: u64 = 16;

/// The stubs of one ELF file.
#[derive(Debug)]
pub(crate) struct Stubs {
    sections: Vec<Section>,
    /// Function names by the slot that holds the function's address.
    slots: OnceLock<FxHashMap<u64, String>>,
}

#[derive(Debug)]
struct Section {
    addresses: Range<u64>,
    offset: u64,
}

impl Stubs {
    pub(crate) fn of<'data, R: ReadRef<'data>>(
        elf: &ElfFile64<'data, Endianness, R>,
    ) -> object::Result<Self> {
        let endian = elf.endian();
        let table = elf.elf_section_table();
        let sections = table
            .iter()
            .filter(|section| {
                section.sh_type(endian) != SHT_NOBITS
                    && matches!(
                        table.section_name(endian, section),
                        Ok(b".plt" | b".plt.sec" | b".plt.got")
                    )
            })
            .map(|section| {
                let start = section.sh_addr(endian);
                Section {
                    addresses: start..start.saturating_add(section.sh_size(endian)),
                    offset: section.sh_offset(endian),
                }
            })
            .collect();
        Ok(Self {
            sections,
            slots: OnceLock::new(),
        })
    }

    /// The function that the stub at `address` is for, and where the stub starts.
    pub(crate) fn find(&self, source: &Source, address: u64) -> Option<(String, u64)> {
        let section = self
            .sections
            .iter()
            .find(|section| section.addresses.contains(&address))?;
        let inside = address - section.addresses.start;
        [STUB, STUB / 2].into_iter().find_map(|size| {
            let start = inside - inside % size;
            let mut code = [0; STUB as usize];
            let left = usize::try_from(section.addresses.end - section.addresses.start - start)
                .unwrap_or(usize::MAX);
            let code = &mut code[..left.min(STUB as usize)];
            let read = source
                .read_at(code, section.offset.checked_add(start)?)
                .ok()?;
            let (jump, relative) = jump_through_slot(&code[..read])?;
            // The jump must not be the next stub's.
            if inside - start >= jump as u64 {
                return None;
            }
            let stub = section.addresses.start + start;
            let slot = stub
                .wrapping_add(jump as u64)
                .wrapping_add_signed(relative.into());
            let slots = self
                .slots
                .get_or_init(|| source.parse(ReadSlots).unwrap_or_default());
            Some((slots.get(&slot)?.clone(), stub))
        })
    }
}

/// Where the `jmp *slot(%rip)` ends that a stub starts with, after an optional
/// `endbr64` and `bnd`, and the slot's distance from there.
fn jump_through_slot(code: &[u8]) -> Option<(usize, i32)> {
    let rest = code.strip_prefix(&[0xf3, 0x0f, 0x1e, 0xfa]).unwrap_or(code);
    let rest = rest.strip_prefix(&[0xf2]).unwrap_or(rest);
    let operand = rest.strip_prefix(&[0xff, 0x25])?;
    let relative = i32::from_le_bytes(operand.get(..4)?.try_into().ok()?);
    Some((code.len() - operand.len() + 4, relative))
}

struct ReadSlots;

impl Parse<FxHashMap<u64, String>> for ReadSlots {
    fn parse<'data, R: ReadRef<'data>>(
        self,
        elf: &ElfFile64<'data, Endianness, R>,
    ) -> object::Result<FxHashMap<u64, String>> {
        let mut slots = FxHashMap::default();
        let (Some(symbols), Some(relocations)) =
            (elf.dynamic_symbol_table(), elf.dynamic_relocations())
        else {
            return Ok(slots);
        };
        for (slot, relocation) in relocations {
            // A slot gets the address itself: not plus something.
            if let RelocationTarget::Symbol(index) = relocation.target()
                && relocation.addend() == 0
                && let Ok(symbol) = symbols.symbol_by_index(index)
                && let Ok(name) = symbol.name()
                && !name.is_empty()
            {
                slots.insert(slot, name.to_owned());
            }
        }
        Ok(slots)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_jump_of_each_form_of_stub_is_found() {
        // .plt: jmp *0x2fe2(%rip); push $0; jmp …
        let lazy = [0xff, 0x25, 0xe2, 0x2f, 0, 0, 0x68, 0, 0, 0, 0];
        assert_eq!(jump_through_slot(&lazy), Some((6, 0x2fe2)));
        // .plt.sec: endbr64; bnd jmp *-0x10(%rip); nop
        let indirect_branch_tracked = [
            0xf3, 0x0f, 0x1e, 0xfa, 0xf2, 0xff, 0x25, 0xf0, 0xff, 0xff, 0xff, 0x0f,
        ];
        assert_eq!(
            jump_through_slot(&indirect_branch_tracked),
            Some((11, -0x10))
        );
        // The resolver: push *0x2fe2(%rip); jmp …
        assert_eq!(jump_through_slot(&[0xff, 0x35, 0xe2, 0x2f, 0, 0]), None);
        assert_eq!(jump_through_slot(&[0xff, 0x25, 0xe2]), None);
        assert_eq!(jump_through_slot(&[]), None);
    }
}
