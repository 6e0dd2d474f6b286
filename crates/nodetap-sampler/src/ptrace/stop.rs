//! Stopping every thread of a process, and letting all of them go again.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::thread::sleep;
use std::time::{Duration, Instant};

use super::error::Error;
use super::sys::{self, State, Status};

/// How long to wait for a thread that could run but has no CPU.
const PATIENCE: Duration = Duration::from_secs(1);
/// How long for one that the kernel does not let stop, such as one that waits
/// for a disk: all others stand still meanwhile.
const PATIENCE_WITH_THE_KERNEL: Duration = Duration::from_millis(20);
/// How often new threads are looked for: each time those that could have
/// started them stand still already.
const ROUNDS: u32 = 32;

/// The threads of a process that stand still. They run again when this is
/// dropped, each with the signal that it was about to get.
///
/// The kernel takes ptrace requests from the thread only that began to trace:
/// all of this belongs to one thread of ours. When that ends, in whichever way,
/// the kernel lets go of every thread that is left.
#[derive(Debug)]
pub(super) struct Stopped {
    pid: u32,
    threads: BTreeMap<u32, Thread>,
}

/// One thread.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Thread {
    /// It was asked to stop.
    Asked,
    /// It stands still, and has this signal to get.
    Still { signal: i32 },
    /// The kernel does not let it stop.
    Unstoppable,
    /// It has ended.
    Ended,
}

impl Stopped {
    /// Stops every thread of process `pid`.
    pub fn stop(pid: u32) -> Result<Stopped, Error> {
        let mut stopped = Stopped {
            pid,
            threads: BTreeMap::new(),
        };
        for _ in 0..ROUNDS {
            let asked = stopped.ask_new_threads()?;
            if asked == 0 {
                break;
            }
            stopped.wait();
        }
        let alive = |thread: &Thread| *thread != Thread::Ended;
        if !stopped.threads.values().any(alive) {
            return Err(Error::Ended { pid });
        }
        Ok(stopped)
    }

    /// The threads that have not ended, the main thread first, and the state
    /// of those that stand still.
    pub fn threads(&self) -> Vec<(u32, Option<State>)> {
        let mut threads: Vec<(u32, Option<State>)> = self
            .threads
            .iter()
            .filter_map(|(&tid, thread)| match thread {
                Thread::Still { .. } => match sys::state(tid as i32) {
                    Ok(state) => Some((tid, Some(state))),
                    // Killed: SIGKILL ends a stop as well.
                    Err(_) => None,
                },
                Thread::Asked | Thread::Unstoppable => Some((tid, None)),
                Thread::Ended => None,
            })
            .collect();
        threads.sort_by_key(|&(tid, _)| (tid != self.pid, tid));
        threads
    }

    /// Asks every thread to stop that was not asked yet; how many there were.
    fn ask_new_threads(&mut self) -> Result<usize, Error> {
        let pid = self.pid;
        let mut asked = 0;
        for tid in thread_ids(pid)? {
            if self.threads.contains_key(&tid) {
                continue;
            }
            if seize(pid, tid)? {
                // From here on it is ours to let go. This fails if it is ending.
                let _ = sys::interrupt(tid as i32);
                self.threads.insert(tid, Thread::Asked);
                asked += 1;
            } else {
                self.threads.insert(tid, Thread::Ended);
            }
        }
        Ok(asked)
    }

    /// Waits until every thread that was asked to stop has done so.
    fn wait(&mut self) {
        let begun = Instant::now();
        let mut pause = Duration::from_micros(20);
        loop {
            let mut missing = false;
            let waited = begun.elapsed();
            for (&tid, thread) in &mut self.threads {
                if *thread != Thread::Asked {
                    continue;
                }
                match sys::status(tid as i32) {
                    Ok(Status::Stopped { signal }) => *thread = Thread::Still { signal },
                    Ok(Status::Ended) => *thread = Thread::Ended,
                    Ok(Status::Running) | Err(_) => {
                        let patience = match waited > PATIENCE_WITH_THE_KERNEL
                            && state_letter(self.pid, tid) != Some('R')
                        {
                            true => PATIENCE_WITH_THE_KERNEL,
                            false => PATIENCE,
                        };
                        match waited > patience {
                            true => *thread = Thread::Unstoppable,
                            false => missing = true,
                        }
                    }
                }
            }
            if !missing {
                return;
            }
            sleep(pause);
            pause = (pause * 2).min(Duration::from_millis(1));
        }
    }
}

impl Drop for Stopped {
    fn drop(&mut self) {
        for (&tid, thread) in &self.threads {
            // What does not stand still cannot be let go, except by the end of
            // the thread that traces it.
            if let Thread::Still { signal } = *thread {
                let _ = sys::detach(tid as i32, signal);
            }
        }
    }
}

/// Takes note of the end of threads of process `pid` that another thread of ours traces.
///
/// For that one may wait for this: to begin to trace a thread takes a lock that a thread
/// holds which runs another program, and that one waits until all others are gone, those
/// too of which nobody has taken note yet.
pub(super) fn reap_threads(pid: u32) {
    for tid in thread_ids(pid).unwrap_or_default() {
        if tid != pid && state_letter(pid, tid) == Some('Z') {
            let _ = sys::reap(tid as i32);
        }
    }
}

/// Whether process `pid` may be stopped; it is not.
///
/// # Errors
/// Why not.
pub(super) fn may_stop(pid: u32) -> Result<(), Error> {
    let may_seize = move || match seize(pid, pid) {
        Ok(true) => Ok(()),
        Ok(false) => Err(Error::Ended { pid }),
        // It is held at its beginning, and will be let go.
        Err(Error::AlreadyTraced { tracer, .. }) if tracer == std::process::id() => Ok(()),
        Err(error) => Err(error),
    };
    // With the end of the thread that traces it, the kernel lets go of it.
    let tracer = std::thread::Builder::new().name("ptrace".to_owned());
    let tracer = tracer
        .spawn(may_seize)
        .map_err(|source| Error::Io { pid, source })?;
    match tracer.join() {
        Ok(result) => result,
        Err(panic) => std::panic::resume_unwind(panic),
    }
}

/// Begins to trace thread `tid` of process `pid`; whether it has not ended.
///
/// # Errors
/// Where it may not be traced.
pub(super) fn seize(pid: u32, tid: u32) -> Result<bool, Error> {
    let mut attempts = 10;
    loop {
        let Err(error) = sys::seize(tid as i32) else {
            return Ok(true);
        };
        if error.raw_os_error() == Some(libc::ESRCH) || has_ended(pid, tid) {
            return Ok(false);
        }
        attempts -= 1;
        match refused(pid, tid, error) {
            // When another thread than the main one runs another program, there is a moment
            // in which the main thread has ended and has no successor yet.
            Error::NoPermission { .. } if attempts > 0 => sleep(Duration::from_millis(1)),
            error => return Err(error),
        }
    }
}

pub(super) fn thread_ids(pid: u32) -> Result<Vec<u32>, Error> {
    let entries = match fs::read_dir(format!("/proc/{pid}/task")) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return Err(Error::Ended { pid });
        }
        Err(source) => return Err(Error::Io { pid, source }),
    };
    Ok(entries
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .collect())
}

/// Why `tid` may not be traced.
fn refused(pid: u32, tid: u32, error: io::Error) -> Error {
    if error.raw_os_error() != Some(libc::EPERM) {
        return Error::Io { pid, source: error };
    }
    // It is a thread that traces.
    let tracer = status_number(&format!("/proc/{pid}/task/{tid}/status"), "TracerPid:");
    match tracer {
        None | Some(0) => Error::NoPermission { pid },
        Some(tracer) => {
            let process = status_number(&format!("/proc/{tracer}/status"), "Tgid:");
            let tracer = process.unwrap_or(tracer);
            let name = fs::read_to_string(format!("/proc/{tracer}/comm")).unwrap_or_default();
            Error::AlreadyTraced {
                pid,
                tracer,
                name: name.trim_end().to_owned(),
            }
        }
    }
}

/// A number of a `status` file in `/proc`.
fn status_number(path: &str, field: &str) -> Option<u32> {
    let status = fs::read_to_string(path).ok()?;
    let value = status.lines().find_map(|line| line.strip_prefix(field))?;
    value.trim().parse().ok()
}

/// Whether a thread has ended, or will have as soon as somebody looks.
fn has_ended(pid: u32, tid: u32) -> bool {
    matches!(state_letter(pid, tid), None | Some('Z' | 'X' | 'x'))
}

/// What the kernel says that a thread does: `R`, `S`, `D`, …
pub(super) fn state_letter(pid: u32, tid: u32) -> Option<char> {
    let stat = fs::read_to_string(format!("/proc/{pid}/task/{tid}/stat")).ok()?;
    // The name before it may hold anything.
    let (_, after) = stat.rsplit_once(')')?;
    after.trim_start().chars().next()
}
