//! The priority of a thread of ours that stops others.
//!
//! While it has no CPU, those that it has stopped stand still. And when it samples, it
//! is to wake at the moment of the tick: where all CPUs are busy it would get one when a
//! program enters the kernel rather than while it computes, and stacks of system calls
//! would be taken more often than their share.

use std::ptr;

use rustix::process::setpriority_process;

/// Gives this thread of ours the lowest of the real-time priorities, which goes before
/// all that is not of real time; where that is not allowed, the best one that is. No
/// thread or process that this one starts gets the same.
///
/// Whoever calls this does not keep a CPU for long: it waits, or ends soon. (And the
/// kernel gives what is of real time 95 % of a CPU at most.)
pub(super) fn raise() {
    let parameters = libc::sched_param { sched_priority: 1 };
    let policy = libc::SCHED_FIFO | libc::SCHED_RESET_ON_FORK;
    // SAFETY: `parameters` is there to be read; 0 is this thread.
    if unsafe { libc::sched_setscheduler(0, policy, ptr::from_ref(&parameters)) } == 0 {
        return;
    }
    // Who may not have that may have less. On Linux a priority is a thread's own.
    let _ = [-20, -10, -5, -1]
        .into_iter()
        .find(|&nice| setpriority_process(None, nice).is_ok());
}
