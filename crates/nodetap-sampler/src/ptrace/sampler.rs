//! Stacks at a fixed rate: of each thread that runs, one thread at a time.

use std::io;
use std::num::NonZero;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender, SyncSender, TrySendError};
use std::sync::{Arc, Weak};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use rustix::thread::sched_getcpu;

use super::asked::{Answer, AskedThread};
use super::error::Error;
use super::process::Process;
use super::running::Threads;
use super::stop;
use super::stops::{StopTimes, Stops};
use crate::raw::{RawSample, RawSampleRef};
use crate::target::Target;

/// How many samples may wait to be fetched.
const ROOM: usize = 1 << 14;
/// How often the mappings may be looked at for new code.
const NEW_CODE_INTERVAL: Duration = Duration::from_millis(100);
/// How long is waited for a thread that runs to stop, when nothing else is done.
const PATIENCE_WITH_ONE: Duration = Duration::from_micros(50);
/// How often it is looked whether those have stopped that could not so soon.
const SHORTEST_PAUSE: Duration = Duration::from_micros(4);
/// The same when they have not for some time.
const LONGEST_PAUSE: Duration = Duration::from_micros(256);
/// How often it is looked whether the sampling thread needs help.
const HELP_INTERVAL: Duration = Duration::from_millis(20);
/// How long the sampling thread is given to end.
const PATIENCE: Duration = Duration::from_millis(500);

/// How to sample.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Options {
    /// Ticks a second.
    pub rate_hz: u32,
    /// The most frames of a stack.
    pub max_depth: u32,
}

/// What a recording came to besides its samples.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// Samples that were due and were not delivered.
    pub lost: u64,
    /// For how long threads stood still.
    pub stops: Stops,
}

/// A running sampler. Dropping it ends the sampling.
///
/// A thread of ours wakes at every tick, looks which threads of the target run,
/// and stops each of those for as long as it takes to copy its stack. Between the
/// ticks it traces nothing but threads that wait for a CPU, or for the kernel, and
/// so could not stop yet.
#[derive(Debug)]
pub struct PtraceSampler {
    commands: Sender<Command>,
    samples: Receiver<RawSample>,
    thread: JoinHandle<Totals>,
}

/// What the sampling thread is told.
enum Command {
    Add(Box<(Process, Threads)>),
    Remove(u32),
    Suspend,
    Stop,
}

impl PtraceSampler {
    /// Begins to sample `targets`.
    ///
    /// # Errors
    /// Where one of them may not be stopped, or has ended.
    pub fn start<'a>(
        options: &Options,
        targets: impl IntoIterator<Item = &'a Target>,
    ) -> Result<PtraceSampler, Error> {
        let (commands, orders) = mpsc::channel();
        let (sink, samples) = mpsc::sync_channel(ROOM);
        let mut ticker = Ticker {
            period: Duration::from_secs(1) / options.rate_hz.max(1),
            orders,
            sink,
            processes: Vec::new(),
            asked: Vec::new(),
            asking: Arc::default(),
            cpus: thread::available_parallelism().map_or(1, NonZero::get),
            lost: 0,
            stops: StopTimes::default(),
        };
        for target in targets {
            ticker.processes.push(prepare(target, options.max_depth)?);
        }
        let first = ticker.processes.first().map_or(0, |(it, _)| it.pid);
        let error = |source| Error::Io { pid: first, source };
        let asking = Arc::downgrade(&ticker.asking);
        let spawn = |name: &str| thread::Builder::new().name(name.to_owned());
        let helper = spawn("reaper").spawn(move || help(&asking));
        helper.map_err(error)?;
        let thread = spawn("ptrace").spawn(move || ticker.run()).map_err(error)?;
        Ok(PtraceSampler {
            commands,
            samples,
            thread,
        })
    }

    /// Samples one process more.
    ///
    /// # Errors
    /// Where it may not be stopped, or has ended.
    pub fn add_process(&mut self, target: &Target, max_depth: u32) -> Result<(), Error> {
        let process = prepare(target, max_depth)?;
        // Where nobody listens any more there is nothing to add to.
        let _ = self.commands.send(Command::Add(Box::new(process)));
        Ok(())
    }

    /// Ends the sampling of a process.
    pub fn remove_process(&mut self, pid: u32) {
        let _ = self.commands.send(Command::Remove(pid));
    }

    /// Stops this process as soon as no thread of a target stands still.
    pub fn suspend(&mut self) {
        let _ = self.commands.send(Command::Suspend);
    }

    /// Waits for `timeout`, then hands every sample that is there to `sink`.
    pub fn poll(&mut self, timeout: Duration, sink: &mut dyn FnMut(RawSampleRef<'_>)) {
        thread::sleep(timeout);
        self.drain(sink);
    }

    /// Ends the sampling and hands what is left to `sink`.
    pub fn stop(self, sink: &mut dyn FnMut(RawSampleRef<'_>)) -> Totals {
        let _ = self.commands.send(Command::Stop);
        let asked = Instant::now();
        while !self.thread.is_finished() && asked.elapsed() < PATIENCE {
            thread::sleep(Duration::from_millis(1));
        }
        self.drain(sink);
        match self.thread.is_finished().then(|| self.thread.join()) {
            Some(Ok(totals)) => totals,
            Some(Err(panic)) => std::panic::resume_unwind(panic),
            None => Totals::default(),
        }
    }

    fn drain(&self, sink: &mut dyn FnMut(RawSampleRef<'_>)) {
        // No more than there is room for: a slow sink is not kept for ever.
        for sample in self.samples.try_iter().take(ROOM) {
            sink(sample.as_ref());
        }
    }
}

fn prepare(target: &Target, max_depth: u32) -> Result<(Process, Threads), Error> {
    let pid = target.pid;
    stop::may_stop(pid)?;
    let error = |source: io::Error| match source.kind() {
        io::ErrorKind::NotFound => Error::Ended { pid },
        _ => Error::Io { pid, source },
    };
    let process = Process::of(target, max_depth).map_err(error)?;
    let threads = Threads::of(pid).map_err(error)?;
    Ok((process, threads))
}

/// Stops this process until it is sent SIGCONT.
pub fn stop_ourselves() {
    // To this thread and not just to any: before this returns it has been stopped.
    // SAFETY: no memory of ours is touched.
    unsafe { libc::raise(libc::SIGSTOP) };
}

/// Helps the thread that samples where it may wait for itself, as long as it is there;
/// see [`stop::reap_threads`].
fn help(asking: &Weak<AtomicU32>) {
    while let Some(asking) = asking.upgrade() {
        match asking.load(Ordering::Relaxed) {
            0 => {}
            pid => stop::reap_threads(pid),
        }
        drop(asking);
        thread::sleep(HELP_INTERVAL);
    }
}

/// The thread that samples.
struct Ticker {
    period: Duration,
    orders: Receiver<Command>,
    sink: SyncSender<RawSample>,
    processes: Vec<(Process, Threads)>,
    /// Threads that are to be sampled when they stop.
    asked: Vec<AskedThread>,
    /// The process of which a thread is being asked, which may take long; else 0.
    asking: Arc<AtomicU32>,
    cpus: usize,
    lost: u64,
    stops: StopTimes,
}

impl Ticker {
    fn run(mut self) -> Totals {
        crate::priority::raise();
        let mut next = Instant::now();
        let mut looked_for_code = next;
        loop {
            let begun = Instant::now();
            self.tick(begun);
            if looked_for_code.elapsed() >= NEW_CODE_INTERVAL {
                for (process, _) in &mut self.processes {
                    process.look_for_new_code();
                }
                looked_for_code = Instant::now();
            }
            // Ticks that were missed are not made up for: the threads' CPU time
            // tells that samples are due. A tick that took long is followed by as
            // long a rest.
            let now = Instant::now();
            while next <= now + (now - begun) {
                next += self.period;
            }
            if !self.rest(next) {
                break;
            }
        }
        Totals {
            lost: self.lost,
            stops: self.stops.summary(),
        }
    }

    /// Does what is ordered, and samples what stops, until the next tick; whether to
    /// go on.
    fn rest(&mut self, until: Instant) -> bool {
        let mut pause = SHORTEST_PAUSE;
        loop {
            let now = Instant::now();
            self.look_at_asked();
            let took = now.elapsed();
            let mut wait = until.saturating_duration_since(now + took);
            if !self.asked.is_empty() {
                wait = wait.min(pause.max(took));
                pause = (2 * pause).min(LONGEST_PAUSE);
            }
            match self.orders.recv_timeout(wait) {
                Ok(Command::Add(process)) => self.processes.push(*process),
                Ok(Command::Remove(pid)) => self.processes.retain(|(it, _)| it.pid != pid),
                Ok(Command::Suspend) => self.suspend(),
                Ok(Command::Stop) | Err(RecvTimeoutError::Disconnected) => return false,
                Err(RecvTimeoutError::Timeout) if Instant::now() >= until => return true,
                Err(RecvTimeoutError::Timeout) => {}
            }
        }
    }

    /// Stops this process when those that were asked to stop have been let go.
    fn suspend(&mut self) {
        let begun = Instant::now();
        while !self.asked.is_empty() && begun.elapsed() < PATIENCE {
            self.look_at_asked();
            thread::sleep(LONGEST_PAUSE);
        }
        stop_ourselves();
    }

    fn tick(&mut self, now: Instant) {
        for i in 0..self.processes.len() {
            let (process, threads) = &mut self.processes[i];
            let pid = process.pid;
            let asked = &self.asked;
            let waits = |tid| asked.iter().any(|it| (it.pid, it.tid) == (pid, tid));
            let due = threads.due(self.period, waits);
            // Where there are more than have a CPU, most of them have none.
            let patience = match due.len() <= self.cpus {
                true => PATIENCE_WITH_ONE,
                false => Duration::ZERO,
            };
            for tid in due {
                // The ones before it took their time.
                let Some(cpu) = self.processes[i].1.runs(tid) else {
                    continue;
                };
                // It has to wait until we give way.
                let patience = match cpu == sched_getcpu() as u32 {
                    true => Duration::ZERO,
                    false => patience,
                };
                self.asking.store(pid, Ordering::Relaxed);
                let asked = AskedThread::ask(pid, tid, now);
                self.asking.store(0, Ordering::Relaxed);
                match asked {
                    Ok(Some(asked)) => self.take(asked.watch(patience)),
                    Ok(None) => {}
                    // A debugger has it, for instance.
                    Err(_) => self.lost += 1,
                }
            }
        }
    }

    fn look_at_asked(&mut self) {
        for asked in std::mem::take(&mut self.asked) {
            self.take(asked.look());
        }
    }

    /// The stack of a thread that was asked to stop, if it has.
    fn take(&mut self, answer: Answer) {
        let stopped = match answer {
            Answer::NotYet(asked) => return self.asked.push(asked),
            Answer::Stopped(stopped) => stopped,
            Answer::Ended => return,
        };
        let pid = stopped.pid;
        let process = self.processes.iter_mut().find(|(it, _)| it.pid == pid);
        let Some((process, threads)) = process else {
            self.asked.extend(stopped.release().err());
            return;
        };
        // It had no CPU when it was due, and stands where it lost that before: at the
        // end of a system call rather than where it computes.
        let had_none = !stopped.at_once() && threads.waited(stopped.tid) > stopped.took();
        if had_none && threads.do_without(stopped.tid) {
            match stopped.release() {
                Ok(length) => self.stops.add(length),
                Err(ending) => self.asked.push(ending),
            }
            return;
        }
        let state = stopped.state();
        let sample = state.and_then(|state| process.walk(&[(stopped.tid, state)]).pop());
        // What was read is good if it stood still until now.
        let length = match stopped.release() {
            Ok(length) => length,
            Err(ending) => return self.asked.push(ending),
        };
        self.stops.add(length);
        let Some(sample) = sample.filter(|_| process.is_same_program()) else {
            return;
        };
        // Where nobody wants them any more, the orders say so too.
        if let Err(TrySendError::Full(_)) = self.sink.try_send(sample) {
            self.lost += 1;
        }
    }
}
