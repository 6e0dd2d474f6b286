//! Naming of WebAssembly frames.
//!
//! A frame's pc is in a piece of code that the module owns, which says the index
//! of its function; the module's bytes say its name. Modules are met in the
//! frames of their functions, which keep their instance.

mod code_cache;
mod frame_state;
mod module;

use std::iter;
use std::rc::Rc;

use nodetap_profile::{Frame, Kind, Position};
use nodetap_sampler::raw::FrameRecord;
use nodetap_v8::Heap;
use nodetap_v8::code::Code;
use nodetap_v8::source_position;
use nodetap_v8::wasm::Inlined;

use crate::js::{Now, PcKind};
pub use code_cache::{CachedCode, CodeCache};
pub use frame_state::State;

/// How many functions are inlined in each other at most: V8's limit is 7
/// (`wasm_inlining_max_depth`).
const MAX_INLINED: usize = 64;

/// What a frame of WebAssembly is called that could not be identified.
const UNKNOWN: &str = "(unknown)";

/// What the type of a frame, in place of its context, says that it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FrameType {
    /// That of a function.
    Function,
    /// The way to a function that is imported.
    ToJs,
    /// The way from JavaScript.
    FromJs,
}

impl FrameType {
    /// The type of the frame of `record`, if it has one of these.
    pub fn of(heap: &Heap<'_>, record: &FrameRecord) -> Option<FrameType> {
        let layout = heap.layout.wasm.as_ref()?;
        let marker = Some(record.context).filter(|&marker| marker != 0);
        if marker == Some(layout.frame) {
            Some(FrameType::Function)
        } else if marker.is_some() && layout.to_js.contains(&marker) {
            Some(FrameType::ToJs)
        } else if marker.is_some() && layout.from_js == marker {
            Some(FrameType::FromJs)
        } else {
            None
        }
    }
}

/// Names the WebAssembly frames of one process.
#[derive(Default)]
pub struct WasmNames {
    codes: CodeCache,
}

impl WasmNames {
    /// Gets to know the modules that a stack of `frames` has code of.
    pub fn meet(&mut self, heap: &Heap<'_>, frames: &[FrameRecord], now: Now) {
        if is_in_heap(heap) {
            return;
        }
        for record in frames {
            if FrameType::of(heap, record) == Some(FrameType::Function) {
                self.codes.meet(heap, record.function, now);
            }
        }
    }

    /// The code of a module that `pc` is in.
    pub fn code(&mut self, heap: &Heap<'_>, pc: u64, now: Now) -> Option<Rc<CachedCode>> {
        self.codes.at(heap, pc, now)
    }

    /// What `code` in the heap is; see [`CodeCache::in_heap`].
    pub fn code_in_heap(
        &mut self,
        heap: &Heap<'_>,
        code: &Code,
        generation: u32,
        instructions: &[u8],
    ) -> Option<Rc<CachedCode>> {
        self.codes.in_heap(heap, code, generation, instructions)
    }

    /// The frames of `code` at `pc`, innermost first.
    pub fn frames(&self, code: &CachedCode, pc: u64, kind: PcKind) -> Vec<Frame> {
        let Some(function) = code.code.function else {
            // As V8's profiler calls them.
            let name = match code.makes_frame() {
                true => "wasm-to-js",
                false => "jump-table",
            };
            return vec![Frame::new(Kind::Builtin, name)];
        };
        let offset = (pc - code.code.start) as i64;
        let before = match kind {
            PcKind::Return => offset - 1,
            PcKind::Own => offset,
        };
        // Only calls have their positions noted without gaps.
        let mut is_exact = kind == PcKind::Return;
        let mut position = source_position::lookup(&code.positions, before);
        let is_only = position
            .and_then(|position| position.inlining_id)
            .is_some_and(|id| is_only(&code.inlined, id));
        let mut frames = Vec::new();
        let mut is_gone = false;
        for _ in 0..MAX_INLINED {
            let Some(inlined) = position
                .and_then(|position| position.inlining_id)
                .and_then(|id| code.inlined.get(id as usize))
            else {
                break;
            };
            let place = position.and_then(|position| position.script_offset);
            if !is_gone {
                let place = place.filter(|_| is_exact);
                frames.push(frame(code, inlined.function, place, true));
            }
            is_gone = inlined.was_tail_call;
            position = Some(inlined.caller);
            is_exact |= is_only;
        }
        let place = position.and_then(|position| position.script_offset);
        let place = place.filter(|_| is_exact);
        if !is_gone {
            frames.push(frame(code, function, place, false));
        }
        frames
    }
}

/// Whether no other function that is inlined stands for the same functions as the one at
/// `id`: then they tell where each of them called the next.
fn is_only(inlined: &[Inlined], id: u32) -> bool {
    let functions = |id: u32| -> Vec<u32> {
        let caller = |at: &Inlined| inlined.get(at.caller.inlining_id? as usize);
        iter::successors(inlined.get(id as usize), |at| caller(at))
            .take(MAX_INLINED)
            .map(|at| at.function)
            .collect()
    };
    let wanted = functions(id);
    (0..inlined.len() as u32).all(|other| other == id || functions(other) != wanted)
}

/// Whether functions are code in the heap, as JavaScript's are: before Node.js 10.
pub fn is_in_heap(heap: &Heap<'_>) -> bool {
    let layout = heap.layout.wasm.as_ref();
    layout.is_some_and(|layout| layout.code.is_none())
}

/// A frame of a function whose code was not found.
pub fn unknown() -> Frame {
    Frame::new(Kind::Wasm, UNKNOWN)
}

/// Whether `frame` is one of those.
pub fn is_unknown(frame: &Frame) -> bool {
    frame.kind == Kind::Wasm && &*frame.function == UNKNOWN
}

/// The frame of the function at `index`, `place` bytes into its body. V8
/// counts a module's bytes as the columns of its only line.
fn frame(code: &CachedCode, index: u32, place: Option<u32>, inlined: bool) -> Frame {
    let module = &code.module;
    let body = module.functions.body(index).filter(|_| module.is_wasm);
    let at = |place: u32| Position::new(1, body?.checked_add(place)?.checked_add(1)?);
    Frame {
        file: module.file.clone(),
        position: place.and_then(at),
        function_position: at(0),
        inlined,
        ..Frame::new(Kind::Wasm, module.functions.name(index))
    }
}

#[cfg(test)]
mod tests {
    use nodetap_v8::source_position::SourcePosition;
    use nodetap_v8::wasm::Inlined;

    use super::is_only;

    #[test]
    fn what_is_inlined_once_was_called_at_one_place() {
        let inlined = |function, place, inlining_id| Inlined {
            function,
            caller: SourcePosition {
                script_offset: Some(place),
                inlining_id,
            },
            was_tail_call: false,
        };
        // 7 calls 8 at one place; 9 is called by 7 and, twice, by 8.
        let all = [
            inlined(7, 10, None),
            inlined(8, 20, Some(0)),
            inlined(9, 30, Some(0)),
            inlined(9, 40, Some(1)),
            inlined(9, 50, Some(1)),
            // Endless.
            inlined(9, 60, Some(5)),
        ];
        let only: Vec<bool> = (0..6).map(|id| is_only(&all, id)).collect();
        assert_eq!(only, [true, true, true, false, false, true]);
    }
}
