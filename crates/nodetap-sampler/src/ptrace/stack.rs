//! The words on a thread's stack, copied in large pieces.

use nodetap_v8::Memory;

/// What is copied at once, to begin with; each piece is larger than the last.
const PIECE: u64 = 16 << 10;
/// Words further above the stack pointer than this are no longer copied along
/// with all that lies below them.
const LARGEST: u64 = 64 << 20;
const PAGE: u64 = 4096;

/// A thread's stack from its stack pointer upwards, as far as it was asked for.
pub(super) struct StackCopy<'a> {
    memory: &'a dyn Memory,
    start: u64,
    bytes: Vec<u8>,
    /// There is nothing more above.
    ended: bool,
}

impl<'a> StackCopy<'a> {
    /// The stack of the thread whose stack pointer is `rsp`.
    pub fn new(memory: &'a dyn Memory, rsp: u64) -> StackCopy<'a> {
        StackCopy {
            memory,
            start: rsp,
            bytes: Vec::new(),
            ended: false,
        }
    }

    /// The word at `address`, wherever that is.
    pub fn word(&mut self, address: u64) -> Option<u64> {
        let Some(offset) = address.checked_sub(self.start) else {
            return self.elsewhere(address);
        };
        let end = offset.checked_add(8)?;
        if end > LARGEST {
            return self.elsewhere(address);
        }
        while (self.bytes.len() as u64) < end && !self.ended {
            self.copy_more();
        }
        match self.bytes.get(offset as usize..end as usize) {
            Some(word) => Some(u64::from_le_bytes(word.try_into().ok()?)),
            // Another mapping: the stack that a signal handler interrupted.
            None => self.elsewhere(address),
        }
    }

    /// Up to `count` words from the stack pointer upwards.
    pub fn first_words(&mut self, count: usize) -> Vec<u64> {
        let addresses = (0..count as u64).map_while(|i| self.start.checked_add(8 * i));
        let addresses: Vec<u64> = addresses.collect();
        addresses
            .into_iter()
            .map_while(|address| self.word(address))
            .collect()
    }

    fn elsewhere(&self, address: u64) -> Option<u64> {
        self.memory.u64(address).ok()
    }

    fn copy_more(&mut self) {
        let have = self.bytes.len();
        let Some(from) = self.start.checked_add(have as u64) else {
            self.ended = true;
            return;
        };
        let to_page_end = PAGE - from % PAGE;
        let large = PIECE.max(have as u64);
        // Where a large piece cannot be read, the stack may end in it.
        for size in [large - large % PAGE + to_page_end, to_page_end] {
            self.bytes.resize(have + size as usize, 0);
            if self.memory.read(from, &mut self.bytes[have..]).is_ok() {
                return;
            }
        }
        self.bytes.truncate(have);
        self.ended = true;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use nodetap_v8::Unreadable;

    /// Every word is its address, from 0x8000 up to the end.
    struct Numbered {
        end: u64,
    }

    impl Memory for Numbered {
        fn read(&self, address: u64, buffer: &mut [u8]) -> Result<(), Unreadable> {
            let end = address.checked_add(buffer.len() as u64);
            if address < 0x8000 || end.is_none_or(|end| end > self.end) {
                return Err(Unreadable { address });
            }
            for (byte, at) in buffer.iter_mut().zip(address..) {
                *byte = (at & !7).to_le_bytes()[(at % 8) as usize];
            }
            Ok(())
        }
    }

    #[test]
    fn words_are_found_up_to_the_end_of_the_stack_and_elsewhere() {
        for pages in [1, 2, 7, 300] {
            let end = 0x10_0000 + pages * PAGE;
            let memory = Numbered { end };
            let mut stack = StackCopy::new(&memory, 0x10_0010);
            for address in [0x10_0010, 0x10_0018, end - 8, 0x9000] {
                assert_eq!(stack.word(address), Some(address), "{address:#x}");
            }
            for address in [0, 0x7ff8, end - 4, end, end + LARGEST, u64::MAX - 3] {
                assert_eq!(stack.word(address), None, "{address:#x}");
            }
        }
    }

    #[test]
    fn the_first_words_end_with_the_stack() {
        let memory = Numbered { end: 0x10_0000 };
        let mut stack = StackCopy::new(&memory, 0xf_ffe8);
        assert_eq!(stack.first_words(64), [0xf_ffe8, 0xf_fff0, 0xf_fff8]);
        let mut nowhere = StackCopy::new(&memory, u64::MAX - 7);
        assert_eq!(nowhere.first_words(64), [0; 0]);
    }
}
