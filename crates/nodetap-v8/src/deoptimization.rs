//! `DeoptimizationData`: which functions optimized code has inlined, and where
//! (`src/objects/deoptimization-data.h`).
//!
//! It tells that twice: source positions carry the call that a function was
//! inlined at, and each place that can be deoptimized has an entry with the
//! frames that it stands for.

use crate::code::Code;
use crate::heap::{Error, Heap, Tagged};
use crate::source_position::SourcePosition;
use crate::translation::{TranslatedFrame, TranslationFormat};

/// Deeper than V8 inlines (`max_inlined_bytecode_size_cumulative` bounds it).
const MAX_INLINING_DEPTH: usize = 256;

/// Where a function was inlined.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct InliningPosition {
    /// The place of the call.
    position: SourcePosition,
    /// Its index in the literals; -1 for the code's own function (recursion).
    function: i32,
}

/// What optimized code was made of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeoptimizationData {
    /// The function that the code was compiled for.
    pub shared: Tagged,
    inlining_positions: Vec<InliningPosition>,
    literals: Vec<Tagged>,
    inlined_functions: usize,
    translations: Vec<u8>,
    format: Option<&'static TranslationFormat>,
    /// Of each entry, where in `translations` its own begins.
    entries: Vec<u32>,
    /// How many of the entries, the first ones, are eager: code jumps to their
    /// exits. The others are lazy: of calls.
    eager: u32,
    /// `None` where that is not the same for all.
    exit_size: Option<u32>,
    /// Where the exits start, in bytes from the code's start: one after the
    /// other, in the order of the entries; `None` where that is not known.
    pub exit_start: Option<u32>,
    /// Where on-stack replacement enters the code, likewise.
    pub osr_entry: Option<u32>,
}

/// A function in optimized code and the place in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct InlinedFrame {
    /// Its `SharedFunctionInfo`.
    pub shared: Tagged,
    /// Where it executes, in UTF-16 units from its script's start.
    pub script_offset: Option<u32>,
}

impl DeoptimizationData {
    /// The `SharedFunctionInfo`s of all functions that are in the code: its
    /// own first, then the inlined ones.
    pub fn functions(&self) -> impl Iterator<Item = Tagged> {
        let inlined = self.inlining_positions.iter().filter_map(|inlined| {
            let index = usize::try_from(inlined.function).ok()?;
            self.literals.get(index).copied()
        });
        // They are the first literals (`PopulateDeoptimizationData`,
        // `RecordInlinedFunctions` in V8's two code generators).
        let first = self.literals.iter().take(self.inlined_functions).copied();
        std::iter::once(self.shared).chain(inlined).chain(first)
    }

    /// The literal at `index`, as it was when the data was read.
    pub fn literal(&self, index: u32) -> Option<Tagged> {
        self.literals.get(index as usize).copied()
    }

    /// The frames that the place of deoptimization entry `entry` stands for,
    /// outermost first. `None` where that does not decode, or this version's
    /// translations are not known.
    pub fn frames(&self, entry: u32) -> Option<Vec<TranslatedFrame>> {
        let index = *self.entries.get(entry as usize)?;
        self.format?.frames(&self.translations, index as usize)
    }

    /// The function that the code's own frame is of, as the entries tell it.
    fn outermost(&self) -> Option<Tagged> {
        match self.frames(0)?.first()? {
            TranslatedFrame::Function { shared, .. } => self.literal(*shared),
            _ => None,
        }
    }

    /// The entry whose exit contains the byte at `offset` of the code.
    pub fn exit_at(&self, offset: u32) -> Option<u32> {
        let entry = offset.checked_sub(self.exit_start?)? / self.exit_size?;
        ((entry as usize) < self.entries.len()).then_some(entry)
    }

    /// The entry whose exit the code at another place jumps to at `offset`.
    pub fn eager_exit_at(&self, offset: u32) -> Option<u32> {
        let entry = self.exit_at(offset)?;
        let start = self.exit_start? + entry * self.exit_size?;
        (entry < self.eager && offset == start).then_some(entry)
    }

    /// The functions that are active at `position`, innermost first; the last
    /// is the one the code was compiled for (`SourcePosition::InliningStack`
    /// in `src/codegen/source-position.cc`).
    ///
    /// # Errors
    /// Where `position` names an inlined function that there is not.
    pub fn inlining_stack(&self, position: SourcePosition) -> Result<Vec<InlinedFrame>, Error> {
        let mut frames = Vec::new();
        let mut position = position;
        while let Some(id) = position.inlining_id {
            let inlined = self
                .inlining_positions
                .get(id as usize)
                .ok_or(Error::Unbelievable("an inlining id out of range"))?;
            let shared = match inlined.function {
                -1 => self.shared,
                index => *usize::try_from(index)
                    .ok()
                    .and_then(|index| self.literals.get(index))
                    .ok_or(Error::Unbelievable("an inlined function out of range"))?,
            };
            frames.push(InlinedFrame {
                shared,
                script_offset: position.script_offset,
            });
            if frames.len() > MAX_INLINING_DEPTH {
                return Err(Error::Unbelievable("inlining without end"));
            }
            position = inlined.position;
        }
        frames.push(InlinedFrame {
            shared: self.shared,
            script_offset: position.script_offset,
        });
        Ok(frames)
    }
}

impl Heap<'_> {
    /// The deoptimization data of optimized code.
    ///
    /// # Errors
    /// Where it has none, or it cannot be read.
    pub fn deoptimization_data(&self, code: &Code) -> Result<DeoptimizationData, Error> {
        let indices = &self.layout.code.deoptimization;
        // Its own type differs from version to version; what is in it is
        // checked instead.
        let data = self.elements(code.data)?;
        let element = |index: u32| {
            data.get(index as usize)
                .copied()
                .ok_or(Error::Unbelievable("too little deoptimization data"))
        };
        let mut shared = element(indices.shared_function_info)?;
        if let Some(wrapper) = self.layout.types.shared_function_info_wrapper
            && self.instance_type(shared)? == wrapper
        {
            // `SharedFunctionInfoWrapper.shared_info`
            shared = self.tagged(shared.field(8)?)?;
        }
        let positions = self.byte_array(element(indices.inlining_positions)?)?;
        // A `PodArray<InliningPosition>`: a 64-bit position, a 32-bit index,
        // 32 bits of padding (`src/codegen/source-position.h`).
        let inlining_positions = positions
            .chunks_exact(16)
            .map(|bytes| InliningPosition {
                position: SourcePosition::unpack(
                    u64::from_le_bytes(bytes[..8].try_into().expect("8 bytes")),
                    self.layout.position_format,
                ),
                function: i32::from_le_bytes(bytes[8..12].try_into().expect("4 bytes")),
            })
            .collect::<Vec<_>>();
        let count = |index: u32| -> Result<u32, Error> {
            let count = element(index)?;
            let count = count.to_smi().ok_or(Error::NotASmi(count.0))?;
            u32::try_from(count).map_err(|_| Error::Unbelievable("a negative count"))
        };
        // An entry: its bytecode offset, its translation, …, its pc.
        let entries = data
            .get(indices.first_entry as usize..)
            .unwrap_or_default()
            .chunks_exact(indices.entry_size.max(2) as usize)
            .map(|entry| {
                entry[1]
                    .to_smi()
                    .and_then(|index| u32::try_from(index).ok())
            })
            .collect::<Option<Vec<u32>>>()
            .ok_or(Error::Unbelievable("a translation out of range"))?;
        let known_count = |index: Option<u32>| index.map(count).transpose();
        let eager = known_count(indices.eager_count)?;
        if let (Some(eager), Some(lazy)) = (eager, known_count(indices.lazy_count)?)
            && u64::from(eager) + u64::from(lazy) != entries.len() as u64
        {
            return Err(Error::Unbelievable("entries that do not add up"));
        }
        let mut data = DeoptimizationData {
            shared,
            inlining_positions,
            literals: self.elements(element(indices.literal_array)?)?,
            inlined_functions: count(indices.inlined_function_count)? as usize,
            translations: self.byte_array(element(indices.frame_translation)?)?,
            format: indices.translation,
            entries,
            eager: eager.unwrap_or(0),
            exit_size: indices.exit_size,
            exit_start: known_count(indices.exit_start)?,
            // -1 where the code is not for on-stack replacement.
            osr_entry: count(indices.osr_pc_offset).ok(),
        };
        // Before 6.2 it is gone when the code is given up
        // (`Deoptimizer::PatchCodeForDeoptimization` in
        // src/x64/deoptimizer-x64.cc).
        if shared.to_smi() == Some(0)
            && let Some(outermost) = data.outermost()
        {
            data.shared = outermost;
        }
        self.expect(
            data.shared,
            self.layout.types.shared_function_info,
            "a SharedFunctionInfo",
        )?;
        Ok(data)
    }

    /// Whether the deoptimization data of `code` is gone: V8 empties it as soon as code
    /// that no thread is in has been deoptimized (`Heap::InvalidateCodeDeoptimizationData`
    /// in `src/heap/heap.cc`). All else of the code stays until the garbage collector
    /// comes.
    pub fn is_given_up(&self, code: &Code) -> bool {
        self.elements(code.data).is_ok_and(|data| data.is_empty())
    }

    /// The literal at `index` of the deoptimization data of `code`, where it
    /// is now: the garbage collector may have moved it since the data was read.
    ///
    /// # Errors
    /// Where there is none, or it cannot be read.
    pub fn deoptimization_literal(&self, code: &Code, index: u32) -> Result<Tagged, Error> {
        let array = self.layout.code.deoptimization.literal_array;
        self.element(self.element(code.data, array)?, index)
    }

    /// The `BytecodeArray` of a function in `code`, likewise where it is now.
    ///
    /// # Errors
    /// Where `frame` is no function's, or it cannot be read.
    pub fn translated_bytecode(
        &self,
        code: &Code,
        frame: &TranslatedFrame,
    ) -> Result<Tagged, Error> {
        let protected = self.layout.code.deoptimization.protected_literal_array;
        match (*frame, protected) {
            (
                TranslatedFrame::Function {
                    bytecode_array: Some(index),
                    ..
                },
                Some(array),
            ) => self.element(self.element(code.data, array)?, index),
            (TranslatedFrame::Function { shared, .. }, _) => {
                self.bytecode_of(self.deoptimization_literal(code, shared)?)
            }
            _ => Err(Error::Unbelievable("a frame without bytecode")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(script_offset: u32, inlining_id: Option<u32>) -> SourcePosition {
        SourcePosition {
            script_offset: Some(script_offset),
            inlining_id,
        }
    }

    #[test]
    fn inlining_is_followed_outwards_to_the_codes_own_function() {
        let data = DeoptimizationData {
            shared: Tagged(0x101),
            inlining_positions: vec![
                InliningPosition {
                    position: at(7, None),
                    function: 0,
                },
                InliningPosition {
                    position: at(5, Some(0)),
                    function: -1,
                },
                InliningPosition {
                    position: at(5, Some(2)),
                    function: 9,
                },
                InliningPosition {
                    position: at(5, Some(3)),
                    function: 0,
                },
            ],
            literals: vec![Tagged(0x201)],
            inlined_functions: 1,
            translations: Vec::new(),
            format: None,
            entries: vec![0, 0, 0],
            eager: 2,
            exit_size: Some(4),
            exit_start: Some(100),
            osr_entry: None,
        };
        let stack = data.inlining_stack(at(3, Some(1))).unwrap();
        let stack: Vec<_> = stack
            .iter()
            .map(|frame| (frame.shared.0, frame.script_offset))
            .collect();
        assert_eq!(
            stack,
            [(0x101, Some(3)), (0x201, Some(5)), (0x101, Some(7))]
        );
        assert!(data.inlining_stack(at(1, Some(2))).is_err(), "no literal 9");
        assert!(data.inlining_stack(at(1, Some(3))).is_err(), "a loop");
        assert!(data.inlining_stack(at(1, Some(4))).is_err(), "no entry 4");
        let exits = [99, 100, 103, 104, 111, 112].map(|offset| data.exit_at(offset));
        assert_eq!(exits, [None, Some(0), Some(0), Some(1), Some(2), None]);
        let eager = [100, 103, 104, 108].map(|offset| data.eager_exit_at(offset));
        assert_eq!(eager, [Some(0), None, Some(1), None]);
        assert_eq!(data.frames(0), None);
    }
}
