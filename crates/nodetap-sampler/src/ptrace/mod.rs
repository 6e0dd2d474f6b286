//! The ptrace sampler: stops a process's threads and takes their stacks, all of
//! them once ([`snapshot`]), or those that run at a fixed rate ([`PtraceSampler`]).
//!
//! Nobody's help is needed: what may read a process's memory may stop it. A thread
//! stands still while its stack is copied and what identifies the functions on it
//! is read; names are given later.
//!
//! A system call that waits is begun again, which the thread does not notice,
//! but for the few that the kernel never begins again (`epoll_wait`,
//! see signal(7)): those fail with EINTR, as they do under `strace`, and libuv
//! calls them again.

mod asked;
mod error;
mod identity;
mod memory;
mod nudge;
pub(crate) mod process;
mod running;
mod sampler;
mod stack;
mod stop;
mod stops;
pub(crate) mod sys;
mod unwind;
mod walk;

use std::fs;
use std::io;
use std::process::{Command, Stdio};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

pub use error::Error;
pub use nudge::nudge;
pub use sampler::{Options, PtraceSampler, Totals, stop_ourselves};
pub use stops::Stops;

use crate::launch::Launch;
use crate::raw::RawSample;
use crate::target::Target;
use process::Process;
use stop::Stopped;
pub(crate) use sys::State;

/// The most frames of a stack: more than the deepest recursion that Node.js
/// allows without being asked for more.
pub(crate) const MAX_FRAMES: u32 = 1 << 16;

/// How long a snapshot usually takes at most; see [`stop::reap_threads`].
const PATIENCE: Duration = Duration::from_millis(50);

/// Every thread of a process at one moment.
#[derive(Debug)]
pub struct Snapshot {
    /// The main thread first, the others by their number.
    pub threads: Vec<ThreadStack>,
    /// For how long the threads stood still.
    pub stopped: Duration,
}

/// One thread.
#[derive(Debug)]
pub struct ThreadStack {
    /// Its number.
    pub tid: u32,
    /// Its name; empty where it cannot be told.
    pub name: String,
    /// Its stack; `None` where the kernel did not let it stop.
    pub sample: Option<RawSample>,
}

/// Takes the stack of every thread of `target`, once.
///
/// # Errors
/// Where it cannot be stopped, or is gone. Whatever happens, its threads go on.
pub fn snapshot(target: &Target) -> Result<Snapshot, Error> {
    let pid = target.pid;
    let mut process =
        Process::of(target, MAX_FRAMES).map_err(|source| Error::Io { pid, source })?;
    by_tracer(pid, move || take(&mut process))
}

/// Does `work`, which stops threads of process `pid`, in a thread of its own: the kernel
/// lets go of what a thread traces when that thread ends, however it does.
fn by_tracer<T: Send + 'static>(
    pid: u32,
    work: impl FnOnce() -> Result<T, Error> + Send + 'static,
) -> Result<T, Error> {
    let tracer = thread::Builder::new().name("ptrace".to_owned());
    let (is_over, over) = mpsc::channel::<()>();
    let work = move || {
        let done = work();
        drop(is_over);
        done
    };
    let handle = tracer
        .spawn(work)
        .map_err(|source| Error::Io { pid, source })?;
    while over.recv_timeout(PATIENCE) == Err(RecvTimeoutError::Timeout) {
        stop::reap_threads(pid);
    }
    match handle.join() {
        Ok(done) => done,
        Err(panic) => std::panic::resume_unwind(panic),
    }
}

/// Whether this machine and user allow to trace processes: starts one that does
/// nothing, and traces it.
///
/// # Errors
/// Why not.
pub fn probe() -> io::Result<()> {
    let mut nothing = Command::new("/proc/self/exe");
    nothing.arg("--version").stdin(Stdio::null());
    nothing.stdout(Stdio::null()).stderr(Stdio::null());
    let mut launch = Launch::start(nothing)?;
    launch.release();
    launch.wait()
}

fn take(process: &mut Process) -> Result<Snapshot, Error> {
    let pid = process.pid;
    // All threads of the target wait for this one of ours, which ends soon.
    crate::priority::raise();
    let begun = Instant::now();
    let stopped = Stopped::stop(pid)?;
    let states = stopped.threads();
    let still: Vec<_> = states
        .iter()
        .filter_map(|&(tid, state)| Some((tid, state?)))
        .collect();
    let mut samples = process.walk(&still).into_iter().peekable();
    // Its memory stays that of the program that was attached to.
    let same_program = process.is_same_program();
    let mut threads = Vec::new();
    for (tid, _) in states {
        threads.push(ThreadStack {
            tid,
            name: thread_name(pid, tid),
            sample: samples.next_if(|sample| sample.tid == tid),
        });
    }
    drop(stopped);
    let stopped = begun.elapsed();
    if threads.is_empty() {
        return Err(Error::Ended { pid });
    }
    if !same_program {
        // The address space is gone: exchanged by `exec`, or with its process, whose
        // threads may still be on their way out.
        let exe = fs::read_link(format!("/proc/{pid}/exe"));
        return match exe.map_err(|error| error.kind()) {
            Err(io::ErrorKind::NotFound) => Err(Error::Ended { pid }),
            _ => Err(Error::Execed { pid }),
        };
    }
    Ok(Snapshot { threads, stopped })
}

fn thread_name(pid: u32, tid: u32) -> String {
    let name: io::Result<Vec<u8>> = fs::read(format!("/proc/{pid}/task/{tid}/comm"));
    String::from_utf8_lossy(&name.unwrap_or_default())
        .trim_end()
        .to_owned()
}
