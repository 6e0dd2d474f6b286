//! The target of these tests, `fixtures/faults/worker.js`, and what is asked of it. Nothing
//! here waits for ever.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Child, ChildStdin, Command, Output, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::thread::{self, JoinHandle, sleep};
use std::time::{Duration, Instant};

use serde::Deserialize;
use tempfile::TempDir;

use crate::common;
use crate::common::matrix::Node;

/// How long anything may take. The machine may be busy; what hangs, hangs for ever.
pub const LIMIT: Duration = Duration::from_secs(60);

/// What the worker says of itself.
#[derive(Debug, Deserialize)]
pub struct Report {
    pub pid: u32,
    /// How often it has computed its value.
    pub rounds: u64,
    /// How often something else came out.
    pub wrong: u64,
    pub value: Option<u64>,
    /// Processes that it has started, and how many of these failed.
    pub spawned: u64,
    pub failed: u64,
    #[serde(default)]
    pub storms: Storms,
}

/// What its addon says.
#[derive(Debug, Default, Deserialize)]
pub struct Storms {
    pub signals: u64,
    /// Signals that came more than once.
    pub doubles: u64,
    pub threads: u64,
    pub forks: u64,
    pub failures: u64,
}

/// What the worker computes.
fn expected() -> u64 {
    let step = |s: u64, i: u64| (s * 31 + i) % 1_000_003;
    let mut s = 7;
    for i in 0..20_000 {
        s = step(s, i);
        if i % 100 == 0 {
            s = step(step(step(s, 1), 2), i % 7);
        }
    }
    s
}

/// What the tests of one version need on disk.
pub struct Place {
    folder: TempDir,
    node: PathBuf,
    addon: Option<PathBuf>,
}

impl Place {
    pub fn new(node: &Node) -> Place {
        let folder = tempfile::tempdir().expect("a temporary folder");
        // The versions before have no Node-API.
        let addon = (node.major() >= 10).then(|| build_addon(&folder));
        Place {
            folder,
            node: common::node(&node.version),
            addon,
        }
    }

    pub fn has_addon(&self) -> bool {
        self.addon.is_some()
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// The command that is the worker.
    pub fn command(&self) -> Vec<String> {
        let addon = self.addon.clone().unwrap_or_else(|| "-".into());
        let words = [
            self.node.clone(),
            common::fixture("faults/worker.js"),
            addon,
        ];
        let text = |word: PathBuf| word.into_os_string().into_string().expect("UTF-8");
        words.into_iter().map(text).collect()
    }

    /// A worker that is at work.
    pub fn worker(&self) -> Worker {
        let words = self.command();
        let mut command = Command::new(&words[0]);
        command.args(&words[1..]);
        let mut worker = Worker::spawn(command);
        assert_eq!(worker.line().as_deref(), Some("ready"));
        worker
    }

    /// `nodetap WORDS`
    pub fn nodetap(&self, words: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_nodetap"));
        command
            .args(words)
            .current_dir(self.folder.path())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        command
    }
}

fn build_addon(folder: &TempDir) -> PathBuf {
    let addon = folder.path().join("storms.node");
    let status = Command::new("clang")
        .args(["-shared", "-fPIC", "-O1", "-pthread", "-o"])
        .arg(&addon)
        .arg(common::fixture("faults/storms.c"))
        .status()
        .expect("cannot run clang");
    assert!(status.success(), "{status}");
    addon
}

/// A worker, or a nodetap that has started one. All of its process group is killed
/// when this is dropped.
pub struct Worker {
    pub child: Child,
    stdin: Option<ChildStdin>,
    lines: Receiver<String>,
}

impl Worker {
    /// Starts `command`, which gets the worker's input and output.
    pub fn spawn(mut command: Command) -> Worker {
        let spawned = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .process_group(0)
            .spawn();
        let mut child = spawned.expect("cannot start the worker");
        let (sender, lines) = channel();
        let stdout = BufReader::new(child.stdout.take().expect("piped"));
        thread::spawn(move || {
            for line in stdout.lines().map_while(Result::ok) {
                let _ = sender.send(line);
            }
        });
        Worker {
            stdin: child.stdin.take(),
            child,
            lines,
        }
    }

    /// The number of the process that was started.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// The next line that it writes, or `None` where it writes no more.
    pub fn line(&mut self) -> Option<String> {
        match self.lines.recv_timeout(LIMIT) {
            Ok(line) => Some(line),
            Err(RecvTimeoutError::Disconnected) => None,
            Err(RecvTimeoutError::Timeout) => {
                panic!("the worker hangs: {}", states_of_group(self.pid()))
            }
        }
    }

    /// Gives it a line to read, if it is still there.
    pub fn tell(&mut self, line: &str) {
        let stdin = self.stdin.as_mut().expect("it is still open");
        let _ = stdin.write_all(format!("{line}\n").as_bytes());
    }

    /// What it says of itself. So far nothing has come out wrong.
    pub fn report(&mut self) -> Report {
        self.tell("report");
        let line = self.line().expect("a report");
        let report: Report = serde_json::from_str(&line).expect("a report");
        assert_eq!(report.wrong, 0, "{report:?}");
        assert!(report.value.is_none_or(|value| value == expected()));
        report
    }

    /// Makes sure that it is at work: nothing stops it, nobody traces it, its
    /// computation goes on and comes out right.
    pub fn assert_at_work(&mut self) -> Report {
        let before = self.report();
        assert_free(before.pid);
        let begun = Instant::now();
        loop {
            let report = self.report();
            if report.rounds > before.rounds {
                return report;
            }
            assert!(begun.elapsed() < LIMIT, "it does not go on: {report:?}");
        }
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        // SAFETY: a process group of ours; its leader may have been waited for, but nobody
        // else has got its number since.
        unsafe { libc::kill(-(self.pid() as i32), libc::SIGKILL) };
        let _ = self.child.wait();
    }
}

/// Waits until a child has ended. Where it does not, it is killed, and that is told.
pub fn within(limit: Duration, child: &mut Child) -> std::process::ExitStatus {
    let begun = Instant::now();
    loop {
        if let Some(status) = child.try_wait().expect("wait") {
            return status;
        }
        if begun.elapsed() > limit {
            let states = states_of_group(child.id());
            let _ = child.kill();
            panic!("process {} does not end: {states}", child.id());
        }
        sleep(Duration::from_millis(2));
    }
}

/// The same for one that writes no more than a pipe takes in.
pub fn output_within(limit: Duration, mut child: Child) -> Output {
    within(limit, &mut child);
    child.wait_with_output().expect("wait")
}

/// Kills a child as nobody can forbid it.
pub fn kill_9(child: &mut Child) {
    child.kill().expect("kill");
    child.wait().expect("wait");
}

/// Who traces a process; 0: nobody.
pub fn tracer(pid: u32) -> Option<u32> {
    field(&format!("/proc/{pid}/status"), "TracerPid:")?
        .parse()
        .ok()
}

/// `R`, `S`, `T`, …
pub fn state(pid: u32) -> Option<char> {
    field(&format!("/proc/{pid}/status"), "State:")?
        .chars()
        .next()
}

fn field(path: &str, name: &str) -> Option<String> {
    let status = fs::read_to_string(path).ok()?;
    let value = status.lines().find_map(|line| line.strip_prefix(name))?;
    Some(value.trim().to_owned())
}

/// Makes sure that no thread of a process is stopped or traced.
pub fn assert_free(pid: u32) {
    for thread in fs::read_dir(format!("/proc/{pid}/task")).expect("it runs") {
        let status = thread.expect("a thread").path().join("status");
        let Ok(status) = fs::read_to_string(status) else {
            continue;
        };
        let has = |line: &str| status.contains(line);
        assert!(
            has("\nTracerPid:\t0\n") && !has("\nState:\tT") && !has("\nState:\tt"),
            "{status}"
        );
    }
}

/// What all processes of a group do, for whom something hangs.
fn states_of_group(group: u32) -> String {
    let ps = Command::new("ps")
        .args(["-eLo", "pgid,pid,tid,stat,wchan:20,comm"])
        .output();
    let text = ps.map(|ps| String::from_utf8_lossy(&ps.stdout).into_owned());
    let text = text.unwrap_or_default();
    let of_it = |line: &&str| line.split_whitespace().next() == Some(&group.to_string());
    let lines: Vec<&str> = text.lines().filter(of_it).collect();
    format!("\n{}", lines.join("\n"))
}

/// Somebody who sends a worker signals, all different, until it is to stop.
pub struct Sender {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<u64>,
}

impl Sender {
    /// Sends process `pid` signals.
    pub fn to(pid: u32) -> Sender {
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = stop.clone();
        let thread = thread::spawn(move || {
            let mut sent = 0_u64;
            // As many as the worker can tell apart.
            while !stopped.load(Ordering::Relaxed) && sent < 1 << 20 {
                let number = libc::sigval {
                    sival_ptr: sent as *mut libc::c_void,
                };
                // SAFETY: it takes no memory of ours.
                let result = unsafe { libc::sigqueue(pid as i32, libc::SIGRTMIN() + 5, number) };
                // Else its queue is full: it is stopped, for instance.
                sent += u64::from(result == 0);
                sleep(Duration::from_micros(500));
            }
            sent
        });
        Sender { stop, thread }
    }

    /// Makes sure that the worker has got each signal once.
    pub fn assert_all_came(self, worker: &mut Worker) {
        self.stop.store(true, Ordering::Relaxed);
        let sent = self.thread.join().expect("it ends");
        let begun = Instant::now();
        let storms = loop {
            let storms = worker.report().storms;
            if storms.signals >= sent || begun.elapsed() > LIMIT {
                break storms;
            }
        };
        assert_eq!((storms.signals, storms.doubles), (sent, 0), "{storms:?}");
    }
}
