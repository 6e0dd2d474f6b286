//! V8 before Ignition: full-codegen and Crankshaft (Node.js 0.10 to 6).
//!
//! No bytecode, no builtins in the binary; a function's name and place stand in
//! its `SharedFunctionInfo` itself.

use super::{Ask, objects};
use crate::crankshaft::CrankshaftLayout;
use crate::layout::{
    BytecodeLayout, CodeKinds, CodeLayout, DeoptimizationLayout, FrameLayout, InstanceTypes,
    Layout, NO_KIND, NO_TYPE, ScopeInfoLayout, ScriptLayout, SharedLayout, StringTags,
    UnknownLayout,
};
use crate::version::Version;

/// Node.js 0.10, 0.12, 4 and 6, which began with V8 5.0.
pub(super) const KNOWN: [Version; 5] = [
    Version::new(3, 14),
    Version::new(3, 28),
    Version::new(4, 5),
    Version::new(5, 0),
    Version::new(5, 1),
];

/// A Smi has its 32 bits in the upper half of the word.
const SMI_VALUE: u32 = 4;

pub(super) fn layout(ask: &Ask<'_>) -> Result<Layout, UnknownLayout> {
    Ok(Layout {
        version: ask.version,
        types: instance_types(ask)?,
        strings: string_tags(ask)?,
        // Its first byte; another one follows (`Map::kInstanceTypeOffset`).
        map_instance_type: ask.offset("Map", "instance_attributes")?,
        instance_type_mask: 0xff,
        function_shared: ask.offset("JSFunction", "shared")?,
        shared: shared(ask)?,
        scope_info: ScopeInfoLayout::default(),
        script: script(ask)?,
        debug_info_script: None,
        bytecode: BytecodeLayout::default(),
        code: code(ask)?,
        frame: FrameLayout {
            context: ask.value("off_fp_context")?,
            function: ask.value("off_fp_function")?,
            // No frame has these.
            bytecode_array: -24,
            bytecode_offset: -32,
            entry_caller: None,
        },
        position_format: super::position_format(ask.version),
        interpreter: super::interpreter(ask),
        wasm: None,
    })
}

pub(super) fn instance_types(ask: &Ask<'_>) -> Result<InstanceTypes, UnknownLayout> {
    let js_function = ask.instance_type("JSFunction")?;
    let code = ask.instance_type("Code")?;
    Ok(InstanceTypes {
        js_function_first: js_function,
        js_function_last: js_function,
        shared_function_info: ask.instance_type("SharedFunctionInfo")?,
        script: ask.instance_type("Script")?,
        debug_info: NO_TYPE,
        scope_info: NO_TYPE,
        bytecode_array: NO_TYPE,
        interpreter_data: NO_TYPE,
        baseline_data: None,
        code,
        instruction_stream: code,
        byte_array: ask.instance_type("ByteArray")?,
        trusted_byte_array: None,
        position_table_holder: None,
        fixed_array: ask.instance_type("FixedArray")?,
        shared_function_info_wrapper: None,
        uncompiled_data_first: NO_TYPE,
        uncompiled_data_last: NO_TYPE,
        oddball: ask.instance_type("Oddball")?,
        // `kNotStringTag` in src/objects.h
        first_nonstring: ask.unsigned("NotStringTag")?,
    })
}

pub(super) fn string_tags(ask: &Ask<'_>) -> Result<StringTags, UnknownLayout> {
    let either = |one: &str, other: &str| ask.unsigned(one).or_else(|_| ask.unsigned(other));
    let chars = ask
        .offset("SeqOneByteString", "chars")
        .or_else(|_| ask.offset("SeqAsciiString", "chars"))?;
    objects::consistent(
        ask.version,
        StringTags {
            representation_mask: ask.unsigned("StringRepresentationMask")?,
            cons: ask.unsigned("ConsStringTag")?,
            external: ask.unsigned("ExternalStringTag")?,
            // `kSlicedStringTag` in src/objects.h; 3.14's metadata leaves it out.
            sliced: ask.unsigned("SlicedStringTag").unwrap_or(3),
            // There are none: a value that the mask does not let through.
            thin: NO_TYPE,
            encoding_mask: ask.unsigned("StringEncodingMask")?,
            one_byte: either("OneByteStringTag", "AsciiStringTag")?,
            // `kShortExternalStringTag`
            uncached_external: 1 << 4,
            length: ask.offset("String", "length")? + SMI_VALUE,
            chars,
            second: ask.offset("ConsString", "second")?,
            sliced_offset: ask.offset("SlicedString", "offset")?,
            // `ExternalString::kResourceDataOffset`
            resource_data: ask.offset("ExternalString", "resource")? + 8,
        },
    )
}

fn shared(ask: &Ask<'_>) -> Result<SharedLayout, UnknownLayout> {
    let class = "SharedFunctionInfo";
    // The end is in the lower half of a word, above the bit that would make it a
    // pointer (`PSEUDO_SMI_ACCESSORS_LO` in src/objects-inl.h).
    let own_names = objects::own_names(ask, 1)?;
    Ok(SharedLayout {
        function_data: ask.offset(class, "code")?,
        code: Some(ask.offset(class, "code")?),
        builtin_id: ask.offset(class, "function_data")?,
        name_or_scope_info: ask.offset(class, "name")?,
        script: ask.offset(class, "script")?,
        // No function is numbered. In one script no two of one type start at
        // the same place: an int in the upper half of a word
        // (`PSEUDO_SMI_ACCESSORS_HI`).
        function_literal_id: Some(own_names.start_position_and_type),
        uncompiled_inferred_name: 0,
        uncompiled_start_position: 0,
        own_names: Some(own_names),
    })
}

fn script(ask: &Ask<'_>) -> Result<ScriptLayout, UnknownLayout> {
    // 3.14 looks for it in the source when it is asked.
    let source_url = ask.metadata.offset("Script", "source_url");
    Ok(ScriptLayout {
        source: ask.offset("Script", "source")?,
        name: ask.offset("Script", "name")?,
        line_offset: ask.offset("Script", "line_offset")?,
        column_offset: ask.offset("Script", "column_offset")?,
        line_ends: ask.offset("Script", "line_ends")?,
        id: ask.offset("Script", "id")?,
        source_url,
        // It follows (src/objects.h).
        source_mapping_url: source_url.map(|offset| offset + 8),
        kind: Some(ask.offset("Script", "type")?),
        // `CalculateLineEnds` in src/objects.cc
        only_newlines_end_lines: ask.version < Version::new(4, 0),
    })
}

fn code(ask: &Ask<'_>) -> Result<CodeLayout, UnknownLayout> {
    let gc_metadata = ask.offset("Code", "gc_metadata")?;
    let instruction_size = ask.offset("Code", "instruction_size")?;
    // What follows these two (src/objects.h): ic_age, flags.
    let ints = if instruction_size > gc_metadata {
        instruction_size + 4
    } else {
        gc_metadata + 8
    };
    // `Code::KindField` and `CODE_KIND_LIST`
    let (kind_shift, kind_bits, stubs) = if ask.version >= Version::new(5, 1) {
        (6, 5, &STUBS_5_1[..])
    } else if ask.version >= Version::new(5, 0) {
        (6, 5, &STUBS_5_0[..])
    } else if ask.version >= Version::new(3, 20) {
        (7, 4, &STUBS_4_5[..])
    } else {
        (7, 4, &STUBS_3_14[..])
    };
    let regexp = stubs.iter().position(|&name| name == REGEXP);
    Ok(CodeLayout {
        instructions: ask.offset("Code", "instruction_start")?,
        stream_code: None,
        code_stream: None,
        instruction_start: None,
        instruction_size,
        flags: ints + 4,
        deoptimization_or_interpreter_data: ask.offset("Code", "deoptimization_data")?,
        builtin_index: None,
        positions_of_calls: false,
        has_bytecode: false,
        baseline_calls_only: false,
        position_table: ask.offset("Code", "relocation_info")?,
        kind_mask: ((1 << kind_bits) - 1) << kind_shift,
        kinds: CodeKinds {
            builtin: NO_KIND,
            bytecode_handler: NO_KIND,
            regexp: regexp.map_or(NO_KIND, |kind| (kind as u32) << kind_shift),
            wasm_function: NO_KIND,
            js_to_wasm_function: NO_KIND,
            baseline: NO_KIND,
            maglev: NO_KIND,
            turbofan: NO_KIND,
            unoptimized: 0,
            crankshaft: 1 << kind_shift,
            kind_shift,
            stubs,
        },
        deoptimization: DeoptimizationLayout::default(),
        safepoints: None,
        crankshaft: CrankshaftLayout::of(ask.version),
    })
}

const REGEXP: &str = "RegExp";

// 3.14 compiles regular expressions as builtins.
// What code is called that belongs to no function of a script, by its kind
// (`CODE_KIND_LIST` in src/objects.h; the first two are functions').
const STUBS_3_14: [&str; 14] = [
    "",
    "",
    "(stub)",
    "(builtin)",
    "LoadIC",
    "KeyedLoadIC",
    "CallIC",
    "KeyedCallIC",
    "StoreIC",
    "KeyedStoreIC",
    "UnaryOpIC",
    "BinaryOpIC",
    "CompareIC",
    "ToBooleanIC",
];
const STUBS_4_5: [&str; 15] = [
    "",
    "",
    "(stub)",
    "(handler)",
    "(builtin)",
    REGEXP,
    "LoadIC",
    "KeyedLoadIC",
    "CallIC",
    "StoreIC",
    "KeyedStoreIC",
    "BinaryOpIC",
    "CompareIC",
    "CompareNilIC",
    "ToBooleanIC",
];
const STUBS_5_0: [&str; 16] = [
    "",
    "",
    "(stub)",
    "(handler)",
    "(builtin)",
    REGEXP,
    "(wasm function)",
    "LoadIC",
    "KeyedLoadIC",
    "CallIC",
    "StoreIC",
    "KeyedStoreIC",
    "BinaryOpIC",
    "CompareIC",
    "CompareNilIC",
    "ToBooleanIC",
];
const STUBS_5_1: [&str; 18] = [
    "",
    "",
    "(bytecode handler)",
    "(stub)",
    "(handler)",
    "(builtin)",
    REGEXP,
    "(wasm function)",
    "(wasm to js)",
    "(js to wasm)",
    "LoadIC",
    "KeyedLoadIC",
    "CallIC",
    "StoreIC",
    "KeyedStoreIC",
    "BinaryOpIC",
    "CompareIC",
    "ToBooleanIC",
];
