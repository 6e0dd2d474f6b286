//! All rules of one file, by address.

use std::ops::Range;

use gimli::{
    BaseAddresses, CallFrameInstruction, CieOrFde, EhFrame, EndianSlice, FrameDescriptionEntry,
    LittleEndian, UnwindSection,
};
use rustc_hash::FxHashMap;

use super::file::{self, Elf};
use super::program::State;
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

pub(super) type Slice<'a> = EndianSlice<'a, LittleEndian>;
type Fde<'a> = FrameDescriptionEntry<Slice<'a>>;

impl Table {
    /// The table of an ELF file; empty where it tells nothing, or is none.
    pub fn of_file(bytes: &[u8]) -> Table {
        Table::read(bytes).unwrap_or_default()
    }

    fn read(bytes: &[u8]) -> Option<Table> {
        let elf = Elf::parse(bytes).ok()?;
        let address = |name| file::section(&elf, bytes, name).map(|(_, range)| range.start);
        let (range, frames) = file::section(&elf, bytes, ".eh_frame")?;
        let mut bases = BaseAddresses::default().set_eh_frame(frames.start);
        if let Some(text) = address(".text") {
            bases = bases.set_text(text);
        }
        if let Some(got) = address(".got") {
            bases = bases.set_got(got);
        }
        let base = file::lowest_address(&elf, bytes)?;
        Some(Table::of_section(bytes.get(range)?, &bases, base))
    }

    fn of_section(bytes: &[u8], bases: &BaseAddresses, base: u64) -> Table {
        let mut section = EhFrame::new(bytes, LittleEndian);
        section.set_address_size(8);
        let mut functions = Functions {
            base,
            ..Functions::default()
        };
        functions.read(&section, bases);
        let rows = functions.in_order();
        Table { base, rows }
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
    base: u64,
    rows: Vec<Row>,
    functions: Vec<Function>,
}

struct Function {
    start: u32,
    /// What is beyond that is not known.
    end: u32,
    /// Where its rows are.
    rows: Range<u32>,
}

impl Functions {
    /// Reads all that the section has. What follows something damaged is left out.
    fn read(&mut self, section: &EhFrame<Slice<'_>>, bases: &BaseAddresses) {
        let mut cies = FxHashMap::default();
        let mut entries = section.entries(bases);
        while let Ok(Some(entry)) = entries.next() {
            let CieOrFde::Fde(partial) = entry else {
                continue;
            };
            let mut initial = None;
            let fde = partial.parse(|section, bases, offset| {
                let (cie, state) = match cies.get(&offset.0) {
                    Some(known) => known,
                    None => {
                        let cie = section.cie_from_offset(bases, offset)?;
                        let state = State::initial(&cie, section, bases);
                        cies.entry(offset.0).or_insert((cie, state))
                    }
                };
                initial = state.clone();
                Ok(cie.clone())
            });
            // Functions that the linker has thrown out are at 0.
            if let (Ok(fde), Some(initial)) = (fde, initial)
                && fde.initial_address() != 0
            {
                self.add(&fde, initial, section, bases);
            }
        }
    }

    fn add(
        &mut self,
        fde: &Fde<'_>,
        initial: State,
        section: &EhFrame<Slice<'_>>,
        bases: &BaseAddresses,
    ) -> Option<()> {
        let offset = |address: u64| u32::try_from(address.checked_sub(self.base)?).ok();
        let start = offset(fde.initial_address())?;
        let last = offset(fde.end_address())?;
        let first = u32::try_from(self.rows.len()).ok()?;
        let is_signal = fde.is_signal_trampoline();
        let factor = fde.cie().code_alignment_factor();
        let mut at = start;
        let mut state = initial.clone();
        let mut kept = Vec::new();
        let mut instructions = fde.instructions(section, bases);
        // What is damaged ends the function.
        let end = loop {
            let next = match instructions.next() {
                Ok(Some(CallFrameInstruction::AdvanceLoc { delta })) => {
                    let delta = u64::from(delta).checked_mul(factor)?;
                    u64::from(at).checked_add(delta)
                }
                Ok(Some(CallFrameInstruction::SetLoc { address })) => {
                    offset(address).map(u64::from)
                }
                Ok(Some(instruction)) => {
                    match state.execute(&instruction, &initial, &mut kept, fde.cie()) {
                        Some(()) => continue,
                        None => break at,
                    }
                }
                Ok(None) => None,
                Err(_) => break at,
            };
            let next = next.unwrap_or(last.into()).min(last.into()) as u32;
            if next < at {
                break at;
            }
            if next > at {
                let rule = state.rule(section, is_signal);
                self.rows.push(Row { start: at, rule });
            }
            at = next;
            if at == last {
                break at;
            }
        };
        let rows = first..u32::try_from(self.rows.len()).ok()?;
        self.functions.push(Function { start, end, rows });
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
