//! Targets that leave a core file.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use super::target::Target;

/// Stops a target as a shell's Ctrl-Z does, all of its threads.
pub fn stop(target: &Target) {
    // SAFETY: a system call without pointers.
    assert_eq!(unsafe { libc::kill(target.pid() as i32, libc::SIGSTOP) }, 0);
    let is_stopped = |tid: u32| {
        let stat = fs::read_to_string(format!("/proc/{}/task/{tid}/stat", target.pid()));
        stat.is_ok_and(|stat| stat.contains(") T "))
    };
    while !target.threads().into_iter().all(is_stopped) {
        sleep(Duration::from_millis(1));
    }
}

/// Lets it go on for a moment.
pub fn go_on(target: &Target) {
    // SAFETY: a system call without pointers.
    assert_eq!(unsafe { libc::kill(target.pid() as i32, libc::SIGCONT) }, 0);
    sleep(Duration::from_millis(10));
}

/// Ends a stopped target, which was started in `folder`, so that the kernel writes a
/// core file of it. Its main thread executes nothing more.
pub fn of_kernel(target: Target, folder: &Path) -> PathBuf {
    let pid = target.pid() as i32;
    allow_core_file(pid);
    // To the main thread itself: another thread would leave it the time to go on.
    // SAFETY: system calls without pointers.
    let sent = unsafe {
        libc::syscall(libc::SYS_tgkill, pid, pid, libc::SIGQUIT) == 0
            && libc::kill(pid, libc::SIGCONT) == 0
    };
    assert!(sent, "{}", std::io::Error::last_os_error());
    target.wait_for_core();
    written_to(folder)
}

/// Lets the process leave a core file of any size.
pub fn allow_core_file(pid: i32) {
    let limit = libc::rlimit {
        rlim_cur: libc::RLIM_INFINITY,
        rlim_max: libc::RLIM_INFINITY,
    };
    // SAFETY: the limit is there to be read; the old one is not asked for.
    let set = unsafe { libc::prlimit(pid, libc::RLIMIT_CORE, &limit, std::ptr::null_mut()) };
    assert_eq!(set, 0, "{}", std::io::Error::last_os_error());
}

/// Whether the kernel writes core files to where a process works, as it does where
/// nobody has changed it.
pub fn kernel_writes_them() -> bool {
    let pattern = fs::read_to_string("/proc/sys/kernel/core_pattern").expect("core_pattern");
    !pattern.starts_with(['|', '/', '@'])
}

/// The core file that the kernel has put into `folder`.
pub fn written_to(folder: &Path) -> PathBuf {
    let files = fs::read_dir(folder).expect("the folder");
    let mut files = files.map(|entry| entry.expect("an entry").path());
    let is_core = |path: &PathBuf| {
        let mut start = [0; 18];
        let file = fs::File::open(path).expect("a file");
        std::os::unix::fs::FileExt::read_exact_at(&file, &mut start, 0).is_ok()
            && start.starts_with(b"\x7fELF")
            && start[16] == 4
    };
    files.find(|path| is_core(path)).expect("a core file")
}

/// Has `gcore` write a core file of a target, which goes on.
pub fn of_gcore(target: &Target, folder: &Path) -> PathBuf {
    let prefix = folder.join("core");
    let mut gcore = Command::new("gcore");
    gcore.arg("-o").arg(&prefix).arg(target.pid().to_string());
    let output = gcore.output().expect("gcore, of the package gdb");
    assert!(output.status.success(), "{output:?}");
    folder.join(format!("core.{}", target.pid()))
}

/// A core file of a target that is stopped, which may have ended then.
pub fn of_stopped(target: Target, folder: &Path) -> PathBuf {
    match kernel_writes_them() {
        true => of_kernel(target, folder),
        false => of_gcore(&target, folder),
    }
}

/// `nodetap dump --core PATH` and more.
pub fn nodetap(core: &Path, options: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_nodetap"));
    command.args(["dump", "--core"]).arg(core).args(options);
    let output = command.stdin(Stdio::null()).output();
    output.expect("cannot run nodetap")
}

/// Waits until `is_so`, but not for ever.
pub fn wait_until(is_so: impl Fn() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while !is_so() {
        assert!(Instant::now() < deadline);
        sleep(Duration::from_millis(2));
    }
}
