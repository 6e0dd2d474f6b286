//! A Node.js process to profile.

use std::ffi::OsString;
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::thread;
use std::time::Duration;

/// A running process that is killed when this is dropped.
pub struct Target {
    child: Child,
    stdin: ChildStdin,
    /// `None` where nobody listens.
    stdout: Option<BufReader<ChildStdout>>,
}

impl Target {
    /// Starts `node FLAGS SCRIPT ARGUMENTS`; the script is one of `tests/fixtures`.
    pub fn start(version: &str, flags: &[&str], script: &str, arguments: &[&str]) -> Self {
        let node = [super::node(version).into_os_string()];
        Self::start_as(&node, flags, &super::fixture(script), arguments)
    }

    /// The same, working in `folder`.
    pub fn start_in(folder: &Path, node: &Path, script: &str, arguments: &[&str]) -> Self {
        let node = [node.as_os_str().to_owned()];
        let mut command = command(&node, &[], &super::fixture(script));
        let command = command.current_dir(folder).args(arguments);
        Self::spawn(command.stdout(Stdio::piped()).stderr(Stdio::null()))
    }

    /// The same with another Node.js: `node` is how it is called, a program and what
    /// comes before its flags.
    pub fn start_as(node: &[OsString], flags: &[&str], script: &Path, arguments: &[&str]) -> Self {
        let mut command = command(node, flags, script);
        Self::spawn(command.args(arguments).stdout(Stdio::piped()))
    }

    /// Starts the demo program, which writes more than anybody reads.
    pub fn start_demo(version: &str) -> Self {
        let node = [super::node(version).into_os_string()];
        let target = Self::spawn(command(&node, &[], &super::demo()).stdout(Stdio::null()));
        // It says nothing when it is ready: it is given the time to load.
        thread::sleep(Duration::from_secs(1));
        target
    }

    fn spawn(command: &mut Command) -> Self {
        let spawned = command.stdin(Stdio::piped()).spawn();
        let mut child = spawned.expect("cannot start the target");
        Self {
            stdin: child.stdin.take().expect("piped"),
            stdout: child.stdout.take().map(BufReader::new),
            child,
        }
    }

    /// Waits until the target says that it is ready.
    pub fn wait_until_ready(mut self) -> Self {
        assert_eq!(self.line(), "ready");
        self
    }

    /// The next line that the target writes to its stdout.
    pub fn line(&mut self) -> String {
        let mut line = String::new();
        let stdout = self.stdout.as_mut().expect("somebody listens");
        stdout.read_line(&mut line).expect("read");
        assert!(
            line.ends_with('\n'),
            "the target ended: {:?}",
            self.child.wait()
        );
        line.trim_end().to_owned()
    }

    /// Ends the target and gives what it had written and nobody had read.
    pub fn finish(mut self) -> Vec<String> {
        self.child.kill().expect("kill");
        let lines = self.stdout.take().into_iter().flat_map(BufReader::lines);
        lines.map(|line| line.expect("read")).collect()
    }

    /// Waits until the target has ended by itself.
    pub fn wait(mut self) {
        let status = self.child.wait().expect("wait");
        assert!(status.success(), "{status}");
    }

    /// Waits until the target has ended by a signal, and left a core file.
    pub fn wait_for_core(mut self) {
        let status = self.child.wait().expect("wait");
        assert!(status.core_dumped(), "{status}");
    }

    /// Gives the target a line to read.
    pub fn tell(&mut self, line: &str) {
        // In one piece: it may have read a part, and ended, before the rest is written.
        let line = format!("{line}\n");
        if let Err(error) = self.stdin.write_all(line.as_bytes()) {
            panic!("the target ended: {:?} ({error})", self.child.wait());
        }
    }

    /// The process id, which is that of its main thread.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// The ids of the threads that run now.
    pub fn threads(&self) -> Vec<u32> {
        let entries = fs::read_dir(format!("/proc/{}/task", self.pid())).expect("it runs");
        let name = |entry: fs::DirEntry| entry.file_name().to_str()?.parse().ok();
        entries.filter_map(|entry| name(entry.ok()?)).collect()
    }
}

/// `node FLAGS SCRIPT`, which ends by itself when it has used two minutes of CPU time:
/// should a test be killed, its target would spin on.
fn command(node: &[OsString], flags: &[&str], script: &Path) -> Command {
    let mut command = Command::new("sh");
    command
        .args(["-c", r#"ulimit -t 120; exec "$@""#, "sh"])
        .args(node)
        .args(flags)
        .arg(script);
    command
}

impl Drop for Target {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
