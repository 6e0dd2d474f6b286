//! Stacks at a fixed rate: of each thread that runs, one thread at a time.

use std::io;
use std::sync::mpsc::{self, Receiver, Sender, SyncSender, TryRecvError, TrySendError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use super::error::Error;
use super::process::Process;
use super::running::Threads;
use super::stop::{self, StoppedThread};
use crate::raw::{RawSample, RawSampleRef};
use crate::target::Target;

/// How many samples may wait to be fetched.
const ROOM: usize = 1 << 14;
/// How often the mappings may be looked at for new code.
const NEW_CODE_INTERVAL: Duration = Duration::from_millis(100);
/// How long the sampling thread is given to end. (It may hang with a thread that
/// the kernel does not let stop; then it goes with our process.)
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
    /// For how long threads stood still, all together.
    pub stopped: Duration,
}

/// A running sampler. Dropping it ends the sampling.
///
/// A thread of ours wakes at every tick, looks which threads of the target run,
/// and stops each of those for as long as it takes to copy its stack. Between the
/// ticks it traces nothing.
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
            totals: Totals::default(),
        };
        for target in targets {
            ticker.processes.push(prepare(target, options.max_depth)?);
        }
        let first = ticker.processes.first().map_or(0, |(it, _)| it.pid);
        let thread = thread::Builder::new()
            .name("ptrace".to_owned())
            .spawn(move || ticker.run())
            .map_err(|source| Error::Io { pid: first, source })?;
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

/// The thread that samples.
struct Ticker {
    period: Duration,
    orders: Receiver<Command>,
    sink: SyncSender<RawSample>,
    processes: Vec<(Process, Threads)>,
    totals: Totals,
}

impl Ticker {
    fn run(mut self) -> Totals {
        let mut next = Instant::now();
        let mut looked_for_code = next;
        while self.obey() {
            self.tick();
            if looked_for_code.elapsed() >= NEW_CODE_INTERVAL {
                for (process, _) in &mut self.processes {
                    process.look_for_new_code();
                }
                looked_for_code = Instant::now();
            }
            // Ticks that were missed are not made up for: the threads' CPU time
            // tells that samples are due.
            let now = Instant::now();
            while next <= now {
                next += self.period;
            }
            thread::sleep(next - now);
        }
        self.totals
    }

    /// Does what was ordered; whether to go on.
    fn obey(&mut self) -> bool {
        loop {
            match self.orders.try_recv() {
                Ok(Command::Add(process)) => self.processes.push(*process),
                Ok(Command::Remove(pid)) => self.processes.retain(|(it, _)| it.pid != pid),
                Ok(Command::Stop) | Err(TryRecvError::Disconnected) => return false,
                Err(TryRecvError::Empty) => return true,
            }
        }
    }

    fn tick(&mut self) {
        let Ticker {
            period,
            sink,
            processes,
            totals,
            ..
        } = self;
        for (process, threads) in processes {
            for tid in threads.due(*period) {
                // The ones before it took their time.
                if !threads.runs(tid) {
                    continue;
                }
                let begun = Instant::now();
                let taken = take(process, tid);
                totals.stopped += begun.elapsed();
                match taken {
                    Ok(Some(sample)) => match sink.try_send(sample) {
                        Ok(()) => {}
                        Err(TrySendError::Full(_)) => totals.lost += 1,
                        // Nobody wants them any more; the orders say so too.
                        Err(TrySendError::Disconnected(_)) => return,
                    },
                    Ok(None) => {}
                    // A debugger has it, for instance.
                    Err(_) => totals.lost += 1,
                }
            }
        }
    }
}

/// The stack of a thread that runs; `None` where it has ended or runs another
/// program now.
fn take(process: &mut Process, tid: u32) -> Result<Option<RawSample>, Error> {
    let Some(stopped) = StoppedThread::stop(process.pid, tid)? else {
        return Ok(None);
    };
    let Some(state) = stopped.state() else {
        return Ok(None);
    };
    let sample = process.walk(&[(tid, state)]).pop();
    Ok(sample.filter(|_| process.is_same_program()))
}
