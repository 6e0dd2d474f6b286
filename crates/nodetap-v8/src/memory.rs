//! Reading bytes of a V8 heap, wherever it is: a live process, a core file, a
//! test's buffer.

/// The bytes asked for could not all be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("memory at {address:#x} cannot be read")]
pub struct Unreadable {
    /// The first byte that was asked for.
    pub address: u64,
}

/// An address space to read from.
///
/// The target runs while it is read, so a read may see bytes that are half
/// old and half new; whoever interprets them checks what it got.
pub trait Memory {
    /// Fills the whole of `buffer` from `address` on, or fails.
    fn read(&self, address: u64, buffer: &mut [u8]) -> Result<(), Unreadable>;

    /// The little-endian 64-bit word at each of `addresses`, `None` where there is
    /// none. Who can read many at once does.
    fn words_at(&self, addresses: &[u64]) -> Vec<Option<u64>> {
        let word = |&address: &u64| {
            let mut bytes = [0; 8];
            self.read(address, &mut bytes).ok()?;
            Some(u64::from_le_bytes(bytes))
        };
        addresses.iter().map(word).collect()
    }
}

impl dyn Memory + '_ {
    /// Reads a little-endian 64-bit word.
    pub fn u64(&self, address: u64) -> Result<u64, Unreadable> {
        let mut bytes = [0; 8];
        self.read(address, &mut bytes)?;
        Ok(u64::from_le_bytes(bytes))
    }

    /// Reads a little-endian 32-bit word.
    pub fn u32(&self, address: u64) -> Result<u32, Unreadable> {
        let mut bytes = [0; 4];
        self.read(address, &mut bytes)?;
        Ok(u32::from_le_bytes(bytes))
    }

    /// Reads a little-endian 16-bit word.
    pub fn u16(&self, address: u64) -> Result<u16, Unreadable> {
        let mut bytes = [0; 2];
        self.read(address, &mut bytes)?;
        Ok(u16::from_le_bytes(bytes))
    }

    /// Reads `length` bytes; the caller has bounded `length`.
    pub fn bytes(&self, address: u64, length: usize) -> Result<Vec<u8>, Unreadable> {
        let mut bytes = vec![0; length];
        self.read(address, &mut bytes)?;
        Ok(bytes)
    }

    /// Reads `count` little-endian 64-bit words; the caller has bounded `count`.
    pub fn words(&self, address: u64, count: usize) -> Result<Vec<u64>, Unreadable> {
        let bytes = self.bytes(address, count * 8)?;
        Ok(bytes
            .chunks_exact(8)
            .map(|word| u64::from_le_bytes(word.try_into().expect("chunks of 8")))
            .collect())
    }
}
