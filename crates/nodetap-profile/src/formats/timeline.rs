//! The samples of each thread as a time line: when it ran what, and when it did not run.
//!
//! A sample says that a thread ran at one moment, and stands for the time until the next
//! tick of the clock. That clock is the CPU's: a thread that runs all the time has a sample
//! each period, and where none comes for longer it did not run. (With `--wall` a wait is a
//! sample that stands for as many periods as it took.) So a sample takes its count of
//! periods, exactly: times add up to samples. Ticks are not quite a period apart, above all
//! where a thread moves from CPU to CPU; a sample that is a little late or early begins
//! where the one before it ends. Only what is later than that is a gap.

use std::cell::RefCell;
use std::io;

use crate::sequence::Sequence;
use crate::{Profile, Sample, ThreadId};

/// A piece of a thread's time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Span {
    /// When it begins, in nanoseconds since the recording's start.
    pub start_ns: u64,
    /// When it ends.
    pub end_ns: u64,
    /// For how many samples it stands; of a gap, how many there would have been.
    pub ticks: u64,
    /// What was sampled then; absent in a gap.
    pub sample: Option<Sample>,
}

/// The time lines of threads.
pub(super) struct Timelines {
    period_ns: u64,
    threads: Vec<(ThreadId, Sequence)>,
    error: RefCell<Option<io::Error>>,
}

impl Timelines {
    /// Those of the threads that have samples and of which `is_wanted` is true, in their
    /// order. They go to a file when they are long, as the profile's samples did.
    pub fn new(profile: &Profile, is_wanted: impl Fn(ThreadId) -> bool) -> io::Result<Self> {
        let mut sequences: Vec<Option<Sequence>> = Vec::new();
        sequences.resize_with(profile.threads().len(), || None);
        for sample in profile.samples() {
            let sample = sample?;
            if !is_wanted(sample.thread) || sample.count == 0 {
                continue;
            }
            let sequence =
                sequences[sample.thread.index()].get_or_insert_with(|| profile.new_sequence());
            if !sequence.push(sample) {
                let error = sequence.error().map(|(_, error)| error.kind());
                return Err(error.unwrap_or(io::ErrorKind::StorageFull).into());
            }
        }
        let threads = (0..).map_while(|index| profile.thread_id(index));
        let threads = threads.zip(sequences);
        Ok(Self {
            period_ns: period_ns(profile),
            threads: threads.filter_map(|(id, it)| Some((id, it?))).collect(),
            error: RefCell::default(),
        })
    }

    /// The threads, each with what its [`spans`](Self::spans) are asked for by.
    pub fn threads(&self) -> impl Iterator<Item = (usize, ThreadId)> {
        self.threads.iter().map(|(thread, _)| *thread).enumerate()
    }

    /// The time line of one, from the recording's start to the end of its last sample.
    /// Where samples cannot be read again it ends, and [`finish`](Self::finish) says why.
    pub fn spans(&self, index: usize) -> impl Iterator<Item = Span> {
        let samples = self.threads.get(index).into_iter();
        let samples = samples.flat_map(|(_, sequence)| sequence.iter());
        let samples =
            samples.map_while(|it| it.map_err(|error| self.error.replace(Some(error))).ok());
        spans(samples, self.period_ns)
    }

    /// How many samples fall into a time.
    pub fn ticks(&self, time_ns: u64) -> u64 {
        ticks(time_ns, self.period_ns)
    }

    /// When the last sample of one ends, in nanoseconds since the recording's start.
    pub fn end_ns(&self, index: usize) -> u64 {
        self.spans(index).last().map_or(0, |span| span.end_ns)
    }

    /// Fails if samples could not be read again.
    pub fn finish(self) -> io::Result<()> {
        self.error.take().map_or(Ok(()), Err)
    }
}

/// How long one sample stands for, in nanoseconds.
pub(super) fn period_ns(profile: &Profile) -> u64 {
    1_000_000_000 / u64::from(profile.metadata.rate_hz.max(1))
}

/// How many samples fall into a time.
fn ticks(time_ns: u64, period_ns: u64) -> u64 {
    time_ns.saturating_add(period_ns / 2) / period_ns
}

fn spans(samples: impl Iterator<Item = Sample>, period_ns: u64) -> impl Iterator<Item = Span> {
    // A tick that comes in time after one that was lost is not late enough.
    let patience_ns = period_ns + period_ns / 2;
    let mut at_ns = 0_u64;
    samples.flat_map(move |sample| {
        let taken_ns = sample.time_us.saturating_mul(1000);
        let gap = (taken_ns > at_ns.saturating_add(patience_ns)).then(|| Span {
            start_ns: at_ns,
            end_ns: taken_ns,
            ticks: ticks(taken_ns - at_ns, period_ns),
            sample: None,
        });
        let start_ns = gap.map_or(at_ns, |gap| gap.end_ns);
        let ticks = u64::from(sample.count);
        at_ns = start_ns.saturating_add(ticks.saturating_mul(period_ns));
        let span = Span {
            start_ns,
            end_ns: at_ns,
            ticks,
            sample: Some(sample),
        };
        gap.into_iter().chain([span])
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{add_thread, empty};
    use crate::{Mode, StackId};

    fn taken(thread: ThreadId, time_us: u64, count: u32) -> Sample {
        Sample {
            count,
            ..Sample::new(time_us, thread, StackId::EMPTY, Mode::JavaScript)
        }
    }

    /// Begin, end and ticks of each span, in units of the period; gaps below zero.
    fn line(times: &[(u64, u32)]) -> Vec<(f64, f64, i64)> {
        let thread = empty().1;
        let samples = times
            .iter()
            .map(|&(time, count)| taken(thread, time, count));
        let spans = spans(samples, 1_000_000);
        spans
            .map(|span| {
                let ticks = span.ticks as i64;
                let ticks = if span.sample.is_some() { ticks } else { -ticks };
                (span.start_ns as f64 / 1e6, span.end_ns as f64 / 1e6, ticks)
            })
            .collect()
    }

    #[test]
    fn ticks_that_are_nearly_in_time_follow_each_other() {
        assert_eq!(
            line(&[(300, 1), (1290, 1), (2350, 1), (3200, 1), (4900, 1)]),
            [
                (0.0, 1.0, 1),
                (1.0, 2.0, 1),
                (2.0, 3.0, 1),
                (3.0, 4.0, 1),
                (4.0, 5.0, 1)
            ]
        );
    }

    #[test]
    fn a_thread_that_does_not_run_has_gaps() {
        assert_eq!(
            line(&[(10_000, 1), (11_000, 1), (15_600, 1)]),
            [
                (0.0, 10.0, -10),
                (10.0, 11.0, 1),
                (11.0, 12.0, 1),
                (12.0, 15.6, -4),
                (15.6, 16.6, 1)
            ]
        );
    }

    #[test]
    fn a_wait_takes_as_long_as_its_ticks() {
        assert_eq!(
            line(&[(0, 1), (1000, 500), (501_000, 1)]),
            [(0.0, 1.0, 1), (1.0, 501.0, 500), (501.0, 502.0, 1)]
        );
    }

    #[test]
    fn times_that_cannot_be_do_no_harm() {
        let thread = empty().1;
        let samples = [(u64::MAX, u32::MAX), (0, u32::MAX), (5, 1), (u64::MAX, 1)];
        let samples = samples.map(|(time, count)| taken(thread, time, count));
        let mut end = 0;
        for span in spans(samples.into_iter(), 1_000_000_000) {
            assert_eq!(span.start_ns, end);
            end = span.end_ns;
        }
        assert_eq!(end, u64::MAX);
    }

    #[test]
    fn each_thread_has_its_own() {
        let (mut profile, first) = empty();
        let silent = add_thread(&mut profile, 32642, 2, "v8");
        let second = add_thread(&mut profile, 32642, 3, "worker");
        profile.limit_sequence(100, 1000);
        for time in 0..5000 {
            let thread = if time % 3 == 0 { second } else { first };
            profile.add_sample(taken(thread, 1001 * time, 1));
        }
        let lines = Timelines::new(&profile, |_| true).unwrap();
        let threads: Vec<ThreadId> = lines.threads().map(|(_, thread)| thread).collect();
        assert_eq!(threads, [first, second]);
        for (index, thread) in lines.threads() {
            let samples = lines.spans(index).filter_map(|span| span.sample);
            let samples: Vec<Sample> = samples.collect();
            assert!(samples.iter().all(|sample| sample.thread == thread));
            let expected = if thread == second { 1667 } else { 3333 };
            assert_eq!(samples.len(), expected);
        }
        lines.finish().unwrap();
        let lines = Timelines::new(&profile, |thread| thread == silent).unwrap();
        assert_eq!(lines.threads().count(), 0);
        assert_eq!(lines.end_ns(0), 0);
    }
}
