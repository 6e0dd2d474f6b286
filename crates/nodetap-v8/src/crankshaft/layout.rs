//! Where code of these versions keeps what describes it, and how that is
//! written.

use super::relocation::{MODES_5_0, MODES_5_1, RelocationFormat};
use super::translation::TranslationFormat;
use crate::version::Version;

/// What differs between the versions that have full-codegen and Crankshaft.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CrankshaftLayout {
    /// How `Code.relocation_info` is written; `None` where source positions have
    /// a table of their own.
    pub relocation: Option<RelocationFormat>,
    /// Whether Crankshaft writes the position of every expression beside its
    /// code (`LCodeGenBase::GenerateBody` in `src/lithium-codegen.cc`), and not
    /// of calls alone.
    pub optimized_positions: bool,
    /// How translations are written.
    pub translation: &'static TranslationFormat,
    /// `Code.kind_specific_flags1` and `2`, in bytes from the object's start.
    pub flags1: u32,
    #[allow(missing_docs)]
    pub flags2: u32,
    /// The bits of `flags2` that are `SafepointTableOffsetField`.
    pub safepoint_shift: u32,
    #[allow(missing_docs)]
    pub safepoint_bits: u32,
    /// `kIsTurbofannedBit` of `flags1`; `None` where there is no TurboFan.
    pub turbofanned_bit: Option<u32>,
    /// Whether TurboFan compiles bytecode, and is told by that; else it compiles
    /// syntax trees, as Crankshaft does.
    pub turbofan_of_bytecode: bool,
    /// Indices in a `DeoptimizationInputData` array: the translations,
    pub translations: usize,
    /// the number of inlined functions, which are the first literals,
    pub inlined_functions: usize,
    /// the literals,
    pub literals: usize,
    /// where on-stack replacement enters the code,
    pub osr_pc_offset: usize,
    /// the `SharedFunctionInfo` that the code was compiled for, where it is told,
    pub shared_function_info: Option<usize>,
    /// the number of entries where it is told (else they go to the end),
    pub entry_count: Option<usize>,
    /// the first entry.
    pub first_entry: usize,
}

impl CrankshaftLayout {
    /// The layout of `version`, from `src/objects.h` of each: the class `Code`
    /// and the class `DeoptimizationInputData`. `None` where it was not read.
    pub fn of(version: Version) -> Option<CrankshaftLayout> {
        let translation = TranslationFormat::of(version)?;
        Some(match (version.major, version.minor) {
            (3, 14) => CrankshaftLayout {
                relocation: Some(RelocationFormat::SharedPoolTag),
                optimized_positions: false,
                translation,
                flags1: 60,
                flags2: 64,
                // The stub's major key comes first (`kStubMajorKeyBits`).
                safepoint_shift: 6,
                safepoint_bits: 26,
                turbofanned_bit: None,
                turbofan_of_bytecode: false,
                translations: 0,
                inlined_functions: 1,
                literals: 2,
                osr_pc_offset: 4,
                shared_function_info: None,
                entry_count: None,
                first_entry: 5,
            },
            (3, 28) => CrankshaftLayout {
                relocation: Some(RelocationFormat::Tags),
                optimized_positions: true,
                translation,
                flags1: 68,
                flags2: 72,
                safepoint_shift: 1,
                safepoint_bits: 24,
                turbofanned_bit: Some(28),
                turbofan_of_bytecode: false,
                translations: 2,
                inlined_functions: 3,
                literals: 4,
                osr_pc_offset: 6,
                shared_function_info: Some(8),
                entry_count: Some(0),
                first_entry: 9,
            },
            (4, 5) => CrankshaftLayout {
                relocation: Some(RelocationFormat::Tags),
                optimized_positions: true,
                translation,
                flags1: 68,
                flags2: 72,
                safepoint_shift: 1,
                safepoint_bits: 24,
                turbofanned_bit: Some(26),
                turbofan_of_bytecode: false,
                translations: 0,
                inlined_functions: 1,
                literals: 2,
                osr_pc_offset: 4,
                shared_function_info: Some(6),
                entry_count: None,
                first_entry: 8,
            },
            (5, 0 | 1) => CrankshaftLayout {
                relocation: Some(RelocationFormat::Modes(match version.minor {
                    0 => &MODES_5_0,
                    _ => &MODES_5_1,
                })),
                optimized_positions: true,
                translation,
                flags1: 68,
                flags2: 72,
                safepoint_shift: 1,
                safepoint_bits: 30,
                turbofanned_bit: Some(25),
                turbofan_of_bytecode: false,
                translations: 0,
                inlined_functions: 1,
                literals: 2,
                osr_pc_offset: 4,
                shared_function_info: Some(6),
                entry_count: None,
                first_entry: 8,
            },
            (5, 8) => CrankshaftLayout {
                relocation: None,
                optimized_positions: true,
                translation,
                flags1: 76,
                flags2: 80,
                safepoint_shift: 1,
                safepoint_bits: 30,
                turbofanned_bit: Some(25),
                turbofan_of_bytecode: true,
                translations: 0,
                inlined_functions: 1,
                literals: 2,
                osr_pc_offset: 4,
                shared_function_info: Some(6),
                entry_count: None,
                // After the cache of weak cells and the inlining positions.
                first_entry: 9,
            },
            _ => return None,
        })
    }
}
