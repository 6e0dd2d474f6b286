//! Naming of V8's frames.
//!
//! What a frame runs is told by its pc: the interpreter's entry (then its
//! slots name function, bytecode and offset), compiled code (then the code
//! object does), or one of V8's builtins. A frame whose identity does not
//! check out is `(unknown)`, never a guess.

mod active;
mod age;
mod baseline;
mod builtin_name;
mod bytecode_positions;
mod code_cache;
mod crankshaft;
mod deopt_frames;
mod flow;
mod frames;
mod full_codegen;
mod functions;
mod given_up;
mod loops;
mod optimized;
mod source_names;
mod top;

use std::rc::Rc;

use nodetap_profile::{Frame, Kind, Tier};
use nodetap_sampler::raw::{FrameRecord, RawSampleRef};
use nodetap_sampler::target::Target;
use nodetap_v8::code::CodeKind;
use nodetap_v8::{FunctionId, Heap, Memory, Tagged};
use rustc_hash::FxHashSet;

use crate::generated::{NamedFrame, Scripts};

use age::Remaining;
use bytecode_positions::BytecodePositions;
pub use code_cache::Now;
use code_cache::{CachedCode, CodeCache, Details};
use crankshaft::CrankshaftCode;
use deopt_frames::Reading;
use frames::{function_frame, optimized_frames, tier};
use functions::{FunctionInfo, FunctionKey, Functions};
use optimized::OptimizedCode;
pub use top::Top;

/// After how many batches it is looked again for memory that does not change: V8 may
/// have been about to start when the process was attached to.
const LOOK_AGAIN_EPOCHS: [u64; 3] = [5, 50, 500];

/// What V8 shows for a function that could not be identified.
const UNKNOWN: &str = "(unknown)";

/// Whether it is the frame of a function that could not be read.
pub fn is_unknown(frame: &Frame) -> bool {
    frame.kind == Kind::Js && &*frame.function == UNKNOWN
}
/// What V8's code for regular expressions is called.
pub(crate) const REGEXP: &str = "(regexp)";

/// Names V8's frames of one process.
pub struct JsNames {
    functions: Functions,
    codes: CodeCache,
    bytecode: BytecodePositions,
    /// Nothing mutable is believed from one batch of samples to the next.
    now: Now,
    /// Whose frames are named.
    thread: u32,
    /// Which of them are still there, where that has to be known.
    remaining: Option<Remaining>,
    /// Those that were tried to be read ahead in this batch.
    met: FxHashSet<FunctionKey>,
}

/// Whose pc it is: a thread's own, or a return address on the stack.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum PcKind {
    /// The instruction that executes next.
    Own,
    /// The instruction after a call.
    Return,
}

/// What a thread without a frame of its own says of the function that it is in.
#[derive(Clone, Copy, Debug)]
pub struct Entered {
    /// The `JSFunction` that it was called with, if it still is in its register
    /// (`kJSFunctionRegister`).
    pub function: Tagged,
    /// Whether it must be: nothing but what all functions begin with has run.
    pub just_now: bool,
}

/// The frames that one physical frame stands for, innermost first: more than
/// one where functions were inlined.
pub type Frames = Vec<NamedFrame>;

impl JsNames {
    /// Nothing known yet of a process whose scripts are `scripts`.
    pub fn new(scripts: Scripts) -> JsNames {
        JsNames {
            functions: Functions::new(scripts),
            codes: CodeCache::default(),
            bytecode: BytecodePositions::default(),
            now: Now {
                epoch: 1,
                ended: false,
                tick: 0,
                late: false,
            },
            thread: 0,
            remaining: None,
            met: FxHashSet::default(),
        }
    }

    /// Begins another batch of samples: what can change in the target is
    /// checked again before it is used.
    pub fn begin_batch(&mut self, target: &Target) {
        let mut byte = [0];
        let alive = target.memory.read(target.code.start, &mut byte).is_ok();
        if alive && LOOK_AGAIN_EPOCHS.contains(&self.now.epoch) {
            target.look_for_constant_memory();
        }
        self.met.clear();
        self.bytecode.of_sizes(target.bytecode_sizes.as_ref());
        self.now = Now {
            epoch: self.now.epoch + 1,
            ended: !alive,
            ..self.now
        };
    }

    /// From here on frames of `sample` are named.
    pub fn of_sample(&mut self, target: &Target, sample: &RawSampleRef<'_>) {
        self.thread = sample.tid;
        self.now.tick = sample.time_ns;
        self.now.late = age::is_old(sample);
        self.remaining = match self.now.late {
            true => {
                let heap = Heap::new(&target.memory, &target.layout);
                Some(Remaining::of(&heap, sample.frames))
            }
            false => None,
        };
        self.functions.of_thread(self.thread, self.now.late);
    }

    /// From here on the frame `index` of `sample` is named. If it is still there,
    /// so is all that belongs to it, however old the sample is.
    pub fn of_frame(&mut self, target: &Target, sample: &RawSampleRef<'_>, index: usize) {
        let slot = target.layout.frame.function;
        let is_gone = |remaining: &Remaining| !remaining.has(slot, sample.frames, index);
        self.now.late = self.remaining.as_ref().is_some_and(is_gone);
        self.functions.of_thread(self.thread, self.now.late);
    }

    /// The batch of samples that is being named.
    pub fn now(&self) -> Now {
        self.now
    }

    /// The function that the slots of `record` name, if it is one.
    pub fn function(&mut self, target: &Target, record: &FrameRecord) -> Option<Rc<FunctionInfo>> {
        let heap = Heap::new(&target.memory, &target.layout);
        self.functions.get(&heap, FunctionKey::of_record(record)?)
    }

    /// Reads the functions of `sample` that are not known yet, unless it is old.
    pub fn meet(&mut self, target: &Target, sample: &RawSampleRef<'_>) {
        if age::is_old(sample) {
            return;
        }
        self.functions.of_thread(sample.tid, false);
        let heap = Heap::new(&target.memory, &target.layout);
        for record in sample.frames {
            if let Some(key) = FunctionKey::of_record(record)
                && !self.functions.is_known(key)
                && self.met.insert(key)
            {
                let record = self.functions.up_to_date(&heap, record);
                self.function(target, &record);
            }
        }
    }

    /// How often so far a function was not to be read any more.
    pub fn missed(&self) -> u64 {
        self.functions.missed()
    }

    /// `record`, with what its frame says now where the garbage collector has
    /// moved what it said at the tick.
    pub fn up_to_date(&self, target: &Target, record: &FrameRecord) -> FrameRecord {
        let heap = Heap::new(&target.memory, &target.layout);
        self.functions.up_to_date(&heap, record)
    }

    /// The compiled code that `pc` is in.
    pub fn code(&mut self, target: &Target, pc: u64) -> Option<Rc<CachedCode>> {
        let heap = Heap::new(&target.memory, &target.layout);
        let sizes = target.bytecode_sizes.as_ref();
        self.codes
            .at(&heap, sizes, &mut self.functions, pc, self.now)
    }

    /// An interpreted frame. `raw_offset` is the bytecode offset as V8 counts
    /// it, from the frame's slot or the interpreter's register.
    pub fn interpreted(
        &mut self,
        target: &Target,
        record: &FrameRecord,
        raw_offset: Option<i64>,
    ) -> NamedFrame {
        let heap = Heap::new(&target.memory, &target.layout);
        let position = raw_offset
            .and_then(|raw| heap.bytecode_offset(raw))
            .and_then(|offset| self.bytecode_position(&heap, record, offset));
        self.js_frame(&heap, record, position, Tier::Interpreted)
    }

    fn js_frame(
        &mut self,
        heap: &Heap<'_>,
        record: &FrameRecord,
        script_offset: Option<u32>,
        tier: Tier,
    ) -> NamedFrame {
        let function = FunctionKey::of_record(record).and_then(|key| self.functions.get(heap, key));
        match function {
            Some(function) => function_frame(&function, script_offset, Some(tier), false),
            None => NamedFrame::from(Frame {
                tier: Some(tier),
                ..Frame::new(Kind::Js, UNKNOWN)
            }),
        }
    }

    /// Where the bytecode at `offset` of the function of `record` stands in
    /// its script, in UTF-16 units.
    fn bytecode_position(
        &mut self,
        heap: &Heap<'_>,
        record: &FrameRecord,
        offset: u32,
    ) -> Option<u32> {
        let array = Tagged(record.bytecode_array);
        let key = FunctionKey::of_record(record)?;
        let offset = i64::from(offset);
        self.position_in(heap, array, key, offset)
    }

    /// The same for the function of `key`, whose bytecode is `array`.
    fn position_in(
        &mut self,
        heap: &Heap<'_>,
        array: Tagged,
        key: FunctionKey,
        offset: i64,
    ) -> Option<u32> {
        let function = self.functions.get(heap, key)?;
        let bytecode = &mut self.bytecode;
        let found = bytecode.position(heap, self.now, array, (key, &function), offset);
        if found.is_none() && bytecode.is_before_first(array, key, offset) {
            return function.start;
        }
        found
    }

    /// The frames of compiled code at `pc`, innermost first. `None` where
    /// `pc` is in no code of a JavaScript function.
    pub fn compiled(
        &mut self,
        target: &Target,
        record: &FrameRecord,
        pc: u64,
        kind: PcKind,
    ) -> Option<Frames> {
        let code = self.code(target, pc)?;
        let heap = Heap::new(&target.memory, &target.layout);
        let offset = (pc - code.code.start) as u32;
        if kind == PcKind::Return && !code.returns_to(offset) {
            // Other code has been put there since the tick, or the same elsewhere.
            return None;
        }
        match &code.details {
            Details::Baseline { ends, offsets } => {
                let end = before(offset, kind);
                let frame = self.baseline(&heap, record, &code, |names, array, key| {
                    names.baseline_position(&heap, ends, offsets, end, array, key)
                });
                Some(vec![frame])
            }
            Details::BaselineCalls(calls) => {
                let call = calls.binary_search_by_key(&offset, |&(pc, _)| pc);
                // Nothing tells where between two calls it is.
                let call = call.ok().filter(|_| kind == PcKind::Return);
                let frame = self.baseline(&heap, record, &code, |names, array, key| {
                    names.position_in(&heap, array, key, i64::from(calls[call?].1))
                });
                Some(vec![frame])
            }
            Details::Optimized(optimized) => {
                let frames = self.optimized(target, record, (&code, optimized), offset, kind);
                Some(frames)
            }
            Details::Unoptimized(full) => {
                let at = (offset, kind);
                Some(vec![self.unoptimized(&heap, record, (&code, full), at)])
            }
            Details::Crankshaft(optimized) => {
                Some(self.crankshaft(target, record, (&code, optimized), (offset, kind)))
            }
            Details::GivenUp(given_up) => {
                let position = given_up.position(&code.instructions, offset, kind);
                Some(vec![self.js_frame(
                    &heap,
                    record,
                    position,
                    Tier::Optimized,
                )])
            }
            Details::Other => match code.code.kind {
                CodeKind::RegExp => Some(vec![Frame::new(Kind::Pseudo, REGEXP).into()]),
                CodeKind::Stub(name) => Some(vec![Frame::new(Kind::Builtin, name).into()]),
                kind => tier(kind).map(|tier| vec![self.js_frame(&heap, record, None, tier)]),
            },
        }
    }

    fn optimized(
        &mut self,
        target: &Target,
        record: &FrameRecord,
        (code, optimized): (&CachedCode, &OptimizedCode),
        offset: u32,
        kind: PcKind,
    ) -> Frames {
        let heap = Heap::new(&target.memory, &target.layout);
        // The outermost must be the function that the frame itself names, or
        // this is not the code that the frame ran.
        let own = FunctionKey::of_record(record).and_then(|key| self.functions.get(&heap, key));
        let same = match (&own, optimized.function()) {
            (Some(own), Some(of_code)) => own.id == of_code.id,
            _ => false,
        };
        if !same {
            return vec![self.function_of(target, record)];
        }
        self.active(target, (code, optimized), offset, kind)
    }

    /// The functions that are active in optimized code, innermost first.
    fn active(
        &mut self,
        target: &Target,
        (code, optimized): (&CachedCode, &OptimizedCode),
        offset: u32,
        kind: PcKind,
    ) -> Frames {
        let heap = Heap::new(&target.memory, &target.layout);
        let tier = tier(code.code.kind).unwrap_or(Tier::Optimized);
        let mut reading = Reading {
            heap,
            now: self.now,
            functions: &mut self.functions,
            bytecode: &mut self.bytecode,
            builtins: &target.builtins,
            sizes: target.bytecode_sizes.as_ref(),
        };
        let active = optimized.active(&mut reading, &code.code, &code.instructions, offset, kind);
        optimized_frames(&active, tier)
    }

    /// The functions that are active in Crankshaft's code, innermost first.
    fn crankshaft(
        &mut self,
        target: &Target,
        record: &FrameRecord,
        code: (&CachedCode, &CrankshaftCode),
        at: (u32, PcKind),
    ) -> Frames {
        let heap = Heap::new(&target.memory, &target.layout);
        let frames = match FunctionKey::of_record(record) {
            Some(key) => self.crankshaft_function(&heap, key, code, at),
            None => Vec::new(),
        };
        if frames.is_empty() {
            return vec![self.js_frame(&heap, record, None, Tier::Optimized)];
        }
        frames
    }

    /// The same for code that was compiled for the function of `key`; none
    /// where it was not.
    fn crankshaft_function(
        &mut self,
        heap: &Heap<'_>,
        key: FunctionKey,
        (code, optimized): (&CachedCode, &CrankshaftCode),
        at: (u32, PcKind),
    ) -> Frames {
        let code = (&code.code, code.instructions.as_slice());
        let active = optimized.active(heap, &mut self.functions, key, code, at);
        optimized_frames(&active, Tier::Optimized)
    }

    /// A frame of the embedded builtin that V8's source calls `symbol`.
    pub fn builtin(&mut self, target: &Target, record: &FrameRecord, symbol: &str) -> Frame {
        let function = self
            .function(target, record)
            .filter(|function| function.script.is_none());
        let name = function
            .and_then(|function| builtin_name::javascript_name(symbol, &function.name))
            .unwrap_or_else(|| symbol.to_owned());
        Frame::new(Kind::Builtin, name)
    }

    /// Whether the slots of `record` name another function than the one that
    /// optimized `code` was compiled for, or none.
    pub fn is_of_another(
        &mut self,
        target: &Target,
        code: &CachedCode,
        record: &FrameRecord,
    ) -> bool {
        let of_code = match &code.details {
            Details::Optimized(optimized) => optimized.function().map(|function| function.id),
            Details::Crankshaft(optimized) => optimized.function.map(Some),
            _ => None,
        };
        let Some(of_code) = of_code else {
            return false;
        };
        self.function(target, record)
            .is_none_or(|function| function.id != of_code)
    }

    /// The function of `record`, which is one of a script; where in it is not
    /// known.
    pub fn function_of(&mut self, target: &Target, record: &FrameRecord) -> NamedFrame {
        match self.function(target, record) {
            Some(function) => function_frame(&function, None, None, false),
            None => Frame::new(Kind::Js, UNKNOWN).into(),
        }
    }

    /// Whether `record` has what an interpreted frame has in its slots.
    pub fn is_interpreted(&self, target: &Target, record: &FrameRecord) -> bool {
        let heap = Heap::new(&target.memory, &target.layout);
        let array = Tagged(record.bytecode_array);
        let offset = Tagged(record.bytecode_offset).to_smi();
        // An array that has been moved since cannot be asked any more.
        array.is_heap_object()
            && offset.is_some_and(|raw| heap.bytecode_offset(raw.into()).is_some())
    }

    /// What identifies the function whose compiled code `pc` is in.
    pub fn function_compiled_at(
        &mut self,
        target: &Target,
        record: &FrameRecord,
        pc: u64,
    ) -> Option<Option<FunctionId>> {
        let code = self.code(target, pc)?;
        if !code.returns_to((pc - code.code.start) as u32) {
            return None;
        }
        match &code.details {
            Details::Optimized(optimized) => Some(optimized.function()?.id),
            Details::Baseline { .. } | Details::BaselineCalls(_)
                if code.code.data.0 == record.bytecode_array =>
            {
                Some(self.function(target, record)?.id)
            }
            Details::Crankshaft(optimized) => {
                let function = self.function(target, record)?;
                Some(optimized.function.or(function.id))
            }
            Details::Unoptimized(_) => {
                let function = self.function(target, record)?;
                let heap = Heap::new(&target.memory, &target.layout);
                is_newest(&heap, Tagged(record.shared), &code).then_some(function.id)
            }
            _ => None,
        }
    }

    /// The function that `code` was compiled for, wherever in it: what a
    /// thread runs that has not yet made its frame, or given it up already. The
    /// function of `entered`, like functions met before with the same bytecode, is
    /// believed only where the code proves to be its own.
    pub fn code_function(
        &mut self,
        target: &Target,
        code: &CachedCode,
        pc: u64,
        entered: Entered,
    ) -> Frames {
        let heap = Heap::new(&target.memory, &target.layout);
        let offset = (pc - code.code.start) as u32;
        let Entered {
            function: entered,
            just_now,
        } = entered;
        match &code.details {
            // All code begins alike: another function's may have been put there since.
            Details::Optimized(optimized)
                if just_now && !is_of(&heap, entered, optimized.function()) =>
            {
                Vec::new()
            }
            Details::Optimized(optimized) => {
                self.active(target, (code, optimized), offset, PcKind::Own)
            }
            Details::Baseline { ends, offsets } => self
                .baseline_function(&heap, code, ends, offsets, offset, entered)
                .into_iter()
                .collect(),
            Details::BaselineCalls(_) => self
                .baseline_function(&heap, code, &[], &[], offset, entered)
                .into_iter()
                .collect(),
            Details::Unoptimized(full) => self
                .unoptimized_function(&heap, (code, full), offset, entered)
                .into_iter()
                .collect(),
            Details::Crankshaft(optimized) => match FunctionKey::of_function(&heap, entered) {
                Ok(Some(key)) if optimized.is_called_by(&heap, &code.code, entered, key) => {
                    let at = (offset, PcKind::Own);
                    self.crankshaft_function(&heap, key, (code, optimized), at)
                }
                _ => Vec::new(),
            },
            Details::GivenUp(_) | Details::Other => Vec::new(),
        }
    }
}

/// The end of what `pc_offset` stands for: a return address is the end of the
/// call's code or after.
fn before(pc_offset: u32, kind: PcKind) -> u32 {
    match kind {
        PcKind::Return => pc_offset,
        PcKind::Own => pc_offset.saturating_add(1),
    }
}

/// Whether the `JSFunction` at `function`, or where it has been moved to, is `known`.
fn is_of(heap: &Heap<'_>, function: Tagged, known: Option<&Rc<FunctionInfo>>) -> bool {
    let id_of = |function| Some(FunctionKey::of_function(heap, function).ok()??.id());
    let id = id_of(function).or_else(|| id_of(heap.forwarded(function)?));
    id.is_some() && id == known.and_then(|known| known.id)
}

/// Whether `code` is what the function of `shared` has been compiled to.
fn is_newest(heap: &Heap<'_>, shared: Tagged, code: &CachedCode) -> bool {
    heap.newest_code(shared) == Ok(code.code.object)
}
