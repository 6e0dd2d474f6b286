//! Which function a frame runs, and what it is called: read once, kept by
//! identity.

use std::collections::hash_map::Entry;
use std::rc::Rc;
use std::sync::Arc;

use nodetap_profile::Position;
use nodetap_sampler::raw::FrameRecord;
use nodetap_v8::{Error, FunctionId, Heap, LineColumn, Script, Tagged};
use rustc_hash::FxHashMap;

use crate::generated::{FunctionText, GeneratedScript, Scripts};
use crate::recent::Recent;
use crate::source_text::ScriptText;

use super::source_names::{can_be_called, can_be_first, is_only_comments};

/// A function as the walker saw it at the tick: addresses, which hold only
/// for that moment, and the ids that tell whether they still hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct FunctionKey {
    shared: Tagged,
    script: Tagged,
    id: FunctionId,
}

impl FunctionKey {
    /// The function of a frame; `None` where the walker read none.
    pub fn of_record(record: &FrameRecord) -> Option<FunctionKey> {
        let shared = Tagged(record.shared);
        let script = Tagged(record.script);
        (shared.is_heap_object() && script.is_heap_object()).then_some(FunctionKey {
            shared,
            script,
            id: FunctionId {
                script: record.script_id as i32,
                literal: record.literal_id as i32,
            },
        })
    }

    /// The function whose `SharedFunctionInfo` is at `shared` now; `None` for
    /// V8's builtins and API functions.
    ///
    /// # Errors
    /// Where there is none, or it cannot be read.
    pub fn at(heap: &Heap<'_>, shared: Tagged) -> Result<Option<FunctionKey>, Error> {
        let Some(id) = heap.function_id(shared)? else {
            return Ok(None);
        };
        let script = heap.script_of(shared)?;
        Ok(script.map(|script| FunctionKey { shared, script, id }))
    }

    /// The function of the `JSFunction` at `function` now, likewise.
    ///
    /// # Errors
    /// Where there is none, or it cannot be read.
    pub fn of_function(heap: &Heap<'_>, function: Tagged) -> Result<Option<FunctionKey>, Error> {
        FunctionKey::at(heap, heap.shared_of(function)?)
    }

    /// Its `SharedFunctionInfo`, as it was at the tick.
    pub fn shared(&self) -> Tagged {
        self.shared
    }

    /// What identifies the function.
    pub fn id(&self) -> FunctionId {
        self.id
    }
}

/// What is known of a function.
#[derive(Debug, PartialEq, Eq)]
pub struct FunctionInfo {
    /// What identifies it; `None` for V8's builtins and API functions.
    pub id: Option<FunctionId>,
    /// Its name, `(anonymous)` where V8 knows none.
    pub name: Arc<str>,
    /// Its script, likewise `None`.
    pub script: Option<Rc<ScriptInfo>>,
    /// Where it starts, in UTF-16 units from the script's start.
    pub start: Option<u32>,
    /// Where it ends there.
    pub end: Option<u32>,
    /// What of the script stands around its start, where that has a source map.
    pub text: Option<Arc<FunctionText>>,
}

impl FunctionInfo {
    /// The place of the UTF-16 unit at `offset` in its script. `None` where that
    /// is outside of the function: then it is not the function's own.
    pub fn locate(&self, offset: Option<u32>) -> Option<Position> {
        let offset = offset.filter(|&offset| self.has(offset))?;
        let LineColumn { line, column } = self.script.as_ref()?.script.locate(offset)?;
        Position::new(line, column)
    }

    /// Whether `other` starts and ends where this does.
    fn is_there(&self, other: &FunctionInfo) -> bool {
        self.script == other.script && (self.start, self.end) == (other.start, other.end)
    }

    /// Whether the UTF-16 unit at `offset` of its script can be in it.
    pub fn has(&self, offset: u32) -> bool {
        self.start.is_none_or(|start| start <= offset) && self.end.is_none_or(|end| offset <= end)
    }
}

/// A script.
#[derive(Debug)]
pub struct ScriptInfo {
    script: Script,
    /// The same for those who look up what it was made of.
    pub generated: Arc<GeneratedScript>,
}

impl PartialEq for ScriptInfo {
    fn eq(&self, other: &ScriptInfo) -> bool {
        Arc::ptr_eq(&self.generated, &other.generated) && self.script == other.script
    }
}

impl Eq for ScriptInfo {}

impl ScriptInfo {
    /// Whether it is V8's own.
    pub fn is_native(&self) -> bool {
        self.script.is_native
    }
}

/// How often a function is tried to be read.
const MAX_FAILURES: u32 = 3;

/// How many UTF-16 units before a function are looked at for its name.
const BEFORE: u32 = 64;

/// How many from its start on, where it may have had another name.
const AFTER: u32 = 64;

/// How many behind what is all of a script are looked at for comments.
const BEHIND: u32 = 4096;

/// The functions and scripts read so far.
#[derive(Default)]
pub struct Functions {
    /// What scripts are the same.
    generated: Scripts,
    functions: Recent<FunctionKey, Rc<FunctionInfo>>,
    /// The same by what identifies them, for each thread: what the collector has
    /// moved since the tick has been read before, mostly. Each isolate counts its
    /// scripts, and a thread runs one; `None` where it proves to run several.
    by_id: FxHashMap<(u32, FunctionId), Option<Rc<FunctionInfo>>>,
    /// The thread whose functions are asked for.
    thread: u32,
    late: bool,
    /// How often reading a function has failed.
    failures: Recent<FunctionKey, u32>,
    scripts: FxHashMap<(Tagged, i32), Rc<ScriptInfo>>,
    /// How often a function was tried to be read and was not to be.
    missed: u64,
    /// Whether strings have proved to lie in memory as the layout says.
    knows_strings: bool,
}

impl Functions {
    /// None yet of a process whose scripts are `generated`.
    pub fn new(generated: Scripts) -> Functions {
        Functions {
            generated,
            ..Functions::default()
        }
    }

    /// The function of `key`, if what stands at its address still is it.
    pub fn get(&mut self, heap: &Heap<'_>, key: FunctionKey) -> Option<Rc<FunctionInfo>> {
        if let Some(known) = self.functions.get(&key) {
            return Some(known.clone());
        }
        let known = self.by_id.get(&(self.thread, key.id));
        let known = known.and_then(|known| known.clone());
        // The first reading may have hit it while it was being moved.
        if self.is_given_up(key) || self.late {
            return known;
        }
        let read = self
            .read(heap, key)
            .or_else(|error| self.read_moved(heap, key).ok_or(error));
        match read {
            Ok(info) => {
                let info = self.remember(info);
                self.functions.insert(key, info.clone());
                Some(info)
            }
            Err(error) => {
                tracing::debug!(?key, %error, "function not read");
                self.missed += u64::from(known.is_none());
                let failures = self.failures.peek(&key).copied().unwrap_or(0);
                self.failures.insert(key, failures + 1);
                known
            }
        }
    }

    /// Whether the function of `key` has been read, or is one that was read before.
    pub fn is_known(&self, key: FunctionKey) -> bool {
        self.functions.peek(&key).is_some()
            || matches!(self.by_id.get(&(self.thread, key.id)), Some(Some(_)))
    }

    /// From here on the functions of `thread` are asked for. Where it is too `late`,
    /// those are told that are known, and none is read.
    pub fn of_thread(&mut self, thread: u32, late: bool) {
        self.thread = thread;
        self.late = late;
    }

    /// `info`, or the same as it was read before.
    fn remember(&mut self, info: FunctionInfo) -> Rc<FunctionInfo> {
        let Some(id) = info.id else {
            return Rc::new(info);
        };
        match self.by_id.entry((self.thread, id)) {
            Entry::Occupied(mut entry) => match entry.get() {
                Some(known) if **known == info => known.clone(),
                known => {
                    // V8 may have found a better name since.
                    let renamed = known.as_ref().is_some_and(|known| known.is_there(&info));
                    let info = Rc::new(info);
                    entry.insert(renamed.then(|| info.clone()));
                    info
                }
            },
            Entry::Vacant(entry) => {
                let info = Rc::new(info);
                entry.insert(Some(info.clone()));
                info
            }
        }
    }

    fn is_given_up(&self, key: FunctionKey) -> bool {
        self.failures
            .peek(&key)
            .is_some_and(|&failures| failures >= MAX_FAILURES)
    }

    /// How often so far a function was not to be read.
    pub fn missed(&self) -> u64 {
        self.missed
    }

    /// The function whose `SharedFunctionInfo` is at `shared` now; `None` for
    /// V8's builtins and API functions.
    ///
    /// # Errors
    /// Where there is none, or it cannot be read.
    pub fn at(
        &mut self,
        heap: &Heap<'_>,
        shared: Tagged,
    ) -> Result<Option<Rc<FunctionInfo>>, Error> {
        let Some(key) = FunctionKey::at(heap, shared)? else {
            return Ok(None);
        };
        let function = self.get(heap, key);
        Ok(Some(function.ok_or(Error::Unbelievable(
            "a function that cannot be read",
        ))?))
    }

    /// The function of `key` from where it has been moved to since the tick.
    fn read_moved(&mut self, heap: &Heap<'_>, key: FunctionKey) -> Option<FunctionInfo> {
        let moved = FunctionKey::at(heap, heap.forwarded(key.shared)?).ok()??;
        if moved.id != key.id {
            return None;
        }
        self.read(heap, moved).ok()
    }

    /// `record`, with what its frame says now where what it said at the tick
    /// has been moved since: the collector keeps the slots of frames up to
    /// date. If the frame is not there any more, or is another function's,
    /// `record` as it is.
    pub fn up_to_date(&self, heap: &Heap<'_>, record: &FrameRecord) -> FrameRecord {
        match FunctionKey::of_record(record) {
            Some(key)
                if !self.late && self.functions.peek(&key).is_none() && !self.is_given_up(key) =>
            {
                // Most have not been moved.
                if heap.function_id(key.shared) == Ok(Some(key.id)) {
                    *record
                } else {
                    self.in_frame_now(heap, record, key).unwrap_or(*record)
                }
            }
            _ => *record,
        }
    }

    fn in_frame_now(
        &self,
        heap: &Heap<'_>,
        record: &FrameRecord,
        key: FunctionKey,
    ) -> Option<FrameRecord> {
        let slot = |offset: i32| heap.tagged(record.fp.wrapping_add_signed(offset.into()));
        let function = slot(heap.layout.frame.function).ok()?;
        let now = FunctionKey::of_function(heap, function).ok()??;
        (now.id == key.id).then_some(FrameRecord {
            function: function.0,
            shared: now.shared.0,
            script: now.script.0,
            ..*record
        })
    }

    fn read(&mut self, heap: &Heap<'_>, key: FunctionKey) -> Result<FunctionInfo, Error> {
        let function = heap.function(key.shared)?;
        let Some(script) = function.script else {
            return Ok(FunctionInfo {
                id: None,
                name: name_or_anonymous(function.name),
                script: None,
                start: None,
                end: None,
                text: None,
            });
        };
        let at = script;
        let script = self.script(heap, at, key.id.script)?;
        // Last: all of the above was read while the program ran. It is the
        // function of the tick if its identity is, now that it has been read.
        if heap.function_id(key.shared)? != Some(key.id) || heap.function(key.shared)? != function {
            return Err(Error::Unbelievable("another function by now"));
        }
        // Of a function that nobody has any more the collector may have taken the
        // strings already. Before Ignition every script has its source.
        let end = function.end_position.or(function.start_position);
        let is_in_script = match (end, script.script.end()) {
            (Some(function), Some(script)) => function <= script,
            (Some(_), None) => heap.layout.code.has_bytecode || script.script.is_native,
            (None, _) => true,
        };
        if !is_in_script {
            self.scripts.remove(&(at, key.id.script));
            return Err(Error::Unbelievable("a function outside of its script"));
        }
        // What V8 wrote itself it has given other names.
        if let Some(start) = function.start_position
            && !script.is_native()
            && let Some(up_to) = heap.source_before(at, start.saturating_add(1), BEFORE)
            && !can_be_called(&up_to, &function.name)
        {
            return Err(Error::Unbelievable("another's name, or another's place"));
        }
        if let Some((start, end)) = function.start_position.zip(function.end_position) {
            if start > end {
                return Err(Error::Unbelievable("a function that ends before it starts"));
            }
            // Of what Node.js 10 gave a module's parameters the last character is missing.
            // And so is a comment at its end.
            let only_comments_follow = |last: u32| {
                let until = end.saturating_add(BEHIND).min(last);
                let rest = heap.source_before(at, until, until - end);
                rest.is_some_and(|rest| is_only_comments(&rest))
            };
            if start == 0
                && let Some(last) = script.script.end()
                && end + 1 < last
                && !only_comments_follow(last)
                && let Some(head) = heap.source_before(at, BEFORE, BEFORE)
                && !can_be_first(&head)
            {
                return Err(Error::Unbelievable("a part of a script in place of all"));
            }
        }
        let text = match script.generated.map {
            Some(_) => text_around(heap, at, &function),
            None => None,
        };
        Ok(FunctionInfo {
            id: Some(key.id),
            name: name_or_anonymous(function.name),
            script: Some(script),
            start: function.start_position,
            end: function.end_position,
            text,
        })
    }

    fn script(
        &mut self,
        heap: &Heap<'_>,
        script: Tagged,
        id: i32,
    ) -> Result<Rc<ScriptInfo>, Error> {
        if let Some(known) = self.scripts.get(&(script, id)) {
            return Ok(known.clone());
        }
        let knows_strings = match self.knows_strings {
            true => Some(true),
            false => heap.knows_strings(script)?,
        };
        let mut read = heap.script(script, self.generated.keeps_texts())?;
        if read.id != id {
            return Err(Error::Unbelievable("another script by now"));
        }
        if knows_strings == Some(false) {
            return Err(Error::Unbelievable("strings that are laid out otherwise"));
        }
        self.knows_strings = knows_strings == Some(true);
        let map = read.source_map.take();
        let text = read.source.take();
        let text = text.map(|units| ScriptText::new(units, read.lines.clone()));
        let info = Rc::new(ScriptInfo {
            generated: self.generated.get(&read.name, map, text),
            script: read,
        });
        self.scripts.insert((script, id), info.clone());
        Ok(info)
    }
}

/// What stands around the start of `function` in `script`.
fn text_around(
    heap: &Heap<'_>,
    script: Tagged,
    function: &nodetap_v8::Function,
) -> Option<Arc<FunctionText>> {
    let (start, end) = function.start_position.zip(function.end_position)?;
    let until = start.saturating_add(AFTER).min(end);
    let from = start.saturating_sub(BEFORE);
    let mut before = heap.source_before(script, until, until.checked_sub(from)?)?;
    let after = before.split_off(before.len().min((start - from) as usize));
    Some(Arc::new(FunctionText { before, after }))
}

fn name_or_anonymous(name: String) -> Arc<str> {
    if name.is_empty() {
        "(anonymous)".into()
    } else {
        name.into()
    }
}
