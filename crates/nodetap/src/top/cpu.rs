//! How much of a CPU processes and their threads use.

use std::collections::HashMap;
use std::fs;
use std::time::{Duration, Instant};

/// Their use between two readings.
#[derive(Debug, Default)]
pub struct Meter {
    last: HashMap<(u32, u32), Duration>,
    read: Option<Instant>,
    percent: HashMap<(u32, u32), f64>,
}

impl Meter {
    /// Reads the CPU time of each thread of these processes.
    pub fn read(&mut self, pids: &[u32]) {
        let now = Instant::now();
        let times: HashMap<(u32, u32), Duration> =
            pids.iter().flat_map(|&pid| cpu_times(pid)).collect();
        self.percent = match self.read {
            None => HashMap::new(),
            Some(before) => {
                let passed = (now - before).as_secs_f64().max(1e-9);
                times
                    .iter()
                    .map(|(thread, time)| {
                        // A new thread has begun since.
                        let before = self.last.get(thread).copied().unwrap_or_default();
                        let used = time.saturating_sub(before).as_secs_f64();
                        (*thread, 100.0 * used / passed)
                    })
                    .collect()
            }
        };
        self.last = times;
        self.read = Some(now);
    }

    /// How many percent of a CPU process `pid` used between the last two readings.
    pub fn of_process(&self, pid: u32) -> Option<f64> {
        let threads = self.percent.iter().filter(|((of, _), _)| *of == pid);
        let percents: Vec<f64> = threads.map(|(_, percent)| *percent).collect();
        (!percents.is_empty()).then(|| percents.into_iter().sum())
    }

    /// The same of each thread, by process and thread.
    pub fn threads(&self) -> HashMap<(u32, u32), f64> {
        self.percent.clone()
    }
}

/// The CPU time of each thread of a process; of none where it is gone, or where the
/// kernel does not tell.
fn cpu_times(pid: u32) -> Vec<((u32, u32), Duration)> {
    let threads = fs::read_dir(format!("/proc/{pid}/task"))
        .into_iter()
        .flatten();
    threads
        .filter_map(|thread| {
            let thread = thread.ok()?;
            let tid = thread.file_name().to_str()?.parse().ok()?;
            // It may end at any moment.
            let text = fs::read_to_string(thread.path().join("schedstat")).ok()?;
            let time = text.split_whitespace().next()?.parse().ok()?;
            Some(((pid, tid), Duration::from_nanos(time)))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_spins_uses_a_cpu() {
        let us = std::process::id();
        let mut meter = Meter::default();
        meter.read(&[us]);
        assert_eq!(meter.of_process(us), None);
        let begun = Instant::now();
        while begun.elapsed() < Duration::from_millis(30) {
            std::hint::spin_loop();
        }
        meter.read(&[us]);
        let percent = meter.of_process(us).unwrap();
        assert!(percent > 0.0, "{percent}");
        assert!(meter.threads()[&(us, us)] <= percent);
        assert_eq!(meter.of_process(0), None);
    }
}
