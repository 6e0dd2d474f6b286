//! What was read a moment ago.
//!
//! A read of another process costs a microsecond, however short it is, and naming a
//! function takes dozens of them: of an object's map, its type, its fields. Two things
//! make most of them needless, and neither changes what those who read may rely on:
//!
//! * What follows in memory is read along, and the *next* reads are served from that as
//!   long as they ask for nothing else. A read of anything else lets go of it. So what is
//!   read again, to see whether it still is what it was, comes from the process again,
//!   unless nothing else was read in between; then all of it was read at once.
//! * What the process itself cannot write does not change: V8 keeps the maps of its own
//!   objects in such memory. Its pages are kept for a moment.

use std::ops::Range;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use rustc_hash::FxHashMap;
use rustix::time::{ClockId, clock_gettime};

const PAGE: u64 = 4096;
/// How much is read along: V8's objects with a fixed size are smaller.
const LINE: usize = 128;
/// What is larger than that is read by itself.
const LARGEST: usize = 64;
/// How long a page is believed that cannot be written. Memory may be mapped anew.
const PATIENCE: Duration = Duration::from_millis(20);

/// What was read of one process. It has no more than some hundred pages.
#[derive(Debug, Default)]
pub(super) struct Recent(Mutex<Kept>);

#[derive(Debug)]
struct Kept {
    /// What was read last. Its bytes begin at `start`; nothing is there where it is empty.
    line: [u8; LINE],
    start: u64,
    length: usize,
    /// By the coarse clock: it is let go at the next tick.
    read: Duration,
    /// Memory that the process cannot write, sorted.
    constant: Vec<Range<u64>>,
    pages: FxHashMap<u64, Page>,
}

#[derive(Debug)]
struct Page {
    bytes: Box<[u8]>,
    read: Duration,
}

impl Default for Kept {
    fn default() -> Kept {
        Kept {
            line: [0; LINE],
            start: 0,
            length: 0,
            read: Duration::ZERO,
            constant: Vec::new(),
            pages: FxHashMap::default(),
        }
    }
}

impl Recent {
    /// From here on this memory is what the process cannot write.
    pub(super) fn set_constant(&self, mut ranges: Vec<Range<u64>>) {
        ranges.sort_unstable_by_key(|range| range.start);
        self.with(|kept| {
            kept.constant = ranges;
            kept.pages.clear();
        });
    }

    /// Fills `buffer` from `address` on, from what is kept or by `read`. Returns whether
    /// it could be read.
    pub(super) fn read(
        &self,
        address: u64,
        buffer: &mut [u8],
        read: impl Fn(&mut [u8], u64) -> bool,
    ) -> bool {
        self.with(|kept| kept.read(now(), address, buffer, read))
    }

    fn with<T>(&self, work: impl FnOnce(&mut Kept) -> T) -> T {
        work(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Kept {
    fn read(
        &mut self,
        now: Duration,
        address: u64,
        buffer: &mut [u8],
        read: impl Fn(&mut [u8], u64) -> bool,
    ) -> bool {
        // As many as are in the page.
        let left = (PAGE - address % PAGE) as usize;
        if buffer.len() > LARGEST.min(left) {
            self.length = 0;
            return read(buffer, address);
        }
        if self.is_constant(address)
            && let Some(page) = self.page(now, address - address % PAGE, &read)
        {
            let from = (address % PAGE) as usize;
            buffer.copy_from_slice(&page[from..from + buffer.len()]);
            return true;
        }
        let is_kept = self.read == now
            && address
                .checked_sub(self.start)
                .is_some_and(|from| from as usize + buffer.len() <= self.length);
        if !is_kept {
            let length = LINE.min(left);
            self.length = 0;
            if !read(&mut self.line[..length], address) {
                return false;
            }
            (self.start, self.length, self.read) = (address, length, now);
        }
        let from = (address - self.start) as usize;
        buffer.copy_from_slice(&self.line[from..from + buffer.len()]);
        true
    }

    fn is_constant(&self, address: u64) -> bool {
        let after = self
            .constant
            .partition_point(|range| range.start <= address);
        let before = after.checked_sub(1).map(|index| &self.constant[index]);
        before.is_some_and(|range| address < range.end)
    }

    /// The page that begins at `start`; `None` where it cannot be read.
    fn page(
        &mut self,
        now: Duration,
        start: u64,
        read: &impl Fn(&mut [u8], u64) -> bool,
    ) -> Option<&[u8]> {
        let page = self.pages.entry(start).or_insert_with(|| Page {
            bytes: Box::default(),
            read: Duration::ZERO,
        });
        if page.bytes.is_empty() || now.saturating_sub(page.read) >= PATIENCE {
            let mut bytes = std::mem::take(&mut page.bytes).into_vec();
            bytes.resize(PAGE as usize, 0);
            if !read(&mut bytes, start) {
                return None;
            }
            page.bytes = bytes.into();
            page.read = now;
        }
        Some(&page.bytes)
    }
}

/// A clock that takes no time to read, and goes on every few milliseconds.
fn now() -> Duration {
    let now = clock_gettime(ClockId::MonotonicCoarse);
    // It counts up from 0 at boot.
    Duration::new(now.tv_sec.unsigned_abs(), now.tv_nsec.unsigned_abs() as u32)
}

#[cfg(test)]
mod tests {
    use std::cell::{Cell, RefCell};

    use super::*;

    const FIRST: u64 = 0x10_000;
    const SIZE: u64 = 4 * PAGE;

    /// Four pages that are read and change.
    struct Process {
        bytes: RefCell<Vec<u8>>,
        reads: Cell<u32>,
    }

    impl Process {
        fn new() -> Process {
            let bytes: Vec<u8> = (0..SIZE).map(|at| (at / 8 % 251) as u8).collect();
            Process {
                bytes: RefCell::new(bytes),
                reads: Cell::new(0),
            }
        }

        fn write(&self, address: u64, byte: u8) {
            self.bytes.borrow_mut()[(address - FIRST) as usize] = byte;
        }

        fn byte(&self, kept: &mut Kept, at: u64, address: u64) -> Option<u8> {
            self.bytes(kept, at, address, 1).map(|bytes| bytes[0])
        }

        fn bytes(&self, kept: &mut Kept, at: u64, address: u64, length: usize) -> Option<Vec<u8>> {
            let mut buffer = vec![0; length];
            let read = |buffer: &mut [u8], address: u64| {
                self.reads.set(self.reads.get() + 1);
                let bytes = self.bytes.borrow();
                let from = address.checked_sub(FIRST).map(|from| from as usize);
                let found = from.and_then(|from| bytes.get(from..from + buffer.len()));
                found.map(|found| buffer.copy_from_slice(found)).is_some()
            };
            let now = Duration::from_millis(at);
            kept.read(now, address, &mut buffer, read).then_some(buffer)
        }
    }

    #[test]
    fn what_follows_is_read_along() {
        let (process, mut kept) = (Process::new(), Kept::default());
        for offset in (0..LINE as u64).step_by(8) {
            let expected = Some((offset / 8 % 251) as u8);
            assert_eq!(process.byte(&mut kept, 4, FIRST + offset), expected);
        }
        assert_eq!(process.reads.get(), 1);
        assert_eq!(process.byte(&mut kept, 4, FIRST + LINE as u64), Some(16));
        assert_eq!(process.reads.get(), 2);
    }

    #[test]
    fn what_is_read_again_after_anything_else_is_read_anew() {
        for other in [FIRST + 1024, FIRST + PAGE - 4] {
            for length in [1, 8, 64, 65, 300] {
                let (process, mut kept) = (Process::new(), Kept::default());
                assert_eq!(process.byte(&mut kept, 4, FIRST + 8), Some(1));
                process.write(FIRST + 8, 200);
                assert!(process.bytes(&mut kept, 4, other, length).is_some());
                assert_eq!(process.byte(&mut kept, 4, FIRST + 8), Some(200));
            }
        }
        // What cannot be read is something else too.
        let (process, mut kept) = (Process::new(), Kept::default());
        assert_eq!(process.byte(&mut kept, 4, FIRST + 8), Some(1));
        process.write(FIRST + 8, 200);
        assert_eq!(process.byte(&mut kept, 4, 8), None);
        assert_eq!(process.byte(&mut kept, 4, FIRST + 8), Some(200));
    }

    #[test]
    fn nothing_that_can_change_is_kept_for_longer_than_a_tick() {
        let (process, mut kept) = (Process::new(), Kept::default());
        assert_eq!(process.byte(&mut kept, 4, FIRST + 8), Some(1));
        process.write(FIRST + 8, 200);
        assert_eq!(process.byte(&mut kept, 8, FIRST + 8), Some(200));
    }

    #[test]
    fn what_cannot_be_written_is_read_once_in_a_while() {
        let (process, mut kept) = (Process::new(), Kept::default());
        let constant = FIRST + PAGE..FIRST + 2 * PAGE;
        kept.constant = vec![1..2, constant.clone()];
        let first = process.byte(&mut kept, 40, constant.start);
        assert!(process.byte(&mut kept, 40, FIRST).is_some());
        assert_eq!(process.reads.get(), 2);
        // It does not take the place of what can change.
        process.write(FIRST, 200);
        process.write(constant.start, 201);
        assert_eq!(process.byte(&mut kept, 40, constant.start), first);
        assert!(process.byte(&mut kept, 40, constant.end - 1).is_some());
        assert_eq!(process.byte(&mut kept, 40, FIRST), Some(0));
        assert_eq!(process.reads.get(), 2);
        assert_eq!(process.byte(&mut kept, 60, constant.start), Some(201));
        assert_eq!(process.byte(&mut kept, 60, FIRST), Some(200));
        assert_eq!(process.reads.get(), 4);
    }

    #[test]
    fn any_read_is_what_the_process_has() {
        let (process, mut kept) = (Process::new(), Kept::default());
        kept.constant.push(FIRST + PAGE..FIRST + 2 * PAGE);
        for address in (FIRST - 70..FIRST + SIZE + 8).step_by(13) {
            for length in [1, 2, 4, 8, 60, 64, 65, 128, 129, 5000] {
                let from = address.checked_sub(FIRST).map(|from| from as usize);
                let bytes = process.bytes.borrow().clone();
                let expected = from.and_then(|from| bytes.get(from..from + length));
                let found = process.bytes(&mut kept, 4, address, length);
                assert_eq!(found.as_deref(), expected, "{address:#x} {length}");
            }
        }
    }
}
