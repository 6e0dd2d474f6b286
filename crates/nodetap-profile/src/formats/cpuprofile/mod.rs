//! `cpuprofile`: what V8's own profiler writes, for Chrome's DevTools and for VS Code.
//!
//! One JSON object: `nodes`, the tree of functions that called each other from `(root)` on;
//! `startTime` and `endTime`; `samples`, the node of each sample, and `timeDeltas`, how many
//! microseconds it was taken after the one before. Where a function starts is told by line
//! and column counted from 0 (-1: not known), where it was executing when it was on top by
//! `positionTicks`: lines counted from 1, each with its samples.
//!
//! The form has one thread, which is the main one of the process with the most samples
//! (where that has none: the one with the most).
//!
//! Readers give a sample all time until the next one. So the time in which the thread did
//! not run is samples of `(idle)`, as V8 has them, the end of the last sample included. The
//! other samples take whole periods of the sampling rate: a function's own time is its
//! samples. A `hitCount` is samples too; that of `(idle)` is those that there would have
//! been.

mod nodes;
mod url;

use std::io::{self, Write};

use serde::{Serialize, Serializer};

use self::nodes::Nodes;
use super::threads;
use super::timeline::Timelines;
use crate::Profile;

/// Writes one thread of the profile.
pub fn write(profile: &Profile, out: &mut dyn Write) -> io::Result<()> {
    let thread = threads::first(profile);
    let lines = Timelines::new(profile, |it| Some(it) == thread)?;
    let mut nodes = Nodes::new(profile, thread);
    let mut idle_ticks = 0;
    let mut busy_until_ns = 0;
    for span in lines.spans(0) {
        busy_until_ns = span.end_ns;
        if span.sample.is_none() {
            idle_ticks += span.ticks;
        }
    }
    let end_ns = u64::try_from(profile.metadata.duration.as_nanos()).unwrap_or(u64::MAX);
    let end_ns = end_ns.max(busy_until_ns);
    idle_ticks += lines.ticks(end_ns - busy_until_ns);
    nodes.add_idle(idle_ticks);

    let times = Times {
        lines: &lines,
        nodes: &nodes,
        busy_until_ns,
    };
    let start_us = profile.metadata.start.as_microsecond();
    let file = CpuProfile {
        nodes: &nodes,
        start_time: start_us,
        end_time: start_us.saturating_add_unsigned(microseconds(end_ns)),
        samples: Samples(&times),
        time_deltas: TimeDeltas(&times),
    };
    file.serialize(&mut serde_json::Serializer::new(&mut *out))?;
    lines.finish()?;
    writeln!(out)
}

/// What of the profile is not written.
pub(super) fn left_out(profile: &Profile) -> Option<String> {
    let thread = threads::first(profile)?;
    let (all, own) = (
        profile.sample_count(),
        threads::samples(profile)[thread.index()],
    );
    (own < all).then(|| {
        let label = threads::label(profile, thread);
        format!(
            "a cpuprofile holds one thread: {label}, {own} of {all} samples \
             ('nodetap report --thread TID' takes another)"
        )
    })
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct CpuProfile<'a> {
    nodes: &'a Nodes<'a>,
    start_time: i64,
    end_time: i64,
    samples: Samples<'a>,
    time_deltas: TimeDeltas<'a>,
}

/// The time line, piece by piece, and its end.
struct Times<'a> {
    lines: &'a Timelines,
    nodes: &'a Nodes<'a>,
    busy_until_ns: u64,
}

impl Times<'_> {
    /// When each piece begins, and its node.
    fn iter(&self) -> impl Iterator<Item = (u64, u32)> {
        let spans = self.lines.spans(0).flat_map(move |span| {
            let stack = span.sample.map(|sample| sample.stack);
            let node = stack.map_or(self.nodes.idle(), |stack| self.nodes.of(stack));
            // DevTools takes one sample of this between others for a stack that V8's sampler
            // could not walk, and gives it to the function before. Of two it does not.
            let is_program = Some(node) == self.nodes.program();
            let half_ns = span.start_ns + (span.end_ns - span.start_ns) / 2;
            let rest = is_program.then_some((half_ns, node));
            [(span.start_ns, node)].into_iter().chain(rest)
        });
        spans.chain([(self.busy_until_ns, self.nodes.idle())])
    }
}

struct Samples<'a>(&'a Times<'a>);

impl Serialize for Samples<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.0.iter().map(|(_, node)| nodes::id(node)))
    }
}

struct TimeDeltas<'a>(&'a Times<'a>);

impl Serialize for TimeDeltas<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut before = 0;
        serializer.collect_seq(self.0.iter().map(|(start_ns, _)| {
            let start = microseconds(start_ns);
            let delta = start - before;
            before = start;
            delta
        }))
    }
}

/// To the nearest one: the errors do not add up.
fn microseconds(ns: u64) -> u64 {
    ns / 1000 + u64::from(ns % 1000 >= 500)
}

#[cfg(test)]
mod tests;
