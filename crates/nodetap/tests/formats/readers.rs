//! What `go tool pprof` and speedscope read.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::Command;

use serde::Deserialize;

use crate::common;
use crate::common::cpu_profile::CpuProfile;
use crate::own::{Function, Own, add, whole};
use crate::{node, output};

/// A cpuprofile as its nodes have it, without the time in which the thread did not run.
pub fn of_nodes(path: &Path) -> Own {
    let text = fs::read_to_string(path).expect("a file");
    let profile: CpuProfile = serde_json::from_str(&text).expect("a .cpuprofile");
    assert_eq!(profile.samples.len(), profile.time_deltas.len());
    let mut own = Own::new();
    for node in &profile.nodes {
        let frame = &node.call_frame;
        if frame.name() != "(idle)" {
            let file = frame.url.strip_prefix("file://").unwrap_or(&frame.url);
            let function = (frame.name(), file.to_owned(), frame.start().0);
            add(&mut own, function, node.hit_count);
        }
    }
    own
}

/// A cpuprofile as Chrome's DevTools read it, by the time that functions have of their own:
/// the samples of each, where one takes so many nanoseconds.
pub fn of_devtools(path: &Path, period: f64) -> Own {
    #[derive(Deserialize)]
    struct Model {
        functions: Vec<(String, String, i64, f64)>,
    }
    let script = common::fixture("formats/read-with-devtools.js");
    let text = output(node(&script).arg(common::chromium()).arg(path));
    let model: Model = serde_json::from_str(&text).expect("JSON");
    let mut own = Own::new();
    for (name, url, line, milliseconds) in model.functions {
        let file = url.strip_prefix("file://").unwrap_or(&url);
        let line = u32::try_from(line + 1).expect("a line");
        let name = match name.as_str() {
            "(idle)" => continue,
            "" => "(anonymous)",
            name => name,
        };
        let function = (name.to_owned(), file.to_owned(), line);
        add(&mut own, function, whole(milliseconds * 1e6 / period));
    }
    own
}

/// What `go tool pprof` prints of a profile.
fn pprof(options: &[&str], path: &Path) -> String {
    let mut command = Command::new("go");
    command.args(["tool", "pprof"]).args(options).arg(path);
    output(&mut command)
}

/// The samples of a pprof file, by its text form.
pub fn of_pprof(path: &Path) -> Own {
    let text = pprof(&["-raw"], path);
    let (_, text) = text.split_once("Samples:\n").expect("samples");
    let (samples, text) = text.split_once("Locations\n").expect("locations");
    let (locations, _) = text.split_once("Mappings\n").expect("mappings");
    let mut functions = BTreeMap::new();
    for line in locations.lines() {
        // Those without a number are what the one above was inlined into.
        let Some((id, rest)) = line.split_once(": 0x0 M=") else {
            continue;
        };
        let id: u64 = id.trim().parse().expect(line);
        let (_, rest) = rest.split_once(' ').expect(line);
        let (rest, start) = rest.rsplit_once(" s=").expect(line);
        let (name, place) = rest.rsplit_once(' ').expect(line);
        let file = place.rsplitn(3, ':').nth(2).expect(line);
        // And then the name as a linker has it, which there is none of.
        let start = start.trim_end_matches("()").parse().expect(line);
        functions.insert(id, (name.to_owned(), file.to_owned(), start));
    }
    let mut own = Own::new();
    // Labels have a line of their own.
    for line in samples.lines().filter(|line| !line.contains('[')) {
        let (values, stack) = line.split_once(':').expect(line);
        let value = values.split_whitespace().next().expect(line);
        let top: u64 = stack
            .split_whitespace()
            .next()
            .expect(line)
            .parse()
            .expect(line);
        add(
            &mut own,
            functions[&top].clone(),
            value.parse().expect(line),
        );
    }
    own
}

/// What functions are called in a pprof file.
pub fn as_in_pprof(own: &Own) -> Own {
    let rename = |((name, file, line), &samples): (&Function, &u64)| {
        let name = match (name.as_str(), line) {
            ("(anonymous)", 1..) => {
                let file = file.rsplit('/').next().expect("a name");
                format!("(anonymous) {file}:{line}")
            }
            (name, _) => name.to_owned(),
        };
        ((name, file.clone(), *line), samples)
    };
    own.iter().map(rename).collect()
}

/// `flat` of each line of `go tool pprof -top`.
pub fn of_top(path: &Path) -> Own {
    let all = [
        "-top",
        "-sample_index=samples",
        "-nodecount=0",
        "-nodefraction=0",
    ];
    let text = pprof(&all, path);
    let (_, table) = text.split_once("cum%\n").expect("a table");
    let mut own = Own::new();
    for line in table.lines() {
        let mut words = line.split_whitespace();
        let flat = words.next().expect(line).parse().expect(line);
        let name = words.skip(4).collect::<Vec<&str>>().join(" ");
        // That it was inlined, or now and then.
        let name = [" (inline)", " (partial-inline)"]
            .iter()
            .find_map(|note| name.strip_suffix(note))
            .unwrap_or(&name);
        add(&mut own, (name.to_owned(), String::new(), 0), flat);
    }
    own
}

/// A profile as speedscope's own importer reads it.
#[derive(Deserialize)]
pub struct Speedscope {
    pub name: String,
    pub unit: String,
    /// Of what is not idle.
    pub busy: f64,
    frames: Vec<SpeedscopeFrame>,
}

#[derive(Deserialize)]
struct SpeedscopeFrame {
    name: String,
    file: Option<String>,
    line: Option<u32>,
    #[serde(rename = "self")]
    own: f64,
}

/// What speedscope makes of a file.
pub fn speedscope(path: &Path) -> Vec<Speedscope> {
    #[derive(Deserialize)]
    struct Group {
        profiles: Vec<Speedscope>,
    }
    let script = common::fixture("formats/read-with-speedscope.js");
    let text = output(node(&script).arg(common::format_readers()).arg(path));
    let group: Group = serde_json::from_str(&text).expect("JSON");
    group.profiles
}

impl Speedscope {
    /// The samples of each function, where one takes so many units.
    pub fn own(&self, period: f64) -> Own {
        let mut own = Own::new();
        for frame in &self.frames {
            let file = frame.file.clone().unwrap_or_default();
            let function = (frame.name.clone(), file, frame.line.unwrap_or(0));
            add(&mut own, function, whole(frame.own / period));
        }
        own
    }
}

/// What a page shows in a browser, by thread.
pub fn of_page(path: &Path) -> BTreeMap<u32, Own> {
    let script = common::fixture("page/read_page.js");
    let text = output(node(&script).arg(common::chromium()).arg(path));
    let threads: BTreeMap<u32, Vec<(String, String, u32, u64)>> =
        serde_json::from_str(&text).expect("JSON");
    let own = |functions: Vec<_>| {
        let mut own = Own::new();
        for (name, file, line, samples) in functions {
            add(&mut own, (name, file, line), samples);
        }
        own
    };
    threads
        .into_iter()
        .map(|(tid, it)| (tid, own(it)))
        .collect()
}

/// The samples without functions that have no name: speedscope gives them one of its own.
pub fn without_anonymous(own: &Own) -> Own {
    let mut named = Own::new();
    for ((name, file, line), &samples) in own {
        let file = file.strip_prefix("file://").unwrap_or(file);
        let name = match name.strip_prefix("(anonymous") {
            Some(_) => "",
            None => name,
        };
        let line = if file.is_empty() { 0 } else { *line };
        add(
            &mut named,
            (name.to_owned(), file.to_owned(), line),
            samples,
        );
    }
    named
}
