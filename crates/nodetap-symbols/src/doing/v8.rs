//! What a function of V8's says of the stack that it is on.
//!
//! The names are those of V8's C++ functions as [`readable`](crate::demangle::readable)
//! gives them, collected from recordings of Node.js 0.10 to 26 and looked up in V8's
//! source (`src/heap/`, `src/codegen/compiler.cc`, `src/ic/`, `src/regexp/`, `src/json/`;
//! before V8 5 all in `src/`).

use super::{Activity, Cause, Part};

/// What one function says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Says {
    /// What it is part of, and no more.
    Is(Activity),
    /// Which part of what it is part of.
    Does(Part),
    /// A garbage collection begins.
    Collects,
    /// What comes next is not part of what came before.
    CallsOut,
    /// Nothing, whatever its name begins with.
    Nothing,
}

/// What the C++ function says, if anything.
pub fn function_says(function: &str) -> Option<Says> {
    if let Some(rest) = function.strip_prefix("v8::internal::") {
        let rest = rest.strip_prefix("(anonymous namespace)::").unwrap_or(rest);
        return longest(&V8, rest).or_else(|| inline_cache(rest));
    }
    if let Some(rest) = function.strip_prefix("cppgc::internal::") {
        let rest = rest.strip_prefix("(anonymous namespace)::").unwrap_or(rest);
        return longest(&CPPGC, rest);
    }
    let rest = function.strip_prefix("v8::")?;
    longest(&API, rest)
}

/// What the builtin says, if anything: only those that are there for nothing else.
/// `LoadIC` serves what is in the cache, too. (Before V8 7 much of `JSON` is
/// JavaScript of V8's own, `src/json.js`.)
pub fn builtin_says(name: &str) -> Option<Says> {
    let of_json = ["JSON", "BasicJSON", "BasicSerialize"];
    if name.starts_with("CallApi") {
        Some(Says::CallsOut)
    } else if name.ends_with("IC_Megamorphic") {
        Some(Says::Does(Part::Megamorphic))
    } else if of_json.iter().any(|begin| name.starts_with(begin)) {
        Some(Says::Is(Activity::Json))
    } else {
        None
    }
}

/// Whether a builtin only leads from JavaScript into C++: V8's `CEntry`, a bytecode's
/// handler, an inline cache. (Before V8 7 stubs have no names of their own.)
pub fn is_transparent(builtin: &str) -> bool {
    builtin.starts_with("CEntry")
        || builtin.ends_with("Handler")
        || builtin.contains("IC")
        || matches!(builtin, "(stub)" | "(handler)")
}

/// Whether the C++ function, called by JavaScript directly, reads or writes a property
/// that no inline cache knows: what their slow paths come down to
/// (`src/runtime/runtime-object.cc`).
pub fn accesses_property(function: &str) -> bool {
    let Some(rest) = function.strip_prefix("v8::internal::Runtime") else {
        return false;
    };
    matches!(
        rest,
        "_GetProperty"
            | "_KeyedGetProperty"
            | "_SetKeyedProperty"
            | "_SetNamedProperty"
            | "_SetProperty"
            | "::GetObjectProperty"
            | "::SetObjectProperty"
    )
}

/// Why the collections happen that the C++ function asks for.
pub fn cause(function: &str) -> Option<Cause> {
    let rest = function.strip_prefix("v8::")?;
    let rest = rest.strip_prefix("internal::").unwrap_or(rest);
    let rest = rest.strip_prefix("(anonymous namespace)::").unwrap_or(rest);
    CAUSES
        .iter()
        .find(|(begin, _)| rest.starts_with(begin))
        .map(|&(_, cause)| cause)
}

/// A miss in an inline cache: `Runtime_LoadIC_Miss`, before V8 4.6 `LoadIC_Miss`, and
/// their like (`src/ic/ic.cc`).
fn inline_cache(rest: &str) -> Option<Says> {
    let (_, after) = rest.split_once("IC_").or_else(|| {
        // `Runtime_StoreGlobalICNoFeedback_Miss`
        rest.split_once("ICNoFeedback_")
    })?;
    if after.starts_with("Miss") {
        Some(Says::Does(Part::Miss))
    } else if after.starts_with("Slow") {
        Some(Says::Is(Activity::InlineCache))
    } else {
        None
    }
}

/// What the longest beginning of `name` in `table` says.
fn longest(table: &[(&str, Says)], name: &str) -> Option<Says> {
    let after = table.partition_point(|(begin, _)| *begin <= name);
    // Between the longest beginning and `name` there are only those that share it.
    let first = name.as_bytes().first();
    table[..after]
        .iter()
        .rev()
        .take_while(|(begin, _)| begin.as_bytes().first() == first)
        .find(|(begin, _)| name.starts_with(begin))
        .map(|&(_, says)| says)
}

use Says::{CallsOut, Collects, Nothing};

const GC: Says = Says::Is(Activity::GarbageCollector);
const COMPILER: Says = Says::Is(Activity::Compiler);
const REGEXP: Says = Says::Is(Activity::RegExp);
const JSON: Says = Says::Is(Activity::Json);
const DEOPTIMIZER: Says = Says::Is(Activity::Deoptimizer);
const SCAVENGE: Says = Says::Does(Part::Scavenge);
const MARK_COMPACT: Says = Says::Does(Part::MarkCompact);
const MINOR_MARK_SWEEP: Says = Says::Does(Part::MinorMarkSweep);
const MINOR_MARK_COMPACT: Says = Says::Does(Part::MinorMarkCompact);
const INCREMENTAL: Says = Says::Does(Part::IncrementalMarking);
const CONCURRENT: Says = Says::Does(Part::ConcurrentMarking);
const SWEEPING: Says = Says::Does(Part::Sweeping);
const WEAK: Says = Says::Does(Part::WeakCallbacks);
const FREEING: Says = Says::Does(Part::FreeingMemory);
const PARSER: Says = Says::Does(Part::Parser);
const FULL_CODEGEN: Says = Says::Does(Part::FullCodegen);
const CRANKSHAFT: Says = Says::Does(Part::Crankshaft);
const IGNITION: Says = Says::Does(Part::Ignition);
const SPARKPLUG: Says = Says::Does(Part::Sparkplug);
const MAGLEV: Says = Says::Does(Part::Maglev);
const TURBOFAN: Says = Says::Does(Part::TurboFan);
const WASM: Says = Says::Does(Part::Wasm);
const REGEXP_COMPILER: Says = Says::Does(Part::RegExpCompiler);
const REGEXP_INTERPRETER: Says = Says::Does(Part::RegExpInterpreter);

/// How the functions begin, after `v8::internal::`, and what they say. In order; the
/// longest one that a name begins with counts.
#[rustfmt::skip]
const V8: [(&str, Says); 163] = [
    ("ArrayBufferSweeper::", SWEEPING),
    ("AstValueFactory::", COMPILER),
    ("BackgroundCompileTask::", COMPILER),
    ("BasicJsonStringifier::", JSON),
    ("Builtin_HandleApiCall", CallsOut),
    ("Builtin_Impl_HandleApiCall", CallsOut),
    ("Builtin_Impl_JsonParse", JSON),
    ("Builtin_Impl_JsonStringify", JSON),
    ("Builtin_JsonParse", JSON),
    ("Builtin_JsonStringify", JSON),
    ("Builtin_RegExp", REGEXP),
    ("CodeSerializer::", COMPILER),
    ("CompileMaglev", MAGLEV),
    ("CompileOptimized", COMPILER),
    ("CompileScriptOnMainThread", COMPILER),
    ("CompileToplevel", COMPILER),
    ("CompileTurbofan", TURBOFAN),
    ("CompiledReplacement::", REGEXP),
    ("Compiler::", COMPILER),
    ("Compiler::PostInstantiation", Nothing),
    ("ConcurrentMarking::", CONCURRENT),
    ("CppHeap::AdvanceMarking", INCREMENTAL),
    ("CppHeap::AdvanceTracing", INCREMENTAL),
    ("CppHeap::CollectGarbage", GC),
    ("CppHeap::FinishMarking", GC),
    ("CppHeap::InitializeMarking", GC),
    ("CppHeap::StartMarking", GC),
    ("CppHeap::TraceEpilogue", GC),
    ("DeclarationScope::", COMPILER),
    ("Deoptimizer::ComputeOutputFrames", DEOPTIMIZER),
    ("Deoptimizer::Deoptimize", DEOPTIMIZER),
    ("Deoptimizer::Deoptimizer", DEOPTIMIZER),
    ("Deoptimizer::DoCompute", DEOPTIMIZER),
    ("Deoptimizer::MaterializeHeapObjects", DEOPTIMIZER),
    ("Deoptimizer::New", DEOPTIMIZER),
    ("ErrorUtils::", CallsOut),
    ("Evacuator::", MARK_COMPACT),
    ("ExecuteSingleUnoptimizedCompilationJob", COMPILER),
    ("ExperimentalRegExp", REGEXP),
    ("ExperimentalRegExpCompiler", REGEXP_COMPILER),
    ("ExperimentalRegExpInterpreter", REGEXP_INTERPRETER),
    ("FastJsonStringifier", JSON),
    ("FinalizeUnoptimizedCompilation", COMPILER),
    ("FullCodeGenerator::", FULL_CODEGEN),
    ("FullEvacuator::", MARK_COMPACT),
    ("FunctionCallbackArguments::Call", CallsOut),
    ("GCTracer::", GC),
    ("GetOrCompileOptimized", COMPILER),
    ("GlobalHandles::InvokeFirstPassWeakCallbacks", WEAK),
    ("GlobalHandles::InvokeSecondPassPhantomCallbacks", WEAK),
    ("GlobalHandles::PostGarbageCollectionProcessing", WEAK),
    ("HCompilationJob::", CRANKSHAFT),
    ("HGraph::", CRANKSHAFT),
    ("HGraphBuilder::", CRANKSHAFT),
    ("HOptimizedGraphBuilder::", CRANKSHAFT),
    ("HandleApiCallHelper", CallsOut),
    ("Heap::CollectAllAvailableGarbage", GC),
    ("Heap::CollectAllGarbage", GC),
    ("Heap::CollectGarbage", Collects),
    ("Heap::FinalizeIncrementalMarking", GC),
    ("Heap::GarbageCollection", GC),
    ("Heap::HandleGCRequest", GC),
    ("Heap::IdleNotification", GC),
    ("Heap::MarkCompact", MARK_COMPACT),
    ("Heap::MinorMarkCompact", MINOR_MARK_COMPACT),
    ("Heap::MinorMarkSweep", MINOR_MARK_SWEEP),
    ("Heap::PerformGarbageCollection", GC),
    ("Heap::PreciseCollectAllGarbage", GC),
    ("Heap::Scavenge", SCAVENGE),
    ("Heap::StartIncrementalMarking", INCREMENTAL),
    ("Heap::StartIncrementalMarkingIf", Nothing),
    ("Heap::UnmapFreeMemoryTask::", FREEING),
    ("IC::ReferenceError", CallsOut),
    ("IC::TypeError", CallsOut),
    ("IncrementalMarking", INCREMENTAL),
    ("IncrementalMarking::RecordWrite", Nothing),
    ("IncrementalMarkingJob", GC),
    ("IrregexpInterpreter", REGEXP_INTERPRETER),
    ("JSRegExp::", REGEXP),
    ("JsonParse", JSON),
    ("JsonStringif", JSON),
    ("LChunk::", CRANKSHAFT),
    ("LCodeGen::", CRANKSHAFT),
    ("LazyCompileDispatcher::", COMPILER),
    ("MarkCompactCollector::", GC),
    ("MarkCompactCollector::CollectGarbage", MARK_COMPACT),
    ("MarkCompactCollector::Record", Nothing),
    ("MarkCompactCollector::Sweep", SWEEPING),
    ("MemoryAllocator::PerformFreeMemory", FREEING),
    ("MemoryAllocator::Unmapper::", FREEING),
    ("MemoryPool::Release", FREEING),
    ("MinorGCJob::", GC),
    ("MinorMarkCompactCollector::", MINOR_MARK_COMPACT),
    ("MinorMarkSweepCollector::", MINOR_MARK_SWEEP),
    ("NativeRegExpMacroAssembler::", REGEXP),
    ("NfaInterpreter", REGEXP_INTERPRETER),
    ("OptimizedCompilationJob::", COMPILER),
    ("OptimizedCompileJob::", COMPILER),
    ("OptimizingCompileDispatcher::", COMPILER),
    ("OptimizingCompileTaskExecutor::", COMPILER),
    ("OptimizingCompiler::", CRANKSHAFT),
    ("OptimizingCompilerThread::", COMPILER),
    ("PageEvacuation", MARK_COMPACT),
    ("ParallelClearingJob::", MARK_COMPACT),
    ("Parser::", PARSER),
    ("ParserApi::", PARSER),
    ("ParserBase<", PARSER),
    ("PointersUpdatingJob::", MARK_COMPACT),
    ("PreParser", PARSER),
    ("PropertyCallbackArguments::BasicCall", CallsOut),
    ("PropertyCallbackArguments::Call", CallsOut),
    ("RegExp", REGEXP),
    ("RegExp::Compile", REGEXP_COMPILER),
    ("RegExpBytecode", REGEXP_COMPILER),
    ("RegExpCompiler", REGEXP_COMPILER),
    ("RegExpEngine::Compile", REGEXP_COMPILER),
    ("RegExpImpl::Compile", REGEXP_COMPILER),
    ("RegExpImpl::EnsureCompiled", REGEXP_COMPILER),
    ("RegExpMacroAssembler", REGEXP_COMPILER),
    ("RegExpParser", REGEXP_COMPILER),
    ("Runtime_BasicJSONStringify", JSON),
    ("Runtime_Compile", COMPILER),
    ("Runtime_InstallBaselineCode", COMPILER),
    ("Runtime_InstantiateAsmJs", COMPILER),
    ("Runtime_LazyCompile", COMPILER),
    ("Runtime_LazyRecompile", COMPILER),
    ("Runtime_NotifyDeoptimized", DEOPTIMIZER),
    ("Runtime_ParallelRecompile", COMPILER),
    ("Runtime_ParseJson", JSON),
    ("Runtime_QuoteJSONString", JSON),
    ("Runtime_RegExp", REGEXP),
    ("Runtime_StartMaglevOptimizeJob", COMPILER),
    ("Runtime_StartTurbofanOptimizeJob", COMPILER),
    ("Scanner::", PARSER),
    ("Scavenge", SCAVENGE),
    ("ScavengeJob", GC),
    ("Sweeper::", SWEEPING),
    ("SweeperThread::", SWEEPING),
    ("TurbofanCompilationJob::", TURBOFAN),
    ("UnoptimizedCompilationJob::", COMPILER),
    ("YoungGenerationEvacuator::", MINOR_MARK_COMPACT),
    ("baseline::Baseline", SPARKPLUG),
    ("baseline::ConcurrentBaseline", SPARKPLUG),
    ("compiler::", TURBOFAN),
    ("interpreter::BytecodeArrayBuilder", IGNITION),
    ("interpreter::BytecodeArrayWriter", IGNITION),
    ("interpreter::BytecodeGenerator", IGNITION),
    ("interpreter::BytecodeRegisterOptimizer", IGNITION),
    ("interpreter::Interpreter::NewCompilationJob", IGNITION),
    ("interpreter::InterpreterCompilationJob::", IGNITION),
    ("maglev::", MAGLEV),
    ("parsing::", PARSER),
    ("wasm::(anonymous namespace)::BackgroundCompileJob", WASM),
    ("wasm::(anonymous namespace)::ExecuteCompilationUnits", WASM),
    ("wasm::(anonymous namespace)::LiftoffCompiler", WASM),
    ("wasm::AsyncCompileJob", WASM),
    ("wasm::CompileLazy", WASM),
    ("wasm::CompileToNativeModule", WASM),
    ("wasm::ExecuteLiftoffCompilation", WASM),
    ("wasm::JSToWasmWrapperCompilationUnit::", WASM),
    ("wasm::ModuleDecoder", WASM),
    ("wasm::WasmCompilationUnit::", WASM),
    ("wasm::WasmEngine::SyncCompile", WASM),
];

/// The same of Node's and V8's C++ objects, after `cppgc::internal::`.
const CPPGC: [(&str, Says); 14] = [
    ("Compactor::", GC),
    ("ConcurrentMark", CONCURRENT),
    ("ConcurrentSweepTask", SWEEPING),
    ("Heap::CollectGarbage", GC),
    ("Heap::StartGarbageCollection", GC),
    ("Marker::", GC),
    ("MarkerBase::", GC),
    ("MutatorMarking", GC),
    ("MutatorThreadSweeper", SWEEPING),
    ("PreFinalizerHandler::InvokePreFinalizers", GC),
    ("Sweeper::", SWEEPING),
    ("SweeperImpl", SWEEPING),
    ("UnifiedHeapConcurrentMark", CONCURRENT),
    ("UnifiedHeapMarker", GC),
];

/// The same of V8's own interface, after `v8::`.
const API: [(&str, Says); 4] = [
    ("JSON::", JSON),
    ("Script::Compile", COMPILER),
    ("ScriptCompiler::", COMPILER),
    ("preparser::", PARSER),
];

/// How the functions begin, after `v8::` and `internal::`, that ask for a collection,
/// and why they do.
const CAUSES: [(&str, Cause); 17] = [
    ("ExternalMemoryAccounter::", Cause::ExternalMemory),
    ("GCExtension::GC", Cause::GlobalGc),
    ("Heap::AllocateExternalBackingStore", Cause::ExternalMemory),
    ("Heap::HandleExternalMemoryInterrupt", Cause::ExternalMemory),
    ("Heap::IdleNotification", Cause::IdleTime),
    ("Heap::RegisterNewArrayBuffer", Cause::ExternalMemory),
    ("Heap::ReportExternalMemoryPressure", Cause::ExternalMemory),
    ("HeapProfiler::TakeSnapshot", Cause::HeapSnapshot),
    ("HeapSnapshotGenerator::", Cause::HeapSnapshot),
    ("InvokeGC", Cause::GlobalGc),
    (
        "Isolate::AdjustAmountOfExternalAllocatedMemory",
        Cause::ExternalMemory,
    ),
    (
        "Isolate::RequestGarbageCollectionForTesting",
        Cause::GlobalGc,
    ),
    ("JSArrayBuffer::SetupAllocatingData", Cause::ExternalMemory),
    ("MemoryReducer::NotifyTimer", Cause::MemoryReducer),
    ("MemoryReducer::TimerTask::", Cause::MemoryReducer),
    (
        "V8::AdjustAmountOfExternalAllocatedMemory",
        Cause::ExternalMemory,
    ),
    ("V8::IdleNotification", Cause::IdleTime),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tables_can_be_searched() {
        for table in [&V8[..], &CPPGC[..], &API[..]] {
            for pair in table.windows(2) {
                assert!(pair[0].0 < pair[1].0, "{pair:?}");
            }
            for &(begin, says) in table {
                assert_eq!(longest(table, begin), Some(says), "{begin}");
                // Whatever comes after.
                assert_eq!(longest(table, &format!("{begin}\u{10ffff}")), Some(says));
            }
        }
    }
}
