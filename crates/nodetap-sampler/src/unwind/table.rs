//! All rules of one file, by address.

use std::ops::Range;

use gimli::{CieOrFde, UnwindSection};
use rustc_hash::FxHashMap;

use super::file::{self, Elf};
use super::function::{Cies, Function, Section};
use super::rule::Rule;
use super::usual::{self, Beginning};

/// From `start` on, up to the next row, `rule` holds. As it is in the kernel.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Row {
    /// An address, less the table's base.
    pub start: u32,
    /// See [`Rule`].
    pub rule: Rule,
}

/// The rules of a file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Table {
    /// What addresses are counted from: the lowest one of the file.
    pub base: u64,
    /// Sorted. Nothing is known before the first one.
    pub rows: Vec<Row>,
}

impl Table {
    /// The table of an ELF file; empty where it tells nothing, or is none.
    pub fn of_file(bytes: &[u8]) -> Table {
        Table::read(bytes).unwrap_or_default()
    }

    fn read(bytes: &[u8]) -> Option<Table> {
        let elf = Elf::parse(bytes).ok()?;
        let (range, bases) = file::eh_frame(&elf, bytes)?;
        let base = file::lowest_address(&elf, bytes)?;
        let section = Section::new(bytes.get(range)?, bases, base);
        let mut functions = Functions::default();
        functions.read(&section, true);
        let rows = functions.in_order();
        Some(Table { base, rows })
    }

    /// The rule for the instruction at `address` of the file.
    pub fn rule(&self, address: u64) -> Rule {
        let offset = address.checked_sub(self.base);
        let Some(offset) = offset.and_then(|offset| u32::try_from(offset).ok()) else {
            return Rule::NOTHING;
        };
        let after = self.rows.partition_point(|row| row.start <= offset);
        match after.checked_sub(1) {
            Some(index) => self.rows[index].rule,
            None => Rule::NOTHING,
        }
    }
}

/// The rows of all functions, in the file's order.
#[derive(Default)]
struct Functions {
    rows: Vec<Row>,
    functions: Vec<Place>,
}

/// A function's place, and that of its rows.
struct Place {
    start: u32,
    /// What is beyond that is not known.
    end: u32,
    rows: Range<u32>,
}

impl Functions {
    /// Reads all that the section has; those of the usual kind `quickly`. What follows
    /// something damaged is left out.
    fn read(&mut self, section: &Section<'_>, quickly: bool) {
        let mut cies = Cies::default();
        // Where functions begin, by their CIE.
        let mut beginnings = FxHashMap::default();
        let mut entries = section.frames.entries(&section.bases);
        while let Ok(Some(entry)) = entries.next() {
            let CieOrFde::Fde(partial) = entry else {
                continue;
            };
            let cie = partial.cie_offset();
            let beginning = beginnings
                .entry(cie.0)
                .or_insert_with(|| Beginning::of(section, cie));
            if quickly
                && let Some(beginning) = beginning
                && self.add_usual(section, (partial.offset(), partial.entry_len()), *beginning)
            {
                continue;
            }
            if let Some(function) = section.function(&partial, &mut cies) {
                self.add(&function, section);
            }
        }
    }

    /// Adds a function of the usual kind. Returns whether it is one.
    fn add_usual(
        &mut self,
        section: &Section<'_>,
        entry: (usize, usize),
        beginning: Beginning,
    ) -> bool {
        let Ok(first) = u32::try_from(self.rows.len()) else {
            return false;
        };
        let Some((start, end)) = usual::read(section, entry, beginning, &mut self.rows) else {
            return false;
        };
        let Ok(last) = u32::try_from(self.rows.len()) else {
            return false;
        };
        self.functions.push(Place {
            start,
            end,
            rows: first..last,
        });
        true
    }

    fn add(&mut self, function: &Function<'_>, section: &Section<'_>) -> Option<()> {
        let first = u32::try_from(self.rows.len()).ok()?;
        let rows = &mut self.rows;
        let (start, end) =
            section.run(function, |start, _, rule| rows.push(Row { start, rule }))?;
        let rows = first..u32::try_from(self.rows.len()).ok()?;
        self.functions.push(Place { start, end, rows });
        Some(())
    }

    /// The rows by address, each of which says something else than the one before.
    fn in_order(mut self) -> Vec<Row> {
        self.functions.sort_by_key(|function| function.start);
        let mut rows: Vec<Row> = Vec::with_capacity(self.rows.len());
        let mut push = |start, rule| match rows.last_mut() {
            Some(last) if last.rule == rule => {}
            None if rule == Rule::NOTHING => {}
            Some(last) if last.start == start => last.rule = rule,
            _ => rows.push(Row { start, rule }),
        };
        let mut end = 0;
        for function in &self.functions {
            // Two for the same code: the first is believed.
            if function.start < end {
                continue;
            }
            if function.start > end {
                push(end, Rule::NOTHING);
            }
            for row in &self.rows[function.rows.start as usize..function.rows.end as usize] {
                push(row.start, row.rule);
            }
            end = function.end;
        }
        push(end, Rule::NOTHING);
        rows
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// This program, which has Rust and C in it, and the C library, which has assembly too.
    fn files() -> Vec<Vec<u8>> {
        let library = "/lib/x86_64-linux-gnu/libc.so.6";
        ["/proc/self/exe", library]
            .iter()
            .filter_map(|path| std::fs::read(path).ok())
            .collect()
    }

    fn section(bytes: &[u8]) -> Section<'_> {
        let elf = Elf::parse(bytes).unwrap();
        let (range, bases) = file::eh_frame(&elf, bytes).unwrap();
        let base = file::lowest_address(&elf, bytes).unwrap();
        Section::new(&bytes[range], bases, base)
    }

    fn read(section: &Section<'_>, quickly: bool) -> (Vec<Range<u32>>, Vec<Row>) {
        let mut functions = Functions::default();
        functions.read(section, quickly);
        let places = functions.functions.iter();
        let places = places.map(|it| it.start..it.end).collect();
        (places, functions.in_order())
    }

    #[test]
    fn functions_of_the_usual_kind_are_what_their_programs_say() {
        for file in files() {
            let section = section(&file);
            let (places, rows) = read(&section, true);
            assert!(places.len() > 500, "{}", places.len());
            assert_eq!((places, rows), read(&section, false));
        }
    }

    #[test]
    fn most_functions_are_of_the_usual_kind() {
        let file = std::fs::read("/proc/self/exe").unwrap();
        let section = section(&file);
        let (mut usual, mut all) = (0, 0);
        let mut cies = Cies::default();
        let mut entries = section.frames.entries(&section.bases);
        while let Ok(Some(entry)) = entries.next() {
            let CieOrFde::Fde(partial) = entry else {
                continue;
            };
            if section.function(&partial, &mut cies).is_none() {
                continue;
            }
            all += 1;
            let beginning = Beginning::of(&section, partial.cie_offset());
            let entry = (partial.offset(), partial.entry_len());
            let read = |beginning| usual::read(&section, entry, beginning, &mut Vec::new());
            usual += u32::from(beginning.and_then(read).is_some());
        }
        assert!(usual > 9 * all / 10, "{usual} of {all}");
    }

    /// Whatever the bytes are, both read the same of them.
    #[test]
    fn damaged_programs_are_read_alike() {
        let mut file = std::fs::read("/proc/self/exe").unwrap();
        let elf = Elf::parse(&*file).unwrap();
        let (range, bases) = file::eh_frame(&elf, &file).unwrap();
        let base = file::lowest_address(&elf, &file).unwrap();
        let range = range.start..range.end.min(range.start + 40_000);
        for seed in 1..=50_usize {
            let bytes = &mut file[range.clone()];
            for at in (seed * 7..bytes.len()).step_by(997 + seed) {
                bytes[at] = bytes[at].wrapping_mul(5).wrapping_add(seed as u8);
            }
            let section = Section::new(&file[range.clone()], bases.clone(), base);
            assert_eq!(read(&section, true), read(&section, false), "{seed}");
        }
    }
}
