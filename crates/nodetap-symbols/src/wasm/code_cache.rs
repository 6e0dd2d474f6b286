//! Modules met so far and their code, looked at again in each batch of samples.

use std::cell::OnceCell;
use std::collections::BTreeMap;
use std::ops::Range;
use std::rc::Rc;
use std::sync::Arc;

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
}

struct KnownModule {
    native: NativeModule,
    info: Rc<ModuleInfo>,
    /// What code it has, as seen in the epoch `seen`.
    inventory: Option<Inventory>,
    seen: u64,
    bounds: Range<u64>,
    /// The code that is not in its map yet, by where it starts.
    recent: BTreeMap<u64, WasmCode>,
    /// The code that frames were found in.
    codes: BTreeMap<u64, Rc<CachedCode>>,
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
            if known.any(|known| known.native == module.native) {
                return Ok(None);
            }
            KnownModule::read(heap, &module).map(Some)
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
            .find_map(|module| module.code_at(heap, pc, now, generation));
        self.checked.insert(pc, found.clone());
        found
    }
}

impl KnownModule {
    fn read(heap: &Heap<'_>, module: &Module) -> Result<KnownModule, Error> {
        let script = heap.script(module.script)?;
        let bytes = heap
            .wasm_wire_bytes(&module.native)
            .unwrap_or_else(|error| {
                tracing::debug!(%error, "a module's functions stay nameless");
                Vec::new()
            });
        let exports_are_names = heap
            .layout
            .wasm
            .as_ref()
            .is_some_and(|layout| layout.exports_are_names);
        Ok(KnownModule {
            native: module.native,
            info: Rc::new(ModuleInfo {
                file: Some(script.name.into()).filter(|name: &Arc<str>| !name.is_empty()),
                is_wasm: module.is_wasm,
                functions: ModuleFunctions::read(&bytes, exports_are_names),
            }),
            inventory: None,
            seen: 0,
            bounds: 0..0,
            recent: BTreeMap::new(),
            codes: BTreeMap::new(),
        })
    }

    /// Looks at what code there is in the module now.
    fn refresh(&mut self, heap: &Heap<'_>, epoch: u64) -> Result<(), Error> {
        let inventory = heap.wasm_inventory(&self.native)?;
        if self.inventory != Some(inventory) {
            // Torn while V8 changes it, it is read again in the next batch.
            let bounds = heap.wasm_bounds(&self.native, &inventory);
            let recent = heap.wasm_recent_code(&self.native, &inventory);
            if let (Ok(bounds), Ok(recent)) = (bounds, recent) {
                self.bounds = bounds;
                self.recent = recent.into_iter().map(|code| (code.start, code)).collect();
                self.inventory = Some(inventory);
            }
        }
        self.seen = epoch;
        Ok(())
    }

    fn code_at(
        &mut self,
        heap: &Heap<'_>,
        pc: u64,
        now: Now,
        generation: &mut u32,
    ) -> Option<Rc<CachedCode>> {
        let before = self.codes.range(..=pc).next_back();
        let before = before.filter(|(_, cached)| cached.code.contains(pc));
        let before = before.map(|(_, cached)| cached.clone());
        if now.ended {
            return before;
        }
        let code = self.find(heap, pc);
        match (before, code) {
            (Some(before), Some(code)) if before.code == code => Some(before),
            // Another one than the last time: which of them a tick hit that
            // fell in between is not known.
            (Some(before), _) => {
                self.codes.remove(&before.code.start);
                None
            }
            (None, Some(code)) => {
                *generation += 1;
                let cached = CachedCode {
                    code,
                    generation: FIRST_GENERATION + *generation,
                    module: self.info.clone(),
                    positions: heap.wasm_positions(&code).unwrap_or_default(),
                    inlined: heap.wasm_inlined(&code).unwrap_or_default(),
                    instructions: heap
                        .memory
                        .bytes(code.start, code.size as usize)
                        .unwrap_or_default(),
                    states: OnceCell::new(),
                };
                let cached = Rc::new(cached);
                self.codes.retain(|_, other| {
                    other.code.end() <= code.start || other.code.start >= code.end()
                });
                self.codes.insert(code.start, cached.clone());
                Some(cached)
            }
            (None, None) => None,
        }
    }

    fn find(&self, heap: &Heap<'_>, pc: u64) -> Option<WasmCode> {
        if self.bounds.contains(&pc)
            && let Ok(code) = heap.wasm_code_at(&self.native, pc)
        {
            return Some(code);
        }
        let (_, code) = self.recent.range(..=pc).next_back()?;
        code.contains(pc).then_some(*code)
    }
}
