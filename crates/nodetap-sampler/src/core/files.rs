//! The files that the process had mapped, as far as they are here.
//!
//! A path may lead to something else today, or on this machine. A file is believed
//! to be the one that was mapped if it has what the core file keeps of it, above
//! all its first page: the kernel and `gcore` write that of every executable and
//! library, for its headers and build id.

use std::fs::{self, File};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use object::elf::{FileHeader64, PT_LOAD, ProgramHeader64};
use object::read::elf::{FileHeader, ProgramHeader};
use object::{LittleEndian, ReadCache};

use super::notes::{Notes, Start};
use super::{Permissions, Segment};

/// As much of a mapping is compared with the file: a page.
const COMPARED: u64 = PAGE;
const PAGE: u64 = 4096;

/// All files that were mapped, each with a number.
#[derive(Debug)]
pub(super) struct Files {
    paths: Vec<PathBuf>,
    /// Which of them is the executable, and where the user says it is.
    executable: Option<usize>,
    named_executable: Option<PathBuf>,
    /// The root directory of the process as it can be seen here, if the user has named
    /// the executable in a copy of that.
    root: Option<PathBuf>,
    found: Vec<OnceLock<Option<Found>>>,
}

/// A file that is here, and the same.
#[derive(Debug)]
pub(super) struct Found {
    pub path: PathBuf,
    pub file: File,
    loaded: Vec<Loaded>,
}

/// A part of a file that the loader maps.
#[derive(Clone, Copy, Debug)]
struct Loaded {
    offset: u64,
    length: u64,
    /// As linked.
    address: u64,
    permissions: Permissions,
}

/// What the core file keeps of a file.
pub(super) struct Traces<'a> {
    pub core: &'a File,
    /// Where it was mapped.
    pub segments: Vec<&'a Segment>,
    /// Of the executable: how the process was started.
    pub start: Option<&'a Start>,
}

impl Files {
    pub fn new(notes: &Notes, executable: Option<&Path>) -> Files {
        let entry = notes.start.entry.and_then(|entry| notes.mapped_at(entry));
        let mut files = Files {
            paths: notes.paths.clone(),
            executable: entry.map(|(file, _)| file),
            named_executable: executable.map(Path::to_owned),
            root: None,
            found: notes.paths.iter().map(|_| OnceLock::new()).collect(),
        };
        files.root = files.executable.zip(executable).and_then(|(file, named)| {
            let inside = files.path(file).strip_prefix("/").ok()?;
            let root = named.ancestors().nth(inside.components().count())?;
            named.ends_with(inside).then(|| root.to_owned())
        });
        files
    }

    /// The path that the process saw.
    pub fn path(&self, file: usize) -> &Path {
        let path = self.paths.get(file).map_or(Path::new(""), PathBuf::as_path);
        let bytes = path.as_os_str().as_bytes();
        let plain = bytes.strip_suffix(b" (deleted)").unwrap_or(bytes);
        Path::new(std::ffi::OsStr::from_bytes(plain))
    }

    /// The same as in `/proc/PID/maps`: nothing where that tells of no file that can
    /// be opened.
    pub fn path_in_mappings(&self, file: usize) -> Vec<u8> {
        let path = self.path(file).to_string_lossy();
        let odd = ["/SYSV", "/memfd:", "/dev/zero"];
        if !path.starts_with('/') || odd.iter().any(|odd| path.starts_with(odd)) {
            return Vec::new();
        }
        path.replace('\n', "\\012").into_bytes()
    }

    /// The executable, if that can be told.
    pub fn try_executable(&self) -> Option<usize> {
        self.executable
    }

    pub fn executable(&self) -> usize {
        self.executable.unwrap_or(usize::MAX)
    }

    /// Where the user says that the executable is.
    pub fn named_executable(&self) -> Option<&Path> {
        self.named_executable.as_deref()
    }

    /// The file, if it is here and the same by all its `traces`.
    pub fn find<'a>(&self, file: usize, traces: impl FnOnce() -> Traces<'a>) -> Option<&Found> {
        let found = self.found.get(file)?.get_or_init(|| {
            let path = self.path(file);
            // Nothing that acts on being opened or read.
            let acts = ["/proc", "/sys", "/dev"];
            if acts.iter().any(|it| path.starts_with(it)) {
                return None;
            }
            let traces = traces();
            if let Some(named) = &self.named_executable
                && self.executable == Some(file)
            {
                return Found::open(named, &traces);
            }
            let in_root = self.root.as_ref().zip(path.strip_prefix("/").ok());
            in_root
                .and_then(|(root, inside)| Found::open(&root.join(inside), &traces))
                .or_else(|| Found::open(path, &traces))
        });
        found.as_ref()
    }
}

impl Found {
    fn open(path: &Path, traces: &Traces<'_>) -> Option<Found> {
        if !fs::metadata(path).is_ok_and(|it| it.is_file()) {
            return None;
        }
        let file = File::open(path).ok()?;
        let cache = ReadCache::new(&file);
        let header = FileHeader64::<LittleEndian>::parse(&cache).ok();
        let headers = header.and_then(|it| it.program_headers(LittleEndian, &cache).ok());
        let is_loaded = |segment: &&ProgramHeader64<_>| segment.p_type(LittleEndian) == PT_LOAD;
        let loaded = headers.into_iter().flatten().filter(is_loaded);
        let loaded = loaded.map(|segment| Loaded {
            offset: segment.p_offset(LittleEndian),
            length: segment.p_filesz(LittleEndian),
            address: segment.p_vaddr(LittleEndian),
            permissions: Permissions::of(segment.p_flags(LittleEndian)),
        });
        let loaded: Vec<Loaded> = loaded.collect();
        let mut bias = None;
        if let Some(start) = traces.start {
            let count = headers?.len() as u64;
            if start.headers.is_some_and(|it| it != count) {
                return None;
            }
            let entry = header?.e_entry.get(LittleEndian);
            bias = start.entry.map(|it| it.wrapping_sub(entry));
        }
        if !traces.fit(&loaded, bias) {
            return None;
        }
        traces.are_in(&file).then(|| Found {
            path: path.to_owned(),
            loaded,
            file,
        })
    }

    /// How the loader maps what is at `offset` in the file; as something that is
    /// only read where it is none of the loader's.
    pub fn permissions(&self, offset: u64) -> Permissions {
        let only_read = Permissions {
            read: true,
            ..Permissions::default()
        };
        let is_there = |part: &&Loaded| {
            let end = part.offset.saturating_add(part.length);
            part.offset - part.offset % PAGE <= offset && offset < end
        };
        let found = self.loaded.iter().find(is_there);
        found.map_or(only_read, |part| part.permissions)
    }
}

impl Traces<'_> {
    /// Whether the parts of a file could have been loaded where it was mapped: all by
    /// the same distance from where they were linked to be. It is that of the first
    /// mapping, if it is not known.
    fn fit(&self, loaded: &[Loaded], bias: Option<u64>) -> bool {
        let offset = |segment: &Segment| segment.mapped.map_or(0, |it| it.1);
        let first = self.segments.iter().find(|it| offset(it) == 0);
        let of_first = || {
            let part = loaded.iter().find(|part| part.offset == 0)?;
            Some(first?.addresses.start.wrapping_sub(part.address))
        };
        let Some(bias) = bias.or_else(of_first) else {
            // Nothing that is loaded.
            return true;
        };
        loaded.iter().all(|part| {
            let address = bias.wrapping_add(part.address);
            let at = self
                .segments
                .iter()
                .find(|it| it.addresses.contains(&address));
            at.is_none_or(|it| offset(it).wrapping_add(address - it.addresses.start) == part.offset)
        })
    }

    /// Whether `file` has all of them. Data is not looked at: the loader changes it.
    fn are_in(&self, file: &File) -> bool {
        let length = file.metadata().map_or(0, |it| it.len());
        let is_code = |segment: &Segment| segment.permissions.execute;
        self.segments.iter().all(|segment| {
            let offset = segment.mapped.map_or(0, |it| it.1);
            if offset >= length {
                return false;
            }
            if segment.permissions.write || !(offset == 0 || is_code(segment)) {
                return true;
            }
            let size = segment.size.min(COMPARED).min(length - offset);
            let mut kept = vec![0; size as usize];
            let mut here = kept.clone();
            self.core.read_exact_at(&mut kept, segment.offset).is_ok()
                && file.read_exact_at(&mut here, offset).is_ok()
                && kept == here
        })
    }
}
