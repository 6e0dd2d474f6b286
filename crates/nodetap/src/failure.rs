//! How a command fails: what happened, what to do about it, and the exit status.

use std::fmt::Display;
use std::io;
use std::process::ExitCode;

use crate::terminal;

/// What a command returns.
pub type Result<T> = std::result::Result<T, Failure>;

/// Why a command ends without having done what it was asked to.
#[derive(Debug)]
pub struct Failure {
    status: u8,
    message: Option<String>,
    hint: Option<String>,
}

impl Failure {
    /// It could not be done: exit status 1.
    pub fn new(message: impl Display) -> Failure {
        Failure {
            status: 1,
            message: Some(message.to_string()),
            hint: None,
        }
    }

    /// It was asked for in a wrong way: exit status 2.
    pub fn usage(message: impl Display) -> Failure {
        Failure {
            status: 2,
            ..Failure::new(message)
        }
    }

    /// Ends with this status and says nothing more.
    pub fn silent(status: u8) -> Failure {
        Failure {
            status,
            message: None,
            hint: None,
        }
    }

    /// Adds what the user can do about it.
    pub fn hint(self, hint: impl Display) -> Failure {
        self.hint_maybe(Some(hint))
    }

    /// Adds what the user can do about it, if there is something.
    pub fn hint_maybe(mut self, hint: Option<impl Display>) -> Failure {
        self.hint = hint.map(|hint| hint.to_string());
        self
    }

    /// A write to stdout failed.
    ///
    /// Whoever reads a pipe may stop when he has seen enough (`| head`): that is
    /// no failure, and ends quietly with status 0.
    pub fn of_stdout(error: &io::Error) -> Failure {
        if error.kind() == io::ErrorKind::BrokenPipe {
            Failure::silent(0)
        } else {
            Failure::new(format_args!("cannot write to stdout: {}", reason(error)))
        }
    }

    /// Tells the user, on stderr, and gives the status to exit with.
    pub fn report(&self) -> ExitCode {
        if let Some(message) = &self.message {
            terminal::labelled("error", message);
        }
        if let Some(hint) = &self.hint {
            terminal::labelled("hint", hint);
        }
        ExitCode::from(self.status)
    }

    /// The lines that [`report`](Self::report) writes, without colours.
    #[cfg(test)]
    pub fn lines(&self) -> Vec<String> {
        let error = self.message.as_ref().map(|m| format!("error: {m}"));
        let hint = self.hint.as_ref().map(|h| format!("hint: {h}"));
        error.into_iter().chain(hint).collect()
    }
}

/// What the operating system says of an error, without the number that
/// [`io::Error`] adds to it.
pub fn reason(error: &io::Error) -> String {
    let text = error.to_string();
    match text.rfind(" (os error ") {
        Some(end) => text[..end].to_owned(),
        None => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reason_has_no_number() {
        let error = io::Error::from_raw_os_error(28);
        assert_eq!(reason(&error), "No space left on device");
        assert_eq!(reason(&io::Error::other("odd")), "odd");
    }

    #[test]
    fn a_closed_pipe_is_quiet_and_a_full_disk_is_not() {
        let closed = Failure::of_stdout(&io::Error::from_raw_os_error(32));
        assert_eq!((closed.status, closed.lines()), (0, vec![]));
        let full = Failure::of_stdout(&io::Error::from_raw_os_error(28));
        assert_eq!(
            (full.status, full.lines()),
            (
                1,
                vec!["error: cannot write to stdout: No space left on device".to_owned()]
            )
        );
    }
}
