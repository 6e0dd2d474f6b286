//! The memory of a process, by way of one of its threads that stands still.

use std::cell::Cell;

use nodetap_v8::{Memory, Unreadable};

use super::sys;
use crate::memory::ProcessMemory;

const PAGE: u64 = 4096;
/// How many pieces the kernel reads at once (`IOV_MAX`).
const MOST_PIECES: usize = 1024;

/// The address space of a thread that stands still, and is traced by this thread of
/// ours.
///
/// Many words cost one system call. The kernel takes the address space that the
/// thread has at that moment: as long as the thread stands still it is the same, since
/// whoever execs another program ends all other threads first. So what is read is good
/// if the thread can be let go afterwards.
pub(super) struct StoppedMemory<'a> {
    pub tid: u32,
    /// The process's memory, for where the kernel (or who guards it) allows no reads
    /// by way of a thread.
    pub file: &'a ProcessMemory,
    /// Whether that was found out.
    pub only_file: &'a Cell<bool>,
}

impl StoppedMemory<'_> {
    /// Copies `pieces` (address and length) one after the other into `bytes`; how many
    /// bytes were copied before something could not be read.
    fn copy(&self, pieces: &[(u64, usize)], bytes: &mut [u8]) -> Option<usize> {
        if self.only_file.get() {
            return None;
        }
        match sys::read_memory(self.tid as i32, pieces, bytes) {
            Ok(copied) => Some(copied),
            Err(error) => match error.raw_os_error() {
                Some(libc::EPERM | libc::ENOSYS) => {
                    self.only_file.set(true);
                    None
                }
                _ => Some(0),
            },
        }
    }
}

impl Memory for StoppedMemory<'_> {
    fn read(&self, address: u64, buffer: &mut [u8]) -> Result<(), Unreadable> {
        match self.copy(&[(address, buffer.len())], buffer) {
            None => self.file.read(address, buffer),
            Some(copied) if copied == buffer.len() => Ok(()),
            Some(_) => Err(Unreadable { address }),
        }
    }

    fn words_at(&self, addresses: &[u64]) -> Vec<Option<u64>> {
        let mut words = vec![None; addresses.len()];
        let mut order: Vec<usize> = (0..addresses.len()).collect();
        order.sort_unstable_by_key(|&i| addresses[i]);
        let mut rest = &order[..];
        while !rest.is_empty() {
            let batch = Batch::of(rest.iter().map(|&i| addresses[i]));
            let mut bytes = vec![0; batch.length];
            let Some(copied) = self.copy(&batch.pieces, &mut bytes) else {
                return self.file.words_at(addresses);
            };
            let mut done = 0;
            for (&i, &(at, _)) in rest.iter().zip(&batch.words) {
                if at + 8 > copied {
                    break;
                }
                words[i] = bytes[at..at + 8].try_into().ok().map(u64::from_le_bytes);
                done += 1;
            }
            // The piece where it ended cannot be read; what comes after it may be.
            let left = &batch.words[done..];
            let in_piece = |&&(_, piece): &&(usize, usize)| piece == left[0].1;
            done += left.iter().take_while(in_piece).count();
            rest = &rest[done..];
        }
        words
    }
}

/// Where the page of `address` ends.
fn page_end(address: u64) -> u64 {
    (address - address % PAGE).saturating_add(PAGE)
}

/// Words that are read at once.
struct Batch {
    pieces: Vec<(u64, usize)>,
    /// Of all pieces.
    length: usize,
    /// Where each word comes to be, and the number of its piece.
    words: Vec<(usize, usize)>,
}

impl Batch {
    /// As many of `addresses`, which are sorted, as may be read at once.
    fn of(addresses: impl Iterator<Item = u64>) -> Batch {
        let mut batch = Batch {
            pieces: Vec::new(),
            length: 0,
            words: Vec::new(),
        };
        for address in addresses {
            let count = batch.pieces.len();
            match batch.pieces.last_mut() {
                // Words of one page cost as much as one of them.
                Some((start, size)) if address.saturating_add(8) <= page_end(*start) => {
                    let more = (address - *start) as usize + 8;
                    batch.length += more - *size;
                    *size = more;
                }
                _ if count == MOST_PIECES => break,
                _ => {
                    batch.pieces.push((address, 8));
                    batch.length += 8;
                }
            }
            batch.words.push((batch.length - 8, batch.pieces.len() - 1));
        }
        batch
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_of_our_own_and_of_nobody() {
        let file = ProcessMemory::open(std::process::id()).unwrap();
        let numbers: Vec<u64> = (0..20_000).map(|i| i * 77).collect();
        let address = |i: usize| &raw const numbers[i] as u64;
        for only_file in [false, true] {
            let memory = StoppedMemory {
                tid: std::process::id(),
                file: &file,
                only_file: &Cell::new(only_file),
            };
            assert_eq!(memory.words_at(&[]), []);
            let all: Vec<u64> = (0..numbers.len()).rev().map(address).collect();
            let expected: Vec<_> = numbers.iter().rev().copied().map(Some).collect();
            assert_eq!(memory.words_at(&all), expected);
            let some = [
                8,
                address(3),
                16,
                u64::MAX - 3,
                address(9000),
                4090,
                4096 + 8,
            ];
            let expected = [None, Some(231), None, None, Some(693_000), None, None];
            assert_eq!(memory.words_at(&some), expected);
            let far: Vec<u64> = (0..3000)
                .map(|i| address(i % 2) + 8 * (i as u64 % 3))
                .collect();
            assert!(memory.words_at(&far).iter().all(Option::is_some));
            let mut bytes = [0; 8];
            memory.read(address(5), &mut bytes).unwrap();
            assert_eq!(u64::from_le_bytes(bytes), 385);
            assert!(memory.read(8, &mut bytes).is_err());
        }
    }

    #[test]
    fn many_pages_take_more_than_one_batch() {
        let addresses = (0..3000).map(|i| i * PAGE + PAGE - 4);
        let batch = Batch::of(addresses);
        assert_eq!(batch.pieces.len(), MOST_PIECES);
        assert_eq!(batch.words.len(), MOST_PIECES);
        let batch = Batch::of([0, 8, 8, PAGE - 8, PAGE, u64::MAX].into_iter());
        assert_eq!(batch.pieces, [(0, 4096), (PAGE, 8), (u64::MAX, 8)]);
        assert_eq!(
            batch.words,
            [(0, 0), (8, 0), (8, 0), (4088, 0), (4096, 1), (4104, 2)]
        );
    }
}
