//! Where a process is looked at: alive, or in the core file that it left.

use std::fs::{self, File};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::core::Core;
use crate::memory::ProcessMemory;

/// What the kernel tells of a process, from the kernel or from a core file.
#[derive(Clone, Debug)]
pub enum Source {
    /// The process with this number, which runs.
    Alive(u32),
    /// One that does no more, or went on.
    Core(Arc<Core>),
}

impl From<u32> for Source {
    fn from(pid: u32) -> Source {
        Source::Alive(pid)
    }
}

impl Source {
    /// The process's number.
    pub fn pid(&self) -> u32 {
        match self {
            Source::Alive(pid) => *pid,
            Source::Core(core) => core.pid(),
        }
    }

    /// Its mappings, as in `/proc/PID/maps`.
    ///
    /// # Errors
    /// Where it is gone, or not ours to look at.
    pub fn mappings(&self) -> io::Result<Vec<u8>> {
        match self {
            Source::Alive(pid) => fs::read(format!("/proc/{pid}/maps")),
            Source::Core(core) => Ok(core.mappings()),
        }
    }

    /// Its memory.
    ///
    /// # Errors
    /// As with [`ProcessMemory::open`].
    pub fn memory(&self) -> io::Result<ProcessMemory> {
        match self {
            Source::Alive(pid) => ProcessMemory::open(*pid),
            Source::Core(core) => Ok(ProcessMemory::of_core(core.clone())),
        }
    }

    /// The path of its executable as it sees that.
    pub fn executable(&self) -> Option<PathBuf> {
        match self {
            Source::Alive(pid) => fs::read_link(format!("/proc/{pid}/exe")).ok(),
            Source::Core(core) => Some(core.executable().to_owned()),
        }
    }

    /// The name of one of its threads; empty where that cannot be told.
    pub fn thread_name(&self, tid: u32) -> String {
        match self {
            Source::Alive(pid) => {
                let name = fs::read(format!("/proc/{pid}/task/{tid}/comm")).unwrap_or_default();
                String::from_utf8_lossy(&name).trim_end().to_owned()
            }
            Source::Core(core) => core.thread_name(tid).to_owned(),
        }
    }

    /// Opens the file that is mapped at `start..end`: the very same, whatever its
    /// name leads to today. `path` is that name, `inode` the file's number.
    pub fn open(&self, (start, end): (u64, u64), path: &Path, inode: u64) -> Option<File> {
        let pid = match self {
            Source::Alive(pid) => pid,
            Source::Core(core) => return File::open(core.file_at(start)?).ok(),
        };
        // Needs CAP_SYS_ADMIN or CAP_CHECKPOINT_RESTORE.
        let mapped = PathBuf::from(format!("/proc/{pid}/map_files/{start:x}-{end:x}"));
        // Of these two it must be made sure that they are the file that was mapped.
        let executable = PathBuf::from(format!("/proc/{pid}/exe"));
        let by_name = self.in_root(path);
        [(mapped, false), (executable, true), (by_name, true)]
            .into_iter()
            .find_map(|(path, check)| {
                // Nothing that acts on being opened.
                let metadata = fs::metadata(&path).ok().filter(fs::Metadata::is_file)?;
                if check && metadata.ino() != inode {
                    return None;
                }
                let file = File::open(&path).ok()?;
                let opened = file.metadata().ok()?;
                (opened.ino() == metadata.ino() && opened.dev() == metadata.dev()).then_some(file)
            })
    }

    /// `path` as the process sees it, in its mount namespace and root directory.
    pub fn in_root(&self, path: &Path) -> PathBuf {
        let Source::Alive(pid) = self else {
            return path.to_owned();
        };
        let mut inside = format!("/proc/{pid}/root").into_bytes();
        if !path.as_os_str().as_bytes().starts_with(b"/") {
            inside.push(b'/');
        }
        inside.extend_from_slice(path.as_os_str().as_bytes());
        PathBuf::from(std::ffi::OsStr::from_bytes(&inside))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_looked_up_in_the_processs_own_root() {
        let source = Source::from(7);
        assert_eq!(
            source.in_root(Path::new("/usr/bin/node")),
            Path::new("/proc/7/root/usr/bin/node")
        );
        assert_eq!(source.in_root(Path::new("x")), Path::new("/proc/7/root/x"));
    }
}
