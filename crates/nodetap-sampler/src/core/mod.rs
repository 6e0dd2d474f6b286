//! The core file of a process: its memory, threads and files as they were when it
//! crashed, or when `gcore` looked at it.
//!
//! A core file holds what only the process had. What it had from files and did
//! not change, above all its code, is left out, and read from those files: they
//! must be here, and be the same ([`files`]).

mod command;
mod error;
mod files;
mod notes;
mod snapshot;

use std::fs::File;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use nodetap_v8::{Memory, Unreadable};
use object::elf::{self, FileHeader64};
use object::read::elf::{FileHeader, ProgramHeader};
use object::{LittleEndian, ReadCache};

pub use error::CoreError;
pub use snapshot::snapshot;

use crate::ptrace::State;
use files::{Files, Found};
use notes::Notes;

type Header = FileHeader64<LittleEndian>;

/// A process has at most this many mappings (`vm.max_map_count` is 65,530 where
/// nobody has raised it).
const MOST_SEGMENTS: u32 = 1 << 20;
/// The program headers follow the file's own, of this size.
const FIRST_HEADER: u64 = 64;
/// The notes of one thread take some 3 to 12 KB.
const LONGEST_NOTES: u64 = 256 << 20;

/// A process as its core file has it.
#[derive(Debug)]
pub struct Core {
    path: PathBuf,
    file: File,
    notes: Notes,
    command: Vec<String>,
    /// By address; none overlaps another.
    segments: Vec<Segment>,
    files: Files,
}

/// A range of the process's memory.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Segment {
    addresses: Range<u64>,
    permissions: Permissions,
    /// Where in the core file it begins.
    offset: u64,
    /// How much of it is in the core file.
    size: u64,
    /// Which of the process's files is mapped there, and from which offset on.
    mapped: Option<(usize, u64)>,
}

/// What the process could do with a range of its memory.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Permissions {
    read: bool,
    write: bool,
    execute: bool,
}

impl Permissions {
    fn of(flags: elf::ProgramFlags) -> Permissions {
        let has = |flag: elf::ProgramFlags| flags.0 & flag.0 != 0;
        Permissions {
            read: has(elf::PF_R),
            write: has(elf::PF_W),
            execute: has(elf::PF_X),
        }
    }
}

impl Core {
    /// Opens the core file at `path`. `executable` is what its process ran, should
    /// that not be where it was.
    ///
    /// # Errors
    /// Where it is no core file of a process of this kind of machine, is not whole,
    /// or the executable is not to be found. [`CoreError::hint`] says what would help.
    pub fn open(path: &Path, executable: Option<&Path>) -> Result<Core, CoreError> {
        let io_error = |source| CoreError::Io {
            path: path.to_owned(),
            source,
        };
        let file = File::open(path).map_err(io_error)?;
        let metadata = file.metadata().map_err(io_error)?;
        if !metadata.is_file() {
            return Err(CoreError::not_a_core(path, "it is no file"));
        }
        let (notes, segments) = parse(path, &file, metadata.len())?;
        let files = Files::new(&notes, executable);
        let mut core = Core {
            path: path.to_owned(),
            file,
            notes,
            command: Vec::new(),
            segments,
            files,
        };
        core.find_mapped_files();
        core.check_executable()?;
        core.add_what_was_left_out();
        core.command = command::read(&core);
        Ok(core)
    }

    /// The core file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The number that the process had.
    pub fn pid(&self) -> u32 {
        self.notes.pid
    }

    /// Its command line.
    pub fn command(&self) -> &[String] {
        &self.command
    }

    /// The number of the signal that ended the process, and the thread that got it;
    /// nothing where it did not end.
    pub fn ended_by(&self) -> Option<(i32, u32)> {
        self.notes.ended_by
    }

    /// The files whose code the process had and that are not here, or are others
    /// by now.
    pub fn missing_files(&self) -> Vec<&Path> {
        let mut missing: Vec<usize> = self
            .segments
            .iter()
            .filter(|segment| segment.permissions.execute)
            .filter_map(|segment| Some(segment.mapped?.0))
            .filter(|&file| self.found(file).is_none())
            .collect();
        missing.sort_unstable();
        missing.dedup();
        let paths = missing.into_iter().map(|file| self.files.path(file));
        paths.filter(|path| path.is_absolute()).collect()
    }

    /// Its threads and their states, the main thread first, the others by their
    /// number.
    pub(crate) fn threads(&self) -> Vec<(u32, State)> {
        let mut threads = self.notes.threads.clone();
        threads.sort_by_key(|&(tid, _)| (tid != self.notes.pid, tid));
        threads.dedup_by_key(|&mut (tid, _)| tid);
        threads
    }

    /// The name of a thread; a core file has that of the main thread alone.
    pub(crate) fn thread_name(&self, tid: u32) -> &str {
        match tid == self.notes.pid {
            true => &self.notes.name,
            false => "",
        }
    }

    /// The path that the executable had.
    pub(crate) fn executable(&self) -> &Path {
        self.files.path(self.files.executable())
    }

    /// Where the file is that is mapped at `address`, if that is the same here.
    pub(crate) fn file_at(&self, address: u64) -> Option<&Path> {
        let (file, _) = self.segment_at(address)?.mapped?;
        self.found(file).map(|found| found.path.as_path())
    }

    /// The mappings as the kernel tells them of a live process, in `/proc/PID/maps`.
    pub(crate) fn mappings(&self) -> Vec<u8> {
        let mut text = Vec::new();
        for segment in &self.segments {
            let Range { start, end } = segment.addresses;
            let Permissions {
                read,
                write,
                execute,
            } = segment.permissions;
            let flag = |is_set: bool, letter: char| if is_set { letter } else { '-' };
            let flags = [flag(read, 'r'), flag(write, 'w'), flag(execute, 'x')];
            let flags = String::from_iter(flags);
            let (file, offset) = segment.mapped.unzip();
            let offset = offset.unwrap_or(0);
            let number = file.map_or(0, |file| file + 1);
            let line = format!("{start:08x}-{end:08x} {flags}p {offset:08x} 00:00 {number} ");
            text.extend_from_slice(line.as_bytes());
            if let Some(file) = file {
                text.extend(self.files.path_in_mappings(file));
            } else if self.notes.vdso == Some(start) {
                text.extend_from_slice(b"[vdso]");
            }
            text.push(b'\n');
        }
        text
    }

    fn segment_at(&self, address: u64) -> Option<&Segment> {
        let after = self
            .segments
            .partition_point(|segment| segment.addresses.start <= address);
        let segment = self.segments.get(after.checked_sub(1)?)?;
        (address < segment.addresses.end).then_some(segment)
    }

    /// Notes at each segment which file is mapped there.
    fn find_mapped_files(&mut self) {
        for segment in &mut self.segments {
            segment.mapped = self.notes.mapped_at(segment.addresses.start);
        }
    }

    fn check_executable(&self) -> Result<(), CoreError> {
        let Some(executable) = self.files.try_executable() else {
            return Err(CoreError::not_a_core(
                &self.path,
                "it does not tell which files its process had mapped",
            ));
        };
        let mapped = self.files.path(executable).to_owned();
        let named = self.files.named_executable();
        if self.found(executable).is_some() {
            return Ok(());
        }
        let path = named.unwrap_or(&mapped).to_owned();
        match File::open(&path) {
            Err(source) => Err(CoreError::NoExecutable {
                core: self.path.clone(),
                path,
                is_named: named.is_some(),
                source,
            }),
            Ok(_) => Err(CoreError::WrongExecutable {
                core: self.path.clone(),
                path,
                mapped,
            }),
        }
    }

    /// The file with this number, if it is here and the same.
    fn found(&self, file: usize) -> Option<&Found> {
        self.files.find(file, || {
            let of_file = |segment: &&Segment| segment.mapped.is_some_and(|it| it.0 == file);
            files::Traces {
                core: &self.file,
                segments: self.segments.iter().filter(of_file).collect(),
                start: (Some(file) == self.files.try_executable()).then_some(&self.notes.start),
            }
        })
    }

    /// `gcore` leaves out the mappings of files altogether that the process has not
    /// changed; the kernel mentions them.
    fn add_what_was_left_out(&mut self) {
        let mut added = Vec::new();
        for mapping in &self.notes.mappings {
            let mut at = mapping.addresses.start;
            while at < mapping.addresses.end {
                let next = self.segments.partition_point(|it| it.addresses.end <= at);
                let next = self.segments.get(next).map(|it| it.addresses.clone());
                let end = match next {
                    Some(there) if there.start <= at => {
                        at = there.end;
                        continue;
                    }
                    Some(there) => there.start.min(mapping.addresses.end),
                    None => mapping.addresses.end,
                };
                let offset = mapping.offset.saturating_add(at - mapping.addresses.start);
                if let Some(found) = self.found(mapping.file) {
                    added.push(Segment {
                        addresses: at..end,
                        permissions: found.permissions(offset),
                        offset: 0,
                        size: 0,
                        mapped: Some((mapping.file, offset)),
                    });
                }
                at = end;
            }
        }
        self.segments.extend(added);
        sort(&mut self.segments);
    }
}

impl Memory for Core {
    fn read(&self, address: u64, buffer: &mut [u8]) -> Result<(), Unreadable> {
        let unreadable = Unreadable { address };
        let mut rest = buffer;
        let mut at = address;
        while !rest.is_empty() {
            let segment = self.segment_at(at).ok_or(unreadable)?;
            let into = at - segment.addresses.start;
            let (file, offset, end) = match segment.mapped {
                _ if into < segment.size => (&self.file, segment.offset, segment.size),
                // What may have been changed is not what the file has.
                Some((file, offset)) if !segment.permissions.write => {
                    let found = self.found(file).ok_or(unreadable)?;
                    let size = segment.addresses.end - segment.addresses.start;
                    (&found.file, offset, size)
                }
                _ => return Err(unreadable),
            };
            let length = usize::try_from(end - into).unwrap_or(usize::MAX);
            let (now, later) = rest.split_at_mut(length.min(rest.len()));
            let offset = offset.checked_add(into).ok_or(unreadable)?;
            file.read_exact_at(now, offset).map_err(|_| unreadable)?;
            at = at.wrapping_add(now.len() as u64);
            rest = later;
        }
        Ok(())
    }
}

/// What the core file's headers and notes say.
fn parse(path: &Path, file: &File, length: u64) -> Result<(Notes, Vec<Segment>), CoreError> {
    let senseless = || CoreError::not_a_core(path, "its headers make no sense");
    let broken = |_: object::read::Error| senseless();
    let data = &ReadCache::new(file);
    let mut magic = [0; 8];
    let is_there = file.read_exact_at(&mut magic, 0).is_ok();
    if !is_there || magic[..4] != elf::ELFMAG {
        return Err(CoreError::not_elf(path, &magic));
    }
    let elsewhere = || CoreError::not_a_core(path, "it is of another kind of machine");
    if magic[4..6] != [elf::ELFCLASS64.0, elf::ELFDATA2LSB.0] {
        return Err(elsewhere());
    }
    let header = match Header::parse(data) {
        Ok(header) => header,
        Err(_) if length < FIRST_HEADER => return Err(CoreError::cut(path, length, None)),
        Err(error) => return Err(broken(error)),
    };
    let endian = LittleEndian;
    if header.e_machine(endian) != elf::EM_X86_64 {
        return Err(elsewhere());
    }
    if header.e_type(endian) != elf::ET_CORE {
        return Err(CoreError::not_a_core(path, "it is a program or library"));
    }
    // Their number is beyond them where it is large.
    let count = header.phnum(endian, data);
    if count.as_ref().is_ok_and(|&count| count > MOST_SEGMENTS) {
        return Err(senseless());
    }
    let headers = match count.and_then(|_| header.program_headers(endian, data)) {
        Ok(headers) => headers,
        Err(_) if header.e_phoff(endian) == FIRST_HEADER => {
            return Err(CoreError::cut(path, length, None));
        }
        Err(error) => return Err(broken(error)),
    };
    // The kernel stops where `ulimit -c` tells it to.
    let end_of = |segment: &elf::ProgramHeader64<LittleEndian>| {
        let size = segment.p_filesz(endian);
        segment.p_offset(endian).saturating_add(size)
    };
    let whole = headers.iter().map(end_of).max().unwrap_or(0);
    if whole > length {
        return Err(CoreError::cut(path, length, Some(whole)));
    }
    let mut notes = Notes::default();
    let mut segments = Vec::new();
    for segment in headers {
        match segment.p_type(endian) {
            elf::PT_NOTE if segment.p_filesz(endian) <= LONGEST_NOTES => {
                let found = segment.notes(endian, data).map_err(broken)?;
                for note in found.into_iter().flatten() {
                    notes.add(&note.map_err(broken)?);
                }
            }
            elf::PT_LOAD => {
                let start = segment.p_vaddr(endian);
                let size = segment.p_memsz(endian);
                let Some(end) = start.checked_add(size) else {
                    continue;
                };
                segments.push(Segment {
                    addresses: start..end,
                    permissions: Permissions::of(segment.p_flags(endian)),
                    offset: segment.p_offset(endian),
                    size: segment.p_filesz(endian).min(size),
                    mapped: None,
                });
            }
            _ => {}
        }
    }
    if notes.threads.is_empty() {
        return Err(CoreError::not_a_core(path, "no thread is in it"));
    }
    let has_memory = |segment: &Segment| segment.permissions.write && segment.size > 0;
    if !segments.iter().any(has_memory) {
        return Err(CoreError::NoMemory {
            path: path.to_owned(),
        });
    }
    notes.complete();
    sort(&mut segments);
    Ok((notes, segments))
}

/// Sorts segments by their addresses; one that overlaps another cannot be.
fn sort(segments: &mut Vec<Segment>) {
    segments.sort_by_key(|segment| segment.addresses.start);
    let mut end = 0;
    segments.retain(|segment| {
        let fits = !segment.addresses.is_empty() && segment.addresses.start >= end;
        if fits {
            end = segment.addresses.end;
        }
        fits
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn segments_do_not_overlap() {
        let segment = |addresses: Range<u64>| Segment {
            addresses,
            permissions: Permissions::default(),
            offset: 0,
            size: 0,
            mapped: None,
        };
        let mut segments = vec![
            segment(0x5000..0x6000),
            segment(0x1000..0x3000),
            segment(0x2000..0x2800),
            segment(0x3000..0x3000),
            segment(0x3000..0x5000),
        ];
        sort(&mut segments);
        let left: Vec<_> = segments.into_iter().map(|it| it.addresses).collect();
        assert_eq!(left, [0x1000..0x3000, 0x3000..0x5000, 0x5000..0x6000]);
    }
}
