//! The memory of a process, alive or in a core file.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use nodetap_v8::{Memory, Unreadable};

use crate::core::Core;

/// The address space that a process had when this was opened.
///
/// That of a live process goes through `/proc/PID/mem`, whose open file stays with
/// that address space: after the process ends, or execs another program, every read
/// fails instead of reading something else.
#[derive(Debug)]
pub struct ProcessMemory(Place);

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
        Ok(ProcessMemory(Place::Alive(file)))
    }

    /// What a core file has of it.
    pub(crate) fn of_core(core: Arc<Core>) -> ProcessMemory {
        ProcessMemory(Place::Core(core))
    }

    /// The same address space once more, for another thread of ours.
    ///
    /// # Errors
    /// Where we have too many files open.
    pub fn try_clone(&self) -> io::Result<ProcessMemory> {
        Ok(ProcessMemory(match &self.0 {
            Place::Alive(file) => Place::Alive(file.try_clone()?),
            Place::Core(core) => Place::Core(core.clone()),
        }))
    }
}

impl Memory for ProcessMemory {
    fn read(&self, address: u64, buffer: &mut [u8]) -> Result<(), Unreadable> {
        match &self.0 {
            Place::Alive(file) => file
                .read_exact_at(buffer, address)
                .map_err(|_| Unreadable { address }),
            Place::Core(core) => core.read(address, buffer),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn our_own_memory_is_read_and_a_hole_is_not() {
        let memory = ProcessMemory::open(std::process::id()).unwrap();
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
