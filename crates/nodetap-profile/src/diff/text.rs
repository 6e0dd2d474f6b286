//! The table: what changed most first.
//!
//! ```text
//! Before: 10000 samples in 10.0 s at 999 Hz
//! After:  9000 samples in 9.0 s at 999 Hz
//!
//!             self                        total
//!   before    after     diff    before    after     diff
//!   12.1 %   20.3 %     +8.2    40.0 %   48.0 %     +8.0  render /srv/app.js:14
//!        -    3.1 %     +3.1         -    3.1 %     +3.1  parse /srv/new.js:3 (new)
//! ```
//!
//! Shares are of all samples of a recording, and a difference is in points of them.

use std::io::{self, Write};

use super::{Diff, Row, Side};

/// What changed by less, in points, is left out: it would show as none.
const LEAST: f64 = 0.05;

pub(super) fn write(diff: &Diff, out: &mut dyn Write) -> io::Result<()> {
    for (name, side) in [("Before:", &diff.before), ("After: ", &diff.after)] {
        writeln!(out, "{name} {}", summary(side))?;
    }
    let samples = diff.sample_counts();
    let shown: Vec<(&Row, [Shares; 2])> = diff
        .rows()
        .iter()
        .map(|row| (row, shares(row, samples)))
        .filter(|(_, shares)| shares.iter().any(|it| it.change().abs() >= LEAST))
        .collect();
    if !shown.is_empty() {
        let columns = format!("{:>9} {:>8} {:>8}", "before", "after", "diff");
        writeln!(out, "\n{:>15}{:>28}", "self", "total")?;
        writeln!(out, "{columns} {columns}")?;
    }
    for (row, [on_top, in_all]) in &shown {
        let remark = match (row.before, row.after) {
            (None, _) => " (new)",
            (_, None) => " (gone)",
            _ => "",
        };
        writeln!(out, "{on_top} {in_all}  {}{remark}", row.label)?;
    }
    match diff.rows().len() - shown.len() {
        0 => Ok(()),
        rest => writeln!(
            out,
            "\n{rest} more changed by less than {LEAST} points: not shown"
        ),
    }
}

/// How many samples, and how they were taken.
pub(super) fn summary(side: &Side) -> String {
    format!(
        "{} samples in {:.1} s at {} Hz",
        side.profile.sample_count(),
        side.metadata.duration.as_secs_f64(),
        side.metadata.rate_hz
    )
}

/// Shares of all samples in percent; none: it was not there.
#[derive(Clone, Copy, Debug)]
struct Shares {
    before: Option<f64>,
    after: Option<f64>,
}

impl Shares {
    fn change(self) -> f64 {
        self.after.unwrap_or(0.0) - self.before.unwrap_or(0.0)
    }
}

/// Those of a row: on top, and in all.
fn shares(row: &Row, samples: [u64; 2]) -> [Shares; 2] {
    let percent = |count: u64, all: u64| match all {
        0 => 0.0,
        all => 100.0 * count as f64 / all as f64,
    };
    let [before, after] = samples;
    let (old, new) = (row.before, row.after);
    [
        Shares {
            before: old.map(|it| percent(it.self_samples, before)),
            after: new.map(|it| percent(it.self_samples, after)),
        },
        Shares {
            before: old.map(|it| percent(it.total_samples, before)),
            after: new.map(|it| percent(it.total_samples, after)),
        },
    ]
}

impl std::fmt::Display for Shares {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let share = |share: Option<f64>| match share {
            Some(percent) => format!("{percent:.1} %"),
            None => "-".to_owned(),
        };
        let change = self.change();
        let change = match change.abs() >= LEAST {
            true => format!("{change:+.1}"),
            false => "0.0".to_owned(),
        };
        let (before, after) = (share(self.before), share(self.after));
        write!(f, "{before:>9} {after:>8} {change:>8}")
    }
}
