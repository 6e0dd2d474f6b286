//! System calls that a sandbox keeps from us, whoever we are.

use std::fmt;
use std::io;

/// A system call that a sampler cannot do without.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Call {
    /// `bpf`, to load the program.
    Bpf,
    /// `perf_event_open`, for the clock that it runs on.
    PerfEventOpen,
    /// `ptrace`, to stop threads.
    Ptrace,
}

impl Call {
    /// All of them.
    pub const ALL: [Call; 3] = [Call::Bpf, Call::PerfEventOpen, Call::Ptrace];

    /// Whether a filter (`seccomp(2)`) refuses the call, whatever is asked for.
    ///
    /// Asks for what nobody can have. The kernel, where it gets to see the call, finds
    /// fault with that; what says "not permitted" has not looked at it. (Before Linux 6.5
    /// `bpf` says so, too, to whoever lacks the capability for it.)
    pub fn is_filtered(self) -> bool {
        const NOTHING: libc::c_long = 0;
        const NO_COMMAND: libc::c_long = i32::MAX as libc::c_long;
        const NO_FLAGS: libc::c_long = -1;
        // SAFETY: requests that the kernel refuses before it takes memory of ours: no
        // such command, no such flags (`SYSCALL_DEFINE5(perf_event_open)` in
        // kernel/events/core.c checks them first), no process 0.
        let result = unsafe {
            match self {
                Call::Bpf => libc::syscall(libc::SYS_bpf, NO_COMMAND, NOTHING, NOTHING),
                Call::PerfEventOpen => libc::syscall(
                    libc::SYS_perf_event_open,
                    NOTHING,
                    NOTHING,
                    NOTHING,
                    NOTHING,
                    NO_FLAGS,
                ),
                Call::Ptrace => libc::ptrace(libc::PTRACE_DETACH, 0, NOTHING, NOTHING),
            }
        };
        let errno = io::Error::last_os_error().raw_os_error();
        result == -1 && matches!(errno, Some(libc::EPERM | libc::EACCES))
    }
}

impl fmt::Display for Call {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Call::Bpf => "bpf",
            Call::PerfEventOpen => "perf_event_open",
            Call::Ptrace => "ptrace",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_filtered_here() {
        for call in Call::ALL {
            assert!(!call.is_filtered(), "{call}");
        }
    }
}
