//! Return addresses on the stack, and frames whose code is not there any more.

use nodetap_sampler::raw::{FrameRecord, RawSampleRef};
use nodetap_sampler::target::Target;
use nodetap_v8::{FunctionId, Tagged};

use crate::generated::NamedFrame;

use super::{NativeCode, Place, StackNames, unnamed_code};

impl StackNames {
    /// The frame of `record`, whose code is not there any more: its slots name
    /// its function, if it is one of JavaScript.
    pub(super) fn of_lost_code(
        &mut self,
        target: &Target,
        native: &mut dyn NativeCode,
        record: &FrameRecord,
    ) -> NamedFrame {
        native.doubt();
        // Frames that hold a context and a function are of JavaScript, also where
        // that function cannot be read any more.
        if Tagged(record.context).is_heap_object()
            && (record.script_id != 0 || self.is_script_function(target, record))
        {
            self.js.function_of(target, record)
        } else {
            unnamed_code()
        }
    }

    /// Where the function that `record` names will go on: the innermost
    /// return address between the stack pointer and its frame that is in that
    /// function's code.
    pub(super) fn find_return(
        &mut self,
        target: &Target,
        native: &mut dyn NativeCode,
        sample: &RawSampleRef<'_>,
        record: &FrameRecord,
    ) -> Option<u64> {
        let words = record.fp.checked_sub(sample.registers.rsp)? / 8;
        let own = self.js.function(target, record)?;
        for &word in sample.stack.iter().take(words.min(64) as usize) {
            if !native.is_executable(word) {
                continue;
            }
            if self.is_in_function(target, native, record, own.id, word) {
                return Some(word);
            }
        }
        None
    }

    /// Whether `pc` is a return address in code of the function `own`, which
    /// `record` names.
    fn is_in_function(
        &mut self,
        target: &Target,
        native: &mut dyn NativeCode,
        record: &FrameRecord,
        own: Option<FunctionId>,
        pc: u64,
    ) -> bool {
        match self.return_place(target, native, pc) {
            Place::Interpreter => self.js.is_interpreted(target, record),
            Place::Compiled => self.js.function_compiled_at(target, record, pc) == Some(own),
            _ => false,
        }
    }

    /// Whether code that returns to `pc` can have been called from the frame of
    /// `record`.
    pub(super) fn returns_to(
        &mut self,
        target: &Target,
        native: &mut dyn NativeCode,
        record: &FrameRecord,
        pc: u64,
    ) -> bool {
        match self.js.function(target, record) {
            Some(own) if own.script.is_some() => {
                self.is_in_function(target, native, record, own.id, pc)
            }
            _ => true,
        }
    }
}

/// The word at the stack pointer, if it can be a return address.
pub fn return_address(sample: &RawSampleRef<'_>, native: &mut dyn NativeCode) -> Option<u64> {
    let word = *sample.stack.first()?;
    native.is_executable(word).then_some(word)
}
