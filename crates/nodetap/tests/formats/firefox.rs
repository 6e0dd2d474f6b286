//! What the Firefox Profiler's own code reads.

use std::collections::BTreeMap;
use std::fs::File;
use std::path::Path;
use std::process::Command;

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use crate::common;
use crate::own::{Function, Own, add};
use crate::{node, output};

/// The Firefox Profiler's own code, which keeps a profile loaded.
pub struct FirefoxProfiler<'a> {
    path: &'a Path,
    sessions: tempfile::TempDir,
}

impl FirefoxProfiler<'_> {
    pub fn load(path: &Path) -> FirefoxProfiler<'_> {
        let profiler = FirefoxProfiler {
            path,
            // Short: a socket in it has a path of at most 108 bytes.
            sessions: tempfile::tempdir_in("/tmp").expect("a temporary folder"),
        };
        let load = ["load", path.to_str().expect("UTF-8")];
        // It gives the process that it starts half a second, which is not enough for one on
        // a busy machine.
        for _ in 0..20 {
            let output = profiler.command(&load).output().expect("run");
            let errors = String::from_utf8_lossy(&output.stderr);
            if output.status.success() {
                return profiler;
            }
            let (_, pid) = errors
                .split_once("may still be running as pid ")
                .unwrap_or_else(|| panic!("{errors}"));
            let digits = pid.split(|c: char| !c.is_ascii_digit()).next();
            let pid = digits
                .and_then(|it| it.parse().ok())
                .and_then(Pid::from_raw);
            // It may have ended by itself.
            let _ = kill_process(pid.expect(&errors), Signal::KILL);
        }
        panic!("the Firefox Profiler's daemon was never ready");
    }

    fn run(&self, arguments: &[&str]) -> String {
        output(&mut self.command(arguments))
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let script = "@firefox-devtools/profiler-cli/dist/profiler-cli.js";
        let mut command = node(&common::format_readers().join(script));
        let folder = self.sessions.path();
        command
            .args(arguments)
            .env("PROFILER_CLI_SESSION_DIR", folder);
        command
    }

    fn json(&self, arguments: &[&str]) -> Value {
        let text = self.run(&[arguments, &["--json"]].concat());
        serde_json::from_str(&text).expect("JSON")
    }

    /// Each thread's number in the system, and its functions' samples.
    pub fn own(&self) -> BTreeMap<u32, Own> {
        let file = File::open(self.path).expect("a file");
        let file: Value = serde_json::from_reader(file).expect("JSON");
        let info = self.json(&["profile", "info", "--all"]);
        let processes = info["processes"].as_array().expect("processes");
        let threads = processes
            .iter()
            .flat_map(|it| it["threads"].as_array().expect("threads"));
        let own = threads.map(|thread| {
            let handle = thread["threadHandle"].as_str().expect("a handle");
            let options = ["thread", "functions", "--include-idle", "--thread", handle];
            let functions = self.json(&options);
            assert_eq!(functions["weightType"], "samples");
            let mut own = Own::new();
            for function in functions["functions"].as_array().expect("functions") {
                let index = number(&function["functionIndex"]);
                let (name, file, line) = function_of(&file, index as usize);
                assert_eq!(function["name"], name.as_str());
                add(
                    &mut own,
                    (name, file, line),
                    number(&function["selfSamples"]),
                );
            }
            (number(&thread["tid"]) as u32, own)
        });
        own.collect()
    }
}

impl Drop for FirefoxProfiler<'_> {
    fn drop(&mut self) {
        let _ = self.command(&["stop", "--all"]).output();
    }
}

fn number(value: &Value) -> u64 {
    value
        .as_u64()
        .unwrap_or_else(|| panic!("{value} is no number"))
}

/// A function of the table that the Firefox Profiler numbers them by.
fn function_of(file: &Value, function: usize) -> Function {
    let shared = &file["shared"];
    let text = |at: &Value| {
        let text = &shared["stringArray"][number(at) as usize];
        text.as_str().expect("a string").to_owned()
    };
    let table = &shared["funcTable"];
    let source = table["source"][function].as_u64();
    let file = source.map(|it| text(&shared["sources"]["filename"][it as usize]));
    let line = table["lineNumber"][function].as_u64();
    (
        text(&table["name"][function]),
        file.unwrap_or_default(),
        line.unwrap_or(0) as u32,
    )
}
