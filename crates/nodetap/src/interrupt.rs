//! Being asked to end: Ctrl-C, SIGTERM, a closed terminal.

use std::io::{self, Read};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};

/// From its creation on, the first signal that asks to end is noted here; the
/// second one ends nodetap at once.
#[derive(Debug)]
pub struct Interrupts {
    pipe: UnixStream,
    received: bool,
}

impl Interrupts {
    /// Begins to listen.
    pub fn listen() -> io::Result<Interrupts> {
        let (pipe, writer) = UnixStream::pair()?;
        pipe.set_nonblocking(true)?;
        let again = Arc::new(AtomicBool::new(false));
        for signal in [SIGINT, SIGTERM, SIGHUP] {
            // `nohup` has it ignored, and means it.
            if signal == SIGHUP && is_ignored(signal) {
                continue;
            }
            // In this order: the first signal finds the flag unset, and sets it.
            let aborted = 128 + signal;
            signal_hook::flag::register_conditional_shutdown(signal, aborted, again.clone())?;
            signal_hook::flag::register(signal, again.clone())?;
            signal_hook::low_level::pipe::register(signal, writer.try_clone()?)?;
        }
        Ok(Interrupts {
            pipe,
            received: false,
        })
    }

    /// Whether we were asked to end.
    pub fn received(&mut self) -> bool {
        let mut bytes = [0; 16];
        if matches!(self.pipe.read(&mut bytes), Ok(count) if count > 0) {
            self.received = true;
        }
        self.received
    }
}

impl AsFd for Interrupts {
    /// Readable as soon as a signal has come.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.pipe.as_fd()
    }
}

/// Whether whoever started us has this signal ignored.
fn is_ignored(signal: i32) -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status
        .lines()
        .find_map(|line| line.strip_prefix("SigIgn:"))
        .and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok())
        .unwrap_or(0);
    mask & (1 << (signal - 1)) != 0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rust_programs_have_sigpipe_ignored() {
        assert!(is_ignored(signal_hook::consts::SIGPIPE));
        assert!(!is_ignored(SIGTERM));
    }
}
