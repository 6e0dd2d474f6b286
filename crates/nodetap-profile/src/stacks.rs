//! Frames and stacks, each distinct one kept once.
//!
//! Stacks are kept as a tree of prefixes: a stack is its caller's stack and one more frame.
//! Stacks that share their outer frames, as nearly all do, share the memory for them, and a
//! parent always has a smaller number than its children, so that a pass over all stacks in
//! either direction needs no recursion.

use std::hash::{BuildHasher, RandomState};

use hashbrown::HashTable;

use crate::Frame;
use crate::prefixes::Prefixes;

/// A distinct frame of one profile.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct FrameId(u32);

impl FrameId {
    /// The id with this number, whether or not there is such a frame.
    pub(crate) fn from_number(number: u32) -> Self {
        Self(number)
    }

    pub(crate) fn number(self) -> u32 {
        self.0
    }

    /// The frame's index in [`Profile::frames`](crate::Profile::frames).
    pub fn index(self) -> usize {
        self.0 as usize
    }
}

/// A distinct stack of one profile.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct StackId(u32);

impl StackId {
    /// The stack without frames.
    pub const EMPTY: Self = Self(Prefixes::ROOT);

    /// The id with this number, whether or not there is such a stack.
    pub(crate) fn from_number(number: u32) -> Self {
        Self(number)
    }

    pub(crate) fn number(self) -> u32 {
        self.0
    }

    /// A number for this stack: below [`Profile::stack_count`](crate::Profile::stack_count),
    /// and above that of every stack that is this one's outer part.
    pub fn index(self) -> usize {
        self.0 as usize
    }
}

/// The distinct frames, in the order in which they were first seen.
///
/// Names come from the target, so the hash is a keyed one: a program can't choose names
/// that make its profiler slow.
#[derive(Clone, Debug, Default)]
pub(crate) struct Frames {
    frames: Vec<Frame>,
    ids: HashTable<u32>,
    hasher: RandomState,
}

impl Frames {
    pub(crate) fn intern(&mut self, frame: Frame) -> FrameId {
        let Self {
            frames,
            ids,
            hasher,
        } = self;
        let id = *ids
            .entry(
                hasher.hash_one(&frame),
                |&id| frames[id as usize] == frame,
                |&id| hasher.hash_one(&frames[id as usize]),
            )
            .or_insert(next_id(frames.len()))
            .get();
        if id as usize == frames.len() {
            frames.push(frame);
        }
        FrameId(id)
    }

    pub(crate) fn as_slice(&self) -> &[Frame] {
        &self.frames
    }

    pub(crate) fn get(&self, index: u32) -> Option<FrameId> {
        ((index as usize) < self.frames.len()).then_some(FrameId(index))
    }
}

/// The tree of distinct stacks. The root is the empty stack.
#[derive(Clone, Debug, Default)]
pub(crate) struct Stacks(Prefixes);

impl Stacks {
    pub(crate) fn intern(&mut self, parent: StackId, frame: FrameId) -> StackId {
        StackId(self.0.child(parent.0, frame.0))
    }

    /// The stack's innermost frame and the stack around it; `None` for the empty stack.
    pub(crate) fn get(&self, stack: StackId) -> Option<(StackId, FrameId)> {
        let (parent, frame) = self.0.get(stack.0)?;
        Some((StackId(parent), FrameId(frame)))
    }

    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    pub(crate) fn ids(&self) -> impl DoubleEndedIterator<Item = StackId> + use<> {
        (0..next_id(self.0.len())).map(StackId)
    }
}

/// The number that the next entry of a table gets.
fn next_id(len: usize) -> u32 {
    u32::try_from(len).expect("four billion entries don't fit in memory")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Kind;

    #[test]
    fn equal_frames_are_one_and_keep_their_order() {
        let mut frames = Frames::default();
        let ids: Vec<usize> = (0..3000)
            .map(|i| frames.intern(Frame::new(Kind::Js, format!("f{}", i % 1000))))
            .map(FrameId::index)
            .collect();
        assert_eq!(frames.as_slice().len(), 1000);
        assert_eq!(ids[..1000], (0..1000).collect::<Vec<_>>());
        assert_eq!(ids[1000..2000], ids[..1000]);
        assert_eq!(&*frames.as_slice()[999].function, "f999");
        assert_eq!(frames.get(999), Some(FrameId(999)));
        assert_eq!(frames.get(1000), None);
    }

    #[test]
    fn stacks_share_prefixes_and_parents_come_first() {
        let mut stacks = Stacks::default();
        let a = stacks.intern(StackId::EMPTY, FrameId(0));
        let ab = stacks.intern(a, FrameId(1));
        let ac = stacks.intern(a, FrameId(2));
        assert_eq!(stacks.intern(a, FrameId(1)), ab);
        assert_eq!(stacks.len(), 4);
        assert_eq!(stacks.get(ac), Some((a, FrameId(2))));
        assert_eq!(stacks.get(a), Some((StackId::EMPTY, FrameId(0))));
        assert_eq!(stacks.get(StackId::EMPTY), None);
        assert!(
            stacks
                .ids()
                .skip(1)
                .all(|id| stacks.get(id).unwrap().0 < id)
        );
    }
}
