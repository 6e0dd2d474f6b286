//! What the tests of the sampler share. They need root, a C compiler, and for
//! those on Node.js the binaries that `make test` puts into the cache.

#![allow(
    dead_code,
    reason = "each test file uses its own part of what is shared"
)]

use std::collections::HashMap;
use std::fs::{self, File};
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

use nodetap_sampler::ebpf::{EbpfSampler, Options, ProcessConfig};
use nodetap_sampler::raw::RawSample;
use object::{Object, ObjectSymbol};

/// A process of the test's own, which ends with it.
pub struct Target {
    child: Child,
    pub output: BufReader<ChildStdout>,
}

impl Target {
    /// Starts it, and waits for its first line, which is returned too.
    pub fn start(command: &mut Command) -> (Target, String) {
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap_or_else(|error| panic!("cannot start {command:?}: {error}"));
        let output = BufReader::new(child.stdout.take().expect("its stdout is a pipe"));
        let mut target = Target { child, output };
        let line = target.line();
        (target, line)
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// The next line of its output, without the newline.
    pub fn line(&mut self) -> String {
        let mut line = String::new();
        let read = self.output.read_line(&mut line).expect("its output");
        assert!(read > 0, "{} ended without another line", self.pid());
        line.trim_end().to_owned()
    }

    /// Lets it go on, which waits for a line.
    pub fn go(&mut self) {
        let stdin = self.child.stdin.as_mut().expect("its stdin is a pipe");
        stdin.write_all(b"\n").expect("its stdin");
    }

    pub fn kill(&mut self) {
        self.child.kill().expect("kill");
        self.child.wait().expect("wait");
    }

    /// Nanoseconds that its main thread ran on a CPU.
    pub fn cpu_ns(&self) -> u64 {
        let path = format!("/proc/{0}/task/{0}/schedstat", self.pid());
        let text = fs::read_to_string(&path).expect("schedstat");
        let first = text.split(' ').next().expect("a number");
        first.parse().expect("a number")
    }
}

impl Drop for Target {
    fn drop(&mut self) {
        // Either may fail only where it has ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A compiled C program of `tests/programs`.
pub struct Program {
    pub path: PathBuf,
    functions: HashMap<String, (u64, u64)>,
}

impl Program {
    /// Compiles it, with frame pointers, to be loaded where it was linked to.
    pub fn compile(name: &str) -> Program {
        // Not optimized: GCC leaves the frame pointer out of functions that
        // can do without, whatever else it is told.
        Program::compile_with(name, &["-O0", "-fno-omit-frame-pointer"])
    }

    /// The same with these options.
    pub fn compile_with(name: &str, options: &[&str]) -> Program {
        let source = Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("tests/programs")
            .join(format!("{name}.c"));
        let directory = Path::new(env!("CARGO_TARGET_TMPDIR"));
        // Tests of one file run at the same time: each has its own.
        let thread = std::thread::current().name().unwrap_or("main").to_owned();
        let path = directory.join(format!("{name}-{}", thread.replace("::", "-")));
        let status = Command::new("cc")
            .args(options)
            .args(["-no-pie", "-pthread"])
            .arg("-o")
            .arg(&path)
            .arg(&source)
            .status()
            .expect("the tests need a C compiler, cc");
        assert!(status.success(), "cannot compile {}", source.display());
        let bytes = fs::read(&path).expect("the program just compiled");
        let file = object::File::parse(&*bytes).expect("an ELF file");
        let functions = file
            .symbols()
            .filter(|symbol| symbol.size() > 0)
            .filter_map(|symbol| {
                let range = (symbol.address(), symbol.address() + symbol.size());
                Some((symbol.name().ok()?.to_owned(), range))
            })
            .collect();
        Program { path, functions }
    }

    /// The function that `pc` lies in, "" if it is none of the program's.
    pub fn function(&self, pc: u64) -> &str {
        self.functions
            .iter()
            .find(|(_, range)| (range.0..range.1).contains(&pc))
            .map_or("", |(name, _)| name)
    }

    /// The functions of a stack, innermost first, up to and including `main`;
    /// nothing if `main` is not on it.
    pub fn chain(&self, sample: &RawSample) -> Option<Vec<&str>> {
        let mut chain = Vec::new();
        for (index, frame) in sample.frames.iter().enumerate() {
            // A return address may lie behind its function's last instruction.
            let pc = frame.pc - u64::from(index > 0);
            chain.push(self.function(pc));
            if chain.last() == Some(&"main") {
                return Some(chain);
            }
        }
        None
    }
}

/// A process of which only the frame pointers are of interest.
pub fn native(max_depth: u32) -> ProcessConfig {
    ProcessConfig {
        max_depth,
        ..Default::default()
    }
}

/// What was recorded of one target.
pub struct Recording {
    pub samples: Vec<RawSample>,
    pub lost: u64,
    /// Samples that the CPU time of its main thread makes one expect.
    pub expected: f64,
    /// How far chance can take their number from that: about none where the
    /// thread had a CPU to itself, as sampling is regular; where it shared
    /// one, which of the ticks hit it is a matter of luck.
    chance: f64,
}

impl Recording {
    /// 95 % of the samples that one expects.
    pub fn enough(&self) -> f64 {
        self.expected * 0.95 - self.chance
    }

    /// 105 % of them.
    pub fn too_many(&self) -> f64 {
        self.expected * 1.05 + self.chance
    }
}

/// Samples `target` for `duration`.
pub fn record(
    options: &Options,
    target: &Target,
    config: ProcessConfig,
    duration: Duration,
) -> Recording {
    let mut samples = Vec::new();
    let mut keep = |sample: nodetap_sampler::raw::RawSampleRef<'_>| samples.push(sample.to_owned());
    let mut sampler = EbpfSampler::start(options, &[(target.pid(), config)])
        .unwrap_or_else(|error| panic!("these tests need root and eBPF: {error}"));
    let before = target.cpu_ns();
    let begin = Instant::now();
    let end = begin + duration;
    while let Some(left) = end.checked_duration_since(Instant::now()) {
        sampler
            .poll(left.min(Duration::from_millis(50)), &mut keep)
            .expect("poll");
    }
    let used = (target.cpu_ns() - before) as f64 * 1e-9;
    let share = used / begin.elapsed().as_secs_f64();
    let lost = sampler.stop(&mut keep).expect("stop");
    let expected = used * f64::from(options.rate_hz);
    Recording {
        samples,
        lost,
        expected,
        chance: if share < 0.97 {
            2.0 * expected.sqrt() + 1.0
        } else {
            1.0
        },
    }
}

/// The folder where `make test` keeps what it fetches.
fn cache() -> PathBuf {
    let own = std::env::var_os("NODETAP_CACHE").map(PathBuf::from);
    let shared = || {
        let base = std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from);
        let home = || PathBuf::from(std::env::var_os("HOME").expect("HOME")).join(".cache");
        base.unwrap_or_else(home).join("nodetap")
    };
    own.unwrap_or_else(shared)
}

/// The binary of a Node.js version.
pub fn node(version: &str) -> PathBuf {
    let path = cache().join("nodes").join(version).join("bin/node");
    assert!(
        path.exists(),
        "{} is missing: `make test` fetches what the tests need",
        path.display()
    );
    path
}

/// Waits until no other test measures, in this process or another, and keeps
/// others waiting until what is returned is dropped.
pub fn one_at_a_time() -> File {
    fs::create_dir_all(cache()).expect("the cache folder");
    let path = cache().join("tests.lock");
    let file = File::create(&path)
        .unwrap_or_else(|error| panic!("cannot create {}: {error}", path.display()));
    rustix::fs::flock(&file, rustix::fs::FlockOperation::LockExclusive).expect("flock");
    file
}
