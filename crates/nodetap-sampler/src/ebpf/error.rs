//! Why the eBPF sampler could not start, and what would help.

use std::io;

use aya::EbpfError;
use aya::maps::MapError;
use aya::programs::ProgramError;
use rustix::io::Errno;
use rustix::process::{Resource, getrlimit};

use super::host;
use crate::sandbox::Call;

/// Why the eBPF sampler could not start or go on. Each is told in one line;
/// [`Error::hint`] tells in another what would help.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The user lacks a capability that the kernel asks for.
    #[error("no permission to use eBPF: {} missing", .missing.join(" and "))]
    NoPermission {
        /// Names of the missing capabilities.
        missing: Vec<&'static str>,
    },
    /// The kernel refuses though the capabilities are there.
    #[error("eBPF is forbidden here, though this user has the capabilities for it")]
    Forbidden {
        /// The capabilities are those of a user namespace.
        user_namespace: bool,
    },
    /// The kernel, or the sandbox around this process, has no eBPF or too
    /// little of it.
    #[error("this kernel cannot sample with eBPF: {what}")]
    Unsupported {
        /// What is not there.
        what: String,
    },
    /// `perf_event_open` is not allowed.
    #[error("no permission to sample the whole machine: perf_event_open: {source}")]
    PerfEventRefused {
        /// `kernel.perf_event_paranoid`, if it could be read.
        paranoid: Option<i32>,
        /// `CAP_PERFMON` is missing.
        missing: bool,
        /// What the kernel answered.
        source: io::Error,
    },
    /// The kernel's verifier refused the program.
    #[error("the kernel refused the sampling program: {source}: {}", last_words(.log))]
    Rejected {
        /// What the kernel answered.
        source: io::Error,
        /// What its verifier wrote.
        log: String,
    },
    /// This process may not open as many files as there are CPUs, about.
    #[error("too many open files: the sampler needs one a CPU and a few more{}", or_limit(.limit))]
    TooManyFiles {
        /// The limit (`RLIMIT_NOFILE`), if it is the process's own.
        limit: Option<u64>,
    },
    /// No memory for the program's maps.
    #[error("no memory for the sampler's buffers in the kernel: {source}")]
    NoMemory {
        /// What the kernel answered.
        source: io::Error,
    },
    /// The rate is 0 or more than the kernel delivers.
    #[error("a rate of {rate_hz} Hz is not possible, {highest} Hz is the highest")]
    Rate {
        /// The rate asked for.
        rate_hz: u32,
        /// The highest possible.
        highest: u32,
    },
    /// A process was added with a greater depth than the sampler was started for.
    #[error("stacks {asked} deep were asked for, but the sampler was started for {possible}")]
    Depth {
        /// Frames asked for.
        asked: u32,
        /// Frames that there is room for.
        possible: u32,
    },
    /// What is known of a V8 does not fit the walker.
    #[error("the walker cannot read this V8: {0}")]
    Layout(String),
    /// More than [`super::shared::MAX_PROCESSES`] processes.
    #[error(
        "too many processes to sample at once: {} at most",
        super::shared::MAX_PROCESSES
    )]
    TooManyProcesses,
    /// A file of the kernel's could not be read.
    #[error("cannot read {path}: {source}")]
    File {
        /// Which.
        path: &'static str,
        /// Why.
        source: io::Error,
    },
    /// Another system call failed.
    #[error("{call}: {source}")]
    System {
        /// Which.
        call: String,
        /// Why.
        source: io::Error,
    },
    /// The compiled-in program is not what its loader expects.
    #[error("the sampling program in this executable is damaged: {0}")]
    Object(String),
}

impl Error {
    /// What the user can do about it, in one line; nothing where we know none. (What
    /// gives a permission depends on more than this knows: [`Error::refused_call`].)
    pub fn hint(&self) -> Option<String> {
        let hint = match self {
            Error::Unsupported { .. } => {
                "Linux 5.15 or later is needed, with CONFIG_BPF_SYSCALL, CONFIG_PERF_EVENTS and \
                 CONFIG_DEBUG_INFO_BTF"
            }
            Error::TooManyFiles { limit: Some(_) } => "raise the limit first: ulimit -n 4096",
            Error::Rate { highest, .. } if *highest < 100_000 => {
                "more is possible after: sysctl kernel.perf_event_max_sample_rate=100000"
            }
            Error::NoMemory { .. } => {
                "ask for a smaller depth, or raise the memory limit of the container"
            }
            _ => return None,
        };
        Some(hint.to_owned())
    }

    /// The system call that this user may not make here, if that is why.
    pub fn refused_call(&self) -> Option<Call> {
        match self {
            Error::NoPermission { .. } | Error::Forbidden { .. } => Some(Call::Bpf),
            Error::PerfEventRefused { .. } => Some(Call::PerfEventOpen),
            _ => None,
        }
    }

    /// A failed `bpf` system call that is not about the program itself.
    pub(super) fn of_bpf(call: &str, source: io::Error) -> Self {
        match errno(&source) {
            Some(Errno::PERM | Errno::ACCESS) => Error::of_refusal(),
            Some(Errno::NOSYS) => Error::Unsupported {
                what: "it has no bpf system call".to_owned(),
            },
            Some(Errno::INVAL) => Error::Unsupported {
                what: format!("{call}: {source}"),
            },
            Some(Errno::MFILE | Errno::NFILE) => Error::of_files(&source),
            Some(Errno::NOMEM) => Error::NoMemory { source },
            Some(Errno::TOOBIG) => Error::TooManyProcesses,
            _ => Error::System {
                call: call.to_owned(),
                source,
            },
        }
    }

    fn of_refusal() -> Self {
        let missing = host::missing_capabilities();
        if missing.is_empty() {
            Error::Forbidden {
                user_namespace: host::in_user_namespace(),
            }
        } else {
            Error::NoPermission { missing }
        }
    }

    fn of_files(source: &io::Error) -> Self {
        let own = errno(source) == Some(Errno::MFILE);
        Error::TooManyFiles {
            limit: getrlimit(Resource::Nofile).current.filter(|_| own),
        }
    }

    /// The program could not be loaded.
    fn of_load(source: io::Error, log: String) -> Self {
        let refused = matches!(errno(&source), Some(Errno::PERM | Errno::ACCESS));
        if refused && (log.is_empty() || !host::missing_capabilities().is_empty()) {
            return Error::of_refusal();
        }
        match errno(&source) {
            Some(Errno::NOSYS | Errno::MFILE | Errno::NFILE | Errno::NOMEM) => {
                Error::of_bpf("cannot load the program", source)
            }
            _ if !host::has_type_information() => Error::Unsupported {
                what: "it has no type information (/sys/kernel/btf/vmlinux)".to_owned(),
            },
            _ => Error::Rejected { source, log },
        }
    }

    /// The program could not be attached to a CPU's clock.
    pub(super) fn of_attach(error: ProgramError) -> Self {
        let ProgramError::SyscallError(error) = error else {
            return error.into();
        };
        let source = error.io_error;
        match errno(&source) {
            Some(Errno::PERM | Errno::ACCESS) if error.call == "perf_event_open" => {
                Error::PerfEventRefused {
                    paranoid: host::perf_event_paranoid(),
                    missing: host::missing_capabilities().contains(&"CAP_PERFMON"),
                    source,
                }
            }
            Some(Errno::NOSYS | Errno::NOENT | Errno::OPNOTSUPP | Errno::NODEV) => {
                Error::Unsupported {
                    what: format!("{}: {source}", error.call),
                }
            }
            _ => Error::of_bpf(error.call, source),
        }
    }
}

impl From<EbpfError> for Error {
    fn from(error: EbpfError) -> Self {
        match error {
            EbpfError::MapError(error) => error.into(),
            EbpfError::ProgramError(error) => error.into(),
            EbpfError::BtfError(aya::BtfError::LoadError { io_error, .. }) => {
                Error::of_bpf("cannot load type information", io_error)
            }
            error => Error::Object(chain(&error)),
        }
    }
}

impl From<ProgramError> for Error {
    fn from(error: ProgramError) -> Self {
        match error {
            ProgramError::LoadError {
                io_error,
                verifier_log,
            } => Error::of_load(io_error, verifier_log.to_string()),
            ProgramError::SyscallError(error) => Error::of_bpf(error.call, error.io_error),
            ProgramError::MapError(error) => error.into(),
            error => Error::Object(chain(&error)),
        }
    }
}

impl From<MapError> for Error {
    fn from(error: MapError) -> Self {
        match error {
            MapError::CreateError { name, io_error } => {
                Error::of_bpf(&format!("cannot create the map {name}"), io_error)
            }
            MapError::SyscallError(error) => Error::of_bpf(error.call, error.io_error),
            MapError::IoError(error) => Error::of_bpf("bpf", error),
            error => Error::Object(chain(&error)),
        }
    }
}

fn errno(error: &io::Error) -> Option<Errno> {
    Errno::from_io_error(error)
}

/// An error and its causes, in one line.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text += &format!(": {error}");
        cause = error.source();
    }
    text.replace('\n', " ")
}

/// What the verifier said last, its statistics apart.
fn last_words(log: &str) -> &str {
    const STATISTICS: [&str; 5] = [
        "processed ",
        "verification time ",
        "stack depth ",
        "max_states",
        "peak_states",
    ];
    log.lines()
        .map(str::trim)
        .rfind(|line| !line.is_empty() && !STATISTICS.iter().any(|prefix| line.starts_with(prefix)))
        .unwrap_or("it did not say why")
}

fn or_limit(limit: &Option<u64>) -> String {
    limit
        .map(|limit| format!(" (the limit is {limit})"))
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn os(errno: Errno) -> io::Error {
        errno.into()
    }

    #[test]
    fn every_message_is_one_line() {
        let log = "0: (79) r1 = *(u64 *)(r1 +0)\nR1 invalid mem access 'scalar'\n\
                   processed 1 insns (limit 1000000) max_states_per_insn 0\n";
        let rejected = Error::of_load(os(Errno::INVAL), log.to_owned());
        assert_eq!(
            rejected.to_string(),
            "the kernel refused the sampling program: Invalid argument (os error 22): \
             R1 invalid mem access 'scalar'"
        );
        let missing = Error::NoPermission {
            missing: vec!["CAP_BPF", "CAP_PERFMON"],
        };
        assert_eq!(
            missing.to_string(),
            "no permission to use eBPF: CAP_BPF and CAP_PERFMON missing"
        );
        for error in [rejected, missing] {
            assert!(!error.to_string().contains('\n'));
            assert!(!error.hint().unwrap_or_default().contains('\n'));
        }
    }

    #[test]
    fn kinds_by_error_number() {
        assert!(matches!(
            Error::of_bpf("x", os(Errno::NOSYS)),
            Error::Unsupported { .. }
        ));
        assert!(matches!(
            Error::of_bpf("x", os(Errno::MFILE)),
            Error::TooManyFiles { limit: Some(_) }
        ));
        assert!(matches!(
            Error::of_bpf("x", os(Errno::NFILE)),
            Error::TooManyFiles { limit: None }
        ));
        let refused = Error::of_bpf("x", os(Errno::PERM));
        assert_eq!(refused.refused_call(), Some(Call::Bpf));
        let refused = aya::sys::SyscallError {
            call: "perf_event_open",
            io_error: os(Errno::ACCESS),
        };
        let refused = Error::of_attach(ProgramError::SyscallError(refused));
        assert_eq!(refused.refused_call(), Some(Call::PerfEventOpen));
    }

    #[test]
    fn a_silent_verifier() {
        assert_eq!(last_words(""), "it did not say why");
        assert_eq!(last_words("processed 12 insns\n"), "it did not say why");
    }
}
