//! Modules met so far and their code, looked at again in each batch of samples.

use std::cell::OnceCell;
use std::collections::BTreeMap;
use std::mem;
use std::rc::Rc;
use std::sync::Arc;

use nodetap_v8::code::Code;
use nodetap_v8::source_position::Entry;
use nodetap_v8::wasm::native_module::Inventory;
use nodetap_v8::wasm::{Inlined, Module, NativeModule, WasmCode};
use nodetap_v8::{Error, Heap, Tagged};
use rustc_hash::{FxHashMap, FxHashSet};

use super::frame_state::{self, FrameStates, State};
use super::module::ModuleFunctions;
use crate::js::Now;

/// The generations of WebAssembly code; those of JavaScript's are below.
const FIRST_GENERATION: u32 = 1 << 31;

/// How many modules are kept.
const MAX_MODULES: usize = 4096;

/// What the frames of a module have in common.
#[derive(Debug)]
pub struct ModuleInfo {
    /// The URL that V8 has for it.
    pub file: Option<Arc<str>>,
    /// Whether it has places of its own; see `nodetap_v8::wasm::Module`.
    pub is_wasm: bool,
    /// Its functions.
    pub functions: ModuleFunctions,
}

impl ModuleInfo {
    fn read(heap: &Heap<'_>, module: &Module) -> Result<ModuleInfo, Error> {
        let script = heap.script(module.script, false)?;
        let bytes = heap.wasm_module_bytes(module).unwrap_or_else(|error| {
            tracing::debug!(%error, "a module's functions stay nameless");
            Vec::new()
        });
        let layout = heap.layout.wasm.as_ref();
        let exports_are_names = layout.is_some_and(|layout| layout.exports_are_names);
        Ok(ModuleInfo {
            file: Some(script.name.into()).filter(|name: &Arc<str>| !name.is_empty()),
            is_wasm: module.is_wasm,
            functions: ModuleFunctions::read(&bytes, exports_are_names),
        })
    }
}

/// A piece of code and what was decoded of it.
#[derive(Debug)]
pub struct CachedCode {
    /// The code.
    pub code: WasmCode,
    /// Of this code alone; another at the same place has another number.
    pub generation: u32,
    /// The module that it is of.
    pub module: Rc<ModuleInfo>,
    /// Its source positions.
    pub positions: Vec<Entry>,
    /// The functions inlined in it.
    pub inlined: Vec<Inlined>,
    instructions: Vec<u8>,
    states: OnceCell<FrameStates>,
}

impl CachedCode {
    fn read(heap: &Heap<'_>, module: &KnownModule, code: WasmCode, generation: u32) -> CachedCode {
        let mut cached = CachedCode {
            code,
            generation,
            module: module.info.clone(),
            positions: heap.wasm_positions(&code).unwrap_or_default(),
            inlined: heap.wasm_inlined(&code).unwrap_or_default(),
            instructions: heap
                .memory
                .bytes(code.start, code.size as usize)
                .unwrap_or_default(),
            states: OnceCell::new(),
        };
        // Of code that is gone, only what it was is known.
        if heap.wasm_code(code.address, module.native.address) != Ok(code) {
            cached.positions.clear();
            cached.inlined.clear();
            cached.instructions.clear();
        }
        cached
    }

    /// Whether it begins by making a frame.
    pub fn makes_frame(&self) -> bool {
        self.instructions.starts_with(&[0x55, 0x48, 0x89, 0xe5])
    }

    /// Whose frame the frame pointer is that of when `pc` executes next.
    pub fn frame_state(&self, pc: u64) -> State {
        let offset = (pc - self.code.start) as usize;
        let states = self
            .states
            .get_or_init(|| FrameStates::of(&self.instructions));
        match states.at(offset) {
            State::Unknown if self.code.function.is_none() => {
                frame_state::in_jump_table(&self.instructions, offset)
            }
            state => state,
        }
    }
}

/// The modules of a process and their code.
#[derive(Default)]
pub struct CodeCache {
    modules: Vec<KnownModule>,
    /// The instances looked at in the epoch `checked_in`.
    met: FxHashSet<u64>,
    /// What was found there of the pcs asked for in that epoch.
    checked: FxHashMap<u64, Option<Rc<CachedCode>>>,
    checked_in: u64,
    generation: u32,
    /// Before Node.js 10: code in the heap by its generation there, and modules by
    /// the ids of their scripts.
    in_heap: FxHashMap<u32, Rc<CachedCode>>,
    in_heap_modules: FxHashMap<i32, Rc<ModuleInfo>>,
}

struct KnownModule {
    native: NativeModule,
    info: Rc<ModuleInfo>,
    /// What code it has, as seen in the epoch `seen`, and had in the one before
    /// where that is another.
    inventory: Option<Inventory>,
    seen: u64,
    now: Codes,
    before: Option<Codes>,
    /// The code that frames were found in.
    codes: BTreeMap<u64, Rc<CachedCode>>,
}

/// The code of a module by where it starts.
#[derive(Debug, Default)]
struct Codes(BTreeMap<u64, WasmCode>);

impl Codes {
    fn at(&self, pc: u64) -> Option<WasmCode> {
        let (_, code) = self.0.range(..=pc).next_back()?;
        code.contains(pc).then_some(*code)
    }
}

impl CodeCache {
    fn begin(&mut self, now: Now) {
        if self.checked_in != now.epoch {
            self.checked_in = now.epoch;
            self.met.clear();
            self.checked.clear();
        }
    }

    /// Gets to know the module of `instance`, as a frame has it in its slot.
    pub fn meet(&mut self, heap: &Heap<'_>, instance: u64, now: Now) {
        self.begin(now);
        if now.ended || !self.met.insert(instance) || self.modules.len() >= MAX_MODULES {
            return;
        }
        let known = heap.wasm_module_of(Tagged(instance)).and_then(|module| {
            let mut known = self.modules.iter();
            match module.native {
                Some(native) if !known.any(|known| known.native == native) => Ok(Some(
                    KnownModule::new(native, ModuleInfo::read(heap, &module)?),
                )),
                _ => Ok(None),
            }
        });
        match known {
            Ok(known) => {
                if known.is_some() {
                    // What was looked for in vain may be in it.
                    self.checked.retain(|_, found| found.is_some());
                }
                self.modules.extend(known);
            }
            Err(error) => {
                tracing::debug!(instance = format!("{instance:#x}"), %error, "no module");
            }
        }
    }

    /// What `code` in the heap is, whose number there is `generation`.
    pub fn in_heap(
        &mut self,
        heap: &Heap<'_>,
        code: &Code,
        generation: u32,
        instructions: &[u8],
    ) -> Option<Rc<CachedCode>> {
        if let Some(known) = self.in_heap.get(&generation) {
            return Some(known.clone());
        }
        let (wasm, module) = heap.wasm_function_of(code).ok()?;
        let id = heap.script_id(module.script).ok()?;
        let info = match self.in_heap_modules.get(&id) {
            Some(known) => known.clone(),
            None => Rc::new(ModuleInfo::read(heap, &module).ok()?),
        };
        self.in_heap_modules.insert(id, info.clone());
        let cached = Rc::new(CachedCode {
            code: wasm,
            generation,
            module: info,
            positions: heap.code_positions(code).unwrap_or_default(),
            inlined: Vec::new(),
            instructions: instructions.to_vec(),
            states: OnceCell::new(),
        });
        self.in_heap.insert(generation, cached.clone());
        Some(cached)
    }

    /// The code that contains `pc`.
    pub fn at(&mut self, heap: &Heap<'_>, pc: u64, now: Now) -> Option<Rc<CachedCode>> {
        if self.modules.is_empty() {
            return None;
        }
        self.begin(now);
        if let Some(found) = self.checked.get(&pc) {
            return found.clone();
        }
        if !now.ended {
            self.modules.retain_mut(|module| {
                module.seen == now.epoch || module.refresh(heap, now.epoch).is_ok()
            });
        }
        let generation = &mut self.generation;
        let found = self
            .modules
            .iter_mut()
            .find_map(|module| module.code_at(heap, pc, generation));
        self.checked.insert(pc, found.clone());
        found
    }
}

impl KnownModule {
    fn new(native: NativeModule, info: ModuleInfo) -> KnownModule {
        KnownModule {
            native,
            info: Rc::new(info),
            inventory: None,
            seen: 0,
            now: Codes::default(),
            before: None,
            codes: BTreeMap::new(),
        }
    }

    /// Looks at what code there is in the module now.
    fn refresh(&mut self, heap: &Heap<'_>, epoch: u64) -> Result<(), Error> {
        let inventory = heap.wasm_inventory(&self.native)?;
        self.before = None;
        if self.inventory != Some(inventory) {
            match heap.wasm_codes(&self.native, &inventory) {
                Ok(codes) => {
                    let before = mem::replace(&mut self.now, Codes(codes));
                    let now = &self.now;
                    self.codes.retain(|start, cached| {
                        [now, &before]
                            .iter()
                            .any(|codes| codes.0.get(start) == Some(&cached.code))
                    });
                    self.before = Some(before);
                    self.inventory = Some(inventory);
                }
                // Torn while V8 changes it, it is read again in the next batch.
                Err(error) => tracing::debug!(%error, "a module's code as it was"),
            }
        }
        self.seen = epoch;
        Ok(())
    }

    /// The code that a tick hit at `pc` since the last batch.
    fn find(&self, pc: u64) -> Option<WasmCode> {
        let before = self.before.as_ref().and_then(|before| before.at(pc));
        which(before, self.now.at(pc))
    }

    fn code_at(
        &mut self,
        heap: &Heap<'_>,
        pc: u64,
        generation: &mut u32,
    ) -> Option<Rc<CachedCode>> {
        let code = self.find(pc)?;
        if let Some(cached) = self.codes.get(&code.start)
            && cached.code == code
        {
            return Some(cached.clone());
        }
        *generation += 1;
        let generation = FIRST_GENERATION + *generation;
        let cached = Rc::new(CachedCode::read(heap, self, code, generation));
        self.codes.insert(code.start, cached.clone());
        Some(cached)
    }
}

/// What a tick hit where `before` and `now` were and are, if that is certain.
fn which<T: PartialEq>(before: Option<T>, now: Option<T>) -> Option<T> {
    match (before, now) {
        // It has been freed since; nothing else has been put there.
        (Some(before), None) => Some(before),
        (Some(before), Some(now)) => (before == now).then_some(now),
        (None, now) => now,
    }
}

#[cfg(test)]
mod tests {
    use super::which;

    #[test]
    fn between_two_batches_code_comes_and_goes() {
        assert_eq!(which(Some(1), Some(1)), Some(1));
        assert_eq!(which(Some(1), None), Some(1));
        assert_eq!(which(None, Some(2)), Some(2));
        assert_eq!(which::<u32>(None, None), None);
        // Which of the two it was, nobody knows.
        assert_eq!(which(Some(1), Some(2)), None);
    }
}
