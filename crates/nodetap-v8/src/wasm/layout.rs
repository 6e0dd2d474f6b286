//! Where WebAssembly keeps what names its frames.

/// WebAssembly's part of a `Layout`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WasmLayout {
    /// What the frame of a function has where JavaScript's has its context:
    /// the frame's type.
    pub frame: u64,
    /// The same of the code between WebAssembly and a function it imports.
    pub to_js: [Option<u64>; 2],
    /// The same of the code between JavaScript and a function it calls.
    pub from_js: Option<u64>,
    /// The instance type of `WasmInstanceObject`, where the metadata tells it.
    pub instance_object: Option<u16>,
    /// The instance type of `WasmModuleObject`, likewise.
    pub module_object: Option<u16>,
    /// The way from a module to what is known of it.
    pub module: WasmModuleLayout,
    /// `Script.type` (a Smi)
    pub script_type: u32,
    /// Whether a function that the module does not name is named as it is
    /// exported.
    pub exports_are_names: bool,
    /// Offsets in a `WasmCode`; `None` where there are none, and functions are
    /// `Code` in the heap.
    pub code: Option<WasmCodeLayout>,
}

/// The way from a `WasmModuleObject` to other objects: the offsets of the
/// fields to follow. Where functions are in the heap, it starts from the
/// instance.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WasmModuleLayout {
    /// To the `Managed<NativeModule>`.
    pub native: &'static [u32],
    /// `ManagedPtrDestructor::shared_ptr_ptr_`
    pub shared_pointer: u64,
    /// To the `Script`: more than one where versions that are alike else
    /// differ.
    pub script: &'static [&'static [u32]],
    /// To a string of the module's bytes, where the `NativeModule` has none.
    pub bytes: Option<&'static [u32]>,
    /// Whether the `NativeModule` keeps its code in a vector, not in a map.
    pub code_is_vector: bool,
}

/// Offsets in a `WasmCode` (`src/wasm/wasm-code-manager.h`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct WasmCodeLayout {
    pub native_module: u32,
    pub instructions: u32,
    /// Its low 32 bits.
    pub instructions_size: u32,
    /// An int32; -1 where the code is no function of the module.
    pub index: u32,
    /// A byte.
    pub kind: u32,
    pub kind_mask: u8,
    /// A pointer to its tables.
    pub tables: u32,
    /// The sizes (32 bits) of the tables that precede its source positions.
    pub before_positions: &'static [u32],
    /// Bytes of source positions.
    pub positions_size: u32,
    /// Where it may have inlined functions. The table of them follows.
    pub inlining: Option<WasmInliningLayout>,
}

/// The functions that are inlined in a `WasmCode`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WasmInliningLayout {
    /// In the `WasmCode`: bytes of the table.
    pub size: u32,
    /// Bytes of an entry. It begins with the function's index.
    pub entry: usize,
    /// In an entry: where it was called.
    pub caller: usize,
}
