//! What a pc is in.

use nodetap_sampler::target::Target;
use nodetap_v8::code::CodeKind;

use super::{NativeCode, StackNames};

/// What a pc is in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place<'a> {
    /// The code that interpreted frames return to.
    Interpreter,
    /// A bytecode's handler.
    Handler(&'a str),
    /// Another of V8's builtins.
    Builtin(&'a str),
    /// A mapped file: C++ and C.
    Native,
    /// Memory that belongs to no file: compiled by V8, presumably.
    Compiled,
}

/// What a builtin is called whose name the binary does not tell.
const BUILTIN: &str = "(builtin)";
/// What bytecode handlers are called that have no name.
const HANDLER: &str = "BytecodeHandler";

impl StackNames {
    /// What `pc` is in.
    pub(super) fn place<'a>(
        &mut self,
        target: &'a Target,
        native: &mut dyn NativeCode,
        pc: u64,
    ) -> Place<'a> {
        if let Some(place) = builtin_place(target, pc) {
            return place;
        }
        if target.code.contains(&pc) {
            return Place::Native;
        }
        if !native.is_native(pc) {
            return self.place_on_heap(target, pc);
        }
        // Of a library, or a copy of the builtins that a new worker brought.
        let state = native.state();
        target.builtins.follow(&target.memory, state, false);
        builtin_place(target, pc).unwrap_or(Place::Native)
    }

    /// What the return address `pc` is in. The call may be the last instruction of its
    /// function; but frames that the deoptimizer made go on at the very first one of a
    /// builtin (`Deoptimizer::DoComputeUnoptimizedFrame` and `…BuiltinContinuation` in
    /// `src/deoptimizer/deoptimizer.cc`).
    pub(super) fn return_place<'a>(
        &mut self,
        target: &'a Target,
        native: &mut dyn NativeCode,
        pc: u64,
    ) -> Place<'a> {
        let before = self.place(target, native, pc.wrapping_sub(1));
        let may_be_first = match before {
            Place::Handler(_) | Place::Builtin(_) => true,
            // Before V8 7 builtins are on the heap, among all other code.
            Place::Compiled => target.layout.code.builtin_index.is_some(),
            Place::Interpreter | Place::Native => false,
        };
        if may_be_first {
            match self.place(target, native, pc) {
                Place::Interpreter => return Place::Interpreter,
                Place::Builtin(name) if name.starts_with("ContinueTo") => {
                    return Place::Builtin(name);
                }
                _ => {}
            }
        }
        before
    }

    /// The same as [`place`](Self::place) for a `pc` in no file: before V8 7 builtins and handlers are on
    /// the heap, too.
    fn place_on_heap<'a>(&mut self, target: &'a Target, pc: u64) -> Place<'a> {
        if target.layout.code.builtin_index.is_none() {
            return Place::Compiled;
        }
        let code = self.js.code(target, pc);
        match code.map(|code| code.code.kind) {
            Some(CodeKind::Handler) => Place::Handler(HANDLER),
            Some(CodeKind::Builtin(number)) => match target.builtins.numbered(number) {
                // In place of a handler that is not loaded yet.
                Some(name) if name.starts_with("DeserializeLazy") => Place::Handler(name),
                Some(name) if is_interpreter_entry(name) => Place::Interpreter,
                Some(name) => Place::Builtin(name),
                None => Place::Builtin(BUILTIN),
            },
            Some(CodeKind::Stub(name)) => Place::Builtin(name),
            _ => Place::Compiled,
        }
    }
}

fn builtin_place(target: &Target, pc: u64) -> Option<Place<'_>> {
    let builtin = target.builtins.at(pc)?;
    Some(match builtin.name {
        Some(name) if is_interpreter_entry(name) => Place::Interpreter,
        Some(name) if name.ends_with("Handler") => Place::Handler(name),
        Some(name) => Place::Builtin(name),
        None => Place::Builtin(BUILTIN),
    })
}

/// The builtins that interpreted frames are frames of
/// (`IsInterpreterFramePc` in `src/execution/frames.cc`).
fn is_interpreter_entry(name: &str) -> bool {
    name.starts_with("InterpreterEntryTrampoline")
        || matches!(
            name,
            "InterpreterEnterBytecodeAdvance"
                | "InterpreterEnterBytecodeDispatch"
                | "InterpreterEnterAtBytecode"
                | "InterpreterEnterAtNextBytecode"
                | "BaselineOrInterpreterEnterAtBytecode"
                | "BaselineOrInterpreterEnterAtNextBytecode"
        )
}
