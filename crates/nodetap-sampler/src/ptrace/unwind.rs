//! Native code that keeps no frame pointer: libc, OpenSSL, most addons.
//!
//! A thread that waits does so in the C library, so that without this hardly
//! any stack of a waiting thread would be found. What the compilers write down
//! for exceptions (`.eh_frame`) tells for each instruction where the caller's
//! registers are.

use std::ops::Range;
use std::sync::Arc;

use nodetap_v8::Memory;
use procfs::FromBufRead;
use procfs::process::{MMPermissions, MMapPath, MemoryMap, MemoryMaps};

use crate::raw::Registers;
use crate::source::Source;
use crate::unwind::file::{self, Backing, Elf};
use crate::unwind::lookup::Lookup;
use crate::unwind::{Cursor, Rule, Step};

/// The files that a process executes, with what they tell.
#[derive(Default)]
pub(super) struct NativeUnwinder {
    /// The code of files, by address.
    known: Vec<Code>,
    files: Vec<File>,
    /// All executable memory, by address.
    executable: Vec<Range<u64>>,
    /// Code was met that is in none of it.
    met_new_code: bool,
}

/// A file, and what it tells.
struct File {
    id: FileId,
    backing: Arc<Backing>,
    lookup: Option<Lookup>,
}

/// Its device and number; none for the vDSO.
type FileId = Option<(i32, i32, u64)>;

/// The code of a file as it is mapped.
struct Code {
    range: Range<u64>,
    /// Which of the files.
    file: usize,
    /// What is to be added to an address in the file.
    bias: u64,
}

impl NativeUnwinder {
    /// Reads the mappings of a process. Files that cannot be read are left out.
    pub fn of(source: &Source, memory: &dyn Memory) -> NativeUnwinder {
        let mut found = NativeUnwinder::default();
        found.look_again(source, memory);
        found
    }

    /// Whether code was met since the last look that was not mapped then.
    pub fn met_new_code(&self) -> bool {
        self.met_new_code
    }

    /// Reads the mappings of the process again. Files that it had then are not read once
    /// more.
    pub fn look_again(&mut self, source: &Source, memory: &dyn Memory) {
        self.met_new_code = false;
        let maps = source.mappings().map(|it| MemoryMaps::from_buf_read(&*it));
        // A process that has ended maps nothing new.
        let Ok(Ok(maps)) = maps else { return };
        self.executable.clear();
        self.known.clear();
        for map in &maps {
            if !map.perms.contains(MMPermissions::EXECUTE) {
                continue;
            }
            let (start, end) = map.address;
            self.executable.push(start..end);
            let id = match &map.pathname {
                MMapPath::Path(_) => Some((map.dev.0, map.dev.1, map.inode)),
                MMapPath::Vdso => None,
                _ => continue,
            };
            let Some(file) = self.file(id, map, source, memory) else {
                continue;
            };
            let bytes = &self.files[file].backing;
            let bias = Elf::parse(&***bytes).map(|elf| file::bias(&elf, bytes, map));
            if let Ok(Some(bias)) = bias {
                let range = start..end;
                self.known.push(Code { range, file, bias });
            }
        }
        self.known.sort_by_key(|code| code.range.start);
    }

    /// Which of the files is mapped by `map`: one more, if it is not known.
    fn file(
        &mut self,
        id: FileId,
        map: &MemoryMap,
        source: &Source,
        memory: &dyn Memory,
    ) -> Option<usize> {
        if let Some(known) = self.files.iter().position(|file| file.id == id) {
            return Some(known);
        }
        let (start, end) = map.address;
        let backing = match id {
            None => Backing::Copied(memory.bytes(start, (end - start) as usize).ok()?),
            Some(_) => file::open(source, map)?,
        };
        self.files.push(File {
            id,
            lookup: Lookup::of_file(&backing),
            backing: Arc::new(backing),
        });
        Some(self.files.len() - 1)
    }

    /// What is known of the caller of the frame `at`. `returns`: the pc is a return
    /// address; else that is what is executed next. `registers`: all of them, where the
    /// thread itself is there.
    pub fn caller(
        &mut self,
        at: Cursor,
        returns: bool,
        registers: Option<&Registers>,
        read: &mut dyn FnMut(u64) -> Option<u64>,
    ) -> Step {
        let step = self
            .rule(at.pc.wrapping_sub(u64::from(returns)))
            .apply(at, registers, read);
        let there = match step {
            Step::Caller(caller) => caller.pc.wrapping_sub(1),
            Step::Interrupted(interrupted) => interrupted.pc,
            Step::End | Step::Nothing | Step::Broken => return step,
        };
        // Nobody returns to where no code is.
        match self.is_code(there) {
            true => step,
            false => Step::Broken,
        }
    }

    /// The rule for the instruction at `pc`.
    fn rule(&mut self, pc: u64) -> Rule {
        let after = self.known.partition_point(|it| it.range.start <= pc);
        match after.checked_sub(1).map(|index| &self.known[index]) {
            Some(code) if pc < code.range.end => {
                let file = &mut self.files[code.file];
                let address = pc.wrapping_sub(code.bias);
                match &mut file.lookup {
                    Some(lookup) => lookup.rule(&file.backing, address),
                    None => Rule::NOTHING,
                }
            }
            _ => {
                // That it is to be looked at again is all that is wanted of it here.
                let _ = self.is_code(pc);
                Rule::NOTHING
            }
        }
    }

    fn is_code(&mut self, address: u64) -> bool {
        let is_code = contains(&self.executable, address);
        self.met_new_code |= !is_code;
        is_code
    }
}

/// Whether one of `ranges`, which are sorted, holds `address`.
fn contains(ranges: &[Range<u64>], address: u64) -> bool {
    let after = ranges.partition_point(|range| range.start <= address);
    after > 0 && address < ranges[after - 1].end
}
