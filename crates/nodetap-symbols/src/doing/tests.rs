//! Stacks of real programs, and made-up ones where those have none.

use nodetap_profile::Frame;

use super::*;

/// A stack as `stacks.txt` has it.
fn frames(stack: &str) -> Vec<Frame> {
    let frame = |text: &str| {
        let (kind, name) = match (text.strip_prefix("b:"), text.strip_prefix("p:")) {
            (Some(name), _) => (Kind::Builtin, name),
            (_, Some(name)) => (Kind::Pseudo, name),
            _ => (Kind::Native, text),
        };
        let name = name.replace("i::", "v8::internal::");
        Frame::new(kind, name.replace('@', "(anonymous namespace)::"))
    };
    stack.split(" | ").map(frame).collect()
}

fn labels(stack: &str) -> String {
    Doing::of(&frames(stack)).labels().join(" ")
}

fn helper(first_function: &str) -> ThreadRole {
    let mut role = ThreadRole::new(false, "node", "node");
    role.learn(first_function, "node");
    role
}

#[test]
fn sampled_stacks_are_what_they_are() {
    let v8_worker = helper("node::BackgroundRunner");
    let libuv_worker = helper("worker");
    let mut expected = "";
    let mut seen = 0;
    for line in include_str!("stacks.txt").lines() {
        if let Some(doing) = line.strip_prefix("== ") {
            expected = doing;
        } else if !line.is_empty() && !line.starts_with('#') {
            let (version, stack) = line.split_once(": ").expect("a version and a stack");
            let beside = |role| of_helper(role, &frames(stack)).unwrap_or_default();
            let found = if expected.starts_with("(v8 worker)") {
                format!("(v8 worker) {}", beside(&v8_worker))
            } else if expected.starts_with("(libuv worker)") {
                format!("(libuv worker) {}", beside(&libuv_worker))
            } else {
                labels(stack)
            };
            assert_eq!(found, expected, "{version}: {stack}");
            seen += 1;
        }
    }
    assert!(seen > 90, "{seen} stacks");
}

#[test]
fn a_collection_decides_whatever_it_happens_in() {
    for (stack, expected) in [
        (
            "i::Compiler::Compile | i::interpreter::BytecodeArrayBuilder::ToBytecodeArray \
             | i::Factory::NewByteArray | i::Heap::CollectGarbage | i::Heap::Scavenge",
            "(garbage collector) (scavenge)",
        ),
        (
            "p:(regexp) | i::StackGuard::HandleInterrupts | i::Heap::HandleGCRequest",
            "(garbage collector)",
        ),
        // Sweeping that is not over yet: the collection waits for it.
        (
            "i::Heap::CollectGarbage | i::Heap::MarkCompact | i::Sweeper::EnsureCompleted",
            "(garbage collector) (mark-compact)",
        ),
        // Nobody waits for more than a page.
        (
            "i::Runtime_AllocateInOldGeneration | i::Sweeper::RawSweep",
            "(garbage collector) (sweeping)",
        ),
        // A callback of a dead object allocates.
        (
            "i::GlobalHandles::InvokeSecondPassPhantomCallbacks | node::BaseObject::DeleteMe \
             | i::Heap::CollectGarbage | i::Heap::Scavenge",
            "(garbage collector) (scavenge)",
        ),
        (
            "i::Heap::CollectGarbage | i::MemoryReducer::NotifyMarkCompact",
            "(garbage collector)",
        ),
        (
            "i::MemoryReducer::TimerTask::RunInternal | i::MemoryReducer::NotifyTimer \
             | i::IncrementalMarking::Start",
            "(garbage collector) (incremental marking) (caused by the memory reducer)",
        ),
        (
            "i::HeapProfiler::TakeSnapshot | i::Heap::CollectAllAvailableGarbage \
             | i::Heap::CollectGarbage | i::Heap::MarkCompact",
            "(garbage collector) (mark-compact) (caused by a heap snapshot)",
        ),
        // What the program pays for as it writes and allocates.
        (
            "i::WriteBarrier::MarkingFromCode | i::MarkingBarrier::MarkValueLocal",
            "(program)",
        ),
        ("i::IncrementalMarking::RecordWriteFromCode", "(program)"),
        (
            "i::Runtime_AllocateInOldGeneration | i::MainAllocator::AllocateRawSlow",
            "(program)",
        ),
    ] {
        assert_eq!(labels(stack), expected, "{stack}");
    }
}

#[test]
fn otherwise_the_outermost_decides() {
    for (stack, expected) in [
        // The parser checks a regular expression.
        (
            "i::Compiler::Compile | i::ParserBase<i::Parser>::ParseRegExpLiteral \
             | i::RegExp::VerifySyntax",
            "(compiler) (parser)",
        ),
        // Maglev asks TurboFan's broker.
        (
            "i::Compiler::CompileOptimized | i::maglev::MaglevCompilationJob::PrepareJobImpl \
             | i::compiler::JSHeapBroker::GetFeedbackForCall",
            "(compiler) (Maglev)",
        ),
        // WebAssembly by TurboFan.
        (
            "i::wasm::WasmEngine::SyncCompile | i::compiler::ExecuteTurbofanWasmCompilation",
            "(compiler) (wasm compiler)",
        ),
        (
            "i::Runtime_RegExpReplaceRT | i::@RegExpReplace | i::RegExpGlobalCache::FetchNext",
            "(regexp)",
        ),
        // Names that begin alike.
        (
            "i::Runtime_NewClosure | i::Factory::JSFunctionBuilder::Build \
             | i::Compiler::PostInstantiation",
            "(program)",
        ),
        (
            "i::Isolate::CaptureAndSetErrorStack \
             | i::baseline::BytecodeOffsetIterator::AdvanceToPCOffset \
             | i::interpreter::BytecodeArrayIterator::Advance",
            "(program)",
        ),
        (
            "i::TieringManager::OnInterruptTick \
             | i::JSFunction::CreateAndAttachFeedbackVector | i::FeedbackVector::New",
            "(program)",
        ),
    ] {
        assert_eq!(labels(stack), expected, "{stack}");
    }
}

#[test]
fn property_accesses_count_where_javascript_makes_them() {
    for (stack, expected) in [
        ("b:LoadIC", "(program)"),
        ("b:KeyedLoadIC_Megamorphic", "(inline cache) (megamorphic)"),
        (
            "b:CEntry_Return1_ArgvOnStack_NoBuiltinExit | i::Runtime_SetKeyedProperty",
            "(inline cache)",
        ),
        // `Array.prototype.push` does.
        (
            "b:Array.prototype.push | b:CEntry_Return1_ArgvOnStack_NoBuiltinExit \
             | i::Runtime_SetKeyedProperty",
            "(program)",
        ),
        (
            "node::fs::FStat | i::Runtime::SetObjectProperty",
            "(program)",
        ),
        // The binary is stripped.
        ("b:KeyedLoadIC_Megamorphic | (node)", "(program)"),
        // An accessor of C++, and an error: not the cache's time.
        (
            "i::Runtime_LoadIC_Miss | i::LoadIC::Load | i::@HandleApiCallHelper<false> \
             | node::Environment::Get",
            "(program)",
        ),
        (
            "b:KeyedLoadIC_Megamorphic | b:CallApiGetter | node::Get",
            "(program)",
        ),
        (
            "i::Runtime_GetProperty | i::ErrorUtils::ThrowLoadFromNullOrUndefined \
             | i::Isolate::CaptureAndSetErrorStack",
            "(program)",
        ),
        (
            "i::Runtime_StoreGlobalICNoFeedback_Miss",
            "(inline cache) (miss)",
        ),
        ("i::Runtime_CloneObjectIC_Slow", "(inline cache)"),
    ] {
        assert_eq!(labels(stack), expected, "{stack}");
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
        "cppgc::internal::ObjectAllocator::OutOfLineAllocate",
        "(libc.so.6)",
        "",
    ] {
        assert_eq!(v8::function_says(function), None, "{function}");
    }
    assert_eq!(labels("v8::ScriptCompiler::CompileFunction"), "(compiler)");
    assert_eq!(
        labels("cppgc::internal::Sweeper::FinishIfRunning"),
        "(garbage collector) (sweeping)"
    );
    // Nothing has names.
    assert_eq!(labels("(libnode.so.108) | (libc.so.6)"), "(program)");
    assert_eq!(Doing::of([]), Doing::PROGRAM);
}

#[test]
fn helpers_say_what_they_do_for_the_program() {
    let v8_worker = helper("node::BackgroundRunner");
    let libuv_worker = helper("worker");
    let does = |thread: &ThreadRole, stack: &str| of_helper(thread, &frames(stack));
    // The walk ended midway, or it waits for work.
    assert_eq!(does(&v8_worker, "malloc"), None);
    assert_eq!(
        does(&v8_worker, "node::BackgroundRunner | uv_cond_wait"),
        None
    );
    let unknown_part = does(&v8_worker, "i::OptimizingCompileDispatcher::CompileNext");
    assert_eq!(unknown_part.as_deref(), Some("(compiler)"));
    assert_eq!(does(&libuv_worker, "worker | uv_cond_wait"), None);
    let found = does(&libuv_worker, "worker | uv__getaddrinfo_work | getaddrinfo");
    assert_eq!(found.as_deref(), Some("(dns)"));
    let found = does(&libuv_worker, "worker | uv__fs_work | read");
    assert_eq!(found.as_deref(), Some("(file system)"));
    // An addon's work is its own, whatever it calls.
    let mut stack = frames("worker | Napi::AsyncWorker::OnExecute | node::crypto::Hash");
    stack[1].file = Some("/srv/node_modules/sharp/sharp-linux-x64.node".into());
    let found = of_helper(&libuv_worker, &stack);
    assert_eq!(found.as_deref(), Some("(sharp-linux-x64.node)"));
    let mut inspector = helper("node::inspector::InspectorIo::ThreadMain");
    assert_eq!(does(&inspector, "i::Heap::CollectGarbage"), None);
    inspector = ThreadRole::new(false, "node", "node");
    assert_eq!(does(&inspector, "uv__fs_work"), None);
}
