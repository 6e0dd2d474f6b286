//! The samples of each thread in their order, those that follow on each other with the
//! same stack as one run.
//!
//! How many runs a page has is bounded: of a long recording each stack is one run within a
//! step of time, and the step grows with the recording. What is counted stays exact, and
//! what came after what within a step is not known any more.

use std::io;

use crate::{Profile, StackId};

/// A page has no more runs than this, unless it has more stacks.
const MAX_RUNS: usize = 1 << 20;

/// The same stack of one thread for a while.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Run {
    /// When its first sample was taken, in microseconds since the start.
    pub start_us: u64,
    /// Until when it lasts: a sample stands for the time until the next one is due.
    pub end_us: u64,
    pub stack: StackId,
    /// For how many samples it stands.
    pub count: u64,
}

impl Run {
    fn length_us(&self) -> u64 {
        self.end_us.saturating_sub(self.start_us)
    }
}

/// The runs of all threads.
#[derive(Debug)]
pub(super) struct Runs {
    /// Those of each thread, in the order of their times.
    pub threads: Vec<Vec<Run>>,
    /// Within how many microseconds order is not known; 0: it is everywhere.
    pub step_us: u64,
    /// Whether times are known at all.
    pub has_times: bool,
}

impl Runs {
    /// Those of a profile; without times where their order was not kept.
    pub(super) fn new(profile: &Profile) -> io::Result<Runs> {
        let mut growing = Growing::new(profile, MAX_RUNS);
        for sample in profile.samples() {
            let sample = sample?;
            let end = u64::from(sample.count).saturating_mul(growing.period_us);
            growing.add(
                sample.thread.index(),
                Run {
                    start_us: sample.time_us,
                    end_us: sample.time_us.saturating_add(end),
                    stack: sample.stack,
                    count: sample.count.into(),
                },
            );
        }
        if growing.len == 0 && profile.sample_count() > 0 {
            return Ok(Runs::without_times(profile));
        }
        Ok(growing.finish())
    }

    fn without_times(profile: &Profile) -> Runs {
        let mut threads = vec![Vec::new(); profile.threads().len()];
        for (key, count) in profile.counts() {
            threads[key.thread.index()].push(Run {
                start_us: 0,
                end_us: 0,
                stack: key.stack,
                count,
            });
        }
        for runs in &mut threads {
            runs.sort_unstable_by_key(|run| (run.stack, run.count));
        }
        Runs {
            threads,
            step_us: 0,
            has_times: false,
        }
    }
}

/// Runs to which samples are added.
struct Growing {
    threads: Vec<Vec<Run>>,
    len: usize,
    /// At how many they are joined.
    limit: usize,
    step_us: u64,
    period_us: u64,
}

impl Growing {
    fn new(profile: &Profile, limit: usize) -> Growing {
        Growing {
            threads: vec![Vec::new(); profile.threads().len()],
            len: 0,
            limit,
            step_us: 0,
            period_us: period_us(profile),
        }
    }

    fn add(&mut self, thread: usize, run: Run) {
        let runs = &mut self.threads[thread];
        if let Some(last) = runs.last_mut()
            && last.stack == run.stack
            && last.end_us.abs_diff(run.start_us) <= self.period_us / 2
        {
            last.end_us = last.end_us.max(run.end_us);
            last.count += run.count;
            return;
        }
        runs.push(run);
        self.len += 1;
        if self.len > self.limit {
            self.join();
        }
    }

    /// Joins what is within a step, and makes the steps longer until there are half as many
    /// runs as there may be.
    fn join(&mut self) {
        self.step_us = self.step_us.max(2 * self.period_us);
        loop {
            self.len = 0;
            for runs in &mut self.threads {
                join_within(runs, self.step_us);
                self.len += runs.len();
            }
            let longer = self.step_us.checked_mul(2);
            match longer.filter(|_| self.len > self.limit / 2) {
                Some(longer) => self.step_us = longer,
                None => break,
            }
        }
        // Where there are too many stacks, that has to do.
        self.limit = self.limit.max(2 * self.len);
    }

    fn finish(mut self) -> Runs {
        for runs in &mut self.threads {
            if !runs.is_sorted_by_key(|run| run.start_us) {
                runs.sort_by_key(|run| run.start_us);
            }
        }
        Runs {
            threads: self.threads,
            step_us: self.step_us,
            has_times: true,
        }
    }
}

/// Joins runs of the same stack that start within the same step. What starts within a step
/// stands one behind the other then, from when the first of it started.
fn join_within(runs: &mut Vec<Run>, step_us: u64) {
    let step = |run: &Run| run.start_us / step_us;
    runs.sort_by_key(|run| (step(run), run.stack));
    runs.dedup_by(|run, kept| {
        let is_same = step(run) == step(kept) && run.stack == kept.stack;
        if is_same {
            let length = kept.length_us().saturating_add(run.length_us());
            kept.start_us = kept.start_us.min(run.start_us);
            kept.end_us = kept.start_us.saturating_add(length);
            kept.count += run.count;
        }
        is_same
    });
    runs.sort_by_key(|run| run.start_us);
    for within in runs.chunk_by_mut(|a, b| step(a) == step(b)) {
        let last = step(&within[0]).saturating_add(1).saturating_mul(step_us) - 1;
        let mut at = within[0].start_us;
        for run in within {
            let length = run.length_us();
            run.start_us = at.min(last);
            run.end_us = run.start_us.saturating_add(length);
            at = run.end_us;
        }
    }
}

/// The time between two samples of a thread that runs all the time.
pub(super) fn period_us(profile: &Profile) -> u64 {
    (1_000_000 / u64::from(profile.metadata.rate_hz.max(1))).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{bare, js};
    use crate::{Mode, Sample, Thread, Tier};

    /// A profile of one thread, with this many stacks of one frame.
    fn with_stacks(count: u32) -> (Profile, Vec<StackId>) {
        let mut profile = bare();
        profile.metadata.rate_hz = 1000;
        profile.add_thread(Thread::default());
        let stacks = (1..=count).map(|line| {
            let frame = profile.intern_frame(js("f", line, Tier::Optimized));
            profile.intern_stack([frame])
        });
        let stacks = stacks.collect();
        (profile, stacks)
    }

    fn add(profile: &mut Profile, time_us: u64, stack: StackId, count: u32) {
        let thread = profile.thread_id(0).unwrap();
        profile.add_sample(Sample {
            count,
            ..Sample::new(time_us, thread, stack, Mode::Unknown)
        });
    }

    fn run(start_us: u64, end_us: u64, stack: StackId, count: u64) -> Run {
        Run {
            start_us,
            end_us,
            stack,
            count,
        }
    }

    #[test]
    fn what_follows_with_the_same_stack_is_one_run() {
        let (mut profile, stacks) = with_stacks(2);
        let [a, b] = stacks[..] else { panic!() };
        for (time, stack, count) in [
            (100, a, 1),
            (1090, a, 1),
            (2110, b, 1),
            (9000, b, 5),
            (14_000, b, 1),
            (16_000, b, 1),
        ] {
            add(&mut profile, time, stack, count);
        }
        let runs = Runs::new(&profile).unwrap();
        assert!(runs.has_times);
        assert_eq!(
            runs.threads,
            [[
                run(100, 2090, a, 2),
                run(2110, 3110, b, 1),
                run(9000, 15_000, b, 6),
                run(16_000, 17_000, b, 1),
            ]]
        );
    }

    #[test]
    fn samples_that_come_late_get_their_place() {
        let (mut profile, stacks) = with_stacks(2);
        add(&mut profile, 5000, stacks[0], 1);
        add(&mut profile, 1000, stacks[1], 3);
        let runs = Runs::new(&profile).unwrap();
        assert_eq!(
            runs.threads,
            [[run(1000, 4000, stacks[1], 3), run(5000, 6000, stacks[0], 1)]]
        );
    }

    #[test]
    fn without_their_order_samples_are_counted() {
        let (mut profile, stacks) = with_stacks(2);
        profile.keep_no_sequence();
        for time in 0..10 {
            add(&mut profile, time, stacks[usize::from(time < 3)], 2);
        }
        let runs = Runs::new(&profile).unwrap();
        assert!(!runs.has_times);
        assert_eq!(
            runs.threads,
            [[run(0, 0, stacks[0], 14), run(0, 0, stacks[1], 6)]]
        );
    }

    #[test]
    fn a_long_recording_is_told_in_longer_steps_and_counted_exactly() {
        let (profile, stacks) = with_stacks(7);
        let mut growing = Growing::new(&profile, 1000);
        let mut expected = vec![0; 8];
        for i in 0..100_000_u64 {
            let stack = stacks[(i * i % 7) as usize];
            let start = i * 1000;
            growing.add(0, run(start, start + 1000, stack, 1));
            expected[stack.index()] += 1;
            assert!(growing.len <= 1000);
        }
        let runs = growing.finish();
        // Up to four stacks in each step: two hundred steps.
        assert_eq!(runs.step_us, 1_024_000);
        let mut counts = vec![0; 8];
        let mut at = 0;
        for run in &runs.threads[0] {
            assert!(run.start_us >= at, "{run:?}");
            assert_eq!(run.length_us(), 1000 * run.count);
            counts[run.stack.index()] += run.count;
            at = run.start_us;
        }
        assert_eq!(counts, expected);
        assert!(at < 100_000_000);
    }

    #[test]
    fn more_stacks_than_runs_and_times_that_lie_do_no_harm() {
        let (profile, stacks) = with_stacks(3000);
        let mut growing = Growing::new(&profile, 100);
        for (i, &stack) in stacks.iter().enumerate() {
            let start = u64::MAX - i as u64;
            growing.add(0, run(start, u64::MAX, stack, 1));
            growing.add(0, run(i as u64, 0, stack, 1));
        }
        let runs = growing.finish();
        let count: u64 = runs.threads[0].iter().map(|run| run.count).sum();
        assert_eq!(count, 6000);
    }
}
