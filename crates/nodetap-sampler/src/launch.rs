//! Starting a program so that nothing of it runs before it is watched.
//!
//! Between the fork and the exec the new process waits for us; then it is traced
//! and let go. The kernel stops it in each exec, before the first instruction of
//! the new program, and we let it go on when whatever is to watch it does. As soon as
//! the right program runs, it is not traced any more.

use std::fs::File;
use std::io::{self, Read};
use std::marker::PhantomData;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Child, Command, ExitStatus};
use std::thread;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::pipe::{PipeFlags, pipe_with};
use rustix::process::{Pid, PidfdFlags, pidfd_open};

use crate::ptrace::sys::{self, Event};

/// A program that was started. What traces it is the thread that did so; when that
/// ends, or this is dropped, the program goes on without.
#[derive(Debug)]
pub struct Launch {
    child: Child,
    /// Its pidfd, which tells of its end alone. (`wait` would take the stops of its
    /// threads from whoever else in this process waits for them.)
    process: OwnedFd,
    traced: Traced,
    ended: Option<ExitStatus>,
    /// It stays in the thread that traces.
    _not_send: PhantomData<*const ()>,
}

/// Whether it is traced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Traced {
    /// It runs.
    Running,
    /// It stands still at the beginning of a program.
    Held,
    /// It was asked to stop, to be let go.
    Leaving,
    /// No longer.
    No,
}

/// How long to wait for a program to stop that is to be let go. One that has just forked
/// may wait for its child, and the kernel does not let it stop.
const PATIENCE: Duration = Duration::from_millis(100);

/// What became of a program that was let go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// It runs.
    Runs,
    /// It is at the beginning of another program, and stands still.
    Begins,
    /// It has ended.
    Ended,
}

impl Launch {
    /// Starts `command` and holds it before the first instruction of its program.
    ///
    /// # Errors
    /// Where it cannot be started; and where it cannot be traced
    /// (`PermissionDenied`), which ends it before it has begun.
    pub fn start(mut command: Command) -> io::Result<Launch> {
        let (started, tell_started) = pipe_with(PipeFlags::CLOEXEC)?;
        let (wait_for_go, go) = pipe_with(PipeFlags::CLOEXEC)?;
        let ours = go.as_raw_fd();
        let held = move || announce_and_wait(tell_started.as_fd(), wait_for_go.as_fd(), ours);
        // SAFETY: between fork and exec it makes three system calls and allocates
        // nothing.
        unsafe { command.pre_exec(held) };
        // It comes back from this only after the exec.
        let spawner = thread::Builder::new().name("spawn".to_owned());
        let spawner = spawner.spawn(move || {
            let spawned = command.spawn();
            // With it the ends of the pipes that the child has are closed here, so
            // that one that could not be forked is not waited for.
            drop(command);
            spawned
        })?;
        let mut id = [0; 4];
        let traced = match File::from(started).read_exact(&mut id) {
            Ok(()) => {
                let pid = i32::from_ne_bytes(id);
                let traced = sys::seize_with_execs(pid);
                if traced.is_ok() {
                    let _ = rustix::io::write(&go, &[1]);
                }
                traced.map(|()| pid)
            }
            Err(error) => Err(error),
        };
        // Where it may not go on, it is told so by the end of the pipe.
        drop(go);
        let spawned = match spawner.join() {
            Ok(spawned) => spawned,
            Err(panic) => std::panic::resume_unwind(panic),
        };
        let (pid, mut child) = match (traced, spawned) {
            (Ok(pid), Ok(child)) => (Some(pid), child),
            (Ok(_), Err(error)) => return Err(error),
            (Err(traced), Err(spawned)) => {
                // Why it could not be traced goes before what came of that.
                return Err(match traced.kind() {
                    io::ErrorKind::UnexpectedEof => spawned,
                    _ => traced,
                });
            }
            // It would have told that it may not go on: it was killed.
            (Err(_), Ok(child)) => (None, child),
        };
        let process = pidfd_open(Pid::from_child(&child), PidfdFlags::empty())?;
        let (traced, ended) = match pid {
            Some(_) => (Traced::Running, None),
            None => (Traced::No, Some(child.wait()?)),
        };
        let mut launch = Launch {
            process,
            child,
            traced,
            ended,
            _not_send: PhantomData,
        };
        // The exec has been: it stops now, unless it was killed. A signal that came
        // before is seen first.
        while let (Traced::Running, Some(pid)) = (launch.traced, pid) {
            let event = sys::wait_for_event(pid)?;
            launch.follow(event);
        }
        Ok(launch)
    }

    /// Its process.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Lets it go on; it is not traced any more. Where the kernel takes its time with
    /// that, [`look`](Self::look) and [`status`](Self::status) see to it later.
    pub fn release(&mut self) {
        let pid = self.child.id() as i32;
        match self.traced {
            // What runs cannot be let go of.
            Traced::Running => {
                // Where this fails, it is ending.
                let _ = sys::interrupt(pid);
                self.traced = Traced::Leaving;
                let asked = Instant::now();
                while self.look() == Fate::Runs
                    && self.traced == Traced::Leaving
                    && asked.elapsed() < PATIENCE
                {
                    thread::sleep(Duration::from_micros(50));
                }
            }
            Traced::Held => {
                // Should it have been killed, that is seen later.
                let _ = sys::detach(pid, 0);
                self.traced = Traced::No;
            }
            Traced::Leaving | Traced::No => {}
        }
    }

    /// Lets it go on up to its next program.
    pub fn proceed(&mut self) {
        if self.traced == Traced::Held && sys::proceed(self.child.id() as i32, 0).is_ok() {
            self.traced = Traced::Running;
        }
    }

    /// Looks what it does, without waiting. Signals that it gets are passed on.
    pub fn look(&mut self) -> Fate {
        let pid = self.child.id() as i32;
        while matches!(self.traced, Traced::Running | Traced::Leaving) {
            match sys::event(pid) {
                Ok(Some(event)) => self.follow(event),
                Ok(None) => return Fate::Runs,
                Err(_) => self.traced = Traced::No,
            }
        }
        match self.how_it_ended() {
            Some(_) => Fate::Ended,
            None if self.traced == Traced::Held => Fate::Begins,
            None => Fate::Runs,
        }
    }

    /// How it ended, if it has; it must have been let go.
    pub fn status(&mut self) -> Option<ExitStatus> {
        if self.traced == Traced::Leaving {
            self.look();
        }
        self.how_it_ended()
    }

    fn how_it_ended(&mut self) -> Option<ExitStatus> {
        if self.ended.is_none() && self.traced == Traced::No && self.has_exited() {
            self.ended = self.child.try_wait().ok().flatten();
        }
        self.ended
    }

    /// Waits until it has ended; it must have been let go.
    pub(crate) fn wait(&mut self) -> io::Result<()> {
        self.child.wait().map(drop)
    }

    fn has_exited(&self) -> bool {
        let mut exited = [PollFd::new(&self.process, PollFlags::IN)];
        let now = Timespec {
            tv_sec: 0,
            tv_nsec: 0,
        };
        poll(&mut exited, Some(&now)).is_ok_and(|ready| ready > 0)
    }

    /// Does about an event what lets the program go on as if it were not traced;
    /// an exec holds it.
    fn follow(&mut self, event: Event) {
        let pid = self.child.id() as i32;
        let is_leaving = self.traced == Traced::Leaving;
        match event {
            Event::Execed | Event::Signal(_) | Event::GroupStop if is_leaving => {
                let signal = match event {
                    Event::Signal(signal) => signal,
                    _ => 0,
                };
                // Should it have been killed, that is seen later.
                let _ = sys::detach(pid, signal);
                self.traced = Traced::No;
            }
            Event::Execed => self.traced = Traced::Held,
            // Should it have been killed, the next event tells.
            Event::Signal(signal) => drop(sys::proceed(pid, signal)),
            // It stays stopped until somebody sends SIGCONT.
            Event::GroupStop => drop(sys::listen(pid)),
            Event::Ended(status) => {
                self.traced = Traced::No;
                self.ended = Some(ExitStatus::from_raw(status));
            }
        }
    }
}

/// In the new process: tells its number, then waits until it may go on. `ours` is the
/// other end of what it waits for, of which it must not have a copy: should nodetap
/// end, the pipe is to end too, and with it this process, which has not begun.
fn announce_and_wait(started: BorrowedFd<'_>, go: BorrowedFd<'_>, ours: RawFd) -> io::Result<()> {
    // SAFETY: this process uses its copy of that end nowhere else; it is about to
    // exchange its program.
    unsafe { rustix::io::close(ours) };
    let pid = rustix::process::getpid().as_raw_nonzero().get();
    rustix::io::write(started, &pid.to_ne_bytes())?;
    match rustix::io::read(go, &mut [0_u8; 1])? {
        0 => Err(io::Error::from_raw_os_error(libc::ECANCELED)),
        _ => Ok(()),
    }
}
