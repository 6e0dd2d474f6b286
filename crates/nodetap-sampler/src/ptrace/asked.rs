//! Stopping one thread that runs, for a moment.

use std::hint;
use std::time::{Duration, Instant};

use super::error::Error;
use super::stop::{has_ended, refused};
use super::sys::{self, State, Status};

/// A thread that was asked to stop.
///
/// One that runs does so in a few microseconds. One that could run but has no CPU
/// stops when it gets one, and one that works for the kernel when it is done with
/// that: there is no telling when, and others need not wait for it.
///
/// What has not stopped cannot be let go, except by the end of the thread of ours
/// that asked.
#[derive(Debug)]
pub(super) struct AskedThread {
    pub pid: u32,
    pub tid: u32,
    /// When it had not stopped yet.
    ran: Instant,
}

/// What has become of a thread that was asked to stop.
#[derive(Debug)]
pub(super) enum Answer {
    /// Nothing yet.
    NotYet(AskedThread),
    /// It stands still.
    Stopped(StoppedThread),
    /// It has ended.
    Ended,
}

impl AskedThread {
    /// Asks thread `tid` of process `pid`; `None` where it has ended.
    ///
    /// # Errors
    /// Where it may not be stopped.
    pub fn ask(pid: u32, tid: u32) -> Result<Option<AskedThread>, Error> {
        let mut ran = Instant::now();
        let asked = sys::seize(tid as i32).and_then(|()| {
            ran = Instant::now();
            sys::interrupt(tid as i32)
        });
        match asked {
            Ok(()) => Ok(Some(AskedThread { pid, tid, ran })),
            Err(error) if error.raw_os_error() == Some(libc::ESRCH) || has_ended(pid, tid) => {
                Ok(None)
            }
            Err(error) => Err(refused(pid, tid, error)),
        }
    }

    /// Whether it has stopped by now.
    pub fn look(self) -> Answer {
        let now = Instant::now();
        match sys::look(self.tid as i32) {
            Ok(Status::Running) => Answer::NotYet(AskedThread { ran: now, ..self }),
            Ok(Status::Stopped { signal }) => Answer::Stopped(StoppedThread {
                pid: self.pid,
                tid: self.tid,
                signal,
                ran: self.ran,
            }),
            Ok(Status::Ended) | Err(_) => Answer::Ended,
        }
    }

    /// Looks again and again, for so long. Being woken when it stops would take longer
    /// than its stop.
    pub fn watch(mut self, patience: Duration) -> Answer {
        let begun = self.ran;
        loop {
            match self.look() {
                Answer::NotYet(asked) if asked.ran.duration_since(begun) < patience => {
                    self = asked;
                    hint::spin_loop();
                }
                answer => return answer,
            }
        }
    }
}

/// One thread that stands still. It runs again when this is dropped, with the
/// signal that it was about to get.
#[derive(Debug)]
pub(super) struct StoppedThread {
    pub pid: u32,
    pub tid: u32,
    signal: i32,
    ran: Instant,
}

impl StoppedThread {
    /// Its registers; `None` where it was killed meanwhile.
    pub fn state(&self) -> Option<State> {
        sys::state(self.tid as i32).ok()
    }

    /// Lets it go; for how long it stood still, at most. `None` where something has
    /// ended its stop already: SIGKILL, or an exec of another thread.
    pub fn release(self) -> Option<Duration> {
        let released = sys::detach(self.tid as i32, self.signal);
        let length = self.ran.elapsed();
        std::mem::forget(self);
        released.ok().map(|()| length)
    }
}

impl Drop for StoppedThread {
    fn drop(&mut self) {
        let _ = sys::detach(self.tid as i32, self.signal);
    }
}
