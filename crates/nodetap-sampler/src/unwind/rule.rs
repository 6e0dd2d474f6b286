//! One rule: where a frame's caller has its registers.
//!
//! DWARF's canonical frame address (CFA) is what the stack pointer was before the
//! call; the return address stands below it. A rule tells how to get it, and
//! where the caller's `rbp` is. What cannot be said in 32 bits is
//! [`Rule::NOTHING`].

use super::Cursor;
use crate::ebpf::shared::{
    RULE_CFA_DEREF_FP, RULE_CFA_DEREF_SP, RULE_CFA_FP, RULE_CFA_PLT, RULE_CFA_REGISTER,
    RULE_CFA_SP, RULE_END, RULE_FP_AT_CFA, RULE_FP_AT_FP, RULE_FP_AT_SP, RULE_FP_LOST,
    RULE_FP_SAME, RULE_FP_SHIFT, RULE_NOTHING, RULE_OFFSET_SHIFT, RULE_PARAMETER_SHIFT,
    RULE_SIGNAL, SIGNAL_FP, SIGNAL_PC, SIGNAL_SP,
};
use crate::raw::Registers;

/// A rule as it stands in a table's row; the bits are told by `ebpf/shared.rs`.
#[repr(transparent)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Rule(pub u32);

/// Where the CFA is. Offsets are in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cfa {
    /// `rsp` + offset
    Sp(i64),
    /// `rbp` + offset
    Fp(i64),
    /// What stands at `rsp` + the first, + the second
    DerefSp(i64, i64),
    /// What stands at `rbp` + the first, + the second
    DerefFp(i64, i64),
    /// A register (its place in [`Registers`]) + offset: told of a thread's own
    /// frame only.
    Register(u32, i64),
    /// A stub of a procedure linkage table: `rsp` + 8, and 8 more from so many bytes
    /// into its 16 on.
    Plt(u32),
}

/// Where the caller's `rbp` is. Offsets are in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SavedFp {
    /// Still in `rbp`
    Same,
    /// At the CFA less so many
    BelowCfa(i64),
    /// At `rbp` + offset
    AtFp(i64),
    /// At `rsp` + offset
    AtSp(i64),
    /// Nowhere
    Lost,
}

/// What a rule made of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Its caller, whose pc is a return address.
    Caller(Cursor),
    /// It is the kernel's call of a signal handler. What was interrupted was about to
    /// execute what is at this pc.
    Interrupted(Cursor),
    /// It has no caller: threads begin here.
    End,
    /// Nothing is known of it: frame pointers have to do.
    Nothing,
    /// What is known of it cannot be.
    Broken,
}

impl Rule {
    /// Nothing is known.
    pub const NOTHING: Rule = Rule(RULE_NOTHING);
    /// There is no caller.
    pub const END: Rule = Rule(RULE_END);
    /// The registers are those that the kernel kept when it called a signal handler.
    pub const SIGNAL: Rule = Rule(RULE_SIGNAL);

    /// The rule that says this; [`Rule::NOTHING`] where it cannot be said.
    pub fn new(cfa: Cfa, fp: SavedFp) -> Rule {
        Rule::encode(cfa, fp).unwrap_or(Rule::NOTHING)
    }

    fn encode(cfa: Cfa, fp: SavedFp) -> Option<Rule> {
        let (kind, parameter) = match cfa {
            Cfa::Sp(offset) => (RULE_CFA_SP, signed(offset, 19)?),
            Cfa::Fp(offset) => (RULE_CFA_FP, signed(offset, 19)?),
            Cfa::DerefSp(at, add) => (RULE_CFA_DEREF_SP, pair(at, add)?),
            Cfa::DerefFp(at, add) => (RULE_CFA_DEREF_FP, pair(at, add)?),
            Cfa::Register(register, offset) if register < 17 => {
                (RULE_CFA_REGISTER, register | signed(offset, 14)? << 5)
            }
            Cfa::Plt(from) if from <= 16 => (RULE_CFA_PLT, from),
            Cfa::Register(..) | Cfa::Plt(_) => return None,
        };
        let (saved, offset) = match fp {
            SavedFp::Same => (RULE_FP_SAME, 0),
            SavedFp::BelowCfa(below) => (RULE_FP_AT_CFA, unsigned(below, 6)?),
            SavedFp::AtFp(offset) => (RULE_FP_AT_FP, signed(offset, 6)?),
            SavedFp::AtSp(offset) => (RULE_FP_AT_SP, signed(offset, 6)?),
            SavedFp::Lost => (RULE_FP_LOST, 0),
        };
        let high = saved << RULE_FP_SHIFT | offset << RULE_OFFSET_SHIFT;
        Some(Rule(kind | high | parameter << RULE_PARAMETER_SHIFT))
    }

    /// Where the caller's `rbp` is.
    pub fn saved_fp(self) -> SavedFp {
        let offset = self.0 >> RULE_OFFSET_SHIFT & 63;
        let near = i64::from((offset << 26) as i32 >> 26) * 8;
        match self.0 >> RULE_FP_SHIFT & 7 {
            RULE_FP_SAME => SavedFp::Same,
            RULE_FP_AT_CFA => SavedFp::BelowCfa(8 * i64::from(offset)),
            RULE_FP_AT_FP => SavedFp::AtFp(near),
            RULE_FP_AT_SP => SavedFp::AtSp(near),
            _ => SavedFp::Lost,
        }
    }

    /// Whether the CFA is in memory.
    pub fn is_beyond_registers(self) -> bool {
        let kind = self.0 & 15;
        [RULE_CFA_DEREF_SP, RULE_CFA_DEREF_FP, RULE_SIGNAL].contains(&kind)
    }

    /// The caller of the frame `at`, of which this holds. `registers`: all of them,
    /// where the thread itself is there. `ebpf/unwind.h` does the same.
    pub fn apply(
        self,
        at: Cursor,
        registers: Option<&Registers>,
        read: &mut dyn FnMut(u64) -> Option<u64>,
    ) -> Step {
        self.try_apply(at, registers, read).unwrap_or(Step::Broken)
    }

    fn try_apply(
        self,
        at: Cursor,
        registers: Option<&Registers>,
        read: &mut dyn FnMut(u64) -> Option<u64>,
    ) -> Option<Step> {
        let parameter = i64::from(self.0 as i32 >> RULE_PARAMETER_SHIFT) * 8;
        let first = i64::from((self.0 << 7) as i32 >> 20) * 8;
        let second = u64::from(self.0 >> 25) * 8;
        let kind = self.0 & 15;
        let cfa = match kind {
            RULE_END => return Some(Step::End),
            RULE_SIGNAL => {
                let word = |read: &mut dyn FnMut(u64) -> Option<u64>, offset: u32| {
                    read(at.sp.wrapping_add(u64::from(offset)))
                };
                let interrupted = Cursor {
                    pc: word(read, SIGNAL_PC)?,
                    sp: word(read, SIGNAL_SP)?,
                    fp: word(read, SIGNAL_FP)?,
                };
                let is_above = interrupted.sp > at.sp;
                return is_above.then_some(Step::Interrupted(interrupted));
            }
            RULE_CFA_SP => at.sp.wrapping_add_signed(parameter),
            RULE_CFA_FP => at.fp.wrapping_add_signed(parameter),
            RULE_CFA_DEREF_SP => read(at.sp.wrapping_add_signed(first))?.wrapping_add(second),
            RULE_CFA_DEREF_FP => read(at.fp.wrapping_add_signed(first))?.wrapping_add(second),
            RULE_CFA_REGISTER => {
                let Some(registers) = registers else {
                    return Some(Step::Nothing);
                };
                let number = self.0 >> RULE_PARAMETER_SHIFT & 31;
                let offset = i64::from(self.0 as i32 >> 18) * 8;
                registers.word(number)?.wrapping_add_signed(offset)
            }
            RULE_CFA_PLT => {
                let from = self.0 >> RULE_PARAMETER_SHIFT;
                let has_pushed = at.pc & 15 >= u64::from(from);
                at.sp.wrapping_add(8 + 8 * u64::from(has_pushed))
            }
            _ => return Some(Step::Nothing),
        };
        if cfa <= at.sp || cfa % 8 != 0 {
            return None;
        }
        let fp = match self.saved_fp() {
            SavedFp::Same => at.fp,
            SavedFp::BelowCfa(below) => read(cfa.wrapping_add_signed(-below))?,
            SavedFp::AtFp(offset) => read(at.fp.wrapping_add_signed(offset))?,
            SavedFp::AtSp(offset) => read(at.sp.wrapping_add_signed(offset))?,
            SavedFp::Lost => 0,
        };
        Some(match read(cfa.wrapping_sub(8))? {
            0 => Step::End,
            pc => Step::Caller(Cursor { pc, sp: cfa, fp }),
        })
    }
}

/// `offset`, in words, as a number of so many bits; `None` if it is none.
fn signed(offset: i64, bits: u32) -> Option<u32> {
    let words = offset / 8;
    let limit = 1 << (bits - 1);
    let fits = offset % 8 == 0 && (-limit..limit).contains(&words);
    fits.then_some(words as u32 & ((1 << bits) - 1))
}

fn unsigned(offset: i64, bits: u32) -> Option<u32> {
    let words = offset / 8;
    (offset % 8 == 0 && (0..1 << bits).contains(&words)).then_some(words as u32)
}

fn pair(at: i64, add: i64) -> Option<u32> {
    Some(signed(at, 12)? | unsigned(add, 7)? << 12)
}

#[cfg(test)]
mod tests {
    use super::*;

    const AT: Cursor = Cursor {
        pc: 0x40_000b,
        sp: 0x1000,
        fp: 0x1100,
    };

    /// Every word is its address, but for those told.
    fn apply(rule: Rule, words: &[(u64, u64)]) -> Step {
        let registers = Registers {
            rax: 0x1080,
            r15: 0x10c0,
            ..Registers::default()
        };
        let mut read = |address| {
            let told = words.iter().find(|(at, _)| *at == address);
            Some(told.map_or(address, |&(_, word)| word))
        };
        rule.apply(AT, Some(&registers), &mut read)
    }

    fn caller(sp: u64, fp: u64) -> Step {
        Step::Caller(Cursor { pc: sp - 8, sp, fp })
    }

    #[test]
    fn every_kind_of_rule_leads_to_the_caller() {
        use SavedFp::{AtFp, AtSp, BelowCfa, Lost, Same};
        for (cfa, fp, expected) in [
            (Cfa::Sp(8), Same, caller(0x1008, 0x1100)),
            (Cfa::Sp(0x70), BelowCfa(16), caller(0x1070, 0x1060)),
            (Cfa::Fp(16), BelowCfa(16), caller(0x1110, 0x1100)),
            (Cfa::Fp(-16), AtFp(-8), caller(0x10f0, 0x10f8)),
            (Cfa::Register(3, 8), AtSp(8), caller(0x1088, 0x1008)),
            (Cfa::Register(16, -8), Lost, caller(0x10b8, 0)),
            (Cfa::Plt(11), Same, caller(0x1010, 0x1100)),
            (Cfa::Plt(12), Same, caller(0x1008, 0x1100)),
            (Cfa::DerefSp(0x20, 8), Same, caller(0x1028, 0x1100)),
            (Cfa::DerefFp(-24, 0), Same, caller(0x10e8, 0x1100)),
        ] {
            assert_eq!(apply(Rule::new(cfa, fp), &[]), expected, "{cfa:?} {fp:?}");
        }
    }

    #[test]
    fn what_cannot_be_is_broken() {
        let rule = |cfa| Rule::new(cfa, SavedFp::Same);
        assert_eq!(apply(rule(Cfa::Sp(0)), &[]), Step::Broken, "not above");
        assert_eq!(
            apply(rule(Cfa::DerefSp(0, 0)), &[(0x1000, 0x900)]),
            Step::Broken
        );
        assert_eq!(
            apply(rule(Cfa::DerefSp(0, 0)), &[(0x1000, 0x1804)]),
            Step::Broken
        );
        assert_eq!(apply(rule(Cfa::Sp(8)), &[(0x1000, 0)]), Step::End);
        let unreadable = rule(Cfa::Sp(8)).apply(AT, None, &mut |_| None);
        assert_eq!(unreadable, Step::Broken);
        // Of a caller, other registers are not known.
        let of_caller = rule(Cfa::Register(3, 8)).apply(AT, None, &mut Some);
        assert_eq!(of_caller, Step::Nothing);
    }

    #[test]
    fn a_signals_registers_are_on_the_stack() {
        let pc = 0x1000 + u64::from(SIGNAL_PC);
        let sp = 0x1000 + u64::from(SIGNAL_SP);
        let fp = 0x1000 + u64::from(SIGNAL_FP);
        let words = [(pc, 0x77), (sp, 0x2004), (fp, 0x2100)];
        let interrupted = Cursor {
            pc: 0x77,
            sp: 0x2004,
            fp: 0x2100,
        };
        assert_eq!(apply(Rule::SIGNAL, &words), Step::Interrupted(interrupted));
        let below = [(sp, 0x800)];
        assert_eq!(apply(Rule::SIGNAL, &below), Step::Broken);
    }

    #[test]
    fn what_does_not_fit_is_not_known() {
        for (cfa, fp) in [
            (Cfa::Sp(12), SavedFp::Same),
            (Cfa::Sp(8 << 18), SavedFp::Same),
            (Cfa::Sp(8), SavedFp::BelowCfa(-8)),
            (Cfa::Sp(8), SavedFp::BelowCfa(8 << 6)),
            (Cfa::DerefFp(8 << 11, 0), SavedFp::Same),
            (Cfa::DerefFp(0, 8 << 7), SavedFp::Same),
            (Cfa::Register(17, 0), SavedFp::Same),
        ] {
            assert_eq!(Rule::new(cfa, fp), Rule::NOTHING, "{cfa:?} {fp:?}");
        }
    }
}
