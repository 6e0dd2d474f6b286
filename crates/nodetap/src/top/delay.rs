//! How long the event loops of the processes are busy: looked at all the time, by a thread
//! of its own.

use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use nodetap_sampler::event_loop::{Delay, EventLoop};
use nodetap_sampler::target::Target;

/// How often they are looked at: what is told is too short by as much.
const INTERVAL: Duration = Duration::from_millis(10);

/// What was seen of a process's event loop.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Busy {
    /// For how long it has been busy by now.
    pub now: Duration,
    /// The longest since this was asked the last time.
    pub recent: Duration,
    /// The longest since the start.
    pub all: Duration,
}

/// Those of several processes.
#[derive(Debug, Default)]
pub struct EventLoops {
    watched: Arc<Mutex<Vec<(u32, Busy)>>>,
    /// Its end ends the thread.
    _stop: Option<Sender<()>>,
}

impl EventLoops {
    /// Begins to look at those that can be found.
    pub fn watch<'a>(targets: impl IntoIterator<Item = &'a Target>) -> EventLoops {
        let mut loops: Vec<(u32, EventLoop, Delay)> = targets
            .into_iter()
            .filter_map(|target| Some((target.pid, EventLoop::find(target)?, Delay::default())))
            .collect();
        if loops.is_empty() {
            return EventLoops::default();
        }
        let known = loops.iter().map(|(pid, ..)| (*pid, Busy::default()));
        let watched = Arc::new(Mutex::new(known.collect::<Vec<_>>()));
        let (stop, stopped) = channel();
        let seen = Arc::clone(&watched);
        let watch = move || {
            while stopped.recv_timeout(INTERVAL) == Err(RecvTimeoutError::Timeout) {
                loops.retain_mut(|(pid, event_loop, delay)| {
                    let glance = event_loop.glance();
                    let now = glance.map(|glance| delay.observe(glance));
                    let mut seen = seen.lock().unwrap_or_else(PoisonError::into_inner);
                    // What cannot be told any more is not told: mostly it has ended.
                    match (seen.iter_mut().find(|(of, _)| of == pid), now) {
                        (Some((_, busy)), Some(now)) => {
                            busy.now = now;
                            busy.recent = busy.recent.max(now);
                            busy.all = busy.all.max(now);
                            true
                        }
                        _ => {
                            seen.retain(|(of, _)| of != pid);
                            false
                        }
                    }
                });
            }
        };
        // Without a thread there is nothing to tell.
        match thread::Builder::new()
            .name("event loops".to_owned())
            .spawn(watch)
        {
            Ok(_) => EventLoops {
                watched,
                _stop: Some(stop),
            },
            Err(_) => EventLoops::default(),
        }
    }

    /// What was seen of each process since this was asked the last time.
    pub fn take(&self) -> Vec<(u32, Busy)> {
        let mut watched = self.watched.lock().unwrap_or_else(PoisonError::into_inner);
        let seen = watched.clone();
        for (_, busy) in watched.iter_mut() {
            busy.recent = busy.now;
        }
        seen
    }

    /// Forgets the longest since the start.
    pub fn reset(&self) {
        let mut watched = self.watched.lock().unwrap_or_else(PoisonError::into_inner);
        for (_, busy) in watched.iter_mut() {
            busy.all = busy.now;
        }
    }
}
