//! Functions of the usual kind, of which a file has a hundred thousand: those whose stack
//! frame is at the stack or frame pointer, and which save the frame pointer below it or
//! not at all. What their programs say is read in less time where nothing else is
//! expected. Whatever else there is, [`Section::run`] reads, and this gives the
//! same for what it reads.

use gimli::constants::{DW_EH_PE_indirect, DW_EH_PE_pcrel, DW_EH_PE_sdata4};
use gimli::{DwEhPe, EhFrameOffset, UnwindSection};

use super::function::Section;
use super::program::State;
use super::rule::{Cfa, Rule, SavedFp};
use super::table::Row;

/// More than compilers keep at once.
const MAX_KEPT: usize = 8;

const RBP: u64 = 6;
const RSP: u64 = 7;
const RETURN_ADDRESS: u64 = 16;
/// More than there are.
const MOST_REGISTERS: u64 = 255;

/// Where an entry's length and the place of its CIE end.
const HEADER: usize = 8;
/// Addresses are four bytes, counted from where they stand.
const ADDRESSES: DwEhPe = DwEhPe(DW_EH_PE_pcrel.0 | DW_EH_PE_sdata4.0);

/// What holds at one instruction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Place {
    /// Whether the canonical frame address is counted from `rbp`; else from `rsp`.
    pub from_fp: bool,
    /// By how many bytes.
    pub offset: i64,
    /// How far below it `rbp` has been saved, if it has been.
    pub saved_fp: Option<i64>,
}

impl Place {
    fn rule(self) -> Rule {
        let cfa = match self.from_fp {
            true => Cfa::Fp(self.offset),
            false => Cfa::Sp(self.offset),
        };
        Rule::new(cfa, self.saved_fp.map_or(SavedFp::Same, SavedFp::BelowCfa))
    }
}

/// What functions of the usual kind have in common.
#[derive(Clone, Copy, Debug)]
pub(super) struct Beginning {
    place: Place,
    /// How many bytes more there are of each at least, which say nothing here.
    augmentation: usize,
}

impl Beginning {
    /// Of those with the CIE at `offset`; `None` where they are of no usual kind.
    pub fn of(section: &Section<'_>, offset: EhFrameOffset) -> Option<Beginning> {
        let Section { frames, bases, .. } = section;
        let cie = frames.cie_from_offset(bases, offset).ok()?;
        let is_usual = cie.fde_address_encoding() == Some(ADDRESSES)
            && !cie.is_signal_trampoline()
            && cie.code_alignment_factor() == 1
            && cie.data_alignment_factor() == -8;
        let augmentation = match cie.lsda_encoding() {
            None => 0,
            Some(encoding) if encoding.0 & !DW_EH_PE_indirect.0 == ADDRESSES.0 => 4,
            Some(_) => return None,
        };
        let place = State::initial(&cie, frames, bases)?.usual()?;
        is_usual.then_some(Beginning {
            place,
            augmentation,
        })
    }
}

/// Puts the rows of the function whose entry is at `offset` of the section, after its
/// length `length` bytes long, behind those in `rows`, and returns where it begins and
/// ends. `None`, and no rows, where it is not of the usual kind.
pub(super) fn read(
    section: &Section<'_>,
    (offset, length): (usize, usize),
    beginning: Beginning,
    rows: &mut Vec<Row>,
) -> Option<(u32, u32)> {
    let before = rows.len();
    let read = entry(section, (offset, length), beginning)
        .and_then(|(start, end, program)| run(program, (start, end), beginning.place, rows));
    if read.is_none() {
        rows.truncate(before);
    }
    read
}

/// Where the function of an entry begins and ends, and its program.
fn entry<'a>(
    section: &Section<'a>,
    (offset, length): (usize, usize),
    beginning: Beginning,
) -> Option<(u32, u32, Bytes<'a>)> {
    let mut bytes = Bytes(
        section
            .bytes
            .get(offset..offset.checked_add(length)?.checked_add(4)?)?,
    );
    // Of what is larger than any function the length has more bytes.
    if usize::try_from(bytes.u32()?) != Ok(length) {
        return None;
    }
    bytes.skip(HEADER - 4)?;
    let here = section
        .bases
        .eh_frame
        .section?
        .checked_add((offset + HEADER) as u64)?;
    let address = here.wrapping_add_signed(bytes.u32()?.cast_signed().into());
    let size = u64::from(bytes.u32().filter(|&size| size <= i32::MAX as u32)?);
    if address == 0 {
        return None;
    }
    let from_base = |address: u64| u32::try_from(address.checked_sub(section.base)?).ok();
    let start = from_base(address)?;
    let end = from_base(address.checked_add(size)?)?;
    let augmentation = usize::try_from(bytes.number()?).ok()?;
    if augmentation < beginning.augmentation {
        return None;
    }
    bytes.skip(augmentation)?;
    Some((start, end, bytes))
}

/// Runs a function's program. `None` where it has anything unusual.
fn run(
    mut program: Bytes<'_>,
    (start, end): (u32, u32),
    initial: Place,
    rows: &mut Vec<Row>,
) -> Option<(u32, u32)> {
    let mut place = initial;
    let mut kept = [initial; MAX_KEPT];
    let mut kept_count = 0;
    let mut at = start;
    while at != end {
        let Some(operation) = program.u8() else {
            let rule = place.rule();
            rows.push(Row { start: at, rule });
            break;
        };
        let delta = match (operation & 0xc0, operation & 0x3f) {
            // DW_CFA_advance_loc
            (0x40, delta) => delta.into(),
            // DW_CFA_offset
            (0x80, register) => {
                let below = program.number()?;
                place.save(register.into(), below)?;
                continue;
            }
            // DW_CFA_restore
            (0xc0, register) => {
                if u64::from(register) == RBP {
                    place.saved_fp = initial.saved_fp;
                }
                continue;
            }
            // DW_CFA_advance_loc1, DW_CFA_advance_loc2, DW_CFA_advance_loc4
            (_, 0x02) => program.u8()?.into(),
            (_, 0x03) => program.u16()?.into(),
            (_, 0x04) => program.u32()?,
            (_, other) => {
                match other {
                    // DW_CFA_nop
                    0x00 => {}
                    // DW_CFA_offset_extended
                    0x05 => {
                        let (register, below) = (program.number()?, program.number()?);
                        place.save(register, below)?;
                    }
                    // DW_CFA_remember_state
                    0x0a => {
                        *kept.get_mut(kept_count)? = place;
                        kept_count += 1;
                    }
                    // DW_CFA_restore_state
                    0x0b => {
                        kept_count = kept_count.checked_sub(1)?;
                        place = kept[kept_count];
                    }
                    // DW_CFA_def_cfa
                    0x0c => {
                        place.from_fp = is_fp(program.number()?)?;
                        place.offset = program.offset()?;
                    }
                    // DW_CFA_def_cfa_register
                    0x0d => place.from_fp = is_fp(program.number()?)?,
                    // DW_CFA_def_cfa_offset
                    0x0e => place.offset = program.offset()?,
                    // DW_CFA_GNU_args_size
                    0x2e => {
                        program.number()?;
                    }
                    _ => return None,
                }
                continue;
            }
        };
        let next = at.saturating_add(delta).min(end);
        if next > at {
            let rule = place.rule();
            rows.push(Row { start: at, rule });
        }
        at = next;
    }
    Some((start, end))
}

impl Place {
    fn save(&mut self, register: u64, below: u64) -> Option<()> {
        match register {
            RBP => self.saved_fp = Some(i64::try_from(below.checked_mul(8)?).ok()?),
            RETURN_ADDRESS => return None,
            0..=MOST_REGISTERS => {}
            _ => return None,
        }
        Some(())
    }
}

fn is_fp(register: u64) -> Option<bool> {
    match register {
        RBP => Some(true),
        RSP => Some(false),
        _ => None,
    }
}

/// What has not been read yet.
struct Bytes<'a>(&'a [u8]);

impl Bytes<'_> {
    fn take<const COUNT: usize>(&mut self) -> Option<[u8; COUNT]> {
        let (bytes, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(*bytes)
    }

    fn skip(&mut self, count: usize) -> Option<()> {
        self.0 = self.0.get(count..)?;
        Some(())
    }

    fn u8(&mut self) -> Option<u8> {
        self.take::<1>().map(|[byte]| byte)
    }

    fn u16(&mut self) -> Option<u16> {
        self.take().map(u16::from_le_bytes)
    }

    fn u32(&mut self) -> Option<u32> {
        self.take().map(u32::from_le_bytes)
    }

    fn offset(&mut self) -> Option<i64> {
        i64::try_from(self.number()?).ok()
    }

    /// An unsigned number in LEB128, of so many bytes as one has in practice.
    fn number(&mut self) -> Option<u64> {
        let mut number = 0;
        for shift in [0, 7, 14, 21, 28] {
            let byte = self.u8()?;
            number |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Some(number);
            }
        }
        None
    }
}
