//! What the program in the kernel knows of a process's code: where it is, and how
//! to unwind it.
//!
//! The tables of files ([`Table`]) are made by a thread beside, which takes a tenth
//! of a second for a Node.js binary; until they are there, walks go by frame
//! pointers. Processes that run the same file share its table.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::PathBuf;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;
use std::time::{Duration, Instant};

use aya::Pod;
use aya::maps::{Array, HashOfMaps, IterableMap, Map, MapData};
use nodetap_v8::Memory;
use procfs::FromBufRead;
use procfs::process::{MMPermissions, MMapPath, MemoryMap, MemoryMaps};
use rustc_hash::FxHashMap;
use tracing::debug;

use super::error::Error;
use super::keeper::absent_is_fine;
use super::shared::{CodeMapping, MAX_MAPPINGS, UnwindRow};
use crate::source::Source;
use crate::unwind::Table;
use crate::unwind::file::{self, Backing, Elf};
use crate::unwind::table::Row;

/// So many threads wait for the kernel at once.
const MOST_AT_ONCE: usize = 16;

/// Flags of maps: they may be mapped, and replaced by others of another size where
/// they are inside a map (`include/uapi/linux/bpf.h`).
const MMAPABLE: u32 = 1 << 10;
const INNER: u32 = 1 << 12;

/// How long a process's mappings are believed at least. Doubles, where looking again
/// has told nothing new.
const PATIENCE: Duration = Duration::from_millis(50);
const LONGEST_PATIENCE: Duration = Duration::from_secs(6);

// SAFETY: `repr(C)`, integers only, no padding.
unsafe impl aya::Pod for CodeMapping {}
// The kernel has rows as values of a map.
const _: () = assert!(size_of::<Row>() == size_of::<UnwindRow>());

/// A file, as the kernel numbers it, with its name; the vDSO has no number.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct FileKey {
    device: (i32, i32),
    inode: u64,
    path: PathBuf,
}

/// A file's table.
#[derive(Clone, Copy, Debug)]
enum State {
    /// It is being made.
    Awaited,
    /// The kernel has it under this number.
    Loaded { number: u32, rows: u32 },
    /// There is nothing in it.
    Empty,
}

/// Executable memory of a process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Code {
    start: u64,
    end: u64,
    /// The file that is there, and where its lowest address is.
    file: Option<(FileKey, u64)>,
}

struct Process {
    code: Vec<Code>,
    /// Under which the kernel knows it; 0: it does not.
    generation: u64,
    looked: Instant,
    patience: Duration,
    /// Code was met that was not there when its mappings were read.
    has_new_code: bool,
}

/// What is to be put into a process's configuration.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Told {
    /// `ProcessConfig::code_mappings`
    pub mappings: u64,
    /// `ProcessConfig::code_generation`
    pub generation: u64,
}

/// The code of all processes that are sampled.
pub(super) struct KnownCode {
    tables: Outer<u32, u64>,
    /// By generation, so that what is told of a process changes all at once.
    code: Outer<u64, CodeMapping>,
    files: Files,
    processes: FxHashMap<u32, Process>,
    generation: u64,
    /// Those that no process has any more, as soon as the kernel is told so.
    outdated: Vec<u64>,
    last_table: u32,
}

/// The files that processes execute.
pub(super) struct Files {
    known: FxHashMap<FileKey, State>,
    reader: Reader,
}

/// A map of the program's that has arrays in it.
pub(super) struct Outer<K, V: Pod> {
    map: HashOfMaps<MapData, K, Array<MapData, V>>,
    /// The same map.
    fd: OwnedFd,
    /// To be put into it.
    new: Vec<(K, Array<MapData, V>)>,
}

/// Puts one thing into a map.
type Insert = Box<dyn FnOnce() -> Result<(), Error> + Send>;

impl<K: Pod + Send, V: Pod + Send> Outer<K, V> {
    /// `map` is the program's.
    pub fn new(map: Map) -> Result<Self, Error> {
        let Map::HashOfMaps(data) = &map else {
            return Err(Error::Object("a map of maps is of another kind".to_owned()));
        };
        let fd = copy(data.fd().as_fd())?;
        Ok(Outer {
            map: HashOfMaps::try_from(map)?,
            fd,
            new: Vec::new(),
        })
    }

    /// What is new, each to be put into it by whoever likes.
    fn inserts(&mut self) -> Result<Vec<Insert>, Error> {
        let Outer { fd, new, .. } = self;
        let inserts = new.drain(..).map(|(key, array)| -> Result<Insert, Error> {
            let map = MapData::from_fd(copy(fd.as_fd())?)?;
            let mut map: HashOfMaps<_, K, _> = HashOfMaps::try_from(Map::HashOfMaps(map))?;
            Ok(Box::new(move || Ok(map.insert(key, &array, 0)?)))
        });
        inserts.collect()
    }
}

fn copy(fd: BorrowedFd<'_>) -> Result<OwnedFd, Error> {
    fd.try_clone_to_owned().map_err(|source| Error::System {
        call: "dup".to_owned(),
        source,
    })
}

impl KnownCode {
    /// No processes yet. The maps are those of the program's `tables` and `code`.
    pub fn new(files: Files, tables: Outer<u32, u64>, code: Outer<u64, CodeMapping>) -> KnownCode {
        KnownCode {
            tables,
            code,
            files,
            processes: FxHashMap::default(),
            generation: 0,
            outdated: Vec::new(),
            last_table: 0,
        }
    }

    /// Looks what a process executes, which is told with the next [`refresh`](Self::refresh).
    pub fn add(&mut self, pid: u32) {
        let process = Process {
            code: self.files.look(pid),
            generation: 0,
            looked: Instant::now(),
            patience: PATIENCE,
            has_new_code: false,
        };
        if let Some(before) = self.processes.insert(pid, process) {
            self.outdated.push(before.generation);
        }
    }

    /// Whether no tables are being made.
    pub fn has_all_tables(&self) -> bool {
        let mut states = self.files.known.values();
        !states.any(|state| matches!(state, State::Awaited))
    }

    /// Whether there is nothing to be done before anything else becomes known.
    pub fn is_settled(&self) -> bool {
        let mut processes = self.processes.values();
        self.has_all_tables() && !processes.any(|process| process.has_new_code)
    }

    /// Takes the tables that have been made, to be published. Returns whose they are.
    fn take_tables(&mut self) -> Result<Vec<FileKey>, Error> {
        let mut taken = Vec::new();
        while let Some((key, table)) = self.files.reader.next() {
            // Whoever has run it may have ended.
            if self.files.known.contains_key(&key) {
                let state = self.load(&table)?;
                self.files.known.insert(key.clone(), state);
                taken.push(key);
            }
        }
        Ok(taken)
    }

    /// Gives the kernel what has been put together. Each piece takes until no program on any
    /// CPU may see what was there before; many at once take no longer than one.
    fn publish(&mut self) -> Result<(), Error> {
        let mut inserts = self.tables.inserts()?;
        inserts.extend(self.code.inserts()?);
        let each = inserts.len().div_ceil(MOST_AT_ONCE).max(1);
        thread::scope(|scope| {
            let mut threads = Vec::new();
            while !inserts.is_empty() {
                let some = inserts.split_off(inserts.len().saturating_sub(each));
                let work = move || some.into_iter().try_for_each(|insert| insert());
                threads.push(thread::Builder::new().spawn_scoped(scope, work));
            }
            for thread in threads {
                let thread = thread.map_err(|source| Error::System {
                    call: "clone".to_owned(),
                    source,
                })?;
                match thread.join() {
                    Ok(inserted) => inserted?,
                    Err(panic) => std::panic::resume_unwind(panic),
                }
            }
            Ok(())
        })
    }

    /// Forgets a process, and what only it has run.
    pub fn remove(&mut self, pid: u32) {
        if let Some(process) = self.processes.remove(&pid) {
            self.outdated.push(process.generation);
        }
    }

    /// Notes that there is code in this process that was not there before.
    pub fn met_new_code(&mut self, pid: u32) {
        if let Some(process) = self.processes.get_mut(&pid) {
            process.has_new_code = true;
        }
    }

    /// Looks again where there is new code, takes in what tables have been made, and
    /// returns the processes of which something else is to be told now.
    pub fn refresh(&mut self) -> Result<Vec<(u32, Told)>, Error> {
        let taken = self.take_tables()?;
        let is_taken = |code: &Code| matches!(&code.file, Some((file, _)) if taken.contains(file));
        let processes = self.processes.iter();
        let mut changed: Vec<u32> = processes
            .filter(|(_, process)| process.generation == 0 || process.code.iter().any(is_taken))
            .map(|(&pid, _)| pid)
            .collect();
        let is_due = |process: &Process| {
            process.has_new_code && process.looked.elapsed() >= process.patience
        };
        let due = self.processes.iter().filter(|(_, process)| is_due(process));
        let due: Vec<u32> = due.map(|(&pid, _)| pid).collect();
        for pid in due {
            let code = self.files.look(pid);
            let Some(process) = self.processes.get_mut(&pid) else {
                continue;
            };
            process.has_new_code = false;
            process.looked = Instant::now();
            if process.code == code {
                process.patience = (process.patience * 2).min(LONGEST_PATIENCE);
            } else {
                process.patience = PATIENCE;
                process.code = code;
                changed.push(pid);
            }
        }
        changed.sort_unstable();
        changed.dedup();
        let told: Result<Vec<_>, Error> = changed
            .into_iter()
            .map(|pid| Ok((pid, self.tell(pid)?)))
            .collect();
        self.publish()?;
        told
    }

    /// Puts together what is known of a process's code, to be published.
    fn tell(&mut self, pid: u32) -> Result<Told, Error> {
        let Some(process) = self.processes.get_mut(&pid) else {
            return Ok(Told::default());
        };
        if process.generation != 0 {
            self.outdated.push(process.generation);
        }
        process.generation = 0;
        // There are no empty maps.
        let Some(size) = u32::try_from(process.code.len()).ok().filter(|&it| it > 0) else {
            return Ok(Told::default());
        };
        let mut map: Array<MapData, CodeMapping> = Array::create(size, INNER)?;
        for (index, code) in (0..).zip(&process.code) {
            let state = code
                .file
                .as_ref()
                .and_then(|(key, _)| self.files.known.get(key));
            let (table, rows) = match state {
                Some(&State::Loaded { number, rows }) => (number, rows),
                _ => (0, 0),
            };
            let mapping = CodeMapping {
                start: code.start,
                end: code.end,
                base: code.file.as_ref().map_or(0, |&(_, base)| base),
                table,
                rows,
                is_file: u64::from(code.file.is_some()),
            };
            map.set(index, mapping, 0)?;
        }
        self.generation += 1;
        process.generation = self.generation;
        self.code.new.push((self.generation, map));
        Ok(Told {
            mappings: size.into(),
            generation: self.generation,
        })
    }

    fn load(&mut self, table: &Table) -> Result<State, Error> {
        let Some(rows) = u32::try_from(table.rows.len()).ok().filter(|&it| it > 0) else {
            return Ok(State::Empty);
        };
        let map: Array<MapData, u64> = Array::create(rows, INNER | MMAPABLE)?;
        let fd = map.map().fd().as_fd().as_raw_fd();
        // SAFETY: rows are `repr(C)`, of integers, without padding.
        let bytes: &[u8] = unsafe {
            std::slice::from_raw_parts(table.rows.as_ptr().cast(), size_of_val(&*table.rows))
        };
        // SAFETY: nobody else has this memory, which stays as long as it is mapped.
        let mapped = unsafe { memmap2::MmapOptions::new().len(bytes.len()).map_mut(fd) };
        let mut mapped = mapped.map_err(|source| Error::System {
            call: "mmap".to_owned(),
            source,
        })?;
        mapped.copy_from_slice(bytes);
        self.last_table += 1;
        let number = self.last_table;
        self.tables.new.push((number, map));
        Ok(State::Loaded { number, rows })
    }

    /// Lets go of what no process needs any more, after the kernel has been told so.
    pub fn tidy(&mut self) -> Result<(), Error> {
        if self.outdated.is_empty() {
            return Ok(());
        }
        for generation in self.outdated.drain(..) {
            absent_is_fine(self.code.map.remove(&generation))?;
        }
        let processes = &self.processes;
        let is_run = |key: &FileKey| {
            let mut code = processes.values().flat_map(|process| &process.code);
            code.any(|code| code.file.as_ref().is_some_and(|(file, _)| file == key))
        };
        let gone: Vec<_> = self.files.known.extract_if(|key, _| !is_run(key)).collect();
        for (_, state) in gone {
            if let State::Loaded { number, .. } = state {
                absent_is_fine(self.tables.map.remove(&number))?;
            }
        }
        Ok(())
    }
}

impl Files {
    /// None yet.
    pub fn new() -> Files {
        Files {
            known: FxHashMap::default(),
            reader: Reader::start(),
        }
    }

    /// The executable memory of a process. Has tables made of files that are new.
    pub fn look(&mut self, pid: u32) -> Vec<Code> {
        let source = Source::Alive(pid);
        let maps = source.mappings().map(|it| MemoryMaps::from_buf_read(&*it));
        // A process that has ended executes nothing.
        let Ok(Ok(maps)) = maps else {
            return Vec::new();
        };
        let maps: Vec<MemoryMap> = maps.into_iter().collect();
        let mut code = Vec::new();
        let mut new: Vec<(FileKey, Backing)> = Vec::new();
        for (index, map) in maps.iter().enumerate() {
            if !map.perms.contains(MMPermissions::EXECUTE) {
                continue;
            }
            let (start, end) = map.address;
            let (path, is_vdso) = match &map.pathname {
                MMapPath::Path(path) => (path.clone(), false),
                MMapPath::Vdso => (PathBuf::new(), true),
                MMapPath::Vsyscall => continue,
                _ => {
                    let (start, end) = neighbourhood(&maps, index);
                    // Several of its pieces may be executable.
                    if code.last().is_none_or(|last: &Code| last.end < end) {
                        let file = None;
                        code.push(Code { start, end, file });
                    }
                    continue;
                }
            };
            let key = FileKey {
                device: map.dev,
                inode: map.inode,
                path,
            };
            let backing = match is_vdso {
                true => vdso(pid, map),
                false => file::open(&source, map),
            };
            let base = backing.as_ref().and_then(|bytes| base(bytes, map));
            if let (Some(backing), Some(_)) = (backing, base)
                && !self.known.contains_key(&key)
            {
                self.known.insert(key.clone(), State::Awaited);
                new.push((key.clone(), backing));
            }
            let file = Some((key, base.unwrap_or(0)));
            code.push(Code { start, end, file });
        }
        // The C library is there at once then, and what it takes long to read comes last.
        new.sort_by_key(|(_, backing)| backing.len());
        for (key, backing) in new {
            self.reader.read(key, backing);
        }
        code.truncate(MAX_MAPPINGS as usize);
        code
    }
}

/// Memory without a file, with the memory without a file around it: V8 keeps all its
/// code in one range, of which it makes ever other parts executable.
fn neighbourhood(maps: &[MemoryMap], index: usize) -> (u64, u64) {
    let is_anonymous = |map: &MemoryMap| {
        let special = matches!(
            map.pathname,
            MMapPath::Path(_) | MMapPath::Vdso | MMapPath::Vvar | MMapPath::Vsyscall
        );
        !special && !matches!(map.pathname, MMapPath::Heap | MMapPath::Stack)
    };
    let (mut start, mut end) = maps[index].address;
    for map in maps[..index].iter().rev() {
        if map.address.1 != start || !is_anonymous(map) {
            break;
        }
        start = map.address.0;
    }
    for map in &maps[index + 1..] {
        if map.address.0 != end || !is_anonymous(map) {
            break;
        }
        end = map.address.1;
    }
    (start, end)
}

/// Where the lowest address of a file is in memory, by one of its mappings.
fn base(bytes: &Backing, map: &MemoryMap) -> Option<u64> {
    let elf = Elf::parse(bytes).ok()?;
    let lowest = file::lowest_address(&elf, bytes)?;
    Some(file::bias(&elf, bytes, map)?.wrapping_add(lowest))
}

fn vdso(pid: u32, map: &MemoryMap) -> Option<Backing> {
    let memory = Source::Alive(pid).memory().ok()?;
    let (start, end) = map.address;
    let mut bytes = vec![0; (end - start) as usize];
    memory.read(start, &mut bytes).ok()?;
    Some(Backing::Copied(bytes))
}

/// A thread that makes tables.
struct Reader {
    /// None: there is no such thread.
    files: Option<Sender<(FileKey, Backing)>>,
    tables: Receiver<(FileKey, Table)>,
}

impl Reader {
    fn start() -> Reader {
        let (files, to_read) = channel::<(FileKey, Backing)>();
        let (read, tables) = channel();
        let work = move || {
            while let Ok((key, bytes)) = to_read.recv() {
                let begun = Instant::now();
                let table = Table::of_file(&bytes);
                drop(bytes);
                debug!(path = %key.path.display(), rows = table.rows.len(), took = ?begun.elapsed(), "read for unwinding");
                if read.send((key, table)).is_err() {
                    break;
                }
            }
        };
        let thread = thread::Builder::new().name("unwind-tables".to_owned());
        Reader {
            files: thread.spawn(work).is_ok().then_some(files),
            tables,
        }
    }

    fn read(&self, key: FileKey, bytes: Backing) {
        if let Some(files) = &self.files {
            // It ends only after this.
            let _ = files.send((key, bytes));
        }
    }

    fn next(&self) -> Option<(FileKey, Table)> {
        self.tables.try_recv().ok()
    }
}
