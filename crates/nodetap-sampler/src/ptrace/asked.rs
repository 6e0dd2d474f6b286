//! Stopping one thread that runs, for a moment.

use std::hint;
use std::time::{Duration, Instant};

use super::error::Error;
use super::stop;
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
    /// When it was due.
    due: Instant,
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
    /// Asks thread `tid` of process `pid`, for which it was `due`; `None` where it has ended.
    ///
    /// # Errors
    /// Where it may not be stopped.
    pub fn ask(pid: u32, tid: u32, due: Instant) -> Result<Option<AskedThread>, Error> {
        if !stop::seize(pid, tid)? {
            return Ok(None);
        }
        let ran = Instant::now();
        // It is traced, and so ours to let go of, or to take note of its end. This fails
        // if it is ending.
        let _ = sys::interrupt(tid as i32);
        Ok(Some(AskedThread { pid, tid, due, ran }))
    }

    /// Whether it has stopped by now.
    pub fn look(self) -> Answer {
        let now = Instant::now();
        match sys::status(self.tid as i32) {
            Ok(Status::Running) => Answer::NotYet(AskedThread { ran: now, ..self }),
            Ok(Status::Stopped { signal }) => Answer::Stopped(StoppedThread {
                pid: self.pid,
                tid: self.tid,
                signal,
                due: self.due,
                ran: self.ran,
                stood: now,
                at_once: false,
            }),
            // A thread that runs another program gets the number of the main thread.
            Ok(Status::Ended) if self.tid != self.pid && sys::is_traced(self.pid as i32) => {
                Answer::NotYet(AskedThread {
                    tid: self.pid,
                    ran: now,
                    ..self
                })
            }
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
                mut answer => {
                    if let Answer::Stopped(stopped) = &mut answer {
                        stopped.at_once = true;
                    }
                    return answer;
                }
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
    due: Instant,
    ran: Instant,
    stood: Instant,
    at_once: bool,
}

impl StoppedThread {
    /// Its registers; `None` where it was killed meanwhile.
    pub fn state(&self) -> Option<State> {
        sys::state(self.tid as i32).ok()
    }

    /// Whether it stood still as soon as it was asked to.
    pub fn at_once(&self) -> bool {
        self.at_once
    }

    /// How long it took from when it was due until it stood still, at most.
    pub fn took(&self) -> Duration {
        self.stood.duration_since(self.due)
    }

    /// Lets it go; for how long it stood still, at most.
    ///
    /// # Errors
    /// Where something has ended its stop already: SIGKILL, or an exec of another thread.
    /// As long as nobody takes note of its end, it is not gone: who has started the
    /// process is not told of it, and such an exec waits.
    pub fn release(self) -> Result<Duration, AskedThread> {
        let released = sys::detach(self.tid as i32, self.signal);
        let ran = Instant::now();
        let length = ran.duration_since(self.ran);
        let (pid, tid, due) = (self.pid, self.tid, self.due);
        std::mem::forget(self);
        match released {
            Ok(()) => Ok(length),
            Err(_) => Err(AskedThread { pid, tid, due, ran }),
        }
    }
}

impl Drop for StoppedThread {
    fn drop(&mut self) {
        let _ = sys::detach(self.tid as i32, self.signal);
    }
}
