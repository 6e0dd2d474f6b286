//! Finding the Node.js processes of this machine.
//!
//! A process counts as Node.js if its executable, or the `libnode` that it is
//! linked with, has V8's metadata, whatever it is called; or, where we may not
//! look into it, if it is called `node`.

pub(crate) mod binary;

use std::collections::HashMap;
use std::ffi::OsString;
use std::fs::{self, File};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use nodetap_v8::Layout;
use nodetap_v8::layout::UnknownLayout;
use procfs::process::{MMapPath, Process};

use crate::image::Image;
use binary::Binary;

/// One Node.js process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeProcess {
    /// Its id.
    pub pid: u32,
    /// Its command line, one argument an entry.
    pub command: Vec<String>,
    /// How many threads it has.
    pub threads: usize,
    /// Node's version as Node writes it, `v24.21.0`, where it could be read.
    pub node: Option<String>,
    /// V8's version, `13.6.233.17-node.53`, where it could be read.
    pub v8: Option<String>,
    /// What keeps its stacks from being named, if something does.
    pub obstacle: Option<Obstacle>,
}

/// Why a process cannot be profiled, whatever the sampler.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Obstacle {
    /// We may not read its memory.
    #[error("permission denied")]
    Permission,
    /// V8 was built without what tells its memory's layout.
    #[error("its V8 has no metadata (v8dbg_* symbols)")]
    NoMetadata,
    /// V8's memory is not laid out in a way that is known.
    #[error(transparent)]
    UnknownV8(#[from] UnknownLayout),
}

/// Every Node.js process that can be seen from here, by process id.
///
/// Reads a little of each distinct executable and all constants of those that
/// are Node.js; no process is disturbed, and none that ends meanwhile is an
/// error.
pub fn node_processes() -> io::Result<Vec<NodeProcess>> {
    let mut binaries = Binaries::default();
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc")? {
        let name = entry?.file_name();
        let Some(pid) = name.to_str().and_then(|name| name.parse().ok()) else {
            continue;
        };
        found.extend(look_at(pid, &mut binaries));
    }
    found.sort_by_key(|process: &NodeProcess| process.pid);
    Ok(found)
}

/// The CPU time that the living threads of a process have used, to the
/// nanosecond. Nothing where the process is gone or the kernel does not tell.
pub fn cpu_time(pid: u32) -> Option<Duration> {
    let mut total = Duration::ZERO;
    for thread in fs::read_dir(format!("/proc/{pid}/task")).ok()? {
        // A thread may end at any moment.
        let Ok(text) = thread.and_then(|it| fs::read_to_string(it.path().join("schedstat"))) else {
            continue;
        };
        total += Duration::from_nanos(text.split_whitespace().next()?.parse().ok()?);
    }
    Some(total)
}

/// The processes that `pid` has started and that have not ended, as far as they are
/// still its children.
pub fn children(pid: u32) -> Vec<u32> {
    let mut children = Vec::new();
    let threads = fs::read_dir(format!("/proc/{pid}/task"));
    for thread in threads.into_iter().flatten().flatten() {
        match fs::read_to_string(thread.path().join("children")) {
            Ok(list) => children.extend(
                list.split_whitespace()
                    .filter_map(|id| id.parse::<u32>().ok()),
            ),
            // A thread may end at any moment; a kernel without such files
            // (CONFIG_PROC_CHILDREN) tells in another way.
            Err(_) if thread.path().join("stat").exists() => return children_by_parent(pid),
            Err(_) => {}
        }
    }
    children
}

/// Whether process `pid` runs a program of its own; not so between a fork and the exec
/// that follows it, when it runs its parent's. `None` where it has ended.
pub fn has_own_program(pid: u32) -> Option<bool> {
    /// `PF_FORKNOEXEC` in `include/linux/sched.h`
    const FORKED: u32 = 0x40;
    let stat = Process::new(pid as i32).ok()?.stat().ok()?;
    match stat.state {
        'Z' | 'X' => None,
        _ => Some(stat.flags & FORKED == 0),
    }
}

/// The children of `pid`, by looking at every process there is.
fn children_by_parent(pid: u32) -> Vec<u32> {
    let processes = procfs::process::all_processes().into_iter().flatten();
    processes
        .filter_map(|process| process.ok()?.stat().ok())
        .filter(|stat| stat.ppid.unsigned_abs() == pid)
        .map(|stat| stat.pid.unsigned_abs())
        .collect()
}

/// The process, if it is Node.js.
fn look_at(pid: u32, binaries: &mut Binaries) -> Option<NodeProcess> {
    let proc = PathBuf::from(format!("/proc/{pid}"));
    let executable = proc.join("exe");
    let named_node = is_called_node(&proc);
    let (looked_up, readable) = match binaries.get(&executable, named_node) {
        Ok(looked_up) => (looked_up, true),
        // Not ours to look into: its name is all there is.
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied && named_node => {
            (LookedUp::default(), false)
        }
        Err(_) => return None,
    };
    let looked_up = match &looked_up.binary.library {
        Some(library) if !looked_up.binary.has_metadata => {
            let library = mapped_file(pid, library);
            let library = library.and_then(|path| binaries.get(&path, named_node).ok());
            library.unwrap_or(looked_up)
        }
        _ => looked_up,
    };
    let is_node = looked_up.binary.has_metadata || looked_up.binary.node.is_some() || !readable;
    if !is_node {
        return None;
    }
    let obstacle = if !readable || File::open(proc.join("mem")).is_err() {
        Some(Obstacle::Permission)
    } else if !looked_up.binary.has_metadata {
        Some(Obstacle::NoMetadata)
    } else {
        looked_up.unknown.map(Obstacle::UnknownV8)
    };
    Some(NodeProcess {
        pid,
        command: command(&proc),
        threads: fs::read_dir(proc.join("task")).ok()?.count(),
        node: looked_up.binary.node,
        v8: looked_up.binary.v8,
        obstacle,
    })
}

/// What was found out about a file.
#[derive(Clone, Debug, Default)]
struct LookedUp {
    binary: Binary,
    /// What is not known of its V8's memory.
    unknown: Option<UnknownLayout>,
}

/// Files that were looked at, by device and inode, and whether for a process
/// that is called `node`: these are looked at more closely.
#[derive(Debug, Default)]
struct Binaries(HashMap<(u64, u64, bool), LookedUp>);

impl Binaries {
    fn get(&mut self, path: &Path, named_node: bool) -> io::Result<LookedUp> {
        let metadata = fs::metadata(path)?;
        let key = (metadata.dev(), metadata.ino(), named_node);
        if let Some(looked_up) = self.0.get(&key) {
            return Ok(looked_up.clone());
        }
        let binary = Binary::read(&File::open(path)?, named_node).unwrap_or_default();
        let looked_up = LookedUp {
            unknown: unknown_layout(path, &binary),
            binary,
        };
        self.0.insert(key, looked_up.clone());
        Ok(looked_up)
    }
}

/// What is not known of the memory of the V8 in this file. (Attaching looks
/// again, at the live process.)
fn unknown_layout(path: &Path, binary: &Binary) -> Option<UnknownLayout> {
    if !binary.has_metadata {
        return None;
    }
    let version = binary.v8.as_ref()?.parse().ok()?;
    let image = Image::open(path).ok()?;
    Layout::new(version, &image.metadata).err()
}

/// Whether the executable, the first argument or the process is called `node`.
/// (Node calls its main thread, which names the process, `node-MainThread` in
/// some versions, `MainThread` in others.)
fn is_called_node(proc: &Path) -> bool {
    let is_node = |path: &Path| {
        let name = path.file_name().unwrap_or_default().as_bytes();
        name == b"node" || name == b"nodejs"
    };
    fs::read_link(proc.join("exe")).is_ok_and(|path| is_node(&path))
        || command(proc).first().is_some_and(|it| is_node(it.as_ref()))
        || fs::read(proc.join("comm"))
            .is_ok_and(|name| name == b"node\n" || name == b"node-MainThread\n")
}

/// The command line; empty where there is none.
fn command(proc: &Path) -> Vec<String> {
    let bytes = fs::read(proc.join("cmdline")).unwrap_or_default();
    let bytes = bytes.strip_suffix(b"\0").unwrap_or(&bytes);
    if bytes.is_empty() {
        return Vec::new();
    }
    bytes
        .split(|&byte| byte == 0)
        .map(|argument| String::from_utf8_lossy(argument).into_owned())
        .collect()
}

/// Where the process has a file of this name from, as a path that leads there
/// from our mount namespace.
fn mapped_file(pid: u32, name: &str) -> Option<PathBuf> {
    let process = Process::new(i32::try_from(pid).ok()?).ok()?;
    process.maps().ok()?.into_iter().find_map(|map| {
        let MMapPath::Path(path) = map.pathname else {
            return None;
        };
        // The library may be a link to a file with more in its name.
        if !path.file_name()?.as_bytes().starts_with(name.as_bytes()) {
            return None;
        }
        let mut outside = OsString::from(format!("/proc/{pid}/root"));
        outside.push(path);
        Some(outside.into())
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::Command;

    #[test]
    fn we_are_no_node() {
        let mut binaries = Binaries::default();
        assert_eq!(look_at(std::process::id(), &mut binaries), None);
        assert_eq!(binaries.0.len(), 1);
    }

    #[test]
    fn a_process_called_node_is_not_yet_node() {
        let dir = std::env::temp_dir().join(format!("nodetap-discover-{}", std::process::id()));
        fs::create_dir_all(&dir).unwrap();
        let node = dir.join("node");
        // By another process: what this one has open for writing, a child that another test
        // starts meanwhile has too, and then nobody may run it.
        let copied = Command::new("cp").arg("/bin/sleep").arg(&node).status();
        assert!(copied.unwrap().success());
        let mut child = Command::new(&node).arg("1000").spawn().unwrap();
        // Until the child has exec'ed it is a copy of us, and no Node either.
        let found = look_at(child.id(), &mut Binaries::default());
        child.kill().unwrap();
        child.wait().unwrap();
        fs::remove_dir_all(&dir).unwrap();
        assert_eq!(found, None);
    }

    #[test]
    fn cpu_time_grows_while_we_work() {
        let pid = std::process::id();
        let before = cpu_time(pid).unwrap();
        let mut x = 1_u64;
        while cpu_time(pid).unwrap() <= before {
            x = std::hint::black_box(x.wrapping_mul(3));
        }
        assert_eq!(cpu_time(u32::MAX), None);
    }

    #[test]
    fn a_command_line_keeps_its_empty_arguments() {
        let mut child = Command::new("sh")
            .args(["-c", "read x", "", "two words", ""])
            .stdin(std::process::Stdio::piped())
            .spawn()
            .unwrap();
        // While a process executes a new program it has no command line for a moment,
        // and `spawn` may return within that moment.
        let proc = PathBuf::from(format!("/proc/{}", child.id()));
        let found = loop {
            let found = command(&proc);
            if !found.is_empty() || !proc.exists() {
                break found;
            }
            std::thread::sleep(std::time::Duration::from_millis(1));
        };
        drop(child.stdin.take());
        child.wait().unwrap();
        assert_eq!(found, ["sh", "-c", "read x", "", "two words", ""]);
    }
}
