//! What is shown besides the samples.

use std::collections::HashMap;
use std::time::Duration;

use super::delay::Busy;
use super::tally::{Count, Tally};

/// All that is shown, as it was at one moment.
#[derive(Clone, Debug, Default)]
pub struct Snapshot {
    /// The samples.
    pub tally: Tally,
    /// The rest.
    pub facts: Facts,
}

/// What is known of the processes and of the sampling.
#[derive(Clone, Debug, Default)]
pub struct Facts {
    /// The processes that are looked at.
    pub processes: Vec<Process>,
    /// What takes the samples.
    pub sampler: String,
    /// How many a second of CPU time.
    pub rate_hz: u32,
    /// For how long, since the start or since all was set to nothing.
    pub elapsed: Duration,
    /// How many there are.
    pub samples: Count,
    /// How many were lost.
    pub lost: u64,
    /// How many stacks were deeper than allowed.
    pub truncated: u64,
    /// What threads that run JavaScript did, in the last second and since the start.
    pub summary: [Vec<String>; 2],
    /// How many percent of a CPU each thread used in the last second, by process and
    /// thread.
    pub cpu: HashMap<(u32, u32), f64>,
}

/// A process.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Process {
    /// Its number.
    pub pid: u32,
    /// Its command line, safe to print.
    pub command: String,
    /// Its Node.js, `v24.21.0`.
    pub node: Option<String>,
    /// How many percent of a CPU it used in the last second.
    pub cpu: Option<f64>,
    /// What keeps its event loop.
    pub event_loop: Option<Busy>,
    /// How it came to its end, if it has.
    pub end: Option<&'static str>,
}

impl Facts {
    /// How many percent of a CPU all of them used, and their main threads.
    pub fn cpu_use(&self) -> Option<(f64, f64)> {
        let of_all: Vec<f64> = self.processes.iter().filter_map(|it| it.cpu).collect();
        let mains = self.processes.iter().map(|it| (it.pid, it.pid));
        let main: f64 = mains.filter_map(|thread| self.cpu.get(&thread)).sum();
        (!of_all.is_empty()).then(|| (of_all.iter().sum(), main))
    }

    /// The longest that one of the event loops was busy.
    pub fn event_loop(&self) -> Option<Busy> {
        let loops = self.processes.iter().filter_map(|it| it.event_loop);
        loops.reduce(|one, other| Busy {
            now: one.now.max(other.now),
            recent: one.recent.max(other.recent),
            all: one.all.max(other.all),
        })
    }

    /// Whether nothing more will come.
    pub fn are_final(&self) -> bool {
        self.processes.iter().all(|it| it.end.is_some())
    }
}
