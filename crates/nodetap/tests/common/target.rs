//! A Node.js process to profile.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::Duration;

/// A running process that is killed when this is dropped.
pub struct Target {
    child: Child,
    stdin: ChildStdin,
    stdout: BufReader<ChildStdout>,
}

impl Target {
    /// Starts `node FLAGS SCRIPT ARGUMENTS`; the script is one of `tests/fixtures`.
    pub fn start(version: &str, flags: &[&str], script: &str, arguments: &[&str]) -> Self {
        // Should a test be killed, its target spins on: not for ever.
        let mut child = Command::new("sh")
            .args(["-c", r#"ulimit -t 120; exec "$@""#, "sh"])
            .arg(super::node(version))
            .args(flags)
            .arg(super::fixture(script))
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("cannot start the target");
        Self {
            stdin: child.stdin.take().expect("piped"),
            stdout: BufReader::new(child.stdout.take().expect("piped")),
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
        self.stdout.read_line(&mut line).expect("read");
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
        let lines = (&mut self.stdout).lines();
        lines.map(|line| line.expect("read")).collect()
    }

    /// Gives the target a line to read.
    pub fn tell(&mut self, line: &str) {
        writeln!(self.stdin, "{line}").expect("write");
    }

    /// The process id, which is that of its main thread.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// The CPU time that the main thread has had.
    pub fn main_thread_cpu(&self) -> Duration {
        let path = format!("/proc/{0}/task/{0}/schedstat", self.pid());
        let text = fs::read_to_string(&path).expect("the target runs");
        let nanoseconds = text.split(' ').next().and_then(|ran| ran.parse().ok());
        Duration::from_nanos(nanoseconds.expect("a number"))
    }

    /// The ids of the threads that run now.
    pub fn threads(&self) -> Vec<u32> {
        let entries = fs::read_dir(format!("/proc/{}/task", self.pid())).expect("it runs");
        let name = |entry: fs::DirEntry| entry.file_name().to_str()?.parse().ok();
        entries.filter_map(|entry| name(entry.ok()?)).collect()
    }
}

impl Drop for Target {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
