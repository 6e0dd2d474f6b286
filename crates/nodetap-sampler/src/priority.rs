//! The priority of threads of ours.
//!
//! One that only reads what the kernel has taken needs a hundredth of a CPU, but that in
//! time: on a machine whose CPUs are wanted by hundreds it would get less.
//!
//! While one that stops others has no CPU, those that it has stopped stand still. And when that
//! samples, it is to wake at the moment of the tick: where all CPUs are busy it would get one when a
//! program enters the kernel rather than while it computes, and stacks of system calls
//! would be taken more often than their share.

use std::ptr;

use rustix::process::{getpriority_process, setpriority_process};

/// Gives this thread of ours the lowest of the real-time priorities, which goes before
/// all that is not of real time; where that is not allowed, the best one that is. No
/// thread or process that this one starts gets the same.
///
/// Whoever calls this does not keep a CPU for long: it waits, or ends soon. (And the
/// kernel gives what is of real time 95 % of a CPU at most.)
pub(crate) fn raise() {
    let parameters = libc::sched_param { sched_priority: 1 };
    let policy = libc::SCHED_FIFO | libc::SCHED_RESET_ON_FORK;
    // SAFETY: `parameters` is there to be read; 0 is this thread.
    if unsafe { libc::sched_setscheduler(0, policy, ptr::from_ref(&parameters)) } == 0 {
        return;
    }
    take_best();
}

/// As long as it is there, the thread that made it goes before most others; but not where
/// somebody has given it another priority than most have, or that is not allowed. No thread
/// or process that it starts gets the same.
#[derive(Debug)]
pub struct Preferred {
    changed: bool,
}

/// Before nine of ten that want the same CPU, and not before all.
const PREFERRED: i32 = -10;

impl Preferred {
    /// From now on.
    pub fn start() -> Preferred {
        // SAFETY: it reads and writes no memory of ours; 0 is this thread.
        let policy = unsafe { libc::sched_getscheduler(0) };
        if policy != libc::SCHED_OTHER || getpriority_process(None) != Ok(0) {
            return Preferred { changed: false };
        }
        let parameters = libc::sched_param { sched_priority: 0 };
        // SAFETY: `parameters` is there to be read.
        let set = unsafe {
            let policy = libc::SCHED_OTHER | libc::SCHED_RESET_ON_FORK;
            libc::sched_setscheduler(0, policy, ptr::from_ref(&parameters))
        };
        Preferred {
            changed: set == 0 && setpriority_process(None, PREFERRED).is_ok(),
        }
    }
}

impl Drop for Preferred {
    fn drop(&mut self) {
        if self.changed {
            // Anybody may have less.
            let _ = setpriority_process(None, 0);
        }
    }
}

/// Who may not have much may have less. On Linux a priority is a thread's own.
fn take_best() {
    let _ = [-20, -10, -5, -1]
        .into_iter()
        .find(|&nice| setpriority_process(None, nice).is_ok());
}
