//! A binary that V8 is in: its metadata and the few symbols that matter.

use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use nodetap_v8::{Memory, Metadata};
use object::elf::{FileHeader64, PF_X, PT_LOAD, Sym64};
use object::read::elf::{ElfFile64, FileHeader, ProgramHeader, SectionHeader, Sym, SymbolTable};
use object::{Endianness, Object, ObjectSection, SectionKind};
use rustc_hash::FxHashMap;

use crate::stripped::Stripped;

use crate::discover::binary::node_version;

/// What is read of a binary. Addresses are as linked: add where it is loaded.
#[derive(Clone, Debug, Default)]
pub struct Image {
    /// The values of its `v8dbg_*` symbols; empty where V8 is not in it.
    pub metadata: Metadata,
    /// The address of the file's first byte.
    pub first_address: u64,
    /// Its executable segments: where in the file, and at which address.
    pub segments: Vec<Segment>,
    /// Its largest executable segment.
    pub code: Range<u64>,
    /// V8's embedded builtins in it; empty where it does not tell.
    pub builtins: Range<u64>,
    /// Where each of them starts, and its name, by address; empty where the
    /// binary has been stripped.
    pub builtin_names: Vec<(u64, Box<str>)>,
    /// The function `Builtins::name`, which gives a builtin's name by its number.
    pub builtins_name: Option<u64>,
    /// `interpreter::Bytecodes::kBytecodeSizes`
    pub bytecode_sizes: Option<Vec<u8>>,
    /// The addresses of the fields of V8's `Version`, by name.
    pub version_symbols: FxHashMap<&'static str, u64>,
    /// The address of `node::per_process::metadata`.
    pub node_metadata: Option<u64>,
    /// Node's version, where it has no such metadata (before 12).
    pub node_version: Option<String>,
}

/// An executable segment of a binary.
#[derive(Clone, Debug)]
pub struct Segment {
    /// Its place in the file.
    pub file: Range<u64>,
    /// The address of its first byte.
    pub address: u64,
}

/// Why a binary could not be read.
#[derive(Debug, thiserror::Error)]
pub enum ImageError {
    /// It cannot be opened or mapped.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// It is no 64-bit ELF file, or a damaged one.
    #[error("not a readable 64-bit ELF file ({0})")]
    Elf(#[from] object::Error),
}

/// Binaries that have been read: processes of the same program need it but once.
#[derive(Debug, Default)]
pub struct Images {
    known: FxHashMap<FileId, Image>,
}

/// A file as it was: device, number, size, time of its last change.
type FileId = (u64, u64, u64, i64, i64);

impl Images {
    /// Reads the binary at `path`, unless that has been done.
    ///
    /// # Errors
    /// Where it cannot be opened or is no 64-bit ELF file.
    pub fn open(&mut self, path: &Path) -> Result<Image, ImageError> {
        let file = std::fs::metadata(path)?;
        let id = (
            file.dev(),
            file.ino(),
            file.size(),
            file.mtime(),
            file.mtime_nsec(),
        );
        if let Some(known) = self.known.get(&id) {
            return Ok(known.clone());
        }
        let image = Image::open(path)?;
        self.known.insert(id, image.clone());
        Ok(image)
    }
}

/// V8's `Version` class, mangled; the static fields' names follow.
const VERSION_FIELDS: [(&str, &str); 5] = [
    ("_ZN2v88internal7Version6major_E", "major"),
    ("_ZN2v88internal7Version6minor_E", "minor"),
    ("_ZN2v88internal7Version6build_E", "build"),
    ("_ZN2v88internal7Version6patch_E", "patch"),
    ("_ZN2v88internal7Version9embedder_E", "embedder"),
];
const NODE_METADATA: &str = "_ZN4node11per_process8metadataE";
const BYTECODE_SIZES: &str = "_ZN2v88internal11interpreter9Bytecodes14kBytecodeSizesE";
const BUILTINS_NAME: &str = "_ZN2v88internal8Builtins4nameEi";
const BLOB: &str = "v8_Default_embedded_blob_code_";
/// The blob itself where the name above is a pointer to it (before V8 11).
const BLOB_DATA: &str = "v8_Default_embedded_blob_code_data_";
const BLOB_SIZE: &str = "v8_Default_embedded_blob_code_size_";
/// Before V8 9 code and data are one blob.
const WHOLE_BLOB: &str = "v8_Default_embedded_blob_data_";
const WHOLE_BLOB_SIZE: &str = "v8_Default_embedded_blob_size_";

/// The contents of a binary.
fn map(path: &Path) -> io::Result<memmap2::Mmap> {
    let file = File::open(path)?;
    // SAFETY: the map is read-only and private to this module. Should somebody
    // truncate a running program's binary meanwhile (the kernel forbids writing
    // to it), reading it would fault, as it would in the program itself.
    unsafe { memmap2::Mmap::map(&file) }
}

/// The symbols of `table` whose names may be among those that matter, which in a binary
/// with hundreds of thousands of them is not to take long.
fn named<'data>(
    table: &SymbolTable<'data, FileHeader64<Endianness>>,
    elf: &ElfFile64<'data, Endianness>,
) -> impl Iterator<Item = (&'data Sym64<Endianness>, &'data str)> {
    let endian = elf.endian();
    let strings = elf
        .elf_section_table()
        .section(table.string_section())
        .and_then(|section| section.data(endian, elf.data()))
        .unwrap_or_default();
    table.iter().filter_map(move |symbol| {
        let rest = strings.get(symbol.st_name(endian) as usize..)?;
        if !may_matter(rest) {
            return None;
        }
        let length = memchr::memchr(0, rest)?;
        Some((symbol, std::str::from_utf8(&rest[..length]).ok()?))
    })
}

/// Whether a name that begins like this may be one of those that are looked for.
fn may_matter(name: &[u8]) -> bool {
    match name {
        [b'v', b'8', ..] | [b'B', b'u', b'i', ..] => true,
        [
            b'_',
            b'Z',
            b'N',
            b'4',
            b'n',
            b'o',
            b'd',
            b'e',
            b'1',
            b'1',
            ..,
        ] => true,
        // Most are of this namespace: the class comes next.
        [b'_', b'Z', b'N', b'2', b'v', b'8', b'8', b'i', b'n', ..] => {
            matches!(name.get(15..17), Some(b"7V" | b"11" | b"8B"))
        }
        _ => false,
    }
}

impl Image {
    /// Reads the binary at `path`.
    ///
    /// # Errors
    /// Where it cannot be opened or is no 64-bit ELF file.
    pub fn open(path: &Path) -> Result<Image, ImageError> {
        Image::parse(&map(path)?)
    }

    /// Finds what the binary at `path` has no symbols for (any more) in the
    /// process that runs it, `bias` above where it was linked to be.
    ///
    /// # Errors
    /// Where it cannot be opened.
    pub fn find_stripped(
        &mut self,
        path: &Path,
        memory: &dyn Memory,
        bias: u64,
    ) -> Result<(), ImageError> {
        let bytes = map(path)?;
        let Some(binary) = Stripped::new(&bytes, memory, bias) else {
            return Ok(());
        };
        if self.builtin_names.is_empty()
            && let Some(found) = binary.builtins()
        {
            self.builtins = found.range;
            self.builtin_names = found.names;
        }
        if self.bytecode_sizes.is_none() {
            self.bytecode_sizes = binary.bytecode_sizes();
        }
        Ok(())
    }

    fn parse(bytes: &[u8]) -> Result<Image, ImageError> {
        let elf = ElfFile64::<Endianness>::parse(bytes)?;
        let endian = elf.endian();
        let segments = elf.elf_header().program_headers(endian, bytes)?;
        let loaded = || {
            segments
                .iter()
                .filter(|segment| segment.p_type(endian) == PT_LOAD)
        };
        let mut image = Image {
            first_address: loaded().next().map_or(0, |first| {
                first.p_vaddr(endian) - first.p_offset(endian).min(first.p_vaddr(endian))
            }),
            ..Image::default()
        };
        image.segments = loaded()
            .filter(|segment| segment.p_flags(endian).0 & PF_X.0 != 0)
            .map(|segment| {
                let start = segment.p_offset(endian);
                Segment {
                    file: start..start.saturating_add(segment.p_filesz(endian)),
                    address: segment.p_vaddr(endian),
                }
            })
            .collect();
        let largest = image
            .segments
            .iter()
            .max_by_key(|segment| segment.file.end - segment.file.start);
        if let Some(code) = largest {
            let size = code.file.end - code.file.start;
            image.code = code.address..code.address.saturating_add(size);
        }
        // The bytes that the binary has for an address.
        let data = |address: u64, length: u64| -> Option<&[u8]> {
            loaded().find_map(|segment| {
                let offset = address.checked_sub(segment.p_vaddr(endian))?;
                let left = segment.p_filesz(endian).checked_sub(offset)?;
                if left < length {
                    return None;
                }
                let start = segment.p_offset(endian).checked_add(offset)?;
                bytes.get(usize::try_from(start).ok()?..usize::try_from(start + length).ok()?)
            })
        };
        let value = |address: u64| -> Option<i32> {
            Some(i32::from_le_bytes(data(address, 4)?.try_into().ok()?))
        };

        let mut values = Vec::new();
        let mut blob = None;
        let mut blob_data = None;
        let mut blob_size = None;
        let mut whole_blob = None;
        let mut whole_blob_size = None;
        let tables = [elf.elf_dynamic_symbol_table(), elf.elf_symbol_table()];
        for (symbol, name) in tables.into_iter().flat_map(|table| named(table, &elf)) {
            let address = symbol.st_value(endian);
            if let Some(name) = name.strip_prefix(Metadata::PREFIX) {
                if let Some(value) = value(address) {
                    values.push((name, value));
                }
                continue;
            }
            if let Some(name) = name.strip_prefix("Builtins_") {
                image.builtin_names.push((address, name.into()));
                continue;
            }
            match name {
                BLOB => blob = Some(address),
                BLOB_DATA => blob_data = Some(address),
                BLOB_SIZE => blob_size = value(address),
                WHOLE_BLOB => whole_blob = Some(address),
                WHOLE_BLOB_SIZE => whole_blob_size = value(address),
                NODE_METADATA => image.node_metadata = Some(address),
                BUILTINS_NAME => image.builtins_name = Some(address),
                BYTECODE_SIZES => {
                    image.bytecode_sizes =
                        data(address, symbol.st_size(endian)).map(<[u8]>::to_vec);
                }
                _ => {
                    if name.starts_with("_ZN2v88internal7Version")
                        && let Some((_, field)) =
                            VERSION_FIELDS.iter().find(|(mangled, _)| *mangled == name)
                    {
                        image.version_symbols.insert(field, address);
                    }
                }
            }
        }
        let (start, size) = match whole_blob_size {
            Some(size) => (whole_blob, Some(size)),
            None => (blob_data.or(blob), blob_size),
        };
        if let (Some(start), Some(size)) = (start, size)
            && let Ok(size) = u64::try_from(size)
        {
            image.builtins = start..start.saturating_add(size);
        }
        image.builtin_names.sort_unstable();
        image.builtin_names.dedup_by_key(|(address, _)| *address);
        image.metadata = values.into_iter().collect();
        let has_v8 = !image.metadata.is_empty() || !image.version_symbols.is_empty();
        if image.node_metadata.is_none() && has_v8 {
            image.node_version = elf
                .sections()
                .filter(|section| section.kind() == SectionKind::ReadOnlyData)
                .filter_map(|section| node_version(section.data().ok()?))
                .next();
        }
        Ok(image)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_names_that_are_looked_for_may_matter() {
        let fields = VERSION_FIELDS.iter().map(|(mangled, _)| *mangled);
        let others = [
            NODE_METADATA,
            BYTECODE_SIZES,
            BUILTINS_NAME,
            BLOB,
            BLOB_DATA,
            BLOB_SIZE,
            WHOLE_BLOB,
            WHOLE_BLOB_SIZE,
            "Builtins_Add",
            "v8dbg_type_Map__MAP_TYPE",
        ];
        for name in fields.chain(others) {
            assert!(may_matter(name.as_bytes()), "{name}");
        }
        for name in [
            "",
            "_ZN",
            "_ZN2v88internal",
            "_ZN2v88internal4Heap7CollectEv",
            "main",
        ] {
            assert!(!may_matter(name.as_bytes()), "{name}");
        }
    }
}
