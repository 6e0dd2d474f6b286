//! Code of Crankshaft's, before Ignition: which functions are active at a pc
//! in it.
//!
//! A call's return address has a deoptimization entry, which tells it as V8's
//! own stack traces do (`OptimizedFrame::Summarize` in `src/frames.cc`). Other
//! pcs are told by the entries around them: [`place`].

mod anchors;
pub(super) mod graph;
mod labels;
mod place;
mod unoptimized;

use std::cell::{Cell, OnceCell, RefCell};
use std::collections::BTreeSet;
use std::rc::Rc;

use nodetap_profile::Position;
use nodetap_v8::code::Code;
use nodetap_v8::crankshaft::DeoptimizationInput;
use nodetap_v8::crankshaft::relocation::{CodePosition, position_before};
use nodetap_v8::crankshaft::safepoints::CallSite;
use nodetap_v8::crankshaft::translation::{FunctionLiteral, JavaScriptFrame};
use nodetap_v8::{Error, FunctionId, Heap, Tagged};
use rustc_hash::{FxHashMap, FxHashSet};

use super::PcKind;
use super::active::ActiveFunction;
use super::functions::{FunctionInfo, FunctionKey, Functions};
use anchors::Anchors;
use graph::{Graph, Index};
use labels::Labels;
use place::{Surroundings, SyntaxTrees};
use unoptimized::Unoptimized;

/// Bytes of the jump to an entry of the deoptimizer
/// (`Deoptimizer::table_entry_size_` in `src/x64/deoptimizer-x64.cc`).
const DEOPTIMIZER_ENTRY: u64 = 10;

/// How often the inlined functions are tried to be read.
const MAX_ATTEMPTS: u32 = 4;

/// The functions that are active at one place, innermost first.
type Stack = Rc<[ActiveFunction]>;

/// A function in the code, and what its unoptimized code tells.
#[derive(Clone, Debug)]
pub struct KnownFunction {
    info: Rc<FunctionInfo>,
    tree: Rc<Unoptimized>,
}

/// What is known of a piece of optimized code.
#[derive(Debug)]
pub struct CrankshaftCode {
    input: DeoptimizationInput,
    inlined: RefCell<FxHashMap<u32, KnownFunction>>,
    /// How often these were read.
    attempts: Cell<u32>,
    calls: Vec<CallSite>,
    /// Where its instructions end.
    end: u32,
    is_turbofanned: bool,
    /// Source positions of its own, as far as they can be believed.
    positions: Vec<CodePosition>,
    anchors: OnceCell<Anchors>,
    labels: OnceCell<Labels>,
    chains: OnceCell<FxHashSet<Vec<FunctionLiteral>>>,
    /// The function that the code was compiled for, where the code tells.
    pub function: Option<FunctionId>,
    /// The functions whose frames were seen to run this code.
    own: RefCell<FxHashMap<FunctionId, KnownFunction>>,
    /// What was found before.
    active: RefCell<FxHashMap<(FunctionId, u32, PcKind), Stack>>,
}

impl CrankshaftCode {
    /// Reads what describes `code`.
    ///
    /// # Errors
    /// Where it cannot be read.
    pub fn read(
        heap: &Heap<'_>,
        functions: &mut Functions,
        code: &Code,
    ) -> Result<CrankshaftCode, Error> {
        let input = heap.deoptimization_input(code)?;
        let end = heap.safepoint_table_offset(code)?;
        let is_turbofanned = heap.is_turbofanned(code)?;
        let positions = match is_turbofanned || heap.crankshaft()?.optimized_positions {
            true => heap.relocated_positions(code),
            false => Ok(Vec::new()),
        };
        let read = CrankshaftCode {
            inlined: RefCell::default(),
            attempts: Cell::new(0),
            calls: heap.call_sites(code, end)?,
            end,
            is_turbofanned,
            positions: positions.unwrap_or_else(|error| {
                tracing::debug!(?code, %error, "positions not read");
                Vec::new()
            }),
            anchors: OnceCell::new(),
            labels: OnceCell::new(),
            chains: OnceCell::new(),
            function: match input.shared {
                Some(shared) => heap.function_id(shared)?,
                None => None,
            },
            input,
            own: RefCell::default(),
            active: RefCell::default(),
        };
        read.complete(heap, functions, code);
        Ok(read)
    }

    /// Reads the inlined functions that are not known yet. The garbage
    /// collector may be moving them while they are read.
    fn complete(&self, heap: &Heap<'_>, functions: &mut Functions, code: &Code) {
        let mut inlined = self.inlined.borrow_mut();
        if inlined.len() == self.input.inlined_functions().count()
            || self.attempts.get() >= MAX_ATTEMPTS
        {
            return;
        }
        self.attempts.set(self.attempts.get() + 1);
        let Ok(now) = heap.deoptimization_input(code) else {
            return;
        };
        for (index, function) in now.inlined_functions() {
            if inlined.contains_key(&index) {
                continue;
            }
            let known = heap
                .shared_of(function)
                .or(Ok(function))
                .and_then(|shared| KnownFunction::read(heap, functions, shared));
            match known {
                Ok(known) => {
                    inlined.insert(index, known);
                }
                Err(error) => tracing::debug!(?code, index, %error, "inlined function not read"),
            }
        }
    }

    /// The functions that are active at `offset` of `code`, innermost first,
    /// as far as they are certain; the last is the one of `key`, whose frame it
    /// is. Empty where the code is another function's. `instructions` are those of
    /// `code`.
    pub fn active(
        &self,
        heap: &Heap<'_>,
        functions: &mut Functions,
        key: FunctionKey,
        (code, instructions): (&Code, &[u8]),
        (offset, kind): (u32, PcKind),
    ) -> Stack {
        let Some(own) = self.own(heap, functions, key) else {
            return Rc::new([]);
        };
        let place = (key.id(), offset, kind);
        if let Some(known) = self.active.borrow().get(&place) {
            return known.clone();
        }
        self.complete(heap, functions, code);
        let inlined = self.inlined.borrow();
        let trees = Trees {
            own: &own,
            inlined: &inlined,
        };
        let call = self.call(offset, kind);
        let found = match call {
            Some(CallSite {
                entry: Some(entry), ..
            }) => self.at_entry(&trees, entry),
            _ if self.is_turbofanned => None,
            _ => {
                let at = match kind {
                    PcKind::Return => offset.saturating_sub(1),
                    PcKind::Own => offset,
                };
                self.between_entries(heap, &trees, code, instructions, at)
            }
        };
        let mut active = found.unwrap_or_else(|| {
            // What TurboFan compiled ahead of time is never deoptimized.
            let position = call
                .filter(|_| self.is_turbofanned)
                .and_then(|_| position_before(&self.positions, offset));
            vec![ActiveFunction::new(own.info.clone(), position)]
        });
        active.reverse();
        let active: Stack = active.into();
        let is_complete = inlined.len() == self.input.inlined_functions().count()
            && self.own.borrow().contains_key(&key.id());
        if is_complete || self.attempts.get() >= MAX_ATTEMPTS {
            self.active.borrow_mut().insert(place, active.clone());
        }
        active
    }

    /// The function of `key`, if it is the one that the code was compiled for
    /// as far as can be told.
    fn own(
        &self,
        heap: &Heap<'_>,
        functions: &mut Functions,
        key: FunctionKey,
    ) -> Option<KnownFunction> {
        if self.function.is_some_and(|function| function != key.id()) {
            return None;
        }
        if let Some(own) = self.own.borrow().get(&key.id()) {
            return Some(own.clone());
        }
        let info = functions.get(heap, key)?;
        let read = Unoptimized::read(heap, key.shared());
        // The function may have been moved meanwhile.
        if heap.function_id(key.shared()) != Ok(Some(key.id())) {
            return None;
        }
        match read {
            Ok(tree) => {
                let tree = Rc::new(tree);
                let own = KnownFunction { info, tree };
                self.own.borrow_mut().insert(key.id(), own.clone());
                Some(own)
            }
            Err(error) => {
                tracing::debug!(?key, %error, "unoptimized code not read");
                let tree = Rc::default();
                Some(KnownFunction { info, tree })
            }
        }
    }

    /// Whether a call of `entered`, the function of `key`, runs this code.
    pub fn is_called_by(
        &self,
        heap: &Heap<'_>,
        code: &Code,
        entered: Tagged,
        key: FunctionKey,
    ) -> bool {
        match self.function {
            Some(function) => function == key.id(),
            None => heap.code_entry(entered) == Ok(code.start),
        }
    }

    /// Whether there is a call that returns to `offset`: the collector must know
    /// of every one.
    pub fn returns_to(&self, offset: u32) -> bool {
        self.call(offset, PcKind::Return).is_some()
    }

    /// The call that returns to `offset`.
    fn call(&self, offset: u32, kind: PcKind) -> Option<CallSite> {
        let is_at = |call: &&CallSite| kind == PcKind::Return && call.pc == offset;
        self.calls.iter().find(is_at).copied()
    }

    /// The functions that are active at the place of `entry`, outermost first.
    /// `None` where one of them is not known.
    fn at_entry(&self, trees: &Trees<'_>, entry: u32) -> Option<Vec<ActiveFunction>> {
        let frames = place::frames(&self.input, entry)?;
        let frames = frames.iter().map(|frame| trees.active(frame));
        frames.collect()
    }

    fn between_entries(
        &self,
        heap: &Heap<'_>,
        trees: &Trees<'_>,
        code: &Code,
        instructions: &[u8],
        at: u32,
    ) -> Option<Vec<ActiveFunction>> {
        let anchors = self
            .anchors
            .get_or_init(|| self.follow(heap, code, instructions));
        let index = anchors.graph.at(at)?;
        let (frames, line) = match anchors.graph.exit(index) {
            // On the way to the deoptimizer.
            Some(entry) => (place::frames(&self.input, entry)?, None),
            None => {
                let surroundings = Surroundings {
                    anchors,
                    input: &self.input,
                    trees,
                };
                let place = surroundings.place(index)?;
                (place.frames, place.line)
            }
        };
        let active = frames.iter().map(|frame| trees.active(frame));
        let mut active: Vec<ActiveFunction> = active.collect::<Option<_>>()?;
        let mut line = line;
        let mut deeper = Vec::new();
        if let Some((function, label)) = self.labelled(&anchors.graph, trees, index) {
            if trees.is_same(function, frames.last()?.function) {
                line = line.or(Some(label));
            } else if let Some(calls) = self.calls(trees, &frames, function) {
                deeper = calls;
                deeper.last_mut()?.position = Position::new(label, 0);
            }
        }
        active.last_mut()?.position = line.and_then(|line| Position::new(line, 0));
        active.extend(deeper);
        Some(active)
    }

    /// The function and the line that the source positions around `index` tell
    /// of it.
    fn labelled(
        &self,
        graph: &Graph,
        trees: &Trees<'_>,
        index: Index,
    ) -> Option<(FunctionLiteral, u32)> {
        // A position of a function that is not known would seem another's.
        if trees.inlined.len() != self.input.inlined_functions().count() {
            return None;
        }
        let labels = self
            .labels
            .get_or_init(|| Labels::new(graph, &self.positions));
        let place = |label: u32| {
            let function = trees.with(label)?;
            let info = &trees.function(function)?.info;
            Some((function, info.locate(Some(label))?.line.get()))
        };
        if let Some(own) = labels.own(index) {
            return place(own);
        }
        let mut covering = labels.covering(graph, index).into_iter().map(place);
        let first = covering.next()?;
        if covering.any(|other| other != first) {
            return None;
        }
        let mut following = labels.following(graph, index).into_iter().map(place);
        following.find(|next| *next == first)?
    }

    /// The inlined functions between the innermost of `frames` and `callee`,
    /// this one included; where in them is not known. `None` where other ways
    /// may lead to it.
    fn calls(
        &self,
        trees: &Trees<'_>,
        frames: &[JavaScriptFrame],
        callee: FunctionLiteral,
    ) -> Option<Vec<ActiveFunction>> {
        if frames
            .iter()
            .any(|frame| trees.is_same(frame.function, callee))
        {
            return None;
        }
        let callers: Vec<_> = frames.iter().map(|frame| frame.function).collect();
        let mut ways = self.chains().iter().filter_map(|chain| {
            let way = chain.strip_prefix(callers.as_slice())?;
            let end = way.iter().position(|&function| function == callee)?;
            Some(&way[..=end])
        });
        let way = match ways.next() {
            Some(way) => ways.all(|other| other == way).then_some(way)?,
            // Nothing in it can be deoptimized; there is no other to call it.
            None if trees.inlined.len() == 1 && frames.len() == 1 => &[callee],
            None => return None,
        };
        let called = |&literal| {
            let info = trees.function(literal)?.info.clone();
            Some(ActiveFunction::new(info, None))
        };
        way.iter().map(called).collect()
    }

    /// Which functions call each other in the code, outermost first, as its
    /// deoptimization entries have it.
    fn chains(&self) -> &FxHashSet<Vec<FunctionLiteral>> {
        self.chains.get_or_init(|| {
            let entries = 0..self.input.entries() as u32;
            let frames = entries.filter_map(|entry| place::frames(&self.input, entry));
            frames
                .map(|frames| frames.iter().map(|frame| frame.function).collect())
                .collect()
        })
    }

    fn follow(&self, heap: &Heap<'_>, code: &Code, instructions: &[u8]) -> Anchors {
        let end = instructions.len().min(self.end as usize);
        let returns = self.calls.iter().map(|call| call.pc);
        let entries = [0].into_iter().chain(self.input.osr_entry).chain(returns);
        let mut exits = FxHashMap::default();
        let exit = |target| {
            let count = self.input.entries();
            *exits
                .entry(target)
                .or_insert_with(|| deoptimizer_entry(heap, target, count))
        };
        let graph = Graph::new(code.start, &instructions[..end], entries, exit);
        Anchors::new(graph, &self.calls)
    }
}

impl KnownFunction {
    fn read(
        heap: &Heap<'_>,
        functions: &mut Functions,
        shared: Tagged,
    ) -> Result<KnownFunction, Error> {
        let info = functions.at(heap, shared)?;
        let info = info.ok_or(Error::Unbelievable("a function without script"))?;
        let tree = Rc::new(Unoptimized::read(heap, shared)?);
        // All was read while the program ran.
        if heap.function_id(shared)? != info.id {
            return Err(Error::Unbelievable("another function by now"));
        }
        Ok(KnownFunction { info, tree })
    }
}

/// The functions in a piece of code.
struct Trees<'a> {
    own: &'a KnownFunction,
    inlined: &'a FxHashMap<u32, KnownFunction>,
}

impl<'a> Trees<'a> {
    fn function(&self, literal: FunctionLiteral) -> Option<&'a KnownFunction> {
        match literal {
            FunctionLiteral::Own => Some(self.own),
            FunctionLiteral::Index(index) => self.inlined.get(&index),
        }
    }

    fn is_same(&self, one: FunctionLiteral, other: FunctionLiteral) -> bool {
        let [one, other] = [one, other].map(|literal| self.function(literal));
        one.zip(other)
            .is_some_and(|(one, other)| Rc::ptr_eq(&one.info, &other.info))
    }

    /// The innermost function that `position` is in. `None` where they may be
    /// of different scripts: positions do not tell which.
    fn with(&self, position: u32) -> Option<FunctionLiteral> {
        let inlined = self.inlined.keys().copied().map(FunctionLiteral::Index);
        let all = std::iter::once(FunctionLiteral::Own).chain(inlined);
        let mut having: Vec<_> = all
            .filter_map(|literal| {
                let function = self.function(literal)?;
                let range = function.info.start?..=function.tree.last_position()?;
                let is_in = range.contains(&position);
                is_in.then(|| (range.end() - range.start(), literal, function))
            })
            .collect();
        having.sort_by_key(|&(length, ..)| length);
        let &(length, literal, innermost) = having.first()?;
        let is_clear = |&(other_length, _, other): &(u32, FunctionLiteral, &KnownFunction)| {
            let same = match (&innermost.info.script, &other.info.script) {
                (Some(one), Some(other)) => Rc::ptr_eq(one, other),
                _ => false,
            };
            // The code's own function may have been inlined into itself.
            same && (other_length > length || Rc::ptr_eq(&innermost.info, &other.info))
        };
        having[1..].iter().all(is_clear).then_some(literal)
    }

    /// The function of `frame` at its node.
    fn active(&self, frame: &JavaScriptFrame) -> Option<ActiveFunction> {
        let function = self.function(frame.function)?;
        let position = frame.ast_id.and_then(|id| function.tree.position(id));
        Some(ActiveFunction::new(function.info.clone(), position))
    }
}

impl SyntaxTrees for Trees<'_> {
    fn leads(&self, function: FunctionLiteral, from: Option<i32>, to: Option<i32>) -> bool {
        let (Some(from), Some(to)) = (from, to) else {
            return false;
        };
        let function = self.function(function);
        function.is_some_and(|function| function.tree.leads(from, to))
    }

    fn lines(
        &self,
        function: FunctionLiteral,
        from: Option<i32>,
        to: Option<i32>,
    ) -> Option<BTreeSet<u32>> {
        let KnownFunction { info, tree } = self.function(function)?;
        let positions = tree.between(from?, to?)?;
        let line = |position| Some(info.locate(Some(position))?.line.get());
        positions.into_iter().map(line).collect()
    }
}

/// The deoptimization entry that the deoptimizer is told at `address`: it has
/// a table of pieces of code that push their own number and jump
/// (`Deoptimizer::TableEntryGenerator::GeneratePrologue`).
fn deoptimizer_entry(heap: &Heap<'_>, address: u64, count: usize) -> Option<u32> {
    const PUSH: u8 = 0x68;
    const JMP: u8 = 0xe9;
    let pushed = |address: u64| {
        let bytes = heap.memory.bytes(address, 6).ok()?;
        let number = u32::from_le_bytes(bytes[1..5].try_into().ok()?);
        (bytes[0] == PUSH && bytes[5] == JMP).then_some(number)
    };
    let entry = pushed(address).filter(|&entry| (entry as usize) < count)?;
    // Its neighbor has the next number.
    let neighbor = match entry.checked_sub(1) {
        Some(previous) => pushed(address.wrapping_sub(DEOPTIMIZER_ENTRY)) == Some(previous),
        None => pushed(address.wrapping_add(DEOPTIMIZER_ENTRY)) == Some(1),
    };
    neighbor.then_some(entry)
}
