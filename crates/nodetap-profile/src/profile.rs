//! What one recording took.

use std::io;
use std::path::Path;
use std::time::Duration;

use jiff::Timestamp;
use rustc_hash::FxHashMap;
use serde::{Deserialize, Serialize};

use crate::sequence::Sequence;
use crate::stacks::{Frames, Stacks};
use crate::{Frame, FrameId, Sample, SampleKey, StackId};

/// How a recording was made, and what it could not keep.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Metadata {
    /// What took the stacks: `ebpf` or `ptrace`.
    pub sampler: String,
    /// How many samples a second were asked for, for each busy thread.
    pub rate_hz: u32,
    /// When the recording started, by the wall clock. Samples count their time from here.
    pub start: Timestamp,
    /// How long it took. Formats write it in whole milliseconds.
    pub duration: Duration,
    /// Samples lost because the buffer was full.
    pub lost: u64,
    /// Stacks cut because they were deeper than the allowed depth.
    pub truncated: u64,
    /// Stacks whose walk did not reach the thread's first frame.
    pub incomplete: u64,
}

impl Metadata {
    /// Metadata of a recording that starts now; what it will take is still 0.
    pub fn new(sampler: impl Into<String>, rate_hz: u32) -> Self {
        Self {
            sampler: sampler.into(),
            rate_hz,
            start: Timestamp::now(),
            duration: Duration::ZERO,
            lost: 0,
            truncated: 0,
            incomplete: 0,
        }
    }
}

/// A process that was recorded.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Process {
    /// Its id.
    pub pid: u32,
    /// Its command line, one argument an entry.
    #[serde(default)]
    pub command: Vec<String>,
    /// Node's version as Node writes it, `v24.21.0`; absent where unknown.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node: Option<String>,
    /// V8's version, `13.6.233.17-node.53`; absent where unknown.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub v8: Option<String>,
}

/// A thread that was recorded.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Thread {
    /// Its process.
    pub pid: u32,
    /// Its id.
    pub tid: u32,
    /// Its name.
    #[serde(default)]
    pub name: String,
}

/// A thread of one profile.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ThreadId(u32);

impl ThreadId {
    /// The id with this number, whether or not there is such a thread.
    pub(crate) fn from_number(number: u32) -> Self {
        Self(number)
    }

    pub(crate) fn number(self) -> u32 {
        self.0
    }

    /// The thread's index in [`Profile::threads`].
    pub fn index(self) -> usize {
        self.0 as usize
    }
}

/// What one recording took. See the [crate](crate)'s example for how it is filled.
///
/// Its memory grows with what is distinct, and not with time: samples are counted by what
/// they are of, and their order, if it is wanted, goes to a file when it is long.
#[derive(Debug)]
pub struct Profile {
    /// How it was made; to be completed when the recording ends.
    pub metadata: Metadata,
    processes: Vec<Process>,
    /// By their ids the indexes of the processes.
    index_of_pid: FxHashMap<u32, usize>,
    threads: Vec<Thread>,
    frames: Frames,
    stacks: Stacks,
    counts: FxHashMap<SampleKey, u64>,
    sample_count: u64,
    /// Absent where nobody will ask for it.
    sequence: Option<Sequence>,
    /// Those that nobody has taken yet, where somebody does.
    handed_out: Option<Vec<Sample>>,
}

impl Profile {
    /// A profile without samples.
    pub fn new(metadata: Metadata) -> Self {
        Self {
            metadata,
            processes: Vec::new(),
            index_of_pid: FxHashMap::default(),
            threads: Vec::new(),
            frames: Frames::default(),
            stacks: Stacks::default(),
            counts: FxHashMap::default(),
            sample_count: 0,
            sequence: Some(Sequence::new()),
            handed_out: None,
        }
    }

    /// Samples are to be counted only, for a format that does not
    /// [need](crate::Format::needs_sequence) them one by one.
    pub fn keep_no_sequence(&mut self) {
        self.sequence = None;
    }

    /// Samples are to be counted, and kept until they are [taken](Self::take_samples).
    pub fn hand_out_samples(&mut self) {
        self.keep_no_sequence();
        self.handed_out = Some(Vec::new());
    }

    /// The samples that were added since this was last asked, of a profile that
    /// [hands them out](Self::hand_out_samples).
    pub fn take_samples(&mut self) -> Vec<Sample> {
        self.handed_out
            .as_mut()
            .map(std::mem::take)
            .unwrap_or_default()
    }

    /// The file that holds the sequence of samples when it is long is to be made in this
    /// directory, and not in that for temporary files. It has no name there, and is gone
    /// with the profile.
    pub fn write_sequence_to(&mut self, directory: &Path) {
        if let Some(sequence) = &mut self.sequence {
            sequence.write_out_to(directory);
        }
    }

    /// An empty sequence, which goes to the directory that this one's goes to.
    pub(crate) fn new_sequence(&self) -> Sequence {
        let mut sequence = Sequence::new();
        if let Some(own) = &self.sequence {
            sequence.write_out_to(own.directory());
        }
        sequence
    }

    /// Why the sequence of samples could not be written to its file any more, and the
    /// file's directory, if that is so. It goes on in memory then, as long as there is
    /// room.
    pub fn sequence_error(&self) -> Option<(&Path, &io::Error)> {
        self.sequence.as_ref()?.error()
    }

    /// How much of the sequence is to stay in memory, with a file and without.
    #[cfg(test)]
    pub(crate) fn limit_sequence(&mut self, with_file: usize, without: usize) {
        if let Some(sequence) = &mut self.sequence {
            sequence.limit(with_file, without);
        }
    }

    /// Adds a process. Its id is what ties threads to it: where one of that id is
    /// there, this is what is known of it now.
    pub fn add_process(&mut self, process: Process) {
        match self.index_of_pid.get(&process.pid) {
            Some(&index) => self.processes[index] = process,
            None => {
                self.index_of_pid.insert(process.pid, self.processes.len());
                self.processes.push(process);
            }
        }
    }

    /// Adds a thread. Keep what is returned: the same thread added twice is two threads.
    pub fn add_thread(&mut self, thread: Thread) -> ThreadId {
        let id = u32::try_from(self.threads.len()).expect("four billion threads");
        self.threads.push(thread);
        ThreadId(id)
    }

    /// The id of this frame, which is kept if no equal one is there yet.
    pub fn intern_frame(&mut self, frame: Frame) -> FrameId {
        self.frames.intern(frame)
    }

    /// The id of the stack of these frames, outermost first.
    ///
    /// # Panics
    /// If a frame is not of this profile.
    pub fn intern_stack(&mut self, outermost_first: impl IntoIterator<Item = FrameId>) -> StackId {
        outermost_first
            .into_iter()
            .fold(StackId::EMPTY, |stack, frame| self.push_frame(stack, frame))
    }

    /// The id of the stack that is `stack` with `frame` called by its innermost frame.
    ///
    /// # Panics
    /// If the stack or the frame is not of this profile.
    pub fn push_frame(&mut self, stack: StackId, frame: FrameId) -> StackId {
        assert!(
            stack.index() < self.stacks.len() && frame.index() < self.frames.as_slice().len(),
            "a stack or frame of another profile"
        );
        self.stacks.intern(stack, frame)
    }

    /// Adds a sample. Where its place in the sequence cannot be kept (the disk is full),
    /// it counts as lost.
    ///
    /// # Panics
    /// If its thread or its stack is not of this profile.
    pub fn add_sample(&mut self, sample: Sample) {
        let Sample {
            thread,
            stack,
            count,
            mode,
            ..
        } = sample;
        assert!(
            thread.index() < self.threads.len() && stack.index() < self.stacks.len(),
            "a thread or stack of another profile"
        );
        let count = u64::from(count);
        let is_kept = self.sequence.as_mut().is_none_or(|it| it.push(sample));
        if !is_kept {
            self.metadata.lost += count;
            return;
        }
        if let Some(samples) = &mut self.handed_out {
            samples.push(sample);
        }
        let key = SampleKey {
            thread,
            stack,
            mode,
        };
        self.add_count(key, count);
    }

    /// Adds samples that are not told one by one.
    pub(crate) fn add_count(&mut self, key: SampleKey, count: u64) {
        *self.counts.entry(key).or_default() += count;
        self.sample_count += count;
    }

    /// Whether samples are told one by one.
    pub(crate) fn has_sequence(&self) -> bool {
        self.sequence.is_some()
    }

    /// Forgets all samples and their stacks, for who adds them up himself and wants only
    /// what is new the next time. Processes, threads and frames stay, and so do their ids;
    /// those of stacks mean nothing any more.
    pub fn forget_samples(&mut self) {
        self.stacks = Stacks::default();
        self.counts = FxHashMap::default();
        self.sample_count = 0;
        if let Some(sequence) = &mut self.sequence {
            *sequence = Sequence::new();
        }
    }

    /// The processes, in the order in which they were added.
    pub fn processes(&self) -> &[Process] {
        &self.processes
    }

    /// The threads, in the order in which they were added.
    pub fn threads(&self) -> &[Thread] {
        &self.threads
    }

    /// The thread with this id.
    pub fn thread(&self, thread: ThreadId) -> &Thread {
        &self.threads[thread.index()]
    }

    /// The id of the thread at this index of [`threads`](Self::threads), if there is one.
    pub fn thread_id(&self, index: u32) -> Option<ThreadId> {
        ((index as usize) < self.threads.len()).then_some(ThreadId(index))
    }

    /// The distinct frames, in the order in which they were first interned.
    pub fn frames(&self) -> &[Frame] {
        self.frames.as_slice()
    }

    /// The frame with this id.
    pub fn frame(&self, frame: FrameId) -> &Frame {
        &self.frames.as_slice()[frame.index()]
    }

    /// The id of the frame at this index of [`frames`](Self::frames), if there is one.
    pub fn frame_id(&self, index: u32) -> Option<FrameId> {
        self.frames.get(index)
    }

    /// How many distinct stacks there are, outer parts of others and the empty one included.
    pub fn stack_count(&self) -> usize {
        self.stacks.len()
    }

    /// Every distinct stack; the outer parts of a stack come before it.
    pub fn stack_ids(&self) -> impl DoubleEndedIterator<Item = StackId> + use<> {
        self.stacks.ids()
    }

    /// The stack without its innermost frame, and that frame; `None` for the empty stack.
    pub fn caller_and_frame(&self, stack: StackId) -> Option<(StackId, FrameId)> {
        self.stacks.get(stack)
    }

    /// The frames of a stack, innermost first.
    pub fn stack_frames(&self, stack: StackId) -> impl Iterator<Item = FrameId> + '_ {
        let mut rest = stack;
        std::iter::from_fn(move || {
            let (caller, frame) = self.stacks.get(rest)?;
            rest = caller;
            Some(frame)
        })
    }

    /// For how many samples there are of each kind, in no order.
    pub fn counts(&self) -> impl Iterator<Item = (SampleKey, u64)> + '_ {
        self.counts.iter().map(|(&key, &count)| (key, count))
    }

    /// The samples, in the order in which they were added; none where only their counts
    /// were kept. An error is the last item: what was written out cannot be read again.
    pub fn samples(&self) -> impl Iterator<Item = io::Result<Sample>> + '_ {
        self.sequence.iter().flat_map(Sequence::iter)
    }

    /// The last one that was added.
    pub fn last_sample(&self) -> Option<Sample> {
        self.sequence.as_ref()?.last()
    }

    /// For how many samples they stand.
    pub fn sample_count(&self) -> u64 {
        self.sample_count
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Kind, Mode};

    #[test]
    fn a_stack_gives_back_its_frames_innermost_first() {
        let mut profile = Profile::new(Metadata::new("ebpf", 999));
        let [a, b] = ["a", "b"].map(|name| profile.intern_frame(Frame::new(Kind::Js, name)));
        let stack = profile.intern_stack([a, b, b]);
        assert_eq!(profile.stack_frames(stack).collect::<Vec<_>>(), [b, b, a]);
        assert_eq!(profile.intern_stack([a, b, b]), stack);
        assert_eq!(profile.intern_stack([]), StackId::EMPTY);
        assert_eq!(profile.stack_frames(StackId::EMPTY).count(), 0);
        assert_eq!(profile.stack_count(), 4);
    }

    #[test]
    fn samples_are_counted_by_all_but_their_time() {
        let mut profile = Profile::new(Metadata::new("ebpf", 999));
        let frame = profile.intern_frame(Frame::new(Kind::Js, "f"));
        let stack = profile.intern_stack([frame]);
        let threads = [1, 2].map(|tid| {
            profile.add_thread(Thread {
                tid,
                ..Thread::default()
            })
        });
        for time in 0..10 {
            let thread = threads[usize::from(time % 5 == 0)];
            let sample = Sample::new(time, thread, stack, Mode::JavaScript);
            profile.add_sample(Sample { count: 3, ..sample });
        }
        let mut counts: Vec<_> = profile.counts().collect();
        counts.sort_unstable();
        let key = |thread| SampleKey {
            thread,
            stack,
            mode: Mode::JavaScript,
        };
        assert_eq!(counts, [(key(threads[0]), 24), (key(threads[1]), 6)]);
        assert_eq!(profile.sample_count(), 30);
        assert_eq!(profile.samples().count(), 10);
        assert_eq!(profile.last_sample().unwrap().time_us, 9);
    }

    #[test]
    fn forgotten_samples_leave_what_others_refer_to() {
        let mut profile = Profile::new(Metadata::new("ebpf", 999));
        let thread = profile.add_thread(Thread::default());
        let [f, g] = ["f", "g"].map(|name| profile.intern_frame(Frame::new(Kind::Js, name)));
        let add = |profile: &mut Profile, frames: &[FrameId]| {
            let stack = profile.intern_stack(frames.iter().copied());
            profile.add_sample(Sample::new(1, thread, stack, Mode::JavaScript));
            stack
        };
        add(&mut profile, &[f, g]);
        profile.forget_samples();
        assert_eq!((profile.sample_count(), profile.stack_count()), (0, 1));
        assert_eq!(
            (profile.counts().count(), profile.samples().count()),
            (0, 0)
        );
        assert_eq!((profile.frames().len(), profile.threads().len()), (2, 1));
        let stack = add(&mut profile, &[g]);
        assert_eq!(profile.stack_frames(stack).collect::<Vec<_>>(), [g]);
        assert_eq!(profile.sample_count(), 1);
    }

    #[test]
    fn what_has_no_room_is_lost_and_counted_nowhere_else() {
        let mut profile = Profile::new(Metadata::new("ebpf", 999));
        profile.write_sequence_to(Path::new("/nonexistent"));
        profile.limit_sequence(100, 1000);
        let thread = profile.add_thread(Thread::default());
        for time in 0..10_000 {
            let sample = Sample::new(time, thread, StackId::EMPTY, Mode::Unknown);
            profile.add_sample(sample);
        }
        let kept = profile.sample_count();
        assert!((100..1000).contains(&kept), "{kept}");
        assert_eq!(profile.metadata.lost, 10_000 - kept);
        assert_eq!(profile.samples().count() as u64, kept);
        assert!(profile.sequence_error().is_some());
    }

    #[test]
    fn without_a_sequence_nothing_is_written() {
        let mut profile = Profile::new(Metadata::new("ebpf", 999));
        profile.keep_no_sequence();
        profile.write_sequence_to(Path::new("/nonexistent"));
        let thread = profile.add_thread(Thread::default());
        profile.add_sample(Sample::new(0, thread, StackId::EMPTY, Mode::Unknown));
        assert_eq!(profile.sample_count(), 1);
        assert_eq!(profile.samples().count(), 0);
        assert!(profile.sequence_error().is_none());
    }

    #[test]
    #[should_panic(expected = "another profile")]
    fn a_foreign_stack_is_refused() {
        let mut full = Profile::new(Metadata::new("ebpf", 999));
        let frame = full.intern_frame(Frame::new(Kind::Js, "f"));
        let stack = full.intern_stack([frame]);
        let mut empty = Profile::new(Metadata::new("ebpf", 999));
        let thread = empty.add_thread(Thread::default());
        empty.add_sample(Sample::new(0, thread, stack, Mode::Unknown));
    }
}
