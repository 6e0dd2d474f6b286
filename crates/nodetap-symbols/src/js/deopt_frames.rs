//! What deoptimization entries tell of a place in optimized code.
//!
//! The entry of a call names each active function and where in its bytecode
//! it is: what `Error.stack` shows, too (`OptimizedFrame::Summarize` in
//! `src/execution/frames.cc`). Between the calls, the jumps to the exits of
//! eager deoptimization say where they stand.

use std::rc::Rc;

use nodetap_sampler::builtins::Builtins;
use nodetap_v8::bytecode::BytecodeSizes;
use nodetap_v8::code::Code;
use nodetap_v8::deoptimization::DeoptimizationData;
use nodetap_v8::translation::TranslatedFrame;
use nodetap_v8::{Heap, Tagged};

use super::active::{ActiveFunction, common};
use super::builtin_name;
use super::bytecode_positions::BytecodePositions;
use super::code_cache::Now;
use super::flow::Flow;
use super::functions::{FunctionInfo, FunctionKey, Functions};
use super::optimized::KnownFunctions;

/// What reading the target takes.
pub struct Reading<'a> {
    /// Its heap.
    pub heap: Heap<'a>,
    /// The batch of samples that is being named.
    pub now: Now,
    /// The functions read so far.
    pub functions: &'a mut Functions,
    /// The positions of bytecodes read so far.
    pub bytecode: &'a mut BytecodePositions,
    /// V8's builtins.
    pub builtins: &'a Builtins,
    /// How long bytecodes are.
    pub sizes: Option<&'a BytecodeSizes>,
}

/// The functions that are active at the place of deoptimization entry
/// `entry` of `code`, outermost first. `None` where one of them is not known.
pub fn at_entry(
    reading: &mut Reading<'_>,
    code: &Code,
    data: &DeoptimizationData,
    known: &KnownFunctions,
    entry: u32,
) -> Option<Vec<ActiveFunction>> {
    of_frames(reading, code, data, known, &data.frames(entry)?)
}

/// The functions of `frames` of `code`, outermost first, likewise.
pub fn of_frames(
    reading: &mut Reading<'_>,
    code: &Code,
    data: &DeoptimizationData,
    known: &KnownFunctions,
    frames: &[TranslatedFrame],
) -> Option<Vec<ActiveFunction>> {
    let mut active = Vec::with_capacity(frames.len());
    for frame in frames {
        match *frame {
            TranslatedFrame::Function { shared, .. } => {
                let now = reading.heap.deoptimization_literal(code, shared).ok();
                let function = match known.get(&data.literal(shared)?) {
                    Some(function) => function.clone(),
                    None => reading.functions.at(&reading.heap, now?).ok()?,
                }?;
                // V8 may have emptied the data since it was read; the function need not
                // have been moved.
                let position = now
                    .or_else(|| data.literal(shared))
                    .and_then(|now| bytecode_position(reading, code, frame, now, &function));
                active.push(ActiveFunction::new(function, position));
            }
            TranslatedFrame::Builtin { shared, closure } => {
                active.extend(builtin(reading, code, shared, closure));
            }
            TranslatedFrame::Other => {}
        }
    }
    Some(active)
}

/// Where `frame` stands in the script of its function, which is at `shared`.
fn bytecode_position(
    reading: &mut Reading<'_>,
    code: &Code,
    frame: &TranslatedFrame,
    shared: Tagged,
    function: &Rc<FunctionInfo>,
) -> Option<u32> {
    let TranslatedFrame::Function {
        bytecode_offset, ..
    } = *frame
    else {
        return None;
    };
    let heap = &reading.heap;
    let key = FunctionKey::at(heap, shared).ok()??;
    if function.id != Some(key.id()) {
        return None;
    }
    let array = heap
        .translated_bytecode(code, frame)
        .or_else(|_| heap.bytecode_of(shared))
        .ok()?;
    reading.bytecode.position(
        heap,
        reading.now,
        array,
        (key, function),
        i64::from(bytecode_offset),
    )
}

/// An inlined builtin, by the literals `closure` and `shared` of `code`.
fn builtin(
    reading: &Reading<'_>,
    code: &Code,
    shared: u32,
    closure: Option<u32>,
) -> Option<ActiveFunction> {
    let heap = &reading.heap;
    let of_closure = closure.and_then(|closure| {
        let closure = heap.deoptimization_literal(code, closure).ok()?;
        heap.shared_of(closure).ok()
    });
    let shared = match of_closure {
        Some(shared) => shared,
        None => heap.deoptimization_literal(code, shared).ok()?,
    };
    let function = heap.function(shared).ok()?;
    // Else it is the caller's, whose frame is there already.
    if function.script.is_some() || function.name.is_empty() {
        return None;
    }
    let id = heap.builtin_id(shared).ok().flatten();
    let name = id
        .and_then(|id| reading.builtins.numbered(id))
        .and_then(|symbol| builtin_name::javascript_name(symbol, &function.name));
    let info = FunctionInfo {
        id: None,
        name: name.unwrap_or(function.name).into(),
        script: None,
        start: None,
        end: None,
        text: None,
    };
    Some(ActiveFunction::new(info.into(), None))
}

/// The places in a piece of code that have a deoptimization entry, in order.
#[derive(Debug, Default)]
pub struct Anchors {
    anchors: Vec<Anchor>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Anchor {
    start: u32,
    end: u32,
    entry: u32,
}

impl Anchors {
    /// From the jumps of `flow` to the exits that `data` knows, and `calls`:
    /// where they return to and their entries.
    pub fn new(
        flow: &Flow,
        data: &DeoptimizationData,
        calls: impl Iterator<Item = (u32, u32)>,
    ) -> Anchors {
        let jumps = flow.exits().iter().filter_map(|exit| {
            Some(Anchor {
                start: exit.start,
                end: exit.end,
                entry: data.eager_exit_at(exit.target)?,
            })
        });
        let calls = calls.map(|(pc, entry)| Anchor {
            start: pc.saturating_sub(1),
            end: pc,
            entry,
        });
        let mut anchors: Vec<Anchor> = jumps.chain(calls).collect();
        anchors.sort_unstable();
        Anchors { anchors }
    }

    /// The entries next to `at`, before and after it; the same one twice where
    /// `at` is in its instruction.
    fn around(&self, at: u32) -> Option<(u32, u32)> {
        let after = self.anchors.partition_point(|anchor| anchor.start <= at);
        let before = self.anchors.get(after.checked_sub(1)?)?;
        if at < before.end {
            return Some((before.entry, before.entry));
        }
        Some((before.entry, self.anchors.get(after)?.entry))
    }
}

/// Code of Maglev's without source positions, as V8 12 and early 13.6 make it.
pub struct WithoutPositions<'a> {
    /// The code.
    pub code: &'a Code,
    /// Its deoptimization data.
    pub data: &'a DeoptimizationData,
    /// The functions in it.
    pub known: &'a KnownFunctions,
    /// Its jumps.
    pub flow: &'a Flow,
    /// Its entries.
    pub anchors: &'a Anchors,
}

impl WithoutPositions<'_> {
    /// The functions that are active at `at`, outermost first, as far as they
    /// are certain. The innermost has no position: the frames of an eager exit
    /// are those of the last checkpoint before it.
    pub fn at(&self, reading: &mut Reading<'_>, at: u32) -> Option<Vec<ActiveFunction>> {
        if !self.flow.is_deferred(at) {
            return self.in_order(reading, at);
        }
        // The piece of deferred code that it is in, and what jumps there.
        let mut block = self.flow.block_at(at)?;
        while block.falls_in {
            block = self.flow.block_at(block.start.checked_sub(1)?)?;
        }
        let mut sources = block.sources.iter();
        let mut active = self.in_order(reading, *sources.next()?)?;
        for &source in sources {
            active = common(active, &self.in_order(reading, source)?);
        }
        Some(active)
    }

    /// In code that stands in the order of the bytecode: what the entries
    /// before and after `at` have in common.
    fn in_order(&self, reading: &mut Reading<'_>, at: u32) -> Option<Vec<ActiveFunction>> {
        let (before, after) = self.anchors.around(at)?;
        let shown = |entry| -> Option<Vec<TranslatedFrame>> {
            let mut frames = self.data.frames(entry)?;
            frames.retain(|frame| *frame != TranslatedFrame::Other);
            Some(frames)
        };
        let (before, after) = (shown(before)?, shown(after)?);
        let certain = &before[..certain_frames(&before, &after)?];
        let mut active = of_frames(reading, self.code, self.data, self.known, certain)?;
        active.last_mut()?.position = None;
        Some(active)
    }
}

/// How many frames of `before`, outermost first, are active
/// wherever between there and `after`. `None` where V8 moved the code between
/// them out of its order.
fn certain_frames(before: &[TranslatedFrame], after: &[TranslatedFrame]) -> Option<usize> {
    let pairs = before.iter().zip(after);
    let mut same = pairs.take_while(|(one, other)| one == other).count();
    if same == before.len() || same == after.len() {
        // In the last one, the places between need not be the same.
        same = same.checked_sub(1)?;
    }
    match (before[same], after[same]) {
        (
            TranslatedFrame::Function {
                shared,
                bytecode_offset,
                ..
            },
            TranslatedFrame::Function {
                shared: shared_after,
                bytecode_offset: offset_after,
                ..
            },
        ) if shared == shared_after => (bytecode_offset <= offset_after).then_some(same + 1),
        _ => (same > 0).then_some(same),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(shared: u32, bytecode_offset: i32) -> TranslatedFrame {
        TranslatedFrame::Function {
            shared,
            bytecode_offset,
            bytecode_array: None,
        }
    }

    #[test]
    fn what_is_active_on_both_sides_is_active_between() {
        let certain = |before: &[_], after: &[_]| certain_frames(before, after);
        let caller = frame(0, 10);
        // In one inlined function.
        assert_eq!(
            certain(&[caller, frame(1, 2)], &[caller, frame(1, 5)]),
            Some(2)
        );
        assert_eq!(
            certain(&[caller, frame(1, 2)], &[caller, frame(1, 2)]),
            Some(2)
        );
        // Into it and out of it.
        assert_eq!(certain(&[caller], &[caller, frame(1, 5)]), Some(1));
        assert_eq!(certain(&[caller, frame(1, 5)], &[frame(0, 13)]), Some(1));
        // From one call of it to the next.
        assert_eq!(
            certain(&[caller, frame(1, 5)], &[frame(0, 20), frame(1, 0)]),
            Some(1)
        );
        // From one function inlined at a call to another.
        assert_eq!(
            certain(&[caller, frame(1, 5)], &[caller, frame(2, 0)]),
            Some(1)
        );
        // Code that was moved to the end.
        assert_eq!(
            certain(&[caller, frame(1, 5)], &[caller, frame(1, 2)]),
            None
        );
        assert_eq!(certain(&[caller], &[frame(0, 3)]), None);
        assert_eq!(certain(&[caller], &[]), None);
        assert_eq!(certain(&[caller], &[frame(9, 3)]), None);
    }

    #[test]
    fn the_entries_around_a_place_are_found() {
        let anchor = |start, end, entry| Anchor { start, end, entry };
        let anchors = Anchors {
            anchors: vec![anchor(10, 16, 4), anchor(29, 30, 7), anchor(40, 46, 5)],
        };
        assert_eq!(anchors.around(9), None);
        assert_eq!(anchors.around(10), Some((4, 4)));
        assert_eq!(anchors.around(15), Some((4, 4)));
        assert_eq!(anchors.around(16), Some((4, 7)));
        assert_eq!(anchors.around(29), Some((7, 7)));
        assert_eq!(anchors.around(30), Some((7, 5)));
        assert_eq!(anchors.around(46), None);
    }
}
