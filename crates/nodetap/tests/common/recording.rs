//! What nodetap recorded, read back from the JSON it wrote.

use std::collections::BTreeMap;
use std::fmt;
use std::fs;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant, SystemTime};

use serde::Deserialize;
use tempfile::TempDir;

use super::target::Target;

/// A recording as the `json` format has it.
#[derive(Debug, Deserialize)]
pub struct Recording {
    pub nodetap: u32,
    pub sampler: String,
    pub rate_hz: u32,
    pub start: String,
    pub duration_ms: f64,
    pub lost: u64,
    pub truncated: u64,
    pub incomplete: u64,
    pub processes: Vec<Process>,
    pub threads: Vec<Thread>,
    pub frames: Vec<Frame>,
    pub stacks: Vec<Vec<usize>>,
    pub samples: Vec<(u64, usize, usize)>,
    /// What the thread of each sample was in, a letter each.
    pub modes: Option<String>,
    /// For how many each sample stands; empty where that is 1.
    #[serde(default)]
    pub counts: Vec<u64>,
    /// What nodetap wrote to stderr.
    #[serde(skip)]
    pub notes: String,
    /// The CPU time that the target's main thread had while it was recorded.
    #[serde(skip)]
    pub main_thread_cpu: Duration,
}

/// A process of a recording.
#[derive(Debug, Deserialize)]
pub struct Process {
    pub pid: u32,
    pub command: Vec<String>,
    pub node: String,
    pub v8: String,
}

/// A thread of a recording.
#[derive(Debug, Deserialize)]
pub struct Thread {
    pub pid: u32,
    pub tid: u32,
    pub name: String,
}

/// A frame of a recording.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq, PartialOrd, Ord)]
pub struct Frame {
    pub kind: String,
    pub function: String,
    pub file: Option<String>,
    pub line: Option<u32>,
    pub column: Option<u32>,
    pub function_line: Option<u32>,
    pub function_column: Option<u32>,
    pub tier: Option<String>,
    #[serde(default)]
    pub inlined: bool,
    pub package: Option<Package>,
}

/// The package that a frame is of.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq, PartialOrd, Ord)]
pub struct Package {
    pub name: String,
    pub version: Option<String>,
    pub dependency: bool,
}

impl Frame {
    pub fn is_js(&self) -> bool {
        self.kind == "js"
    }

    /// Whether this frame says what it is.
    pub fn has_name(&self) -> bool {
        let name = self.function.trim();
        !(name.is_empty() || name.starts_with("(unknown") || name.starts_with("0x"))
    }
}

impl fmt::Display for Frame {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let number = |n: Option<u32>| n.map_or("?".to_owned(), |n| n.to_string());
        write!(
            f,
            "{} {}:{}:{} (function at {}:{}; {} {}{})",
            self.function,
            self.file.as_deref().unwrap_or("-"),
            number(self.line),
            number(self.column),
            number(self.function_line),
            number(self.function_column),
            self.kind,
            self.tier.as_deref().unwrap_or("-"),
            if self.inlined { " inlined" } else { "" },
        )
    }
}

/// A recording that is under way.
pub struct Running {
    nodetap: Child,
    folder: TempDir,
    meter: Meter,
}

/// Records a target with `nodetap record -p PID -d SECONDS -f json` and more options.
pub fn record(target: &Target, seconds: f64, options: &[&str]) -> Recording {
    start(target, seconds, options).finish()
}

/// Starts to record a target.
pub fn start(target: &Target, seconds: f64, options: &[&str]) -> Running {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let meter = Meter::start(target.pid());
    let nodetap = Command::new(env!("CARGO_BIN_EXE_nodetap"))
        .args(["record", "-f", "json", "-p", &target.pid().to_string()])
        .args(["-d", &seconds.to_string(), "-o"])
        .arg(folder.path().join("recording.json"))
        .args(options)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("cannot run nodetap");
    Running {
        nodetap,
        folder,
        meter,
    }
}

impl Running {
    /// Waits until samples are taken: what the target does from now on is recorded.
    pub fn wait_until_sampling(self) -> Self {
        let folder = format!("/proc/{}/fd", self.nodetap.id());
        let is_clock = |entry: fs::DirEntry| {
            let file = fs::read_link(entry.path());
            let clocks = ["anon_inode:bpf_link", "anon_inode:[perf_event]"];
            file.is_ok_and(|file| clocks.iter().any(|clock| file.as_os_str() == *clock))
        };
        let deadline = Instant::now() + Duration::from_secs(20);
        // Read by nobody else: an entry may be gone when it is looked at.
        while !fs::read_dir(&folder)
            .expect("nodetap runs")
            .flatten()
            .any(is_clock)
        {
            assert!(Instant::now() < deadline, "nodetap does not begin");
            thread::sleep(Duration::from_millis(10));
        }
        // The clocks of the other CPUs are next.
        thread::sleep(Duration::from_millis(200));
        self
    }

    /// Waits for the recording's end and reads it.
    pub fn finish(self) -> Recording {
        let output = self.nodetap.wait_with_output().expect("wait");
        let readings = self.meter.finish();
        let notes = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(
            output.status.success(),
            "nodetap record: {}\n{notes}",
            output.status
        );
        assert_eq!(output.stdout, b"", "the result goes to the file");
        let path = self.folder.path().join("recording.json");
        let text = fs::read_to_string(path).expect("nodetap wrote its output");
        let mut recording: Recording = serde_json::from_str(&text).expect("the JSON of a record");
        recording.notes = notes;
        let at = |moment| cpu_at(&readings, moment);
        let started = recording.started();
        recording.main_thread_cpu = at(started + recording.duration()) - at(started);
        recording
    }
}

/// Reads the CPU time of a target's main thread, again and again: how much of a core it
/// had while it was recorded is another matter before and after.
struct Meter {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<Vec<(SystemTime, Duration)>>,
}

impl Meter {
    fn start(pid: u32) -> Meter {
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let read = move || {
            let mut readings = Vec::new();
            while let Some(cpu) = main_thread_cpu(pid) {
                readings.push((SystemTime::now(), cpu));
                if stopped.load(Ordering::Relaxed) {
                    break;
                }
                thread::sleep(Duration::from_millis(10));
            }
            readings
        };
        let thread = thread::spawn(read);
        Meter { stop, thread }
    }

    fn finish(self) -> Vec<(SystemTime, Duration)> {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().expect("the meter ran")
    }
}

/// The CPU time of a process's main thread; `None` where it has ended.
fn main_thread_cpu(pid: u32) -> Option<Duration> {
    let text = fs::read_to_string(format!("/proc/{pid}/task/{pid}/schedstat")).ok()?;
    let nanoseconds = text.split(' ').next()?.parse().ok()?;
    Some(Duration::from_nanos(nanoseconds))
}

/// The CPU time at a moment, between the readings before and after it.
fn cpu_at(readings: &[(SystemTime, Duration)], moment: SystemTime) -> Duration {
    let after = readings.partition_point(|&(time, _)| time <= moment);
    let (Some(&(t0, c0)), Some(&(t1, c1))) = (
        after.checked_sub(1).and_then(|before| readings.get(before)),
        readings.get(after),
    ) else {
        panic!("the target's CPU time is not known at {moment:?}");
    };
    let since = |time: SystemTime| time.duration_since(t0).expect("in order").as_secs_f64();
    c0 + (c1 - c0).mul_f64(since(moment) / since(t1))
}

impl Recording {
    /// The stacks of a thread, outermost first, with how often each was taken.
    pub fn stacks_of(&self, tid: u32) -> Vec<(Vec<&Frame>, u64)> {
        let mut counts = BTreeMap::new();
        for (index, &(_, thread, stack)) in self.samples.iter().enumerate() {
            if self.threads[thread].tid == tid {
                *counts.entry(stack).or_insert(0) += self.counts.get(index).unwrap_or(&1);
            }
        }
        let frames = |stack: usize| self.stacks[stack].iter().map(|&frame| &self.frames[frame]);
        counts
            .into_iter()
            .map(|(stack, count)| (frames(stack).collect(), count))
            .collect()
    }

    /// How many samples of a thread have a stack of which `holds` is true.
    pub fn count(&self, tid: u32, holds: impl Fn(&[&Frame]) -> bool) -> u64 {
        let stacks = self.stacks_of(tid);
        let counts = stacks.iter().filter(|(stack, _)| holds(stack));
        counts.map(|(_, count)| count).sum()
    }

    /// How many samples were taken of a thread.
    pub fn samples_of(&self, tid: u32) -> u64 {
        self.count(tid, |_| true)
    }

    /// When the recording began.
    pub fn started(&self) -> SystemTime {
        let start: jiff::Timestamp = self.start.parse().expect("RFC 3339");
        start.into()
    }

    /// How long it took.
    pub fn duration(&self) -> Duration {
        Duration::from_secs_f64(self.duration_ms / 1000.0)
    }

    /// Fails unless the target's main thread was sampled as often as the rate promises
    /// for the CPU time that it had: at least 95 %, and not more often than there were
    /// ticks.
    pub fn assert_sampled(&self, target: &Target) {
        let expected = f64::from(self.rate_hz) * self.main_thread_cpu.as_secs_f64();
        let taken = self.samples_of(target.pid()) as f64;
        assert!(
            (0.95 * expected..=1.05 * expected).contains(&taken),
            "{taken} samples of the main thread, expected {expected:.0}\n{}",
            self.notes
        );
    }
}
