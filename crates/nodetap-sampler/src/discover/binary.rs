//! What an executable or library says of itself, read from the file alone.

use std::fs::File;

use memchr::memmem;
use memmap2::Mmap;
use nodetap_v8::Layout;
use object::Endianness;
use object::elf::{self, FileHeader64};
use object::read::elf::{Dyn, FileHeader, SectionHeader, SectionTable, Sym};

type Header = FileHeader64<Endianness>;

/// A symbol that every build with V8's metadata has, from V8 3.14 on.
const METADATA_SYMBOL: &[u8] = b"v8dbg_ConsStringTag";

/// What matters to us of one file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Binary {
    /// Whether it has V8's `v8dbg_*` symbols, or a V8 that is known without.
    pub has_metadata: bool,
    /// Node's version as Node writes it, `v24.21.0`. Set where the file holds
    /// Node.js itself.
    pub node: Option<String>,
    /// V8's version, `13.6.233.17-node.53`.
    pub v8: Option<String>,
    /// The library that V8 is in, by its name in the dynamic section
    /// (`libnode.so.108`), where this file has been linked with one.
    pub library: Option<String>,
}

impl Binary {
    /// Reads `file`; nothing where it is no ELF file of this machine's kind.
    ///
    /// `looks_like_node` makes it look for Node's version even without metadata,
    /// which costs reading the whole file.
    pub fn read(file: &File, looks_like_node: bool) -> Option<Binary> {
        // SAFETY: the file is mapped into a running process, and executables
        // that run cannot be written to. A library that somebody truncates
        // meanwhile would end us by SIGBUS, as it would its users.
        let data = unsafe { Mmap::map(file) }.ok()?;
        Binary::parse(&data, looks_like_node)
    }

    fn parse(data: &[u8], looks_like_node: bool) -> Option<Binary> {
        let header = Header::parse(data).ok()?;
        let endian = header.endian().ok()?;
        if header.e_machine(endian) != elf::EM_X86_64 {
            return None;
        }
        let sections = header.sections(endian, data).ok()?;
        let has_metadata = has_metadata(&sections, endian, data).unwrap_or(false);
        let mut binary = Binary {
            has_metadata,
            library: library(&sections, endian, data),
            ..Binary::default()
        };
        if has_metadata || looks_like_node {
            for section in sections.iter().filter(|s| is_constant(s, endian)) {
                let Ok(bytes) = section.data(endian, data) else {
                    continue;
                };
                binary.node = binary.node.or_else(|| node_version(bytes));
                binary.v8 = binary.v8.or_else(|| v8_version(bytes));
            }
        }
        if (has_metadata || looks_like_node) && binary.v8.is_none() {
            binary.v8 = v8_version_fields(&sections, endian, data);
        }
        let version = binary.v8.as_ref().and_then(|version| version.parse().ok());
        if version.is_some_and(Layout::needs_no_metadata) {
            binary.has_metadata = true;
        }
        Some(binary)
    }
}

/// V8's version by the fields of its class `Version`, which is all that Node.js
/// before 8 has: there is no suffix of Node's.
fn v8_version_fields<'data>(
    sections: &SectionTable<'data, Header>,
    endian: Endianness,
    data: &'data [u8],
) -> Option<String> {
    let symbols = sections.symbols(endian, data, elf::SHT_DYNSYM).ok()?;
    let (table, _) = sections.gnu_hash(endian, data).ok()??;
    let versions = sections.versions(endian, data).ok()?.unwrap_or_default();
    let number = |field: &str| -> Option<u32> {
        let name = format!("_ZN2v88internal7Version6{field}_E");
        let name = name.as_bytes();
        let (_, symbol) =
            table.find(endian, name, elf::gnu_hash(name), None, &symbols, &versions)?;
        let address = symbol.st_value(endian);
        let bytes = sections.iter().find_map(|section| {
            let offset = address.checked_sub(section.sh_addr(endian))?;
            let is_there = offset < section.sh_size(endian)
                && section.sh_type(endian) == elf::SHT_PROGBITS
                && section.sh_flags(endian) & elf::SHF_ALLOC == elf::SHF_ALLOC;
            let bytes = section.data(endian, data).ok().filter(|_| is_there)?;
            bytes.get(usize::try_from(offset).ok()?..)
        });
        let bytes = bytes?.first_chunk()?;
        Some(u32::from_le_bytes(*bytes))
    };
    let [major, minor, build, patch] = ["major", "minor", "build", "patch"].map(number);
    Some(format!("{}.{}.{}.{}", major?, minor?, build?, patch?))
}

/// Whether the symbol is there: in the dynamic symbols, found by their hash
/// table, or in a static program's only table.
fn has_metadata<'data>(
    sections: &SectionTable<'data, Header>,
    endian: Endianness,
    data: &'data [u8],
) -> object::Result<bool> {
    let dynamic = sections.symbols(endian, data, elf::SHT_DYNSYM)?;
    if !dynamic.is_empty()
        && let Some((table, _)) = sections.gnu_hash(endian, data)?
    {
        let hash = elf::gnu_hash(METADATA_SYMBOL);
        let versions = sections.versions(endian, data)?.unwrap_or_default();
        let found = table.find(endian, METADATA_SYMBOL, hash, None, &dynamic, &versions);
        return Ok(found.is_some());
    }
    let symbols = match dynamic.is_empty() {
        false => dynamic,
        true => sections.symbols(endian, data, elf::SHT_SYMTAB)?,
    };
    let strings = symbols.strings();
    Ok(symbols.iter().any(|symbol| {
        symbol.st_size(endian) == 4
            && symbol.st_type() == elf::STT_OBJECT
            && symbol.name(endian, strings) == Ok(METADATA_SYMBOL)
    }))
}

/// The first library it is linked with that is named like one that holds V8.
fn library<'data>(
    sections: &SectionTable<'data, Header>,
    endian: Endianness,
    data: &'data [u8],
) -> Option<String> {
    let (entries, strings) = sections.dynamic(endian, data).ok()??;
    let strings = sections.strings(endian, data, strings).ok()?;
    entries
        .iter()
        .filter(|entry| entry.d_tag(endian) == elf::DT_NEEDED)
        .filter_map(|entry| entry.string(endian, strings).ok())
        .filter_map(|name| std::str::from_utf8(name).ok())
        .find(|name| is_v8_library(name))
        .map(str::to_owned)
}

/// Whether a library of this file name holds V8: Debian and Fedora put Node.js
/// in `libnode.so.NUMBER`.
fn is_v8_library(name: &str) -> bool {
    name.starts_with("libnode.so") || name.starts_with("libv8.so")
}

/// Whether the section holds constants: where string literals are.
fn is_constant(section: &elf::SectionHeader64<Endianness>, endian: Endianness) -> bool {
    let flags = section.sh_flags(endian);
    let set = |flag: elf::SectionFlags| flags & flag == flag;
    section.sh_type(endian) == elf::SHT_PROGBITS
        && set(elf::SHF_ALLOC)
        && !set(elf::SHF_WRITE)
        && !set(elf::SHF_EXECINSTR)
}

/// `v24.21.0` of the string `node.js/v24.21.0`, by which Node.js calls itself
/// in what it writes for others (traces, for one).
///
/// Before 8 it did not: there it is the only string that could be the version,
/// which `process.version` is made from. The linker may have made that the end
/// of 0.10's `node v0.10.48`.
pub(crate) fn node_version(constants: &[u8]) -> Option<String> {
    const PREFIX: &[u8] = b"\0node.js/";
    let known = memmem::find_iter(constants, PREFIX).find_map(|at| {
        let version = string_at(constants, at + PREFIX.len())?;
        let digits = version.strip_prefix('v')?;
        is_version(digits, 3).then(|| version.to_owned())
    });
    known.or_else(|| {
        let mut found = [&b"\0v"[..], b"\0node v"].into_iter().flat_map(|before| {
            memmem::find_iter(constants, before).filter_map(|at| {
                let version = string_at(constants, at + before.len() - 1)?;
                let numbers = version.strip_prefix('v')?;
                let is_old = matches!(numbers.split('.').next(), Some(major) if major.len() == 1 && major < "8");
                (is_old && is_numbers(numbers, 3)).then_some(version)
            })
        });
        let version = found.next()?;
        found.all(|other| other == version).then(|| version.to_owned())
    })
}

/// `13.6.233.17-node.53`: four numbers and the embedder's suffix
/// (`V8_EMBEDDER_STRING` in Node's `common.gypi`).
fn v8_version(constants: &[u8]) -> Option<String> {
    memmem::find_iter(constants, b"-node.").find_map(|at| {
        let before = constants.get(at.saturating_sub(24)..at)?;
        let start = at - before.iter().rev().position(|&byte| byte == 0)?;
        let version = string_at(constants, start)?;
        let (numbers, patch) = version.split_once("-node.")?;
        (is_numbers(numbers, 4) && is_numbers(patch, 1)).then(|| version.to_owned())
    })
}

/// The short string without control characters that starts here and ends in 0.
fn string_at(bytes: &[u8], start: usize) -> Option<&str> {
    let bytes = bytes.get(start..)?;
    let end = bytes.iter().take(64).position(|&byte| byte == 0)?;
    let text = std::str::from_utf8(&bytes[..end]).ok()?;
    (!text.contains(char::is_control)).then_some(text)
}

/// Whether `text` is this many numbers with dots between them, and perhaps a
/// suffix as pre-releases have (`-pre`, `-nightly20250101`).
fn is_version(text: &str, count: usize) -> bool {
    is_numbers(text.split('-').next().unwrap_or(text), count)
}

fn is_numbers(text: &str, count: usize) -> bool {
    let is_number = |part: &str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit());
    text.split('.').count() == count && text.split('.').all(is_number)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_found_among_constants() {
        let constants = b"\0http://node.js/v1.2.3\0node.js/version\0node.js/v24.21.0\0\
            1.3.0.1-motley\0x-node.1\x0013.6.233.17-node.53\0";
        assert_eq!(node_version(constants).as_deref(), Some("v24.21.0"));
        assert_eq!(
            v8_version(constants).as_deref(),
            Some("13.6.233.17-node.53")
        );
        assert_eq!(
            node_version(b"\0node.js/v25.0.0-nightly20250101abcdef\0").as_deref(),
            Some("v25.0.0-nightly20250101abcdef")
        );
    }

    #[test]
    fn before_8_the_version_stands_alone() {
        let version = |constants| node_version(constants);
        assert_eq!(version(b"\0vx\0v6.17.1\0v8\0").as_deref(), Some("v6.17.1"));
        assert_eq!(version(b"\0node v0.10.48\0").as_deref(), Some("v0.10.48"));
        assert_eq!(version(b"\0v4.9.1\0v1.2.3\0"), None);
        assert_eq!(version(b"\0v10.9.1\0"), None);
        assert_eq!(version(b"\0v4.9.1-rc\0"), None);
    }

    #[test]
    fn what_is_cut_or_odd_is_no_version() {
        for constants in [
            &b"\0node.js/v24.21"[..],
            b"\0node.js/v24.21.0",
            b"\0node.js/v24.21\0",
            b"\0node.js/v24..0\0",
            b"\0node.js/v24.21.0\x1b[2J\0",
            b"",
        ] {
            assert_eq!(node_version(constants), None);
        }
        for constants in [
            &b"-node.53\0"[..],
            b"13.6.233.17-node.53\0",
            b"\x0013.6.233-node.53\0",
            b"\x0013.6.233.17-node.\0",
            b"\x0013.6.233.17-node.53",
        ] {
            assert_eq!(v8_version(constants), None);
        }
    }

    #[test]
    fn our_own_executable_is_no_node() {
        let file = File::open("/proc/self/exe").unwrap();
        let binary = Binary::read(&file, false).unwrap();
        assert_eq!(binary, Binary::default());
    }

    #[test]
    fn what_is_no_elf_file_is_nothing() {
        assert_eq!(Binary::parse(b"", true), None);
        assert_eq!(Binary::parse(b"#!/bin/sh\n", true), None);
        let mut truncated = std::fs::read("/proc/self/exe").unwrap();
        truncated.truncate(200);
        assert_eq!(Binary::parse(&truncated, true), None);
    }

    #[test]
    fn libraries_that_hold_v8() {
        assert!(is_v8_library("libnode.so.108"));
        assert!(!is_v8_library("libnodetap.so"));
        assert!(!is_v8_library("libc.so.6"));
    }
}
