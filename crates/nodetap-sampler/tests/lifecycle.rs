//! The sampler's beginning and end: permissions, limits, namespaces, and what
//! is left when it dies.

mod support;

use std::env;
use std::fs;
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use nodetap_sampler::ebpf::{EbpfSampler, Error, Options, PROGRAM_NAME, ProcessConfig, shared};
use nodetap_sampler::raw::RawSampleRef;
use rustix::process::{Resource, getrlimit, setrlimit};
use rustix::thread::{CapabilitySet, capabilities, set_capabilities};
use support::{Program, Target, native, one_at_a_time, record};

/// Set in processes that a test starts from its own executable, to what they
/// are to do.
const ROLE: &str = "NODETAP_TEST_ROLE";

/// This test executable, made to play a role.
fn role(command: &mut Command, role: &str) {
    command
        .args(["--exact", "played_in_a_process_of_its_own", "--nocapture"])
        .env(ROLE, role);
}

/// Not a test of its own: what the other tests run in another process.
#[test]
fn played_in_a_process_of_its_own() {
    match env::var(ROLE).as_deref() {
        Ok("sampler") => {
            let mut sampler = EbpfSampler::start(&Options::default(), &[(1, native(512))])
                .expect("these tests need root and eBPF");
            println!("started");
            loop {
                sampler
                    .poll(Duration::from_secs(1), &mut |_| ())
                    .expect("poll");
            }
        }
        Ok("namespace") => sample_own_child(),
        Ok("few files") => {
            let mut limit = getrlimit(Resource::Nofile);
            limit.current = Some(6);
            setrlimit(Resource::Nofile, limit).expect("setrlimit");
            let error = EbpfSampler::start(&Options::default(), &[]).expect_err("no file left");
            assert!(
                matches!(error, Error::TooManyFiles { limit: Some(6) }),
                "{error}"
            );
            assert!(error.hint().is_some());
        }
        Ok(other) => panic!("no such role: {other}"),
        Err(_) => {}
    }
}

/// In a PID namespace of its own: a child has the number that it has there.
fn sample_own_child() {
    let path = env::var("NODETAP_TEST_PROGRAM").expect("the program to sample");
    let (target, _) = Target::start(&mut Command::new(path));
    assert!(target.pid() < 100, "{} in a new namespace", target.pid());
    let options = Options::with_rate(999);
    let recording = record(&options, &target, native(512), Duration::from_secs(1));
    let right = recording
        .samples
        .iter()
        .filter(|sample| (sample.pid, sample.tid) == (target.pid(), target.pid()));
    assert_eq!(right.count(), recording.samples.len());
    assert!(recording.samples.len() as f64 >= recording.enough());
}

#[test]
fn nothing_is_left_after_kill_9() {
    let mut command = Command::new(env::current_exe().expect("own path"));
    role(&mut command, "sampler");
    let (mut sampler, mut line) = Target::start(&mut command);
    // The test harness writes its own words before ours.
    while !line.ends_with("started") {
        line = sampler.line();
    }
    let loaded = programs_of(sampler.pid());
    assert!(!loaded.is_empty(), "the sampler holds no program");
    assert!(loaded.iter().all(|id| our_programs().contains(id)));

    sampler.kill();
    // The kernel takes them away a moment later.
    let end = Instant::now() + Duration::from_secs(10);
    while our_programs().iter().any(|id| loaded.contains(id)) {
        assert!(Instant::now() < end, "programs {loaded:?} are still loaded");
        thread::sleep(Duration::from_millis(20));
    }
}

/// Ids of the BPF programs that a process has open.
fn programs_of(pid: u32) -> Vec<u32> {
    fs::read_dir(format!("/proc/{pid}/fdinfo"))
        .expect("its files")
        .filter_map(|file| fs::read_to_string(file.ok()?.path()).ok())
        .filter_map(|info| {
            let line = info
                .lines()
                .find_map(|line| line.strip_prefix("prog_id:"))?;
            line.trim().parse().ok()
        })
        .collect()
}

/// Ids of all loaded programs with our name.
fn our_programs() -> Vec<u32> {
    aya::programs::loaded_programs()
        .filter_map(Result::ok)
        .filter(|program| program.name_as_str() == Some(PROGRAM_NAME))
        .map(|program| program.id())
        .collect()
}

#[test]
fn numbers_of_another_pid_namespace() {
    let program = Program::compile("chain");
    let _alone = one_at_a_time();
    let mut command = Command::new("unshare");
    command
        .args(["--pid", "--fork", "--mount-proc", "--kill-child"])
        .arg(env::current_exe().expect("own path"))
        .env("NODETAP_TEST_PROGRAM", &program.path);
    role(&mut command, "namespace");
    let output = command.output().expect("unshare");
    assert!(
        output.status.success(),
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
}

#[test]
fn too_many_files() {
    let mut command = Command::new(env::current_exe().expect("own path"));
    role(&mut command, "few files");
    let output = command.output().expect("own executable");
    assert!(
        output.status.success(),
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
}

/// Starts a sampler in a thread that has only these capabilities.
fn start_with(held: CapabilitySet) -> Result<(), Error> {
    let start = move || {
        let mut sets = capabilities(None).expect("capabilities");
        sets.effective = held;
        set_capabilities(None, sets).expect("a thread may give up capabilities");
        EbpfSampler::start(&Options::default(), &[]).map(drop)?;
        EbpfSampler::probe()
    };
    thread::spawn(start).join().expect("no panic")
}

#[test]
fn the_capabilities_it_takes() {
    let (bpf, perfmon) = (CapabilitySet::BPF, CapabilitySet::PERFMON);
    match start_with(bpf | perfmon) {
        Ok(()) => {}
        // Debian's and Ubuntu's kernels can be told to ask for more.
        Err(Error::PerfEventRefused {
            paranoid: Some(3..),
            missing: false,
            ..
        }) => {}
        Err(other) => panic!("these suffice: {other}"),
    }
    for (held, lacking) in [
        (CapabilitySet::empty(), vec!["CAP_BPF", "CAP_PERFMON"]),
        (perfmon, vec!["CAP_BPF"]),
        (bpf, vec!["CAP_PERFMON"]),
    ] {
        match start_with(held).expect_err("one is missing") {
            Error::NoPermission { missing } => assert_eq!(missing, lacking),
            other => panic!("{other}"),
        }
    }
}

#[test]
fn what_is_asked_for_must_be_possible() {
    for rate_hz in [0, 100_001, u32::MAX] {
        let options = Options {
            rate_hz,
            ..Options::default()
        };
        match EbpfSampler::start(&options, &[]) {
            Err(Error::Rate { rate_hz: told, .. }) => assert_eq!(told, rate_hz),
            other => panic!("{other:?}"),
        }
    }
    let mut sampler = EbpfSampler::start(&Options::default(), &[(1, native(512))])
        .expect("these tests need root and eBPF");
    sampler.add_process(2, &native(512)).expect("there is room");
    match sampler.add_process(2, &native(513)) {
        Err(Error::Depth {
            asked: 513,
            possible: 512,
        }) => {}
        other => panic!("{other:?}"),
    }
    let apart = ProcessConfig {
        has_v8: 1,
        shared_script: 32,
        shared_literal_id: 160,
        ..native(1)
    };
    match sampler.add_process(2, &apart) {
        Err(Error::Layout(_)) => {}
        other => panic!("{other:?}"),
    }
    for pid in 3..=shared::MAX_PROCESSES {
        sampler.add_process(pid, &native(1)).expect("there is room");
    }
    match sampler.add_process(1 << 20, &native(1)) {
        Err(Error::TooManyProcesses) => {}
        other => panic!("{other:?}"),
    }
    sampler.remove_process(2).expect("it was there");
    sampler.remove_process(2).expect("it is gone, and so what");
    sampler
        .add_process(1 << 20, &native(1))
        .expect("there is room again");
}

#[test]
fn only_the_processes_asked_for_while_they_are() {
    let program = Program::compile("chain");
    let _alone = one_at_a_time();
    let (first, _) = Target::start(&mut Command::new(&program.path));
    let (mut second, _) = Target::start(&mut Command::new(&program.path));
    let options = Options::with_rate(999);
    let mut sampler = EbpfSampler::start(&options, &[(first.pid(), native(512))])
        .expect("these tests need root and eBPF");
    let pids = |sampler: &mut EbpfSampler| {
        let mut pids = Vec::new();
        let mut keep = |sample: RawSampleRef<'_>| pids.push(sample.pid);
        thread::sleep(Duration::from_millis(300));
        sampler.poll(Duration::ZERO, &mut keep).expect("poll");
        pids.sort_unstable();
        pids.dedup();
        pids
    };
    let mut both = [first.pid(), second.pid()];
    both.sort_unstable();
    assert_eq!(pids(&mut sampler), [first.pid()]);
    sampler
        .add_process(second.pid(), &native(512))
        .expect("add");
    assert_eq!(pids(&mut sampler), both);
    sampler.remove_process(first.pid()).expect("remove");
    // What was taken before is still delivered.
    pids(&mut sampler);
    assert_eq!(pids(&mut sampler), [second.pid()]);
    second.kill();
    pids(&mut sampler);
    assert!(pids(&mut sampler).is_empty());
    assert_eq!(sampler.stop(&mut |_| ()).expect("stop"), 0);
}

#[test]
fn what_does_not_fit_is_counted() {
    let program = Program::compile("chain");
    let _alone = one_at_a_time();
    let (target, _) = Target::start(Command::new(&program.path).arg("4000"));
    let options = Options {
        ring_bytes: 1 << 20,
        ..Options::with_rate(999)
    };
    let config = native(shared::MAX_FRAMES);
    let mut sampler = EbpfSampler::start(&options, &[(target.pid(), config)])
        .expect("these tests need root and eBPF");
    // Three of these samples fill the buffer, which nobody reads.
    let end = Instant::now() + Duration::from_secs(60);
    while sampler.lost().expect("lost") < 20 {
        assert!(Instant::now() < end, "nothing was lost");
        thread::sleep(Duration::from_millis(10));
    }
    let mut samples = 0;
    let before = sampler.lost().expect("lost");
    sampler
        .poll(Duration::ZERO, &mut |sample| {
            // The C library's two, which keep no frame pointer, are left out until
            // the kernel has been told how to unwind them.
            assert!(matches!(sample.frames.len(), 4004 | 4006));
            samples += 1;
        })
        .expect("poll");
    assert!(samples >= 3, "{samples} samples in a full buffer");
    assert!(sampler.stop(&mut |_| ()).expect("stop") >= before);
}
