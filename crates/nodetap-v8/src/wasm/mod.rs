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

use crate::heap::{Error, Heap, Tagged};
pub use code::{Inlined, WasmCode};
pub use layout::{WasmCodeLayout, WasmInliningLayout, WasmLayout, WasmModuleLayout};
pub use native_module::NativeModule;

/// How many words of an instance are searched. (39 are the most seen.)
const INSTANCE_WORDS: usize = 48;

/// `Script::Type::kWasm` (`src/objects/script.h`).
const SCRIPT_TYPE_WASM: i32 = 3;

/// `Foreign.foreign_address` (`src/objects/foreign.tq`).
const FOREIGN_ADDRESS: u32 = 8;

/// A module as an isolate has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Module {
    /// Its code, which isolates may share.
    pub native: NativeModule,
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
        for path in layout.module.script {
            let script = self.follow(module, path)?;
            if script.is_heap_object() && self.instance_type(script) == Ok(self.layout.types.script)
            {
                let kind = self.smi(script.field(layout.script_type)?)?;
                let bytes = layout.module.bytes.map(|path| self.follow(module, path));
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
        let Some(string) = module.bytes else {
            return self.wasm_wire_bytes(&module.native);
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
