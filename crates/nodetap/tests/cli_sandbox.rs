//! Where eBPF is not allowed or not there: told in two lines, and by `doctor`; the other
//! sampler is taken, unless that is forbidden too.

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

/// The same in a sandbox in which this system call answers `errno`.
fn without(call: libc::c_long, errno: i32, arguments: &[&str]) -> Command {
    let mut command = nodetap(arguments);
    let filter = move || forbid(call, errno);
    // SAFETY: two system calls and no allocation between fork and exec.
    unsafe { command.pre_exec(filter) };
    command
}

/// The same in one that forbids `ptrace` as well.
fn without_both(arguments: &[&str]) -> Command {
    let mut command = without(libc::SYS_bpf, libc::EPERM, arguments);
    let filter = || forbid(libc::SYS_ptrace, libc::EPERM);
    // SAFETY: two system calls and no allocation between fork and exec.
    unsafe { command.pre_exec(filter) };
    command
}

/// Makes a system call answer `errno` in this process and its children, by a seccomp
/// filter: `Documentation/userspace-api/seccomp_filter.rst` of Linux.
fn forbid(call: libc::c_long, errno: i32) -> std::io::Result<()> {
    let statement = |code: u32, k: u32| libc::sock_filter {
        code: code as u16,
        jt: 0,
        jf: 0,
        k,
    };
    let is_it = libc::sock_filter {
        jf: 1,
        ..statement(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K, call as u32)
    };
    let mut filter = [
        // The system call's number is the first field of `seccomp_data`.
        statement(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, 0),
        is_it,
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

/// Fails unless a recording by eBPF fails with these lines, one by whichever sampler is
/// there takes the other and gives this hint, and `doctor` in the same place comes to
/// this conclusion.
#[track_caller]
fn assert_told(command: impl Fn(&[&str]) -> Command, lines: &[&str], conclusion: &str) {
    let target = Target::start(VERSION, &[], "lifecycle.js", &[]).wait_until_ready();
    let pid = target.pid().to_string();
    let output = command(&["record", "--sampler", "ebpf", "-p", &pid, "-d", "1000"])
        .output()
        .expect("run");
    assert_eq!(stderr(&output), lines);
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(output.stdout, b"");

    let output = command(&["record", "-p", &pid, "-d", "0.5"])
        .output()
        .expect("run");
    assert_eq!(output.status.code(), Some(0));
    let told = stderr(&output);
    let closing = told.iter().find(|line| line.contains(" Hz "));
    let closing = closing.expect("a closing line");
    assert!(closing.contains(" at 99 Hz (ptrace): 0 lost"), "{closing}");
    let hint = lines[1].strip_prefix("hint: ").expect("a hint");
    let better = "hint: the eBPF sampler stops nothing and samples ten times as often: ";
    assert_eq!(told.last(), Some(&format!("{better}{hint}").as_str()));

    let output = command(&["doctor"]).output().expect("run");
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(text.contains(conclusion), "{text}");
    assert_eq!(stderr(&output), [""; 0]);
    assert_eq!(output.status.code(), Some(0));
}

const WITHOUT_FILTER: &str =
    "hint: run it outside of this sandbox (of a systemd service: SystemCallFilter=)";
const OUTSIDE: &str = "hint: run it outside of this sandbox, as root";

#[test]
fn without_the_capabilities() {
    assert_told(
        |arguments| without_capabilities("-bpf,-perfmon,-sys_admin", arguments),
        &[
            "error: no permission to use eBPF: CAP_BPF and CAP_PERFMON are missing",
            OUTSIDE,
        ],
        "\nsampler: ptrace: for eBPF, which stops nothing, CAP_BPF and CAP_PERFMON are missing\n\
         to improve it: run it outside of this sandbox, as root\n",
    );
}

#[test]
fn without_one_of_them() {
    for (capabilities, missing) in [
        ("-perfmon,-sys_admin", "CAP_PERFMON"),
        ("-bpf,-sys_admin", "CAP_BPF"),
    ] {
        assert_told(
            |arguments| without_capabilities(capabilities, arguments),
            &[
                &format!("error: no permission to use eBPF: {missing} is missing"),
                OUTSIDE,
            ],
            &format!("\nsampler: ptrace: for eBPF, which stops nothing, {missing} is missing\n"),
        );
    }
}

#[test]
fn in_a_sandbox_that_forbids_bpf_or_perf_events() {
    for (call, name) in [
        (libc::SYS_bpf, "bpf"),
        (libc::SYS_perf_event_open, "perf_event_open"),
    ] {
        assert_told(
            |arguments| without(call, libc::EPERM, arguments),
            &[
                &format!("error: no permission to use eBPF: a seccomp filter forbids {name}"),
                WITHOUT_FILTER,
            ],
            &format!(
                "\nsampler: ptrace: for eBPF, which stops nothing, a seccomp filter forbids {name}\n"
            ),
        );
    }
}

#[test]
fn in_a_kernel_that_has_no_bpf() {
    assert_told(
        |arguments| without(libc::SYS_bpf, libc::ENOSYS, arguments),
        &[
            "error: this kernel cannot sample with eBPF: it has no bpf system call",
            "hint: Linux 5.15 or later is needed, with CONFIG_BPF_SYSCALL, CONFIG_PERF_EVENTS \
             and CONFIG_DEBUG_INFO_BTF",
        ],
        "\nsampler: ptrace: for eBPF, which stops nothing, this kernel cannot sample with eBPF: it has no bpf system call\n",
    );
}

#[test]
fn in_a_sandbox_that_forbids_everything() {
    let target = Target::start(VERSION, &[], "lifecycle.js", &[]).wait_until_ready();
    let pid = target.pid().to_string();
    for arguments in [
        &["record", "-p", &pid][..],
        &["record", "--sampler", "ptrace", "-p", &pid],
        &["dump", "-p", &pid],
    ] {
        let output = without_both(arguments).output().expect("run");
        let why = "a seccomp filter forbids ptrace";
        let error = format!("error: no permission to stop process {pid}: {why}");
        let lines = [error.as_str(), WITHOUT_FILTER];
        assert_eq!(stderr(&output), lines, "{arguments:?}");
        assert_eq!(output.status.code(), Some(1));
        assert_eq!(output.stdout, b"");
    }

    let output = without_both(&["record", "--", "true"]).output();
    let error = "error: cannot start true to trace it: a seccomp filter forbids ptrace";
    assert_eq!(stderr(&output.expect("run")), [error, WITHOUT_FILTER]);

    let output = without_both(&["doctor"]).output().expect("run");
    let text = String::from_utf8_lossy(&output.stdout);
    for line in [
        "\nno  ptrace         a seccomp filter forbids ptrace\n",
        "\nno  seccomp        on; forbids bpf and ptrace\n",
        "\nsampler: none: a seccomp filter forbids bpf\nto improve it: run it outside",
    ] {
        assert!(text.contains(line), "{text}");
    }
    assert_eq!(output.status.code(), Some(1));

    let output = without_both(&["ps"]).output().expect("run");
    let table = String::from_utf8_lossy(&output.stdout);
    let of_target = |line: &&str| line.split_whitespace().next() == Some(&pid);
    let line = table.lines().find(of_target).expect("it is listed");
    let why = "  no: neither eBPF nor ptrace works here  ";
    assert!(line.contains(why), "{line}");
    assert_eq!(
        stderr(&output),
        ["hint: 'nodetap doctor' says why nothing can be profiled by this user"]
    );
    assert_eq!(output.status.code(), Some(0));
}
