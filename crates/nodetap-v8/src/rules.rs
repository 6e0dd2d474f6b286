//! The layout of a build, from its metadata and what the metadata leaves out.

use crate::layout::{
    BytecodeLayout, CodeKinds, CodeLayout, DeoptimizationLayout, FrameLayout, InstanceTypes,
    Layout, SafepointLayout, ScopeInfoLayout, ScriptLayout, SharedLayout, StringTags,
    UnknownLayout,
};
use crate::metadata::Metadata;
use crate::source_position::TableFormat;
use crate::translation::TranslationFormat;
use crate::version::Version;

/// The versions that the rules below were read for, and tried on: Node.js 18,
/// 20, 22, 24, 25 and 26. What is between them has layouts of its own.
const KNOWN: [Version; 6] = [
    Version::new(10, 2),
    Version::new(11, 3),
    Version::new(12, 4),
    Version::new(13, 6),
    Version::new(14, 1),
    Version::new(14, 6),
];

/// Since then objects that the sandbox trusts are apart: `BytecodeArray` is
/// re-ordered, arrays of code are trusted ones (`src/objects/bytecode-array.tq`,
/// `src/objects/code.h`).
const TRUSTED_OBJECTS: Version = Version::new(12, 3);
/// Since then `Code` and its instructions are two objects.
const SPLIT_CODE: Version = Version::new(11, 2);

impl Layout {
    /// Works out the layout of the build that says `metadata` of itself.
    ///
    /// # Errors
    /// Where no rules are known for `version`, or the metadata lacks what
    /// every known version has.
    pub fn new(version: Version, metadata: &Metadata) -> Result<Layout, UnknownLayout> {
        if !KNOWN.contains(&version) {
            return Err(UnknownLayout::Version(version));
        }
        let ask = Ask { version, metadata };
        Ok(Layout {
            version,
            types: instance_types(&ask)?,
            strings: string_tags(&ask)?,
            map_instance_type: ask.offset("Map", "instance_type")?,
            function_shared: ask.offset("JSFunction", "shared")?,
            shared: shared(&ask)?,
            scope_info: scope_info(&ask)?,
            script: script(&ask)?,
            bytecode: bytecode(&ask)?,
            code: code(&ask)?,
            frame: FrameLayout {
                context: ask.value("off_fp_context")?,
                function: ask.value("off_fp_function")?,
                bytecode_array: ask.value("off_fp_bytecode_array")?,
                bytecode_offset: ask.value("off_fp_bytecode_offset")?,
            },
            // `DecodeEntry` in src/codegen/source-position-table.cc: 13.6 has
            // the one, 14.6 the other.
            position_format: if version >= Version::new(14, 0) {
                TableFormat::Flags
            } else {
                TableFormat::Signed
            },
        })
    }
}

/// Asks the metadata, and says what is missing.
struct Ask<'a> {
    version: Version,
    metadata: &'a Metadata,
}

impl Ask<'_> {
    fn missing(&self, what: String) -> UnknownLayout {
        UnknownLayout::Missing {
            version: self.version,
            what,
        }
    }

    fn value(&self, name: &str) -> Result<i32, UnknownLayout> {
        self.metadata
            .get(name)
            .ok_or_else(|| self.missing(name.to_owned()))
    }

    fn unsigned<T: TryFrom<i32>>(&self, name: &str) -> Result<T, UnknownLayout> {
        T::try_from(self.value(name)?).map_err(|_| self.missing(name.to_owned()))
    }

    fn offset(&self, class: &str, field: &str) -> Result<u32, UnknownLayout> {
        self.metadata
            .offset(class, field)
            .ok_or_else(|| self.missing(format!("{class}.{field}")))
    }

    fn instance_type(&self, class: &str) -> Result<u16, UnknownLayout> {
        self.metadata
            .instance_type(class)
            .ok_or_else(|| self.missing(format!("the type of {class}")))
    }
}

fn instance_types(ask: &Ask<'_>) -> Result<InstanceTypes, UnknownLayout> {
    let js_function = ask.instance_type("JSFunction")?;
    let uncompiled = [
        "UncompiledDataWithPreparseData",
        "UncompiledDataWithPreparseDataAndJob",
        "UncompiledDataWithoutPreparseData",
        "UncompiledDataWithoutPreparseDataWithJob",
    ]
    .map(|class| ask.instance_type(class));
    let (mut first, mut last) = (u16::MAX, 0);
    for found in uncompiled {
        let found = found?;
        first = first.min(found);
        last = last.max(found);
    }
    let split = ask.version >= SPLIT_CODE;
    let code = ask.instance_type("Code")?;
    Ok(InstanceTypes {
        js_function_first: js_function,
        // The constructors of the typed arrays, of Array, Promise and RegExp,
        // and classes follow it: 16 types (`src/objects/js-function.tq`,
        // `js-array.tq`, …), which the metadata tells since 12.
        js_function_last: ask
            .unsigned("LastJSFunctionType")
            .unwrap_or(js_function + 16),
        shared_function_info: ask.instance_type("SharedFunctionInfo")?,
        script: ask.instance_type("Script")?,
        scope_info: ask.instance_type("ScopeInfo")?,
        bytecode_array: ask.instance_type("BytecodeArray")?,
        interpreter_data: ask.instance_type("InterpreterData")?,
        code,
        instruction_stream: if split {
            ask.instance_type("InstructionStream")?
        } else {
            code
        },
        byte_array: ask.instance_type("ByteArray")?,
        trusted_byte_array: ask.metadata.instance_type("TrustedByteArray"),
        fixed_array: ask.instance_type("FixedArray")?,
        shared_function_info_wrapper: ask.metadata.instance_type("SharedFunctionInfoWrapper"),
        uncompiled_data_first: first,
        uncompiled_data_last: last,
        oddball: ask.instance_type("Oddball")?,
        first_nonstring: ask.unsigned("FirstNonstringType")?,
    })
}

fn string_tags(ask: &Ask<'_>) -> Result<StringTags, UnknownLayout> {
    let resource = ask.offset("ExternalString", "resource")?;
    Ok(StringTags {
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
        length: ask.offset("String", "length")?,
        chars: ask.offset("SeqOneByteString", "chars")?,
        second: ask.offset("ConsString", "second")?,
        sliced_offset: ask.offset("SlicedString", "offset")?,
        // `resource_data` follows `resource` (src/objects/string.tq).
        resource_data: resource + 8,
    })
}

fn shared(ask: &Ask<'_>) -> Result<SharedLayout, UnknownLayout> {
    let class = "SharedFunctionInfo";
    let script = ask
        .metadata
        .offset(class, "script")
        .or_else(|| ask.metadata.offset(class, "script_or_debug_info"))
        .ok_or_else(|| ask.missing("SharedFunctionInfo.script".to_owned()))?;
    Ok(SharedLayout {
        // The first field, whatever its name (src/objects/shared-function-info.tq).
        function_data: ask.metadata.offset(class, "function_data").unwrap_or(8),
        // The field before the name: `function_data`, since 13
        // `untrusted_function_data`.
        builtin_id: ask.offset(class, "name_or_scope_info")? - 8,
        name_or_scope_info: ask.offset(class, "name_or_scope_info")?,
        script,
        // It follows `flags`, an uint32, in every version.
        function_literal_id: ask.offset(class, "flags")? + 4,
        uncompiled_inferred_name: ask.offset("UncompiledData", "inferred_name")?,
        uncompiled_start_position: ask.offset("UncompiledData", "start_position")?,
    })
}

fn scope_info(ask: &Ask<'_>) -> Result<ScopeInfoLayout, UnknownLayout> {
    // These count words after the map.
    let slot = |name: &str| -> Result<u32, UnknownLayout> {
        let index: u32 = ask.unsigned(name)?;
        Ok(8 + 8 * index)
    };
    let first_vars = slot("scopeinfo_idx_first_vars")?;
    let context_local_count = slot("scopeinfo_idx_ncontextlocals")?;
    // Two more words between the count and the variable part are the
    // positions (src/objects/scope-info.tq).
    let position_info = (first_vars == context_local_count + 24).then_some(context_local_count + 8);
    // `enum ScopeType` in src/common/globals.h was re-ordered.
    let scopes = if position_info.is_some() {
        [2, 3, 4, 5, 0]
    } else {
        [0, 1, 2, 3, 4]
    };
    Ok(ScopeInfoLayout {
        flags: 8,
        context_local_count,
        first_vars,
        position_info,
        module_count_first: ask.version >= Version::new(12, 0),
        class_scope: scopes[0],
        eval_scope: scopes[1],
        function_scope: scopes[2],
        module_scope: scopes[3],
        script_scope: scopes[4],
        shadow_realm_scope: (ask.version >= Version::new(11, 0)).then_some(8),
        is_empty_bit: 28,
    })
}

fn script(ask: &Ask<'_>) -> Result<ScriptLayout, UnknownLayout> {
    let name = ask.offset("Script", "name")?;
    let line_ends = ask.offset("Script", "line_ends")?;
    Ok(ScriptLayout {
        source: ask.offset("Script", "source")?,
        name,
        // The order of src/objects/script.tq.
        line_offset: name + 8,
        column_offset: name + 16,
        line_ends,
        id: line_ends + 8,
        // After the id: eval_from_shared_…, eval_from_position, the functions'
        // SharedFunctionInfos, since 11 compiled_lazy_function_positions,
        // flags, source_url.
        source_url: match ask
            .metadata
            .offset("Script", "compiled_lazy_function_positions")
        {
            Some(offset) => offset + 16,
            None => line_ends + 48,
        },
    })
}

fn bytecode(ask: &Ask<'_>) -> Result<BytecodeLayout, UnknownLayout> {
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
    })
}

fn code(ask: &Ask<'_>) -> Result<CodeLayout, UnknownLayout> {
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
        baseline,
        maglev: baseline + 1,
        turbofan: baseline + 2,
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
    })
}
