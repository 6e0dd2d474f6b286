//! Which frames of a stack are shown.
//!
//! - A stack without native frames is its JavaScript. What V8 does itself on top
//!   of that, its embedded builtins and bytecode handlers, is how JavaScript runs
//!   and counts as the function's own. C and C++ on top are a pseudo frame that
//!   says what they were for, and one on top of that for which part of it, where
//!   that is known. The builtins that are there for what no inline cache knows get
//!   one as well.
//! - So is a tick that hit the kernel: it counts for what the thread was doing in
//!   user mode. (A page fault or an interrupt may hit JavaScript itself.)
//! - A thread that never runs JavaScript is one pseudo frame with its role, and one
//!   on top of that for what it did, where that is known.
//! - With native frames, all of them are shown and no pseudo frame. What the C
//!   library does before it calls a thread's first function has no name where the
//!   library is stripped, and is left out then.
//! - With the kernel's frames, these stand on top of either.

use std::sync::Arc;

use nodetap_profile::{Frame, Kind};

use crate::Options;
use crate::complete::is_c_library;
use crate::doing::{self, Activity, Doing};
use crate::roles::ThreadRole;

/// What is shown of a stack.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct View {
    /// Indices of the frames shown, outermost first.
    outer: Vec<usize>,
    /// What stands on top of those, outermost first.
    pseudo: Vec<Arc<str>>,
    /// Indices of the kernel's frames shown, which stand on top of that.
    kernel: Vec<usize>,
    /// What the frames on top of JavaScript were for.
    activity: Activity,
}

impl View {
    /// What `options` let see of `stack`, all frames of a stack of `thread`,
    /// innermost first.
    pub fn of(options: Options, stack: &[&Frame], thread: &ThreadRole) -> Self {
        let is_kernel = |&index: &usize| stack[index].kind == Kind::Kernel;
        let user: Vec<usize> = (0..stack.len()).filter(|index| !is_kernel(index)).collect();
        let is_script = |index: &usize| matches!(stack[*index].kind, Kind::Js | Kind::Wasm);
        let top = user.iter().position(is_script).unwrap_or(user.len());
        let (top, has_script) = (&user[..top], top < user.len());
        let outermost_first = || top.iter().rev().map(|&index| stack[index]);
        let doing = Doing::of(outermost_first());
        let pseudo_frames = || match thread.runs_javascript() || has_script {
            true => doing.labels(),
            false => {
                let mut labels = vec![thread.label()];
                labels.extend(doing::of_helper(thread, outermost_first()));
                labels
            }
        };
        let mut view = View {
            outer: Vec::new(),
            pseudo: Vec::new(),
            kernel: Vec::new(),
            activity: doing.activity,
        };
        if options.kernel {
            view.kernel = (0..stack.len()).rev().filter(is_kernel).collect();
        }
        if options.native {
            view.outer = named_part(&user, stack).iter().rev().copied().collect();
            if view.outer.is_empty() && view.kernel.is_empty() {
                view.pseudo = pseudo_frames();
            }
            return view;
        }
        view.outer = user.iter().rev().copied().filter(is_script).collect();
        let beyond_script =
            |&index: &usize| matches!(stack[index].kind, Kind::Native | Kind::Pseudo);
        if !has_script || doing.activity != Activity::Program || top.iter().any(beyond_script) {
            view.pseudo = pseudo_frames();
        }
        view
    }

    /// The names of the pseudo frames to show, outermost first.
    pub fn pseudo(&self) -> &[Arc<str>] {
        &self.pseudo
    }

    /// The pseudo frames to show of a thread that waits, outermost first: `wait` says for
    /// what. Where it does so in native code of no special purpose, it says enough.
    pub fn with_wait(&self, wait: Arc<str>) -> Vec<Arc<str>> {
        let mut pseudo = self.pseudo.clone();
        pseudo.retain(|name| **name != *Activity::Program.label());
        pseudo.push(wait);
        pseudo
    }

    /// What stands on top of JavaScript was for, shown or not.
    pub fn activity(&self) -> Activity {
        self.activity
    }

    /// The frames shown, outermost first: `frames` are those of the stack,
    /// `pseudo` are the ones that [`View::pseudo`] or [`View::with_wait`] asks for.
    pub fn frames<T: Copy>(&self, frames: &[T], pseudo: &[T]) -> Vec<T> {
        let of = |indices: &[usize]| -> Vec<T> {
            indices
                .iter()
                .filter_map(|&index| frames.get(index).copied())
                .collect()
        };
        let mut shown = of(&self.outer);
        shown.extend_from_slice(pseudo);
        shown.extend(of(&self.kernel));
        shown
    }
}

/// `user` (indices, innermost first) without the outermost frames in the C library
/// that have no name.
fn named_part<'a>(user: &'a [usize], stack: &[&Frame]) -> &'a [usize] {
    let nameless = user
        .iter()
        .rev()
        .take_while(|&&index| {
            let frame = stack[index];
            frame.kind == Kind::Native
                && frame.function.starts_with('(')
                && frame.file.as_deref().is_some_and(is_c_library)
        })
        .count();
    // If that is all there is, it is better than nothing.
    match user.len() - nameless {
        0 => user,
        named => &user[..named],
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use Kind::{Builtin, Js, Kernel, Native, Wasm};

    const JS: Options = options(false, false);
    const NATIVE: Options = options(true, false);
    const KERNEL: Options = options(false, true);
    const BOTH: Options = options(true, true);

    const fn options(native: bool, kernel: bool) -> Options {
        Options {
            native,
            kernel,
            source_maps: false,
            sources: false,
        }
    }

    fn main_thread() -> ThreadRole {
        ThreadRole::new(true, "node", "node")
    }

    /// The names that are shown of `stack` (innermost first), outermost first.
    fn shown(options: Options, stack: &[(Kind, &str)], thread: &ThreadRole) -> Vec<String> {
        let frames: Vec<Frame> = stack
            .iter()
            .map(|&(kind, function)| Frame {
                file: match function {
                    "(libc.so.6)" => Some("/lib/libc.so.6".into()),
                    "(libcrypto.so.3)" => Some("/lib/libcrypto.so.3".into()),
                    _ => None,
                },
                ..Frame::new(kind, function)
            })
            .collect();
        let frames: Vec<&Frame> = frames.iter().collect();
        let view = View::of(options, &frames, thread);
        let names: Vec<&str> = frames.iter().map(|frame| &*frame.function).collect();
        let pseudo: Vec<&str> = view.pseudo().iter().map(|name| &**name).collect();
        view.frames(&names, &pseudo)
            .into_iter()
            .map(str::to_owned)
            .collect()
    }

    /// JavaScript that reads a file: innermost first.
    const READS: [(Kind, &str); 9] = [
        (Kernel, "vfs_read"),
        (Kernel, "do_syscall_64"),
        (Native, "read"),
        (Native, "node::fs::Read"),
        (Builtin, "HandleApiCall"),
        (Js, "readSync"),
        (Builtin, "JSEntry"),
        (Native, "node::Start"),
        (Native, "(libc.so.6)"),
    ];

    #[test]
    fn each_option_shows_its_frames() {
        let thread = main_thread();
        assert_eq!(shown(JS, &READS, &thread), ["readSync", "(program)"]);
        assert_eq!(
            shown(NATIVE, &READS, &thread),
            [
                "node::Start",
                "JSEntry",
                "readSync",
                "HandleApiCall",
                "node::fs::Read",
                "read"
            ]
        );
        assert_eq!(
            shown(KERNEL, &READS, &thread),
            ["readSync", "(program)", "do_syscall_64", "vfs_read"]
        );
        assert_eq!(
            shown(BOTH, &READS, &thread),
            [
                "node::Start",
                "JSEntry",
                "readSync",
                "HandleApiCall",
                "node::fs::Read",
                "read",
                "do_syscall_64",
                "vfs_read"
            ]
        );
    }

    #[test]
    fn builtins_on_top_are_the_functions_own_work() {
        let thread = main_thread();
        let stack = [(Builtin, "ArrayPrototypeMap"), (Js, "f"), (Js, "main")];
        assert_eq!(shown(JS, &stack, &thread), ["main", "f"]);
        assert_eq!(
            shown(NATIVE, &stack, &thread),
            ["main", "f", "ArrayPrototypeMap"]
        );
        // But not what they do for too many shapes of objects.
        let stack = [(Builtin, "LoadIC_Megamorphic"), (Js, "f")];
        assert_eq!(
            shown(JS, &stack, &thread),
            ["f", "(inline cache)", "(megamorphic)"]
        );
        // C++ that calls back into V8, but not into JavaScript yet.
        let stack = [
            (Builtin, "JSEntry"),
            (Native, "v8::Function::Call"),
            (Js, "f"),
        ];
        assert_eq!(shown(JS, &stack, &thread), ["f", "(program)"]);
    }

    #[test]
    fn a_kernel_tick_counts_for_what_user_mode_did() {
        let thread = main_thread();
        let fault = [(Kernel, "asm_exc_page_fault"), (Js, "f"), (Wasm, "w")];
        assert_eq!(shown(JS, &fault, &thread), ["w", "f"]);
        assert_eq!(
            shown(KERNEL, &fault, &thread),
            ["w", "f", "asm_exc_page_fault"]
        );
        let collecting = [
            (Kernel, "do_madvise"),
            (Native, "madvise"),
            (Native, "v8::internal::Heap::MarkCompact"),
            (Native, "v8::internal::Heap::CollectGarbage"),
            (Js, "f"),
        ];
        assert_eq!(
            shown(KERNEL, &collecting, &thread),
            ["f", "(garbage collector)", "(mark-compact)", "do_madvise"]
        );
    }

    #[test]
    fn only_what_is_on_top_of_the_innermost_javascript_counts() {
        let stack = [
            (Js, "required"),
            (Native, "v8::internal::Compiler::Compile"),
            (Js, "require"),
        ];
        assert_eq!(shown(JS, &stack, &main_thread()), ["require", "required"]);
    }

    #[test]
    fn regular_expressions_are_one_frame() {
        let thread = main_thread();
        let regexp = (Kind::Pseudo, "(regexp)");
        let stack = [
            (Native, "v8::internal::StackGuard::HandleInterrupts"),
            regexp,
            (Builtin, "RegExpExecInternal"),
            (Js, "f"),
        ];
        assert_eq!(shown(JS, &stack, &thread), ["f", "(regexp)"]);
        assert_eq!(shown(JS, &stack[1..], &thread), ["f", "(regexp)"]);
        assert_eq!(
            shown(NATIVE, &stack[1..], &thread),
            ["f", "RegExpExecInternal", "(regexp)"]
        );
        let collecting = [
            (Native, "v8::internal::Heap::CollectGarbage"),
            regexp,
            (Js, "f"),
        ];
        assert_eq!(
            shown(JS, &collecting, &thread),
            ["f", "(garbage collector)"]
        );
    }

    #[test]
    fn a_thread_without_javascript_is_its_role() {
        let stack = [
            (Native, "v8::internal::Scavenger::Process"),
            (Native, "node::(anonymous namespace)::PlatformWorkerThread"),
            (Native, "(libc.so.6)"),
        ];
        let mut worker = ThreadRole::new(false, "node", "node");
        assert_eq!(shown(JS, &stack, &worker), ["(native thread)"]);
        worker.learn("node::(anonymous namespace)::PlatformWorkerThread", "node");
        assert_eq!(
            shown(JS, &stack, &worker),
            ["(v8 worker)", "(parallel scavenge)"]
        );
        assert_eq!(
            shown(NATIVE, &stack, &worker),
            [
                "node::(anonymous namespace)::PlatformWorkerThread",
                "v8::internal::Scavenger::Process"
            ]
        );
        assert_eq!(
            shown(JS, &stack, &main_thread()),
            ["(garbage collector)", "(scavenge)"],
            "a task of the main thread's"
        );
        assert_eq!(
            shown(JS, &[(Native, "uv__io_poll")], &main_thread()),
            ["(program)"]
        );
    }

    #[test]
    fn a_stack_is_never_empty() {
        let uring = ThreadRole::new(false, "iou-wrk-1234", "node");
        for options in [JS, NATIVE, KERNEL, BOTH] {
            assert_eq!(shown(options, &[], &uring), ["(io_uring worker)"]);
        }
        let kernel_only = [(Kernel, "io_wq_worker")];
        assert_eq!(shown(JS, &kernel_only, &uring), ["(io_uring worker)"]);
        assert_eq!(shown(NATIVE, &kernel_only, &uring), ["(io_uring worker)"]);
        assert_eq!(
            shown(KERNEL, &kernel_only, &uring),
            ["(io_uring worker)", "io_wq_worker"]
        );
        assert_eq!(shown(BOTH, &kernel_only, &uring), ["io_wq_worker"]);
        // Only a builtin is left of a stack.
        assert_eq!(
            shown(JS, &[(Builtin, "Abort")], &main_thread()),
            ["(program)"]
        );
    }

    #[test]
    fn nameless_frames_of_the_c_library_go_only_where_threads_begin() {
        let stack = [
            (Native, "(libc.so.6)"),
            (Native, "(libcrypto.so.3)"),
            (Native, "main"),
            (Native, "(libc.so.6)"),
            (Native, "(libc.so.6)"),
        ];
        assert_eq!(
            shown(NATIVE, &stack, &main_thread()),
            ["main", "(libcrypto.so.3)", "(libc.so.6)"]
        );
        assert_eq!(
            shown(NATIVE, &stack[3..], &main_thread()),
            ["(libc.so.6)", "(libc.so.6)"]
        );
    }
}
