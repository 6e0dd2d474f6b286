//! Why something is not permitted, and what would help: for every command the same words.
//!
//! [`observer`] and [`process`] read the facts, [`rules`] decides by them what is in the
//! way, [`remedy`] says what helps where we are. The last two are given all that they
//! need: what a setting means can be tested where nobody has it.

pub mod observer;
pub mod pids;
pub mod process;
pub mod remedy;
pub mod rules;

use std::io;

use nodetap_sampler::target::TargetError;
use nodetap_sampler::{ebpf, ptrace, sampler};

use crate::failure::{Failure, reason};
use observer::Observer;
use process::Process;
use remedy::{Task, remedy};
use rules::{Access, Obstacle, why_not_ebpf, why_not_tracing};

/// Why something cannot be done, in one line, and what would help, in another.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Advice {
    /// Why.
    pub reason: String,
    /// What would help, where we know.
    pub hint: Option<String>,
}

impl Advice {
    fn against(obstacle: &Obstacle, us: &Observer, task: Task) -> Advice {
        Advice {
            reason: obstacle.to_string(),
            hint: remedy(obstacle, us, task),
        }
    }

    /// As the end of a command that could not do this.
    pub fn failure(self, what: impl std::fmt::Display) -> Failure {
        Failure::new(format_args!("{what}: {}", self.reason)).hint_maybe(self.hint)
    }
}

/// What keeps us out of process `pid`, if it is there.
pub fn obstacle(us: &Observer, pid: u32, access: Access) -> Option<Obstacle> {
    let it = Process::gather(pid)?;
    Some(why_not_tracing(us, &it, access))
}

/// A process could not be attached to.
pub fn failure_of_target(error: &TargetError) -> Failure {
    if let Some(failure) = pids::failure_of_foreign_proc() {
        return failure;
    }
    let plain = || Failure::new(error).hint_maybe(error.hint());
    match error {
        TargetError::NoPermission { pid, .. } => {
            failure_of_tracing(error, *pid, Access::Read).unwrap_or_else(plain)
        }
        TargetError::NoSuchProcess(pid) => pids::failure_of_no_process(*pid),
        TargetError::NotNode { pid, .. } => match pids::inside_of_containers(*pid) {
            Some(hint) => Failure::new(error).hint(hint),
            None => plain(),
        },
        _ => plain(),
    }
}

/// A process could not be stopped.
pub fn failure_of_ptrace(error: &ptrace::Error) -> Failure {
    if let Some(failure) = pids::failure_of_foreign_proc() {
        return failure;
    }
    let plain = || Failure::new(error).hint_maybe(error.hint());
    match error {
        ptrace::Error::NoPermission { pid } => {
            failure_of_tracing(error, *pid, Access::Stop).unwrap_or_else(plain)
        }
        _ => plain(),
    }
}

fn failure_of_tracing(error: &dyn std::fmt::Display, pid: u32, access: Access) -> Option<Failure> {
    let us = Observer::gather();
    let obstacle = obstacle(&us, pid, access)?;
    Some(Advice::against(&obstacle, &us, Task::Attach).failure(error))
}

/// A sampler does not work.
pub fn failure_of_sampler(error: &sampler::Error, task: Task) -> Failure {
    match error {
        sampler::Error::Ptrace(error) => failure_of_ptrace(error),
        sampler::Error::Ebpf(error) => match error.refused_call() {
            Some(_) => advice_of_ebpf(error, &Observer::gather(), task)
                .failure("no permission to use eBPF"),
            None => Failure::new(error).hint_maybe(error.hint()),
        },
    }
}

/// Why there is no eBPF, and what it takes.
pub fn advice_of_ebpf(error: &ebpf::Error, us: &Observer, task: Task) -> Advice {
    match error.refused_call() {
        Some(call) => Advice::against(&why_not_ebpf(us, call), us, task),
        None => Advice {
            reason: error.to_string(),
            hint: error.hint(),
        },
    }
}

/// Why what we start cannot be traced, if it is that.
pub fn advice_of_start(error: &io::Error, us: &Observer) -> Advice {
    if error.kind() != io::ErrorKind::PermissionDenied {
        return Advice {
            reason: reason(error),
            hint: None,
        };
    }
    let obstacle = why_not_tracing(us, &Process::started_by(us), Access::Stop);
    Advice::against(&obstacle, us, Task::Start)
}

/// `program` could not be started and traced.
pub fn failure_of_start(program: &str, error: &io::Error) -> Failure {
    // A file that may not be executed is told by EACCES, a process that may not be
    // traced by EPERM (`ptrace_attach` in kernel/ptrace.c).
    match rustix::io::Errno::from_io_error(error) {
        Some(rustix::io::Errno::PERM) => advice_of_start(error, &Observer::gather())
            .failure(format_args!("cannot start {program} to trace it")),
        _ => Failure::new(format_args!("cannot start {program}: {}", reason(error))),
    }
}

#[cfg(test)]
pub mod tests;
