//! `DeoptimizationData`: which functions optimized code has inlined, and where
//! (`src/objects/deoptimization-data.h`).

use crate::code::Code;
use crate::heap::{Error, Heap, Tagged};
use crate::source_position::SourcePosition;

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
        std::iter::once(self.shared).chain(inlined)
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
        self.expect(
            shared,
            self.layout.types.shared_function_info,
            "a SharedFunctionInfo",
        )?;
        let positions = self.byte_array(element(indices.inlining_positions)?)?;
        // A `PodArray<InliningPosition>`: a 64-bit position, a 32-bit index,
        // 32 bits of padding (`src/codegen/source-position.h`).
        let inlining_positions = positions
            .chunks_exact(16)
            .map(|bytes| InliningPosition {
                position: SourcePosition::unpack(u64::from_le_bytes(
                    bytes[..8].try_into().expect("8 bytes"),
                )),
                function: i32::from_le_bytes(bytes[8..12].try_into().expect("4 bytes")),
            })
            .collect::<Vec<_>>();
        let literals = if inlining_positions.is_empty() {
            Vec::new()
        } else {
            self.elements(element(indices.literal_array)?)?
        };
        Ok(DeoptimizationData {
            shared,
            inlining_positions,
            literals,
        })
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
    }
}
