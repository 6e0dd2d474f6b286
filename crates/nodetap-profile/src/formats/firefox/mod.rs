//! `firefox`: for the [Firefox Profiler](https://profiler.firefox.com).
//!
//! Its "processed profile", in version [`VERSION`]: tables as objects of columns, which all
//! threads share, and for each thread its samples. (`fxprof-processed-profile` writes no files,
//! lines and columns of frames, so it is written here.) Categories are [`Origin`]s, with the
//! tier or the package as subcategory. Lines and columns count from 1.
//!
//! A sample's weight is for how many it stands, and its CPU time what the thread used since
//! the one before: whole periods of the sampling rate. Where the thread stops running there is
//! a sample of `(idle)`, which weighs nothing.

mod categories;
mod samples;
mod tables;

use std::io::{self, Write};

use serde::{Serialize, Serializer};
use serde_json::json;

use self::categories::Categories;
use self::samples::Samples;
use self::tables::Shared;
use super::threads;
use super::timeline::{Timelines, period_ns};
use crate::label::visible;
use crate::{Profile, ThreadId, process_label};

/// Of the processed profile format. The profiler reads this one and all that came before the
/// one it writes itself.
const VERSION: u32 = 61;

/// Writes the profile.
pub fn write(profile: &Profile, out: &mut dyn Write) -> io::Result<()> {
    let lines = Timelines::new(profile, |_| true)?;
    let mut categories = Categories::new();
    let shared = Shared::new(profile, &mut categories);
    let file = File {
        meta: meta(profile, &lines, &categories),
        libs: [],
        pages: [],
        counters: [],
        shared: &shared,
        threads: Threads {
            profile,
            lines: &lines,
            shared: &shared,
        },
    };
    file.serialize(&mut serde_json::Serializer::new(&mut *out))?;
    lines.finish()?;
    writeln!(out)
}

#[derive(Serialize)]
struct File<'a> {
    meta: serde_json::Value,
    libs: [(); 0],
    pages: [(); 0],
    counters: [(); 0],
    shared: &'a Shared<'a>,
    threads: Threads<'a>,
}

fn meta(profile: &Profile, lines: &Timelines, categories: &Categories) -> serde_json::Value {
    let metadata = &profile.metadata;
    let first = threads::first(profile);
    let first = lines.threads().position(|(_, it)| Some(it) == first);
    let product = match profile.processes() {
        [process] => process_label(process.pid, Some(process)),
        [] => "Node.js".into(),
        several => format!("{} processes", several.len()),
    };
    let entry =
        |label: &str, value: String| json!({"label": label, "format": "string", "value": value});
    let mut entries = vec![
        entry("nodetap", env!("CARGO_PKG_VERSION").into()),
        entry("sampler", visible(&metadata.sampler)),
        entry("rate", format!("{} Hz", metadata.rate_hz)),
        entry("samples", profile.sample_count().to_string()),
        entry("lost", metadata.lost.to_string()),
        entry("truncated", metadata.truncated.to_string()),
        entry("incomplete", metadata.incomplete.to_string()),
    ];
    for process in profile.processes() {
        let versions = [("Node.js", &process.node), ("V8", &process.v8)];
        let versions = versions.map(|(name, version)| {
            let version = version.as_deref().map(visible);
            version.map_or_else(String::new, |version| format!("{name} {version} "))
        });
        let label = process_label(process.pid, Some(process));
        entries.push(entry(&label, versions.concat().trim_end().into()));
    }
    json!({
        "preprocessedProfileVersion": VERSION,
        // That of another format, which nobody looks at.
        "version": 31,
        "product": product,
        "importedFrom": "nodetap",
        "processType": 0,
        "stackwalk": 1,
        "debug": false,
        "symbolicated": true,
        "startTime": metadata.start.as_microsecond() as f64 / 1e3,
        "interval": milliseconds(period_ns(profile)),
        "profilingStartTime": 0,
        "profilingEndTime": metadata.duration.as_secs_f64() * 1e3,
        "sampleUnits": {"time": "ms", "eventDelay": "ms", "threadCPUDelta": "ns"},
        "categories": categories,
        "markerSchema": [],
        "extensions": {"length": 0, "baseURL": [], "id": [], "name": []},
        "usesOnlyOneStackType": false,
        "sourceCodeIsNotOnSearchfox": true,
        "initialSelectedThreads": [first.unwrap_or(0)],
        "extra": [{"label": "Recording", "entries": entries}],
    })
}

fn milliseconds(ns: u64) -> f64 {
    ns as f64 / 1e6
}

/// All threads that have samples; where none has, one that has none, as a reader wants one to
/// show.
struct Threads<'a> {
    profile: &'a Profile,
    lines: &'a Timelines,
    shared: &'a Shared<'a>,
}

impl Serialize for Threads<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let sampled = self.lines.threads();
        let sampled = sampled.map(|(line, thread)| self.sampled(line, thread));
        let none = self.lines.threads().next().is_none();
        let none = none.then(|| self.thread("no samples", "nodetap".into(), (0, 0), 0));
        serializer.collect_seq(sampled.chain(none))
    }
}

impl<'a> Threads<'a> {
    fn sampled(&self, line: usize, thread: ThreadId) -> Thread<'a> {
        let crate::Thread { pid, tid, name } = self.profile.thread(thread);
        let process = self.profile.processes().iter().find(|it| it.pid == *pid);
        let process_name = process_label(*pid, process);
        self.thread(name, process_name, (*pid, *tid), line)
    }

    fn thread(
        &self,
        name: &str,
        process_name: String,
        (pid, tid): (u32, u32),
        line: usize,
    ) -> Thread<'a> {
        Thread {
            name: visible(name),
            process_name,
            is_main_thread: pid == tid,
            pid: pid.to_string(),
            tid,
            process_type: "default",
            process_startup_time: 0,
            process_shutdown_time: (),
            register_time: 0,
            unregister_time: (),
            paused_ranges: [],
            samples: Samples {
                lines: self.lines,
                line,
                shared: self.shared,
            },
            markers: json!({
                "data": [], "name": [], "startTime": [], "endTime": [], "phase": [],
                "category": [], "length": 0,
            }),
        }
    }
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Thread<'a> {
    name: String,
    process_name: String,
    is_main_thread: bool,
    pid: String,
    tid: u32,
    process_type: &'static str,
    process_startup_time: u32,
    process_shutdown_time: (),
    register_time: u32,
    unregister_time: (),
    paused_ranges: [(); 0],
    samples: Samples<'a>,
    markers: serde_json::Value,
}

#[cfg(test)]
mod tests;
