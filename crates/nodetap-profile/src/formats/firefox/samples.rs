//! The samples of one thread.

use serde::{Serialize, Serializer};

use super::milliseconds;
use super::tables::{Column, Shared};
use crate::Mode;
use crate::formats::timeline::{Span, Timelines};

/// One thread's samples, as columns that are made while they are written.
pub(super) struct Samples<'a> {
    pub lines: &'a Timelines,
    /// Which of the time lines; there may be none.
    pub line: usize,
    pub shared: &'a Shared<'a>,
}

/// What a row of the table says.
struct Row {
    start_ns: u64,
    stack: usize,
    weight: u64,
    /// The CPU time since the row before.
    cpu_ns: u64,
}

impl Samples<'_> {
    fn rows(&self) -> impl Iterator<Item = Row> {
        let end_ns = self.lines.end_ns(self.line);
        let spans = self.lines.spans(self.line);
        // After the last one the thread does not run any more.
        let end = (end_ns > 0).then_some(Span {
            start_ns: end_ns,
            end_ns,
            ticks: 0,
            sample: None,
        });
        let mut cpu_ns = 0;
        spans.chain(end).map(move |span| {
            let used_before = cpu_ns;
            cpu_ns = match span.sample {
                Some(sample) if sample.mode != Mode::Waiting => span.end_ns - span.start_ns,
                _ => 0,
            };
            Row {
                start_ns: span.start_ns,
                stack: match span.sample {
                    Some(sample) => self.shared.stack(sample.stack),
                    None => self.shared.idle(),
                },
                weight: span.sample.map_or(0, |_| span.ticks),
                cpu_ns: used_before,
            }
        })
    }

    fn time_deltas(&self) -> impl Iterator<Item = f64> {
        let mut before = 0;
        self.rows().map(move |row| {
            let delta = row.start_ns - before;
            before = row.start_ns;
            milliseconds(delta)
        })
    }
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Columns<S, T, W, C> {
    stack: S,
    time_deltas: T,
    weight: W,
    weight_type: &'static str,
    #[serde(rename = "threadCPUDelta")]
    thread_cpu_delta: C,
    length: usize,
}

impl Serialize for Samples<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        Columns {
            stack: Column(|| self.rows().map(|row| row.stack)),
            time_deltas: Column(|| self.time_deltas()),
            weight: Column(|| self.rows().map(|row| row.weight)),
            weight_type: "samples",
            thread_cpu_delta: Column(|| self.rows().map(|row| row.cpu_ns)),
            length: self.rows().count(),
        }
        .serialize(serializer)
    }
}
