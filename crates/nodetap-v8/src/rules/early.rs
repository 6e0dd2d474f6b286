//! V8 6: Ignition and TurboFan, before builtins and bytecode handlers moved
//! into the binary (Node.js 8 and 10).
//!
//! A function's place stands in its `SharedFunctionInfo` itself; builtins and
//! handlers are `Code` on the heap. The files named are those of 6.2, 6.6 and 6.7.

use super::{Ask, objects};
use crate::layout::{
    BytecodeLayout, CodeKinds, CodeLayout, DeoptimizationLayout, InstanceTypes, Layout,
    LoopBytecodes, NO_KIND, NO_TYPE, SafepointFormat, SafepointLayout, SafepointPlace,
    ScopeInfoLayout, ScriptLayout, SharedLayout, StackNamesLayout, UnknownLayout,
};
use crate::translation::TranslationFormat;
use crate::version::Version;

/// Node.js 8.17, 10.0 and 10.24.
pub(super) const KNOWN: [Version; 3] = [Version::new(6, 2), Version::new(6, 6), Version::new(6, 8)];

/// Since then `Code` has the kinds and, but for one that came and went, the
/// fields of 6.7; before, those of 6.2.
const SMALLER_CODE: Version = Version::new(6, 6);

pub(super) fn layout(ask: &Ask<'_>) -> Result<Layout, UnknownLayout> {
    // `Map::kInstanceTypeOffset` in src/objects/map.h: one byte at first, which
    // another field follows.
    let wide_types = ask.metadata.offset("Map", "instance_type");
    Ok(Layout {
        version: ask.version,
        types: instance_types(ask)?,
        strings: objects::string_tags(ask)?,
        map_instance_type: match wide_types {
            Some(offset) => offset,
            None => ask.offset("Map", "instance_attributes")?,
        },
        instance_type_mask: match wide_types {
            Some(_) => u16::MAX,
            None => 0xff,
        },
        function_shared: ask.offset("JSFunction", "shared")?,
        shared: shared(ask)?,
        scope_info: scope_info(ask)?,
        script: ScriptLayout {
            // Some of V8's builtins are written in JavaScript.
            kind: Some(ask.offset("Script", "type")?),
            ..objects::script(ask)?
        },
        debug_info_script: None,
        bytecode: bytecode(ask.version),
        code: code(ask)?,
        frame: super::frame(ask)?,
        position_format: super::position_format(ask.version),
        interpreter: super::interpreter(ask),
        wasm: super::wasm::wasm(ask),
    })
}

fn instance_types(ask: &Ask<'_>) -> Result<InstanceTypes, UnknownLayout> {
    let js_function = ask.instance_type("JSFunction")?;
    let code = ask.instance_type("Code")?;
    let or_none = |class| ask.metadata.instance_type(class).unwrap_or(NO_TYPE);
    Ok(InstanceTypes {
        // It is the last type (`enum InstanceType` in src/objects.h).
        js_function_first: js_function,
        js_function_last: js_function,
        shared_function_info: ask.instance_type("SharedFunctionInfo")?,
        script: ask.instance_type("Script")?,
        debug_info: NO_TYPE,
        // In 6.2 a FixedArray like others.
        scope_info: or_none("ScopeInfo"),
        bytecode_array: ask.instance_type("BytecodeArray")?,
        interpreter_data: or_none("InterpreterData"),
        baseline_data: None,
        code,
        instruction_stream: code,
        byte_array: ask.instance_type("ByteArray")?,
        trusted_byte_array: None,
        // `SourcePositionTableWithFrameCache` has no type of its own.
        position_table_holder: Some(ask.instance_type("Tuple2")?),
        fixed_array: ask.instance_type("FixedArray")?,
        shared_function_info_wrapper: None,
        uncompiled_data_first: NO_TYPE,
        uncompiled_data_last: NO_TYPE,
        oddball: ask.instance_type("Oddball")?,
        first_nonstring: ask.unsigned("FirstNonstringType")?,
    })
}

fn shared(ask: &Ask<'_>) -> Result<SharedLayout, UnknownLayout> {
    let class = "SharedFunctionInfo";
    let name = match ask.metadata.offset(class, "name_or_scope_info") {
        Some(offset) => offset,
        None => ask.offset(class, "raw_name")?,
    };
    let function_data = ask.offset(class, "function_data")?;
    Ok(SharedLayout {
        function_data,
        code: None,
        // A Smi there where a builtin's code is not loaded yet.
        builtin_id: function_data,
        name_or_scope_info: name,
        script: ask.offset(class, "script")?,
        // The int32 before the length (`SHARED_FUNCTION_INFO_FIELDS` in
        // src/objects/shared-function-info.h); without `kUniqueIdField`.
        function_literal_id: Some(ask.offset(class, "length")? - 4),
        uncompiled_inferred_name: 0,
        uncompiled_start_position: 0,
        own_names: Some(objects::own_names(ask, 0)?),
    })
}

fn scope_info(ask: &Ask<'_>) -> Result<ScopeInfoLayout, UnknownLayout> {
    // The elements of a FixedArray, by number.
    let slot = |name: &str| -> Result<u32, UnknownLayout> {
        let index: u32 = ask.unsigned(name)?;
        Ok(16 + 8 * index)
    };
    Ok(ScopeInfoLayout {
        length: Some(8),
        flags: 16,
        context_local_count: slot("scopeinfo_idx_ncontextlocals")?,
        first_vars: slot("scopeinfo_idx_first_vars")?,
        position_info: None,
        module_count_first: false,
        max_inlined_names: u64::MAX,
        stack_names: Some(StackNamesLayout {
            parameter_count: slot("scopeinfo_idx_nparams")?,
            stack_local_count: slot("scopeinfo_idx_nstacklocals")?,
        }),
        receiver: true,
        // `class ScopeTypeField` and what follows it in src/objects/scope-info.h.
        has_saved_class_variable: 0,
        function_variable: 3 << 10,
        has_inferred_function_name: 1 << 12,
        function_kind_shift: 15,
        class_scope: None,
        // `enum ScopeType` in src/globals.h
        eval_scope: 0,
        function_scope: 1,
        module_scope: 2,
        script_scope: 3,
        shadow_realm_scope: None,
        is_empty_bit: 31,
    })
}

fn bytecode(version: Version) -> BytecodeLayout {
    BytecodeLayout {
        length: 8,
        source_position_table: 32,
        // After it: frame_size, parameter_size, a register, the interrupt
        // budget (4 bytes each), two counters of a byte (`BytecodeArray` in
        // src/objects.h, 6.7: src/objects/code.h).
        data: 58,
        // `BYTECODE_LIST` in src/interpreter/bytecodes.h
        debug_prefixes: false,
        sizes_by_bytecode: false,
        loops: (version == Version::new(6, 6)).then_some(LoopBytecodes {
            jump_loop: 122,
            stack_check: 149,
        }),
    }
}

fn code(ask: &Ask<'_>) -> Result<CodeLayout, UnknownLayout> {
    let smaller = ask.version >= SMALLER_CODE;
    let instruction_size = ask.offset("Code", "instruction_size")?;
    let flags = instruction_size + 4;
    // `class KindField`: one bit precedes it.
    let kind = |number: u32| number << 1;
    // `CODE_KIND_LIST` in src/objects.h and src/objects/code.h.
    let first = if smaller { 0 } else { 1 };
    let builtin = if smaller { 3 } else { 5 };
    let kinds = CodeKinds {
        builtin: kind(builtin),
        bytecode_handler: kind(first + 1),
        regexp: kind(builtin + 1),
        wasm_function: kind(builtin + 2),
        // After WASM_TO_JS_FUNCTION, in 6.6 WASM_TO_WASM_FUNCTION as well.
        js_to_wasm_function: kind(if ask.version == Version::new(6, 6) {
            builtin + 5
        } else {
            builtin + 4
        }),
        baseline: NO_KIND,
        maglev: NO_KIND,
        turbofan: kind(first),
        unoptimized: NO_KIND,
        crankshaft: NO_KIND,
        kind_shift: 1,
        stubs: if smaller {
            &["", "", "(stub)"]
        } else {
            &["", "", "", "(stub)", "(inline cache)"]
        },
    };
    let deoptimization = DeoptimizationLayout {
        // `class DeoptimizationInputData` in src/objects.h, 6.7:
        // `DeoptimizationData` in src/objects/code.h.
        frame_translation: 0,
        inlined_function_count: 1,
        protected_literal_array: None,
        literal_array: 2,
        osr_pc_offset: 4,
        shared_function_info: 6,
        // After the cache of weak cells.
        inlining_positions: 8,
        exit_start: None,
        eager_count: None,
        lazy_count: None,
        first_entry: 9,
        entry_size: 3,
        exit_size: None,
        translation: TranslationFormat::of(ask.version),
    };
    Ok(CodeLayout {
        instructions: ask.offset("Code", "instruction_start")?,
        stream_code: None,
        code_stream: None,
        instruction_start: None,
        instruction_size,
        flags,
        // relocation_info, in 6.2 handler_table, deoptimization data, positions
        // (`Code::kRelocationInfoOffset` and what follows it).
        deoptimization_or_interpreter_data: if smaller { 16 } else { 24 },
        position_table: if smaller { 24 } else { 32 },
        // Unless something profiles or debugs when it is compiled
        // (`Isolate::NeedsSourcePositionsForProfiling` in src/isolate.cc,
        // `CodeGenerator::AssembleCode` in src/compiler/code-generator.cc).
        positions_of_calls: true,
        has_bytecode: true,
        baseline_calls_only: false,
        // After the flags: safepoint_table_offset, handler_table_offset,
        // stub_key; in 6.2 kind_specific_flags 1 and 2 (which the safepoints'
        // offset is in), prologue_offset.
        builtin_index: Some(flags + 16),
        kind_mask: kind(0x1f),
        kinds,
        deoptimization,
        safepoints: Some(SafepointLayout {
            place: if smaller {
                SafepointPlace::Instructions {
                    offset: flags + 4,
                    shift: 0,
                }
            } else {
                // `class SafepointTableOffsetField`
                SafepointPlace::Instructions {
                    offset: flags + 8,
                    shift: 1,
                }
            },
            // `class DeoptimizationIndexField` in src/safepoint-table.h
            format: SafepointFormat::Words { index: 0x0fff_ffff },
        }),
        crankshaft: None,
    })
}
