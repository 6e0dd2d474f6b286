//! Objects that name and place a function.

use super::{Ask, SPLIT_CODE};
use crate::layout::{
    InstanceTypes, NO_TYPE, OwnNames, ScopeInfoLayout, ScriptLayout, SharedLayout, StringTags,
    UnknownLayout,
};
use crate::version::Version;

/// Since then a `SharedFunctionInfo` has the number of its literal (again).
const LITERAL_IDS: Version = Version::new(7, 7);

/// Since then, at the latest, V8 has no functions of its own that are written in JavaScript
/// (`src/js/array.js` of 7.0).
const NO_NATIVES: Version = Version::new(7, 4);

pub(super) fn instance_types(ask: &Ask<'_>) -> Result<InstanceTypes, UnknownLayout> {
    let js_function = ask.instance_type("JSFunction")?;
    let uncompiled = [
        "UncompiledDataWithPreparseData",
        "UncompiledDataWithPreparseDataAndJob",
        "UncompiledDataWithoutPreparseData",
        "UncompiledDataWithoutPreparseDataWithJob",
        // What 7.0 calls them.
        "UncompiledDataWithPreParsedScope",
        "UncompiledDataWithoutPreParsedScope",
    ]
    .map(|class| ask.metadata.instance_type(class));
    // Those with a job came with V8 10.
    let known = || uncompiled.into_iter().flatten();
    let (Some(first), Some(last)) = (known().min(), known().max()) else {
        return Err(ask.missing("the types of UncompiledData".to_owned()));
    };
    let split = ask.version >= SPLIT_CODE;
    let code = ask.instance_type("Code")?;
    Ok(InstanceTypes {
        js_function_first: js_function,
        // Since 9 the constructors of the typed arrays, of Array, Promise and
        // RegExp follow it: 14 types; since 9.5 classes, too, since 10 another
        // (`src/objects/js-function.tq`, `js-array.tq`, …). The metadata tells
        // that since 11.8.
        js_function_last: ask.unsigned("LastJSFunctionType").unwrap_or(
            js_function
                + match (ask.version.major, ask.version.minor) {
                    (..9, _) => 0,
                    (9, ..5) => 14,
                    (9, _) => 15,
                    _ => 16,
                },
        ),
        shared_function_info: ask.instance_type("SharedFunctionInfo")?,
        script: ask.instance_type("Script")?,
        debug_info: ask.metadata.instance_type("DebugInfo").unwrap_or(NO_TYPE),
        scope_info: ask.instance_type("ScopeInfo")?,
        bytecode_array: ask.instance_type("BytecodeArray")?,
        interpreter_data: ask.instance_type("InterpreterData")?,
        baseline_data: ask.metadata.instance_type("BaselineData"),
        code,
        instruction_stream: if split {
            ask.instance_type("InstructionStream")?
        } else {
            code
        },
        byte_array: ask.instance_type("ByteArray")?,
        trusted_byte_array: ask.metadata.instance_type("TrustedByteArray"),
        position_table_holder: ask
            .metadata
            .instance_type("SourcePositionTableWithFrameCache")
            // Until 7.5 it is a `Tuple2`.
            .or_else(|| ask.metadata.instance_type("Tuple2")),
        fixed_array: ask.instance_type("FixedArray")?,
        shared_function_info_wrapper: ask.metadata.instance_type("SharedFunctionInfoWrapper"),
        uncompiled_data_first: first,
        uncompiled_data_last: last,
        oddball: ask.instance_type("Oddball")?,
        first_nonstring: ask.unsigned("FirstNonstringType")?,
    })
}

pub(super) fn string_tags(ask: &Ask<'_>) -> Result<StringTags, UnknownLayout> {
    let resource = ask.offset("ExternalString", "resource")?;
    consistent(
        ask.version,
        StringTags {
            representation_mask: ask.unsigned("StringRepresentationMask")?,
            cons: ask.unsigned("ConsStringTag")?,
            external: ask.unsigned("ExternalStringTag")?,
            sliced: ask.unsigned("SlicedStringTag")?,
            thin: ask.unsigned("ThinStringTag")?,
            encoding_mask: ask.unsigned("StringEncodingMask")?,
            one_byte: ask.unsigned("OneByteStringTag")?,
            // `kUncachedExternalStringTag` in src/objects/instance-type.h: the bit
            // above the encoding's.
            uncached_external: 1 << 4,
            // A Smi at first, which has its 32 bits in the upper half of the word.
            length: ask.offset("String", "length")?
                + match ask.metadata.get("class_String__length__SMI") {
                    Some(_) => 4,
                    None => 0,
                },
            chars: ask.offset("SeqOneByteString", "chars")?,
            // Called `second_offset`, `offset_offset` in some of 7.
            second: ask
                .offset("ConsString", "second")
                .or_else(|_| ask.offset("ConsString", "second_offset"))?,
            sliced_offset: ask
                .offset("SlicedString", "offset")
                .or_else(|_| ask.offset("SlicedString", "offset_offset"))?,
            // `resource_data` follows `resource` (src/objects/string.tq).
            resource_data: resource + 8,
        },
    )
}

pub(super) fn shared(ask: &Ask<'_>) -> Result<SharedLayout, UnknownLayout> {
    let class = "SharedFunctionInfo";
    let script = ask
        .metadata
        .offset(class, "script")
        .or_else(|| ask.metadata.offset(class, "script_or_debug_info"))
        .ok_or_else(|| ask.missing("SharedFunctionInfo.script".to_owned()))?;
    Ok(SharedLayout {
        // The first field, whatever its name (src/objects/shared-function-info.tq).
        function_data: ask.metadata.offset(class, "function_data").unwrap_or(8),
        code: None,
        // The field before the name: `function_data`, since 13
        // `untrusted_function_data`.
        builtin_id: ask.offset(class, "name_or_scope_info")? - 8,
        name_or_scope_info: ask.offset(class, "name_or_scope_info")?,
        script,
        // It follows `flags`, an uint32, in every version.
        function_literal_id: match ask.version < LITERAL_IDS {
            true => None,
            false => Some(ask.offset(class, "flags")? + 4),
        },
        // It precedes the position (src/objects/shared-function-info.tq).
        uncompiled_inferred_name: ask.offset("UncompiledData", "start_position")? - 8,
        uncompiled_start_position: ask.offset("UncompiledData", "start_position")?,
        own_names: None,
    })
}

/// The names and the place that a `SharedFunctionInfo` before V8 7 has itself; by
/// how many bits the place of its end is shifted.
pub(super) fn own_names(ask: &Ask<'_>, end_position_shift: u32) -> Result<OwnNames, UnknownLayout> {
    let class = "SharedFunctionInfo";
    Ok(OwnNames {
        // Until 5 it has a field of its own, then it shares `function_identifier`
        // with the numbers of builtin functions.
        inferred_name: ask
            .offset(class, "inferred_name")
            .or_else(|_| ask.offset(class, "function_identifier"))?,
        start_position_and_type: ask.offset(class, "start_position_and_type")?,
        end_position: ask.offset(class, "end_position")?,
        end_position_shift,
    })
}

pub(super) fn scope_info(ask: &Ask<'_>) -> Result<ScopeInfoLayout, UnknownLayout> {
    // A `ScopeInfo` is a `FixedArray`, in 9.0 still with a length like one.
    let is_array = ask.version < Version::new(9, 1);
    let flags = if is_array { 16 } else { 8 };
    // These count words from the flags on.
    let slot = |name: &str| -> Result<u32, UnknownLayout> {
        let index: u32 = ask.unsigned(name)?;
        Ok(flags + 8 * index)
    };
    let first_vars = slot("scopeinfo_idx_first_vars")?;
    let context_local_count = slot("scopeinfo_idx_ncontextlocals")?;
    // Two more words between the count and the variable part are the
    // positions (src/objects/scope-info.tq).
    let position_info = (first_vars == context_local_count + 24).then_some(context_local_count + 8);
    // `enum ScopeType` in src/common/globals.h was re-ordered.
    // A class's came with 7.5, in front.
    let scopes = if position_info.is_some() {
        [2, 3, 4, 5, 0]
    } else if ask.version >= Version::new(7, 5) {
        [0, 1, 2, 3, 4]
    } else {
        [5, 0, 1, 2, 3]
    };
    // What is kept of a variable was one slot more: where `this` is.
    let receiver = ask.version < Version::new(10, 0);
    // `ScopeFlags` (src/objects/scope-info.tq, before 8 scope-info.h): 7.6 put a
    // flag for a class's brand between others, 7.9 one for a class's variable.
    let after_class = match (ask.version.major, ask.version.minor) {
        (7, ..6) => 9,
        (7, ..9) => 10,
        _ => 11,
    };
    Ok(ScopeInfoLayout {
        length: is_array.then_some(8),
        flags,
        context_local_count,
        first_vars,
        position_info,
        module_count_first: ask.version >= Version::new(12, 0),
        // `kScopeInfoMaxInlinedLocalNamesSize` in src/common/globals.h.
        max_inlined_names: if receiver { u64::MAX } else { 75 },
        stack_names: None,
        receiver,
        has_saved_class_variable: if after_class == 11 { 1 << 10 } else { 0 },
        function_variable: 3 << (after_class + 1),
        has_inferred_function_name: 1 << (after_class + 3),
        // After two more flags.
        function_kind_shift: after_class + 6,
        // `ScopeInfo::NeedsPositionInfo` in src/objects/scope-info.cc leaves
        // classes out before 10.
        class_scope: (ask.version >= Version::new(10, 0)).then_some(scopes[0]),
        eval_scope: scopes[1],
        function_scope: scopes[2],
        module_scope: scopes[3],
        script_scope: scopes[4],
        shadow_realm_scope: (ask.version >= Version::new(11, 0)).then_some(8),
        is_empty_bit: 29,
    })
}

/// Where `SharedFunctionInfo.script_or_debug_info` holds a `DebugInfo`, that one's
/// third field is the script (`src/objects/debug-objects.tq`, 7.8 to 11.6).
pub(super) fn debug_info_script(ask: &Ask<'_>) -> Option<u32> {
    let field = ask
        .metadata
        .offset("SharedFunctionInfo", "script_or_debug_info");
    field.map(|_| 24)
}

pub(super) fn script(ask: &Ask<'_>) -> Result<ScriptLayout, UnknownLayout> {
    let name = ask.offset("Script", "name")?;
    let line_ends = ask.offset("Script", "line_ends")?;
    // After the id: eval_from_shared_…, eval_from_position, the functions'
    // SharedFunctionInfos, since 11 compiled_lazy_function_positions, flags, source_url,
    // source_mapping_url.
    let source_url = match ask
        .metadata
        .offset("Script", "compiled_lazy_function_positions")
    {
        Some(offset) => offset + 16,
        None => line_ends + 48,
    };
    Ok(ScriptLayout {
        // The order of src/objects/script.tq.
        source: name - 8,
        name,
        line_offset: name + 8,
        column_offset: name + 16,
        line_ends,
        id: line_ends + 8,
        source_url: Some(source_url),
        source_mapping_url: Some(source_url + 8),
        // Later nothing of V8's own is written in JavaScript.
        kind: match ask.version < NO_NATIVES {
            true => Some(ask.offset("Script", "type")?),
            false => None,
        },
        only_newlines_end_lines: false,
    })
}

/// `tags` if they can be what V8 has: the kinds of strings are told apart, a sequential
/// one has the kind 0, a string of two-byte characters no bit (`src/objects/instance-type.h`).
pub(super) fn consistent(version: Version, tags: StringTags) -> Result<StringTags, UnknownLayout> {
    let kinds = [tags.cons, tags.external, tags.sliced, tags.thin];
    let of_kind = |&kind: &u16| kind != NO_TYPE && kind & tags.representation_mask != kind;
    let is_kind_twice = |(index, kind): (usize, &u16)| {
        *kind == 0 || *kind != NO_TYPE && kinds[..index].contains(kind)
    };
    let is_wrong = kinds.iter().any(of_kind)
        || kinds.iter().enumerate().any(is_kind_twice)
        || tags.one_byte != tags.encoding_mask
        || !tags.encoding_mask.is_power_of_two()
        || tags.encoding_mask & tags.representation_mask != 0;
    match is_wrong {
        true => Err(UnknownLayout::Contradiction {
            version,
            what: "the kinds of strings",
        }),
        false => Ok(tags),
    }
}
