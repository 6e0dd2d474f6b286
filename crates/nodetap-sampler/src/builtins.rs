//! V8's embedded builtins: machine code in the binary itself.
//!
//! V8 may map them a second time, near the code it compiles, so that calls to
//! them are short (`CodeRange::RemapEmbeddedBuiltins` in
//! `src/heap/code-range.cc`): once for each isolate, so that a worker which is
//! started later brings its own. Node.js 17 and 18 do not map but copy them, to
//! anonymous memory (seen in the mappings of 18.20.8). All these places are known here.

use std::cell::RefCell;
use std::ops::Range;
use std::path::{Path, PathBuf};

use nodetap_v8::Memory;
use procfs::FromBufRead;
use procfs::process::{MMPermissions, MMapPath, MemoryMaps};

use crate::builtin_table;
use crate::image::{Image, Segment};
use crate::source::Source;

/// Where the builtins are in a process, and what they are called.
#[derive(Clone, Debug, Default)]
pub struct Builtins {
    /// As linked.
    linked: Range<u64>,
    /// What the loader added to that.
    bias: u64,
    copies: RefCell<Copies>,
    names: Vec<(u64, Box<str>)>,
    /// By their numbers, where V8 has them on its heap.
    on_heap: Vec<Box<str>>,
    segments: Vec<Segment>,
}

/// Where builtins are mapped besides.
#[derive(Clone, Debug, Default)]
struct Copies {
    /// Whose mappings these are.
    source: Option<Source>,
    /// The file that they are in, as the process sees it.
    binary: PathBuf,
    /// The ranges, and what to take from an address in one to get the linked
    /// one.
    found: Vec<(Range<u64>, u64)>,
    /// Which state of the process's mappings that is, as whoever reads them counts.
    state: Option<u64>,
}

/// One builtin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Builtin<'a> {
    /// Its name in V8's source; `None` where the binary does not tell.
    pub name: Option<&'a str>,
    /// How far into its code.
    pub offset: u64,
}

impl Builtins {
    pub(crate) fn new(image: &Image, bias: u64, memory: &dyn Memory) -> Builtins {
        Builtins {
            linked: image.builtins.clone(),
            bias,
            copies: RefCell::default(),
            names: image.builtin_names.clone(),
            on_heap: match image.builtins_name {
                Some(function) if image.builtins.is_empty() => {
                    builtin_table::read(memory, function.wrapping_add(bias))
                }
                _ => Vec::new(),
            },
            segments: image.segments.clone(),
        }
    }

    /// Looks through the mappings of a process for further copies of what is in
    /// `binary`.
    pub(crate) fn find_copies(
        &mut self,
        source: &Source,
        memory: &dyn Memory,
        maps: &MemoryMaps,
        binary: &Path,
    ) {
        let found = self.copies_in(memory, maps, binary);
        *self.copies.get_mut() = Copies {
            source: Some(source.clone()),
            binary: binary.to_owned(),
            found,
            state: None,
        };
    }

    /// Looks again for copies if that has not been done in this `state` of the files that
    /// the process maps, or `anyway`. Whose copy a range was may have ended since, and
    /// other code be there.
    pub fn follow(&self, memory: &dyn Memory, state: u64, anyway: bool) {
        if self.copies.borrow_mut().state.replace(state) != Some(state) || anyway {
            self.look_again(memory);
        }
    }

    /// Looks again for copies.
    pub fn look_again(&self, memory: &dyn Memory) {
        let mut copies = self.copies.borrow_mut();
        let text = copies.source.as_ref().map(Source::mappings);
        let maps = text.map(|text| MemoryMaps::from_buf_read(&*text.unwrap_or_default()));
        // A process that has ended maps nothing new.
        if let Some(Ok(maps)) = maps
            && !maps.0.is_empty()
        {
            copies.found = self.copies_in(memory, &maps, &copies.binary);
        }
    }

    fn copies_in(
        &self,
        memory: &dyn Memory,
        maps: &MemoryMaps,
        binary: &Path,
    ) -> Vec<(Range<u64>, u64)> {
        let mut found = Vec::new();
        for map in maps {
            if !map.perms.contains(MMPermissions::EXECUTE) {
                continue;
            }
            let path = match &map.pathname {
                MMapPath::Path(path) => path,
                MMapPath::Anonymous => {
                    found.extend(self.copy_at(memory, map.address));
                    continue;
                }
                _ => continue,
            };
            if path != binary {
                continue;
            }
            let (start, end) = map.address;
            for segment in &self.segments {
                // The linked address of the mapping's first byte.
                let Some(into) = map.offset.checked_sub(segment.file.start) else {
                    continue;
                };
                let linked = segment.address + into;
                let delta = start.wrapping_sub(linked);
                let from = self.linked.start.max(linked);
                let to = self.linked.end.min(linked.saturating_add(end - start));
                if from < to && map.offset < segment.file.end && delta != self.bias {
                    found.push((from.wrapping_add(delta)..to.wrapping_add(delta), delta));
                }
            }
        }
        found
    }

    /// The copy that is in an anonymous mapping (start, end), if one is: it is as long as
    /// the builtins, in whole pages, and says what they say.
    fn copy_at(&self, memory: &dyn Memory, (start, end): (u64, u64)) -> Option<(Range<u64>, u64)> {
        /// So much is compared, at each of `PLACES` places.
        const COMPARED: u64 = 64;
        const PLACES: u64 = 16;
        let size = self.linked.end - self.linked.start;
        let room = (end - start).checked_sub(size)?;
        if room >= 4096 || size < PLACES * COMPARED {
            return None;
        }
        let [mut ours, mut theirs] = [[0; COMPARED as usize]; 2];
        for place in 0..PLACES {
            let at = (size - COMPARED) / (PLACES - 1) * place;
            memory
                .read(self.in_binary().start.wrapping_add(at), &mut ours)
                .ok()?;
            memory.read(start + at, &mut theirs).ok()?;
            if ours != theirs {
                return None;
            }
        }
        Some((start..start + size, start.wrapping_sub(self.linked.start)))
    }

    /// Where they are in the binary as loaded.
    pub fn in_binary(&self) -> Range<u64> {
        self.linked.start.wrapping_add(self.bias)..self.linked.end.wrapping_add(self.bias)
    }

    /// Everywhere that they are known to be.
    pub fn places(&self) -> Vec<Range<u64>> {
        let copies = self.copies.borrow();
        let copies = copies.found.iter().map(|(range, _)| range.clone());
        std::iter::once(self.in_binary()).chain(copies).collect()
    }

    /// The name of the builtin with number `id`. Where they are in the binary,
    /// that is so if V8 laid them out in the order of their numbers, as it does
    /// unless it was built with a profile (`EmbeddedData::NewFromIsolate` in
    /// `src/snapshot/embedded/embedded-data.cc`): the caller makes sure that it
    /// is the right one.
    pub fn numbered(&self, id: u32) -> Option<&str> {
        match self.on_heap.get(id as usize) {
            Some(name) => Some(name),
            None => self.names.get(id as usize).map(|(_, name)| &**name),
        }
    }

    /// The builtin that `pc` is in.
    pub fn at(&self, pc: u64) -> Option<Builtin<'_>> {
        let linked = if self.in_binary().contains(&pc) {
            pc.wrapping_sub(self.bias)
        } else {
            let copies = self.copies.borrow();
            let mut found = copies.found.iter();
            let (_, delta) = found.find(|(range, _)| range.contains(&pc))?;
            pc.wrapping_sub(*delta)
        };
        let after = self.names.partition_point(|(start, _)| *start <= linked);
        Some(match self.names[..after].last() {
            Some((start, name)) => Builtin {
                name: Some(name),
                offset: linked - start,
            },
            None => Builtin {
                name: None,
                offset: linked - self.linked.start,
            },
        })
    }
}
