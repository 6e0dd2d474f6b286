//! Frames of WebAssembly, and those between it and JavaScript.

use std::rc::Rc;

use nodetap_profile::{Frame, Kind};
use nodetap_sampler::raw::{FrameRecord, RawSampleRef};
use nodetap_sampler::target::Target;
use nodetap_v8::code::CodeKind;
use nodetap_v8::{Heap, Memory};

use super::{NativeCode, StackNames};
use crate::generated::NamedFrame;
use crate::js::{Frames, PcKind};
use crate::wasm::{self, CachedCode, FrameType, State};

/// `push rbp; mov rbp,rsp`
const PROLOGUE: [u8; 4] = [0x55, 0x48, 0x89, 0xe5];
const RET: u8 = 0xc3;

/// How many words of the stack are searched for a return address.
const MAX_WORDS: u64 = 64;

impl StackNames {
    /// The WebAssembly code that `pc` is in.
    pub(super) fn wasm_code(&mut self, target: &Target, pc: u64) -> Option<Rc<CachedCode>> {
        let heap = Heap::new(&target.memory, &target.layout);
        if wasm::is_in_heap(&heap) {
            let found = self.js.code(target, pc)?;
            let (code, generation) = (&found.code, found.generation);
            let instructions = &found.instructions;
            return (code.kind == CodeKind::Wasm).then(|| {
                self.wasm
                    .code_in_heap(&heap, code, generation, instructions)
            })?;
        }
        self.wasm.code(&heap, pc, self.js.now())
    }

    /// What the type of the frame of `record` says of it.
    pub(super) fn wasm_frame_type(target: &Target, record: &FrameRecord) -> Option<FrameType> {
        FrameType::of(&Heap::new(&target.memory, &target.layout), record)
    }

    /// The frames of a caller whose frame is of type `frame_type` and whose call
    /// returns to `pc`.
    pub(super) fn wasm_caller(
        &mut self,
        target: &Target,
        frame_type: FrameType,
        pc: u64,
    ) -> Frames {
        match frame_type {
            FrameType::ToJs => vec![Frame::new(Kind::Builtin, "wasm-to-js").into()],
            FrameType::FromJs => vec![Frame::new(Kind::Builtin, "js-to-wasm").into()],
            FrameType::Function => match self.wasm_code(target, pc.wrapping_sub(1)) {
                Some(code) => named(self.wasm.frames(&code, pc, PcKind::Return)),
                None => vec![wasm::unknown().into()],
            },
        }
    }

    /// The frames at the top of a stack whose pc is in `code`.
    pub(super) fn top_of_wasm(
        &mut self,
        target: &Target,
        native: &mut dyn NativeCode,
        sample: &RawSampleRef<'_>,
        record: &FrameRecord,
        code: &CachedCode,
        frames: &mut Frames,
    ) {
        frames.extend(named(self.wasm.frames(code, record.pc, PcKind::Own)));
        if let State::Callers { above } = code.frame_state(record.pc) {
            let word = sample.stack.get(usize::from(above)).copied();
            let caller = word.filter(|&word| native.is_executable(word));
            self.resume(target, native, record, caller, frames);
        }
    }

    /// The top of a stack in compiled code that nothing describes. That between
    /// WebAssembly and JavaScript is shared by all modules since V8 12 and
    /// belongs to none.
    pub(super) fn top_of_unknown(
        &mut self,
        target: &Target,
        native: &mut dyn NativeCode,
        sample: &RawSampleRef<'_>,
        record: &FrameRecord,
        frames: &mut Frames,
    ) -> bool {
        let mut bytes = [0; 8];
        let start = record.pc.wrapping_sub(1);
        let around = target.memory.read(start, &mut bytes);
        let above = match bytes {
            _ if around.is_err() => None,
            [_, RET, ..] => Some(0),
            [_, b0, b1, b2, b3, ..] if [b0, b1, b2, b3] == PROLOGUE => Some(0),
            [b0, b1, b2, b3, ..] if [b0, b1, b2, b3] == PROLOGUE => Some(1),
            _ => None,
        };
        match (Self::wasm_frame_type(target, record), above) {
            // Its frame is not there yet, or no more.
            (Some(FrameType::Function), Some(above)) => {
                let word = sample.stack.get(above).copied();
                let caller = word.filter(|&word| native.is_executable(word));
                if caller.is_some_and(|pc| self.wasm_code(target, pc.wrapping_sub(1)).is_some()) {
                    frames.push(Frame::new(Kind::Builtin, "wasm-to-js").into());
                    self.resume(target, native, record, caller, frames);
                    return true;
                }
                false
            }
            (Some(FrameType::Function), None) | (None, _) => false,
            (Some(between), _) => {
                frames.extend(self.wasm_caller(target, between, record.pc));
                true
            }
        }
    }

    /// Where the function whose frame `record` is goes on that called native
    /// code, or a builtin, without a frame: the innermost return address between
    /// the stack pointer and its frame that is in WebAssembly code.
    pub(super) fn find_wasm_return(
        &mut self,
        target: &Target,
        native: &mut dyn NativeCode,
        sample: &RawSampleRef<'_>,
        record: &FrameRecord,
    ) -> Option<u64> {
        let frame_type = Self::wasm_frame_type(target, record);
        if frame_type != Some(FrameType::Function) {
            return None;
        }
        let words = record.fp.checked_sub(sample.registers.rsp)? / 8;
        let words = sample.stack.iter().take(words.min(MAX_WORDS) as usize);
        words.copied().find(|&word| {
            native.is_executable(word)
                && !native.is_native(word)
                && self
                    .wasm_code(target, word.wrapping_sub(1))
                    .is_some_and(|code| code.code.function.is_some())
        })
    }
}

fn named(frames: Vec<Frame>) -> Frames {
    frames.into_iter().map(NamedFrame::from).collect()
}
