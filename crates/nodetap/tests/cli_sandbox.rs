//! Where eBPF is not allowed or not there: told in two lines, and by `doctor`.

mod common;

use std::os::unix::process::CommandExt;
use std::process::{Command, Output, Stdio};

use common::target::Target;

const VERSION: &str = "22.23.3";

fn nodetap(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_nodetap"));
    command.args(arguments).stdin(Stdio::null());
    command
}

/// The same as root without these capabilities, as a container has it.
fn without_capabilities(capabilities: &str, arguments: &[&str]) -> Command {
    let mut command = Command::new("setpriv");
    command
        .args(["--inh-caps", capabilities, "--bounding-set", capabilities])
        .arg(env!("CARGO_BIN_EXE_nodetap"))
        .args(arguments)
        .stdin(Stdio::null());
    command
}

/// The same in a sandbox in which the `bpf` system call answers `errno`.
fn without_bpf(errno: i32, arguments: &[&str]) -> Command {
    let mut command = nodetap(arguments);
    let forbid = move || forbid_bpf(errno);
    // SAFETY: two system calls and no allocation between fork and exec.
    unsafe { command.pre_exec(forbid) };
    command
}

/// Makes the `bpf` system call answer `errno` in this process and its children, by a
/// seccomp filter: `Documentation/userspace-api/seccomp_filter.rst` of Linux.
fn forbid_bpf(errno: i32) -> std::io::Result<()> {
    let statement = |code: u32, k: u32| libc::sock_filter {
        code: code as u16,
        jt: 0,
        jf: 0,
        k,
    };
    let is_bpf = libc::sock_filter {
        jf: 1,
        ..statement(
            libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K,
            libc::SYS_bpf as u32,
        )
    };
    let mut filter = [
        // The system call's number is the first field of `seccomp_data`.
        statement(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, 0),
        is_bpf,
        statement(
            libc::BPF_RET | libc::BPF_K,
            libc::SECCOMP_RET_ERRNO | errno as u32,
        ),
        statement(libc::BPF_RET | libc::BPF_K, libc::SECCOMP_RET_ALLOW),
    ];
    let program = libc::sock_fprog {
        len: filter.len() as u16,
        filter: filter.as_mut_ptr(),
    };
    // SAFETY: plain numbers, and a filter that outlives the call.
    let result = unsafe {
        libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
            | libc::prctl(libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_FILTER, &program)
    };
    match result {
        0 => Ok(()),
        _ => Err(std::io::Error::last_os_error()),
    }
}

fn stderr(output: &Output) -> Vec<&str> {
    let text = std::str::from_utf8(&output.stderr).expect("UTF-8");
    text.lines().collect()
}

/// Fails unless the recording of a target fails with these lines, and `doctor` in the
/// same place comes to this conclusion.
#[track_caller]
fn assert_told(command: impl Fn(&[&str]) -> Command, lines: &[&str], conclusion: &str) {
    let target = Target::start(VERSION, &[], "lifecycle.js", &[]).wait_until_ready();
    let pid = target.pid().to_string();
    let output = command(&["record", "-p", &pid, "-d", "1000"])
        .output()
        .expect("run");
    assert_eq!(stderr(&output), lines);
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(output.stdout, b"");

    let output = command(&["doctor"]).output().expect("run");
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(text.contains(conclusion), "{text}");
    assert_eq!(stderr(&output), [""; 0]);
    assert_eq!(output.status.code(), Some(1));
}

#[test]
fn without_the_capabilities() {
    assert_told(
        |arguments| without_capabilities("-bpf,-perfmon,-sys_admin", arguments),
        &[
            "error: no permission to use eBPF: CAP_BPF and CAP_PERFMON missing",
            "hint: run it as root, for example with sudo; in a container, add the capabilities \
             BPF, PERFMON and SYS_PTRACE",
        ],
        "\nsampler: none: CAP_BPF and CAP_PERFMON are missing\n",
    );
}

#[test]
fn without_one_of_them() {
    assert_told(
        |arguments| without_capabilities("-perfmon,-sys_admin", arguments),
        &[
            "error: no permission to use eBPF: CAP_PERFMON missing",
            "hint: run it as root, for example with sudo; in a container, add the capabilities \
             BPF, PERFMON and SYS_PTRACE",
        ],
        "\nsampler: none: CAP_PERFMON is missing\n",
    );
}

#[test]
fn in_a_sandbox_that_forbids_bpf() {
    assert_told(
        |arguments| without_bpf(libc::EPERM, arguments),
        &[
            "error: eBPF is forbidden here, though this user has the capabilities for it",
            "hint: a seccomp profile (a container's?) or kernel lockdown forbids it; run it \
             outside the container, or in one started with --privileged",
        ],
        "\nsampler: none: eBPF is forbidden here, though this user has the capabilities for it\n",
    );
}

#[test]
fn in_a_kernel_that_has_no_bpf() {
    assert_told(
        |arguments| without_bpf(libc::ENOSYS, arguments),
        &[
            "error: this kernel cannot sample with eBPF: it has no bpf system call",
            "hint: Linux 5.15 or later is needed, with CONFIG_BPF_SYSCALL, CONFIG_PERF_EVENTS \
             and CONFIG_DEBUG_INFO_BTF",
        ],
        "\nsampler: none: this kernel cannot sample with eBPF: it has no bpf system call\n",
    );
}

#[test]
fn ps_tells_that_nothing_can_be_profiled() {
    let target = Target::start(VERSION, &[], "lifecycle.js", &[]).wait_until_ready();
    let pid = target.pid().to_string();
    let output = without_bpf(libc::EPERM, &["ps"]).output().expect("run");
    let table = String::from_utf8_lossy(&output.stdout);
    let of_target = |line: &&str| line.split_whitespace().next() == Some(&pid);
    let line = table.lines().find(of_target).expect("it is listed");
    assert!(line.contains("  no: eBPF does not work here  "), "{line}");
    assert_eq!(
        stderr(&output),
        ["hint: 'nodetap doctor' says why nothing can be profiled by this user"]
    );
    assert_eq!(output.status.code(), Some(0));
}
