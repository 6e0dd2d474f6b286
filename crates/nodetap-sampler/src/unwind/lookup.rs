//! The rule for one address, without reading the whole file.
//!
//! Linkers put an index beside the programs (`.eh_frame_hdr`): of the function that an
//! address is in the program is run, and of no other. Who walks a few stacks has no use for
//! a table.

use std::ops::Range;

use gimli::{BaseAddresses, EhFrameHdr, EhFrameOffset, LittleEndian, UnwindSection};
use rustc_hash::FxHashMap;

use super::file::{self, Elf};
use super::function::{Cies, Section};
use super::rule::Rule;

/// How many rules are remembered. A process is in few places most of the time.
const MOST_KNOWN: usize = 1 << 14;

/// What one file tells. It does not hold the file's bytes.
#[derive(Debug)]
pub(crate) struct Lookup {
    index: Range<usize>,
    frames: Range<usize>,
    bases: BaseAddresses,
    base: u64,
    known: FxHashMap<u64, Rule>,
}

impl Lookup {
    /// For this file; `None` where it tells nothing.
    pub fn of_file(bytes: &[u8]) -> Option<Lookup> {
        let elf = Elf::parse(bytes).ok()?;
        let (index, index_addresses) = file::section(&elf, bytes, ".eh_frame_hdr")?;
        let (frames, bases) = file::eh_frame(&elf, bytes)?;
        Some(Lookup {
            index,
            frames,
            bases: bases.set_eh_frame_hdr(index_addresses.start),
            base: file::lowest_address(&elf, bytes)?,
            known: FxHashMap::default(),
        })
    }

    /// The rule for the instruction at `address` of the file, which has these bytes.
    pub fn rule(&mut self, bytes: &[u8], address: u64) -> Rule {
        if let Some(&rule) = self.known.get(&address) {
            return rule;
        }
        let rule = self.find(bytes, address).unwrap_or(Rule::NOTHING);
        if self.known.len() >= MOST_KNOWN {
            self.known.clear();
        }
        self.known.insert(address, rule);
        rule
    }

    fn find(&self, bytes: &[u8], address: u64) -> Option<Rule> {
        let index = EhFrameHdr::new(bytes.get(self.index.clone())?, LittleEndian);
        let index = index.parse(&self.bases, 8).ok()?;
        let entry = index.table()?.lookup(address, &self.bases).ok()?;
        let frames = index.eh_frame_ptr().direct().ok()?;
        let offset = entry.direct().ok()?.checked_sub(frames)?;
        let offset = EhFrameOffset(usize::try_from(offset).ok()?);

        let bases = self.bases.clone();
        let section = Section::new(bytes.get(self.frames.clone())?, bases, self.base);
        let partial = section
            .frames
            .partial_fde_from_offset(&section.bases, offset)
            .ok()?;
        let function = section.function(&partial, &mut Cies::default())?;
        let wanted = u32::try_from(address.checked_sub(self.base)?).ok()?;
        let mut found = None;
        section.run(&function, |start, next, rule| {
            if (start..next).contains(&wanted) {
                found = Some(rule);
            }
        })?;
        found
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::unwind::Table;

    #[test]
    fn a_rule_looked_up_is_the_one_of_the_table() {
        let own = std::env::current_exe().unwrap();
        let libc = "/usr/lib/x86_64-linux-gnu/libc.so.6".into();
        let mut compared = 0;
        for path in [own, libc] {
            let Ok(bytes) = std::fs::read(&path) else {
                continue;
            };
            let table = Table::of_file(&bytes);
            let mut lookup = Lookup::of_file(&bytes).expect("an index");
            for row in table.rows.iter().step_by(11) {
                let start = table.base + u64::from(row.start);
                for address in [start, start + 1] {
                    let rule = lookup.rule(&bytes, address);
                    assert_eq!(
                        rule,
                        table.rule(address),
                        "{}: {address:#x}",
                        path.display()
                    );
                    assert_eq!(rule, lookup.rule(&bytes, address));
                    compared += 1;
                }
            }
            assert_eq!(lookup.rule(&bytes, 0), Rule::NOTHING);
            assert_eq!(lookup.rule(&bytes, u64::MAX), Rule::NOTHING);
        }
        assert!(compared > 100, "{compared}");
    }

    #[test]
    fn a_damaged_file_tells_nothing() {
        let mut bytes = std::fs::read(std::env::current_exe().unwrap()).unwrap();
        let mut whole = Lookup::of_file(&bytes).expect("an index");
        let rows = Table::of_file(&bytes).rows;
        let row = rows.iter().find(|row| row.rule != Rule::NOTHING);
        let address = whole.base + u64::from(row.expect("rules").start);
        assert_ne!(whole.rule(&bytes, address), Rule::NOTHING);
        assert!(Lookup::of_file(&[]).is_none());
        let mut cut = Lookup::of_file(&bytes).expect("an index");
        assert_eq!(cut.rule(&bytes[..cut.frames.start], address), Rule::NOTHING);
        for at in (whole.index.start..whole.index.end).step_by(97) {
            bytes[at] ^= 0xff;
        }
        for at in (whole.frames.start..whole.frames.end).step_by(61) {
            bytes[at] ^= 0x5a;
        }
        let mut damaged = Lookup::of_file(&bytes).expect("an index");
        for offset in 0..10_000 {
            // Whatever it is.
            damaged.rule(&bytes, address + offset * 13);
        }
    }
}
