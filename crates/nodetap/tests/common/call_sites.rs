//! The fixture `oracle` in another way than by the test of that name: without asking V8's
//! profiler, so that it runs on any Node.js. What V8 itself says of the stack is
//! compared with a dump and with a recording.

use std::ffi::OsString;
use std::path::Path;
use std::process::{Command, Stdio};

use serde::Deserialize;

use super::recording::{Frame, record};
use super::target::Target;

/// What `nodetap dump --json` printed.
#[derive(Clone, Debug, Deserialize, PartialEq)]
pub struct Dump {
    pub pid: u32,
    pub node: String,
    pub v8: String,
    pub command: Vec<String>,
    pub sampler: String,
    pub threads: Vec<Thread>,
}

/// A thread of a dump.
#[derive(Clone, Debug, Deserialize, PartialEq)]
pub struct Thread {
    pub tid: u32,
    pub name: String,
    pub complete: bool,
    pub frames: Vec<Frame>,
}

impl Thread {
    /// Its JavaScript, innermost first.
    pub fn js(&self) -> impl Iterator<Item = &Frame> {
        self.frames.iter().filter(|frame| frame.is_js())
    }
}

/// Dumps a target that must let itself be dumped.
pub fn dump(target: &Target) -> Dump {
    let output = Command::new(env!("CARGO_BIN_EXE_nodetap"))
        .args(["dump", "--json", "-p", &target.pid().to_string()])
        .stdin(Stdio::null())
        .output()
        .expect("cannot run nodetap");
    assert_eq!(String::from_utf8_lossy(&output.stderr), "");
    assert!(output.status.success(), "{}", output.status);
    serde_json::from_slice(&output.stdout).expect("the JSON of a dump")
}

/// A call site as the fixture reports it.
#[derive(Debug, Deserialize)]
pub struct CallSite {
    pub file: Option<String>,
    pub line: u32,
    pub column: u32,
}

/// What is wrong with the JavaScript of a stack, innermost first; `None`: nothing.
pub fn mistake(js: &[&Frame], sites: &[CallSite]) -> Option<String> {
    if js.len() != sites.len() {
        return Some(format!("{} frames, not {}: {js:#?}", js.len(), sites.len()));
    }
    let is_right = |(index, (frame, site)): (usize, (&&Frame, &CallSite))| {
        let at = (frame.line, frame.column) == (Some(site.line), Some(site.column));
        // The innermost function spins elsewhere on the line than it reported. (Up to 24.11
        // Maglev has no place there.)
        let near = index == 0 && frame.line.is_none_or(|line| line == site.line);
        frame.file == site.file && (at || near)
    };
    let wrong = js.iter().zip(sites).enumerate().find(|&it| !is_right(it))?;
    let (index, (frame, site)) = wrong;
    Some(format!("frame {index} is {frame}, not {site:?}"))
}

/// Runs a chain of the fixture at `script` by a Node.js that is called by `node`, and
/// fails unless dumps and a recording show V8's own call sites.
pub fn check(node: &[OsString], flags: &[&str], script: &Path, arguments: &[&str]) {
    super::measure(|| {
        let _alone = super::one_at_a_time();
        let mut target = Target::start_as(node, flags, script, arguments);
        let sites: Vec<CallSite> = serde_json::from_str(&target.line()).expect("call sites");
        for _ in 0..3 {
            let dump = dump(&target);
            let main = &dump.threads[0];
            assert_eq!(main.tid, target.pid());
            assert!(main.complete, "{main:#?}");
            let js: Vec<&Frame> = main.js().collect();
            assert_eq!(mistake(&js, &sites), None);
            // V8's builtins have their names.
            let node = dump.node.trim_start_matches('v').split('.').next();
            let entry = match node.and_then(|it| it.parse().ok()).expect("a version") {
                0..=7_u32 => ["(builtin)", "(stub)"],
                8..=11 => ["JSEntryTrampoline", "(stub)"],
                _ => ["JSEntryTrampoline", "JSEntry"],
            };
            let builtins = main.frames.iter().filter(|frame| frame.kind == "builtin");
            let builtins: Vec<&str> = builtins.map(|it| it.function.as_str()).collect();
            assert!(builtins.ends_with(&entry), "{builtins:?}");
        }
        let recording = record(&target, 1.0, &[]);
        let all = recording.samples_of(target.pid());
        let right = recording.count(target.pid(), |stack| {
            let js = stack.iter().rev().copied().filter(|frame| frame.is_js());
            mistake(&js.collect::<Vec<_>>(), &sites).is_none()
        });
        assert!(
            all > 0 && right * 100 >= all * 99,
            "{right} of {all} samples"
        );
    });
}
