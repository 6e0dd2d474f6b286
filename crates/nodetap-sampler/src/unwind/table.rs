//! All rules of one file, by address.

use std::ops::Range;

use gimli::{CieOrFde, UnwindSection};

use super::file::{self, Elf};
use super::function::{Cies, Function, Section};
use super::rule::Rule;

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
        functions.read(&section);
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
    /// Reads all that the section has. What follows something damaged is left out.
    fn read(&mut self, section: &Section<'_>) {
        let mut cies = Cies::default();
        let mut entries = section.frames.entries(&section.bases);
        while let Ok(Some(entry)) = entries.next() {
            if let CieOrFde::Fde(partial) = entry
                && let Some(function) = section.function(&partial, &mut cies)
            {
                self.add(&function, section);
            }
        }
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
