//! What a thread waited for, while it had no CPU.
//!
//! - The event loop of a thread that runs JavaScript is idle while it waits for events
//!   and no JavaScript is below: `spawnSync` has a loop of its own, which waits for it.
//! - All else is named by the system call that the thread was in: `(blocked in read)`.
//! - Threads that run no JavaScript wait most of the time, for something to do. That is
//!   left out; what libuv's workers wait for in the midst of a task is not.

use std::sync::Arc;

use nodetap_profile::{Frame, Kind};
use nodetap_sampler::raw::Cause;

use crate::complete::is_c_library;
use crate::roles::{Role, ThreadRole};
use crate::system_calls;

/// The event loop has nothing to do.
pub const IDLE: &str = "(idle)";
/// The thread could run, but has no CPU.
pub const WAITING_FOR_CPU: &str = "(waiting for a CPU)";

/// What to call a wait of `thread`, which has all these frames, innermost first, and
/// whether the thread's first one is among them; `None` for one that nobody wants to
/// see.
pub fn label(
    cause: Cause,
    stack: &[&Frame],
    is_complete: bool,
    thread: &ThreadRole,
) -> Option<Arc<str>> {
    let is_wanted = thread.runs_javascript()
        || cause == Cause::Cpu
        || thread.role() == Some(Role::LibuvWorker)
            && match cause {
                Cause::SystemCall(system_calls::FUTEX) | Cause::Stopped => is_in_task(stack),
                _ => true,
            };
    if !is_wanted {
        return None;
    }
    let number = match cause {
        Cause::Cpu => return Some(WAITING_FOR_CPU.into()),
        Cause::PageFault => return Some("(page fault)".into()),
        Cause::Stopped => return Some("(stopped)".into()),
        Cause::SystemCall(number) => number,
    };
    let is_script = |frame: &&Frame| matches!(frame.kind, Kind::Js | Kind::Wasm);
    let is_idle = thread.runs_javascript()
        && is_complete
        && system_calls::waits_for_events(number)
        && !stack.iter().any(is_script);
    if is_idle {
        return Some(IDLE.into());
    }
    Some(match system_calls::name(number) {
        Some(name) => format!("(blocked in {name})").into(),
        None => format!("(blocked in system call {number})").into(),
    })
}

/// Whether nothing that a thread waits for, but a CPU, will ever be wanted.
pub fn are_unwanted(thread: &ThreadRole) -> bool {
    let is_known = thread.role().is_some_and(|role| role != Role::LibuvWorker);
    is_known && !thread.runs_javascript()
}

/// Leaves out what the kernel does when it gives a CPU to another thread, our own
/// program that sees it included: `frames` are the kernel's, innermost first.
pub fn leave_out_switch<'a, T: Copy>(frames: &mut Vec<T>, function: impl Fn(T) -> &'a str) {
    let switch = frames.iter().take(MOST_OF_SWITCH);
    if let Some(index) = switch
        .into_iter()
        .position(|&frame| function(frame) == "__schedule")
    {
        frames.drain(..=index);
    }
}

/// How many frames that takes, at most.
const MOST_OF_SWITCH: usize = 8;

/// Whether a libuv worker with this stack has something to do: it calls more than what
/// waits for that (`worker` in deps/uv/src/threadpool.c).
fn is_in_task(stack: &[&Frame]) -> bool {
    let is_worker = |frame: &&&Frame| &*frame.function == "worker";
    let called = stack.iter().take_while(|frame| !is_worker(frame));
    called.into_iter().any(|frame| {
        let is_waiting = frame.function.starts_with("uv_cond_")
            || frame.function.starts_with("uv_mutex_")
            || frame.file.as_deref().is_some_and(is_c_library);
        frame.kind == Kind::Native && !is_waiting
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const READ: Cause = Cause::SystemCall(0);
    const EPOLL: Cause = Cause::SystemCall(281);
    const FUTEX: Cause = Cause::SystemCall(system_calls::FUTEX);

    fn frames(stack: &[(Kind, &str)]) -> Vec<Frame> {
        let frame = |&(kind, function): &(Kind, &str)| Frame {
            file: function
                .starts_with("pthread_")
                .then(|| "/lib/libc.so.6".into()),
            ..Frame::new(kind, function)
        };
        stack.iter().map(frame).collect()
    }

    fn labelled(cause: Cause, stack: &[(Kind, &str)], thread: &ThreadRole) -> Option<String> {
        let frames = frames(stack);
        let frames: Vec<&Frame> = frames.iter().collect();
        label(cause, &frames, true, thread).map(|label| label.to_string())
    }

    #[test]
    fn an_event_loop_is_idle_where_no_javascript_waits_for_it() {
        let main = ThreadRole::new(true, "node", "node");
        let idle = [
            (Kind::Native, "epoll_pwait"),
            (Kind::Native, "uv__io_poll"),
            (Kind::Native, "uv_run"),
            (Kind::Native, "node::Start"),
        ];
        assert_eq!(labelled(EPOLL, &idle, &main).as_deref(), Some("(idle)"));
        assert_eq!(
            labelled(FUTEX, &idle, &main).as_deref(),
            Some("(blocked in futex)")
        );
        assert_eq!(
            labelled(Cause::Cpu, &idle, &main).as_deref(),
            Some("(waiting for a CPU)")
        );
        let mut nested = idle.to_vec();
        nested.insert(3, (Kind::Js, "spawnSync"));
        assert_eq!(
            labelled(EPOLL, &nested, &main).as_deref(),
            Some("(blocked in epoll_pwait)")
        );
        let cut = frames(&idle[..2]);
        let cut: Vec<&Frame> = cut.iter().collect();
        assert_eq!(
            label(EPOLL, &cut, false, &main).as_deref(),
            Some("(blocked in epoll_pwait)"),
            "what is below is not known"
        );
        assert_eq!(
            labelled(Cause::SystemCall(400), &[], &main).as_deref(),
            Some("(blocked in system call 400)")
        );
    }

    #[test]
    fn the_switch_itself_is_left_out() {
        let mut frames = vec![
            "bpf_prog_1_nodetap_switch",
            "bpf_trace_run4",
            "__schedule",
            "schedule",
            "do_epoll_wait",
        ];
        leave_out_switch(&mut frames, |frame| frame);
        assert_eq!(frames, ["schedule", "do_epoll_wait"]);
        leave_out_switch(&mut frames, |frame| frame);
        assert_eq!(frames, ["schedule", "do_epoll_wait"]);
    }

    #[test]
    fn of_other_threads_only_tasks_of_libuv_wait_for_something() {
        let v8 = ThreadRole::new(false, "V8Worker", "node");
        assert_eq!(labelled(FUTEX, &[], &v8), None);
        assert_eq!(labelled(READ, &[], &v8), None);
        assert!(labelled(Cause::Cpu, &[], &v8).is_some());

        let libuv = ThreadRole::new(false, "libuv-worker", "node");
        let idle = [
            (Kind::Native, "pthread_cond_wait"),
            (Kind::Native, "uv_cond_wait"),
            (Kind::Native, "worker"),
            (Kind::Native, "start_thread"),
        ];
        assert_eq!(labelled(FUTEX, &idle, &libuv), None);
        assert_eq!(
            labelled(READ, &idle[..1], &libuv).as_deref(),
            Some("(blocked in read)")
        );
        let mut task = idle.to_vec();
        task.insert(2, (Kind::Native, "uv__getaddrinfo_work"));
        assert_eq!(
            labelled(FUTEX, &task, &libuv).as_deref(),
            Some("(blocked in futex)")
        );
    }
}
