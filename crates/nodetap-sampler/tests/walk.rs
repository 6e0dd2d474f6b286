//! The walk, on programs whose chain of calls is known.

mod support;

use std::collections::HashMap;
use std::fs;
use std::process::Command;
use std::time::Duration;

use nodetap_sampler::ebpf::shared::MAX_FRAMES;
use nodetap_sampler::ebpf::{EbpfSampler, Options};
use nodetap_sampler::raw::RawSample;
use support::{Program, Target, native, one_at_a_time, record};

const SECONDS: Duration = Duration::from_secs(2);

#[test]
fn every_tick_of_a_known_chain() {
    let program = Program::compile("chain");
    let _alone = one_at_a_time();
    let (target, _) = Target::start(Command::new(&program.path).arg("4"));
    for rate_hz in [999, 9999] {
        let options = Options::with_rate(rate_hz);
        let recording = record(&options, &target, native(512), SECONDS);

        let (expected, enough) = (recording.expected, recording.enough());
        let taken = recording.samples.len() as f64;
        assert!(
            (enough..=recording.too_many()).contains(&taken),
            "{taken} samples at {rate_hz} Hz, {expected} expected"
        );
        assert_eq!(recording.lost, 0);
        let right = recording
            .samples
            .iter()
            .filter(|sample| {
                assert_eq!(sample.pid, target.pid());
                assert_eq!(sample.tid, target.pid());
                assert!(!sample.truncated);
                assert_eq!(sample.frames[0].pc, sample.registers.rip);
                let chain = program.chain(sample).unwrap_or_default();
                chain
                    == [
                        "spin", "descend", "descend", "descend", "descend", "outer", "main",
                    ]
            })
            .count() as f64;
        assert!(
            right >= enough,
            "{right} right chains at {rate_hz} Hz, {expected} expected"
        );
        // The caller of main, in the C library, is there too.
        let started = recording.samples.iter().filter(|sample| {
            let in_library = |pc| program.function(pc).is_empty() && pc > 0x7000_0000_0000;
            sample.frames.iter().any(|frame| in_library(frame.pc))
        });
        assert!(started.count() as f64 >= enough);
    }
}

#[test]
fn ticks_come_at_the_rate_asked_for() {
    let program = Program::compile("chain");
    let _alone = one_at_a_time();
    let (target, _) = Target::start(&mut Command::new(&program.path));
    let recording = record(&Options::with_rate(250), &target, native(512), SECONDS);
    let times: Vec<u64> = recording.samples.iter().map(|it| it.time_ns).collect();
    assert!(times.len() > 10);
    assert!(times.is_sorted());
    // A multiple of the period, as others may have the CPU at some ticks; and
    // the median, as a tick may come late and the thread may change its CPU.
    let mut off: Vec<u64> = times
        .windows(2)
        .map(|pair| (pair[1] - pair[0] + 2_000_000) % 4_000_000)
        .map(|behind| behind.abs_diff(2_000_000))
        .collect();
    off.sort_unstable();
    let median = off[off.len() / 2];
    assert!(median < 400_000, "{median} ns off a multiple of 4 ms");
}

#[test]
fn the_stack_from_the_stack_pointer_upwards() {
    let program = Program::compile("chain");
    let _alone = one_at_a_time();
    let (target, _) = Target::start(Command::new(&program.path).arg("4"));
    let recording = record(&Options::with_rate(999), &target, native(512), SECONDS);
    let whole = recording.samples.iter().filter(|sample| {
        // Where the frame pointer says that the caller's is, there it is.
        let frame = &sample.frames[0];
        let at = (frame.fp.wrapping_sub(sample.registers.rsp) / 8) as usize;
        sample.stack.len() == 64
            && sample.stack.get(at) == sample.frames.get(1).map(|caller| &caller.fp)
            && sample.stack.get(at + 1) == sample.frames.get(1).map(|caller| &caller.pc)
    });
    assert!(whole.count() as f64 >= recording.enough());
}

#[test]
fn nothing_touched_below_the_stack_pointer() {
    let program = Program::compile("fresh");
    let _alone = one_at_a_time();
    let (target, _) = Target::start(&mut Command::new(&program.path));
    let recording = record(&Options::with_rate(999), &target, native(512), SECONDS);
    let right = recording.samples.iter().filter(|sample| {
        let first = &sample.frames[0];
        program.chain(sample).as_deref() == Some(&["low", "main"])
            && (first.context, first.function, first.bytecode_array) == (0, 0, 0)
    });
    assert!(right.count() as f64 >= recording.enough());
}

#[test]
fn deep_stacks_whole_and_deeper_ones_cut() {
    let program = Program::compile("chain");
    let _alone = one_at_a_time();
    // Each sample is some 1.2 MB: few of them.
    let options = Options::with_rate(49);
    for (depth, asked, is_cut) in [
        (12_000, MAX_FRAMES, false),
        (17_000, MAX_FRAMES, true),
        (3000, 1000, true),
        (600, 512, true),
        (500, 512, false),
    ] {
        let (target, _) = Target::start(Command::new(&program.path).arg(depth.to_string()));
        let recording = record(&options, &target, native(asked), SECONDS);
        assert_eq!(recording.lost, 0);
        let right = |sample: &&RawSample| {
            assert_eq!(sample.truncated, is_cut, "{depth} deep, {asked} asked for");
            if is_cut {
                let functions = sample.frames.iter().skip(1);
                return sample.frames.len() == asked as usize
                    && program.function(sample.frames[0].pc) == "spin"
                    && functions.clone().count() == asked as usize - 1
                    && functions
                        .map(|frame| program.function(frame.pc - 1))
                        .all(|function| function == "descend");
            }
            let mut chain = vec!["spin"];
            chain.resize(1 + depth, "descend");
            chain.extend(["outer", "main"]);
            program.chain(sample) == Some(chain)
        };
        let right = recording.samples.iter().filter(right).count() as f64;
        assert!(
            right >= recording.enough(),
            "{right} right of {} expected: {depth} deep, {asked} asked for",
            recording.expected
        );
    }
}

#[test]
fn threads_born_meanwhile() {
    const THREADS: usize = 10;
    let program = Program::compile("threads");
    let _alone = one_at_a_time();
    let (mut target, _) = Target::start(Command::new(&program.path).arg(THREADS.to_string()));
    let options = Options::with_rate(999);
    let mut sampler = EbpfSampler::start(&options, &[(target.pid(), native(512))])
        .expect("these tests need root and eBPF");
    target.go();
    let mut expected = HashMap::new();
    let mut samples: Vec<RawSample> = Vec::new();
    // Its lines come at its end, all at once: until then the ring has room.
    for _ in 0..THREADS {
        let line = target.line();
        let (tid, nanoseconds) = line.split_once(' ').expect("a thread and its time");
        let nanoseconds: f64 = nanoseconds.parse().expect("a time");
        expected.insert(tid.parse::<u32>().expect("a thread"), nanoseconds * 999e-9);
    }
    sampler
        .poll(Duration::ZERO, &mut |sample| {
            samples.push(sample.to_owned())
        })
        .expect("poll after the target's end");
    let lost = sampler
        .stop(&mut |sample| samples.push(sample.to_owned()))
        .expect("stop");
    assert_eq!(lost, 0);
    assert_eq!(expected.len(), THREADS);
    let mut sum = (0.0, 0.0);
    for (tid, expected) in expected {
        let right = samples
            .iter()
            .filter(|sample| sample.tid == tid)
            .filter(|sample| {
                assert_eq!(sample.pid, target.pid());
                let functions = sample.frames.iter().map(|frame| program.function(frame.pc));
                let functions: Vec<&str> = functions.take(3).collect();
                functions == ["spin", "work", "run"]
            });
        let right = right.count() as f64;
        assert!(
            right > expected / 2.0,
            "{right} of {expected} of thread {tid}"
        );
        sum = (sum.0 + right, sum.1 + expected);
    }
    assert!(sum.0 >= sum.1 * 0.95, "{} of {} expected", sum.0, sum.1);
}

#[test]
fn in_the_kernel() {
    let program = Program::compile("syscalls");
    let _alone = one_at_a_time();
    let names = kernel_functions();
    let (target, _) = Target::start(&mut Command::new(&program.path));
    for kernel in [true, false] {
        let options = Options {
            kernel,
            ..Options::with_rate(999)
        };
        let recording = record(&options, &target, native(512), SECONDS);
        let chain = ["call_kernel", "outer", "main"];
        let is_right = |sample: &&RawSample| {
            sample.in_kernel && program.chain(sample).as_deref() == Some(&chain)
        };
        let right = recording.samples.iter().filter(is_right).count() as f64;
        assert!(
            right >= recording.enough() * 0.95,
            "{right} of {} expected in the kernel",
            recording.expected
        );
        if !kernel {
            assert!(recording.samples.iter().all(|it| it.kernel.is_empty()));
            continue;
        }
        // From the system call's entry to where the tick hit: nothing of the
        // tick's own interrupt.
        let whole = |sample: &&RawSample| {
            let stack: Vec<&str> = sample.kernel.iter().map(|&pc| name(&names, pc)).collect();
            let outermost = stack.last().copied().unwrap_or_default();
            let own = |it: &&str| it.contains("perf_") || it.contains("hrtimer");
            outermost.starts_with("entry_SYSCALL_64")
                && stack.contains(&"vfs_read")
                && !stack.iter().any(own)
        };
        let whole = recording.samples.iter().filter(whole).count() as f64;
        assert!(
            whole >= recording.enough() * 0.95,
            "{whole} of {} expected with the kernel's frames",
            recording.expected
        );
    }
}

/// The kernel's functions by address, in order.
fn kernel_functions() -> Vec<(u64, String)> {
    let text = fs::read_to_string("/proc/kallsyms").expect("/proc/kallsyms");
    let mut functions: Vec<(u64, String)> = text
        .lines()
        .filter_map(|line| {
            let mut words = line.split_whitespace();
            let address = u64::from_str_radix(words.next()?, 16).ok()?;
            let name = words.nth(1)?.to_owned();
            Some((address, name))
        })
        .collect();
    functions.sort();
    functions
}

fn name(functions: &[(u64, String)], pc: u64) -> &str {
    let index = functions.partition_point(|(address, _)| *address <= pc);
    match index.checked_sub(1) {
        Some(index) => &functions[index].1,
        None => "",
    }
}
