//! Bytecode and compiled code.

use super::{Ask, SPLIT_CODE, TRUSTED_OBJECTS};
use crate::layout::{
    BytecodeLayout, CodeKinds, CodeLayout, DeoptimizationLayout, NO_KIND, SafepointLayout,
    UnknownLayout,
};
use crate::translation::TranslationFormat;
use crate::version::Version;

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
        data: ask.offset("BytecodeArray", "data")?,
        // `BYTECODE_LIST` in src/interpreter/bytecodes.h: since 7.0.
        debug_prefixes: ask.version >= Version::new(7, 0),
    })
}

pub(super) fn code(ask: &Ask<'_>) -> Result<CodeLayout, UnknownLayout> {
    let split = ask.version >= SPLIT_CODE;
    let trusted = ask.version >= TRUSTED_OBJECTS;
    let baseline: u32 = ask.unsigned("CodeKindBaseline")?;
    // `CODE_KIND_LIST` (src/objects/code-kind.h): BYTECODE_HANDLER,
    // FOR_TESTING, since 14 FOR_TESTING_JS, BUILTIN, REGEXP, WASM_FUNCTION, …
    let builtin = if ask.version >= Version::new(14, 0) {
        3
    } else {
        2
    };
    let kinds = CodeKinds {
        builtin,
        regexp: builtin + 1,
        wasm_function: builtin + 2,
        // After WASM_TO_CAPI_FUNCTION and WASM_TO_JS_FUNCTION.
        js_to_wasm_function: builtin + 5,
        baseline,
        maglev: baseline + 1,
        turbofan: baseline + 2,
        unoptimized: NO_KIND,
        crankshaft: NO_KIND,
        kind_shift: 0,
        stubs: &[],
    };
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
        exit_start: inlining_positions + 1,
        eager_count: inlining_positions + 2,
        lazy_count: inlining_positions + 3,
        first_entry: inlining_positions + 4,
        // `Deoptimizer::kEagerDeoptExitSize` and `kLazyDeoptExitSize` in
        // src/deoptimizer/x64/deoptimizer-x64.cc.
        exit_size: 4,
        translation: TranslationFormat::of(ask.version),
    };
    // The tables of these versions were read too. 13.6 put the number of
    // stack slots first.
    let safepoints = TranslationFormat::of(ask.version).map(|_| {
        if ask.version >= Version::new(13, 0) {
            SafepointLayout {
                length: 4,
                header: 12,
                maglev_header: 16,
            }
        } else {
            SafepointLayout {
                length: 0,
                header: 8,
                maglev_header: 16,
            }
        }
    });
    let kind_mask = ask.unsigned("CodeKindFieldMask")?;
    if !split {
        // One object: relocation_info, deoptimization data, position table,
        // CodeDataContainer, then numbers (src/objects/code.h).
        return Ok(CodeLayout {
            instructions: ask.offset("Code", "instruction_start")?,
            stream_code: None,
            code_stream: None,
            instruction_start: None,
            instruction_size: ask.offset("Code", "instruction_size")?,
            // It follows `instruction_size` in every version.
            metadata_size: ask.offset("Code", "instruction_size")? + 4,
            flags: ask.offset("Code", "flags")?,
            deoptimization_or_interpreter_data: 16,
            position_table: 24,
            kind_mask,
            kinds,
            deoptimization,
            safepoints,
            crankshaft: None,
        });
    }
    if !trusted {
        // relocation_info, deoptimization data, position table,
        // instruction_stream, instruction_start, flags, builtin_id,
        // kind_specific_flags, instruction_size (src/objects/code.h of 11.3).
        return Ok(CodeLayout {
            instructions: ask.offset("InstructionStream", "instruction_start")?,
            stream_code: Some(8),
            code_stream: Some(32),
            instruction_start: Some(40),
            instruction_size: 56,
            metadata_size: 60,
            flags: 48,
            deoptimization_or_interpreter_data: ask.offset("Code", "deoptimization_data")?,
            position_table: ask.offset("Code", "source_position_table")?,
            kind_mask,
            kinds,
            deoptimization,
            safepoints,
            crankshaft: None,
        });
    }
    Ok(CodeLayout {
        instructions: ask.offset("InstructionStream", "instruction_start")?,
        stream_code: Some(8),
        code_stream: Some(ask.offset("Code", "instruction_stream")?),
        instruction_start: Some(ask.offset("Code", "instruction_start")?),
        instruction_size: ask.offset("Code", "instruction_size")?,
        metadata_size: ask.offset("Code", "instruction_size")? + 4,
        flags: ask.offset("Code", "flags")?,
        // The first two fields (src/objects/code.h).
        deoptimization_or_interpreter_data: 8,
        position_table: 16,
        kind_mask,
        kinds,
        deoptimization,
        safepoints,
        crankshaft: None,
    })
}
