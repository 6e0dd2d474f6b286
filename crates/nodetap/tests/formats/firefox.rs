//! What the Firefox Profiler's own code reads.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::common;
use crate::own::{Function, Own, add};
use crate::{node, output};

/// The Firefox Profiler's own code, which keeps a profile loaded.
pub struct FirefoxProfiler<'a> {
    path: &'a Path,
    sessions: tempfile::TempDir,
    daemon: Child,
}

/// The command by the profiler's own people that asks its code.
fn command(sessions: &Path) -> Command {
    let script = "@firefox-devtools/profiler-cli/dist/profiler-cli.js";
    let mut command = node(&common::format_readers().join(script));
    command.env("PROFILER_CLI_SESSION_DIR", sessions);
    command
}

impl FirefoxProfiler<'_> {
    pub fn load(path: &Path) -> FirefoxProfiler<'_> {
        // Short: a socket in it has a path of at most 108 bytes.
        let sessions = tempfile::tempdir_in("/tmp").expect("a temporary folder");
        // Its command `load` starts this, and gives up after half a second.
        let mut daemon = command(sessions.path());
        let daemon = daemon.args(["--session", "test", "--daemon"]).arg(path);
        let daemon = daemon.stdin(Stdio::null()).stdout(Stdio::null());
        let mut profiler = FirefoxProfiler {
            path,
            daemon: daemon.spawn().expect("run"),
            sessions,
        };
        let begun = Instant::now();
        while !profiler.is_ready() {
            let ended = profiler.daemon.try_wait().expect("wait");
            assert!(ended.is_none(), "{ended:?}");
            assert!(begun.elapsed() < Duration::from_secs(100), "it loads on");
            sleep(Duration::from_millis(100));
        }
        profiler
    }

    fn is_ready(&self) -> bool {
        // A command that finds no session clears what may be left of one, and with it
        // what the daemon writes in that moment: nobody finds it any more.
        let session = self.sessions.path().join("test.json");
        let session = fs::read(session).unwrap_or_default();
        if serde_json::from_slice::<Value>(&session).is_err() {
            return false;
        }
        let output = self.command(&["profile", "info"]).output().expect("run");
        output.status.success()
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = command(self.sessions.path());
        command.args(arguments).args(["--session", "test"]);
        command
    }

    fn run(&self, arguments: &[&str]) -> String {
        output(&mut self.command(arguments))
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
        let _ = self.daemon.kill();
        let _ = self.daemon.wait();
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
