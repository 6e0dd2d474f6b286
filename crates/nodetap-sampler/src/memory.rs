//! The memory of a process, alive or in a core file.

mod recent;

use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use nodetap_v8::{Memory, Unreadable};

use crate::core::Core;
use recent::Recent;

/// The address space that a process had when this was opened.
///
/// That of a live process goes through `/proc/PID/mem`, whose open file stays with
/// that address space: after the process ends, or execs another program, every read
/// fails instead of reading something else.
#[derive(Debug)]
pub struct ProcessMemory {
    place: Place,
    /// None: each read asks the process.
    recent: Option<Recent>,
}

#[derive(Debug)]
enum Place {
    Alive(File),
    Core(Arc<Core>),
}

impl ProcessMemory {
    /// Opens the memory of `pid` for reading. Nothing is ever written to it.
    ///
    /// # Errors
    /// `PermissionDenied` where this user may not trace that process,
    /// `NotFound` where there is none.
    pub fn open(pid: u32) -> io::Result<ProcessMemory> {
        let file = File::open(format!("/proc/{pid}/mem"))?;
        Ok(ProcessMemory::new(Place::Alive(file)))
    }

    /// What a core file has of it.
    pub(crate) fn of_core(core: Arc<Core>) -> ProcessMemory {
        ProcessMemory::new(Place::Core(core))
    }

    fn new(place: Place) -> ProcessMemory {
        ProcessMemory {
            place,
            recent: None,
        }
    }

    /// The same for those who read many objects, with many short reads, and read again
    /// what may have changed meanwhile: short reads take along what follows, and what
    /// they say may be some milliseconds old where nothing else was read in between.
    pub(crate) fn with_neighbours(self) -> ProcessMemory {
        let recent = match self.place {
            Place::Alive(_) => Some(Recent::default()),
            // It is all here.
            Place::Core(_) => None,
        };
        ProcessMemory { recent, ..self }
    }

    /// Says what of it the process itself cannot write, and never will.
    pub(crate) fn set_constant(&self, ranges: Vec<Range<u64>>) {
        if let Some(recent) = &self.recent {
            recent.set_constant(ranges);
        }
    }

    /// The same address space once more, for another thread of ours, without neighbours.
    ///
    /// # Errors
    /// Where we have too many files open.
    pub fn try_clone(&self) -> io::Result<ProcessMemory> {
        Ok(ProcessMemory::new(match &self.place {
            Place::Alive(file) => Place::Alive(file.try_clone()?),
            Place::Core(core) => Place::Core(core.clone()),
        }))
    }
}

impl Memory for ProcessMemory {
    fn read(&self, address: u64, buffer: &mut [u8]) -> Result<(), Unreadable> {
        let file = match &self.place {
            Place::Alive(file) => file,
            Place::Core(core) => return core.read(address, buffer),
        };
        let read = |buffer: &mut [u8], address| file.read_exact_at(buffer, address).is_ok();
        let was_read = match &self.recent {
            Some(recent) => recent.read(address, buffer, read),
            None => read(buffer, address),
        };
        was_read.then_some(()).ok_or(Unreadable { address })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn our_own_memory_is_read_and_a_hole_is_not() {
        let memory = ProcessMemory::open(std::process::id()).unwrap();
        is_read_and_a_hole_is_not(&memory);
        is_read_and_a_hole_is_not(&memory.with_neighbours());
    }

    fn is_read_and_a_hole_is_not(memory: &ProcessMemory) {
        let secret = *b"written here";
        let mut read = [0; 12];
        memory.read(secret.as_ptr() as u64, &mut read).unwrap();
        assert_eq!(read, secret);
        assert_eq!(
            memory.read(8, &mut read),
            Err(Unreadable { address: 8 }),
            "the null page"
        );
        // Partly readable is not readable: the last page of the stack's end.
        assert!(memory.read(u64::MAX - 4, &mut read).is_err());
    }
}
