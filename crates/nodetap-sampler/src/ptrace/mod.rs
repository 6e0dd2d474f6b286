//! The ptrace sampler: stops a process's threads and takes their stacks.
//!
//! Unlike a tick of the CPU clock, it finds threads that wait as well. Nobody's
//! help is needed: what may read a process's memory may stop it. The threads
//! stand still while their stacks are copied and what identifies the functions
//! on them is read, a millisecond or so; names are given later.
//!
//! A system call that waits is begun again, which the thread does not notice,
//! but for the few that the kernel never begins again (`epoll_wait`,
//! see signal(7)): those fail with EINTR, as they do under `strace`, and libuv
//! calls them again.

mod error;
mod stack;
mod stop;
mod sys;
mod unwind;
mod walk;

use std::fs;
use std::io;
use std::thread;
use std::time::{Duration, Instant};

use nodetap_v8::Memory;
use rustc_hash::FxHashMap;
use rustix::time::{ClockId, clock_gettime};

pub use error::Error;

use crate::ebpf::ProcessConfig;
use crate::memory::ProcessMemory;
use crate::raw::RawSample;
use crate::target::Target;
use stop::Stopped;
use unwind::NativeUnwinder;
use walk::Walker;

/// The most frames of a stack: more than the deepest recursion that Node.js
/// allows without being asked for more.
const MAX_FRAMES: u32 = 1 << 16;

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
    /// The walk certainly reached the thread's first frame. (It may have done
    /// so where this is `false`.)
    pub complete: bool,
}

/// Takes the stack of every thread of `target`, once.
///
/// # Errors
/// Where it cannot be stopped, or is gone. Whatever happens, its threads go on.
pub fn snapshot(target: &Target) -> Result<Snapshot, Error> {
    let memory = &target.memory;
    let mut native = NativeUnwinder::of(target.pid, memory);
    let builtins = target.builtins.places();
    let process = Process {
        pid: target.pid,
        code_start: target.code.start,
        memory,
        config: target.config(MAX_FRAMES),
    };
    let is_builtin = |pc: u64| builtins.iter().any(|place| place.contains(&pc));
    // The kernel lets go of what a thread traces when that thread ends.
    let taken = thread::scope(|scope| {
        let tracer = thread::Builder::new().name("ptrace".to_owned());
        let take = || process.take(&mut native, &is_builtin);
        let handle = tracer.spawn_scoped(scope, take)?;
        Ok(handle.join())
    });
    match taken {
        Ok(Ok(taken)) => taken,
        Ok(Err(panic)) => std::panic::resume_unwind(panic),
        Err(source) => Err(Error::Io {
            pid: target.pid,
            source,
        }),
    }
}

/// What must be known of the process while it stands still.
struct Process<'a> {
    pid: u32,
    /// Where the code of its V8 starts.
    code_start: u64,
    memory: &'a ProcessMemory,
    config: ProcessConfig,
}

impl Process<'_> {
    fn take(
        &self,
        native: &mut NativeUnwinder,
        is_builtin: &dyn Fn(u64) -> bool,
    ) -> Result<Snapshot, Error> {
        let pid = self.pid;
        let begun = Instant::now();
        let stopped = Stopped::stop(pid)?;
        let now = clock_gettime(ClockId::Monotonic);
        let mut walker = Walker {
            memory: self.memory,
            config: self.config,
            is_builtin,
            native,
            identified: FxHashMap::default(),
        };
        // Its memory stays that of the program that was attached to.
        let same_program = self.memory.read(self.code_start, &mut [0]).is_ok();
        let mut threads = Vec::new();
        for (tid, state) in stopped.threads() {
            let taken = state.map(|state| walker.walk(&state));
            let complete = taken.as_ref().is_some_and(|(_, complete)| *complete);
            let sample = taken.map(|(sample, _)| RawSample {
                time_ns: now.tv_sec.unsigned_abs() * 1_000_000_000 + now.tv_nsec.unsigned_abs(),
                pid,
                tid,
                ..sample
            });
            threads.push(ThreadStack {
                tid,
                name: thread_name(pid, tid),
                sample,
                complete,
            });
        }
        drop(stopped);
        let stopped = begun.elapsed();
        if threads.is_empty() {
            return Err(Error::Ended { pid });
        }
        if !same_program {
            return Err(Error::Execed { pid });
        }
        Ok(Snapshot { threads, stopped })
    }
}

fn thread_name(pid: u32, tid: u32) -> String {
    let name: io::Result<Vec<u8>> = fs::read(format!("/proc/{pid}/task/{tid}/comm"));
    String::from_utf8_lossy(&name.unwrap_or_default())
        .trim_end()
        .to_owned()
}
