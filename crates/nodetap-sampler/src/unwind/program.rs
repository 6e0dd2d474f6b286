//! The programs of `.eh_frame`, as far as the stack and frame pointers go.
//!
//! `gimli` reads them. It can execute them as well, but keeps track of all registers for
//! that; of two is wanted where they are.

use gimli::{
    BaseAddresses, CallFrameInstruction, CfaRule, CommonInformationEntry, EhFrame, Operation,
    Register, RegisterRule, UnwindExpression, X86_64,
};

use super::function::Slice;
use super::rule::{Cfa, Rule, SavedFp};
use super::usual::Place;
use crate::ebpf::shared::{SIGNAL_FP, SIGNAL_PC, SIGNAL_SP};

/// More than any compiler keeps at once.
const MAX_KEPT: usize = 64;

/// What holds at one instruction.
#[derive(Clone, Debug)]
pub(super) struct State {
    cfa: Option<CfaRule<usize>>,
    /// Of `rbp`; `None`: nothing was said.
    fp: Option<RegisterRule<usize>>,
    return_address: Option<RegisterRule<usize>>,
}

pub(super) type Cie<'a> = CommonInformationEntry<Slice<'a>>;

impl State {
    /// What holds where each function of `cie` begins; `None` where that is damaged.
    pub fn initial<'a>(
        cie: &Cie<'a>,
        section: &EhFrame<Slice<'a>>,
        bases: &BaseAddresses,
    ) -> Option<State> {
        let nothing = State {
            cfa: None,
            fp: None,
            return_address: None,
        };
        let mut state = nothing.clone();
        let mut instructions = cie.instructions(section, bases);
        while let Some(instruction) = instructions.next().ok()? {
            state.execute(&instruction, &nothing, &mut Vec::new(), cie)?;
        }
        Some(state)
    }

    /// The same, where it is of the usual kind and the frame pointer is the caller's.
    pub fn usual(&self) -> Option<Place> {
        let State {
            cfa: Some(CfaRule::RegisterAndOffset { register, offset }),
            fp: None,
            return_address: Some(RegisterRule::Offset(-8)),
        } = *self
        else {
            return None;
        };
        let from_fp = match register {
            X86_64::RSP => false,
            X86_64::RBP => true,
            _ => return None,
        };
        Some(Place {
            from_fp,
            offset,
            saved_fp: None,
        })
    }

    /// Executes what does not go on to another address. `kept` is what was put aside;
    /// `None`: it cannot be executed.
    pub fn execute(
        &mut self,
        instruction: &CallFrameInstruction<usize>,
        initial: &State,
        kept: &mut Vec<State>,
        cie: &Cie<'_>,
    ) -> Option<()> {
        use CallFrameInstruction as Call;
        let factored = |offset: i64| offset.checked_mul(cie.data_alignment_factor());
        let unsigned = |offset: u64| i64::try_from(offset).ok();
        match *instruction {
            Call::DefCfa { register, offset } => {
                let offset = unsigned(offset)?;
                self.cfa = Some(CfaRule::RegisterAndOffset { register, offset });
            }
            Call::DefCfaSf {
                register,
                factored_offset,
            } => {
                let offset = factored(factored_offset)?;
                self.cfa = Some(CfaRule::RegisterAndOffset { register, offset });
            }
            Call::DefCfaRegister { register: new } => match &mut self.cfa {
                Some(CfaRule::RegisterAndOffset { register, .. }) => *register = new,
                _ => return None,
            },
            Call::DefCfaOffset { offset } => self.set_cfa_offset(unsigned(offset)?)?,
            Call::DefCfaOffsetSf { factored_offset } => {
                self.set_cfa_offset(factored(factored_offset)?)?;
            }
            Call::DefCfaExpression { expression } => {
                self.cfa = Some(CfaRule::Expression(expression));
            }
            Call::Undefined { register } => self.set(register, RegisterRule::Undefined),
            Call::SameValue { register } => self.set(register, RegisterRule::SameValue),
            Call::Offset {
                register,
                factored_offset,
            } => {
                let offset = factored(unsigned(factored_offset)?)?;
                self.set(register, RegisterRule::Offset(offset));
            }
            Call::OffsetExtendedSf {
                register,
                factored_offset,
            } => self.set(register, RegisterRule::Offset(factored(factored_offset)?)),
            Call::ValOffset { register, .. } | Call::ValOffsetSf { register, .. } => {
                self.set(register, RegisterRule::ValOffset(0));
            }
            Call::Register {
                dest_register,
                src_register,
            } => self.set(dest_register, RegisterRule::Register(src_register)),
            Call::Expression {
                register,
                expression,
            } => self.set(register, RegisterRule::Expression(expression)),
            Call::ValExpression {
                register,
                expression,
            } => self.set(register, RegisterRule::ValExpression(expression)),
            Call::Restore { register } => match register {
                X86_64::RBP => self.fp = initial.fp.clone(),
                X86_64::RA => self.return_address = initial.return_address.clone(),
                _ => {}
            },
            Call::RememberState if kept.len() < MAX_KEPT => kept.push(self.clone()),
            Call::RestoreState => *self = kept.pop()?,
            Call::ArgsSize { .. } | Call::Nop => {}
            _ => return None,
        }
        Some(())
    }

    fn set_cfa_offset(&mut self, new: i64) -> Option<()> {
        match &mut self.cfa {
            Some(CfaRule::RegisterAndOffset { offset, .. }) => *offset = new,
            _ => return None,
        }
        Some(())
    }

    fn set(&mut self, register: Register, rule: RegisterRule<usize>) {
        match register {
            X86_64::RBP => self.fp = Some(rule),
            X86_64::RA => self.return_address = Some(rule),
            _ => {}
        }
    }

    /// The rule that says the same. `is_signal`: of the kernel's call of a signal handler.
    pub fn rule(&self, section: &EhFrame<Slice<'_>>, is_signal: bool) -> Rule {
        if is_signal {
            return match self.is_kernels_signal(section) {
                true => Rule::SIGNAL,
                false => Rule::NOTHING,
            };
        }
        match self.return_address {
            Some(RegisterRule::Undefined) => return Rule::END,
            Some(RegisterRule::Offset(-8)) => {}
            _ => return Rule::NOTHING,
        }
        match (self.cfa(section), self.saved_fp(section)) {
            (Some(cfa), Some(fp)) => Rule::new(cfa, fp),
            _ => Rule::NOTHING,
        }
    }

    fn cfa(&self, section: &EhFrame<Slice<'_>>) -> Option<Cfa> {
        match self.cfa.as_ref()? {
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
                        [] => 0,
                        [Operation::PlusConstant { value }] => i64::try_from(*value).ok()?,
                        _ => return None,
                    };
                    match *register {
                        X86_64::RSP => Some(Cfa::DerefSp(*offset, add)),
                        X86_64::RBP => Some(Cfa::DerefFp(*offset, add)),
                        _ => None,
                    }
                }
                operations => plt(operations).map(Cfa::Plt),
            },
        }
    }

    fn saved_fp(&self, section: &EhFrame<Slice<'_>>) -> Option<SavedFp> {
        match &self.fp {
            None | Some(RegisterRule::SameValue) => Some(SavedFp::Same),
            Some(RegisterRule::Undefined) => Some(SavedFp::Lost),
            Some(RegisterRule::Offset(offset)) => offset.checked_neg().map(SavedFp::BelowCfa),
            Some(RegisterRule::Expression(expression)) => {
                match register_offset(expression, section)? {
                    (X86_64::RSP, offset) => Some(SavedFp::AtSp(offset)),
                    (X86_64::RBP, offset) => Some(SavedFp::AtFp(offset)),
                    _ => None,
                }
            }
            Some(_) => None,
        }
    }

    /// Whether it says of the registers what is true where the kernel has called a signal
    /// handler: they are in the `ucontext` at the stack pointer.
    fn is_kernels_signal(&self, section: &EhFrame<Slice<'_>>) -> bool {
        let at = |offset: u32| Some((X86_64::RSP, i64::from(offset)));
        let saved = |rule: &Option<RegisterRule<usize>>| match rule {
            Some(RegisterRule::Expression(expression)) => register_offset(expression, section),
            _ => None,
        };
        let Some(CfaRule::Expression(cfa)) = &self.cfa else {
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
            && saved(&self.return_address) == at(SIGNAL_PC)
            && saved(&self.fp) == at(SIGNAL_FP)
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
