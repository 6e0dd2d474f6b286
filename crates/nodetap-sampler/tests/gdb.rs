//! The walk in the kernel against gdb's, on the same stopped stacks of Node.js.
//!
//! gdb stops the process again and again, and unwinds its main thread by what the files
//! tell for debuggers and for exceptions. A thread that is stopped loses its CPU, and that is
//! when the off-CPU program takes its stack: of the very same registers and memory.

mod support;

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::mpsc::{Receiver, TryRecvError, channel};
use std::thread;
use std::time::{Duration, Instant};

use nodetap_sampler::ebpf::{EbpfSampler, Options};
use nodetap_sampler::raw::{Cause, RawSample, RawSampleRef};
use nodetap_sampler::target::Target as V8Target;
use support::{Target, node, one_at_a_time};

/// How often a process is stopped.
const STOPS: usize = 40;
/// The most frames that gdb is asked for.
const MOST_FRAMES: usize = 200;

/// Walks the main thread's stack of process PID, STOPS times: a line for each, with
/// the stack pointer, and pc and name of each frame, innermost first.
const SCRIPT: &str = r#"
import gdb, os, time
pid, stops, most = (int(os.environ[it]) for it in ("PID", "STOPS", "MOST"))
for setting in ("pagination off", "confirm off", "backtrace past-main on", "backtrace past-entry on"):
    gdb.execute("set " + setting)
for stop in range(stops):
    # Not in step with anything that the program does.
    time.sleep(0.02 + stop * 0.618 % 1 * 0.03)
    gdb.execute("attach %d" % pid, to_string=True)
    for thread in gdb.selected_inferior().threads():
        if thread.ptid[1] == pid:
            thread.switch()
    words = ["%x" % (int(gdb.newest_frame().read_register("rsp")) & 0xffffffffffffffff)]
    frame = gdb.newest_frame()
    try:
        while frame is not None and len(words) <= most:
            # Functions that are inlined, or have gone on to another for good, are only
            # known to debuggers.
            if frame.type() not in (gdb.INLINE_FRAME, gdb.TAILCALL_FRAME):
                words.append("%x %s" % (frame.pc(), (frame.name() or "?").replace("\t", " ")))
            frame = frame.older()
    except gdb.error:
        pass
    gdb.execute("detach", to_string=True)
    print("stack\t" + "\t".join(words), flush=True)
"#;

/// One stack as gdb sees it.
#[derive(Debug)]
struct Stack {
    sp: u64,
    /// Pc and name, innermost first.
    frames: Vec<(u64, String)>,
}

impl Stack {
    fn parse(line: &str) -> Option<Stack> {
        let mut words = line.strip_prefix("stack\t")?.split('\t');
        let sp = u64::from_str_radix(words.next()?, 16).ok()?;
        let frames = words.map(|word| {
            let (pc, name) = word.split_once(' ')?;
            Some((u64::from_str_radix(pc, 16).ok()?, name.to_owned()))
        });
        let frames = frames.collect::<Option<Vec<_>>>()?;
        Some(Stack { sp, frames })
    }

    /// How many frames, from the innermost on, are native code, which gdb has a rule for.
    fn native(&self, is_in_file: impl Fn(u64) -> bool) -> usize {
        let is_native = |(pc, name): &&(u64, String)| {
            is_in_file(*pc) && name != "?" && !name.starts_with("Builtins_")
        };
        self.frames.iter().take_while(is_native).count()
    }
}

/// Has gdb walk the stacks of process `pid`.
fn ask_gdb(pid: u32) -> Receiver<Stack> {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR"));
    let script = folder.join("walk-by-gdb.py");
    std::fs::write(&script, SCRIPT).expect("a script");
    let mut gdb = Command::new("gdb")
        .args([
            "--batch",
            "--nx",
            "--quiet",
            "-ex",
            "set debuginfod enabled off",
            "-x",
        ])
        .arg(&script)
        .env("PID", pid.to_string())
        .env("STOPS", STOPS.to_string())
        .env("MOST", MOST_FRAMES.to_string())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .expect("this test needs gdb");
    let lines = BufReader::new(gdb.stdout.take().expect("its stdout is a pipe")).lines();
    let (sender, receiver) = channel();
    thread::spawn(move || {
        for line in lines.map_while(Result::ok) {
            if let Some(stack) = Stack::parse(&line)
                && sender.send(stack).is_err()
            {
                break;
            }
        }
        // Where the test is over, nobody waits for its stacks.
        let _ = gdb.kill();
        let _ = gdb.wait();
    });
    receiver
}

/// Both walks of the same stops.
fn stops(target: &Target) -> Vec<(Stack, RawSample)> {
    let pid = target.pid();
    let config = V8Target::attach(pid).expect("a known V8").config(512);
    let options = Options {
        wall: true,
        ..Options::with_rate(999)
    };
    let mut sampler = EbpfSampler::start(&options, &[(pid, config)])
        .unwrap_or_else(|error| panic!("these tests need root and eBPF: {error}"));
    // By place of the stop; one that lasts comes in parts.
    let mut taken: BTreeMap<(u64, u64), RawSample> = BTreeMap::new();
    let mut keep = |sample: RawSampleRef<'_>| {
        if sample.tid == pid
            && let Some(wait) = sample.wait
            && wait.cause == Cause::Stopped
        {
            taken.insert((wait.since_ns, sample.registers.rsp), sample.to_owned());
        }
    };
    let patient = Duration::from_millis(20);
    // Until the tables are there by which native code is unwound.
    let begun = Instant::now();
    while begun.elapsed() < Duration::from_secs(1) {
        sampler.poll(patient, &mut keep).expect("poll");
    }
    let stacks = ask_gdb(pid);
    let mut seen = Vec::new();
    loop {
        sampler.poll(patient, &mut keep).expect("poll");
        match stacks.try_recv() {
            Ok(stack) => seen.push(stack),
            Err(TryRecvError::Empty) => {}
            Err(TryRecvError::Disconnected) => break,
        }
    }
    sampler.stop(&mut keep).expect("stop");
    assert!(seen.len() >= STOPS / 2, "gdb saw {} stacks", seen.len());
    // Both are in the order of time.
    let mut taken = taken.into_values();
    let same = |stack: &Stack, sample: &RawSample| {
        let pc = stack.frames.first().map(|it| it.0);
        (Some(sample.registers.rip), sample.registers.rsp) == (pc, stack.sp)
    };
    let mut both = Vec::new();
    for stack in seen {
        let sample = taken.find(|sample| same(&stack, sample));
        let sample = sample.unwrap_or_else(|| panic!("gdb alone saw {stack:x?}"));
        both.push((stack, sample));
    }
    both
}

fn compare(version: &str) {
    let _alone = one_at_a_time();
    let program = Path::new(env!("CARGO_MANIFEST_DIR")).join("../nodetap/tests/fixtures/native.js");
    let (target, _) = Target::start(Command::new(node(version)).arg(program));
    let both = stops(&target);
    let maps = std::fs::read_to_string(format!("/proc/{}/maps", target.pid())).expect("maps");
    let files: Vec<(u64, u64)> = maps.lines().filter_map(code_of_file).collect();
    let is_in_file = |pc| files.iter().any(|&(start, end)| (start..end).contains(&pc));

    let [mut deep, mut frames, mut whole] = [0, 0, 0];
    for (stack, sample) in &both {
        let native = stack.native(is_in_file);
        // The caller of the last of them too, whatever it is.
        let until = (native + 1).min(stack.frames.len());
        let theirs: Vec<u64> = stack.frames[..until].iter().map(|it| it.0).collect();
        let ours: Vec<u64> = sample.frames.iter().map(|it| it.pc).take(until).collect();
        assert_eq!(ours, theirs, "{version}: {stack:x?}");
        deep += usize::from(native > 2);
        frames += native;
        whole += usize::from(sample.complete);
    }
    eprintln!(
        "{version}: {} stops, {frames} native frames above JavaScript, {whole} complete",
        both.len()
    );
    // Much of what the program calls goes through several functions.
    assert!(
        deep * 10 > both.len(),
        "{version}: {deep} of {}",
        both.len()
    );
    assert!(frames > both.len(), "{version}: {frames} of {}", both.len());
    assert_eq!(whole, both.len(), "{version}");
}

/// From where to where there is code of a file, by a line of `/proc/PID/maps`.
fn code_of_file(line: &str) -> Option<(u64, u64)> {
    let mut words = line.split_whitespace();
    let (start, end) = words.next()?.split_once('-')?;
    let is_code = words.next()?.contains('x');
    let is_file = line.contains(" /");
    let number = |text| u64::from_str_radix(text, 16).ok();
    (is_code && is_file).then_some((number(start)?, number(end)?))
}

#[test]
fn the_same_stopped_stacks_by_gdb() {
    compare("24.21.0");
    if std::env::var("NODETAP_TEST_NODES").is_ok_and(|it| it == "all") {
        for version in ["12.22.12", "16.20.2", "20.20.2", "22.23.3", "26.10.0"] {
            compare(version);
        }
    }
}
