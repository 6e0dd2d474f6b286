//! The few system calls, as functions that are safe to call.
//!
//! Through `libc`: neither `rustix` nor `nix` will do. The one has no ptrace,
//! the other fails to wait for a thread that a real-time signal has stopped.

use std::io;
use std::ptr;

use crate::raw::Registers;

/// A stopped thread's registers, and where it was stopped.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct State {
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

/// What a thread that is traced for its execs does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Event {
    /// It is at the beginning of another program, and stands still.
    Execed,
    /// It is about to get this signal (0: none), and stands still.
    Signal(i32),
    /// All of its process were stopped by a signal.
    GroupStop,
    /// It has ended, with this status of `wait(2)`.
    Ended(i32),
}

/// Begins to trace `tid`, which goes on running, and stops in every exec.
pub(crate) fn seize_with_execs(tid: i32) -> io::Result<()> {
    // SAFETY: a request that takes no memory of ours.
    check(unsafe { libc::ptrace(libc::PTRACE_SEIZE, tid, 0, libc::PTRACE_O_TRACEEXEC) })
}

/// Lets a stopped thread run on, traced, with `signal` unless that is 0.
pub(crate) fn proceed(tid: i32, signal: i32) -> io::Result<()> {
    // SAFETY: a request that takes no memory of ours.
    check(unsafe { libc::ptrace(libc::PTRACE_CONT, tid, 0, libc::c_long::from(signal)) })
}

/// Leaves a thread stopped as its whole process is, until that goes on.
pub(crate) fn listen(tid: i32) -> io::Result<()> {
    // SAFETY: a request that takes no memory of ours.
    check(unsafe { libc::ptrace(libc::PTRACE_LISTEN, tid, 0, 0) })
}

/// What a thread that is traced for its execs has done, if it has done something.
pub(crate) fn event(tid: i32) -> io::Result<Option<Event>> {
    let change = change(tid, libc::WNOHANG)?;
    change.map(|change| event_of(tid, change)).transpose()
}

/// The next thing that a thread does which is traced for its execs.
pub(crate) fn wait_for_event(tid: i32) -> io::Result<Event> {
    loop {
        if let Some(change) = change(tid, 0)? {
            return event_of(tid, change);
        }
    }
}

fn event_of(tid: i32, change: Change) -> io::Result<Event> {
    let Change::Stopped { code } = change else {
        return match reap(tid)? {
            Some(status) => Ok(Event::Ended(status)),
            None => Err(io::ErrorKind::WouldBlock.into()),
        };
    };
    let signal = code & 0xff;
    Ok(match code >> 8 {
        0 => Event::Signal(signal),
        libc::PTRACE_EVENT_EXEC => Event::Execed,
        libc::PTRACE_EVENT_STOP if signal != libc::SIGTRAP => Event::GroupStop,
        _ => Event::Signal(0),
    })
}

/// Begins to trace `tid`, which goes on running. Should this thread end, the
/// kernel lets go of it.
pub(super) fn seize(tid: i32) -> io::Result<()> {
    // SAFETY: a request that takes no memory of ours.
    check(unsafe { libc::ptrace(libc::PTRACE_SEIZE, tid, 0, 0) })
}

/// Asks a traced thread to stop.
pub(crate) fn interrupt(tid: i32) -> io::Result<()> {
    // SAFETY: a request that takes no memory of ours.
    check(unsafe { libc::ptrace(libc::PTRACE_INTERRUPT, tid, 0, 0) })
}

/// Lets a stopped thread run again, and gives it `signal` unless that is 0.
pub(crate) fn detach(tid: i32, signal: i32) -> io::Result<()> {
    // SAFETY: a request that takes no memory of ours.
    check(unsafe { libc::ptrace(libc::PTRACE_DETACH, tid, 0, libc::c_long::from(signal)) })
}

/// Looks whether a traced thread has stopped, or has ended, without waiting for it.
pub(super) fn status(tid: i32) -> io::Result<Status> {
    match change(tid, libc::WNOHANG) {
        Ok(None) => Ok(Status::Running),
        Ok(Some(Change::Stopped { code })) => Ok(Status::Stopped {
            signal: stop_signal(code),
        }),
        Ok(Some(Change::Ended)) => {
            // The end of a process that this one has started is left to whoever asks for
            // its exit status: it could be told but once.
            if !is_our_child(tid) {
                let _ = reap(tid);
            }
            Ok(Status::Ended)
        }
        // Not ours any more: an exec of another thread has ended it.
        Err(error) if error.raw_os_error() == Some(libc::ECHILD) => Ok(Status::Ended),
        Err(error) => Err(error),
    }
}

/// Whether this thread of ours traces the thread `tid`.
pub(super) fn is_traced(tid: i32) -> bool {
    change(tid, libc::WNOHANG).is_ok()
}

/// Whether this process has started the process `pid`.
fn is_our_child(pid: i32) -> bool {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let parent = status.lines().find_map(|line| line.strip_prefix("PPid:"));
    // A thread has its process's parent.
    let process = status.lines().find_map(|line| line.strip_prefix("Tgid:"));
    let is = |number: Option<&str>, id: u32| {
        number.is_some_and(|number| number.trim().parse() == Ok(id))
    };
    is(parent, std::process::id()) && is(process, pid.unsigned_abs())
}

/// The signal that a thread stopped with is about to get (0: none), by the exit code
/// that the kernel gives the stop. Without any option there is one kind of event: the
/// stop that was asked for, or that of the whole group (SIGSTOP). What is no event is
/// a signal.
fn stop_signal(code: i32) -> i32 {
    match code >> 8 {
        0 => code,
        _ => 0,
    }
}

/// What has become of a thread that this one traces.
#[derive(Clone, Copy, Debug)]
enum Change {
    /// It stands still, for what the exit code says that the kernel gives the stop.
    Stopped { code: i32 },
    /// It has ended.
    Ended,
}

/// What has become of a thread that this one traces. (What other threads of ours trace,
/// or this process has started, it does not tell.)
///
/// It is not taken note of (`WNOWAIT`), so the kernel tells it again until the thread is
/// let go, or reaped. For taking note of a stop takes the signal that the thread is about
/// to get (`wait_task_stopped` in the kernel's `kernel/exit.c`): if we were killed then,
/// nobody would give it back.
fn change(tid: i32, options: i32) -> io::Result<Option<Change>> {
    let options =
        libc::WEXITED | libc::WSTOPPED | libc::WNOWAIT | libc::__WALL | libc::__WNOTHREAD | options;
    // SAFETY: a structure of integers, for which zero is a value.
    let mut found: libc::siginfo_t = unsafe { std::mem::zeroed() };
    // SAFETY: `found` is there to be written to.
    while unsafe { libc::waitid(libc::P_PID, tid.unsigned_abs(), &mut found, options) } != 0 {
        match io::Error::last_os_error() {
            error if error.kind() == io::ErrorKind::Interrupted => {}
            error => return Err(error),
        }
    }
    // SAFETY: the kernel has filled in what belongs to a child, or nothing.
    let (found_any, code) = unsafe { (found.si_pid() != 0, found.si_status()) };
    Ok(found_any.then_some(match found.si_code {
        libc::CLD_TRAPPED | libc::CLD_STOPPED => Change::Stopped { code },
        _ => Change::Ended,
    }))
}

/// Takes note of the end of a thread that any thread of ours traces; how it ended.
pub(super) fn reap(tid: i32) -> io::Result<Option<i32>> {
    let mut status = 0;
    // SAFETY: `status` is there to be written to.
    match unsafe { libc::waitpid(tid, &mut status, libc::__WALL | libc::WNOHANG) } {
        0 => Ok(None),
        -1 => Err(io::Error::last_os_error()),
        _ => Ok(Some(status)),
    }
}

/// Copies `pieces` (address and length) of a thread's memory one after the other into
/// `bytes`, as far as they can be read; how many bytes.
pub(super) fn read_memory(
    tid: i32,
    pieces: &[(u64, usize)],
    bytes: &mut [u8],
) -> io::Result<usize> {
    let to = libc::iovec {
        iov_base: bytes.as_mut_ptr().cast(),
        iov_len: bytes.len(),
    };
    let from: Vec<libc::iovec> = pieces
        .iter()
        .map(|&(address, length)| libc::iovec {
            iov_base: address as *mut libc::c_void,
            iov_len: length,
        })
        .collect();
    // SAFETY: `to` is of one range that is there to be written to, and of which no more
    // is written than it has; the others are addresses of another process.
    let copied = unsafe {
        libc::process_vm_readv(tid, &to, 1, from.as_ptr(), from.len() as libc::c_ulong, 0)
    };
    usize::try_from(copied).map_err(|_| io::Error::last_os_error())
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
