//! All rules of one file, by address.

use std::ops::Range;

use gimli::{
    BaseAddresses, CfaRule, CieOrFde, CommonInformationEntry, EhFrame, EndianSlice,
    FrameDescriptionEntry, LittleEndian, Operation, Register, RegisterRule, UnwindContext,
    UnwindExpression, UnwindSection, UnwindTableRow, X86_64,
};
use rustc_hash::FxHashMap;

use super::file::{self, Elf};
use super::rule::{Cfa, Rule, SavedFp};
use crate::ebpf::shared::{SIGNAL_FP, SIGNAL_PC, SIGNAL_SP};

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

type Slice<'a> = EndianSlice<'a, LittleEndian>;
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
        let mut cies: FxHashMap<usize, CommonInformationEntry<Slice<'_>>> = FxHashMap::default();
        let mut context = UnwindContext::new();
        let mut entries = section.entries(bases);
        while let Ok(Some(entry)) = entries.next() {
            let CieOrFde::Fde(partial) = entry else {
                continue;
            };
            let fde = partial.parse(|section, bases, offset| {
                if let Some(cie) = cies.get(&offset.0) {
                    return Ok(cie.clone());
                }
                let cie = section.cie_from_offset(bases, offset)?;
                cies.insert(offset.0, cie.clone());
                Ok(cie)
            });
            // Functions that the linker has thrown out are at 0.
            if let Ok(fde) = fde
                && fde.initial_address() != 0
            {
                self.add(&fde, section, bases, &mut context);
            }
        }
    }

    fn add(
        &mut self,
        fde: &Fde<'_>,
        section: &EhFrame<Slice<'_>>,
        bases: &BaseAddresses,
        context: &mut UnwindContext<usize>,
    ) -> Option<()> {
        let offset = |address: u64| u32::try_from(address.checked_sub(self.base)?).ok();
        let start = offset(fde.initial_address())?;
        let last = offset(fde.end_address())?;
        let first = u32::try_from(self.rows.len()).ok()?;
        let mut end = start;
        let mut table = fde.rows(section, bases, context).ok()?;
        // What is damaged ends the function.
        while let Ok(Some(row)) = table.next_row() {
            let row_end = offset(row.end_address())?.min(last);
            if row_end <= end {
                continue;
            }
            let rule = rule(row, section, fde.is_signal_trampoline());
            self.rows.push(Row { start: end, rule });
            end = row_end;
        }
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

/// What a row of a function's table says.
fn rule(row: &UnwindTableRow<usize>, section: &EhFrame<Slice<'_>>, is_signal: bool) -> Rule {
    let return_address = row.register(X86_64::RA);
    if is_signal {
        return match is_kernels_signal(row, section) {
            true => Rule::SIGNAL,
            false => Rule::NOTHING,
        };
    }
    match return_address {
        Some(RegisterRule::Undefined) => return Rule::END,
        Some(RegisterRule::Offset(-8)) => {}
        _ => return Rule::NOTHING,
    }
    let cfa = match row.cfa() {
        CfaRule::RegisterAndOffset { register, offset } => match *register {
            X86_64::RSP => Some(Cfa::Sp(*offset)),
            X86_64::RBP => Some(Cfa::Fp(*offset)),
            other => place(other).map(|place| Cfa::Register(place, *offset)),
        },
        CfaRule::Expression(expression) => match &operations(expression, section)[..] {
            [
                Operation::RegisterOffset {
                    register, offset, ..
                },
                Operation::Deref { .. },
                rest @ ..,
            ] => {
                let add = match rest {
                    [] => Some(0),
                    [Operation::PlusConstant { value }] => i64::try_from(*value).ok(),
                    _ => None,
                };
                match *register {
                    X86_64::RSP => add.map(|add| Cfa::DerefSp(*offset, add)),
                    X86_64::RBP => add.map(|add| Cfa::DerefFp(*offset, add)),
                    _ => None,
                }
            }
            operations => plt(operations).map(Cfa::Plt),
        },
    };
    let fp = match row.register(X86_64::RBP) {
        None | Some(RegisterRule::SameValue) => Some(SavedFp::Same),
        Some(RegisterRule::Undefined) => Some(SavedFp::Lost),
        Some(RegisterRule::Offset(offset)) => offset.checked_neg().map(SavedFp::BelowCfa),
        Some(RegisterRule::Expression(expression)) => register_offset(&expression, section)
            .and_then(|(register, offset)| match register {
                X86_64::RSP => Some(SavedFp::AtSp(offset)),
                X86_64::RBP => Some(SavedFp::AtFp(offset)),
                _ => None,
            }),
        Some(_) => None,
    };
    match (cfa, fp) {
        (Some(cfa), Some(fp)) => Rule::new(cfa, fp),
        _ => Rule::NOTHING,
    }
}

/// Where a register is in [`Registers`](crate::raw::Registers), by DWARF's number.
fn place(register: Register) -> Option<u32> {
    match register {
        X86_64::RSP => Some(1),
        X86_64::RBP => Some(2),
        X86_64::RAX => Some(3),
        X86_64::RBX => Some(4),
        X86_64::RCX => Some(5),
        X86_64::RDX => Some(6),
        X86_64::RSI => Some(7),
        X86_64::RDI => Some(8),
        Register(number @ 8..=15) => Some(u32::from(number) + 1),
        _ => None,
    }
}

/// Whether it says of the registers what is true where the kernel has called a signal
/// handler: they are in the `ucontext` at the stack pointer.
fn is_kernels_signal(row: &UnwindTableRow<usize>, section: &EhFrame<Slice<'_>>) -> bool {
    let at = |offset: u32| Some((X86_64::RSP, i64::from(offset)));
    let register = |register| match row.register(register) {
        Some(RegisterRule::Expression(expression)) => register_offset(&expression, section),
        _ => None,
    };
    let CfaRule::Expression(cfa) = row.cfa() else {
        return false;
    };
    let cfa = match &operations(cfa, section)[..] {
        [
            Operation::RegisterOffset {
                register, offset, ..
            },
            Operation::Deref { .. },
        ] => Some((*register, *offset)),
        _ => None,
    };
    cfa == at(SIGNAL_SP)
        && register(X86_64::RA) == at(SIGNAL_PC)
        && register(X86_64::RBP) == at(SIGNAL_FP)
}

/// How far into a stub its push is done, of what linkers say of all stubs:
/// `rsp + 8 + ((rip & 15) >= N) * 8`.
fn plt(operations: &[Operation<Slice<'_>>]) -> Option<u32> {
    match operations {
        [
            Operation::RegisterOffset {
                register: X86_64::RSP,
                offset: 8,
                ..
            },
            Operation::RegisterOffset {
                register: X86_64::RA,
                offset: 0,
                ..
            },
            Operation::UnsignedConstant { value: 15 },
            Operation::And,
            Operation::UnsignedConstant { value: from },
            Operation::Ge,
            Operation::UnsignedConstant { value: 3 },
            Operation::Shl,
            Operation::Plus,
        ] => u32::try_from(*from).ok(),
        _ => None,
    }
}

fn register_offset(
    expression: &UnwindExpression<usize>,
    section: &EhFrame<Slice<'_>>,
) -> Option<(Register, i64)> {
    match operations(expression, section)[..] {
        [
            Operation::RegisterOffset {
                register, offset, ..
            },
        ] => Some((register, offset)),
        _ => None,
    }
}

/// The operations of an expression; none where it is damaged.
fn operations<'a>(
    expression: &UnwindExpression<usize>,
    section: &EhFrame<Slice<'a>>,
) -> Vec<Operation<Slice<'a>>> {
    let mut operations = Vec::new();
    let Ok(expression) = expression.get(section) else {
        return operations;
    };
    let encoding = gimli::Encoding {
        address_size: 8,
        format: gimli::Format::Dwarf32,
        version: 1,
    };
    let mut all = expression.operations(encoding);
    loop {
        match all.next() {
            Ok(Some(operation)) => operations.push(operation),
            Ok(None) => return operations,
            Err(_) => return Vec::new(),
        }
    }
}
