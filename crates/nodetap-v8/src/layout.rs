//! Where things are in the heap of one V8 build.
//!
//! All offsets are in bytes from the *untagged* start of the object.
//! What the build's metadata tells is taken from there; the rest comes from
//! the few rules below, each with the V8 source file it was read from.

use crate::crankshaft::CrankshaftLayout;
use crate::source_position::PositionFormat;
use crate::translation::TranslationFormat;
use crate::version::Version;
use crate::wasm::WasmLayout;

/// The layout of one V8 build.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Layout {
    /// V8's version.
    pub version: Version,
    /// Instance types that are checked before an object is believed.
    pub types: InstanceTypes,
    /// How strings tell their representation.
    pub strings: StringTags,
    /// `Map.instance_type`
    pub map_instance_type: u32,
    /// The bits there that are the instance type's.
    pub instance_type_mask: u16,
    /// `JSFunction.shared`
    pub function_shared: u32,
    /// Offsets in a `SharedFunctionInfo`.
    pub shared: SharedLayout,
    /// Offsets in a `ScopeInfo`, and its flags.
    pub scope_info: ScopeInfoLayout,
    /// Offsets in a `Script`.
    pub script: ScriptLayout,
    /// `DebugInfo.script`, where a `DebugInfo` may stand for a function's script.
    pub debug_info_script: Option<u32>,
    /// Offsets in a `BytecodeArray`.
    pub bytecode: BytecodeLayout,
    /// Offsets in compiled code.
    pub code: CodeLayout,
    /// Where a frame keeps what identifies it.
    pub frame: FrameLayout,
    /// How source positions are written.
    pub position_format: PositionFormat,
    /// Where the interpreter keeps where it is.
    pub interpreter: InterpreterRegisters,
    /// WebAssembly; `None` where it is not known.
    pub wasm: Option<WasmLayout>,
}

impl Layout {
    /// `SharedFunctionInfo.code`, where no function has bytecode: the walker takes it
    /// at the tick in the place of that.
    pub fn only_full_codegen(&self) -> Option<u32> {
        self.shared
            .code
            .filter(|_| self.bytecode == BytecodeLayout::default())
    }
}

/// An instance type that no object has: of what a version does not know.
pub const NO_TYPE: u16 = u16::MAX;

/// Instance types (`Map.instance_type`).
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct InstanceTypes {
    pub js_function_first: u16,
    pub js_function_last: u16,
    pub shared_function_info: u16,
    pub script: u16,
    pub debug_info: u16,
    pub scope_info: u16,
    pub bytecode_array: u16,
    pub interpreter_data: u16,
    /// V8 9 only: what a function with baseline code has.
    pub baseline_data: Option<u16>,
    /// `Code` since V8 11, `CodeDataContainer` before it was renamed.
    pub code: u16,
    /// What holds the instructions: `InstructionStream`, before V8 11 `Code`.
    pub instruction_stream: u16,
    pub byte_array: u16,
    /// Since V8 12.
    pub trusted_byte_array: Option<u16>,
    /// Before V8 9: what may stand in place of a source position table, with
    /// the table in its first field.
    pub position_table_holder: Option<u16>,
    pub fixed_array: u16,
    /// Since V8 13: holds a `SharedFunctionInfo` for trusted objects.
    pub shared_function_info_wrapper: Option<u16>,
    pub uncompiled_data_first: u16,
    pub uncompiled_data_last: u16,
    /// `undefined`, `null`, `true`, `false`.
    pub oddball: u16,
    /// All string types are below.
    pub first_nonstring: u16,
}

/// Bits of a string's instance type (`src/objects/instance-type.h`).
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct StringTags {
    pub representation_mask: u16,
    pub cons: u16,
    pub external: u16,
    pub sliced: u16,
    pub thin: u16,
    pub encoding_mask: u16,
    pub one_byte: u16,
    /// An external string with this bit keeps no pointer to its characters.
    pub uncached_external: u16,
    /// `String.length` (an int32)
    pub length: u32,
    /// The characters of a sequential string; the first pointer of the others.
    pub chars: u32,
    /// `ConsString.second`
    pub second: u32,
    /// `SlicedString.offset` (a Smi)
    pub sliced_offset: u32,
    /// `ExternalString.resource_data`
    pub resource_data: u32,
}

/// Offsets in a `SharedFunctionInfo` (`src/objects/shared-function-info.tq`).
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct SharedLayout {
    /// `trusted_function_data` where there is one, else `function_data`.
    pub function_data: u32,
    /// Where full-codegen's code is, in versions that have it.
    pub code: Option<u32>,
    /// Where a builtin's function has the builtin's number, a Smi.
    pub builtin_id: u32,
    pub name_or_scope_info: u32,
    pub script: u32,
    /// An int32. `None` where it has no such number: then its `ScopeInfo` tells
    /// which of its script's functions it is.
    pub function_literal_id: Option<u32>,
    /// `UncompiledData.inferred_name`, `.start_position` (an int32)
    pub uncompiled_inferred_name: u32,
    pub uncompiled_start_position: u32,
    /// Where it has name and place itself.
    pub own_names: Option<OwnNames>,
}

/// Offsets in the `SharedFunctionInfo` of V8 before 7 (`src/objects.h`);
/// the name is where others have `name_or_scope_info`.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct OwnNames {
    /// A string where it is inferred.
    pub inferred_name: u32,
    /// An int32: the position above two bits that tell the type.
    pub start_position_and_type: u32,
    /// An int32.
    pub end_position: u32,
    /// By how much that one is shifted.
    pub end_position_shift: u32,
}

/// A `ScopeInfo` (`src/objects/scope-info.tq`): which slots there are depends
/// on its flags and counts.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct ScopeInfoLayout {
    /// Where it is an array (before V8 8.9), its length, a Smi: 0 in the one
    /// that describes no scope.
    pub length: Option<u32>,
    pub flags: u32,
    pub context_local_count: u32,
    /// The first of the variable part.
    pub first_vars: u32,
    /// `position_info` where it has a fixed place (V8 13 and later).
    pub position_info: Option<u32>,
    /// Whether a module's variable count precedes the local names.
    pub module_count_first: bool,
    /// With this many local names or more, one hash table holds them.
    pub max_inlined_names: u64,
    /// Before V8 7: the names of variables on the stack precede.
    pub stack_names: Option<StackNamesLayout>,
    /// Whether there is a slot for where `this` is kept, if it is.
    pub receiver: bool,
    /// Masks of the flags.
    pub has_saved_class_variable: u32,
    pub function_variable: u32,
    pub has_inferred_function_name: u32,
    /// The lowest bit of the `FunctionKind` in the flags, of five.
    pub function_kind_shift: u32,
    /// `ScopeType` values.
    /// `None` where a class's has no positions.
    pub class_scope: Option<u32>,
    pub eval_scope: u32,
    pub function_scope: u32,
    pub module_scope: u32,
    pub script_scope: u32,
    pub shadow_realm_scope: Option<u32>,
    /// The bit of the flags that says `is_empty`.
    pub is_empty_bit: u32,
}

/// Where a `ScopeInfo` tells how many names of parameters and of locals on the
/// stack it has; between them is where the locals start.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct StackNamesLayout {
    pub parameter_count: u32,
    pub stack_local_count: u32,
}

/// Offsets in a `Script` (`src/objects/script.tq`).
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct ScriptLayout {
    pub source: u32,
    pub name: u32,
    pub line_offset: u32,
    pub column_offset: u32,
    pub line_ends: u32,
    pub id: u32,
    /// `None` where it is not kept.
    pub source_url: Option<u32>,
    /// Likewise.
    pub source_mapping_url: Option<u32>,
    /// Where functions written in JavaScript are among V8's own: the type, a
    /// Smi (`Script::Type` in `src/objects.h`).
    pub kind: Option<u32>,
    /// Whether `\r`, U+2028 and U+2029 end no line.
    pub only_newlines_end_lines: bool,
}

/// Offsets in a `BytecodeArray` (`src/objects/bytecode-array.tq`).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct BytecodeLayout {
    pub length: u32,
    pub source_position_table: u32,
    /// The first bytecode.
    pub data: u32,
    /// Whether the bytecodes 2 and 3 are prefixes as well: the debug forms of
    /// 0 and 1.
    pub debug_prefixes: bool,
    /// Whether the table of their sizes has a row for each bytecode, not for each scale:
    /// before 6.2 (`Bytecodes::kBytecodeSizes` in `src/interpreter/bytecodes.h`).
    pub sizes_by_bytecode: bool,
    /// `None` where they were not read.
    pub loops: Option<LoopBytecodes>,
}

/// The numbers of bytecodes that loops are told by (`BYTECODE_LIST` in
/// `src/interpreter/bytecodes.h`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LoopBytecodes {
    /// `JumpLoop`: from the end of a loop to its start.
    pub jump_loop: u8,
    /// `StackCheck`: in every loop, and where functions are entered.
    pub stack_check: u8,
}

/// Offsets in compiled code: what holds the instructions and what describes
/// them. Before V8 11 both are one object, `Code`.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct CodeLayout {
    /// In the `InstructionStream`: the first instruction.
    pub instructions: u32,
    /// In the `InstructionStream`: its `Code`; `None` where it is one object.
    pub stream_code: Option<u32>,
    /// In the `Code`: its `InstructionStream`, likewise.
    pub code_stream: Option<u32>,
    /// In the `Code`, as the rest: where the instructions start (an address).
    pub instruction_start: Option<u32>,
    pub instruction_size: u32,
    pub flags: u32,
    pub deoptimization_or_interpreter_data: u32,
    /// Baseline code's bytecode offset table, other code's source positions;
    /// before Ignition the relocation information.
    pub position_table: u32,
    /// Whether optimized code may have positions of its calls alone: then there is
    /// none at its start.
    pub positions_of_calls: bool,
    /// Whether baseline code has its `BytecodeArray` in place of
    /// deoptimization data; else only its instructions name it.
    pub has_bytecode: bool,
    /// Whether baseline code tells the bytecodes of its calls alone.
    pub baseline_calls_only: bool,
    /// Where builtins are on the heap: a builtin's number, an int32.
    pub builtin_index: Option<u32>,
    /// `KindField` of the flags.
    pub kind_mask: u32,
    pub kinds: CodeKinds,
    pub deoptimization: DeoptimizationLayout,
    /// `None` where this version's tables are not known.
    pub safepoints: Option<SafepointLayout>,
    /// Where there are full-codegen and Crankshaft: what differs there.
    pub crankshaft: Option<CrankshaftLayout>,
}

/// A safepoint table (`src/codegen/safepoint-table.h`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SafepointLayout {
    /// Where it is.
    pub place: SafepointPlace,
    /// How it is written.
    pub format: SafepointFormat,
}

/// Where the safepoint table of a `Code` is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SafepointPlace {
    /// Behind the instructions.
    Metadata {
        /// In the `Code`: bytes of all that stands there, an int32.
        size: u32,
    },
    /// Among the instructions.
    Instructions {
        /// In the `Code`: where from the first instruction on, an int32.
        offset: u32,
        /// Above so many bits of something else.
        shift: u32,
    },
}

/// How a safepoint table is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SafepointFormat {
    /// Numbers as wide as the table's head says.
    Packed {
        /// Where its number of entries is; their configuration follows.
        length: u32,
        /// Where the entries start.
        header: u32,
        /// Where they start in code of Maglev's.
        maglev_header: u32,
    },
    /// As Crankshaft's: two numbers of each entry.
    Pairs,
    /// The number of entries, the size of each one's bits, then of each entry
    /// three 32-bit numbers; -1 says that there is none.
    Words {
        /// The bits of the second one that are the deoptimization index, all
        /// set where there is none.
        index: u32,
    },
}

/// A kind that no code has: of what a version does not know.
pub const NO_KIND: u32 = u32::MAX;

/// Values of `CodeKind` (`src/objects/code-kind.h`), shifted to where the flags
/// have them.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct CodeKinds {
    pub builtin: u32,
    /// Of handlers on the heap; later they are among the embedded builtins.
    pub bytecode_handler: u32,
    pub regexp: u32,
    pub wasm_function: u32,
    pub js_to_wasm_function: u32,
    pub baseline: u32,
    pub maglev: u32,
    pub turbofan: u32,
    /// Full-codegen's and Crankshaft's (`Code::Kind` in `src/objects.h`).
    pub unoptimized: u32,
    pub crankshaft: u32,
    /// By how much the kinds are shifted in the flags.
    pub kind_shift: u32,
    /// What other code is called, by its kind; empty where V8 has no stubs on
    /// its heap.
    pub stubs: &'static [&'static str],
}

/// Indices in a `DeoptimizationData` array
/// (`src/objects/deoptimization-data.h`).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct DeoptimizationLayout {
    pub frame_translation: u32,
    pub inlined_function_count: u32,
    /// Since V8 13.
    pub protected_literal_array: Option<u32>,
    pub literal_array: u32,
    pub osr_pc_offset: u32,
    pub shared_function_info: u32,
    pub inlining_positions: u32,
    pub exit_start: Option<u32>,
    pub eager_count: Option<u32>,
    pub lazy_count: Option<u32>,
    /// The first element of the first entry.
    pub first_entry: u32,
    /// Elements of an entry; the second is where its translation begins.
    pub entry_size: u32,
    /// Bytes of machine code of an exit, where all have as many.
    pub exit_size: Option<u32>,
    /// How translations are written; `None` where this version's opcodes are
    /// not known.
    pub translation: Option<&'static TranslationFormat>,
}

/// Where a frame keeps what identifies it, relative to its frame pointer
/// (`src/execution/frame-constants.h`).
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct FrameLayout {
    pub context: i32,
    pub function: i32,
    pub bytecode_array: i32,
    pub bytecode_offset: i32,
    /// Where C++ keeps no frame pointers: where V8's frame for calls from C++ has the
    /// frame pointer of the frame that called C++.
    pub entry_caller: Option<i32>,
}

/// The registers that bytecode handlers have their state in, by the numbers
/// that the machine gives them (`src/codegen/x64/register-x64.h`, before 7.1
/// `src/x64/macro-assembler-x64.h`). The dispatch table is in r15 always.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InterpreterRegisters {
    /// `kInterpreterBytecodeArrayRegister`
    pub bytecode_array: u32,
    /// `kInterpreterBytecodeOffsetRegister`
    pub bytecode_offset: u32,
}

/// The layout could not be told.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum UnknownLayout {
    /// The build's metadata lacks what every known version has.
    #[error("V8 {version} does not tell {what}")]
    Missing {
        /// V8's version.
        version: Version,
        /// What is missing.
        what: String,
    },
    /// No rules are known for this version.
    #[error("V8 {0} is not known")]
    Version(Version),
    /// The build has no metadata, and its objects are not as other builds' of its
    /// version.
    #[error("V8 {0} tells nothing of its objects, and they are not as expected")]
    Objects(Version),
    /// What the build's metadata tells cannot all be true.
    #[error("what V8 {version} tells of {what} contradicts itself")]
    Contradiction {
        /// V8's version.
        version: Version,
        /// Of what.
        what: &'static str,
    },
}
