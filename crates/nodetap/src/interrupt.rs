//! Being asked to end: Ctrl-C, SIGTERM, a closed terminal.

use std::io::{self, Read};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};

use crate::failure::{Failure, Result, reason};

/// From its creation on, signals that ask to end are noted here. Once they have been
/// heeded, the next one ends nodetap at once.
#[derive(Debug)]
pub struct Interrupts {
    pipe: UnixStream,
    /// How many have come.
    count: usize,
    /// How many of them have been heeded by who listens.
    heeded_count: usize,
    last: Arc<AtomicUsize>,
    /// Whether the next one ends nodetap at once.
    heeded: Arc<AtomicBool>,
}

/// Why signals cannot be listened for.
pub fn failure(error: &io::Error) -> Failure {
    let reason = reason(error);
    Failure::new(format_args!("cannot listen for signals: {reason}"))
}

impl Interrupts {
    /// Begins to listen. The first signal counts as heeded as soon as it comes,
    /// unless `pass_on` is set: then that is for [`heed`](Self::heed) to say.
    ///
    /// # Errors
    /// Where the kernel refuses.
    pub fn listen(pass_on: bool) -> Result<Interrupts> {
        Self::try_listen(pass_on).map_err(|error| failure(&error))
    }

    fn try_listen(pass_on: bool) -> io::Result<Interrupts> {
        let (pipe, writer) = UnixStream::pair()?;
        pipe.set_nonblocking(true)?;
        let heeded = Arc::new(AtomicBool::new(false));
        let last = Arc::new(AtomicUsize::new(0));
        for signal in [SIGINT, SIGTERM, SIGHUP] {
            // `nohup` has it ignored, and means it.
            if signal == SIGHUP && is_ignored(signal) {
                continue;
            }
            // In this order: the first signal finds the flag unset, and sets it.
            let aborted = 128 + signal;
            signal_hook::flag::register_conditional_shutdown(signal, aborted, heeded.clone())?;
            if !pass_on {
                signal_hook::flag::register(signal, heeded.clone())?;
            }
            signal_hook::flag::register_usize(signal, last.clone(), signal as usize)?;
            signal_hook::low_level::pipe::register(signal, writer.try_clone()?)?;
        }
        Ok(Interrupts {
            pipe,
            count: 0,
            heeded_count: 0,
            last,
            heeded,
        })
    }

    /// How often we were asked to end so far.
    pub fn received(&mut self) -> usize {
        let mut bytes = [0; 16];
        if let Ok(count) = self.pipe.read(&mut bytes) {
            self.count += count;
        }
        self.count
    }

    /// The last signal that came.
    pub fn last(&self) -> i32 {
        self.last.load(Ordering::Relaxed) as i32
    }

    /// The first `count` have been heeded; once two have, the next one ends nodetap
    /// at once.
    pub fn heed(&mut self, count: usize) {
        self.heeded_count = count;
        if count > 1 {
            self.heeded.store(true, Ordering::Relaxed);
        }
    }

    /// How many have been heeded.
    pub fn heeded(&self) -> usize {
        self.heeded_count
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
