//! Does a piece of WebAssembly code have its frame at one of its instructions?
//!
//! TurboFan makes frames late and gives them up early, and none at all for what
//! calls nothing (`FrameElider` in `src/compiler/backend/frame-elider.cc`). So
//! the code is followed from its start.

use iced_x86::{Decoder, DecoderOptions, FlowControl, Instruction, Mnemonic, OpKind, Register};

/// The longest code that is followed.
const MAX_CODE: usize = 16 << 20;

/// Whose frame the frame pointer is that of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// The caller's. The return address lies so many words above the stack
    /// pointer.
    Callers {
        /// Words between the two.
        above: u8,
    },
    /// That of the code itself.
    Own,
    /// It could not be told.
    Unknown,
}

/// The state before each instruction of a piece of code.
#[derive(Debug)]
pub struct FrameStates {
    /// By offset; unknown where no instruction was found to begin.
    states: Vec<State>,
    /// Where control gets by a table of jumps only.
    elsewhere: State,
}

impl FrameStates {
    /// Follows `code` from its start.
    pub fn of(code: &[u8]) -> FrameStates {
        let code = &code[..code.len().min(MAX_CODE)];
        let mut states = vec![State::Unknown; code.len()];
        let mut jumps: Option<State> = None;
        let mut work = vec![(0, State::Callers { above: 0 })];
        let mut decoder = Decoder::new(64, code, DecoderOptions::NONE);
        let mut instruction = Instruction::default();
        while let Some((mut at, mut state)) = work.pop() {
            while at < code.len() && states[at] == State::Unknown && state != State::Unknown {
                if decoder.set_position(at).is_err() {
                    break;
                }
                decoder.set_ip(at as u64);
                decoder.decode_out(&mut instruction);
                if instruction.is_invalid() {
                    break;
                }
                states[at] = state;
                if instruction.is_jcc_short_or_near() || instruction.is_jmp_short_or_near() {
                    // Behind the code there is none of its own.
                    work.push((instruction.near_branch_target() as usize, state));
                }
                match instruction.flow_control() {
                    FlowControl::Next
                    | FlowControl::ConditionalBranch
                    | FlowControl::Call
                    | FlowControl::IndirectCall => {}
                    FlowControl::IndirectBranch => {
                        jumps = match jumps {
                            Some(other) if other != state => Some(State::Unknown),
                            _ => Some(state),
                        };
                        break;
                    }
                    _ => break,
                }
                state = after(&instruction, state);
                at += instruction.len();
            }
        }
        FrameStates {
            states,
            elsewhere: jumps.unwrap_or(State::Unknown),
        }
    }

    /// The state before the instruction at `offset`.
    pub fn at(&self, offset: usize) -> State {
        match self.states.get(offset) {
            Some(State::Unknown) | None => self.elsewhere,
            Some(&state) => state,
        }
    }
}

/// The state before the instruction at `offset` of a table of jumps, each of
/// which may be jumped or called to (`src/wasm/jump-table-assembler.cc`).
pub fn in_jump_table(code: &[u8], offset: usize) -> State {
    const JUMP: u8 = 0xe9;
    const PUSH: u8 = 0x68;
    const PUSH_LENGTH: usize = 5;
    let before = offset.checked_sub(PUSH_LENGTH);
    let pushed = before.and_then(|before| code.get(before)) == Some(&PUSH);
    match code.get(offset..) {
        // Where functions are compiled when they are called, their indices
        // are pushed first.
        Some([JUMP, ..]) if pushed => State::Callers { above: 1 },
        Some([JUMP | PUSH, ..] | [0xff, 0x25, ..]) => State::Callers { above: 0 },
        _ => State::Unknown,
    }
}

/// The state after an instruction.
fn after(instruction: &Instruction, before: State) -> State {
    let register = |operand| match instruction.op_kind(operand) {
        OpKind::Register => Some(instruction.op_register(operand)),
        _ => None,
    };
    let is_frame = register(0) == Some(Register::RBP);
    let State::Callers { above } = before else {
        return match instruction.mnemonic() {
            Mnemonic::Pop if is_frame => State::Callers { above: 0 },
            Mnemonic::Leave => State::Callers { above: 0 },
            _ => before,
        };
    };
    let above = match instruction.mnemonic() {
        Mnemonic::Mov if is_frame => {
            return match register(1) {
                Some(Register::RSP) => State::Own,
                _ => State::Unknown,
            };
        }
        Mnemonic::Push => above.checked_add(1),
        Mnemonic::Pop => above.checked_sub(1),
        Mnemonic::Sub | Mnemonic::Add | Mnemonic::And | Mnemonic::Mov | Mnemonic::Lea
            if register(0) == Some(Register::RSP) =>
        {
            None
        }
        _ => Some(above),
    };
    above.map_or(State::Unknown, |above| State::Callers { above })
}

#[cfg(test)]
mod tests {
    use super::*;

    const START: State = State::Callers { above: 0 };

    #[test]
    fn a_frame_lasts_from_its_prologue_to_its_epilogue() {
        // 00 test eax,eax        09 push 8
        // 02 jz 0e               0b mov rsp,rbp
        // 04 push rbp            0e (see below)
        // 05 mov rbp,rsp
        // 08 nop
        let code = [
            0x85, 0xc0, 0x74, 0x0d, 0x55, 0x48, 0x89, 0xe5, 0x90, 0x6a, 0x08, 0x48, 0x89, 0xec,
            0x5d, 0xc3, 0xcc, 0x90, 0xc3,
        ];
        let states = FrameStates::of(&code);
        for (offset, state) in [
            (0, START),
            (2, START),
            (4, START),
            (5, State::Callers { above: 1 }),
            (8, State::Own),
            (0xb, State::Own),
            (0xe, State::Own),
            (0xf, START),
            // The jump leads there.
            (0x11, START),
            (0x12, START),
            // Nothing does.
            (0x10, State::Unknown),
            (100, State::Unknown),
        ] {
            assert_eq!(states.at(offset), state, "at {offset:#x}");
        }
    }

    #[test]
    fn behind_a_table_of_jumps_the_state_is_that_before_it() {
        // push rbp; mov rbp,rsp; jmp [rax]; nop
        let states = FrameStates::of(&[0x55, 0x48, 0x89, 0xe5, 0xff, 0x20, 0x90]);
        assert_eq!(states.at(6), State::Own);
        // jmp [rax]; push rbp; …
        let states = FrameStates::of(&[0xff, 0x20, 0x55, 0x48, 0x89, 0xe5]);
        assert_eq!(states.at(2), START);
        // A stack pointer that is moved is not followed: sub rsp,8; nop
        let states = FrameStates::of(&[0x48, 0x83, 0xec, 0x08, 0x90]);
        assert_eq!(states.at(4), State::Unknown);
    }

    #[test]
    fn a_table_of_jumps_has_no_frame() {
        // jmp; nop; push 7; jmp; jmp [rip]
        let code = [
            0xe9, 0, 0, 0, 0, 0x90, 0x68, 7, 0, 0, 0, 0xe9, 0, 0, 0, 0, 0xff, 0x25, 2, 0, 0, 0,
        ];
        let states = [0, 6, 0xb, 0x10].map(|offset| in_jump_table(&code, offset));
        assert_eq!(states, [START, START, State::Callers { above: 1 }, START]);
        assert_eq!(in_jump_table(&code, 5), State::Unknown);
        assert_eq!(in_jump_table(&code, 100), State::Unknown);
    }

    #[test]
    fn any_bytes_are_followed_to_an_end() {
        let mut state = 7_u32;
        for length in 0..200 {
            let code: Vec<u8> = (0..length)
                .map(|_| {
                    state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                    (state >> 24) as u8
                })
                .collect();
            let states = FrameStates::of(&code);
            assert_eq!(states.states.len(), length);
        }
    }
}
