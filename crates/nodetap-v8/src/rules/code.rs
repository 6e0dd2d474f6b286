//! Bytecode and compiled code.

use super::{Ask, OPTIMIZED_LAST, SPLIT_CODE, TRUSTED_OBJECTS};
use crate::layout::{
    BytecodeLayout, CodeKinds, CodeLayout, DeoptimizationLayout, NO_KIND, SafepointFormat,
    SafepointLayout, SafepointPlace, UnknownLayout,
};
use crate::translation::TranslationFormat;
use crate::version::Version;

/// Since then the relocation information is with the instructions.
const RELOCATION_WITH_INSTRUCTIONS: Version = Version::new(11, 8);

pub(super) fn bytecode(ask: &Ask<'_>) -> Result<BytecodeLayout, UnknownLayout> {
    Ok(BytecodeLayout {
        length: 8,
        // src/objects/bytecode-array.tq (until 11 code.tq): constant_pool,
        // handler_table, source_position_table; since 12.3 wrapper,
        // source_position_table, handler_table, constant_pool.
        source_position_table: if ask.version >= TRUSTED_OBJECTS {
            24
        } else {
            32
        },
        // Before 10 the metadata does not tell; there it follows the frame's
        // size, that of the parameters, a register, until 7.4 the interrupt budget
        // (4 bytes each) and two counters of a byte.
        data: ask.metadata.offset("BytecodeArray", "data").unwrap_or(
            match ask.version < Version::new(7, 5) {
                true => 58,
                false => 54,
            },
        ),
        // `BYTECODE_LIST` in src/interpreter/bytecodes.h: since 7.0.
        debug_prefixes: ask.version >= Version::new(7, 0),
        sizes_by_bytecode: false,
        loops: None,
    })
}

pub(super) fn code(ask: &Ask<'_>) -> Result<CodeLayout, UnknownLayout> {
    let split = ask.version >= SPLIT_CODE;
    let trusted = ask.version >= TRUSTED_OBJECTS;
    // The metadata tells these since 11; before, `class DeoptimizationData` in
    // src/objects/code.h.
    let index = |names: &[&str], otherwise: u32| {
        let mut told = names
            .iter()
            .map(|name| ask.unsigned(&format!("DeoptimizationData{name}Index")).ok());
        told.find_map(|index| index).unwrap_or(otherwise)
    };
    let literal_array = index(&["LiteralArray"], 2);
    let inlining_positions = index(&["InliningPositions"], 7);
    // Before 8.9 exits are of different sizes: their number is in the code
    // (`CallForDeoptimization` in src/codegen/x64/macro-assembler-x64.cc).
    let has_counts = ask.version >= Version::new(8, 9);
    let after = inlining_positions + 1;
    let deoptimization = DeoptimizationLayout {
        // First come the translations, the number of inlined functions, the
        // protected literals where there are any, the literals; then the
        // bytecode offset that on-stack replacement entered the code at, and
        // its pc (src/objects/deoptimization-data.h, before 12 code.h).
        frame_translation: 0,
        inlined_function_count: 1,
        protected_literal_array: (literal_array == 3).then_some(2),
        literal_array,
        osr_pc_offset: literal_array + 2,
        shared_function_info: index(&["WrappedSharedFunctionInfo", "SharedFunctionInfo"], 6),
        inlining_positions,
        exit_start: (ask.version >= Version::new(7, 8)).then_some(after),
        eager_count: has_counts.then_some(after + 1),
        lazy_count: has_counts.then_some(after + 2),
        first_entry: match ask.version {
            // Until 8.2 only where the exits start follows, since 7.8, in 8.3
            // also how many are eager.
            version if version < Version::new(7, 8) => after,
            version if version < Version::new(8, 3) => after + 1,
            version if version < Version::new(8, 9) => after + 2,
            _ => after + 3,
        },
        // `Deoptimizer::kEagerDeoptExitSize` and `kLazyDeoptExitSize` in
        // src/deoptimizer/x64/deoptimizer-x64.cc.
        entry_size: 3,
        exit_size: match (ask.version.major, ask.version.minor) {
            (10.., _) | (9, 5..) => Some(4),
            (9, _) => Some(7),
            _ => None,
        },
        translation: TranslationFormat::of(ask.version),
    };
    let (kind_mask, kinds) = kinds(ask)?;
    if !split {
        // One object: relocation_info, deoptimization data, position table,
        // CodeDataContainer, then numbers (src/objects/code.h).
        let instruction_size = ask.offset("Code", "instruction_size")?;
        let has_metadata = ask.version >= Version::new(8, 9);
        return Ok(CodeLayout {
            instructions: ask.offset("Code", "instruction_start")?,
            stream_code: None,
            code_stream: None,
            instruction_start: None,
            instruction_size,
            // The size of the metadata stands between since 8.9.
            flags: instruction_size + if has_metadata { 8 } else { 4 },
            deoptimization_or_interpreter_data: 16,
            position_table: 24,
            positions_of_calls: false,
            has_bytecode: ask.version >= Version::new(9, 5),
            // `Code::GetBytecodeOffsetForBaselinePC` in src/objects/code-inl.h
            // of 9.0.
            baseline_calls_only: ask.version < Version::new(9, 1),
            // Some of 7.0's are on the heap still (src/objects/code.h).
            builtin_index: (ask.version < Version::new(7, 4)).then_some(instruction_size + 20),
            kind_mask,
            kinds,
            deoptimization,
            safepoints: safepoints(
                ask,
                if has_metadata {
                    SafepointPlace::Metadata {
                        size: instruction_size + 4,
                    }
                } else {
                    // After the flags.
                    SafepointPlace::Instructions {
                        offset: instruction_size + 8,
                        shift: 0,
                    }
                },
            ),
            crankshaft: None,
        });
    }
    if !trusted {
        // Deoptimization data and position table, then: instruction_stream,
        // instruction_start, flags, instruction_size, the size of the metadata
        // (src/objects/code.h of 11.8); before, relocation_info comes first, and
        // builtin_id and kind_specific_flags after the flags (11.3).
        let (stream, flags, instruction_size) = match ask.version >= RELOCATION_WITH_INSTRUCTIONS {
            true => (24, 40, 44),
            false => (32, 48, 56),
        };
        return Ok(CodeLayout {
            instructions: ask.offset("InstructionStream", "instruction_start")?,
            stream_code: Some(8),
            code_stream: Some(stream),
            instruction_start: Some(stream + 8),
            instruction_size,
            flags,
            deoptimization_or_interpreter_data: ask.offset("Code", "deoptimization_data")?,
            position_table: ask.offset("Code", "source_position_table")?,
            positions_of_calls: false,
            has_bytecode: true,
            baseline_calls_only: false,
            builtin_index: None,
            kind_mask,
            kinds,
            deoptimization,
            safepoints: safepoints(
                ask,
                SafepointPlace::Metadata {
                    size: instruction_size + 4,
                },
            ),
            crankshaft: None,
        });
    }
    let instruction_size = ask.offset("Code", "instruction_size")?;
    Ok(CodeLayout {
        instructions: ask.offset("InstructionStream", "instruction_start")?,
        stream_code: Some(8),
        code_stream: Some(ask.offset("Code", "instruction_stream")?),
        instruction_start: Some(ask.offset("Code", "instruction_start")?),
        instruction_size,
        flags: ask.offset("Code", "flags")?,
        // The first two fields (src/objects/code.h).
        deoptimization_or_interpreter_data: 8,
        position_table: 16,
        positions_of_calls: false,
        has_bytecode: true,
        baseline_calls_only: false,
        builtin_index: None,
        kind_mask,
        kinds,
        deoptimization,
        safepoints: safepoints(
            ask,
            SafepointPlace::Metadata {
                size: instruction_size + 4,
            },
        ),
        crankshaft: None,
    })
}

/// The mask of `KindField` in the flags of a `Code`, and its values.
fn kinds(ask: &Ask<'_>) -> Result<(u32, CodeKinds), UnknownLayout> {
    if ask.version < OPTIMIZED_LAST {
        // `CODE_KIND_LIST` (src/objects/code.h): OPTIMIZED_FUNCTION,
        // BYTECODE_HANDLER, STUB, BUILTIN, REGEXP, WASM_FUNCTION, …; the kind
        // follows one bit in the flags.
        let kind = |number: u32| number << 1;
        // 7.0 still has bytecode handlers and stubs on the heap.
        let has_stubs = ask.version < Version::new(7, 4);
        let kinds = CodeKinds {
            builtin: kind(3),
            bytecode_handler: if has_stubs { kind(1) } else { NO_KIND },
            regexp: kind(4),
            wasm_function: kind(5),
            js_to_wasm_function: kind(if has_stubs { 7 } else { 8 }),
            baseline: NO_KIND,
            maglev: NO_KIND,
            turbofan: kind(0),
            unoptimized: NO_KIND,
            crankshaft: NO_KIND,
            kind_shift: 1,
            stubs: if has_stubs { &["", "", "(stub)"] } else { &[] },
        };
        // `KindField` became narrower.
        let mask = match ask.version < Version::new(8, 6) {
            true => 0x1f,
            false => 0xf,
        };
        return Ok((kind(mask), kinds));
    }
    // The metadata tells since 9.5.
    let baseline: u32 = match ask.metadata.get("CodeKindBaseline") {
        Some(_) => ask.unsigned("CodeKindBaseline")?,
        None => 11,
    };
    // Which follow each other.
    if let Some(interpreted) = ask.metadata.get("CodeKindInterpretedFunction")
        && i64::from(interpreted) + 1 != i64::from(baseline)
    {
        return Err(UnknownLayout::Contradiction {
            version: ask.version,
            what: "the kinds of code",
        });
    }
    // `CODE_KIND_LIST` (src/objects/code-kind.h): BYTECODE_HANDLER, FOR_TESTING,
    // BUILTIN, REGEXP, WASM_FUNCTION, …; in 14 FOR_TESTING_JS came before BUILTIN,
    // which as in 13 is eight before BASELINE.
    let builtin = match ask.version.major {
        14.. => baseline.saturating_sub(8),
        _ => 2,
    };
    let kinds = CodeKinds {
        builtin,
        bytecode_handler: NO_KIND,
        regexp: builtin + 1,
        wasm_function: builtin + 2,
        // After WASM_TO_CAPI_FUNCTION and WASM_TO_JS_FUNCTION.
        js_to_wasm_function: builtin + 5,
        baseline,
        maglev: match ask.version.major {
            9 => NO_KIND,
            _ => baseline + 1,
        },
        // In 9, TURBOPROP was in the place of MAGLEV, until 9.2 behind
        // NATIVE_CONTEXT_INDEPENDENT.
        turbofan: match ask.version < Version::new(9, 2) {
            true => baseline + 3,
            false => baseline + 2,
        },
        unoptimized: NO_KIND,
        crankshaft: NO_KIND,
        kind_shift: 0,
        stubs: &[],
    };
    let mask = match ask.metadata.get("CodeKindFieldMask") {
        Some(_) => ask.unsigned("CodeKindFieldMask")?,
        None => 0xf,
    };
    Ok((mask, kinds))
}

/// The safepoint tables, which are at `place`; of versions only whose
/// translations are known.
fn safepoints(ask: &Ask<'_>, place: SafepointPlace) -> Option<SafepointLayout> {
    TranslationFormat::of(ask.version)?;
    let format = match ask.version.major {
        // 13.6 put the number of stack slots first.
        13.. => SafepointFormat::Packed {
            length: 4,
            header: 12,
            maglev_header: 16,
        },
        10.. => SafepointFormat::Packed {
            length: 0,
            header: 8,
            maglev_header: 16,
        },
        // `class DeoptimizationIndexField` in src/safepoint-table.h of 7.0.
        7 if ask.version < Version::new(7, 4) => SafepointFormat::Words { index: 0x0fff_ffff },
        _ => SafepointFormat::Words { index: u32::MAX },
    };
    Some(SafepointLayout { place, format })
}
