//! V8 5.8: most functions still have code of full-codegen's and Crankshaft's,
//! those that these two cannot compile have bytecode and TurboFan's code
//! (Node.js 8.0 to 8.2; `ShouldUseIgnition` in `src/compiler.cc`).
//!
//! With `--ignition` and `--turbo` all have these. The files named are those of 5.8.

use super::{Ask, crankshaft, objects};
use crate::crankshaft::CrankshaftLayout;
use crate::layout::{
    BytecodeLayout, CodeKinds, CodeLayout, DeoptimizationLayout, FrameLayout, InstanceTypes,
    Layout, NO_KIND, SafepointFormat, SafepointLayout, SafepointPlace, ScopeInfoLayout,
    ScriptLayout, SharedLayout, UnknownLayout,
};
use crate::translation::TranslationFormat;
use crate::version::Version;

pub(super) const KNOWN: Version = Version::new(5, 8);

pub(super) fn layout(ask: &Ask<'_>) -> Result<Layout, UnknownLayout> {
    let function = ask.value("off_fp_function")?;
    Ok(Layout {
        version: ask.version,
        types: InstanceTypes {
            bytecode_array: ask.instance_type("BytecodeArray")?,
            ..crankshaft::instance_types(ask)?
        },
        strings: crankshaft::string_tags(ask)?,
        // Its first byte; another one follows (`Map::kInstanceTypeOffset`).
        map_instance_type: ask.offset("Map", "instance_attributes")?,
        instance_type_mask: 0xff,
        function_shared: ask.offset("JSFunction", "shared")?,
        shared: shared(ask)?,
        // A function has its name and place itself.
        scope_info: ScopeInfoLayout::default(),
        script: ScriptLayout {
            kind: Some(ask.offset("Script", "type")?),
            ..objects::script(ask)?
        },
        debug_info_script: None,
        bytecode: BytecodeLayout {
            length: 8,
            source_position_table: 32,
            // After it: frame_size, parameter_size, the interrupt budget (4 bytes
            // each), two counters of a byte (`BytecodeArray` in src/objects.h).
            data: 54,
            debug_prefixes: false,
            sizes_by_bytecode: true,
            loops: None,
        },
        code: code(ask)?,
        frame: FrameLayout {
            context: ask.value("off_fp_context")?,
            function,
            // After new.target (`InterpreterFrameConstants` in src/frames.h).
            bytecode_array: function - 16,
            bytecode_offset: function - 24,
            entry_caller: None,
        },
        position_format: super::position_format(ask.version),
        interpreter: super::interpreter(ask),
        wasm: super::wasm::wasm(ask),
    })
}

fn shared(ask: &Ask<'_>) -> Result<SharedLayout, UnknownLayout> {
    let class = "SharedFunctionInfo";
    let function_data = ask.offset(class, "function_data")?;
    Ok(SharedLayout {
        function_data,
        code: Some(ask.offset(class, "code")?),
        builtin_id: function_data,
        name_or_scope_info: ask.offset(class, "name")?,
        script: ask.offset(class, "script")?,
        // A Smi, which has its 32 bits in the upper half of the word.
        function_literal_id: Some(ask.offset(class, "function_literal_id")? + 4),
        uncompiled_inferred_name: 0,
        uncompiled_start_position: 0,
        // As before Ignition.
        own_names: Some(objects::own_names(ask, 1)?),
    })
}

/// `Code` and `DeoptimizationInputData` in src/objects.h.
fn code(ask: &Ask<'_>) -> Result<CodeLayout, UnknownLayout> {
    let instruction_size = ask.offset("Code", "instruction_size")?;
    // The inline caches' age is between.
    let flags = instruction_size + 8;
    // `class KindField`: three bits precede it.
    let kind = |number: u32| number << 3;
    Ok(CodeLayout {
        instructions: ask.offset("Code", "instruction_start")?,
        stream_code: None,
        code_stream: None,
        instruction_start: None,
        instruction_size,
        flags,
        // relocation_info, handler_table, deoptimization data, positions.
        deoptimization_or_interpreter_data: 24,
        position_table: 32,
        // Unless something profiles or debugs when TurboFan compiles it
        // (`Isolate::NeedsSourcePositionsForProfiling` in src/isolate.cc).
        positions_of_calls: true,
        baseline_calls_only: false,
        has_bytecode: false,
        // After kind_specific_flags 1 and 2 and prologue_offset.
        builtin_index: Some(flags + 16),
        kind_mask: kind(0x1f),
        kinds: CodeKinds {
            builtin: kind(5),
            bytecode_handler: kind(2),
            regexp: kind(6),
            wasm_function: kind(7),
            js_to_wasm_function: kind(9),
            baseline: NO_KIND,
            maglev: NO_KIND,
            turbofan: NO_KIND,
            unoptimized: kind(0),
            // TurboFan's as well: a bit tells.
            crankshaft: kind(1),
            kind_shift: 3,
            stubs: &STUBS,
        },
        deoptimization: DeoptimizationLayout {
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
            entry_size: 4,
            exit_size: None,
            translation: TranslationFormat::of(ask.version),
        },
        safepoints: Some(SafepointLayout {
            // `class SafepointTableOffsetField`, in kind_specific_flags2
            place: SafepointPlace::Instructions {
                offset: flags + 8,
                shift: 1,
            },
            format: SafepointFormat::Pairs,
        }),
        crankshaft: CrankshaftLayout::of(ask.version),
    })
}

/// `CODE_KIND_LIST` in src/objects.h.
const STUBS: [&str; 19] = [
    "",
    "",
    "",
    "(stub)",
    "(handler)",
    "",
    "",
    "",
    "(wasm to js)",
    "",
    "(wasm interpreter entry)",
    "LoadIC",
    "LoadGlobalIC",
    "KeyedLoadIC",
    "StoreIC",
    "KeyedStoreIC",
    "BinaryOpIC",
    "CompareIC",
    "ToBooleanIC",
];
