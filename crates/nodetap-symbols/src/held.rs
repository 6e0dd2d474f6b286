//! Samples that have their names and wait for the places of their frames.

use std::collections::VecDeque;
use std::rc::Rc;
use std::time::{Duration, Instant};

use nodetap_profile::{FrameId, Mode, Profile, Sample, StackId, ThreadId};

use crate::generated::{NamedFrames, NamedId};
use crate::originals::Originals;

/// How long a sample waits at most.
const PATIENCE: Duration = Duration::from_secs(10);

/// How many samples wait at most.
const MAX_HELD: usize = 1 << 20;

/// What was made of a sample.
#[derive(Clone, Debug)]
pub struct Shown {
    /// Its thread.
    pub thread: ThreadId,
    /// The frames that are shown, outermost first.
    pub stack: Rc<[NamedId]>,
    /// What the thread was in.
    pub mode: Mode,
    /// Whether its first frame is among all its frames.
    pub complete: bool,
}

/// A sample for the profile.
#[derive(Clone, Debug)]
pub struct ShownSample {
    /// Microseconds since the recording's start.
    pub time_us: u64,
    /// For how many it stands.
    pub count: u32,
    /// Whether frames were left out because there were too many.
    pub truncated: bool,
    /// What was made of it.
    pub shown: Shown,
}

/// The samples that wait, in their order.
#[derive(Default)]
pub struct Held {
    samples: VecDeque<(Instant, ShownSample)>,
    originals: Originals,
    /// The profile's own frames, by those that they are shown for.
    frames: Vec<Option<FrameId>>,
}

impl Held {
    /// None yet. With `sources` it is asked what stands on the lines of frames, too.
    pub fn new(sources: bool) -> Held {
        Held {
            originals: Originals::new(sources),
            ..Held::default()
        }
    }

    /// A profile that hands out all that wait, with what is known of their frames by now.
    pub fn waiting(&self, named: &NamedFrames, profile: &Profile) -> Profile {
        let mut waiting = Profile::new(profile.metadata.clone());
        waiting.hand_out_samples();
        if self.samples.is_empty() {
            return waiting;
        }
        for thread in profile.threads() {
            waiting.add_thread(thread.clone());
        }
        let mut frames: Vec<Option<FrameId>> = vec![None; self.frames.len()];
        for (_, sample) in &self.samples {
            let stack = sample.shown.stack.iter().map(|&id| {
                *frames[id.index()].get_or_insert_with(|| {
                    let known = self.frames[id.index()].map(|id| profile.frame(id));
                    let frame = known.unwrap_or(&named.get(id).frame);
                    waiting.intern_frame(frame.clone())
                })
            });
            let stack: Vec<FrameId> = stack.collect();
            let stack = waiting.intern_stack(stack);
            waiting.add_sample(sample.with_stack(stack));
        }
        waiting
    }

    /// Adds `sample` to `profile`, now or later: behind those that wait.
    pub fn add(&mut self, sample: ShownSample, named: &NamedFrames, profile: &mut Profile) {
        let is_ready = self.look_up(&sample.shown.stack, named, profile);
        match is_ready && self.samples.is_empty() {
            true => self.put(&sample, profile),
            false => self.samples.push_back((Instant::now(), sample)),
        }
    }

    /// Adds those to `profile` that have waited long enough: of whose frames all is known,
    /// or that would wait for too long.
    pub fn settle(&mut self, named: &NamedFrames, profile: &mut Profile) {
        self.originals.receive();
        while let Some((since, sample)) = self.samples.pop_front() {
            if self.samples.len() >= MAX_HELD || since.elapsed() > PATIENCE {
                self.originals.give_up();
            }
            if !self.look_up(&sample.shown.stack, named, profile) {
                self.samples.push_front((since, sample));
                break;
            }
            self.put(&sample, profile);
        }
    }

    /// Adds all of them, after waiting for what is not known yet.
    pub fn finish(&mut self, named: &NamedFrames, profile: &mut Profile) {
        if !self.samples.is_empty() {
            self.originals.wait(PATIENCE);
        }
        self.settle(named, profile);
    }

    /// How the frames `ids` are shown, after waiting for what is not known yet.
    pub fn originals(&mut self) -> &mut Originals {
        &mut self.originals
    }

    /// Whether the profile has all these frames, after a look at each.
    fn look_up(&mut self, stack: &[NamedId], named: &NamedFrames, profile: &mut Profile) -> bool {
        let mut is_ready = true;
        for &id in stack {
            if self.frames.len() <= id.index() {
                self.frames.resize(id.index() + 1, None);
            }
            if self.frames[id.index()].is_none() {
                let frame = self.originals.get(id, named.get(id));
                is_ready &= frame.is_some();
                self.frames[id.index()] = frame.map(|frame| profile.intern_frame(frame));
            }
        }
        is_ready
    }

    fn put(&mut self, sample: &ShownSample, profile: &mut Profile) {
        let ShownSample {
            count,
            truncated,
            shown,
            ..
        } = sample;
        let metadata = &mut profile.metadata;
        if *truncated {
            metadata.truncated += u64::from(*count);
        } else if !shown.complete {
            metadata.incomplete += u64::from(*count);
        }
        let frames = shown.stack.iter();
        let frames = frames.filter_map(|id| self.frames.get(id.index()).copied().flatten());
        let stack = profile.intern_stack(frames);
        profile.add_sample(sample.with_stack(stack));
    }
}

impl ShownSample {
    /// The same where its frames have become `stack`.
    fn with_stack(&self, stack: StackId) -> Sample {
        let Shown { thread, mode, .. } = self.shown;
        Sample {
            count: self.count,
            ..Sample::new(self.time_us, thread, stack, mode)
        }
    }
}
