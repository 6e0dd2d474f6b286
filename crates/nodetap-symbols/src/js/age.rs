//! Is it too late to read what a sample saw?
//!
//! Memory that the collector has freed stays as it was until something else is put
//! there, piece by piece: what is read then may be of several objects that never
//! were one. That takes a full collection, sweeping, and allocation of the same
//! kinds of objects, so what has been seen a moment ago is safe. Of older samples
//! only what is known already is told, unless the frame is still on the stack, which
//! keeps alive all that belongs to it.

use nodetap_sampler::raw::{FrameRecord, RawSampleRef};
use nodetap_v8::Heap;
use rustix::time::{ClockId, clock_gettime};

/// Above the longest time that samples wait when nodetap gets to run.
const MAX_AGE_NS: u64 = 50_000_000;

/// How far below a frame pointer its function is.
const FUNCTION_BELOW: u64 = 16;

/// More of a stack is not read.
const MAX_WORDS: u64 = 8192;

/// Whether `sample` was taken longer ago than a moment. One of a process that stands
/// still has no time.
pub fn is_old(sample: &RawSampleRef<'_>) -> bool {
    if sample.time_ns == 0 {
        return false;
    }
    let now = clock_gettime(ClockId::Monotonic);
    let now = now.tv_sec.unsigned_abs() * 1_000_000_000 + now.tv_nsec.unsigned_abs();
    now.saturating_sub(sample.time_ns) > MAX_AGE_NS
}

/// Which frames of a sample are still on the stack.
#[derive(Clone, Debug, Default)]
pub struct Remaining {
    /// The words from the first frame's function on, as they are now.
    words: Vec<u64>,
    start: u64,
}

impl Remaining {
    /// Of `frames`, now.
    pub fn of(heap: &Heap<'_>, frames: &[FrameRecord]) -> Remaining {
        // The chain may end anywhere: the last one that matters is a function's.
        let last = frames.iter().rfind(|frame| frame.script_id != 0);
        let (Some(first), Some(last)) = (frames.first(), last) else {
            return Remaining::default();
        };
        let start = first.fp.wrapping_sub(FUNCTION_BELOW);
        let count = (last.fp.wrapping_sub(start) / 8).saturating_add(2);
        let count = count.min(MAX_WORDS) as usize;
        Remaining {
            words: heap.memory.words(start, count).unwrap_or_default(),
            start,
        }
    }

    fn word(&self, address: u64) -> Option<u64> {
        let index = address.checked_sub(self.start)? / 8;
        self.words.get(usize::try_from(index).ok()?).copied()
    }

    /// Whether the frame `index` of `frames` is there: its function in its slot, so
    /// many bytes from its frame pointer, and above the frame that it called the
    /// address where it goes on; of the first frame, where its caller does. The
    /// collector would have changed them, had it moved what they point to.
    pub fn has(&self, slot: i32, frames: &[FrameRecord], index: usize) -> bool {
        let below = index.saturating_sub(1);
        let (Some(record), Some(callee), Some(caller)) =
            (frames.get(index), frames.get(below), frames.get(below + 1))
        else {
            return false;
        };
        let slot = record.fp.wrapping_add_signed(slot.into());
        self.word(callee.fp.wrapping_add(8)) == Some(caller.pc)
            && self.word(slot) == Some(record.function)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_remains_while_its_words_do() {
        let mut words = vec![0; 42];
        let frame = |fp, pc, function| FrameRecord {
            fp,
            pc,
            function,
            ..FrameRecord::default()
        };
        let frames = [
            frame(0x1000, 1, 0x4001),
            frame(0x1040, 77, 0x5001),
            frame(0x1080, 88, 0x6001),
        ];
        // Above the frame at 0x1000, below those at 0x1040 and 0x1080.
        words[0] = 0x4001;
        words[3] = 77;
        words[8] = 0x5001;
        words[11] = 88;
        words[16] = 0x6009;
        let start = 0x1000 - FUNCTION_BELOW;
        let remaining = Remaining { words, start };
        let there = [0, 1, 2, 3].map(|index| remaining.has(-16, &frames, index));
        assert_eq!(there, [true, true, false, false]);
    }
}
