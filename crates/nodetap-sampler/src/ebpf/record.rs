//! From a record of the ring buffer to a sample, or to the end of a wait.

use std::mem::size_of;

use super::shared::{
    ENDED, FrameRecord, HAS_CODE, IN_KERNEL, NOT_ABOVE, NOT_CODE, SampleHeader, TRUNCATED,
    UNREADABLE, WaitEnd,
};
use crate::raw::RawSampleRef;

/// A record whose every bit pattern is a valid value.
///
/// # Safety
/// The type is `repr(C)`, without padding, and made of integers only.
unsafe trait Plain: Copy {}

// SAFETY: an integer.
unsafe impl Plain for u64 {}
// SAFETY: `repr(C)`, integers only; no padding, as asserted below.
unsafe impl Plain for SampleHeader {}
// SAFETY: `repr(C)`, integers only; no padding, as asserted below.
unsafe impl Plain for FrameRecord {}
// SAFETY: `repr(C)`, integers only; no padding, as asserted below.
unsafe impl Plain for WaitEnd {}

const _: () = assert!(size_of::<FrameRecord>() == 8 * 8 + 2 * 4);
const _: () = assert!(size_of::<WaitEnd>() == 2 * 8 + 2 * 4);
const _: () = assert!(size_of::<SampleHeader>() == 8 + 8 * 4 + 17 * 8 + 32 + 64 * 8);

/// What a record is.
pub(super) enum Record<'a> {
    /// A stack.
    Sample(&'a SampleHeader, RawSampleRef<'a>),
    /// A thread has a CPU again.
    WaitEnd(&'a WaitEnd),
}

/// What is in `bytes`; nothing where their length is not that of anything, or they are
/// not aligned to 8 bytes.
pub(super) fn parse(bytes: &[u8]) -> Option<Record<'_>> {
    if bytes.len() == size_of::<WaitEnd>() {
        let (ends, _) = take::<WaitEnd>(bytes, 1)?;
        return ends.first().map(Record::WaitEnd);
    }
    let (header, rest) = take::<SampleHeader>(bytes, 1)?;
    let header = header.first()?;
    Some(Record::Sample(header, sample(header, rest)?))
}

/// The sample that begins with `header`, and goes on with exactly `rest`.
fn sample<'a>(header: &'a SampleHeader, rest: &'a [u8]) -> Option<RawSampleRef<'a>> {
    let (frames, rest) = take::<FrameRecord>(rest, header.frame_count as usize)?;
    let (kernel, rest) = take::<u64>(rest, header.kernel_count as usize)?;
    if !rest.is_empty() {
        return None;
    }
    Some(RawSampleRef {
        time_ns: header.time_ns,
        pid: header.pid,
        tid: header.tid,
        in_kernel: header.flags & IN_KERNEL != 0,
        truncated: header.flags & TRUNCATED != 0,
        broken: header.flags & (UNREADABLE | NOT_ABOVE | NOT_CODE) != 0,
        complete: header.flags & ENDED != 0,
        wait: None,
        registers: &header.registers,
        code: (header.flags & HAS_CODE != 0).then_some(&header.code),
        stack: header.stack.get(..header.stack_count as usize)?,
        frames,
        kernel,
    })
}

/// `count` records from the start of `bytes`, and what follows them.
fn take<T: Plain>(bytes: &[u8], count: usize) -> Option<(&[T], &[u8])> {
    let (records, rest) = bytes.split_at_checked(count.checked_mul(size_of::<T>())?)?;
    // SAFETY: `Plain` types are valid for every bit pattern; `align_to` takes
    // care of the alignment.
    let (before, records, after) = unsafe { records.align_to::<T>() };
    (before.is_empty() && after.is_empty()).then_some((records, rest))
}

#[cfg(test)]
mod tests {
    use super::super::shared::{Registers, STACK_WORDS};
    use super::*;

    fn parsed(bytes: &[u8]) -> Option<RawSampleRef<'_>> {
        match parse(bytes)? {
            Record::Sample(_, sample) => Some(sample),
            Record::WaitEnd(_) => None,
        }
    }

    #[test]
    fn the_end_of_a_wait() {
        let words = [5, 9, 3];
        assert!(matches!(
            parse(bytes(&words)),
            Some(Record::WaitEnd(WaitEnd {
                since_ns: 5,
                time_ns: 9,
                wait_key: 3,
                zero: 0
            }))
        ));
        assert!(parse(&bytes(&words)[..16]).is_none());
    }

    const HEADER_WORDS: usize = size_of::<SampleHeader>() / 8;
    const FRAME_WORDS: usize = size_of::<FrameRecord>() / 8;

    /// A sample's words: a header with these numbers, then zeros but for the
    /// first word of each frame, which is its number.
    fn words(flags: u32, frames: u32, kernel: u32, stack: u32) -> Vec<u64> {
        let mut words = vec![0; HEADER_WORDS];
        words[0] = 123;
        words[1] = 7 | 8 << 32;
        words[2] = u64::from(flags) | u64::from(frames) << 32;
        words[3] = u64::from(kernel) | u64::from(stack) << 32;
        words[5] = 0x1000;
        for frame in 0..u64::from(frames) {
            words.push(frame);
            words.resize(words.len() + FRAME_WORDS - 1, 0);
        }
        words.extend((0..u64::from(kernel)).map(|pc| pc + 0xffff));
        words
    }

    fn bytes(words: &[u64]) -> &[u8] {
        // SAFETY: bytes have no alignment and no invalid values.
        let (before, bytes, after) = unsafe { words.align_to::<u8>() };
        assert!(before.is_empty() && after.is_empty());
        bytes
    }

    #[test]
    fn a_whole_sample() {
        let words = words(IN_KERNEL | NOT_ABOVE, 3, 2, STACK_WORDS);
        let sample = parsed(bytes(&words)).expect("a sample");
        assert_eq!((sample.time_ns, sample.pid, sample.tid), (123, 7, 8));
        assert!(sample.in_kernel && sample.broken && !sample.truncated);
        let registers = Registers {
            rip: 0x1000,
            ..Default::default()
        };
        assert_eq!(*sample.registers, registers);
        assert_eq!(sample.stack, [0; STACK_WORDS as usize]);
        let pcs: Vec<u64> = sample.frames.iter().map(|frame| frame.pc).collect();
        assert_eq!(pcs, [0, 1, 2]);
        assert_eq!(sample.kernel, [0xffff, 0x10000]);
    }

    #[test]
    fn no_frames_at_all() {
        let words = words(0, 0, 0, 0);
        let sample = parsed(bytes(&words)).expect("a sample");
        assert!(sample.frames.is_empty() && sample.kernel.is_empty() && sample.stack.is_empty());
        assert!(!sample.in_kernel && !sample.broken && !sample.truncated);
    }

    #[test]
    fn lengths_that_lie() {
        let whole = words(0, 3, 2, 1);
        let whole = bytes(&whole);
        for length in 0..whole.len() {
            assert!(parsed(&whole[..length]).is_none(), "{length} bytes");
        }
        let mut longer = words(0, 3, 2, 1);
        longer.push(0);
        assert!(parsed(bytes(&longer)).is_none());
        assert!(parsed(&bytes(&longer)[1..]).is_none());
        assert!(parsed(bytes(&words(0, 0, 0, STACK_WORDS + 1))).is_none());
        let mut huge = words(0, 1, 0, 0);
        huge[2] = u64::from(u32::MAX) << 32;
        assert!(parsed(bytes(&huge)).is_none());
    }
}
