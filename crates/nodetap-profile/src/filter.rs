//! A part of a recording, as a recording of its own.

use std::io;
use std::time::Duration;

use regex::Regex;

use crate::{FrameId, Profile, Sample, SampleKey, StackId, Thread, ThreadId, frame_label};

/// What of a recording is wanted. Samples that all of it holds for are left.
#[derive(Clone, Debug, Default)]
pub struct Filter {
    /// Only those of these threads; of all where there are none.
    pub threads: Vec<ThreadChoice>,
    /// Only those of these processes; of all where there are none.
    pub pids: Vec<u32>,
    /// Only those that were taken so long after the recording's start, or later.
    pub from: Option<Duration>,
    /// Only those that were taken earlier than that.
    pub to: Option<Duration>,
    /// Only stacks of which a frame's [label](frame_label) matches.
    pub focus: Option<Regex>,
    /// Only stacks of which none does.
    pub ignore: Option<Regex>,
    /// All samples, but not [what stands on the lines](crate::Frame::source) of their frames.
    pub without_sources: bool,
}

/// A thread, as users call it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ThreadChoice {
    /// The main thread of each process.
    Main,
    /// The one with this id.
    Tid(u32),
    /// All that are called so.
    Named(String),
}

impl ThreadChoice {
    /// `main`, a thread's id, or its name.
    pub fn new(text: &str) -> Self {
        match (text, text.parse()) {
            ("main", _) => Self::Main,
            (_, Ok(tid)) => Self::Tid(tid),
            (name, Err(_)) => Self::Named(name.to_owned()),
        }
    }

    /// Whether it is this one.
    pub fn is(&self, thread: &Thread) -> bool {
        match self {
            Self::Main => thread.tid == thread.pid,
            Self::Tid(tid) => thread.tid == *tid,
            Self::Named(name) => thread.name == *name,
        }
    }
}

impl Filter {
    /// Whether any samples may be left out.
    pub fn is_any(&self) -> bool {
        self.chooses_threads()
            || self.needs_sequence()
            || self.focus.is_some()
            || self.ignore.is_some()
    }

    /// Whether the samples have to be told one by one, as those of a profile are that
    /// [keeps no sequence](Profile::keep_no_sequence) not.
    pub fn needs_sequence(&self) -> bool {
        self.from.is_some() || self.to.is_some()
    }

    fn chooses_threads(&self) -> bool {
        !self.threads.is_empty() || !self.pids.is_empty()
    }

    fn wants_thread(&self, thread: &Thread) -> bool {
        (self.threads.is_empty() || self.threads.iter().any(|choice| choice.is(thread)))
            && (self.pids.is_empty() || self.pids.contains(&thread.pid))
    }

    /// The profile of what is wanted, with samples one by one if `profile` has them.
    ///
    /// Where threads or processes are chosen, it has no others; where a time is, its
    /// samples count their time from there. How many were lost is not known of a part: it
    /// says what the whole says.
    ///
    /// # Errors
    /// Where the samples cannot be read again.
    pub fn apply(&self, profile: &Profile) -> io::Result<Profile> {
        let mut part = Part::new(profile, self);
        if profile.has_sequence() {
            let micros = |time: Duration| u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
            let from = self.from.map_or(0, micros);
            let to = self.to.map_or(u64::MAX, micros);
            for sample in profile.samples() {
                let sample = sample?;
                if (from..to).contains(&sample.time_us)
                    && let Some(key) = part.key(sample.thread, sample.stack)
                {
                    part.profile.add_sample(Sample {
                        time_us: sample.time_us - from,
                        thread: key.0,
                        stack: key.1,
                        ..sample
                    });
                }
            }
        } else {
            part.profile.keep_no_sequence();
            // In an order that does not change from run to run.
            let mut counts: Vec<(SampleKey, u64)> = profile.counts().collect();
            counts.sort_unstable();
            for (key, count) in counts {
                if let Some((thread, stack)) = part.key(key.thread, key.stack) {
                    let key = SampleKey {
                        thread,
                        stack,
                        mode: key.mode,
                    };
                    part.profile.add_count(key, count);
                }
            }
        }
        let mut part = part.profile;
        let metadata = &mut part.metadata;
        let end = self.to.unwrap_or(metadata.duration).min(metadata.duration);
        let from = self.from.unwrap_or_default();
        metadata.duration = end.saturating_sub(from);
        if let Ok(start) = metadata.start.checked_add(from) {
            metadata.start = start;
        }
        Ok(part)
    }

    /// For each stack whether it is wanted.
    fn wanted_stacks(&self, profile: &Profile) -> Vec<bool> {
        let any_frame = |regex: &Option<Regex>| {
            let regex = regex.as_ref()?;
            let frames = profile.frames().iter();
            let matches: Vec<bool> = frames.map(|it| regex.is_match(&frame_label(it))).collect();
            // The outer parts of a stack come before it.
            let mut has_one = vec![false; profile.stack_count()];
            for stack in profile.stack_ids() {
                if let Some((caller, frame)) = profile.caller_and_frame(stack) {
                    has_one[stack.index()] = has_one[caller.index()] || matches[frame.index()];
                }
            }
            Some(has_one)
        };
        let (focus, ignore) = (any_frame(&self.focus), any_frame(&self.ignore));
        profile
            .stack_ids()
            .map(|stack| {
                focus.as_ref().is_none_or(|it| it[stack.index()])
                    && ignore.as_ref().is_none_or(|it| !it[stack.index()])
            })
            .collect()
    }
}

/// A profile that is made of a part of another one.
struct Part<'a> {
    whole: &'a Profile,
    profile: Profile,
    /// For each thread of the whole its id in the part, if it is wanted.
    threads: Vec<Option<ThreadId>>,
    wanted_stacks: Vec<bool>,
    /// The same of stacks and frames; those that no sample has had yet are unknown.
    stacks: Vec<Option<StackId>>,
    frames: Vec<Option<FrameId>>,
    without_sources: bool,
}

impl<'a> Part<'a> {
    fn new(whole: &'a Profile, filter: &Filter) -> Self {
        let mut profile = Profile::new(whole.metadata.clone());
        let wanted = |thread: &&Thread| filter.wants_thread(thread);
        let all = !filter.chooses_threads();
        for process in whole.processes() {
            let mut threads = whole.threads().iter().filter(wanted);
            if all || threads.any(|thread| thread.pid == process.pid) {
                profile.add_process(process.clone());
            }
        }
        let threads = whole
            .threads()
            .iter()
            .map(|thread| wanted(&thread).then(|| profile.add_thread(thread.clone())))
            .collect();
        let mut stacks = vec![None; whole.stack_count()];
        stacks[StackId::EMPTY.index()] = Some(StackId::EMPTY);
        Self {
            whole,
            profile,
            threads,
            wanted_stacks: filter.wanted_stacks(whole),
            stacks,
            frames: vec![None; whole.frames().len()],
            without_sources: filter.without_sources,
        }
    }

    /// A thread and its stack as they are in the part, if they are wanted.
    fn key(&mut self, thread: ThreadId, stack: StackId) -> Option<(ThreadId, StackId)> {
        let thread = self.threads[thread.index()]?;
        if !self.wanted_stacks[stack.index()] {
            return None;
        }
        let mut at = stack;
        let mut path = Vec::new();
        let mut known = loop {
            if let Some(known) = self.stacks[at.index()] {
                break known;
            }
            path.push(at);
            at = self
                .whole
                .caller_and_frame(at)
                .map_or(StackId::EMPTY, |it| it.0);
        };
        for at in path.into_iter().rev() {
            if let Some((_, frame)) = self.whole.caller_and_frame(at) {
                let of_part = &mut self.frames[frame.index()];
                let intern = || {
                    let mut frame = self.whole.frame(frame).clone();
                    frame.source = frame.source.filter(|_| !self.without_sources);
                    self.profile.intern_frame(frame)
                };
                let frame = *of_part.get_or_insert_with(intern);
                known = self.profile.push_frame(known, frame);
                self.stacks[at.index()] = Some(known);
            }
        }
        Some((thread, known))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{bare, hostile, several_processes, small, written};
    use crate::{Format, Frame, Metadata};

    /// What is left, as text: of a profile with all its samples, and of one with counts.
    #[track_caller]
    fn text(profile: fn() -> Profile, filter: &Filter) -> String {
        let text = written(&filter.apply(&profile()).unwrap(), Format::Text);
        if !filter.needs_sequence() {
            let file = crate::testing::written_bytes(&profile(), Format::Nodetap);
            let counted = crate::recording::read(file.as_slice(), false)
                .unwrap()
                .profile;
            let part = filter.apply(&counted).unwrap();
            assert_eq!(written(&part, Format::Text), text);
        }
        text
    }

    fn focus(regex: &str) -> Option<Regex> {
        Some(Regex::new(regex).unwrap())
    }

    #[test]
    fn without_choices_all_is_left() {
        let filter = Filter::default();
        assert!(!filter.is_any());
        for profile in [small, several_processes, hostile, bare] {
            assert_eq!(text(profile, &filter), written(&profile(), Format::Text));
            let json = written(&filter.apply(&profile()).unwrap(), Format::Json);
            assert_eq!(json, written(&profile(), Format::Json));
        }
    }

    #[test]
    fn threads_are_chosen_by_id_name_or_as_main() {
        let samples = |choices: &[&str]| {
            let filter = Filter {
                threads: choices.iter().map(|it| ThreadChoice::new(it)).collect(),
                ..Filter::default()
            };
            let part = filter.apply(&small()).unwrap();
            (part.sample_count(), part.threads().len())
        };
        assert_eq!(samples(&["main"]), (9, 1));
        assert_eq!(samples(&["32642"]), (9, 1));
        assert_eq!(samples(&["32650"]), (1, 1));
        assert_eq!(samples(&["32650", "main"]), (10, 2));
        assert_eq!(samples(&["node"]), (10, 2));
        assert_eq!(samples(&["Node"]), (0, 0));
    }

    #[test]
    fn of_one_process_nothing_of_others_is_left() {
        let filter = Filter {
            pids: vec![7],
            ..Filter::default()
        };
        assert_eq!(
            text(several_processes, &filter),
            "\
Total samples: 6
  5 main /srv/app.js:1
    5 work /srv/app.js:3
  1 (no frames)
"
        );
        assert_eq!(
            filter
                .apply(&several_processes())
                .unwrap()
                .processes()
                .len(),
            1
        );
    }

    #[test]
    fn a_part_of_the_time_counts_from_its_start() {
        let filter = Filter {
            from: Some(Duration::from_millis(3)),
            to: Some(Duration::from_millis(6)),
            ..Filter::default()
        };
        let part = filter.apply(&small()).unwrap();
        let times: Vec<u64> = part.samples().map(|it| it.unwrap().time_us).collect();
        assert_eq!(times, [0, 1000, 2000]);
        assert_eq!(
            part.metadata,
            Metadata {
                start: "2024-05-06T07:08:09.253Z".parse().unwrap(),
                duration: Duration::from_millis(3),
                ..bare().metadata
            }
        );
        assert_eq!(
            written(&part, Format::Text),
            "\
Total samples: 3
  3 main /srv/app.js:1
    2 work /srv/app.js:3
      1 malloc libc.so.6
"
        );
        let late = Filter {
            from: Some(Duration::from_secs(100)),
            ..Filter::default()
        };
        let part = late.apply(&small()).unwrap();
        assert_eq!(
            (part.sample_count(), part.metadata.duration),
            (0, Duration::ZERO)
        );
    }

    #[test]
    fn stacks_are_chosen_by_any_of_their_frames() {
        let filter = Filter {
            focus: focus("^work "),
            ..Filter::default()
        };
        assert_eq!(
            text(small, &filter),
            "\
Total samples: 5
  5 main /srv/app.js:1
    5 work /srv/app.js:3
      1 malloc libc.so.6
"
        );
        let filter = Filter {
            ignore: focus(r"malloc|app\.js:10$"),
            ..filter
        };
        assert_eq!(
            text(small, &filter),
            "Total samples: 4\n  4 main /srv/app.js:1\n    4 work /srv/app.js:3\n"
        );
        let filter = Filter {
            ignore: focus("(?i)APP.js"),
            ..Filter::default()
        };
        assert_eq!(text(small, &filter), "Total samples: 1\n  1 (no frames)\n");
        let filter = Filter {
            focus: focus("nothing is called so"),
            ..Filter::default()
        };
        assert_eq!(text(small, &filter), "Total samples: 0\n");
    }

    #[test]
    fn lines_can_be_left_without_their_texts() {
        let profile = crate::by::relabelled(&small(), false, false, |frame| Frame {
            source: Some("secret".into()),
            ..frame.clone()
        });
        let texts = |filter: &Filter| {
            let part = filter.apply(&profile).unwrap();
            assert_eq!(part.sample_count(), 10);
            let frames = part.frames().iter();
            frames.filter(|frame| frame.source.is_some()).count()
        };
        assert_eq!(texts(&Filter::default()), 7);
        let filter = Filter {
            without_sources: true,
            ..Filter::default()
        };
        assert_eq!(texts(&filter), 0);
    }

    #[test]
    fn frames_that_are_not_left_are_gone() {
        let filter = Filter {
            focus: focus("malloc"),
            ..Filter::default()
        };
        let part = filter.apply(&small()).unwrap();
        assert_eq!(part.frames().len(), 3);
        assert_eq!(part.stack_count(), 4);
    }
}
