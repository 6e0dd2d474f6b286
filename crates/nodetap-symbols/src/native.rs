//! Names of native code: the executable, its shared libraries, addons, the vDSO.
//!
//! ```no_run
//! use nodetap_symbols::native::{NativeNames, Pc};
//!
//! let mut names = NativeNames::new();
//! names.attach(32642)?;
//! if let Some(frame) = names.name(32642, Pc::Return(0xbb_845f)) {
//!     println!("{} in {}", frame.label(), frame.module);
//! }
//! # Ok::<(), std::io::Error>(())
//! ```
//!
//! Files are opened when a process is attached to, through the process itself, so
//! that they are the ones it really runs: in another mount namespace, replaced or
//! deleted meanwhile. What functions are in them is read when the first address
//! in them is asked for; after that the process may be gone.

use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use nodetap_profile::{Frame, Kind};
use nodetap_sampler::source::Source;
use rustc_hash::{FxHashMap, FxHashSet};

use crate::maps::{Content, FileId, Mapping, Maps};
use crate::module::Module;

/// How long to wait at least before the mappings are read again for an address
/// that is in none of them, and at most where reading them again never helps.
const PATIENCE: [Duration; 2] = [Duration::from_millis(50), Duration::from_secs(1)];
/// The first of these while a new thread may be mapping what it needs.
const PATIENCE_WITH_NEW_THREAD: Duration = Duration::from_millis(1);

/// A process's named addresses are forgotten beyond this many (about 5 MB).
const REMEMBERED: usize = 1 << 16;

/// The pc of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Pc {
    /// Where the thread executes: the innermost frame's.
    Own(u64),
    /// Where a call will return to. The call may have been the last instruction
    /// of its function, so it is the byte before that is looked up.
    Return(u64),
}

impl Pc {
    fn address(self) -> u64 {
        match self {
            Pc::Own(pc) => pc,
            Pc::Return(pc) => pc.wrapping_sub(1),
        }
    }
}

/// What is known of the native code at an address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NativeFrame {
    /// The function's name as [`readable`](crate::demangle::readable) gives it;
    /// `name@plt` for the stub that calls `name` in another module. Absent where
    /// no symbol covers the address.
    pub function: Option<Arc<str>>,
    /// It is one of V8's embedded builtins; `function` has no `Builtins_` then.
    pub builtin: bool,
    /// The file's path as the process sees it, or `[vdso]` and the like.
    pub module: Arc<str>,
    /// The address of the function as linked; of the code where there is none.
    pub address: u64,
    pub(crate) unnamed: Arc<str>,
}

impl NativeFrame {
    /// A frame of `function` in `module`, wherever that is.
    #[cfg(test)]
    pub(crate) fn new(function: Option<&str>, module: &str) -> Self {
        Self {
            function: function.map(Into::into),
            builtin: false,
            module: module.into(),
            address: 0,
            unnamed: format!("({module})").into(),
        }
    }

    /// The function, or where it is not known the module: `(libc.so.6)`.
    pub fn label(&self) -> &Arc<str> {
        self.function.as_ref().unwrap_or(&self.unnamed)
    }

    /// The frame for the model.
    pub fn frame(&self) -> Frame {
        let kind = if self.builtin {
            Kind::Builtin
        } else {
            Kind::Native
        };
        Frame {
            file: Some(self.module.clone()),
            ..Frame::new(kind, self.label().clone())
        }
    }
}

/// Names the native code of processes.
#[derive(Debug, Default)]
pub struct NativeNames {
    processes: FxHashMap<u32, Process>,
    files: FxHashMap<FileId, Module>,
    /// The same in all processes.
    vdso: Option<Module>,
}

#[derive(Debug)]
struct Process {
    source: Source,
    maps: Maps,
    read: Instant,
    patience: Duration,
    /// Counts the changes of the mapped files that were seen.
    state: u64,
    /// Code was not what the mappings say since they were read.
    in_doubt: bool,
    named: FxHashMap<Pc, NativeFrame>,
}

impl NativeNames {
    /// Nothing known yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Reads the mappings of a process and opens its files. To be called again
    /// when it has executed another program.
    ///
    /// # Errors
    /// Those of [`Source::mappings`]. Files that cannot be opened are no error:
    /// their functions have no names.
    pub fn attach(&mut self, source: impl Into<Source>) -> io::Result<()> {
        let source = source.into();
        let pid = source.pid();
        let process = Process {
            maps: Maps::read(&source)?,
            source,
            read: Instant::now(),
            patience: PATIENCE[0],
            state: 0,
            in_doubt: false,
            named: FxHashMap::default(),
        };
        self.processes.insert(pid, process);
        self.open_files(pid);
        Ok(())
    }

    /// Forgets process `pid`, and closes the files that nobody else has mapped, unless
    /// their functions have been read: the next process may run the same program.
    pub fn detach(&mut self, pid: u32) {
        if self.processes.remove(&pid).is_none() {
            return;
        }
        let mappings = || self.processes.values().flat_map(|it| it.maps.files());
        let mapped: FxHashSet<&FileId> = mappings()
            .filter_map(|mapping| match &mapping.content {
                Content::File(id) => Some(id),
                _ => None,
            })
            .collect();
        self.files
            .retain(|id, module| module.is_read() || mapped.contains(id));
    }

    /// What is at `pc` in process `pid`; `None` unless it is a file's code, or the
    /// kernel's in user space.
    pub fn name(&mut self, pid: u32, pc: Pc) -> Option<NativeFrame> {
        if let Some(frame) = self.processes.get(&pid)?.named.get(&pc) {
            return Some(frame.clone());
        }
        let frame = self.look_up(pid, pc.address())?;
        let process = self.processes.get_mut(&pid)?;
        if process.named.len() >= REMEMBERED {
            process.named.clear();
        }
        process.named.insert(pc, frame.clone());
        Some(frame)
    }

    /// Whether there is executable memory at `address` in process `pid`, as far as
    /// its mappings are known: they are not read again, so that any word may be
    /// asked about.
    pub fn is_executable(&self, pid: u32, address: u64) -> bool {
        self.processes
            .get(&pid)
            .is_some_and(|process| process.maps.find(address).is_some())
    }

    /// Whether a file's code is at `address` in process `pid`, or the kernel's.
    pub fn is_native(&mut self, pid: u32, address: u64) -> bool {
        self.mapping(pid, address)
            .is_some_and(|mapping| mapping.content != Content::Anonymous)
    }

    /// Which state of the mappings of process `pid` is known: another number whenever
    /// other files were found to be mapped.
    pub fn state(&self, pid: u32) -> u64 {
        self.processes.get(&pid).map_or(0, |process| process.state)
    }

    /// There was code in process `pid` that is not what its mappings say.
    pub fn doubt(&mut self, pid: u32) {
        if let Some(process) = self.processes.get_mut(&pid) {
            process.in_doubt = true;
        }
    }

    /// Reads the mappings of process `pid` again, if they are in doubt, or now if it
    /// has a `new_thread`: one that runs an isolate of its own brings a copy of the
    /// builtins, and may map it where the code of an isolate was that has ended. Tells
    /// whether they were read.
    pub fn look_again(&mut self, pid: u32, new_thread: bool) -> bool {
        let Some(process) = self.processes.get_mut(&pid) else {
            return false;
        };
        if new_thread {
            process.patience = PATIENCE_WITH_NEW_THREAD;
        }
        let is_due = new_thread || process.in_doubt && process.read.elapsed() >= process.patience;
        if is_due {
            self.read_again(pid);
        }
        is_due
    }

    fn read_again(&mut self, pid: u32) {
        let Some(process) = self.processes.get_mut(&pid) else {
            return;
        };
        process.read = Instant::now();
        process.patience = PATIENCE[1].min(process.patience * 2);
        process.in_doubt = false;
        // It may have ended: what was known of it still holds.
        let maps = Maps::read(&process.source).ok();
        let Some(maps) = maps.filter(|maps| maps.iter().next().is_some()) else {
            return;
        };
        // Another library may be where one was unloaded. (Mostly it is V8
        // that has compiled more.)
        if !maps.files().eq(process.maps.files()) {
            process.patience = PATIENCE[0].min(process.patience);
            process.state += 1;
            process.named.clear();
        }
        process.maps = maps;
        self.open_files(pid);
    }

    /// What is mapped at `address`. The mappings are read again for an address in
    /// none of them, but not time and again.
    fn mapping(&mut self, pid: u32, address: u64) -> Option<&Mapping> {
        let process = self.processes.get(&pid)?;
        if process.maps.find(address).is_none() {
            if process.read.elapsed() < process.patience {
                return None;
            }
            self.read_again(pid);
        }
        self.processes.get(&pid)?.maps.find(address)
    }

    fn look_up(&mut self, pid: u32, address: u64) -> Option<NativeFrame> {
        let mapping = self.mapping(pid, address)?.clone();
        let source = &self.processes.get(&pid)?.source;
        let module = match &mapping.content {
            Content::Anonymous => return None,
            Content::Special(name) => {
                return Some(NativeFrame {
                    function: None,
                    builtin: false,
                    module: name.clone(),
                    address,
                    unnamed: name.clone(),
                });
            }
            Content::File(id) => self.files.get_mut(id)?,
            Content::Vdso => self.vdso.get_or_insert_with(|| Module::vdso(source)),
        };
        let offset = match mapping.content {
            Content::Vdso => address - mapping.start,
            _ => mapping.offset_of(address),
        };
        Some(module.frame(source, offset))
    }

    /// Opens the files that process `pid` has mapped, those not opened yet.
    fn open_files(&mut self, pid: u32) {
        let Some(process) = self.processes.get(&pid) else {
            return;
        };
        for mapping in process.maps.files() {
            let Content::File(id) = &mapping.content else {
                continue;
            };
            if !self.files.contains_key(id) {
                let range = (mapping.start, mapping.end);
                self.files
                    .insert(id.clone(), Module::open(&process.source, id, range));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs::{self, File};
    use std::io::{Read, Write};
    use std::path::Path;
    use std::process::{Child, Command, Stdio};

    use super::*;

    fn own_names() -> (NativeNames, u32) {
        let pid = std::process::id();
        let mut names = NativeNames::new();
        names.attach(pid).unwrap();
        (names, pid)
    }

    #[inline(never)]
    fn landmark(value: u64) -> u64 {
        std::hint::black_box(value).wrapping_mul(5)
    }

    #[test]
    fn a_function_of_the_executable_has_its_name_and_path() {
        let (mut names, pid) = own_names();
        let start = landmark as fn(u64) -> u64 as usize as u64;
        let frame = names.name(pid, Pc::Own(start + 1)).unwrap();
        let function = frame.function.clone().unwrap();
        assert_eq!(&*function, "nodetap_symbols::native::tests::landmark");
        assert_eq!(Path::new(&*frame.module), std::env::current_exe().unwrap());
        assert!(!frame.builtin);
        assert_eq!(frame.label(), &function);
        assert_eq!(names.name(pid, Pc::Own(start)).unwrap(), frame);
        // A call that returns to the first byte was made in the function before.
        let before = names.name(pid, Pc::Return(start)).unwrap();
        assert_ne!(before.function, Some(function));
        assert_eq!(names.name(pid, Pc::Return(start + 1)).unwrap(), frame);
        assert!(names.is_native(pid, start) && names.is_executable(pid, start));
    }

    #[test]
    fn a_function_of_a_shared_library_is_found() {
        // Not this process: it may be linked statically.
        let mut child = std::process::Command::new("sleep")
            .arg("60")
            .spawn()
            .unwrap();
        let pid = child.id();
        let is_libc = |mapping: &&crate::maps::Mapping| match &mapping.content {
            Content::File(id) => id.name().starts_with("libc.so") || id.name().contains("musl"),
            _ => false,
        };
        // Its libraries are there a moment after its start.
        let mut names = NativeNames::new();
        let mut libc = None;
        for _ in 0..200 {
            std::thread::sleep(Duration::from_millis(10));
            names.attach(pid).unwrap();
            let maps = &names.processes[&pid].maps;
            libc = maps.iter().find(is_libc).map(|it| (it.start, it.end));
            if libc.is_some() {
                break;
            }
        }
        let libc = libc.expect("the C library of sleep");
        let mut exported = 0;
        for address in (libc.0..libc.1).step_by(64) {
            let frame = names.name(pid, Pc::Own(address)).unwrap();
            if frame.function.as_deref() == Some("getenv") {
                exported += 1;
            }
            assert!(frame.module.contains("libc") || frame.module.contains("musl"));
        }
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(exported > 0);
    }

    #[test]
    fn the_vdso_is_named_from_memory() {
        let (mut names, pid) = own_names();
        let vdso = names.processes[&pid]
            .maps
            .iter()
            .find(|mapping| mapping.content == Content::Vdso)
            .map(|mapping| (mapping.start, mapping.end))
            .unwrap();
        let found: std::collections::BTreeSet<_> = (vdso.0..vdso.1)
            .step_by(16)
            .map(|address| names.name(pid, Pc::Own(address)).unwrap())
            .inspect(|frame| assert_eq!(&*frame.module, "[vdso]"))
            .map(|frame| frame.label().to_string())
            .collect();
        assert!(
            found.iter().any(|name| name.ends_with("clock_gettime")),
            "{found:?}"
        );
    }

    #[test]
    fn what_is_mapped_later_is_found() {
        let (mut names, pid) = own_names();
        let file = File::open("/bin/cat").unwrap();
        // SAFETY: nobody writes to this file; what is mapped is not looked at.
        let late = unsafe { memmap2::MmapOptions::new().map_exec(&file) }.unwrap();
        let address = late.as_ptr() as u64;
        let frame = loop {
            if let Some(frame) = names.name(pid, Pc::Own(address)) {
                break frame;
            }
            std::thread::yield_now();
        };
        assert_eq!(frame.function, None, "its header is no function");
        assert_eq!(&**frame.label(), "(cat)");
        assert!(names.is_native(pid, address));
    }

    #[test]
    fn data_and_nothing_have_no_name() {
        let (mut names, pid) = own_names();
        let on_heap = Box::new(7_u64);
        for address in [0, 8, &raw const *on_heap as u64, u64::MAX] {
            assert_eq!(names.name(pid, Pc::Own(address)), None);
            assert_eq!(names.name(pid, Pc::Return(address)), None);
            assert!(!names.is_native(pid, address));
            assert!(!names.is_executable(pid, address));
        }
        assert_eq!(names.name(pid + 1, Pc::Own(0)), None, "not attached to");
        names.detach(pid);
        let start = landmark as fn(u64) -> u64 as usize as u64;
        assert_eq!(names.name(pid, Pc::Own(start)), None);
        assert!(names.attach(u32::MAX - 1).is_err());
    }

    struct Killed(Child);

    impl Drop for Killed {
        fn drop(&mut self) {
            let _ = self.0.kill();
            let _ = self.0.wait();
        }
    }

    /// The names of every 16th address of the executable of `child`.
    fn functions_of(child: &Child, path: &Path) -> Vec<Arc<str>> {
        let mut names = NativeNames::new();
        names.attach(child.id()).unwrap();
        let code: Vec<_> = names.processes[&child.id()]
            .maps
            .iter()
            .filter(|mapping| match &mapping.content {
                Content::File(id) => *id.path == *path,
                _ => false,
            })
            .map(|mapping| (mapping.start, mapping.end))
            .collect();
        assert!(!code.is_empty());
        code.iter()
            .flat_map(|&(start, end)| (start..end).step_by(16))
            .filter_map(|address| names.name(child.id(), Pc::Own(address))?.function)
            .collect()
    }

    #[test]
    fn a_deleted_and_a_replaced_executable_is_still_the_one_that_runs() {
        let directory = std::env::temp_dir().join(format!("nodetap-native-{}", std::process::id()));
        fs::create_dir_all(&directory).unwrap();
        let path = directory.join("parrot");
        fs::copy("/bin/cat", &path).unwrap();
        let mut child = Command::new(&path)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .map(Killed)
            .unwrap();
        // When it answers, all of it is mapped.
        let (mut stdin, mut stdout) = (child.0.stdin.take(), child.0.stdout.take());
        stdin.as_mut().unwrap().write_all(b"?").unwrap();
        stdout.as_mut().unwrap().read_exact(&mut [0]).unwrap();
        let expected = functions_of(&child.0, &path);
        assert!(
            expected.iter().any(|name| name.ends_with("@plt")),
            "it calls libc through stubs: {expected:?}"
        );
        fs::remove_file(&path).unwrap();
        assert_eq!(functions_of(&child.0, &path), expected);
        fs::write(&path, "no program").unwrap();
        assert_eq!(functions_of(&child.0, &path), expected);
        fs::remove_dir_all(&directory).unwrap();
    }
}
