//! What V8 was doing, told from the names of its functions on a stack.
//!
//! Only a function that says so decides: what no function tells is
//! [`Activity::Program`].

/// What native code on top of JavaScript was for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Activity {
    /// Marking, scavenging, compacting, sweeping.
    GarbageCollector,
    /// Parsing, and compiling for any tier.
    Compiler,
    /// Compiling and running regular expressions.
    RegExp,
    /// Anything else.
    Program,
}

impl Activity {
    /// The name of the pseudo frame that says so.
    pub fn label(self) -> &'static str {
        match self {
            Activity::GarbageCollector => "(garbage collector)",
            Activity::Compiler => "(compiler)",
            Activity::RegExp => "(regexp)",
            Activity::Program => "(program)",
        }
    }

    /// The activity that `functions` are part of: all native functions on top of
    /// the innermost JavaScript frame, innermost first.
    ///
    /// A garbage collection may happen in the midst of anything, so one function
    /// of it decides. Otherwise the outermost does: a literal that the parser has
    /// checked by the regular expressions' parser is still being parsed.
    pub fn of<'a>(functions: impl IntoIterator<Item = &'a str>) -> Self {
        let mut outermost = Activity::Program;
        for function in functions {
            match Self::of_function(function) {
                Some(Activity::GarbageCollector) => return Activity::GarbageCollector,
                Some(activity) => outermost = activity,
                None => {}
            }
        }
        outermost
    }

    /// What one function says of the activity that it is part of, if anything.
    pub fn of_function(function: &str) -> Option<Self> {
        let rest = if let Some(rest) = function.strip_prefix("v8::internal::") {
            rest.strip_prefix("(anonymous namespace)::").unwrap_or(rest)
        } else if function.starts_with("v8::ScriptCompiler::")
            || function.starts_with("v8::Script::Compile")
        {
            return Some(Activity::Compiler);
        } else if function.starts_with("cppgc::internal::") {
            return CPPGC
                .iter()
                .any(|prefix| function["cppgc::internal::".len()..].starts_with(prefix))
                .then_some(Activity::GarbageCollector);
        } else {
            return None;
        };
        // Makes a closure of a function, compiled or not.
        if rest.starts_with("Compiler::PostInstantiation") {
            return None;
        }
        let after = V8.partition_point(|(prefix, _)| *prefix <= rest);
        let (prefix, activity) = V8[..after].last()?;
        rest.starts_with(prefix).then_some(*activity)
    }
}

use Activity::{Compiler as C, GarbageCollector as G, RegExp as R};

/// How the functions begin, after `v8::internal::`, that say what they are part
/// of. In order, and none the beginning of another, so that the last one that is
/// not after a name is the only one that it can begin with.
const V8: [(&str, Activity); 89] = [
    ("ArrayBufferSweeper::", G),
    ("AstValueFactory::", C),
    ("BackgroundCompileTask::", C),
    ("Builtin_RegExp", R),
    ("CodeSerializer::", C),
    ("CompileScriptOnMainThread", C),
    ("CompileToplevel", C),
    ("CompiledReplacement::", R),
    ("Compiler::", C),
    ("ConcurrentMarking::", G),
    ("CppHeap::AdvanceMarking", G),
    ("CppHeap::AdvanceTracing", G),
    ("CppHeap::CollectGarbage", G),
    ("CppHeap::FinishMarking", G),
    ("CppHeap::InitializeMarking", G),
    ("CppHeap::StartMarking", G),
    ("CppHeap::TraceEpilogue", G),
    ("DeclarationScope::", C),
    ("Evacuator::", G),
    ("ExecuteSingleUnoptimizedCompilationJob", C),
    ("ExperimentalRegExp", R),
    ("FinalizeUnoptimizedCompilation", C),
    ("FullEvacuator::", G),
    ("GCTracer::", G),
    ("GetOrCompileOptimized", C),
    ("GlobalHandles::InvokeFirstPassWeakCallbacks", G),
    ("GlobalHandles::InvokeSecondPassPhantomCallbacks", G),
    ("GlobalHandles::PostGarbageCollectionProcessing", G),
    ("Heap::CollectAllAvailableGarbage", G),
    ("Heap::CollectAllGarbage", G),
    ("Heap::CollectGarbage", G),
    ("Heap::FinalizeIncrementalMarking", G),
    ("Heap::GarbageCollection", G),
    ("Heap::HandleGCRequest", G),
    ("Heap::IdleNotification", G),
    ("Heap::MarkCompact", G),
    ("Heap::MinorMarkCompact", G),
    ("Heap::MinorMarkSweep", G),
    ("Heap::PerformGarbageCollection", G),
    ("Heap::PreciseCollectAllGarbage", G),
    ("Heap::Scavenge", G),
    ("Heap::StartIncrementalMarking", G),
    ("IncrementalMarking", G),
    ("IrregexpInterpreter", R),
    ("JSRegExp::", R),
    ("LazyCompileDispatcher::", C),
    ("MarkCompactCollector::", G),
    ("MinorGCJob::", G),
    ("MinorMarkCompactCollector::", G),
    ("MinorMarkSweepCollector::", G),
    ("NativeRegExpMacroAssembler::", R),
    ("NfaInterpreter", R),
    ("OptimizedCompilationJob::", C),
    ("OptimizingCompileDispatcher::", C),
    ("Parser::", C),
    ("ParserBase<", C),
    ("PointersUpdatingJob::", G),
    ("PreParser", C),
    ("RegExp", R),
    ("Runtime_Compile", C),
    ("Runtime_InstallBaselineCode", C),
    ("Runtime_InstantiateAsmJs", C),
    ("Runtime_RegExp", R),
    ("Scavenge", G),
    ("Sweeper::", G),
    ("TurbofanCompilationJob::", C),
    ("UnoptimizedCompilationJob::", C),
    ("YoungGenerationEvacuator::", G),
    ("baseline::Baseline", C),
    ("baseline::ConcurrentBaseline", C),
    ("compiler::", C),
    ("interpreter::BytecodeArrayBuilder", C),
    ("interpreter::BytecodeArrayWriter", C),
    ("interpreter::BytecodeGenerator", C),
    ("interpreter::BytecodeRegisterOptimizer", C),
    ("interpreter::Interpreter::NewCompilationJob", C),
    ("interpreter::InterpreterCompilationJob::", C),
    ("maglev::", C),
    ("parsing::", C),
    ("wasm::(anonymous namespace)::ExecuteCompilationUnits", C),
    ("wasm::(anonymous namespace)::LiftoffCompiler", C),
    ("wasm::AsyncCompileJob", C),
    ("wasm::CompileLazy", C),
    ("wasm::CompileToNativeModule", C),
    ("wasm::ExecuteLiftoffCompilation", C),
    ("wasm::JSToWasmWrapperCompilationUnit::", C),
    ("wasm::ModuleDecoder", C),
    ("wasm::WasmCompilationUnit::", C),
    ("wasm::WasmEngine::SyncCompile", C),
];

/// The same of Node's and V8's C++ objects, after `cppgc::internal::`.
const CPPGC: [&str; 10] = [
    "Compactor::",
    "ConcurrentMark",
    "Heap::CollectGarbage",
    "Heap::StartGarbageCollection",
    "Marker::",
    "MarkerBase::",
    "MutatorMarking",
    "PreFinalizerHandler::InvokePreFinalizers",
    "Sweeper::",
    "UnifiedHeapMarker",
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_can_be_searched() {
        for pair in V8.windows(2) {
            assert!(pair[0].0 < pair[1].0, "{pair:?}");
            assert!(!pair[1].0.starts_with(pair[0].0), "{pair:?}");
        }
    }

    /// Stacks as sampled, of Node 18 to 26, innermost first.
    #[test]
    fn sampled_stacks_are_what_they_are() {
        use Activity::{Compiler, GarbageCollector, Program, RegExp};
        let cases: [(&[&str], Activity); 18] = [
            // Node 24: a scavenge when a function allocates.
            (
                &[
                    "v8::internal::Scavenger::Process",
                    "v8::internal::ScavengerCollector::CollectGarbage",
                    "v8::internal::Heap::Scavenge",
                    "v8::internal::Heap::PerformGarbageCollection",
                    "v8::internal::Heap::CollectGarbage",
                    "v8::internal::HeapAllocator::AllocateRawWithRetryOrFailSlowPath",
                    "v8::internal::Factory::NewFillerObject",
                    "v8::internal::Runtime_AllocateInYoungGeneration",
                ],
                GarbageCollector,
            ),
            // Node 20: an incremental marking step in a stack guard.
            (
                &[
                    "memset",
                    "v8::internal::IncrementalMarking::Start",
                    "v8::internal::Heap::HandleGCRequest",
                    "v8::internal::StackGuard::HandleInterrupts",
                    "v8::internal::Runtime_StackGuard",
                ],
                GarbageCollector,
            ),
            // Lazy sweeping while a page is looked for.
            (
                &[
                    "v8::internal::Sweeper::RawSweep",
                    "v8::internal::PagedSpaceBase::RefillLabMain",
                    "v8::internal::MainAllocator::AllocateRawSlow",
                    "v8::internal::Runtime_AllocateInOldGeneration",
                ],
                GarbageCollector,
            ),
            (
                &[
                    "v8::internal::MainAllocator::AllocateRawSlow",
                    "v8::internal::Runtime_AllocateInOldGeneration",
                ],
                Program,
            ),
            // Marking that the program pays for as it writes.
            (
                &[
                    "v8::internal::MarkingBarrier::MarkValueLocal",
                    "v8::internal::WriteBarrier::MarkingFromCode",
                ],
                Program,
            ),
            (
                &[
                    "v8::internal::Scanner::ScanIdentifierOrKeywordInnerSlow",
                    "v8::internal::ParserBase<v8::internal::Parser>::ParsePrimaryExpression",
                    "v8::internal::parsing::ParseProgram",
                    "v8::internal::Compiler::GetFunctionFromEval",
                    "v8::internal::Compiler::GetFunctionFromValidatedString",
                    "v8::internal::(anonymous namespace)::CreateDynamicFunction",
                    "v8::internal::Builtin_FunctionConstructor",
                ],
                Compiler,
            ),
            (
                &[
                    "v8::internal::interpreter::BytecodeGenerator::VisitCall",
                    "v8::internal::Compiler::Compile",
                    "v8::internal::Runtime_CompileLazy",
                ],
                Compiler,
            ),
            (
                &[
                    "v8::internal::baseline::BaselineCompiler::GenerateCode",
                    "v8::internal::baseline::BaselineBatchCompiler::EnqueueFunction",
                    "v8::internal::TieringManager::OnInterruptTick",
                    "v8::internal::Runtime_BytecodeBudgetInterruptWithStackCheck",
                ],
                Compiler,
            ),
            (
                &[
                    "v8::internal::FeedbackVector::New",
                    "v8::internal::JSFunction::CreateAndAttachFeedbackVector",
                    "v8::internal::TieringManager::OnInterruptTick",
                ],
                Program,
            ),
            (
                &[
                    "v8::internal::maglev::MaglevConcurrentDispatcher::FinalizeFinishedJobs",
                    "v8::internal::StackGuard::HandleInterrupts",
                    "v8::internal::Runtime_StackGuard",
                ],
                Compiler,
            ),
            // A garbage collection while compiling.
            (
                &[
                    "v8::internal::Heap::CollectGarbage",
                    "v8::internal::Factory::NewByteArray",
                    "v8::internal::interpreter::BytecodeArrayBuilder::ToBytecodeArray",
                    "v8::internal::Compiler::Compile",
                ],
                GarbageCollector,
            ),
            // The parser checks a regular expression.
            (
                &[
                    "v8::internal::RegExp::VerifySyntax",
                    "v8::internal::ParserBase<v8::internal::Parser>::ParseRegExpLiteral",
                    "v8::internal::Compiler::Compile",
                ],
                Compiler,
            ),
            (
                &[
                    "v8::internal::RegExpGlobalCache::FetchNext",
                    "v8::internal::(anonymous namespace)::RegExpReplace",
                    "v8::internal::Runtime_RegExpReplaceRT",
                ],
                RegExp,
            ),
            (
                &[
                    "v8::internal::RegExpCompiler::Assemble",
                    "v8::internal::RegExpImpl::Compile",
                    "v8::internal::RegExpImpl::IrregexpPrepare",
                    "v8::internal::Runtime_RegExpExec",
                ],
                RegExp,
            ),
            // Names that begin alike.
            (
                &[
                    "v8::internal::JsonParser<unsigned char>::ParseJson",
                    "v8::internal::Builtin_JsonParse",
                ],
                Program,
            ),
            (
                &[
                    "v8::internal::Compiler::PostInstantiation",
                    "v8::internal::Factory::JSFunctionBuilder::Build",
                    "v8::internal::Runtime_NewClosure",
                ],
                Program,
            ),
            (
                &[
                    "v8::internal::interpreter::BytecodeArrayIterator::Advance",
                    "v8::internal::baseline::BytecodeOffsetIterator::AdvanceToPCOffset",
                    "v8::internal::Isolate::CaptureAndSetErrorStack",
                ],
                Program,
            ),
            (&[], Program),
        ];
        for (functions, activity) in cases {
            assert_eq!(
                Activity::of(functions.iter().copied()),
                activity,
                "{functions:?}"
            );
        }
    }

    #[test]
    fn functions_of_others_say_nothing() {
        for function in [
            "Compiler::Compile",
            "node::RegExp::Exec",
            "v8::internal::",
            "v8::internal::(anonymous namespace)::",
            "v8::internal",
            "v8::Function::Call",
            "cppgc::internal::",
            "(libc.so.6)",
            "",
        ] {
            assert_eq!(Activity::of_function(function), None, "{function}");
        }
        assert_eq!(
            Activity::of_function("v8::ScriptCompiler::CompileFunction"),
            Some(Activity::Compiler)
        );
        assert_eq!(
            Activity::of_function("cppgc::internal::Sweeper::FinishIfRunning"),
            Some(Activity::GarbageCollector)
        );
        assert_eq!(
            Activity::of_function("cppgc::internal::ObjectAllocator::OutOfLineAllocate"),
            None
        );
    }
}
