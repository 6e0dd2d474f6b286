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
    let Some(status) = waitpid(tid, libc::WNOHANG)? else {
        return Ok(None);
    };
    Ok(Some(event_of(status)))
}

/// The next thing that a thread does which is traced for its execs.
pub(crate) fn wait_for_event(tid: i32) -> io::Result<Event> {
    loop {
        match waitpid(tid, 0) {
            Ok(Some(status)) => return Ok(event_of(status)),
            Ok(None) => {}
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

fn event_of(status: i32) -> Event {
    if !libc::WIFSTOPPED(status) {
        return Event::Ended(status);
    }
    let signal = libc::WSTOPSIG(status);
    match status >> 16 {
        0 => Event::Signal(signal),
        libc::PTRACE_EVENT_EXEC => Event::Execed,
        libc::PTRACE_EVENT_STOP if signal != libc::SIGTRAP => Event::GroupStop,
        _ => Event::Signal(0),
    }
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

/// Looks whether a traced thread has stopped, without waiting for it.
pub(super) fn status(tid: i32) -> io::Result<Status> {
    match waitpid(tid, libc::WNOHANG) {
        Ok(None) => Ok(Status::Running),
        // Not ours any more: an exec of another thread has ended it.
        Err(error) if error.raw_os_error() == Some(libc::ECHILD) => Ok(Status::Ended),
        Err(error) => Err(error),
        Ok(Some(status)) if libc::WIFSTOPPED(status) => {
            let signal = stop_signal(status >> 8);
            Ok(Status::Stopped { signal })
        }
        Ok(Some(_)) => Ok(Status::Ended),
    }
}

/// Looks whether a traced thread that was asked to stop has done so, or has ended.
///
/// The end of a process that this one has started is left to whoever asks for its
/// exit status: it could be told but once.
pub(super) fn look(tid: i32) -> io::Result<Status> {
    // SAFETY: a structure of integers, for which zero is a value.
    let mut found: libc::siginfo_t = unsafe { std::mem::zeroed() };
    let options = libc::WEXITED | libc::WSTOPPED | libc::__WALL | libc::WNOWAIT | libc::WNOHANG;
    // SAFETY: `found` is there to be written to.
    while unsafe { libc::waitid(libc::P_PID, tid as u32, &mut found, options) } != 0 {
        match io::Error::last_os_error() {
            error if error.kind() == io::ErrorKind::Interrupted => {}
            // Not ours any more: an exec of another thread has ended it.
            error if error.raw_os_error() == Some(libc::ECHILD) => return Ok(Status::Ended),
            error => return Err(error),
        }
    }
    // SAFETY: the kernel has filled in what belongs to a child, or nothing.
    if unsafe { found.si_pid() } == 0 {
        return Ok(Status::Running);
    }
    if matches!(found.si_code, libc::CLD_TRAPPED | libc::CLD_STOPPED) {
        // SAFETY: the kernel has filled in what belongs to a child.
        let status = unsafe { found.si_status() };
        return Ok(Status::Stopped {
            signal: stop_signal(status),
        });
    }
    if !is_our_child(tid) {
        let _ = waitpid(tid, libc::WNOHANG);
    }
    Ok(Status::Ended)
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

/// What has become of a thread, if something has.
fn waitpid(tid: i32, options: i32) -> io::Result<Option<i32>> {
    let mut status = 0;
    // SAFETY: `status` is there to be written to.
    match unsafe { libc::waitpid(tid, &mut status, libc::__WALL | options) } {
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
