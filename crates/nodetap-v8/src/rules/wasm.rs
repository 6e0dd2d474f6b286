//! WebAssembly.

use super::Ask;
use crate::version::Version;
use crate::wasm::{WasmCodeLayout, WasmInliningLayout, WasmLayout, WasmModuleLayout};

/// What `WasmCode` (`src/wasm/wasm-code-manager.h`) looks like from a version
/// on. Each was checked on live objects too.
const CODE: [(Version, WasmCodeLayout); 8] = [
    // 6.8: the index is one that may be (`Maybe<uint32_t>`).
    (
        Version::new(6, 7),
        WasmCodeLayout {
            native_module: 48,
            instructions: 0,
            instructions_size: 8,
            index: 60,
            kind: 64,
            kind_mask: 0xff,
            tables: 32,
            before_positions: &[],
            positions_size: 40,
            inlining: None,
        },
    ),
    // 7.8: the instructions are a vector, and so is every table.
    (
        Version::new(7, 4),
        WasmCodeLayout {
            native_module: 48,
            instructions: 0,
            instructions_size: 8,
            index: 56,
            kind: 60,
            kind_mask: 0xff,
            tables: 32,
            before_positions: &[],
            positions_size: 40,
            inlining: None,
        },
    ),
    // 8.3: the tables lie behind each other in the code's meta data.
    (
        Version::new(8, 3),
        WasmCodeLayout {
            native_module: 16,
            instructions: 0,
            instructions_size: 8,
            index: 44,
            kind: 48,
            kind_mask: 0xff,
            tables: 24,
            before_positions: &[40, 32],
            positions_size: 36,
            inlining: None,
        },
    ),
    // 8.4: the same, in another order.
    (
        Version::new(8, 4),
        WasmCodeLayout {
            native_module: 0,
            instructions: 8,
            instructions_size: 32,
            index: 48,
            kind: 16,
            kind_mask: 0b111,
            tables: 24,
            before_positions: &[44, 36],
            positions_size: 40,
            inlining: None,
        },
    ),
    // 10.2: two bits for the kind, of which there is one less.
    (
        Version::new(10, 0),
        WasmCodeLayout {
            native_module: 0,
            instructions: 8,
            instructions_size: 32,
            index: 48,
            kind: 16,
            kind_mask: 0b11,
            tables: 24,
            before_positions: &[44, 36],
            positions_size: 40,
            inlining: None,
        },
    ),
    // 11.3 to 12.4: the flags went to the end.
    (
        Version::new(11, 0),
        WasmCodeLayout {
            native_module: 0,
            instructions: 8,
            instructions_size: 24,
            index: 44,
            kind: 80,
            kind_mask: 0b11,
            tables: 16,
            before_positions: &[40, 28],
            positions_size: 32,
            inlining: Some(WasmInliningLayout {
                size: 36,
                // An int, padding, a `SourcePosition`.
                entry: 16,
                caller: 8,
            }),
        },
    ),
    // 12.9: a table of deoptimization data and a number more.
    (
        Version::new(12, 9),
        WasmCodeLayout {
            native_module: 0,
            instructions: 8,
            instructions_size: 24,
            index: 48,
            kind: 88,
            kind_mask: 0b11,
            tables: 16,
            before_positions: &[44, 28],
            positions_size: 32,
            inlining: Some(WasmInliningLayout {
                size: 36,
                entry: 13,
                caller: 5,
            }),
        },
    ),
    // 13.6: a signature's hash in front.
    (
        Version::new(13, 0),
        WasmCodeLayout {
            native_module: 0,
            instructions: 8,
            instructions_size: 32,
            index: 56,
            kind: 96,
            kind_mask: 0b11,
            tables: 24,
            before_positions: &[52, 36],
            positions_size: 40,
            inlining: Some(WasmInliningLayout {
                size: 44,
                entry: 13,
                caller: 5,
            }),
        },
    ),
];

/// `src/wasm/wasm-objects.tq`, before 9 `DEFINE_FIELD_OFFSET_CONSTANTS` in
/// `wasm-objects.h`; `src/objects/managed.h`.
const MODULE: WasmModuleLayout = WasmModuleLayout {
    // The first field behind a `JSObject`'s.
    native: &[24],
    // Behind an estimated size and two links.
    shared_pointer: 24,
    // The next field but one, since 11 the next.
    script: &[&[40], &[32]],
    bytes: None,
    code_is_vector: false,
};

/// Until 7.5 the module's code is in a vector (`NativeModule::owned_code_`).
const MODULE_WITH_VECTOR: WasmModuleLayout = WasmModuleLayout {
    code_is_vector: true,
    ..MODULE
};

/// 6.8: through the `WasmCompiledModule` and the `WasmSharedModuleData`
/// (`src/wasm/wasm-objects.h`, `src/managed.h`).
const EARLY_MODULE: WasmModuleLayout = WasmModuleLayout {
    native: &[24, 32],
    shared_pointer: 16,
    script: &[&[40, 24]],
    bytes: Some(&[40, 16]),
    code_is_vector: true,
};

/// 6.2: from the instance through the `WasmCompiledModule` to its first element,
/// the `WasmSharedModuleData`; both are arrays (`src/wasm/wasm-objects.h`).
const MODULE_IN_HEAP: WasmModuleLayout = WasmModuleLayout {
    native: &[],
    shared_pointer: 0,
    script: &[&[24, 16, 32]],
    bytes: Some(&[24, 16, 24]),
    code_is_vector: false,
};

/// 5.8: the same, with a field for the embedder before what matters.
const FIRST_MODULE: WasmModuleLayout = WasmModuleLayout {
    script: &[&[32, 16, 40]],
    bytes: Some(&[32, 16, 32]),
    ..MODULE_IN_HEAP
};

/// `None` where nothing is known of this version's.
pub(super) fn wasm(ask: &Ask<'_>) -> Option<WasmLayout> {
    let version = ask.version;
    if version < Version::new(5, 8) {
        return None;
    }
    let code = CODE.iter().rfind(|(since, _)| version >= *since);
    let mut code = code.map(|(_, code)| *code);
    // An int, a bool, a `SourcePosition`, nothing between
    // (`WasmCode::GetInliningPosition` in src/wasm/wasm-code-manager.cc).
    if version >= Version::new(12, 0)
        && let Some(inlining) = code.as_mut().and_then(|code| code.inlining.as_mut())
    {
        (inlining.entry, inlining.caller) = (13, 5);
    }
    // One more number (`jump_table_info_offset_`) and one more kind; then
    // the effect handlers.
    if version >= Version::new(14, 0)
        && let Some(code) = &mut code
    {
        code.kind_mask = 0b111;
        code.kind = match version >= Version::new(14, 6) {
            true => 120,
            false => 100,
        };
    }
    // `StackFrame::TypeToMarker` in src/execution/frames.h.
    let marker = |name: &str| Some(u64::from(ask.unsigned::<u32>(name).ok()?) << 1);
    let metadata = ask.metadata;
    // `script_type` precedes `line_ends` (src/objects/script.tq).
    let script_type = match metadata.offset("Script", "type") {
        Some(offset) => offset,
        None => metadata.offset("Script", "line_ends")?.checked_sub(8)?,
    };
    Some(WasmLayout {
        // `WasmCompiledFrame` until 8.
        frame: marker("frametype_WasmFrame").or_else(|| marker("frametype_WasmCompiledFrame"))?,
        to_js: [
            marker("frametype_WasmToJsFrame"),
            marker("frametype_WasmToJsFunctionFrame"),
        ],
        from_js: marker("frametype_JsToWasmFrame"),
        instance_object: metadata.instance_type("WasmInstanceObject"),
        module_object: metadata.instance_type("WasmModuleObject"),
        module: if version >= Version::new(7, 6) {
            MODULE
        } else if version >= Version::new(7, 0) {
            MODULE_WITH_VECTOR
        } else if code.is_some() {
            EARLY_MODULE
        } else if version >= Version::new(6, 2) {
            MODULE_IN_HEAP
        } else {
            FIRST_MODULE
        },
        script_type,
        // `DecodeFunctionNames` in src/wasm/module-decoder.cc of 8.4 to 9.1;
        // neither 8.2 nor 9.2.
        exports_are_names: (Version::new(8, 3)..Version::new(9, 2)).contains(&version),
        code,
    })
}
