//! Why stacks could not be taken.

use std::io;

/// A failure to take the stacks of a process.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// It has ended.
    #[error("process {pid} has ended")]
    Ended {
        /// The process.
        pid: u32,
    },
    /// It is not the program any more that was attached to.
    #[error("process {pid} runs another program now")]
    Execed {
        /// The process.
        pid: u32,
    },
    /// A process can have one tracer only.
    #[error("process {pid} is already traced by process {tracer}{}", named(.name))]
    AlreadyTraced {
        /// The process.
        pid: u32,
        /// Who traces it.
        tracer: u32,
        /// What that is called; empty where it cannot be told.
        name: String,
    },
    /// Reading its memory is allowed, stopping it is not.
    #[error("no permission to stop process {pid}")]
    NoPermission {
        /// The process.
        pid: u32,
    },
    /// Something else.
    #[error("cannot stop process {pid}: {source}")]
    Io {
        /// The process.
        pid: u32,
        /// Why.
        source: io::Error,
    },
}

impl Error {
    /// What would help, in one line; what gives a permission, the caller knows better.
    pub fn hint(&self) -> Option<&'static str> {
        match self {
            Error::AlreadyTraced { .. } => {
                Some("end the debugger or strace that has it, and try again")
            }
            Error::NoPermission { .. }
            | Error::Ended { .. }
            | Error::Execed { .. }
            | Error::Io { .. } => None,
        }
    }
}

fn named(name: &str) -> String {
    match name {
        "" => String::new(),
        name => format!(" ({name})"),
    }
}
