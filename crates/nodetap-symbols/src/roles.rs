//! What a thread of a Node.js process is for.
//!
//! The first function of a thread says it best. Threads have names of their own
//! only in newer versions (libuv's from Node 22, the others from 24), and a name
//! may be anything in a thread that an addon started.

use std::sync::Arc;

/// What a thread is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Role {
    /// The main thread, which runs JavaScript.
    Main,
    /// A thread of `worker_threads`, which runs JavaScript.
    Worker,
    /// Runs V8's tasks: concurrent marking, compiling, sweeping.
    V8Worker,
    /// Hands V8's delayed tasks on when they are due.
    DelayedTaskScheduler,
    /// Runs libuv's thread pool: file system, `dns.lookup`, `crypto`, `zlib`.
    LibuvWorker,
    /// Waits for SIGUSR1 to start the inspector.
    SignalInspector,
    /// The inspector's server.
    Inspector,
    /// Writes trace events.
    TraceWriter,
    /// Ends scripts that exceed `vm`'s `timeout`.
    Watchdog,
    /// Ends scripts at Ctrl-C (`vm`'s `breakOnSigint`, the REPL).
    SigintWatchdog,
    /// V8's own CPU profiler.
    CpuProfiler,
    /// c-ares's event thread: `dns.resolve`.
    Resolver,
    /// The kernel's worker for io_uring.
    IoUring,
}

impl Role {
    /// The role of a thread that has `function`, which is in `module`, as one of
    /// its first functions.
    ///
    /// Names are as [`readable`](crate::demangle::readable) gives them. In Node 26
    /// (built by clang) a lambda is called `$_0::__invoke`, not `{lambda(void*)#1}`,
    /// so nothing after the function that it is in is looked at.
    pub fn of_first_function(function: &str, module: &str) -> Option<Self> {
        let role = match function {
            // `main` itself may be left out: its last act is calling node::Start.
            "main" | "node::Start" => Role::Main,
            "node::(anonymous namespace)::PlatformWorkerThread"
            // In Node.js 8 and 10.
            | "node::BackgroundRunner"
            | "v8::platform::DefaultWorkerThreadsTaskRunner::WorkerThread::Run"
            | "v8::platform::WorkerThread::Run"
            | "v8::internal::OptimizingCompilerThread::Run"
            | "v8::internal::SweeperThread::Run" => Role::V8Worker,
            // The second one before Node.js 8, for the debugger of those days.
            "node::inspector::(anonymous namespace)::StartIoThreadMain"
            | "node::DebugSignalThreadMain" => Role::SignalInspector,
            "node::inspector::InspectorIo::ThreadMain" => Role::Inspector,
            "node::Watchdog::Run" => Role::Watchdog,
            "node::SigintWatchdogHelper::RunSigintWatchdog" => Role::SigintWatchdog,
            "v8::internal::SamplingEventsProcessor::Run"
            | "v8::internal::Profiler::Run"
            | "v8::sampler::SamplerThread::Run" => Role::CpuProfiler,
            "ares_event_thread" => Role::Resolver,
            // A static function of libuv's, and a likely name in an addon as well.
            "worker" if !module.ends_with(".node") => Role::LibuvWorker,
            _ => {
                let begins = [
                    ("node::worker::Worker::StartThread(", Role::Worker),
                    (
                        "node::WorkerThreadsTaskRunner::DelayedTaskScheduler::",
                        Role::DelayedTaskScheduler,
                    ),
                    (
                        "node::BackgroundTaskRunner::DelayedTaskScheduler::",
                        Role::DelayedTaskScheduler,
                    ),
                    ("node::tracing::Agent::Start(", Role::TraceWriter),
                    (
                        "node::tracing::LegacyTracingAgent::Start(",
                        Role::TraceWriter,
                    ),
                ];
                begins
                    .into_iter()
                    .find(|(begin, _)| function.starts_with(begin))?
                    .1
            }
        };
        Some(role)
    }

    /// The role of a thread by the name that Node.js, V8 or the kernel gives it.
    /// The kernel keeps 15 bytes of a name.
    pub fn of_thread_name(name: &str) -> Option<Self> {
        let role = match name {
            "MainThread" | "node-MainThread" => Role::Main,
            "WorkerThread" => Role::Worker,
            "V8Worker" | "node-V8Worker" | "V8 DefaultWorke" | "V8 WorkerThread" => Role::V8Worker,
            // Before Node.js 4.
            "OptimizingCompi" | "v8:SweeperThrea" => Role::V8Worker,
            "DelayedTaskSche" => Role::DelayedTaskScheduler,
            "libuv-worker" => Role::LibuvWorker,
            "SignalInspector" => Role::SignalInspector,
            "InspectorIo" => Role::Inspector,
            "TraceEventWorke" => Role::TraceWriter,
            "SigintWatchdog" | "TraceSigintWatc" => Role::SigintWatchdog,
            "v8:ProfEvntProc" | "v8:Profiler" => Role::CpuProfiler,
            _ if name.starts_with("iou-wrk-") || name.starts_with("iou-sqp-") => Role::IoUring,
            _ => return None,
        };
        Some(role)
    }

    /// Whether threads of this role run JavaScript.
    pub fn runs_javascript(self) -> bool {
        matches!(self, Role::Main | Role::Worker)
    }

    /// The name of the pseudo frame that stands for all such a thread does.
    pub fn label(self) -> &'static str {
        match self {
            Role::Main => "(main thread)",
            Role::Worker => "(worker thread)",
            Role::V8Worker => "(v8 worker)",
            Role::DelayedTaskScheduler => "(delayed task scheduler)",
            Role::LibuvWorker => "(libuv worker)",
            Role::SignalInspector => "(signal inspector)",
            Role::Inspector => "(inspector)",
            Role::TraceWriter => "(trace writer)",
            Role::Watchdog => "(watchdog)",
            Role::SigintWatchdog => "(sigint watchdog)",
            Role::CpuProfiler => "(cpu profiler)",
            Role::Resolver => "(dns resolver)",
            Role::IoUring => "(io_uring worker)",
        }
    }
}

/// What is known of one thread, learnt from its name and its stacks.
#[derive(Clone, Debug)]
pub struct ThreadRole {
    role: Option<Role>,
    /// Its first function said so.
    certain: bool,
    javascript_seen: bool,
    /// What to call a thread of no known role.
    fallback: Arc<str>,
}

impl ThreadRole {
    /// The thread called `name`, in a process whose main thread is called
    /// `main_name`. `is_main`: it is the main thread itself.
    pub fn new(is_main: bool, name: &str, main_name: &str) -> Self {
        let (role, certain) = if is_main {
            (Some(Role::Main), true)
        } else {
            (Role::of_thread_name(name), false)
        };
        // A thread that was given no name has that of the one that started it.
        let fallback = if name.is_empty() || name == main_name || name == "node" {
            "(native thread)".into()
        } else {
            format!("({name})").into()
        };
        Self {
            role,
            certain,
            javascript_seen: false,
            fallback,
        }
    }

    /// Whether the first functions of the thread would still tell something.
    pub fn wants_first_function(&self) -> bool {
        !self.certain
    }

    /// Learns from one of the thread's first functions.
    pub fn learn(&mut self, function: &str, module: &str) {
        if !self.certain
            && let Some(role) = Role::of_first_function(function, module)
        {
            self.role = Some(role);
            self.certain = true;
        }
    }

    /// Learns that a stack of the thread has a JavaScript frame.
    pub fn saw_javascript(&mut self) {
        self.javascript_seen = true;
    }

    /// Its role, where it is known.
    pub fn role(&self) -> Option<Role> {
        self.role
    }

    /// Whether it runs JavaScript, now and then at least.
    pub fn runs_javascript(&self) -> bool {
        self.javascript_seen || self.role.is_some_and(Role::runs_javascript)
    }

    /// The name of the pseudo frame for a thread that runs no JavaScript.
    pub fn label(&self) -> Arc<str> {
        match self.role {
            Some(role) => role.label().into(),
            None => self.fallback.clone(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The first functions of the threads of Node 4, 8, 10 and 18 to 26, as named
    /// from their symbols.
    #[test]
    fn first_functions_tell_the_role() {
        let node = "/usr/bin/node";
        for (function, role) in [
            ("node::Start", Role::Main),
            ("main", Role::Main),
            (
                "node::worker::Worker::StartThread(v8::FunctionCallbackInfo<v8::Value> const&)::{lambda(void*)#1}::_FUN",
                Role::Worker,
            ),
            (
                "node::worker::Worker::StartThread(v8::FunctionCallbackInfo<v8::Value> const&)::$_0::__invoke",
                Role::Worker,
            ),
            (
                "node::(anonymous namespace)::PlatformWorkerThread",
                Role::V8Worker,
            ),
            (
                "node::WorkerThreadsTaskRunner::DelayedTaskScheduler::Start()::{lambda(void*)#1}::_FUN",
                Role::DelayedTaskScheduler,
            ),
            (
                "node::WorkerThreadsTaskRunner::DelayedTaskScheduler::Run",
                Role::DelayedTaskScheduler,
            ),
            ("worker", Role::LibuvWorker),
            (
                "node::inspector::(anonymous namespace)::StartIoThreadMain",
                Role::SignalInspector,
            ),
            ("node::DebugSignalThreadMain", Role::SignalInspector),
            ("v8::platform::WorkerThread::Run", Role::V8Worker),
            ("node::BackgroundRunner", Role::V8Worker),
            (
                "node::BackgroundTaskRunner::DelayedTaskScheduler::Start()::{lambda(void*)#1}::_FUN",
                Role::DelayedTaskScheduler,
            ),
            ("node::inspector::InspectorIo::ThreadMain", Role::Inspector),
            (
                "node::tracing::Agent::Start()::{lambda(void*)#1}::_FUN",
                Role::TraceWriter,
            ),
            (
                "node::tracing::LegacyTracingAgent::Start()::$_0::__invoke",
                Role::TraceWriter,
            ),
        ] {
            assert_eq!(Role::of_first_function(function, node), Some(role));
        }
        for function in [
            "uv_run",
            "worker_main",
            "node::worker::Worker::StartThread",
            "",
        ] {
            assert_eq!(Role::of_first_function(function, node), None);
        }
        assert_eq!(Role::of_first_function("worker", "/srv/addon.node"), None);
    }

    #[test]
    fn what_the_first_function_says_overrides_the_name() {
        let mut thread = ThreadRole::new(false, "libuv-worker", "node");
        assert_eq!(thread.role(), Some(Role::LibuvWorker));
        assert!(thread.wants_first_function());
        thread.learn("uv_run", "/usr/bin/node");
        assert_eq!(thread.role(), Some(Role::LibuvWorker));
        thread.learn("node::inspector::InspectorIo::ThreadMain", "/usr/bin/node");
        assert_eq!(thread.role(), Some(Role::Inspector));
        assert!(!thread.wants_first_function());
        thread.learn("worker", "/usr/bin/node");
        assert_eq!(&*thread.label(), "(inspector)");
        assert!(!thread.runs_javascript());
    }

    #[test]
    fn the_main_thread_is_that_whatever_it_is_called() {
        // process.title = "libuv-worker"
        let mut thread = ThreadRole::new(true, "libuv-worker", "libuv-worker");
        thread.learn("worker", "/usr/bin/node");
        assert_eq!(thread.role(), Some(Role::Main));
        assert!(thread.runs_javascript());
    }

    #[test]
    fn a_thread_of_no_known_role_goes_by_its_name_if_it_has_one() {
        let labels = [
            ("tokio-runtime-w", "(tokio-runtime-w)"),
            ("node", "(native thread)"),
            ("server", "(native thread)"),
            ("", "(native thread)"),
        ]
        .map(|(name, label)| (ThreadRole::new(false, name, "server").label(), label));
        for (found, label) in labels {
            assert_eq!(&*found, label);
        }
        let mut thread = ThreadRole::new(false, "tokio-runtime-w", "node");
        assert!(!thread.runs_javascript());
        thread.saw_javascript();
        assert!(thread.runs_javascript());
    }

    #[test]
    fn thread_names_of_the_kernel_are_cut_as_it_cuts_them() {
        for full in [
            "DelayedTaskSchedulerWorker",
            "TraceEventWorker",
            "V8 DefaultWorkerThreadsTaskRunner WorkerThread",
            "TraceSigintWatchdog",
            "iou-wrk-1234",
            "V8 WorkerThread",
            "OptimizingCompilerThread",
            "v8:SweeperThread",
        ] {
            let cut = &full[..full.len().min(15)];
            assert!(Role::of_thread_name(cut).is_some(), "{cut}");
        }
        assert_eq!(Role::of_thread_name("node"), None);
    }
}
