//! Whether a target is still the program that we attached to.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::FileExt;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, pidfd_open};

/// How a target came to its end, as far as a recording goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// The process is gone.
    Exited,
    /// The process runs another program now.
    Execed,
}

/// An eye on one process.
#[derive(Debug)]
pub struct Watch {
    pid: u32,
    process: OwnedFd,
    memory: File,
}

impl Watch {
    /// Begins to watch `pid`, whose memory we must be allowed to read.
    pub fn open(pid: u32) -> io::Result<Watch> {
        let id = i32::try_from(pid).ok().and_then(Pid::from_raw);
        let id = id.ok_or(io::ErrorKind::InvalidInput)?;
        Ok(Watch {
            pid,
            process: pidfd_open(id, PidfdFlags::empty())?,
            memory: File::open(format!("/proc/{pid}/mem"))?,
        })
    }

    /// The process.
    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// Which of many are gone: one question to the kernel for all of them.
    pub fn exited<'a>(watches: impl IntoIterator<Item = &'a Watch>) -> Vec<bool> {
        let watched = |watch: &'a Watch| PollFd::new(&watch.process, PollFlags::IN);
        let mut fds: Vec<PollFd<'_>> = watches.into_iter().map(watched).collect();
        let now = Timespec {
            tv_sec: 0,
            tv_nsec: 0,
        };
        let any = poll(&mut fds, Some(&now)).is_ok_and(|ready| ready > 0);
        fds.iter()
            .map(|fd| any && !fd.revents().is_empty())
            .collect()
    }

    /// Whether it has come to its end, and to which.
    pub fn end(&self) -> Option<End> {
        if Watch::exited([self]) == [true] {
            return Some(End::Exited);
        }
        self.end_of_program()
    }

    /// Whether the program that it ran when this was opened has come to its end.
    pub fn end_of_program(&self) -> Option<End> {
        if is_alive(&self.memory) {
            return None;
        }
        // The address space is gone: with its process, or exchanged by `exec`?
        match File::open(format!("/proc/{}/mem", self.pid)) {
            Ok(memory) if is_alive(&memory) => Some(End::Execed),
            // A program with more rights than ours.
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => Some(End::Execed),
            _ => Some(End::Exited),
        }
    }
}

impl AsFd for Watch {
    /// Readable as soon as the process has exited.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.process.as_fd()
    }
}

/// Whether the address space that this `/proc/PID/mem` was opened on is in use.
///
/// The open file belongs to that address space, not to whichever its process
/// has by now. Once nobody uses it, a read of any address finds the end of the
/// file; until then one of address 0, where nothing is mapped, is an error.
fn is_alive(memory: &File) -> bool {
    !matches!(memory.read_at(&mut [0], 0), Ok(0))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{BufRead, BufReader, Write};
    use std::process::{Command, Stdio};

    #[test]
    fn an_exit_is_seen() {
        let mut child = Command::new("sleep").arg("1000").spawn().unwrap();
        let watch = Watch::open(child.id()).unwrap();
        assert_eq!(watch.end(), None);
        child.kill().unwrap();
        child.wait().unwrap();
        assert_eq!(watch.end(), Some(End::Exited));
    }

    #[test]
    fn an_exec_is_seen_even_of_the_same_program() {
        let mut child = Command::new("sh")
            .args(["-c", "read go; exec sh -c 'echo new; read go'"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let watch = Watch::open(child.id()).unwrap();
        assert_eq!(watch.end(), None);
        let mut stdin = child.stdin.take().unwrap();
        stdin.write_all(b"go\n").unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap())
            .read_line(&mut line)
            .unwrap();
        assert_eq!(line, "new\n");
        assert_eq!(watch.end(), Some(End::Execed));
        drop(stdin);
        child.wait().unwrap();
        assert_eq!(watch.end(), Some(End::Exited));
    }
}
