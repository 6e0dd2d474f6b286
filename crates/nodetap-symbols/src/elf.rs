//! The functions of one ELF file: which one an address is in.
//!
//! Only what the file says is believed: an address has a function's name if a
//! function symbol's extent covers it. The nearest symbol before it is no
//! answer, since a stripped library keeps only the functions that it exports.
//!
//! Names stay in the file and are read one by one. What is kept in memory is 16
//! bytes a function, 2.6 MB for the largest Node.js binary; nothing is mapped, so
//! nothing faults should the file be truncated.

use std::fs::File;
use std::io::{self, Cursor};
use std::ops::Range;
use std::os::unix::fs::FileExt;

use object::elf::{PT_LOAD, SHF_EXECINSTR, SHN_UNDEF, SHT_DYNSYM, SHT_SYMTAB, SectionType};
use object::elf::{STT_FUNC, STT_GNU_IFUNC};
use object::read::elf::{ElfFile64, ProgramHeader, SectionHeader, Sym};
use object::{Endianness, Object, ReadCache, ReadRef};

use crate::plt::Stubs;

/// Function symbols may overlap (entry points into one assembly routine). How
/// many that start before an address are looked at for one that covers it.
const OVERLAPS: usize = 8;

/// Longer names are cut here. The longest of Node.js 26 has 4,900 bytes.
const LONGEST_NAME: usize = 16 << 10;

/// Where the bytes of an ELF file are.
#[derive(Debug)]
pub enum Source {
    /// In a file.
    File(File),
    /// In memory: the vDSO.
    Bytes(Vec<u8>),
}

impl Source {
    /// Fills as much of `buffer` as there is at `offset`; returns how much.
    pub(crate) fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        match self {
            Source::File(file) => file.read_at(buffer, offset),
            Source::Bytes(bytes) => {
                let start = usize::try_from(offset).unwrap_or(usize::MAX);
                let rest = bytes.get(start..).unwrap_or_default();
                let count = rest.len().min(buffer.len());
                buffer[..count].copy_from_slice(&rest[..count]);
                Ok(count)
            }
        }
    }

    /// Calls `parse` with the parsed file.
    pub(crate) fn parse<T>(&self, parser: impl Parse<T>) -> object::Result<T> {
        match self {
            Source::File(file) => parser.parse(&ElfFile64::parse(&ReadCache::new(file))?),
            Source::Bytes(bytes) => {
                parser.parse(&ElfFile64::parse(&ReadCache::new(Cursor::new(bytes)))?)
            }
        }
    }
}

/// What [`Source::parse`] calls: a closure that is generic in how bytes are read.
pub(crate) trait Parse<T> {
    fn parse<'data, R: ReadRef<'data>>(
        self,
        elf: &ElfFile64<'data, Endianness, R>,
    ) -> object::Result<T>;
}

/// A part of the file that is loaded.
#[derive(Clone, Copy, Debug)]
struct Segment {
    address: u64,
    offset: u64,
    size: u64,
}

/// A function. Its name is at `name` in the string table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Function {
    start: u64,
    size: u32,
    name: u32,
}

/// What an address is in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Symbol {
    /// The symbol's name as the file has it, mangled.
    pub name: String,
    /// The address of the function's first byte, as linked.
    pub start: u64,
    /// The address is in a stub that jumps to the function in another module.
    pub stub: bool,
}

/// The functions of one ELF file.
#[derive(Debug)]
pub struct ElfSymbols {
    source: Source,
    segments: Vec<Segment>,
    build_id: Option<Vec<u8>>,
    stubs: Stubs,
    functions: Functions,
    /// The source of `functions`, where that isn't `source`.
    debug_source: Option<Source>,
}

/// A symbol table's functions by address, and where their names are.
#[derive(Debug, Default)]
struct Functions {
    by_address: Box<[Function]>,
    strings: Range<u64>,
    /// They are the exported ones only.
    exports_only: bool,
}

impl ElfSymbols {
    /// Reads the symbols of `source`.
    ///
    /// `debug_file` is asked for the file that holds its separate symbols, by
    /// its build id, should it have none but the exported ones.
    ///
    /// # Errors
    /// Where `source` is no readable 64-bit ELF file.
    pub fn read(
        source: Source,
        debug_file: impl FnOnce(&[u8]) -> Option<File>,
    ) -> object::Result<Self> {
        let Parts {
            segments,
            build_id,
            stubs,
            mut functions,
        } = source.parse(ReadParts)?;
        let mut debug_source = None;
        if functions.exports_only
            && let Some(id) = &build_id
            && let Some(file) = debug_file(id)
        {
            let debug = Source::File(file);
            if let Ok(parts) = debug.parse(ReadParts)
                && parts.build_id.as_ref() == Some(id)
                && !parts.functions.exports_only
            {
                functions = parts.functions;
                debug_source = Some(debug);
            }
        }
        Ok(Self {
            source,
            segments,
            build_id,
            stubs,
            functions,
            debug_source,
        })
    }

    /// The file's build id, if it has one.
    pub fn build_id(&self) -> Option<&[u8]> {
        self.build_id.as_deref()
    }

    /// The address as linked of the byte at `offset` in the file; `None` if it is
    /// not loaded.
    pub fn address_of(&self, offset: u64) -> Option<u64> {
        self.segments.iter().find_map(|segment| {
            let inside = offset.checked_sub(segment.offset)?;
            (inside < segment.size).then(|| segment.address.wrapping_add(inside))
        })
    }

    /// The function that `address` (as linked) is in.
    pub fn find(&self, address: u64) -> Option<Symbol> {
        let functions = &self.functions.by_address;
        let after = functions.partition_point(|function| function.start <= address);
        let covering = functions[..after]
            .iter()
            .rev()
            .take(OVERLAPS)
            .find(|function| address - function.start < u64::from(function.size));
        if let Some(function) = covering {
            return Some(Symbol {
                name: self.best_name(function)?,
                start: function.start,
                stub: false,
            });
        }
        let (name, start) = self.stubs.find(&self.source, address)?;
        Some(Symbol {
            name,
            start,
            stub: true,
        })
    }

    /// Of the names that a function has, the one to show: `malloc` rather than
    /// `__libc_malloc`.
    fn best_name(&self, function: &Function) -> Option<String> {
        let functions = &self.functions.by_address;
        let first = functions.partition_point(|other| other.start < function.start);
        functions[first..]
            .iter()
            .take_while(|other| other.start == function.start)
            .filter(|other| other.size == function.size)
            .take(OVERLAPS)
            .filter_map(|other| self.name(other.name))
            .min_by_key(|name| {
                let underscores = match name.strip_prefix("_Z").or(name.strip_prefix("_R")) {
                    Some(_) => 0,
                    None => name.bytes().take_while(|&byte| byte == b'_').count(),
                };
                (underscores, name.len(), name.clone())
            })
    }

    fn name(&self, offset: u32) -> Option<String> {
        let source = self.debug_source.as_ref().unwrap_or(&self.source);
        let start = self.functions.strings.start.checked_add(offset.into())?;
        let left = self.functions.strings.end.checked_sub(start)?;
        let longest = LONGEST_NAME.min(usize::try_from(left).unwrap_or(usize::MAX));
        let mut bytes = vec![0; longest.min(256)];
        loop {
            let read = source.read_at(&mut bytes, start).ok()?;
            if let Some(end) = bytes[..read].iter().position(|&byte| byte == 0) {
                bytes.truncate(end);
                break;
            }
            if bytes.len() == longest || read < bytes.len() {
                bytes.truncate(read);
                break;
            }
            bytes.resize(longest, 0);
        }
        if bytes.is_empty() {
            return None;
        }
        Some(String::from_utf8_lossy(&bytes).into_owned())
    }
}

/// What is read of a file at once.
struct Parts {
    segments: Vec<Segment>,
    build_id: Option<Vec<u8>>,
    stubs: Stubs,
    functions: Functions,
}

struct ReadParts;

impl Parse<Parts> for ReadParts {
    fn parse<'data, R: ReadRef<'data>>(
        self,
        elf: &ElfFile64<'data, Endianness, R>,
    ) -> object::Result<Parts> {
        let endian = elf.endian();
        let segments = elf
            .elf_program_headers()
            .iter()
            .filter(|header| header.p_type(endian) == PT_LOAD)
            .map(|header| Segment {
                address: header.p_vaddr(endian),
                offset: header.p_offset(endian),
                size: header.p_filesz(endian),
            })
            .collect();
        let mut functions = read_functions(elf, SHT_SYMTAB)?;
        if functions.by_address.is_empty() {
            functions = read_functions(elf, SHT_DYNSYM)?;
            functions.exports_only = true;
        }
        Ok(Parts {
            segments,
            build_id: elf.build_id()?.map(<[u8]>::to_vec),
            stubs: Stubs::of(elf)?,
            functions,
        })
    }
}

fn read_functions<'data, R: ReadRef<'data>>(
    elf: &ElfFile64<'data, Endianness, R>,
    table: SectionType,
) -> object::Result<Functions> {
    let endian = elf.endian();
    let sections = elf.elf_section_table();
    let code: Vec<Range<u64>> = sections
        .iter()
        .map(|section| {
            let start = section.sh_addr(endian);
            if section.sh_flags(endian).0 & SHF_EXECINSTR.0 == 0 {
                return start..start;
            }
            start..start.saturating_add(section.sh_size(endian))
        })
        .collect();
    let symbols = sections.symbols(endian, elf.data(), table)?;
    let strings = match symbols.string_section().0 {
        0 => 0..0,
        index => sections
            .section(object::SectionIndex(index))?
            .file_range(endian)
            .map_or(0..0, |(start, size)| start..start.saturating_add(size)),
    };
    // Where the section ends that a symbol is in.
    let end_of = |index: usize, address: u64| {
        code.get(index)
            .filter(|range| range.contains(&address))
            .map(|range| range.end)
    };
    let mut functions = Vec::new();
    let mut ends = Vec::new();
    for symbol in symbols.iter() {
        let section = symbol.st_shndx(endian);
        if !matches!(symbol.st_type(), STT_FUNC | STT_GNU_IFUNC) || section == SHN_UNDEF {
            continue;
        }
        let start = symbol.st_value(endian);
        let Some(end) = end_of(section.0.into(), start) else {
            continue;
        };
        let size = symbol.st_size(endian).min(end - start);
        functions.push(Function {
            start,
            size: u32::try_from(size).unwrap_or(u32::MAX),
            name: symbol.st_name(endian),
        });
        if size == 0 {
            ends.push((start, end));
        }
    }
    functions.sort_unstable();
    if table == SHT_SYMTAB {
        size_the_sizeless(&mut functions, &mut ends);
    }
    functions.retain(|function| function.size > 0);
    Ok(Functions {
        by_address: functions.into_boxed_slice(),
        strings,
        exports_only: false,
    })
}

/// Functions in assembly may lack a size (OpenSSL's `aesni_xts_128_encrypt_avx512`).
/// Where all functions are known, not the exported ones alone, such a function
/// reaches up to the next one, or to the end of its section.
fn size_the_sizeless(functions: &mut [Function], ends: &mut [(u64, u64)]) {
    ends.sort_unstable();
    let mut next = u64::MAX;
    let mut shared = u64::MAX;
    for index in (0..functions.len()).rev() {
        let start = functions[index].start;
        if index + 1 < functions.len() && functions[index + 1].start > start {
            next = functions[index + 1].start;
        }
        if functions[index].size > 0 {
            // One that starts here too has a size: that one is right.
            shared = start;
            continue;
        }
        let Ok(found) = ends.binary_search_by_key(&start, |end| end.0) else {
            continue;
        };
        if shared != start {
            let size = next.min(ends[found].1) - start;
            functions[index].size = u32::try_from(size).unwrap_or(u32::MAX);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A function of this test program, so that it is in the symbol table.
    #[inline(never)]
    fn landmark(value: u64) -> u64 {
        std::hint::black_box(value).wrapping_mul(3)
    }

    fn function(start: u64, size: u32) -> Function {
        Function {
            start,
            size,
            name: 0,
        }
    }

    #[test]
    fn a_function_of_this_program_is_found_by_any_byte_of_it() {
        let symbols = ElfSymbols::read(Source::File(File::open("/proc/self/exe").unwrap()), |_| {
            None
        })
        .unwrap();
        // As linked: where it is, less where the program was loaded.
        let base = crate::maps::Maps::read(&std::process::id().into())
            .unwrap()
            .find(landmark as fn(u64) -> u64 as usize as u64)
            .map(|mapping| (mapping.start, mapping.offset))
            .unwrap();
        let offset = landmark as fn(u64) -> u64 as usize as u64 - base.0 + base.1;
        let address = symbols.address_of(offset).unwrap();
        let found = symbols.find(address).unwrap();
        assert_eq!(found.start, address);
        assert!(found.name.contains("landmark"), "{}", found.name);
        assert_eq!(symbols.find(address + 1).unwrap(), found);
        assert_eq!(symbols.find(0), None);
        assert_eq!(symbols.find(u64::MAX), None);
        assert_eq!(symbols.address_of(u64::MAX), None);
    }

    #[test]
    fn what_is_no_elf_file_is_refused() {
        for bytes in [&b""[..], b"\x7fELF", b"#!/bin/sh\n", &[0; 4096]] {
            let read = ElfSymbols::read(Source::Bytes(bytes.to_vec()), |_| None);
            assert!(read.is_err());
        }
    }

    /// Every cut and a great many changed bytes of a real file: never a panic.
    #[test]
    fn a_damaged_file_gives_errors_or_nothing() {
        let whole = crate::module::vdso_of(&std::process::id().into()).unwrap();
        for length in (0..whole.len()).step_by(97) {
            if let Ok(symbols) = ElfSymbols::read(Source::Bytes(whole[..length].to_vec()), |_| None)
            {
                symbols.find(0x1000);
            }
        }
        for at in 0..whole.len().min(1024) {
            let mut damaged = whole.clone();
            damaged[at] ^= 0xff;
            if let Ok(symbols) = ElfSymbols::read(Source::Bytes(damaged), |_| None) {
                for address in (0..0x2000).step_by(64) {
                    symbols.find(address);
                }
            }
        }
    }

    #[test]
    fn a_function_without_size_reaches_up_to_the_next_or_its_sections_end() {
        let mut functions = [
            function(0x10, 0),
            function(0x40, 0),
            function(0x40, 8),
            function(0x80, 16),
            function(0x100, 0),
        ];
        let mut ends = [(0x100, 0x180), (0x40, 0x180), (0x10, 0x180)];
        size_the_sizeless(&mut functions, &mut ends);
        assert_eq!(
            functions.map(|function| function.size),
            [0x30, 0, 8, 16, 0x80]
        );
        // The section ends before the next function starts.
        let mut functions = [function(0x10, 0), function(0x1000, 4)];
        size_the_sizeless(&mut functions, &mut [(0x10, 0x20)]);
        assert_eq!(functions.map(|function| function.size), [0x10, 4]);
    }
}
