//! What changed between two recordings, in shares of their samples.
//!
//! A row is a function (or what else is asked for, [`By`]) in both recordings. Functions
//! are the same if they have the same name and file: lines move when a program is changed.
//! Where several have, their lines decide, moved as far as the functions around them have
//! (`pairs.rs`).

mod flame;
mod json;
mod pairs;
#[cfg(test)]
mod tests;
mod text;

use std::cmp::Reverse;
use std::collections::HashMap;
use std::io::{self, Write};

use crate::by::{By, relabelled};
use crate::weights::{Weight, rows_by, weights};
use crate::{Metadata, Profile, frame_label};

/// Two recordings, compared.
#[derive(Debug)]
pub struct Diff {
    by: By,
    before: Side,
    after: Side,
    rows: Vec<Row>,
}

/// One of the two.
#[derive(Debug)]
struct Side {
    metadata: Metadata,
    /// Its threads are one, and what is the same in both has the same label.
    profile: Profile,
}

/// A function in both of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row {
    /// What it is called: by its line in the second one, if it is there.
    pub label: String,
    /// What it had in the first one; none: it was not there.
    pub before: Option<Weight>,
    /// The same in the second one.
    pub after: Option<Weight>,
}

/// A format that a comparison is written in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DiffFormat {
    /// A table, for reading.
    Text,
    /// The same for programs.
    Json,
    /// A flame graph of the second one, in colours that tell the difference.
    Flame,
}

impl Diff {
    /// Compares two recordings. Shares of them are compared: they need not be of the same
    /// length.
    pub fn new(before: &Profile, after: &Profile, by: By) -> Self {
        let merges_calls = matches!(by, By::File | By::Package);
        let counterparts = pairs::counterparts(before, after, by);
        let side = |profile: &Profile, relabelled| Side {
            metadata: profile.metadata.clone(),
            profile: relabelled,
        };
        let before = side(
            before,
            relabelled(before, merges_calls, true, |frame| {
                let row = by.row(frame);
                counterparts.get(&frame_label(&row)).cloned().unwrap_or(row)
            }),
        );
        let after = side(
            after,
            relabelled(after, merges_calls, true, |frame| by.row(frame)),
        );
        let rows = rows(&before.profile, &after.profile);
        Self {
            by,
            before,
            after,
            rows,
        }
    }

    /// The rows: what changed most first, by its samples on top, then by all it has.
    pub fn rows(&self) -> &[Row] {
        &self.rows
    }

    /// How many samples the first and the second one have.
    pub fn sample_counts(&self) -> [u64; 2] {
        [&self.before, &self.after].map(|side| side.profile.sample_count())
    }

    /// Writes it. The output is buffered here and flushed at the end.
    ///
    /// # Errors
    /// Where the output cannot be written to.
    pub fn write(&self, format: DiffFormat, out: &mut dyn Write) -> io::Result<()> {
        let mut out = io::BufWriter::new(out);
        match format {
            DiffFormat::Text => text::write(self, &mut out)?,
            DiffFormat::Json => json::write(self, &mut out)?,
            DiffFormat::Flame => flame::write(self, &mut out)?,
        }
        out.flush()
    }
}

impl Row {
    /// How much more of all samples it has: on top, and in all. Where there are as many
    /// samples in both, these are samples; else they are in proportion to shares.
    fn change(&self, [before, after]: [u64; 2]) -> [i128; 2] {
        let old = self.before.unwrap_or_default();
        let new = self.after.unwrap_or_default();
        let change = |old: u64, new: u64| {
            i128::from(new) * i128::from(before) - i128::from(old) * i128::from(after)
        };
        [
            change(old.self_samples, new.self_samples),
            change(old.total_samples, new.total_samples),
        ]
    }
}

/// The rows of both, by label.
fn rows(before: &Profile, after: &Profile) -> Vec<Row> {
    // The labels come from the targets, hence the keyed hash.
    let mut by_label: HashMap<String, [Option<Weight>; 2]> = HashMap::new();
    for (side, profile) in [before, after].into_iter().enumerate() {
        for (label, weight) in labelled(profile) {
            by_label.entry(label).or_default()[side] = Some(weight);
        }
    }
    let mut rows: Vec<Row> = by_label
        .into_iter()
        .map(|(label, [before, after])| Row {
            label,
            before,
            after,
        })
        .collect();
    let samples = [before.sample_count(), after.sample_count()];
    rows.sort_by_cached_key(|row| {
        let [on_top, in_all] = row.change(samples).map(i128::abs);
        (Reverse(on_top), Reverse(in_all), row.label.clone())
    });
    rows
}

/// What each label of a profile has that has anything.
fn labelled(profile: &Profile) -> impl Iterator<Item = (String, Weight)> + use<> {
    let (numbers, row_of) = rows_by(profile, frame_label);
    let (weights, without_frames) = weights(profile, &row_of, numbers.len());
    let no_frames = (
        "(no frames)".to_owned(),
        Weight {
            self_samples: without_frames,
            total_samples: without_frames,
        },
    );
    numbers
        .into_iter()
        .map(move |(label, number)| (label, weights[number]))
        .chain([no_frames])
        .filter(|(_, weight)| weight.total_samples > 0)
}
