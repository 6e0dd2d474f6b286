//! For how long threads stood still, each time.

use std::time::Duration;

/// Durations are told apart to one part in so many.
const PARTS: u64 = 32;

/// How often threads were stopped, and for how long.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stops {
    /// How often.
    pub count: u64,
    /// For how long, all together.
    pub total: Duration,
    /// Half of them were no longer than this.
    pub median: Duration,
    /// Nor 99 of 100 than this.
    pub p99: Duration,
    /// The longest one.
    pub longest: Duration,
}

/// Collects them, in the same room however many there are.
#[derive(Debug, Default)]
pub(super) struct StopTimes {
    total: Duration,
    longest: Duration,
    /// How many there were of each length.
    counts: Vec<u64>,
}

impl StopTimes {
    /// Counts one stop.
    pub fn add(&mut self, length: Duration) {
        self.total += length;
        self.longest = self.longest.max(length);
        let bucket = bucket(u64::try_from(length.as_nanos()).unwrap_or(u64::MAX));
        if bucket >= self.counts.len() {
            self.counts.resize(bucket + 1, 0);
        }
        self.counts[bucket] += 1;
    }

    /// What they come to.
    pub fn summary(&self) -> Stops {
        let count: u64 = self.counts.iter().sum();
        let quantile = |percent: u64| {
            let mut rest = (count * percent).div_ceil(100).max(1);
            let bucket = self.counts.iter().position(|&count| {
                let reached = count >= rest;
                rest = rest.saturating_sub(count);
                reached
            });
            let longest = bucket.map_or(0, longest_of);
            Duration::from_nanos(longest).min(self.longest)
        };
        Stops {
            count,
            total: self.total,
            median: quantile(50),
            p99: quantile(99),
            longest: self.longest,
        }
    }
}

/// The bucket of a number: small ones have their own, larger ones share one with
/// those whose first bits are the same.
fn bucket(number: u64) -> usize {
    let shift = (64 - number.leading_zeros()).saturating_sub(PARTS.trailing_zeros() + 1);
    (u64::from(shift) * PARTS + (number >> shift)) as usize
}

/// The largest number of a bucket.
fn longest_of(bucket: usize) -> u64 {
    let bucket = bucket as u64;
    let shift = (bucket / PARTS).saturating_sub(1);
    let first_bits = bucket - shift * PARTS;
    ((first_bits + 1) << shift) - 1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bucket_holds_numbers_that_are_nearly_the_same() {
        let mut last = 0;
        for number in (0..5000).chain((5000..u64::MAX / 2).step_by(1 << 57)) {
            let bucket = bucket(number);
            assert!(bucket == last || bucket == last + 1 || number > 5000);
            last = bucket;
            let longest = longest_of(bucket);
            assert!(number <= longest && longest <= number + number / PARTS);
        }
    }

    #[test]
    fn the_median_and_the_rest() {
        let mut times = StopTimes::default();
        assert_eq!(times.summary(), Stops::default());
        for i in (1..=1000).rev() {
            times.add(Duration::from_micros(i));
        }
        let stops = times.summary();
        assert_eq!(stops.count, 1000);
        assert_eq!(stops.total, Duration::from_micros(500_500));
        assert_eq!(stops.longest, Duration::from_millis(1));
        let near = |found: Duration, micros: u64| {
            let expected = Duration::from_micros(micros);
            assert!(found >= expected && found <= expected + expected / PARTS as u32);
        };
        near(stops.median, 500);
        near(stops.p99, 990);
        times.add(Duration::ZERO);
        assert_eq!(times.summary().count, 1001);
    }
}
