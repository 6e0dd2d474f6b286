//! From a raw stack to its named frames, whatever they are.

mod place;
mod returns;
mod wasm;

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;

use nodetap_profile::{Frame, Kind, Mode};
use nodetap_sampler::raw::{FrameRecord, RawSampleRef};
use nodetap_sampler::root::Root;
use nodetap_sampler::target::Target;
use nodetap_v8::code::CodeKind;
use nodetap_v8::{Heap, Tagged};
use rustc_hash::FxHashMap;

use crate::generated::{GeneratedCode, NamedFrame, NamedFrames, NamedId, Scripts};
use crate::interpreter::{Interpreter, LiveOffset, RunningHandler};
use crate::js::{self, Entered, Frames, JsNames, PcKind, REGEXP, Top};
use crate::recent::Recent;
use crate::source_text::Texts;
use crate::wasm::WasmNames;
use place::Place;
use returns::return_address;

/// What the mappings of the process say of a pc.
pub trait NativeCode {
    /// Whether `pc` is in executable memory.
    fn is_executable(&mut self, pc: u64) -> bool;
    /// Whether `pc` is in the mapping of a file.
    fn is_native(&mut self, pc: u64) -> bool;
    /// Which state of the mappings that is: another number whenever other files are mapped.
    fn state(&self) -> u64;
    /// There was code that is not what the mappings say.
    fn doubt(&mut self);
    /// The frame of native code at `pc`.
    fn frame(&mut self, pc: u64, kind: PcKind) -> Frame;
}

/// Names the stacks of one process.
pub struct StackNames {
    js: JsNames,
    wasm: WasmNames,
    interpreter: Interpreter,
    builtin_code: FxHashMap<u64, Rc<[u8]>>,
    /// Of WebAssembly.
    scripts: Scripts,
    cache: Recent<PhysicalFrame, Named>,
    /// Counts the batches of samples.
    epoch: u64,
}

/// All that decides what a frame is called.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct PhysicalFrame {
    record: FrameRecord,
    pc: u64,
    /// Of the compiled code that `pc` is in, or the state of the mappings that say what
    /// else it is in.
    generation: u64,
}

/// The frames that a physical frame stands for, innermost first.
struct Named {
    frames: Box<[NamedId]>,
    /// Until which epoch that holds.
    until: u64,
}

/// What code is called that nothing describes (any more).
const UNNAMED_CODE: &str = "(unknown code)";

/// For how many batches a frame without its place is kept as it is: V8 may
/// tell the place later.
const RETRY_EPOCHS: u64 = 1;

/// What naming a stack needs besides the stack.
pub struct Context<'a> {
    /// The process.
    pub target: &'a Target,
    /// Its native code.
    pub native: &'a mut dyn NativeCode,
    /// Where frames are kept.
    pub frames: &'a mut NamedFrames,
}

impl StackNames {
    /// Nothing known yet of a process whose files are below `root`. What its scripts say
    /// of their source maps is read if they are wanted; so are their texts, if there is a
    /// place to keep them.
    pub fn new(
        root: Option<Arc<Root>>,
        with_maps: bool,
        texts: Option<Rc<RefCell<Texts>>>,
    ) -> StackNames {
        let scripts = Scripts::new(root.clone(), with_maps).with_texts(texts);
        StackNames {
            js: JsNames::new(scripts),
            scripts: Scripts::new(root, false),
            wasm: WasmNames::default(),
            interpreter: Interpreter::default(),
            builtin_code: FxHashMap::default(),
            cache: Recent::default(),
            epoch: 1,
        }
    }

    /// Begins another batch of samples; see [`JsNames::begin_batch`].
    pub fn begin_batch(&mut self, target: &Target) {
        self.js.begin_batch(target);
        self.epoch += 1;
    }

    /// How often so far a function was not to be read any more.
    pub fn missed(&self) -> u64 {
        self.js.missed()
    }

    /// Reads the functions of `sample` that are not known yet.
    pub fn meet(&mut self, target: &Target, sample: &RawSampleRef<'_>) {
        self.js.meet(target, sample);
    }

    /// Names the frames of `sample` in user mode, innermost first, into
    /// `frames`. Tells what the thread was in.
    pub fn name(
        &mut self,
        context: &mut Context<'_>,
        sample: &RawSampleRef<'_>,
        frames: &mut Vec<NamedId>,
    ) -> Mode {
        let Some((top, callers)) = sample.frames.split_first() else {
            return mode(sample, None, None);
        };
        let heap = Heap::new(&context.target.memory, &context.target.layout);
        self.js.of_sample(context.target, sample);
        self.wasm.meet(&heap, sample.frames, self.js.now());
        let mut named = Vec::new();
        self.js.of_frame(context.target, sample, 0);
        let top = &self.js.up_to_date(context.target, top);
        self.top(context.target, context.native, sample, top, &mut named);
        let place = self.place(context.target, context.native, top.pc);
        let mode = mode(sample, Some(place), named.first());
        let mut callers = callers;
        // A handler that may call has a frame of its own from its start on; as
        // long as it has not called, its interpreted frame's slot is behind.
        if let Some((first, others)) = callers.split_first()
            && let Place::Handler(_) = place
            && let Place::Interpreter = self.return_place(context.target, context.native, first.pc)
            && let Some(handler) = self.running_handler(context.target, top.pc)
        {
            self.js.of_frame(context.target, sample, 1);
            let first = &self.js.up_to_date(context.target, first);
            let offset = self.handled_offset(context.target, sample, first, handler);
            named.push(self.js.interpreted(context.target, first, offset));
            callers = others;
        }
        frames.extend(self.intern(context, named));
        let first = sample.frames.len() - callers.len();
        for (index, record) in callers.iter().enumerate() {
            self.js.of_frame(context.target, sample, first + index);
            self.cached_caller(context, record, frames);
        }
        mode
    }

    /// A caller's frame, named before or now.
    fn cached_caller(
        &mut self,
        context: &mut Context<'_>,
        record: &FrameRecord,
        frames: &mut Vec<NamedId>,
    ) {
        let pc = record.pc;
        let key = self.key(context, record, pc);
        if let Some(known) = self.cache.get(&key)
            && self.epoch <= known.until
        {
            frames.extend_from_slice(&known.frames);
            return;
        }
        let mut named = Vec::new();
        let record = &self.js.up_to_date(context.target, record);
        self.caller(context.target, context.native, record, pc, &mut named);
        let placed = |frame: &NamedFrame| match frame.kind {
            Kind::Js => frame.position.is_some(),
            Kind::Wasm => !crate::wasm::is_unknown(frame),
            _ => &*frame.function != UNNAMED_CODE,
        };
        let until = if named.iter().all(placed) {
            u64::MAX
        } else {
            self.epoch + RETRY_EPOCHS
        };
        // What its functions are called has been found out before, and is not to be read
        // any more: they have been moved since the tick.
        let before = named
            .iter()
            .any(|frame| js::is_unknown(frame))
            .then(|| self.cache.get(&key));
        let ids = match before.flatten() {
            Some(known) => known.frames.clone(),
            None => self.intern(context, named),
        };
        frames.extend_from_slice(&ids);
        self.cache.insert(key, Named { frames: ids, until });
    }

    /// Keeps `frames`. Those of WebAssembly are told where they are from, too.
    fn intern(&mut self, context: &mut Context<'_>, frames: Frames) -> Box<[NamedId]> {
        let scripts = &mut self.scripts;
        let frames = frames.into_iter().map(|frame| {
            let file = frame.file.as_ref().filter(|_| frame.kind == Kind::Wasm);
            let code = file.map(|file| GeneratedCode {
                script: scripts.get(file, None, None),
                text: None,
            });
            context.frames.intern(NamedFrame {
                code: code.or(frame.code),
                frame: frame.frame,
            })
        });
        frames.collect()
    }

    /// What decides how a caller's frame is called: not its slots that mean
    /// something else in code of its kind.
    fn key(&mut self, context: &mut Context<'_>, record: &FrameRecord, pc: u64) -> PhysicalFrame {
        let identity = FrameRecord {
            shared: record.shared,
            script: record.script,
            script_id: record.script_id,
            literal_id: record.literal_id,
            ..FrameRecord::default()
        };
        let before = pc.wrapping_sub(1);
        let (record, generation) = match self.return_place(context.target, context.native, pc) {
            Place::Handler(_) | Place::Builtin(_) | Place::Native => {
                (FrameRecord::default(), context.native.state())
            }
            Place::Interpreter => {
                let slots = FrameRecord {
                    context: u64::from(Tagged(record.context).is_heap_object()),
                    bytecode_array: record.bytecode_array,
                    bytecode_offset: record.bytecode_offset,
                    ..identity
                };
                (slots, 0)
            }
            Place::Compiled if Self::wasm_frame_type(context.target, record).is_some() => {
                let slots = FrameRecord {
                    context: record.context,
                    ..FrameRecord::default()
                };
                let code = self.wasm_code(context.target, before);
                (slots, code.map_or(0, |code| u64::from(code.generation)))
            }
            Place::Compiled => match self.js.code(context.target, before) {
                Some(code) if code.code.kind == CodeKind::Baseline => {
                    let slots = FrameRecord {
                        bytecode_array: record.bytecode_array,
                        ..identity
                    };
                    (slots, u64::from(code.generation))
                }
                Some(code) => (identity, u64::from(code.generation)),
                None => (identity, 0),
            },
        };
        PhysicalFrame {
            record,
            pc,
            generation,
        }
    }

    /// A frame that waits for a call to return to `pc`.
    fn caller(
        &mut self,
        target: &Target,
        native: &mut dyn NativeCode,
        record: &FrameRecord,
        pc: u64,
        frames: &mut Frames,
    ) {
        match self.return_place(target, native, pc) {
            Place::Interpreter if Tagged(record.context).is_heap_object() => {
                frames.push(self.js.interpreted(target, record, slot_offset(record)));
            }
            // It calls the runtime before it makes a function's frame.
            Place::Interpreter => {
                frames.push(Frame::new(Kind::Builtin, "InterpreterEntryTrampoline").into());
            }
            Place::Handler(name) | Place::Builtin(name) => {
                frames.push(self.js.builtin(target, record, name).into());
            }
            Place::Native => frames.push(native.frame(pc, PcKind::Return).into()),
            Place::Compiled => {
                if let Some(frame_type) = Self::wasm_frame_type(target, record) {
                    frames.extend(self.wasm_caller(target, frame_type, pc));
                } else if let Some(named) = self.js.compiled(target, record, pc, PcKind::Return) {
                    frames.extend(named);
                } else {
                    frames.push(self.of_lost_code(target, native, record));
                }
            }
        }
    }

    fn top(
        &mut self,
        target: &Target,
        native: &mut dyn NativeCode,
        sample: &RawSampleRef<'_>,
        record: &FrameRecord,
        frames: &mut Frames,
    ) {
        let pc = record.pc;
        match self.place(target, native, pc) {
            Place::Interpreter => match self.top_of_builtin(target, native, sample, pc) {
                // The frame of a stub has a marker there and no function: the
                // entry goes on to other code without a frame of its own.
                Top::Own | Top::Leaving { .. } if !Tagged(record.context).is_heap_object() => {}
                Top::Own | Top::Leaving { .. } => {
                    frames.push(self.js.interpreted(target, record, slot_offset(record)));
                }
                // Which function it is for is in a register only, as a pointer
                // that may be stale when it is read.
                Top::Entering => {}
                Top::Caller { return_address } => {
                    self.resume(target, native, record, return_address, frames);
                }
            },
            Place::Handler(name) => {
                frames.push(Frame::new(Kind::Builtin, name).into());
                if self.is_script_function(target, record) {
                    let handler = self.running_handler(target, pc);
                    let offset = handler
                        .and_then(|handler| self.handled_offset(target, sample, record, handler));
                    frames.push(self.js.interpreted(target, record, offset));
                }
            }
            Place::Builtin(name) => {
                frames.push(self.js.builtin(target, record, name).into());
                let top = self.top_of_builtin(target, native, sample, pc);
                if name.starts_with("BaselineOutOfLinePrologue")
                    && top == Top::Own
                    && sample.registers.rdi == record.function
                {
                    // It makes the frame of the baseline code that called it,
                    // for the function in `kJSFunctionRegister`.
                    frames.push(self.js.at_entry(target, record));
                } else if self.is_script_function(target, record) {
                    let caller = self.find_return(target, native, sample, record);
                    self.resume(target, native, record, caller, frames);
                } else if let Some(caller) = self.find_wasm_return(target, native, sample, record) {
                    self.resume(target, native, record, Some(caller), frames);
                }
            }
            Place::Native => {
                frames.push(native.frame(pc, PcKind::Own).into());
                // C++ without a frame, called by JavaScript directly. Its
                // frame could as well hold what only looks like a function,
                // so the call's return address must be there too.
                if self.is_script_function(target, record)
                    && let Some(caller) = self.find_return(target, native, sample, record)
                {
                    self.resume(target, native, record, Some(caller), frames);
                } else if let Some(caller) = self.find_wasm_return(target, native, sample, record) {
                    self.resume(target, native, record, Some(caller), frames);
                }
            }
            Place::Compiled => match self.wasm_code(target, pc) {
                Some(code) => self.top_of_wasm(target, native, sample, record, &code, frames),
                None => self.top_of_compiled(target, native, sample, record, frames),
            },
        }
    }

    fn top_of_compiled(
        &mut self,
        target: &Target,
        native: &mut dyn NativeCode,
        sample: &RawSampleRef<'_>,
        record: &FrameRecord,
        frames: &mut Frames,
    ) {
        let code = self.js.code(target, record.pc);
        // What has been put there since the tick did not run then.
        let Some(code) = code.filter(|code| code.has_run(record.pc, sample.code)) else {
            if !self.top_of_unknown(target, native, sample, record, frames) {
                frames.push(self.of_lost_code(target, native, record));
            }
            return;
        };
        if let CodeKind::Stub(name) = code.code.kind {
            self.top_of_stub(target, native, sample, record, name, frames);
            return;
        }
        // It has a frame of its own almost everywhere, and goes through it by ways that
        // only look like a function's end. What calls it has a frame, too.
        if code.code.kind == CodeKind::RegExp {
            frames.push(Frame::new(Kind::Pseudo, REGEXP).into());
            return;
        }
        let offset = (record.pc - code.code.start) as usize;
        let top = Top::of(&code.instructions, offset, sample);
        let entered = Entered {
            function: Tagged(sample.registers.rdi),
            just_now: matches!(top, Top::Entering | Top::Caller { .. }),
        };
        let mut top = settled(top, native);
        // Optimized code says whose it is: another function's frame it did not
        // make. Where that is the one it returns to, it has none yet. Else it
        // has been put there since the tick, and what ran is gone.
        if top == Top::Own && self.js.is_of_another(target, &code, record) {
            let return_address = return_address(sample, native);
            // Only TurboFan leaves out frames that it does not need.
            if code.code.kind != CodeKind::Turbofan
                || !return_address.is_some_and(|pc| self.returns_to(target, native, record, pc))
            {
                frames.push(self.of_lost_code(target, native, record));
                return;
            }
            top = Top::Caller { return_address };
        }
        match top {
            // Code whose frame has no function yet, or no more.
            Top::Own | Top::Leaving { .. }
                if matches!(code.code.kind, CodeKind::Baseline | CodeKind::Unoptimized)
                    && !self.is_script_function(target, record) =>
            {
                frames.extend(self.js.code_function(target, &code, record.pc, entered));
            }
            Top::Own | Top::Leaving { .. } => {
                match self.js.compiled(target, record, record.pc, PcKind::Own) {
                    Some(named) => frames.extend(named),
                    None => frames.push(self.of_lost_code(target, native, record)),
                }
            }
            Top::Entering => {
                frames.extend(self.js.code_function(target, &code, record.pc, entered));
            }
            Top::Caller { return_address } => {
                frames.extend(self.js.code_function(target, &code, record.pc, entered));
                self.resume(target, native, record, return_address, frames);
            }
        }
    }

    /// A stub or builtin of V8 before Ignition, which may have a frame of its
    /// own or none: then it is called by what made the first frame.
    fn top_of_stub(
        &mut self,
        target: &Target,
        native: &mut dyn NativeCode,
        sample: &RawSampleRef<'_>,
        record: &FrameRecord,
        name: &str,
        frames: &mut Frames,
    ) {
        frames.push(Frame::new(Kind::Builtin, name).into());
        if self.is_script_function(target, record) {
            let caller = self.find_return(target, native, sample, record);
            self.resume(target, native, record, caller, frames);
        }
    }

    /// The frame of `record`, whose pc is not the thread's but was found to be
    /// `return_address`.
    fn resume(
        &mut self,
        target: &Target,
        native: &mut dyn NativeCode,
        record: &FrameRecord,
        return_address: Option<u64>,
        frames: &mut Frames,
    ) {
        if let Some(pc) = return_address {
            self.caller(target, native, record, pc, frames);
        } else if self.is_script_function(target, record) {
            // Its function is certain; where in it is not.
            frames.push(self.js.function_of(target, record));
        }
    }

    /// Whether the slots of `record` name a function of a script.
    fn is_script_function(&mut self, target: &Target, record: &FrameRecord) -> bool {
        self.js
            .function(target, record)
            .is_some_and(|function| function.script.is_some())
    }

    /// The handler that the thread is in: what tells it from others.
    fn running_handler<'a>(&mut self, target: &'a Target, pc: u64) -> Option<RunningHandler<'a>> {
        if let Some(builtin) = target.builtins.at(pc) {
            return builtin.name.map(RunningHandler::Named);
        }
        let code = self.js.code(target, pc)?;
        Some(RunningHandler::At(code.code.start))
    }

    /// The offset of the bytecode whose handler runs on top of the interpreted
    /// frame of `record`.
    fn handled_offset(
        &mut self,
        target: &Target,
        sample: &RawSampleRef<'_>,
        record: &FrameRecord,
        handler: RunningHandler<'_>,
    ) -> Option<i64> {
        match self
            .interpreter
            .live_offset(target, sample, record, handler)
        {
            LiveOffset::InRegister(offset) => Some(offset),
            LiveOffset::InSlot => slot_offset(record),
            LiveOffset::Unknown => None,
        }
    }

    fn top_of_builtin(
        &mut self,
        target: &Target,
        native: &mut dyn NativeCode,
        sample: &RawSampleRef<'_>,
        pc: u64,
    ) -> Top {
        let Some(builtin) = target.builtins.at(pc) else {
            let Some(code) = self.js.code(target, pc) else {
                return Top::Own;
            };
            let offset = (pc - code.code.start) as usize;
            return settled(Top::of(&code.instructions, offset, sample), native);
        };
        let start = pc - builtin.offset;
        let code = self.builtin_code.entry(start).or_insert_with(|| {
            use nodetap_v8::Memory;
            let mut bytes = vec![0; 1024];
            match target.memory.read(start, &mut bytes) {
                Ok(()) => bytes.into(),
                Err(_) => Rc::from([]),
            }
        });
        settled(Top::of(code, (pc - start) as usize, sample), native)
    }
}

/// Decides what only looked like the end of a frame.
fn settled(top: Top, native: &mut dyn NativeCode) -> Top {
    match top {
        Top::Leaving { return_address } if native.is_executable(return_address) => Top::Caller {
            return_address: Some(return_address),
        },
        Top::Leaving { .. } => Top::Own,
        top => top,
    }
}

/// What the thread was in at the tick: `place` is what its pc is in, `top` the frame
/// that this was named.
fn mode(sample: &RawSampleRef<'_>, place: Option<Place<'_>>, top: Option<&NamedFrame>) -> Mode {
    if sample.in_kernel {
        return Mode::Kernel;
    }
    match place {
        // The interpreter is how bytecode runs.
        Some(Place::Interpreter | Place::Handler(_)) => Mode::JavaScript,
        Some(Place::Builtin(_)) => Mode::Builtin,
        Some(Place::Native) => Mode::Native,
        Some(Place::Compiled) => match top.map(|frame| frame.kind) {
            Some(Kind::Js | Kind::Wasm) => Mode::JavaScript,
            Some(Kind::Builtin) => Mode::Builtin,
            // Of a regular expression.
            Some(Kind::Pseudo) => Mode::Native,
            Some(Kind::Native | Kind::Kernel) | None => Mode::Unknown,
        },
        None => Mode::Unknown,
    }
}

/// Compiled code that V8 does not describe any more.
fn unnamed_code() -> NamedFrame {
    Frame::new(Kind::Native, UNNAMED_CODE).into()
}

/// The bytecode offset in a frame's slot: up to date where it called something.
fn slot_offset(record: &FrameRecord) -> Option<i64> {
    Tagged(record.bytecode_offset).to_smi().map(i64::from)
}
