//! Reading what describes code from the target's heap.

use super::layout::CrankshaftLayout;
use super::safepoints::{self, CallSite};
use super::translation::{JavaScriptFrame, TranslationFormat};
use crate::code::{Code, CodeKind};
use crate::heap::{Error, Heap, Tagged};

/// Elements of an entry of `DeoptimizationInputData` (`kDeoptEntrySize`); the
/// second is where its translation begins.
const ENTRY_SIZE: usize = 4;
const TRANSLATION_INDEX: usize = 1;

/// `JSFunction::kCodeEntryOffset` until 4.5: it follows what every object has.
/// (What 5.1 has there is no address of code.)
const CODE_ENTRY: u32 = 24;

/// What optimized code was made of, and what its frames stand for
/// (`DeoptimizationInputData` in `src/objects.h`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeoptimizationInput {
    format: &'static TranslationFormat,
    translations: Vec<u8>,
    literals: Vec<Tagged>,
    inlined_functions: usize,
    /// Of each entry, where its translation begins.
    entries: Vec<u32>,
    /// Where on-stack replacement enters the code, in bytes from its start.
    pub osr_entry: Option<u32>,
    /// The function that the code was compiled for, where it is told: not in
    /// 3.14, and not once the code has been given up.
    pub shared: Option<Tagged>,
}

impl DeoptimizationInput {
    /// Entries whose translations begin at the bytes `entries` of
    /// `translations`; all `literals` are functions.
    pub fn new(
        format: &'static TranslationFormat,
        translations: Vec<u8>,
        literals: Vec<Tagged>,
        entries: Vec<u32>,
    ) -> DeoptimizationInput {
        DeoptimizationInput {
            format,
            translations,
            inlined_functions: literals.len(),
            literals,
            entries,
            osr_entry: None,
            shared: None,
        }
    }

    /// The JavaScript frames that the place of `entry` stands for, outermost
    /// first. `None` where there is no such entry, or it does not decode.
    pub fn frames(&self, entry: u32) -> Option<Vec<JavaScriptFrame>> {
        let index = *self.entries.get(entry as usize)?;
        self.format.frames(&self.translations, index as usize)
    }

    /// How many entries there are.
    pub fn entries(&self) -> usize {
        self.entries.len()
    }

    /// The functions that were inlined, with their index: `JSFunction`s or
    /// `SharedFunctionInfo`s, as they were when the data was read.
    pub fn inlined_functions(&self) -> impl Iterator<Item = (u32, Tagged)> {
        (0..).zip(self.literals.iter().take(self.inlined_functions).copied())
    }
}

/// Where unoptimized code can be entered
/// (`DeoptimizationOutputData` in `src/objects.h`).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BailoutPoints {
    points: Vec<(i32, u32)>,
}

impl BailoutPoints {
    /// Where the code goes on after the node `ast_id` of the syntax tree, in
    /// bytes from its start.
    pub fn pc(&self, ast_id: i32) -> Option<u32> {
        let found = self.points.iter().find(|(id, _)| *id == ast_id)?;
        Some(found.1)
    }

    /// Where the code can be entered, in bytes from its start.
    pub fn pcs(&self) -> impl Iterator<Item = u32> {
        self.points.iter().map(|(_, pc)| *pc)
    }

    /// From pairs of a node's id and a pc.
    pub fn new(points: impl IntoIterator<Item = (i32, u32)>) -> BailoutPoints {
        BailoutPoints {
            points: points.into_iter().collect(),
        }
    }

    /// From the elements of the array: pairs of an id, and a pc above a bit
    /// that says where a value is (`FullCodeGenerator::PcField`).
    fn decode(elements: &[Tagged]) -> Option<BailoutPoints> {
        let pair = |pair: &[Tagged]| {
            let id = pair[0].to_smi()?;
            let pc = pair[1].to_smi()? as u32 >> 1 & ((1 << 29) - 1);
            Some((id, pc))
        };
        let points = elements.chunks_exact(2).map(pair).collect::<Option<_>>()?;
        Some(BailoutPoints { points })
    }
}

impl Heap<'_> {
    /// The deoptimization data of optimized code.
    ///
    /// # Errors
    /// Where it has none, or it cannot be read.
    pub fn deoptimization_input(&self, code: &Code) -> Result<DeoptimizationInput, Error> {
        let layout = self.crankshaft()?;
        let array = self.fixed_array(code.data)?;
        let at = |index: usize| {
            let element = array.get(index).copied();
            element.ok_or(Error::Unbelievable("deoptimization data cut short"))
        };
        let smi = |index: usize| {
            let element = at(index)?;
            element.to_smi().ok_or(Error::NotASmi(element.0))
        };
        at(layout.first_entry - 1)?;
        let entries = array[layout.first_entry..].chunks_exact(ENTRY_SIZE);
        let count = match layout.entry_count {
            Some(index) => usize::try_from(smi(index)?).unwrap_or(0),
            None => entries.len(),
        };
        let entries = entries.take(count).map(|entry| {
            let index = entry[TRANSLATION_INDEX].to_smi();
            index.and_then(|index| u32::try_from(index).ok())
        });
        Ok(DeoptimizationInput {
            format: layout.translation,
            translations: self.byte_array(at(layout.translations)?)?,
            literals: self.fixed_array(at(layout.literals)?)?,
            inlined_functions: usize::try_from(smi(layout.inlined_functions)?).unwrap_or(0),
            entries: entries
                .collect::<Option<_>>()
                .ok_or(Error::Unbelievable("an entry without translation"))?,
            osr_entry: u32::try_from(smi(layout.osr_pc_offset)?).ok(),
            shared: match layout.shared_function_info {
                Some(index) => Some(at(index)?).filter(|shared| shared.is_heap_object()),
                None => None,
            },
        })
    }

    /// Where the safepoint table of optimized code is, in bytes from its
    /// start: its instructions end there.
    ///
    /// # Errors
    /// Where that cannot be read, or is outside the code.
    pub fn safepoint_table_offset(&self, code: &Code) -> Result<u32, Error> {
        let layout = self.crankshaft()?;
        let flags = self.memory.u32(code.object.field(layout.flags2)?)?;
        let mask = (1_u64 << layout.safepoint_bits) as u32 - 1;
        let offset = flags >> layout.safepoint_shift & mask;
        if offset == 0 || offset >= code.size {
            return Err(Error::Unbelievable("a safepoint table outside the code"));
        }
        Ok(offset)
    }

    /// The calls of optimized code. `table_offset` is where its table is.
    ///
    /// # Errors
    /// Where it cannot be read or is none.
    pub fn call_sites(&self, code: &Code, table_offset: u32) -> Result<Vec<CallSite>, Error> {
        let length = code.size.saturating_sub(table_offset);
        let start = code.start + u64::from(table_offset);
        let table = self.memory.bytes(start, length as usize)?;
        safepoints::decode(&table).ok_or(Error::Unbelievable("no safepoint table"))
    }

    /// Whether TurboFan made the optimized `code`.
    ///
    /// # Errors
    /// Where that cannot be read.
    pub fn is_turbofanned(&self, code: &Code) -> Result<bool, Error> {
        let layout = self.crankshaft()?;
        let flags = self.memory.u32(code.object.field(layout.flags1)?)?;
        Ok(layout
            .turbofanned_bit
            .is_some_and(|bit| flags >> bit & 1 == 1))
    }

    /// Where calls of a `JSFunction` enter its code, an address.
    ///
    /// # Errors
    /// Where it is none, or cannot be read.
    pub fn code_entry(&self, function: Tagged) -> Result<u64, Error> {
        self.shared_of(function)?;
        Ok(self.memory.u64(function.field(CODE_ENTRY)?)?)
    }

    /// The unoptimized code of a function.
    ///
    /// # Errors
    /// Where it has none.
    pub fn unoptimized_code(&self, shared: Tagged) -> Result<Code, Error> {
        let code = self.layout.shared.code;
        let code = code.ok_or(Error::Unbelievable("no code of full-codegen's"))?;
        let code = self.code(self.tagged(shared.field(code)?)?)?;
        if code.kind != CodeKind::Unoptimized {
            return Err(Error::Unbelievable("no code of full-codegen's"));
        }
        Ok(code)
    }

    /// Where unoptimized `code` can be entered; nowhere where V8 did not need
    /// that yet.
    ///
    /// # Errors
    /// Where it cannot be read.
    pub fn bailout_points(&self, code: &Code) -> Result<BailoutPoints, Error> {
        let elements = self.fixed_array(code.data)?;
        BailoutPoints::decode(&elements).ok_or(Error::Unbelievable("no bailout points"))
    }

    /// What differs between the versions that have full-codegen and Crankshaft.
    ///
    /// # Errors
    /// Where this is none of them.
    pub fn crankshaft(&self) -> Result<&CrankshaftLayout, Error> {
        let layout = self.layout.code.crankshaft.as_ref();
        layout.ok_or(Error::Unbelievable("no code of full-codegen's"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bailout_points_are_pairs_of_an_id_and_a_pc() {
        let smi = |value: i32| Tagged((value as u32 as u64) << 32);
        let points = BailoutPoints::decode(&[smi(3), smi(0x20 << 1), smi(7), smi(0x44 << 1 | 1)]);
        let points = points.unwrap();
        assert_eq!(points.pc(3), Some(0x20));
        assert_eq!(points.pc(7), Some(0x44));
        assert_eq!(points.pc(4), None);
        assert_eq!(BailoutPoints::decode(&[smi(3), Tagged(1)]), None);
    }
}
