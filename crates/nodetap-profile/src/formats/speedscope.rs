//! `speedscope`: for the flame graph viewer of that name.
//!
//! Its own JSON format, as its schema describes it: the functions of all stacks once, with
//! file, line and column of where they start (counted from 1), and for each thread a
//! "sampled" profile: `samples`, each a list of functions, outermost first, and `weights`, how
//! many nanoseconds each took. A sample takes whole periods of the sampling rate, so weights
//! are samples. In the time in which the thread did not run there is an empty stack.
//!
//! Samples that follow each other and have the same functions are written as one.

use std::io::{self, Write};

use serde::ser::SerializeSeq;
use serde::{Serialize, Serializer};

use super::functions::{Function, FunctionTree, Functions};
use super::threads;
use super::timeline::{Span, Timelines};
use crate::{Position, Profile, process_label};

/// Writes the profile.
pub fn write(profile: &Profile, out: &mut dyn Write) -> io::Result<()> {
    let mut functions = Functions::new(profile);
    let tree = FunctionTree::new(profile, &mut functions, |_| true);
    let lines = Timelines::new(profile, |_| true)?;
    let first = threads::first(profile);
    let view = View {
        tree: &tree,
        lines: &lines,
        end_ns: u64::try_from(profile.metadata.duration.as_nanos()).unwrap_or(u64::MAX),
    };
    let mut profiles: Vec<Sampled> = lines
        .threads()
        .map(|(line, thread)| view.sampled(Some(line), threads::label(profile, thread)))
        .collect();
    let active = lines.threads().position(|(_, it)| Some(it) == first);
    if profiles.is_empty() {
        // A reader wants one to show.
        profiles.push(view.sampled(None, "no samples".into()));
    }
    let file = File {
        schema: "https://www.speedscope.app/file-format-schema.json",
        exporter: concat!("nodetap@", env!("CARGO_PKG_VERSION")),
        name: match profile.processes() {
            [process] => process_label(process.pid, Some(process)),
            [] => "nodetap".into(),
            several => format!("{} processes", several.len()),
        },
        active_profile_index: active.unwrap_or(0),
        shared: Shared {
            frames: functions.as_slice().iter().map(Frame::of).collect(),
        },
        profiles,
    };
    file.serialize(&mut serde_json::Serializer::new(&mut *out))?;
    lines.finish()?;
    writeln!(out)
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct File<'a> {
    #[serde(rename = "$schema")]
    schema: &'static str,
    exporter: &'static str,
    name: String,
    active_profile_index: usize,
    shared: Shared<'a>,
    profiles: Vec<Sampled<'a>>,
}

#[derive(Serialize)]
struct Shared<'a> {
    frames: Vec<Frame<'a>>,
}

#[derive(Serialize)]
struct Frame<'a> {
    name: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    file: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    line: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    col: Option<u32>,
}

impl<'a> Frame<'a> {
    fn of(function: &'a Function) -> Self {
        let position: Option<Position> = function.position;
        Self {
            name: &function.name,
            file: function.file.as_deref(),
            line: position.map(|at| at.line.get()),
            col: position.and_then(|at| Some(at.column?.get())),
        }
    }
}

/// What all threads' samples are read from.
struct View<'a> {
    tree: &'a FunctionTree,
    lines: &'a Timelines,
    end_ns: u64,
}

impl View<'_> {
    fn sampled(&self, line: Option<usize>, name: String) -> Sampled<'_> {
        let thread = Thread { view: self, line };
        let end_ns = line.map_or(0, |line| self.lines.end_ns(line));
        Sampled {
            kind: "sampled",
            name,
            unit: "nanoseconds",
            start_value: 0,
            end_value: self.end_ns.max(end_ns),
            samples: Samples(thread),
            weights: Weights(thread),
        }
    }
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Sampled<'a> {
    #[serde(rename = "type")]
    kind: &'static str,
    name: String,
    unit: &'static str,
    start_value: u64,
    end_value: u64,
    samples: Samples<'a>,
    weights: Weights<'a>,
}

/// One thread, if it has samples.
#[derive(Clone, Copy)]
struct Thread<'a> {
    view: &'a View<'a>,
    line: Option<usize>,
}

impl Thread<'_> {
    /// Each piece of its time, with the node that was on top; none where it did not run.
    /// Pieces with the same one that follow each other are one.
    fn pieces(&self) -> impl Iterator<Item = (Option<u32>, u64)> {
        let tree = self.view.tree;
        let node = move |span: &Span| span.sample.map(|sample| tree.of(sample.stack));
        let spans = self.line.map(|line| self.view.lines.spans(line));
        let mut spans = spans.into_iter().flatten().peekable();
        std::iter::from_fn(move || {
            let first = spans.next()?;
            let top = node(&first);
            let mut end_ns = first.end_ns;
            while let Some(next) = spans.next_if(|next| node(next) == top) {
                end_ns = next.end_ns;
            }
            Some((top, end_ns - first.start_ns))
        })
    }
}

struct Samples<'a>(Thread<'a>);

impl Serialize for Samples<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let tree = self.0.view.tree;
        let mut samples = serializer.serialize_seq(None)?;
        let mut functions = Vec::new();
        for (top, _) in self.0.pieces() {
            functions.clear();
            let mut node = top.unwrap_or(FunctionTree::ROOT);
            while let Some((parent, function)) = tree.get(node) {
                functions.push(function);
                node = parent;
            }
            functions.reverse();
            samples.serialize_element(&functions)?;
        }
        samples.end()
    }
}

struct Weights<'a>(Thread<'a>);

impl Serialize for Weights<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.0.pieces().map(|(_, time_ns)| time_ns))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use crate::testing::{
        add, add_thread, bare, deep, empty, hostile, js, several_processes, small, written,
    };
    use crate::{Format, Mode, Profile, Sample, Tier};

    fn read(profile: &Profile) -> Value {
        serde_json::from_str(&written(profile, Format::Speedscope)).unwrap()
    }

    #[test]
    fn each_thread_is_a_sampled_profile() {
        let mut file = read(&small());
        assert_eq!(
            file["shared"].take(),
            json!({"frames": [
                {"name": "main", "file": "/srv/app.js", "line": 1, "col": 1},
                {"name": "work", "file": "/srv/app.js", "line": 3, "col": 1},
                {"name": "malloc", "file": "/lib/x86_64-linux-gnu/libc.so.6"},
                {"name": "f", "file": "/srv/app.js", "line": 1, "col": 1},
                {"name": "f", "file": "/srv/app.js", "line": 10, "col": 1},
                {"name": "(garbage collector)"},
                {"name": "(no frames)"}
            ]})
        );
        assert_eq!(
            file,
            json!({
                "$schema": "https://www.speedscope.app/file-format-schema.json",
                "exporter": concat!("nodetap@", env!("CARGO_PKG_VERSION")),
                "name": "node /srv/app.js (pid 32642)",
                "activeProfileIndex": 0,
                "shared": null,
                "profiles": [
                    {
                        "type": "sampled",
                        "name": "node 32642 (main thread)",
                        "unit": "nanoseconds",
                        "startValue": 0,
                        "endValue": 5_000_499_000_u64,
                        "samples": [[0, 1], [0, 1, 2], [0], [3], [4], [3, 5], [6]],
                        "weights": [3_003_003, 1_001_001, 1_001_001, 1_001_001, 1_001_001, 1_001_001, 1_001_001],
                    },
                    {
                        "type": "sampled",
                        "name": "node 32650",
                        "unit": "nanoseconds",
                        "startValue": 0,
                        "endValue": 5_000_499_000_u64,
                        "samples": [[], [0, 1]],
                        "weights": [3_000_000, 1_001_001],
                    },
                ],
            })
        );
    }

    #[test]
    fn samples_of_the_same_functions_are_one_but_for_gaps() {
        let (mut profile, thread) = empty();
        for (time_us, tier) in [
            (0, Tier::Interpreted),
            (1000, Tier::Optimized),
            (9000, Tier::Optimized),
        ] {
            let frame = profile.intern_frame(js("f", 1, tier));
            let stack = profile.intern_stack([frame]);
            profile.add_sample(Sample::new(time_us, thread, stack, Mode::JavaScript));
        }
        let file = read(&profile);
        assert_eq!(file["profiles"][0]["samples"], json!([[0], [], [0]]));
        assert_eq!(
            file["profiles"][0]["weights"],
            json!([2_002_002, 6_997_998, 1_001_001])
        );
    }

    #[test]
    fn the_busiest_main_thread_is_shown_first() {
        let (mut profile, main) = empty();
        let worker = add_thread(&mut profile, 32642, 1, "worker");
        add_thread(&mut profile, 32642, 2, "silent");
        let frame = [js("f", 1, Tier::Optimized)];
        add(&mut profile, worker, &frame, 9);
        add(&mut profile, main, &frame, 1);
        let file = read(&profile);
        assert_eq!(file["profiles"].as_array().unwrap().len(), 2);
        assert_eq!(file["activeProfileIndex"], 0);
        let file = read(&several_processes());
        assert_eq!(file["name"], "3 processes");
        assert_eq!(file["activeProfileIndex"], 1);
        assert_eq!(file["profiles"][1]["name"], "node 7 (main thread)");
    }

    #[test]
    fn without_samples_there_is_one_empty_profile() {
        for profile in [bare(), empty().0] {
            let file = read(&profile);
            let profiles = file["profiles"].as_array().unwrap();
            assert_eq!(profiles.len(), 1);
            assert_eq!(profiles[0]["samples"], json!([]));
            assert_eq!(profiles[0]["weights"], json!([]));
        }
    }

    #[test]
    fn hostile_names_are_shown_escaped() {
        let file = read(&hostile());
        for frame in file["shared"]["frames"].as_array().unwrap() {
            for name in [&frame["name"], &frame["file"]] {
                let name = name.as_str().unwrap_or_default();
                assert!(!name.chars().any(char::is_control));
                assert!(name.chars().count() <= 4096);
            }
        }
    }

    #[test]
    fn a_deep_stack_is_written_whole() {
        let file = read(&deep(10_000));
        let samples = file["profiles"][0]["samples"].as_array().unwrap();
        let depths: Vec<usize> = samples
            .iter()
            .map(|it| it.as_array().unwrap().len())
            .collect();
        assert_eq!(depths, [10_000, 5000]);
    }
}
