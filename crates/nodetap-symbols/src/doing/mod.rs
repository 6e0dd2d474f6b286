//! What the top of a stack was doing, told from the names of the functions there.
//!
//! Only a function that says so decides: what no function tells is
//! [`Activity::Program`], and where none tells which part of an activity it was,
//! there is the activity alone. [`v8`] has what each function says.

mod pool;
mod v8;

#[cfg(test)]
mod tests;

use std::sync::Arc;

use nodetap_profile::{Frame, Kind};

use crate::complete::is_c_library;
use crate::js::REGEXP;
use crate::roles::{Role, ThreadRole};
use v8::Says;

/// What native code on top of JavaScript was for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Activity {
    /// Marking, scavenging, compacting, sweeping.
    GarbageCollector,
    /// Parsing, and compiling for any tier.
    Compiler,
    /// Compiling and running regular expressions.
    RegExp,
    /// `JSON.parse` and `JSON.stringify`.
    Json,
    /// Accesses to properties that no inline cache serves (yet).
    InlineCache,
    /// Going back from optimized code to where it came from.
    Deoptimizer,
    /// Anything else.
    Program,
}

impl Activity {
    /// The name of the pseudo frame that says so.
    pub fn label(self) -> &'static str {
        match self {
            Activity::GarbageCollector => "(garbage collector)",
            Activity::Compiler => "(compiler)",
            Activity::RegExp => REGEXP,
            Activity::Json => "(JSON)",
            Activity::InlineCache => "(inline cache)",
            Activity::Deoptimizer => "(deoptimizer)",
            Activity::Program => "(program)",
        }
    }
}

/// Which part of an activity it was.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Part {
    /// A collection of the young generation.
    Scavenge,
    /// A collection of the whole heap: what of it the program has to wait for.
    MarkCompact,
    /// A step of marking between two pieces of the program.
    IncrementalMarking,
    /// Marking by other threads while the program runs.
    ConcurrentMarking,
    /// A collection of the young generation that moves nothing (`--minor-ms`).
    MinorMarkSweep,
    /// One that moves within it (`--minor-mc`, in older versions).
    MinorMarkCompact,
    /// Making the memory of dead objects usable.
    Sweeping,
    /// Telling those who asked of the objects that died: handles of C++.
    WeakCallbacks,
    /// Giving memory back to the kernel.
    FreeingMemory,
    /// From text to syntax tree.
    Parser,
    /// To machine code, function by function, before Ignition.
    FullCodegen,
    /// To optimized code, before TurboFan.
    Crankshaft,
    /// To bytecode.
    Ignition,
    /// To baseline code.
    Sparkplug,
    /// To somewhat optimized code.
    Maglev,
    /// To optimized code.
    TurboFan,
    /// WebAssembly, by any of its compilers.
    Wasm,
    /// From a pattern to bytecode or machine code.
    RegExpCompiler,
    /// Running a pattern's bytecode.
    RegExpInterpreter,
    /// The first accesses of their kind at one place.
    Miss,
    /// Accesses of too many kinds at one place.
    Megamorphic,
}

impl Part {
    /// What it is a part of.
    pub fn activity(self) -> Activity {
        use Part::*;
        match self {
            Scavenge | MarkCompact | IncrementalMarking | ConcurrentMarking | MinorMarkSweep
            | MinorMarkCompact | Sweeping | WeakCallbacks | FreeingMemory => {
                Activity::GarbageCollector
            }
            Parser | FullCodegen | Crankshaft | Ignition | Sparkplug | Maglev | TurboFan | Wasm => {
                Activity::Compiler
            }
            RegExpCompiler | RegExpInterpreter => Activity::RegExp,
            Miss | Megamorphic => Activity::InlineCache,
        }
    }

    /// The name of the pseudo frame that says so.
    pub fn label(self) -> &'static str {
        match self {
            Part::Scavenge => "(scavenge)",
            Part::MarkCompact => "(mark-compact)",
            Part::IncrementalMarking => "(incremental marking)",
            Part::ConcurrentMarking => "(concurrent marking)",
            Part::MinorMarkSweep => "(minor mark-sweep)",
            Part::MinorMarkCompact => "(minor mark-compact)",
            Part::Sweeping => "(sweeping)",
            Part::WeakCallbacks => "(weak callbacks)",
            Part::FreeingMemory => "(freeing memory)",
            Part::Parser => "(parser)",
            Part::FullCodegen => "(full-codegen)",
            Part::Crankshaft => "(Crankshaft)",
            Part::Ignition => "(Ignition)",
            Part::Sparkplug => "(Sparkplug)",
            Part::Maglev => "(Maglev)",
            Part::TurboFan => "(TurboFan)",
            Part::Wasm => "(wasm compiler)",
            Part::RegExpCompiler => "(regexp compiler)",
            Part::RegExpInterpreter => "(regexp interpreter)",
            Part::Miss => "(miss)",
            Part::Megamorphic => "(megamorphic)",
        }
    }

    /// The same where V8's own threads do it, beside the program or, while that
    /// waits, beside its thread.
    fn label_beside(self) -> &'static str {
        match self {
            Part::Scavenge => "(parallel scavenge)",
            Part::MarkCompact => "(parallel mark-compact)",
            Part::Sweeping => "(concurrent sweeping)",
            part => part.label(),
        }
    }
}

/// Why there was a garbage collection, where a function says so. Most are because
/// the program allocates, of which nothing is said: V8 gives its reason in a
/// register, which nobody keeps.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Cause {
    /// The program called `gc()` (`--expose-gc`).
    GlobalGc,
    /// Memory outside of the heap that objects hold: buffers.
    ExternalMemory,
    /// A program that does little is made smaller.
    MemoryReducer,
    /// A heap snapshot is being taken.
    HeapSnapshot,
    /// The event loop had nothing to do (before Node.js 4).
    IdleTime,
}

impl Cause {
    /// The name of the pseudo frame that says so.
    pub fn label(self) -> &'static str {
        match self {
            Cause::GlobalGc => "(caused by gc())",
            Cause::ExternalMemory => "(caused by external memory)",
            Cause::MemoryReducer => "(caused by the memory reducer)",
            Cause::HeapSnapshot => "(caused by a heap snapshot)",
            Cause::IdleTime => "(caused by idle time)",
        }
    }
}

/// What the top of a stack was doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Doing {
    /// What it was.
    pub activity: Activity,
    /// Which part of it.
    pub part: Option<Part>,
    /// Why, of a garbage collection.
    pub cause: Option<Cause>,
}

impl Doing {
    /// Nothing that any function tells.
    const PROGRAM: Doing = Doing {
        activity: Activity::Program,
        part: None,
        cause: None,
    };

    /// What `frames` were doing: all that stand on top of the innermost JavaScript
    /// frame, outermost first.
    ///
    /// A garbage collection may happen in the midst of anything, so one function
    /// of it decides. Otherwise the outermost does: a literal that the parser has
    /// checked by the regular expressions' parser is still being parsed. The same
    /// holds for the parts: sweeping that a scavenge has to wait for is part of it.
    pub fn of<'a>(frames: impl IntoIterator<Item = &'a Frame>) -> Self {
        let mut doing = Doing::PROGRAM;
        let mut cause = None;
        // Whether JavaScript itself called it, not a library function of V8's.
        let mut is_direct = true;
        for frame in frames {
            let says = match frame.kind {
                Kind::Builtin => {
                    is_direct &= v8::is_transparent(&frame.function);
                    v8::builtin_says(&frame.function)
                }
                // Compiled regular expressions.
                Kind::Pseudo => (&*frame.function == REGEXP).then_some(Says::Is(Activity::RegExp)),
                Kind::Native => {
                    // What a collection calls is no reason for it.
                    if cause.is_none() && doing.activity != Activity::GarbageCollector {
                        cause = v8::cause(&frame.function);
                    }
                    let says = v8::function_says(&frame.function).or_else(|| {
                        (is_direct && v8::accesses_property(&frame.function))
                            .then_some(Says::Is(Activity::InlineCache))
                    });
                    is_direct = false;
                    // A builtin told what it was for. What C++ it calls that has no name
                    // may be anything, a garbage collection too.
                    match says {
                        None if doing.activity == Activity::InlineCache && is_nameless(frame) => {
                            Some(Says::CallsOut)
                        }
                        says => says,
                    }
                }
                Kind::Js | Kind::Wasm | Kind::Kernel => None,
            };
            if let Some(says) = says {
                doing.learn(says);
            }
        }
        if doing.activity == Activity::GarbageCollector {
            doing.cause = cause;
        }
        doing
    }

    fn learn(&mut self, says: Says) {
        let (activity, part) = match says {
            Says::Is(activity) => (activity, None),
            Says::Does(part) => (part.activity(), Some(part)),
            // From here on it is a collection of its own, whatever led to it.
            Says::Collects => {
                *self = Doing::PROGRAM;
                (Activity::GarbageCollector, None)
            }
            Says::CallsOut if self.activity == Activity::GarbageCollector => return,
            Says::CallsOut => {
                *self = Doing::PROGRAM;
                return;
            }
            Says::Nothing => return,
        };
        let takes_over = activity == Activity::GarbageCollector && self.activity != activity;
        if takes_over || self.activity == Activity::Program {
            *self = Doing {
                activity,
                ..Doing::PROGRAM
            };
        }
        if self.activity == activity && self.part.is_none() {
            self.part = part;
        }
    }

    /// The names of the pseudo frames that say so, outermost first.
    pub fn labels(&self) -> Vec<Arc<str>> {
        let labels = [
            Some(self.activity.label()),
            // On a thread that runs JavaScript it is only about the other ones.
            self.part
                .filter(|part| *part != Part::ConcurrentMarking)
                .map(Part::label),
            self.cause.map(Cause::label),
        ];
        labels.into_iter().flatten().map(Arc::from).collect()
    }
}

/// Whether a native function has no symbol, outside of the C library.
fn is_nameless(frame: &Frame) -> bool {
    frame.function.starts_with('(') && !frame.file.as_deref().is_some_and(is_c_library)
}

/// What `frames`, those of a thread that runs no JavaScript, outermost first, were
/// doing for it: the name of the pseudo frame that says so.
pub fn of_helper<'a>(
    thread: &ThreadRole,
    frames: impl IntoIterator<Item = &'a Frame>,
) -> Option<Arc<str>> {
    match thread.role()? {
        Role::V8Worker => {
            let doing = Doing::of(frames);
            let label = match (doing.part, doing.activity) {
                (Some(part), _) => part.label_beside(),
                (None, activity @ (Activity::GarbageCollector | Activity::Compiler)) => {
                    activity.label()
                }
                (None, _) => return None,
            };
            Some(label.into())
        }
        Role::LibuvWorker => pool::work(frames),
        _ => None,
    }
}
