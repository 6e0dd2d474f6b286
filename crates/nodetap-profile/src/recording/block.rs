//! Blocks: a payload, deflated, with lengths and a checksum before it.

use std::io::{self, Read, Write};

use flate2::Compression;
use flate2::read::DeflateDecoder;
use flate2::write::DeflateEncoder;

use super::MAX_BLOCK;

/// Kind, stored length, length, checksum.
pub(super) const HEADER: usize = 1 + 4 + 4 + 4;

/// Writes a block.
pub(super) fn write(kind: u8, payload: &[u8], out: &mut impl Write) -> io::Result<()> {
    let mut encoder = DeflateEncoder::new(vec![0; HEADER], Compression::new(4));
    encoder.write_all(payload)?;
    let mut block = encoder.finish()?;
    let length = |bytes: usize| u32::try_from(bytes).map_err(io::Error::other);
    let stored = length(block.len() - HEADER)?;
    block[0] = kind;
    block[1..5].copy_from_slice(&stored.to_le_bytes());
    block[5..9].copy_from_slice(&length(payload.len())?.to_le_bytes());
    let checksum = checksum(&block);
    block[9..13].copy_from_slice(&checksum.to_le_bytes());
    // In one piece, so that whoever is killed meanwhile most likely leaves it whole.
    out.write_all(&block)
}

/// That of a block's header up to there, and its payload.
fn checksum(block: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&block[..HEADER - 4]);
    hasher.update(&block[HEADER..]);
    hasher.finalize()
}

/// What stands where a block is expected.
pub(super) enum Block {
    /// A block of this kind and its payload.
    Whole(u8, Vec<u8>),
    /// Nothing more.
    None,
    /// The beginning of one.
    Part,
    /// Something that none is.
    Damaged,
}

/// Reads the next block. No more is kept in memory than there is, nor than a block may have.
pub(super) fn read(input: &mut impl Read) -> io::Result<Block> {
    let mut block = Vec::new();
    input.by_ref().take(HEADER as u64).read_to_end(&mut block)?;
    match block.len() {
        0 => return Ok(Block::None),
        HEADER => {}
        _ => return Ok(Block::Part),
    }
    let number = |at: usize| u32::from_le_bytes([0, 1, 2, 3].map(|it| block[at + it]));
    let (kind, stored, length, expected) = (block[0], number(1), number(5), number(9));
    // What does not get shorter gets few bytes longer.
    if stored as usize > MAX_BLOCK + (MAX_BLOCK >> 8) || length as usize > MAX_BLOCK {
        return Ok(Block::Damaged);
    }
    input.by_ref().take(stored.into()).read_to_end(&mut block)?;
    if block.len() < HEADER + stored as usize {
        return Ok(Block::Part);
    }
    if checksum(&block) != expected {
        return Ok(Block::Damaged);
    }
    let mut payload = Vec::new();
    let mut decoder = DeflateDecoder::new(&block[HEADER..]).take(u64::from(length) + 1);
    match decoder.read_to_end(&mut payload) {
        Ok(read) if read == length as usize => Ok(Block::Whole(kind, payload)),
        _ => Ok(Block::Damaged),
    }
}
