//! The few system calls, as functions that are safe to call.
//!
//! Through `libc`: neither `rustix` nor `nix` will do. The one has no ptrace,
//! the other fails to wait for a thread that a real-time signal has stopped.

use std::io;
use std::ptr;

use crate::raw::Registers;

/// A stopped thread's registers, and where it was stopped.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct State {
    /// In user mode.
    pub registers: Registers,
    /// Whether it was in a system call; it goes on with it.
    pub in_kernel: bool,
}

/// What has become of a thread that was asked to stop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Status {
    /// It still runs.
    Running,
    /// It stands still. `signal` was about to be delivered to it and is to be
    /// given back; 0: none.
    Stopped { signal: i32 },
    /// It has ended.
    Ended,
}

/// Begins to trace `tid`, which goes on running. Should this thread end, the
/// kernel lets go of it.
pub(super) fn seize(tid: i32) -> io::Result<()> {
    // SAFETY: a request that takes no memory of ours.
    check(unsafe { libc::ptrace(libc::PTRACE_SEIZE, tid, 0, 0) })
}

/// Asks a traced thread to stop.
pub(super) fn interrupt(tid: i32) -> io::Result<()> {
    // SAFETY: a request that takes no memory of ours.
    check(unsafe { libc::ptrace(libc::PTRACE_INTERRUPT, tid, 0, 0) })
}

/// Lets a stopped thread run again, and gives it `signal` unless that is 0.
pub(super) fn detach(tid: i32, signal: i32) -> io::Result<()> {
    // SAFETY: a request that takes no memory of ours.
    check(unsafe { libc::ptrace(libc::PTRACE_DETACH, tid, 0, libc::c_long::from(signal)) })
}

/// Looks whether a traced thread has stopped, without waiting for it.
pub(super) fn status(tid: i32) -> io::Result<Status> {
    wait_with(tid, libc::WNOHANG)
}

/// Waits until a traced thread that was asked to stop has done so, or has ended.
pub(super) fn wait(tid: i32) -> io::Result<Status> {
    loop {
        match wait_with(tid, 0) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            result => return result,
        }
    }
}

fn wait_with(tid: i32, options: i32) -> io::Result<Status> {
    let mut status = 0;
    // SAFETY: `status` is there to be written to.
    let found = unsafe { libc::waitpid(tid, &mut status, libc::__WALL | options) };
    match found {
        0 => Ok(Status::Running),
        -1 => match io::Error::last_os_error() {
            // Not ours any more: an exec of another thread has ended it.
            error if error.raw_os_error() == Some(libc::ECHILD) => Ok(Status::Ended),
            error => Err(error),
        },
        _ if libc::WIFSTOPPED(status) => {
            // Without any option there is one kind of event: the stop that we
            // asked for, or that of the whole group (SIGSTOP). What is no
            // event is a signal.
            let signal = match status >> 16 {
                0 => libc::WSTOPSIG(status),
                _ => 0,
            };
            Ok(Status::Stopped { signal })
        }
        _ => Ok(Status::Ended),
    }
}

/// The registers of a stopped thread.
pub(super) fn state(tid: i32) -> io::Result<State> {
    // SAFETY: a structure of integers, for which zero is a value.
    let mut found: libc::user_regs_struct = unsafe { std::mem::zeroed() };
    let to: *mut libc::user_regs_struct = ptr::from_mut(&mut found);
    // SAFETY: the kernel fills the structure in, which is of the kind that it
    // expects.
    check(unsafe { libc::ptrace(libc::PTRACE_GETREGS, tid, 0, to) })?;
    Ok(State {
        registers: Registers {
            rip: found.rip,
            rsp: found.rsp,
            rbp: found.rbp,
            rax: found.rax,
            rbx: found.rbx,
            rcx: found.rcx,
            rdx: found.rdx,
            rsi: found.rsi,
            rdi: found.rdi,
            r8: found.r8,
            r9: found.r9,
            r10: found.r10,
            r11: found.r11,
            r12: found.r12,
            r13: found.r13,
            r14: found.r14,
            r15: found.r15,
        },
        // The number of the call; negative where it was none that led into the
        // kernel.
        in_kernel: (found.orig_rax as i64) >= 0,
    })
}

fn check(result: libc::c_long) -> io::Result<()> {
    match result {
        -1 => Err(io::Error::last_os_error()),
        _ => Ok(()),
    }
}
