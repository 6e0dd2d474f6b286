//! The top of the stack: does the code at the thread's own pc have a frame of
//! its own, or is the first frame its caller's?

use nodetap_sampler::raw::RawSampleRef;

/// Whose frame the first record describes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Top {
    /// The code at the thread's pc made it.
    Own,
    /// The code at the thread's pc has none (yet, or any more): it is the
    /// caller's, which goes on at `return_address` if that could be told.
    Caller {
        /// The caller's own pc.
        return_address: Option<u64>,
    },
}

/// `push rbp; mov rbp,rsp`, which every JavaScript frame begins with
/// (`TurboAssembler::EnterFrame`, `CodeGenerator::AssembleConstructFrame`).
const PROLOGUE: [u8; 4] = [0x55, 0x48, 0x89, 0xe5];
/// How far into the code that may be: checks of the code start register and
/// for deoptimized code precede it.
const PROLOGUE_WITHIN: usize = 128;

const RET: u8 = 0xc3;
const RET_N: u8 = 0xc2;

impl Top {
    /// Looks at the instructions around a thread's own pc, which is `offset`
    /// bytes into `instructions`.
    pub fn of(instructions: &[u8], offset: usize, sample: &RawSampleRef<'_>) -> Top {
        let word = |index: usize| sample.stack.get(index).copied();
        let within = instructions.len().min(PROLOGUE_WITHIN);
        if let Some(push) = instructions[..within]
            .windows(PROLOGUE.len())
            .position(|bytes| bytes == PROLOGUE)
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
        }
        match instructions.get(offset) {
            // The frame is given up right before the return.
            Some(&(RET | RET_N)) => Top::Caller {
                return_address: word(0),
            },
            _ => Top::Own,
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
            registers: &registers,
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
        assert_eq!(tops[7], caller(0x1000));
        assert_eq!(Top::of(&[], 0, &sample), Top::Own);
    }
}
