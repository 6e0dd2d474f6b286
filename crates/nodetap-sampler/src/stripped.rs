//! V8's builtins in a binary whose symbols have been taken away (`strip`).
//!
//! V8 itself has to find its builtins, and to name them in its traces; it does
//! so by three tables that no `strip` can remove, because the program uses them:
//!
//! * `builtin_metadata` (`src/builtins/builtins.cc`): for each builtin, by its
//!   number, a pointer to its name, a kind, and eight bytes more;
//! * the data of the embedded blob (`src/snapshot/embedded/embedded-data.h`):
//!   three hashes, then for each builtin a `LayoutDescription`, which begins
//!   with where its instructions are in the blob's code and how many bytes;
//! * where the two parts of the blob are: `current_embedded_blob_code_` and
//!   `…_data_` (`src/execution/isolate.cc`), neighbouring variables; their sizes
//!   are in variables as well.
//!
//! What is found is believed only if all of it fits together: as many names as
//! descriptions, code that lies end to end, and behind each builtin the byte
//! that V8 puts there. So it was in every V8 from 9.4 to 14.6. In 8.6 the data has two
//! hashes and descriptions of eight bytes. Before that the blob is in one piece, which
//! `current_embedded_blob_` tells of: the same hashes and descriptions, then the
//! instructions.
//!
//! The lengths of the bytecodes (`Bytecodes::kBytecodeSizes`) are found by how
//! they begin.

use std::ops::Range;

use memchr::memmem;
use nodetap_v8::Memory;
use object::Endianness;
use object::elf::{PF_W, PF_X, PT_LOAD};
use object::read::elf::{ElfFile64, FileHeader, ProgramHeader};

/// The name that is looked for first. V8 has had such a builtin since there is
/// an interpreter.
const KNOWN_NAME: &[u8] = b"InterpreterEntryTrampoline\0";
/// `sizeof(BuiltinMetadata)`
const METADATA_SIZE: u64 = 24;
/// `Builtins::Kind` has ten values at most.
const MAX_KIND: u32 = 15;
/// How many builtins there are, roughly: 1490 in V8 7.8, 1726 in 9.4, 2415 in 14.6.
const BUILTINS: Range<usize> = 1000..8000;
/// The hashes that the blob's data begins with.
const HASHES_SIZE: u64 = 24;
/// The hashes that a blob in one piece begins with, and the size of its descriptions
/// (`EmbeddedData::Metadata`); so it still is in 8.6, in two pieces.
const WHOLE_HASHES_SIZE: u64 = 16;
const WHOLE_DESCRIPTION_SIZE: u64 = 8;
/// `sizeof(LayoutDescription)`: 16 in V8 9, 28 and 32 in 10 and 11.3, then 12.
const DESCRIPTION_SIZES: [u64; 10] = [12, 16, 20, 24, 28, 32, 36, 40, 44, 48];
/// `kCodeAlignment`, which depends on how V8 was configured.
const CODE_ALIGNMENTS: [u32; 2] = [64, 32];
/// `int3`, with which V8 fills what is left behind a builtin, one byte at least
/// (`EmbeddedData::PadAndAlignCode`).
const PADDING: u8 = 0xcc;
/// How far apart the variables are that tell where the blob is, in words: one
/// or two, since a size may lie between them.
const NEIGHBOURS: usize = 5;
/// The writable part of a binary is read as a whole, unless it is larger.
const MAX_WRITABLE: u64 = 64 << 20;

/// The lengths of the first bytecodes, plain, wide and extra wide: `Wide`,
/// `ExtraWide`, six of `DebugBreak`… (`BYTECODE_LIST` in
/// `src/interpreter/bytecodes.h`), the same in V8 9.4 to 14.6.
const FIRST_SIZES: [[u8; 11]; 3] = [
    [1, 1, 1, 1, 1, 2, 3, 4, 5, 5, 6],
    [1, 1, 1, 1, 1, 3, 5, 7, 9, 7, 9],
    [1, 1, 1, 1, 1, 5, 9, 13, 17, 11, 15],
];
/// A bytecode is a byte; 197 were used in V8 9.4, 212 in 14.6.
const BYTECODES: Range<usize> = 150..256;

/// Where V8's builtins are. Addresses are as linked.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct FoundBuiltins {
    /// All of them.
    pub range: Range<u64>,
    /// Where each starts, by address, and its name.
    pub names: Vec<(u64, Box<str>)>,
}

/// A binary as it is loaded.
pub(crate) struct Stripped<'a> {
    parts: Vec<Part<'a>>,
    bias: u64,
}

/// One of its segments.
struct Part<'a> {
    /// As linked.
    start: u64,
    contents: Contents<'a>,
    executable: bool,
}

enum Contents<'a> {
    /// As in the file.
    File(&'a [u8]),
    /// As the process has it by now. What points somewhere was moved with the
    /// binary.
    Process(Vec<u8>),
}

impl Part<'_> {
    fn bytes(&self) -> &[u8] {
        match &self.contents {
            Contents::File(bytes) => bytes,
            Contents::Process(bytes) => bytes,
        }
    }

    fn contains(&self, address: u64) -> bool {
        address
            .checked_sub(self.start)
            .is_some_and(|offset| offset < self.bytes().len() as u64)
    }
}

impl<'a> Stripped<'a> {
    /// The binary whose file is `file`, loaded `bias` above where it was linked
    /// to be. `None` where it cannot be read.
    pub fn new(file: &'a [u8], memory: &dyn Memory, bias: u64) -> Option<Stripped<'a>> {
        let elf = ElfFile64::<Endianness>::parse(file).ok()?;
        let endian = elf.endian();
        let segments = elf.elf_header().program_headers(endian, file).ok()?;
        let mut parts = Vec::new();
        for segment in segments {
            if segment.p_type(endian) != PT_LOAD {
                continue;
            }
            let start = segment.p_vaddr(endian);
            let flags = segment.p_flags(endian).0;
            let contents = if flags & PF_W.0 != 0 {
                let size = segment.p_memsz(endian);
                if size > MAX_WRITABLE {
                    continue;
                }
                let bytes = memory.bytes(start.wrapping_add(bias), size as usize);
                Contents::Process(bytes.ok()?)
            } else {
                Contents::File(segment.data(endian, file).ok()?)
            };
            parts.push(Part {
                start,
                contents,
                executable: flags & PF_X.0 != 0,
            });
        }
        Some(Stripped { parts, bias })
    }

    /// V8's builtins, if all of what tells of them is as it should be.
    pub fn builtins(&self) -> Option<FoundBuiltins> {
        let names = self.builtin_names()?;
        let blob = self
            .blob(names.len())
            .or_else(|| self.whole_blob(names.len()))?;
        let last = blob.instructions.iter().map(|code| code.end).max()?;
        let mut starts: Vec<(u64, Box<str>)> = blob
            .instructions
            .iter()
            .zip(names)
            .map(|(code, name)| (blob.code + u64::from(code.start), name))
            .collect();
        starts.sort_unstable();
        Some(FoundBuiltins {
            range: blob.code..blob.code + u64::from(last),
            names: starts,
        })
    }

    /// `Bytecodes::kBytecodeSizes`
    pub fn bytecode_sizes(&self) -> Option<Vec<u8>> {
        let tables = self.parts.iter().flat_map(|part| {
            let bytes = part.bytes();
            memmem::find_iter(bytes, &FIRST_SIZES[0])
                .filter_map(|at| bytecode_sizes_at(bytes.get(at..)?))
        });
        only(tables)
    }

    /// The names of all builtins, by their numbers.
    fn builtin_names(&self) -> Option<Vec<Box<str>>> {
        let mut tables = Vec::new();
        for part in &self.parts {
            for at in memmem::find_iter(part.bytes(), KNOWN_NAME) {
                self.name_tables(part.start + at as u64, &mut tables);
            }
        }
        only(tables)
    }

    /// The tables of names that the one at `name` is in.
    fn name_tables(&self, name: u64, tables: &mut Vec<Vec<Box<str>>>) {
        for part in &self.parts {
            let pointer = match part.contents {
                Contents::File(_) => name,
                Contents::Process(_) => name.wrapping_add(self.bias),
            };
            for at in memmem::find_iter(part.bytes(), &pointer.to_le_bytes()) {
                let entry = part.start + at as u64;
                if !entry.is_multiple_of(8) {
                    continue;
                }
                let before = (1..).map_while(|n| self.metadata_name(entry, -n));
                let mut names: Vec<_> = before.take(BUILTINS.end).collect();
                names.reverse();
                let after = (0..).map_while(|n| self.metadata_name(entry, n));
                names.extend(after.take(BUILTINS.end));
                if BUILTINS.contains(&names.len()) {
                    tables.push(names);
                }
            }
        }
    }

    /// The name in the `BuiltinMetadata` that is `number` ones after `entry`.
    fn metadata_name(&self, entry: u64, number: i64) -> Option<Box<str>> {
        let distance = number.checked_mul(METADATA_SIZE as i64)?;
        let entry = entry.checked_add_signed(distance)?;
        if self.u32(entry + 8)? > MAX_KIND {
            return None;
        }
        let name = self.bytes(self.pointer(entry)?)?;
        let name = &name[..memchr::memchr(0, name.get(..256).unwrap_or(name))?];
        let is_identifier = |byte: &u8| byte.is_ascii_alphanumeric() || *byte == b'_';
        if name.is_empty() || !name.iter().all(is_identifier) {
            return None;
        }
        Some(std::str::from_utf8(name).ok()?.into())
    }

    /// The blob of `count` builtins.
    fn blob(&self, count: usize) -> Option<Blob> {
        let mut found: Option<Blob> = None;
        for part in &self.parts {
            let Contents::Process(bytes) = &part.contents else {
                continue;
            };
            let linked: Vec<u64> = bytes
                .chunks_exact(8)
                .map(|word| u64::from_le_bytes(word.try_into().expect("chunks of 8")))
                .map(|word| word.wrapping_sub(self.bias))
                .collect();
            for (index, &code) in linked.iter().enumerate() {
                if !code.is_multiple_of(32) || !self.is_code(code) {
                    continue;
                }
                let near = index.saturating_sub(NEIGHBOURS)..linked.len().min(index + NEIGHBOURS);
                for &data in &linked[near] {
                    if !data.is_multiple_of(8) || found.as_ref().is_some_and(|it| it.code == code) {
                        continue;
                    }
                    let Some(instructions) = self.instructions(code, data, count) else {
                        continue;
                    };
                    // That it has no more builtins than there are names.
                    let size = instructions.iter().map(|it| it.end).max();
                    if !size.is_some_and(|size| self.is_in_a_variable(size)) {
                        continue;
                    }
                    // It may be told twice, but not in two ways.
                    if found.is_some() {
                        return None;
                    }
                    found = Some(Blob { code, instructions });
                }
            }
        }
        found
    }

    /// The blob of `count` builtins that is in one piece.
    fn whole_blob(&self, count: usize) -> Option<Blob> {
        let mut found: Option<Blob> = None;
        let descriptions_size = WHOLE_DESCRIPTION_SIZE * count as u64;
        for part in &self.parts {
            let Contents::Process(bytes) = &part.contents else {
                continue;
            };
            for word in bytes.chunks_exact(8) {
                let word = u64::from_le_bytes(word.try_into().expect("chunks of 8"));
                let blob = word.wrapping_sub(self.bias);
                if !blob.is_multiple_of(32) || !self.is_code(blob) {
                    continue;
                }
                let Some((descriptions, instructions)) = blob
                    .checked_add(WHOLE_HASHES_SIZE)
                    .and_then(|at| Some((self.bytes(at)?, self.bytes(blob)?)))
                else {
                    continue;
                };
                for alignment in CODE_ALIGNMENTS {
                    // `EmbeddedData::RawDataOffset`
                    let head = WHOLE_HASHES_SIZE + descriptions_size + 1;
                    let head = head.next_multiple_of(u64::from(alignment));
                    let code = instructions.get(head as usize..).unwrap_or_default();
                    let described = |builtin| {
                        described(
                            descriptions,
                            builtin,
                            WHOLE_DESCRIPTION_SIZE,
                            alignment,
                            code,
                        )
                    };
                    let ranges = (0..count).map(described).collect::<Option<Vec<_>>>();
                    let Some(instructions) = ranges.filter(|it| lie_end_to_end(it)) else {
                        continue;
                    };
                    let size = instructions.iter().map(|it| it.end).max();
                    let size = size.and_then(|size| size.checked_add(head as u32));
                    if !size.is_some_and(|size| self.is_in_a_variable(size)) {
                        continue;
                    }
                    let code = blob + head;
                    if found.as_ref().is_some_and(|it| it.code != code) {
                        return None;
                    }
                    found = Some(Blob { code, instructions });
                }
            }
        }
        found
    }

    /// Where the instructions of each builtin are in the blob's code, with the padding
    /// behind them, if there are descriptions of such a blob at `data`.
    fn instructions(&self, code: u64, data: u64, count: usize) -> Option<Vec<Range<u32>>> {
        let code = self.bytes(code)?;
        let newer = DESCRIPTION_SIZES.map(|size| (HASHES_SIZE, size));
        let older = (WHOLE_HASHES_SIZE, WHOLE_DESCRIPTION_SIZE);
        for (hashes, size) in newer.into_iter().chain([older]) {
            let descriptions = self.bytes(data.checked_add(hashes)?)?;
            for alignment in CODE_ALIGNMENTS {
                let described = |builtin| described(descriptions, builtin, size, alignment, code);
                let instructions = (0..count).map(described).collect::<Option<Vec<_>>>();
                if let Some(instructions) = instructions
                    && lie_end_to_end(&instructions)
                {
                    return Some(instructions);
                }
            }
        }
        None
    }

    /// Whether one of the program's variables is `number`, such as
    /// `current_embedded_blob_code_size_`.
    fn is_in_a_variable(&self, number: u32) -> bool {
        let variables = self.parts.iter().filter_map(|part| match &part.contents {
            Contents::Process(bytes) => Some(bytes),
            Contents::File(_) => None,
        });
        variables
            .flat_map(|bytes| bytes.chunks_exact(4))
            .any(|word| word == number.to_le_bytes())
    }

    fn is_code(&self, address: u64) -> bool {
        let holds = |part: &&Part<'_>| part.contains(address);
        self.parts
            .iter()
            .find(holds)
            .is_some_and(|part| part.executable)
    }

    /// What there is from `address` on.
    fn bytes(&self, address: u64) -> Option<&[u8]> {
        let part = self.parts.iter().find(|part| part.contains(address))?;
        part.bytes().get((address - part.start) as usize..)
    }

    fn u32(&self, address: u64) -> Option<u32> {
        let bytes = self.bytes(address)?.get(..4)?;
        Some(u32::from_le_bytes(bytes.try_into().ok()?))
    }

    /// The address, as linked, that stands at `address`.
    fn pointer(&self, address: u64) -> Option<u64> {
        let part = self.parts.iter().find(|part| part.contains(address))?;
        let bytes = part.bytes().get((address - part.start) as usize..)?;
        let word = u64::from_le_bytes(bytes.get(..8)?.try_into().ok()?);
        Some(match part.contents {
            Contents::File(_) => word,
            Contents::Process(_) => word.wrapping_sub(self.bias),
        })
    }
}

/// The embedded blob.
struct Blob {
    /// Where its code is.
    code: u64,
    /// Where in it each builtin is, by their numbers.
    instructions: Vec<Range<u32>>,
}

/// Where in `code` the instructions of a builtin are, with the padding behind them, if
/// there are a description of it and that padding.
fn described(
    descriptions: &[u8],
    builtin: usize,
    size: u64,
    alignment: u32,
    code: &[u8],
) -> Option<Range<u32>> {
    let at = builtin * size as usize;
    let number = |at: usize| -> Option<u32> {
        let bytes = descriptions.get(at..at + 4)?;
        Some(u32::from_le_bytes(bytes.try_into().ok()?))
    };
    let (start, length) = (number(at)?, number(at + 4)?);
    let end = start.checked_add(length)?;
    let padded = end.checked_add(1)?.checked_next_multiple_of(alignment)?;
    let is_builtin = start.is_multiple_of(alignment) && code.get(end as usize) == Some(&PADDING);
    is_builtin.then_some(start..padded)
}

/// Whether these fill what they are in, from 0 on, in whatever order.
fn lie_end_to_end(ranges: &[Range<u32>]) -> bool {
    let mut sorted: Vec<&Range<u32>> = ranges.iter().collect();
    sorted.sort_unstable_by_key(|range| range.start);
    let ends = std::iter::once(0).chain(sorted.iter().map(|range| range.end));
    sorted
        .iter()
        .zip(ends)
        .all(|(range, end)| range.start == end)
}

/// The table of bytecode lengths that `bytes` begin with, if they do.
fn bytecode_sizes_at(bytes: &[u8]) -> Option<Vec<u8>> {
    let second = bytes.get(..BYTECODES.end + FIRST_SIZES[1].len())?;
    let count = memmem::find_iter(second, &FIRST_SIZES[1]).find(|at| BYTECODES.contains(at))?;
    let table = bytes.get(..3 * count)?;
    let [plain, wide, extra] = [0, 1, 2].map(|row| &table[row * count..][..count]);
    // Some operands grow with the scale, by as much each time it doubles; the
    // others never do.
    let grows = |index: usize| {
        let [plain, wide, extra] = [plain, wide, extra].map(|row| i32::from(row[index]));
        (1..16).contains(&plain) && wide >= plain && extra - wide == 2 * (wide - plain)
    };
    let begins = extra.starts_with(&FIRST_SIZES[2]);
    (begins && (0..count).all(grows)).then(|| table.to_vec())
}

/// What is found, if it is found once, or each time the same.
fn only<T: PartialEq>(found: impl IntoIterator<Item = T>) -> Option<T> {
    let mut found = found.into_iter();
    let first = found.next()?;
    found.all(|other| other == first).then_some(first)
}

#[cfg(test)]
mod tests;
