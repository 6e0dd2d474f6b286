//! The files that a process executes.

use std::ops::{Deref, Range};

use gimli::BaseAddresses;
use object::elf::{PF_X, PT_LOAD};
use object::read::elf::{ElfFile64, FileHeader, ProgramHeader};
use object::{Endianness, Object, ObjectSection};
use procfs::process::{MMapPath, MemoryMap};

use crate::source::Source;

/// A whole file.
pub(crate) enum Backing {
    Mapped(memmap2::Mmap),
    /// The vDSO, which is in no file.
    Copied(Vec<u8>),
}

impl Deref for Backing {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match self {
            Backing::Mapped(map) => map,
            Backing::Copied(bytes) => bytes,
        }
    }
}

/// The file that is mapped by `map`.
pub(crate) fn open(source: &Source, map: &MemoryMap) -> Option<Backing> {
    let MMapPath::Path(path) = &map.pathname else {
        return None;
    };
    let file = source.open(map.address, path, map.inode)?;
    // SAFETY: the map is private and only read. Should somebody truncate a
    // running program's file meanwhile (the kernel forbids writing to it),
    // reading it would fault, as it would in the program itself.
    let bytes = unsafe { memmap2::Mmap::map(&file) }.ok()?;
    Some(Backing::Mapped(bytes))
}

/// A file's headers, with the file.
pub(crate) type Elf<'a> = ElfFile64<'a, Endianness, &'a [u8]>;

/// What is to be added to an address in `elf` to get that where `map` has it;
/// `None` where that part of the file is not code.
pub(crate) fn bias(elf: &Elf<'_>, bytes: &[u8], map: &MemoryMap) -> Option<u64> {
    let endian = elf.endian();
    let segments = elf.elf_header().program_headers(endian, bytes).ok()?;
    let (start, end) = map.address;
    let segment = segments.iter().find(|segment| {
        let from = segment.p_offset(endian);
        let to = from.saturating_add(segment.p_filesz(endian));
        segment.p_type(endian) == PT_LOAD
            && segment.p_flags(endian).0 & PF_X.0 != 0
            // Mappings begin at a page.
            && from < map.offset.saturating_add(end - start)
            && map.offset < to
    })?;
    let linked = segment
        .p_vaddr(endian)
        .wrapping_add(map.offset)
        .wrapping_sub(segment.p_offset(endian));
    Some(start.wrapping_sub(linked))
}

/// The lowest address in `elf`.
pub(crate) fn lowest_address(elf: &Elf<'_>, bytes: &[u8]) -> Option<u64> {
    let endian = elf.endian();
    let segments = elf.elf_header().program_headers(endian, bytes).ok()?;
    let loaded = segments
        .iter()
        .filter(|segment| segment.p_type(endian) == PT_LOAD);
    loaded.map(|segment| segment.p_vaddr(endian)).min()
}

/// Where a section's bytes are in the file, and its address there.
pub(crate) fn section(
    elf: &Elf<'_>,
    bytes: &[u8],
    name: &str,
) -> Option<(Range<usize>, Range<u64>)> {
    let section = elf.section_by_name(name)?;
    let (offset, size) = section.file_range()?;
    let end = offset.checked_add(size)?;
    let range = usize::try_from(offset).ok()?..usize::try_from(end).ok()?;
    bytes.get(range.clone())?;
    let address = section.address();
    Some((range, address..address.saturating_add(size)))
}

/// Where a file's `.eh_frame` is, and what the addresses in it are relative to.
pub(crate) fn eh_frame(elf: &Elf<'_>, bytes: &[u8]) -> Option<(Range<usize>, BaseAddresses)> {
    let address = |name| section(elf, bytes, name).map(|(_, range)| range.start);
    let (range, addresses) = section(elf, bytes, ".eh_frame")?;
    let mut bases = BaseAddresses::default().set_eh_frame(addresses.start);
    if let Some(text) = address(".text") {
        bases = bases.set_text(text);
    }
    if let Some(got) = address(".got") {
        bases = bases.set_got(got);
    }
    Some((range, bases))
}
