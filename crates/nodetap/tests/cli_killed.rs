//! What is left when nodetap is killed: nothing.

mod common;

use std::fs;
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use common::target::Target;

/// The ids of the BPF programs that a process holds.
fn programs_of(pid: u32) -> Vec<u32> {
    let Ok(fds) = fs::read_dir(format!("/proc/{pid}/fdinfo")) else {
        return Vec::new();
    };
    let text = |fd: fs::DirEntry| fs::read_to_string(fd.path()).ok();
    let id = |text: &str| {
        text.lines()
            .find_map(|line| line.strip_prefix("prog_id:")?.trim().parse().ok())
    };
    let mut ids: Vec<u32> = fds.filter_map(|fd| id(&text(fd.ok()?)?)).collect();
    ids.sort_unstable();
    ids.dedup();
    ids
}

/// The ids of those of the kernel's BPF programs that are ours by their name.
fn loaded_programs() -> Vec<u32> {
    let programs = aya::programs::loaded_programs();
    // One that is unloaded meanwhile is an error.
    let programs = programs.filter_map(Result::ok);
    let ours = programs.filter(|program| program.name() == b"nodetap_sample");
    ours.map(|program| program.id()).collect()
}

/// Starts to record and waits until the program is loaded and linked to the clocks.
fn start_sampling(pid: u32) -> (Child, Vec<u32>) {
    let mut child = Command::new(env!("CARGO_BIN_EXE_nodetap"))
        .args(["record", "-p", &pid.to_string()])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("cannot run nodetap");
    let linked = |child: &Child| {
        let fds = fs::read_dir(format!("/proc/{}/fd", child.id())).expect("it runs");
        let links = fds.filter_map(|fd| fs::read_link(fd.ok()?.path()).ok());
        links
            .filter(|link| link.as_os_str() == "anon_inode:bpf_link")
            .count()
            > 0
    };
    while !linked(&child) {
        assert_eq!(child.try_wait().expect("wait"), None, "nodetap ended");
        sleep(Duration::from_millis(5));
    }
    let programs = programs_of(child.id());
    assert_ne!(programs, [0; 0], "it has loaded a program");
    (child, programs)
}

/// `State:` and `TracerPid:` of a process.
fn state(pid: u32) -> (String, String) {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).expect("it runs");
    let field = |name| {
        let value = status.lines().find_map(|line| line.strip_prefix(name));
        value
            .expect("a field of /proc/PID/status")
            .trim()
            .to_owned()
    };
    (field("State:"), field("TracerPid:"))
}

/// The CPU time that the main thread has had.
fn main_thread_cpu(pid: u32) -> Duration {
    let text = fs::read_to_string(format!("/proc/{pid}/task/{pid}/schedstat")).expect("it runs");
    let nanoseconds = text.split(' ').next().and_then(|ran| ran.parse().ok());
    Duration::from_nanos(nanoseconds.expect("a number"))
}

#[test]
fn nothing_is_left_after_kill_9() {
    let _alone = common::one_at_a_time();
    let target = Target::start("24.21.0", &[], "shares.js", &[]).wait_until_ready();
    let (mut child, programs) = start_sampling(target.pid());
    for program in &programs {
        assert!(loaded_programs().contains(program), "{programs:?}");
    }
    sleep(Duration::from_millis(200));
    // SIGKILL.
    child.kill().expect("kill");
    child.wait().expect("wait");

    // The kernel unloads what nobody holds a little later.
    let deadline = Instant::now() + Duration::from_secs(30);
    while programs
        .iter()
        .any(|program| loaded_programs().contains(program))
    {
        assert!(Instant::now() < deadline, "still loaded: {programs:?}");
        sleep(Duration::from_millis(10));
    }
    let (running, tracer) = state(target.pid());
    assert!(running.starts_with(['R', 'S']), "{running}");
    assert_eq!(tracer, "0");
    // It goes on: its main thread gets CPU time again.
    let before = main_thread_cpu(target.pid());
    let deadline = Instant::now() + Duration::from_secs(30);
    while main_thread_cpu(target.pid()) < before + Duration::from_millis(50) {
        assert!(Instant::now() < deadline, "the target does not run");
        sleep(Duration::from_millis(10));
    }
}

#[test]
fn the_target_is_not_traced_while_it_is_recorded() {
    let _alone = common::one_at_a_time();
    let target = Target::start("24.21.0", &[], "shares.js", &[]).wait_until_ready();
    let (mut child, _) = start_sampling(target.pid());
    for _ in 0..50 {
        let (running, tracer) = state(target.pid());
        assert!(running.starts_with(['R', 'S', 'D']), "{running}");
        assert_eq!(tracer, "0");
        sleep(Duration::from_millis(5));
    }
    child.kill().expect("kill");
    child.wait().expect("wait");
}
