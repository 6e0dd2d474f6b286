//! The table for programs.

use std::io::{self, Write};

use serde::Serialize;

use super::{Diff, Row, Side};
use crate::weights::Weight;

/// The version of the form that is written here.
const VERSION: u32 = 1;

#[derive(Serialize)]
struct Document<'a> {
    nodetap_diff: u32,
    by: &'a str,
    before: Recording<'a>,
    after: Recording<'a>,
    rows: Vec<Entry<'a>>,
}

#[derive(Serialize)]
struct Recording<'a> {
    sampler: &'a str,
    rate_hz: u32,
    duration_ms: u128,
    samples: u64,
}

#[derive(Serialize)]
struct Entry<'a> {
    label: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    before: Option<Samples>,
    #[serde(skip_serializing_if = "Option::is_none")]
    after: Option<Samples>,
}

#[derive(Serialize)]
struct Samples {
    #[serde(rename = "self")]
    on_top: u64,
    total: u64,
}

/// Writes all rows, those that did not change too: samples, of which who reads it makes
/// shares.
pub(super) fn write(diff: &Diff, out: &mut dyn Write) -> io::Result<()> {
    let document = Document {
        nodetap_diff: VERSION,
        by: diff.by.name(),
        before: recording(&diff.before),
        after: recording(&diff.after),
        rows: diff.rows.iter().map(entry).collect(),
    };
    serde_json::to_writer(&mut *out, &document)?;
    writeln!(out)
}

fn entry(row: &Row) -> Entry<'_> {
    let samples = |weight: Weight| Samples {
        on_top: weight.self_samples,
        total: weight.total_samples,
    };
    Entry {
        label: &row.label,
        before: row.before.map(samples),
        after: row.after.map(samples),
    }
}

fn recording(side: &Side) -> Recording<'_> {
    Recording {
        sampler: &side.metadata.sampler,
        rate_hz: side.metadata.rate_hz,
        duration_ms: (side.metadata.duration.as_micros() + 500) / 1000,
        samples: side.profile.sample_count(),
    }
}
