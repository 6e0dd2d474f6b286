//! How many samples a row of a table has: on top, and anywhere on the stack.

use std::collections::HashMap;

use crate::{Frame, Profile, SampleKey, StackId};

/// The samples of one row.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Weight {
    /// Those that had it on top.
    pub self_samples: u64,
    /// Those that had it anywhere on the stack, counted once each.
    pub total_samples: u64,
}

/// The rows that frames make, by what `name` calls them, and the row of each frame.
pub(crate) fn rows_by(
    profile: &Profile,
    name: impl Fn(&Frame) -> String,
) -> (HashMap<String, usize>, Vec<usize>) {
    // The names come from the target, hence the keyed hash.
    let mut rows: HashMap<String, usize> = HashMap::new();
    let row_of = profile.frames().iter().map(|frame| {
        let next = rows.len();
        *rows.entry(name(frame)).or_insert(next)
    });
    let row_of = row_of.collect();
    (rows, row_of)
}

/// For each row the samples it has, where `row_of` tells the row of each frame, and the
/// samples without any frame.
pub(crate) fn weights(profile: &Profile, row_of: &[usize], rows: usize) -> (Vec<Weight>, u64) {
    let mut weights = vec![Weight::default(); rows];
    let mut without_frames = 0;
    // For each row the last stack that it was met on.
    let mut met_on = vec![usize::MAX; rows];
    for (at, (stack, count)) in stack_counts(profile).enumerate() {
        let mut is_top = true;
        for frame in profile.stack_frames(stack) {
            let row = row_of[frame.index()];
            if std::mem::take(&mut is_top) {
                weights[row].self_samples += count;
            }
            if met_on[row] != at {
                met_on[row] = at;
                weights[row].total_samples += count;
            }
        }
        if is_top {
            without_frames += count;
        }
    }
    (weights, without_frames)
}

/// How many samples each stack has that has any.
pub(crate) fn stack_counts(profile: &Profile) -> impl Iterator<Item = (StackId, u64)> + use<> {
    let mut counts = vec![0; profile.stack_count()];
    for (SampleKey { stack, .. }, count) in profile.counts() {
        counts[stack.index()] += count;
    }
    let counts = profile.stack_ids().zip(counts);
    counts.filter(|&(_, count)| count > 0)
}
