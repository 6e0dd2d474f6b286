//! Walks the stack of a thread that stands still.
//!
//! What `ebpf/walk.bpf.c` does at a tick, by the same rules and into the same
//! records; to change one is to change the other. Native code is unwound by the same rules
//! in both (`unwind/rule.rs`, `ebpf/unwind.h`).

use nodetap_v8::{Memory, Tagged};
use rustc_hash::FxHashMap;

use super::identity::{self, Guesses, Identity};
use super::stack::StackCopy;
use super::sys::State;
use super::unwind::NativeUnwinder;
use crate::ebpf::ProcessConfig;
use crate::ebpf::shared::STACK_WORDS;
use crate::raw::{CODE_BEFORE, CODE_BYTES, FrameRecord, RawSample};
use crate::unwind::{Cursor, Step};

/// User addresses end here (`TASK_SIZE_MAX` with four-level page tables).
const USER_END: u64 = 0x7fff_ffff_f000;
/// No code lies in the first page.
const USER_START: u64 = 0x1000;

/// What is known of the process.
pub(super) struct Walker<'a> {
    pub config: ProcessConfig,
    /// Whether V8's embedded builtins are at an address.
    pub is_builtin: &'a dyn Fn(u64) -> bool,
    pub native: &'a mut NativeUnwinder,
    /// Whose functions have been identified, by their address: nothing moves
    /// while all threads stand still.
    pub identified: FxHashMap<u64, Identity>,
    pub guesses: &'a mut Guesses,
}

/// How a walk ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    /// Where threads begin, certainly.
    First,
    /// Where the chain of frame pointers does.
    Chain,
    /// There are more frames than are wanted.
    Truncated,
    /// At a frame that cannot be one.
    Broken,
}

impl Walker<'_> {
    /// The stack of a thread in this state, whose memory is `memory`.
    pub fn walk(&mut self, memory: &dyn Memory, state: &State) -> RawSample {
        let registers = state.registers;
        let mut stack = StackCopy::new(memory, registers.rsp);
        let mut frames = Vec::new();
        let mut functions = Vec::new();
        // A thread that only works for the kernel (io_uring's) has no user registers.
        let end = match registers.rip {
            0 => End::Chain,
            _ => self.frames(state, &mut stack, &mut frames, &mut functions),
        };
        self.identify(memory, &mut frames, &functions);
        RawSample {
            in_kernel: state.in_kernel,
            truncated: end == End::Truncated,
            broken: end == End::Broken,
            complete: end == End::First,
            wait: None,
            registers,
            code: self.code_at(memory, registers.rip),
            stack: stack.first_words(STACK_WORDS as usize),
            frames,
            ..RawSample::default()
        }
    }

    /// The code around a thread's own pc, unless it is in the file that V8 is in:
    /// that stays what it is.
    fn code_at(&self, memory: &dyn Memory, rip: u64) -> Option<[u8; CODE_BYTES]> {
        let config = &self.config;
        let file = config.native_start..config.native_end;
        if config.has_v8 == 0 || file.contains(&rip) {
            return None;
        }
        let mut code = [0; CODE_BYTES];
        let start = rip.wrapping_sub(CODE_BEFORE as u64);
        memory.read(start, &mut code).ok()?;
        Some(code)
    }

    /// Adds to `functions` the index of each frame whose function is to be identified.
    fn frames(
        &mut self,
        state: &State,
        stack: &mut StackCopy<'_>,
        frames: &mut Vec<FrameRecord>,
        functions: &mut Vec<usize>,
    ) -> End {
        let registers = state.registers;
        let mut at = Cursor {
            pc: registers.rip,
            sp: registers.rsp,
            fp: registers.rbp,
        };
        // What belongs to the frame lies above this: the stack pointer, then
        // the callee's return address.
        let mut below = registers.rsp.wrapping_sub(1);
        let mut returns = false;
        loop {
            let first = frames.is_empty();
            if frames.len() >= self.config.max_depth as usize {
                return End::Truncated;
            }
            let mut frame = FrameRecord {
                pc: at.pc,
                fp: at.fp,
                ..FrameRecord::default()
            };
            let native = match (self.is_builtin)(at.pc.wrapping_sub(u64::from(returns))) {
                true => Step::Nothing,
                false => {
                    let registers = first.then_some(&registers);
                    let mut read = |address| stack.word(address);
                    self.native.caller(at, returns, registers, &mut read)
                }
            };
            returns = true;
            match native {
                Step::Caller(caller) => {
                    // Where it would be if the function kept one.
                    frame.fp = caller.sp.wrapping_sub(16);
                    frames.push(frame);
                    below = caller.sp.wrapping_sub(8);
                    at = caller;
                    continue;
                }
                Step::Interrupted(interrupted) => {
                    frame.fp = interrupted.sp.wrapping_sub(16);
                    frames.push(frame);
                    below = interrupted.sp.wrapping_sub(1);
                    at = interrupted;
                    returns = false;
                    continue;
                }
                Step::End => {
                    frames.push(frame);
                    return End::First;
                }
                Step::Broken => {
                    frames.push(frame);
                    return End::Broken;
                }
                Step::Nothing => {}
            }

            if at.fp == 0 {
                frames.push(frame);
                return End::Chain;
            }
            if at.fp <= below {
                frames.push(frame);
                return End::Broken;
            }
            let words = match at.fp % 8 {
                0 => stack.word(at.fp).zip(stack.word(at.fp.wrapping_add(8))),
                _ => None,
            };
            let Some((caller_fp, return_address)) = words else {
                frames.push(frame);
                return End::Broken;
            };
            let size = at.fp - below;
            // What lies below the frame pointer may be in a page that the
            // thread has not touched yet.
            let mut slot = |down: u32| {
                let address = at.fp.wrapping_sub(u64::from(down));
                stack.word(address).unwrap_or(0)
            };
            let config = &self.config;
            if config.has_v8 != 0 && size > u64::from(config.frame_bytecode_offset) {
                frame.bytecode_offset = slot(config.frame_bytecode_offset);
                frame.bytecode_array = slot(config.frame_bytecode_array);
            }
            if size > 16 {
                frame.function = slot(16);
            }
            if size > 8 {
                frame.context = slot(8);
            }
            // The first frame is looked at wherever its pc is: in a frameless
            // C++ function, its fp is that of the JavaScript frame that called it.
            if self.config.has_v8 != 0
                && Tagged(frame.context).is_heap_object()
                && Tagged(frame.function).is_heap_object()
                && (first || !self.is_certainly_cpp(at.pc))
            {
                functions.push(frames.len());
            }
            frames.push(frame);
            match return_address {
                0 => return End::Chain,
                USER_START..USER_END => {}
                _ => return End::Broken,
            }
            below = at.fp + 8;
            at = Cursor {
                pc: return_address,
                sp: at.fp + 16,
                fp: caller_fp,
            };
        }
    }

    fn is_certainly_cpp(&self, pc: u64) -> bool {
        let config = &self.config;
        !(config.builtins_start..config.builtins_end).contains(&pc)
            && (config.native_start..config.native_end).contains(&pc)
    }

    /// Tells of `frames` with these indices what identifies their functions.
    fn identify(&mut self, memory: &dyn Memory, frames: &mut [FrameRecord], which: &[usize]) {
        let functions: Vec<u64> = which.iter().map(|&i| frames[i].function).collect();
        let found = &mut self.identified;
        identity::identify(&functions, &self.config, memory, self.guesses, found);
        for (&i, function) in which.iter().zip(&functions) {
            let frame = &mut frames[i];
            let identity = found.get(function).copied().unwrap_or_default();
            frame.shared = identity.shared;
            frame.script = identity.script;
            frame.script_id = identity.script_id;
            frame.literal_id = identity.literal_id;
            if self.config.shared_code != 0 {
                frame.bytecode_array = identity.code;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::raw::Registers;
    use nodetap_v8::Unreadable;
    use std::collections::BTreeMap;

    /// What is not there cannot be read.
    struct Words(BTreeMap<u64, u64>);

    impl Memory for Words {
        fn read(&self, address: u64, buffer: &mut [u8]) -> Result<(), Unreadable> {
            let unreadable = Unreadable { address };
            for (byte, at) in buffer.iter_mut().zip(address..) {
                let word = self.0.get(&(at & !7)).ok_or(unreadable)?;
                *byte = word.to_le_bytes()[(at % 8) as usize];
            }
            Ok(())
        }
    }

    const FUNCTION: u64 = 0x5001;
    const SHARED: u64 = 0x6001;
    const SCRIPT: u64 = 0x7001;

    /// Three frames: one of an interpreted function, one of C++ that looks like
    /// JavaScript, and the first one.
    fn words() -> BTreeMap<u64, u64> {
        BTreeMap::from([
            (0x1f00, 0xaaaa),
            (0x1fd8, 41 << 32),
            (0x1fe0, 0xb001),
            (0x1ff0, FUNCTION),
            (0x1ff8, 0xc001),
            (0x2000, 0x2100),
            (0x2008, 0x10_0010),
            (0x20f0, FUNCTION),
            (0x20f8, 0xc001),
            (0x2100, 0),
            (0x2108, 0x9000),
            (FUNCTION - 1 + 24, SHARED),
            (SHARED - 1 + 16, SCRIPT),
            (SHARED - 1 + 40, 5),
            (SCRIPT - 1 + 32, 77 << 32),
        ])
    }

    fn walk(words: BTreeMap<u64, u64>, max_depth: u32) -> RawSample {
        walk_with(
            words,
            ProcessConfig {
                native_start: 0x10_0000,
                native_end: 0x20_0000,
                function_shared: 24,
                shared_script: 16,
                shared_literal_id: 40,
                script_id: 32,
                frame_bytecode_array: 32,
                frame_bytecode_offset: 40,
                max_depth,
                has_v8: 1,
                ..ProcessConfig::default()
            },
        )
    }

    fn walk_with(words: BTreeMap<u64, u64>, config: ProcessConfig) -> RawSample {
        let mut walker = Walker {
            config,
            is_builtin: &|_| false,
            native: &mut NativeUnwinder::default(),
            identified: FxHashMap::default(),
            guesses: &mut Guesses::default(),
        };
        let registers = Registers {
            rip: 0x8000,
            rsp: 0x1f00,
            rbp: 0x2000,
            ..Registers::default()
        };
        let state = State {
            registers,
            in_kernel: true,
        };
        let sample = walker.walk(&Words(words), &state);
        assert!(!sample.complete && sample.in_kernel);
        assert_eq!(sample.registers, registers);
        sample
    }

    #[test]
    fn frames_and_what_identifies_their_functions() {
        let sample = walk(words(), 10);
        assert_eq!(sample.stack, [0xaaaa]);
        let [top, cpp, first] = sample.frames[..] else {
            panic!("{:#x?}", sample.frames);
        };
        let expected = FrameRecord {
            pc: 0x8000,
            fp: 0x2000,
            context: 0xc001,
            function: FUNCTION,
            bytecode_array: 0xb001,
            bytecode_offset: 41 << 32,
            shared: SHARED,
            script: SCRIPT,
            script_id: 77,
            literal_id: 5,
        };
        assert_eq!(top, expected);
        assert_eq!((cpp.pc, cpp.function, cpp.shared), (0x10_0010, FUNCTION, 0));
        assert_eq!((first.pc, first.fp), (0x9000, 0));
        assert!(!sample.broken && !sample.truncated);
    }

    #[test]
    fn what_cannot_be_read_is_left_out() {
        let mut words = words();
        words.remove(&(SCRIPT - 1 + 32));
        let top = walk(words.clone(), 10).frames[0];
        assert_eq!((top.script, top.script_id, top.literal_id), (SCRIPT, 0, 5));
        words.remove(&(SHARED - 1 + 40));
        let top = walk(words.clone(), 10).frames[0];
        assert_eq!((top.shared, top.script, top.literal_id), (SHARED, 0, 0));
        words.insert(0x2008, 0x10);
        let sample = walk(words.clone(), 10);
        assert!(sample.frames.len() == 1 && sample.broken, "no code there");
        words.insert(0x2008, 0x9000);
        words.insert(0x2000, 0x1ff8);
        let sample = walk(words.clone(), 10);
        assert!(sample.frames.len() == 2 && sample.broken, "not above");
        words.remove(&0x2008);
        let sample = walk(words, 10);
        assert!(sample.frames.len() == 1 && sample.broken, "not readable");
    }

    #[test]
    fn where_functions_have_no_number_their_place_tells() {
        const SCOPE_INFO: u64 = 0x8001;
        let config = ProcessConfig {
            function_shared: 24,
            shared_script: 16,
            shared_scope_info: 8,
            scope_info_flags: 16,
            scope_info_function_variable: 3 << 10,
            scope_info_inferred_name: 1 << 12,
            scope_info_kind_shift: 15,
            script_id: 32,
            frame_bytecode_array: 32,
            frame_bytecode_offset: 40,
            max_depth: 1,
            has_v8: 1,
            ..ProcessConfig::default()
        };
        let literal = |flags: u64, locals: u64, place_at: u64, place: u64| {
            let mut words = words();
            words.extend([
                (SHARED - 1 + 8, SCOPE_INFO),
                (SCOPE_INFO - 1 + 16, flags << 32),
                (SCOPE_INFO - 1 + 24, 0),
                (SCOPE_INFO - 1 + 32, locals << 32),
                (SCOPE_INFO - 1 + place_at, place),
            ]);
            let top = walk_with(words, config).frames[0];
            (top.script_id != 0).then_some(top.literal_id)
        };
        assert_eq!(literal(0, 0, 40, 7 << 32), Some(7 << 5));
        // Two locals; `this`, in a context; the function's own variable, its
        // inferred name; an arrow function.
        let arrow = 11;
        let flags = 2 << 7 | 1 << 10 | 1 << 12 | arrow << 15;
        let place_at = 40 + 32 + 8 + 16 + 8;
        assert_eq!(
            literal(flags, 2, place_at, 1234 << 32),
            Some(1234 << 5 | 11)
        );
        // `this` that is not used has no slot.
        assert_eq!(literal(3 << 7, 0, 40, 9 << 32), Some(9 << 5));
        assert_eq!(literal(0, 0, 40, 0x5001), None, "no place");
        assert_eq!(literal(0, 1 << 21, 40, 7 << 32), None, "too many locals");
    }

    #[test]
    fn no_deeper_than_wanted() {
        let sample = walk(words(), 2);
        assert!(sample.frames.len() == 2 && sample.truncated && !sample.broken);
    }
}
