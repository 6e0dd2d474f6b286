//! From a record of the ring buffer to a sample.

use std::mem::size_of;

use super::shared::{
    FrameRecord, IN_KERNEL, NOT_ABOVE, NOT_CODE, SampleHeader, TRUNCATED, UNREADABLE,
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

const _: () = assert!(size_of::<FrameRecord>() == 8 * 8 + 2 * 4);
const _: () = assert!(size_of::<SampleHeader>() == 8 + 6 * 4 + 17 * 8 + 64 * 8);

/// The sample in `bytes`, or nothing where their length is not what the header
/// says or they are not aligned to 8 bytes.
pub(super) fn parse(bytes: &[u8]) -> Option<RawSampleRef<'_>> {
    let (header, rest) = take::<SampleHeader>(bytes, 1)?;
    let header = header.first()?;
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
        registers: &header.registers,
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
