//! WebAssembly: from a frame to the code that it runs.
//!
//! The frame of a function keeps its instance. That leads to the module's
//! script and to its `NativeModule`, a C++ object that owns all code of the
//! module, also code that was replaced and still is on a stack:
//!
//! ```text
//! frame ─▶ WasmTrustedInstanceData ─▶ WasmInstanceObject ─▶ WasmModuleObject ─▶ Script
//!                                                               └─▶ NativeModule ─▶ WasmCode…
//! ```
//!
//! (Before 12 the frame keeps the `WasmInstanceObject` itself.) The C++
//! objects have no metadata, and their layout is the compiler's. What matters
//! of it is found by looking for what can be nothing else; see
//! [`native_module`].

mod code;
mod layout;
pub mod native_module;

use crate::code::{Code, CodeKind};
use crate::heap::{Error, Heap, Tagged};
pub use code::{Inlined, WasmCode};
pub use layout::{WasmCodeLayout, WasmInliningLayout, WasmLayout, WasmModuleLayout};
pub use native_module::NativeModule;

/// How many words of an instance are searched. (39 are the most seen.)
const INSTANCE_WORDS: usize = 48;

/// `Script::Type::kWasm` (`src/objects/script.h`).
const SCRIPT_TYPE_WASM: i32 = 3;

/// `WeakCell::kValueOffset` (`src/objects.h`)
const WEAK_CELL_VALUE: u32 = 8;

/// `Foreign.foreign_address` (`src/objects/foreign.tq`).
const FOREIGN_ADDRESS: u32 = 8;

/// A module as an isolate has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Module {
    /// Its code, which isolates may share; `None` where that is in the heap.
    pub native: Option<NativeModule>,
    /// Its `Script`.
    pub script: Tagged,
    /// Whether that is a script of its own. (Of asm.js it is the JavaScript
    /// that it was part of.)
    pub is_wasm: bool,
    /// A string of its bytes, where the `NativeModule` has none.
    bytes: Option<Tagged>,
}

impl Heap<'_> {
    /// The module of the instance that the frame of a function has in its slot.
    ///
    /// # Errors
    /// Where that is no instance, or its module is not found.
    pub fn wasm_module_of(&self, instance: Tagged) -> Result<Module, Error> {
        if let Ok(module) = self.module_of_instance_object(instance) {
            return Ok(module);
        }
        for candidate in self.instance_words(instance)? {
            if self.may_be(candidate, |layout| layout.instance_object)
                && let Ok(module) = self.module_of_instance_object(candidate)
            {
                return Ok(module);
            }
        }
        Err(Error::Unbelievable("an instance without a module"))
    }

    fn module_of_instance_object(&self, instance: Tagged) -> Result<Module, Error> {
        for candidate in self.instance_words(instance)? {
            if self.may_be(candidate, |layout| layout.module_object)
                && let Ok(module) = self.module_of_module_object(candidate)
            {
                return Ok(module);
            }
        }
        Err(Error::Unbelievable("no instance of a module"))
    }

    /// The heap objects that an instance points to, as far as it is readable.
    fn instance_words(&self, instance: Tagged) -> Result<Vec<Tagged>, Error> {
        let start = instance.address()?;
        // At the end of a page the heap may end.
        let words = self.memory.words(start, INSTANCE_WORDS).or_else(|_| {
            self.memory
                .words(start, (4096 - (start as usize & 4095)) / 8)
        })?;
        let objects = words.into_iter().skip(1).map(Tagged);
        Ok(objects.filter(|word| word.is_heap_object()).collect())
    }

    /// Whether `object` may be of the type that `of` tells: it is not where the
    /// metadata tells the type and it is of another.
    fn may_be(&self, object: Tagged, of: impl Fn(&WasmLayout) -> Option<u16>) -> bool {
        let wanted = self.layout.wasm.as_ref().and_then(of);
        wanted.is_none_or(|wanted| self.instance_type(object) == Ok(wanted))
    }

    fn module_of_module_object(&self, module: Tagged) -> Result<Module, Error> {
        let layout = self.layout.wasm.as_ref();
        let layout = layout.ok_or(Error::Unbelievable("WebAssembly is not known"))?;
        let managed = self.follow(module, layout.module.native)?;
        let destructor = self.memory.u64(managed.field(FOREIGN_ADDRESS)?)?;
        let shared = self.pointer(destructor.wrapping_add(layout.module.shared_pointer))?;
        let native = self.native_module(self.pointer(shared)?)?;
        self.module_from(module, &layout.module, Some(native))
    }

    fn module_from(
        &self,
        start: Tagged,
        layout: &WasmModuleLayout,
        native: Option<NativeModule>,
    ) -> Result<Module, Error> {
        for path in layout.script {
            let script = self.follow(start, path)?;
            if script.is_heap_object() && self.instance_type(script) == Ok(self.layout.types.script)
            {
                let script_type = self.layout.wasm.as_ref().map_or(0, |wasm| wasm.script_type);
                let kind = self.smi(script.field(script_type)?)?;
                let bytes = layout.bytes.map(|path| self.follow(start, path));
                return Ok(Module {
                    native,
                    script,
                    is_wasm: kind == SCRIPT_TYPE_WASM,
                    bytes: bytes.transpose()?,
                });
            }
        }
        Err(Error::Unbelievable("a module without a script"))
    }

    /// The function that `code` in the heap is the code of, and its module.
    ///
    /// # Errors
    /// Where it is that of none.
    pub fn wasm_function_of(&self, code: &Code) -> Result<(WasmCode, Module), Error> {
        let layout = self.layout.wasm.as_ref();
        let layout = layout.filter(|layout| layout.code.is_none());
        let layout = layout.ok_or(Error::Unbelievable("code that is not in the heap"))?;
        if code.kind != CodeKind::Wasm {
            return Err(Error::Unbelievable("code of no function of a module"));
        }
        // In place of data for deoptimization: a `WeakCell` of the instance, and
        // the function's index (`AttachWasmFunctionInfo` in
        // src/wasm/module-compiler.cc).
        let data = self.fixed_array(code.data)?;
        let (Some(&cell), Some(&index)) = (data.first(), data.get(1)) else {
            return Err(Error::Unbelievable("a function of no instance"));
        };
        let index = index.to_smi().and_then(|index| u32::try_from(index).ok());
        let index = index.ok_or(Error::Unbelievable("a function without an index"))?;
        let instance = self.tagged(cell.field(WEAK_CELL_VALUE)?)?;
        let module = self.module_from(instance, &layout.module, None)?;
        Ok((WasmCode::in_heap(code, index), module))
    }

    /// The object that fields lead to, one after the other.
    fn follow(&self, object: Tagged, path: &[u32]) -> Result<Tagged, Error> {
        path.iter()
            .try_fold(object, |object, &offset| self.tagged(object.field(offset)?))
    }

    /// A module as it was loaded: its bytes.
    ///
    /// # Errors
    /// Where they are not found.
    pub fn wasm_module_bytes(&self, module: &Module) -> Result<Vec<u8>, Error> {
        let string = match (module.bytes, &module.native) {
            (Some(string), _) => string,
            (None, Some(native)) => return self.wasm_wire_bytes(native),
            (None, None) => return Err(Error::Unbelievable("a module without its bytes")),
        };
        let units = self.units(string, native_module::MAX_WIRE_BYTES as usize)?;
        let bytes: Result<Vec<u8>, _> = units.into_iter().map(u8::try_from).collect();
        bytes.map_err(|_| Error::Unbelievable("bytes that are more"))
    }

    /// The pointer to a C++ object at `address`.
    fn pointer(&self, address: u64) -> Result<u64, Error> {
        let pointer = self.memory.u64(address)?;
        if is_pointer(pointer) {
            Ok(pointer)
        } else {
            Err(Error::Unbelievable("no pointer where one should be"))
        }
    }
}

/// Whether `word` can be a pointer to a C++ object.
fn is_pointer(word: u64) -> bool {
    (0x1000..1 << 47).contains(&word) && word.is_multiple_of(8)
}
