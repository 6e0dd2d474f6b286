//! Naming of the frames of baseline code (Sparkplug), which stands for the bytecode that
//! it was made of: the frame's slots name the function and the bytecode.

use nodetap_profile::Tier;
use nodetap_sampler::raw::FrameRecord;
use nodetap_sampler::target::Target;
use nodetap_v8::code::baseline_bytecode_index;
use nodetap_v8::{Heap, Tagged};

use crate::generated::NamedFrame;

use super::code_cache::CachedCode;
use super::functions::FunctionKey;
use super::{JsNames, function_frame, is_newest};

impl JsNames {
    /// The frame of `record`, which is of baseline `code`, if it still is: `position`
    /// tells its place from the bytecode and the function.
    pub(super) fn baseline(
        &mut self,
        heap: &Heap<'_>,
        record: &FrameRecord,
        code: &CachedCode,
        position: impl FnOnce(&mut JsNames, Tagged, FunctionKey) -> Option<u32>,
    ) -> NamedFrame {
        let array = Tagged(record.bytecode_array);
        // Other code may have been put there since the tick.
        let key = FunctionKey::of_record(record).filter(|_| code.code.data == array);
        let position = key.and_then(|key| position(self, array, key));
        self.js_frame(heap, record, position, Tier::Baseline)
    }

    /// Where baseline code of the function of `key` is before `end`.
    pub(super) fn baseline_position(
        &mut self,
        heap: &Heap<'_>,
        ends: &[u32],
        offsets: &[u32],
        end: u32,
        array: Tagged,
        key: FunctionKey,
    ) -> Option<u32> {
        match baseline_bytecode_index(ends, end) {
            Some(index) => {
                let offset = *offsets.get(index)?;
                self.position_in(heap, array, key, i64::from(offset))
            }
            // The prologue, before any bytecode.
            None if ends.first().is_some_and(|&prologue| end <= prologue) => {
                self.functions.get(heap, key)?.start
            }
            None => None,
        }
    }

    /// The function of `record` at its start: in a builtin that makes its
    /// baseline code's frame.
    pub fn at_entry(&mut self, target: &Target, record: &FrameRecord) -> NamedFrame {
        let heap = Heap::new(&target.memory, &target.layout);
        let start = self
            .function(target, record)
            .and_then(|function| function.start);
        self.js_frame(&heap, record, start, Tier::Baseline)
    }

    /// The function that baseline `code` was compiled for, at `offset`: see
    /// [`JsNames::code_function`].
    pub(super) fn baseline_function(
        &mut self,
        heap: &Heap<'_>,
        code: &CachedCode,
        ends: &[u32],
        offsets: &[u32],
        offset: u32,
        entered: Tagged,
    ) -> Option<NamedFrame> {
        let entered = FunctionKey::of_function(heap, entered);
        let mut candidates = self.bytecode.functions_of(code.code.data);
        candidates.extend(entered.ok().flatten());
        // The function whose newest code this is.
        let key = candidates
            .into_iter()
            .find(|key| is_newest(heap, key.shared(), code))?;
        let function = self.functions.get(heap, key)?;
        let position = self.baseline_position(heap, ends, offsets, offset + 1, code.code.data, key);
        let tier = Some(Tier::Baseline);
        Some(function_frame(&function, position, tier, false))
    }
}
