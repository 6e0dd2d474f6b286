//! What V8's own CPU profiler says: a `.cpuprofile`, and runs that write one.

use std::collections::HashMap;
use std::fs;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use serde::Deserialize;

use super::matrix::Node;

/// A `.cpuprofile`.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct CpuProfile {
    pub nodes: Vec<ProfileNode>,
    /// Microseconds of the clock that `process.hrtime` shows.
    pub start_time: i64,
    /// The node of each sample.
    pub samples: Vec<u32>,
    /// How many microseconds it was taken after the one before.
    pub time_deltas: Vec<i64>,
}

/// A stack, by its innermost frame.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ProfileNode {
    pub id: u32,
    pub call_frame: CallFrame,
    #[serde(default)]
    pub hit_count: u64,
    #[serde(default)]
    pub children: Vec<u32>,
}

/// A function as V8's profiler describes it.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq, PartialOrd, Ord)]
#[serde(rename_all = "camelCase")]
pub struct CallFrame {
    pub function_name: String,
    #[serde(default)]
    pub url: String,
    /// 0-based; -1 for what is no JavaScript function.
    pub line_number: i64,
    pub column_number: i64,
}

impl CallFrame {
    /// Its name as nodetap writes it.
    pub fn name(&self) -> String {
        match self.function_name.as_str() {
            "" => "(anonymous)".to_owned(),
            name => name.to_owned(),
        }
    }

    /// Line and column where the function starts, 1-based.
    pub fn start(&self) -> (u32, u32) {
        let number = |n: i64| u32::try_from(n + 1).expect("a position");
        (number(self.line_number), number(self.column_number))
    }
}

impl CpuProfile {
    /// Each node's stack of JavaScript functions, outermost first.
    pub fn stacks(&self) -> HashMap<u32, Vec<&CallFrame>> {
        let nodes: HashMap<u32, &ProfileNode> = self.nodes.iter().map(|n| (n.id, n)).collect();
        let parents: HashMap<u32, u32> = self
            .nodes
            .iter()
            .flat_map(|node| node.children.iter().map(|&child| (child, node.id)))
            .collect();
        let stack = |id: u32| {
            let mut next = Some(id);
            let mut stack = Vec::new();
            while let Some(id) = next {
                stack.push(&nodes[&id].call_frame);
                next = parents.get(&id).copied();
            }
            // V8's own functions, some of which are scripts before Node.js 12.
            stack.retain(|frame| frame.line_number >= 0 && !frame.url.starts_with("native "));
            stack.reverse();
            stack
        };
        nodes.keys().map(|&id| (id, stack(id))).collect()
    }

    /// The stack that was sampled most, outermost first.
    pub fn heaviest(&self) -> Vec<CallFrame> {
        let node = self.nodes.iter().max_by_key(|node| node.hit_count);
        let stack = node.and_then(|node| self.stacks().remove(&node.id));
        stack.into_iter().flatten().cloned().collect()
    }
}

/// Runs a fixture under `--cpu-prof` to its end: what it wrote, and the profiles, one a
/// thread. Before Node.js 12.2 there is no such flag with an interval; then the fixture
/// asks the inspector for the profile that it is told to write.
pub fn profile(
    node: &Node,
    flags: &[&str],
    fixture: &str,
    arguments: &[&str],
) -> (String, Vec<CpuProfile>) {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let mut command = Command::new(super::node(&node.version));
    let has_flag = node.is_since(12, 2);
    if has_flag {
        command
            .arg("--cpu-prof")
            .arg(format!("--cpu-prof-dir={}", folder.path().display()))
            .args(flags);
    }
    command.arg(super::fixture(fixture)).args(arguments);
    if !has_flag {
        let file = folder.path().join("main.cpuprofile");
        command.arg(format!("--profile={}", file.display()));
    }
    let output = command
        .stdin(Stdio::null())
        .stderr(Stdio::inherit())
        .output()
        .expect("cannot run node");
    assert!(output.status.success(), "{}", output.status);
    let entries = fs::read_dir(folder.path()).expect("it is there");
    let mut paths: Vec<PathBuf> = entries.map(|entry| entry.expect("read").path()).collect();
    paths.sort();
    let read = |path: &PathBuf| {
        let text = fs::read_to_string(path).expect("a profile");
        serde_json::from_str(&text).expect("a .cpuprofile")
    };
    let profiles = paths.iter().map(read).collect();
    let text = String::from_utf8(output.stdout).expect("UTF-8");
    (text, profiles)
}
