//! The top of the stack: does the code at the thread's own pc have a frame of
//! its own, or is the first frame its caller's?

use nodetap_sampler::raw::RawSampleRef;

/// Whose frame the first record describes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Top {
    /// The code at the thread's pc made it.
    Own,
    /// It is being made: the frame pointer is set, but function and context
    /// are not in their slots yet.
    Entering,
    /// The code at the thread's pc has none yet: it is the caller's, which
    /// goes on at `return_address` if that could be told.
    Caller {
        /// The caller's own pc.
        return_address: Option<u64>,
    },
    /// It looks as if the frame had been given up right now: it is the
    /// caller's if `return_address` can be one.
    Leaving {
        /// The caller's own pc.
        return_address: u64,
    },
}

/// `push rbp; mov rbp,rsp`, which every JavaScript frame begins with
/// (`TurboAssembler::EnterFrame`, `CodeGenerator::AssembleConstructFrame`), as
/// V8's assembler has written it since 9 and before.
const PROLOGUES: [[u8; 4]; 2] = [[0x55, 0x48, 0x89, 0xe5], [0x55, 0x48, 0x8b, 0xec]];
const PROLOGUE: usize = 4;
/// How far into the code that may be. Checks of the code start register and
/// for deoptimized code precede it, in the interpreter's entry those for
/// better code.
const PROLOGUE_WITHIN: usize = 512;
/// The function is pushed after the context (`TurboAssembler::Prologue`).
const PUSH_RDI: u8 = 0x57;

const POP_RBP: u8 = 0x5d;
const RET: u8 = 0xc3;
const RET_N: u8 = 0xc2;

impl Top {
    /// Looks at the instructions around a thread's own pc, which is `offset`
    /// bytes into `instructions`.
    pub fn of(instructions: &[u8], offset: usize, sample: &RawSampleRef<'_>) -> Top {
        let word = |index: usize| sample.stack.get(index).copied();
        let within = instructions.len().min(PROLOGUE_WITHIN);
        if let Some(push) = instructions[..within]
            .windows(PROLOGUE)
            .position(|bytes| PROLOGUES.iter().any(|prologue| bytes == prologue))
        {
            if offset <= push {
                return Top::Caller {
                    return_address: word(0),
                };
            }
            if offset == push + 1 {
                return Top::Caller {
                    return_address: word(1),
                };
            }
            let after = push + PROLOGUE;
            if offset < after + pushes_up_to_function(&instructions[after..]) {
                return Top::Entering;
            }
        }
        let is_return = matches!(instructions.get(offset), Some(&(RET | RET_N)));
        let before = instructions.get(..offset).unwrap_or_default();
        match word(0) {
            Some(return_address) if is_return || has_popped_frame(before) => {
                Top::Leaving { return_address }
            }
            _ => Top::Own,
        }
    }
}

/// Whether the instructions `before` end in `pop rbp`, or in that and the test
/// of how many arguments there are to pop (`CodeGenerator::AssembleReturn`).
fn has_popped_frame(before: &[u8]) -> bool {
    matches!(
        before,
        [.., POP_RBP]
            | [.., POP_RBP, 0x48, 0x83, 0xf9, _]
            | [.., POP_RBP, 0x48, 0x83, 0xf9, _, 0x7f, _]
    )
}

/// How many bytes of pushes there are up to that of the function, it included;
/// 0 where the function is not among them.
fn pushes_up_to_function(instructions: &[u8]) -> usize {
    let mut length = 0;
    loop {
        match instructions.get(length..) {
            Some([PUSH_RDI, ..]) => return length + 1,
            Some([0x50..=0x56, ..]) => length += 1,
            Some([0x41, 0x50..=0x57, ..]) => length += 2,
            _ => return 0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use nodetap_sampler::raw::Registers;

    #[test]
    fn a_frame_begins_after_its_prologue_and_ends_before_its_return() {
        let registers = Registers::default();
        let sample = RawSampleRef {
            time_ns: 0,
            pid: 1,
            tid: 1,
            in_kernel: false,
            truncated: false,
            broken: false,
            complete: false,
            wait: None,
            registers: &registers,
            code: None,
            stack: &[0x1000, 0x2000],
            frames: &[],
            kernel: &[],
        };
        // nop; push rbp; mov rbp,rsp; nop; pop rbp; ret
        let code = [0x90, 0x55, 0x48, 0x89, 0xe5, 0x90, 0x5d, 0xc3];
        let caller = |return_address| Top::Caller {
            return_address: Some(return_address),
        };
        let tops: Vec<Top> = (0..code.len())
            .map(|offset| Top::of(&code, offset, &sample))
            .collect();
        assert_eq!(tops[0], caller(0x1000));
        assert_eq!(tops[1], caller(0x1000));
        assert_eq!(tops[2], caller(0x2000));
        assert_eq!(tops[5], Top::Own);
        assert_eq!(tops[6], Top::Own);
        let leaving = Top::Leaving {
            return_address: 0x1000,
        };
        assert_eq!(tops[7], leaving);
        // pop rbp; cmp rcx,3; jg; ret 24
        let code = [0x90, 0x5d, 0x48, 0x83, 0xf9, 0x03, 0x7f, 0x03, 0xc2, 24, 0];
        let tops: Vec<Top> = [1, 2, 6, 8]
            .map(|offset| Top::of(&code, offset, &sample))
            .into();
        assert_eq!(tops, [Top::Own, leaving, leaving, leaving]);
        assert_eq!(Top::of(&[], 0, &sample), Top::Own);
        // push rbp; mov rbp,rsp; push rsi; push r12; push rdi; nop
        let code = [0x55, 0x48, 0x89, 0xe5, 0x56, 0x41, 0x54, 0x57, 0x90];
        assert_eq!(Top::of(&code, 4, &sample), Top::Entering);
        assert_eq!(Top::of(&code, 7, &sample), Top::Entering);
        assert_eq!(Top::of(&code, 8, &sample), Top::Own);
    }
}
