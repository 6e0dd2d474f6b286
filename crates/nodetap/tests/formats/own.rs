//! What a profile comes down to whatever it is read by: how often functions were on top.

use std::collections::BTreeMap;

use crate::common::recording::Recording;

/// What others know a function by: name, file, and the line where it starts; 0: none.
pub type Function = (String, String, u32);

/// How many samples functions had on top.
pub type Own = BTreeMap<Function, u64>;

/// A number of samples that was made of time: no more than the nanoseconds that a file in
/// microseconds has lost may be missing.
pub fn whole(samples: f64) -> u64 {
    assert!((samples - samples.round()).abs() < 0.2, "{samples}");
    samples.round() as u64
}

pub fn add(own: &mut Own, function: Function, samples: u64) {
    if samples > 0 {
        *own.entry(function).or_default() += samples;
    }
}

pub fn total(own: &Own) -> u64 {
    own.values().sum()
}

/// The samples by name alone.
pub fn by_name(own: &Own) -> Own {
    let mut named = Own::new();
    for ((name, ..), &samples) in own {
        add(&mut named, (name.clone(), String::new(), 0), samples);
    }
    named
}

/// What was recorded, by thread.
pub fn of_recording(recording: &Recording) -> BTreeMap<u32, Own> {
    let mut threads: BTreeMap<u32, Own> = BTreeMap::new();
    for (index, &(_, thread, stack)) in recording.samples.iter().enumerate() {
        let count = recording.counts.get(index).copied().unwrap_or(1);
        let function = match recording.stacks[stack].last() {
            Some(&frame) => {
                let frame = &recording.frames[frame];
                let file = frame.file.clone().unwrap_or_default();
                (
                    frame.function.clone(),
                    file,
                    frame.function_line.unwrap_or(0),
                )
            }
            None => ("(no frames)".to_owned(), String::new(), 0),
        };
        let own = threads.entry(recording.threads[thread].tid).or_default();
        add(own, function, count);
    }
    threads
}

/// The sum over threads.
pub fn merged(threads: &BTreeMap<u32, Own>) -> Own {
    let mut all = Own::new();
    for (function, &samples) in threads.values().flatten() {
        add(&mut all, function.clone(), samples);
    }
    all
}
