//! What the tests of several modules look at.

use std::sync::Arc;
use std::time::Duration;

use nodetap_profile::{
    Frame, Kind, Metadata, Mode, Package, Position, Profile, Sample, Thread, ThreadId,
};

use super::delay::Busy;
use super::facts::{Facts, Process, Snapshot};
use super::tally::{Count, Tally};

/// A function of `file` that starts at `line`.
pub fn js(function: &str, file: &str, line: u32) -> Frame {
    Frame {
        file: Some(file.into()),
        function_position: Position::new(line, 1),
        ..Frame::new(Kind::Js, function)
    }
}

/// A program whose threads can be given seconds.
pub struct Program {
    /// What was sampled since the last second.
    pub profile: Profile,
    /// Its threads.
    pub threads: Vec<ThreadId>,
    /// All its seconds.
    pub tally: Tally,
}

impl Program {
    /// One with a main thread and one more.
    pub fn new() -> Program {
        let mut profile = Profile::new(Metadata::new("ebpf", 999));
        profile.keep_no_sequence();
        let thread = |(tid, name): (u32, &str)| Thread {
            pid: 4711,
            tid,
            name: name.to_owned(),
        };
        let threads = [(4711, "node"), (4715, "V8\nWorker")];
        let threads = threads.map(|it| profile.add_thread(thread(it)));
        Program {
            profile,
            threads: threads.to_vec(),
            tally: Tally::default(),
        }
    }

    /// Notes that a thread had these stacks, outermost first, so often.
    pub fn sample(&mut self, thread: usize, stacks: &[(&[Frame], u32)]) {
        for (frames, count) in stacks {
            let ids: Vec<_> = frames
                .iter()
                .map(|frame| self.profile.intern_frame(frame.clone()))
                .collect();
            let stack = self.profile.intern_stack(ids);
            let sample = Sample::new(0, self.threads[thread], stack, Mode::JavaScript);
            self.profile.add_sample(Sample {
                count: *count,
                ..sample
            });
        }
    }

    /// A second is over.
    pub fn end_second(&mut self) {
        self.tally.add(&self.profile);
        self.profile.forget_samples();
    }
}

/// A server after two seconds.
pub fn server() -> Snapshot {
    let main = js("main", "/srv/app/server.js", 1);
    let handle = js("handle", "/srv/app/server.js", 12);
    let emit = js("emit", "node:events", 489);
    let render = Frame {
        package: Some(Arc::new(Package {
            name: "ejs".into(),
            version: Some("3.1.10".into()),
            is_dependency: true,
        })),
        ..js("render", "/srv/app/node_modules/ejs/lib/ejs.js", 420)
    };
    let gc = Frame::new(Kind::Pseudo, "(garbage collector)");
    let worker = Frame::new(Kind::Pseudo, "(v8 worker)");
    let mut program = Program::new();
    let below = |frames: &[&Frame]| -> Vec<Frame> {
        [&emit, &handle]
            .into_iter()
            .chain(frames.iter().copied())
            .cloned()
            .collect()
    };
    program.sample(
        0,
        &[
            (&[main], 500),
            (&below(&[&render]), 300),
            (&below(&[]), 190),
        ],
    );
    program.end_second();
    program.sample(
        0,
        &[(&below(&[&render]), 600), (&below(&[&render, &gc]), 100)],
    );
    program.sample(0, &[(&below(&[]), 250)]);
    program.sample(1, &[(&[worker], 50)]);
    program.end_second();
    let summary = |text: &str| vec![format!("main thread: {text}")];
    Snapshot {
        tally: program.tally,
        facts: Facts {
            processes: vec![Process {
                pid: 4711,
                command: "node /srv/app/server.js".to_owned(),
                node: Some("v24.21.0".to_owned()),
                cpu: Some(104.4),
                event_loop: Some(Busy {
                    now: Duration::from_millis(3),
                    recent: Duration::from_millis(42),
                    all: Duration::from_millis(217),
                }),
                end: None,
            }],
            sampler: "ebpf".to_owned(),
            rate_hz: 999,
            elapsed: Duration::from_millis(3_723_900),
            samples: Count {
                recent: 1000,
                all: 1990,
            },
            lost: 0,
            truncated: 0,
            summary: [
                summary("89 % JavaScript, 11 % garbage collector"),
                summary("95 % JavaScript, 5 % garbage collector"),
            ],
            cpu: [((4711, 4711), 99.2), ((4711, 4715), 5.2)].into(),
        },
    }
}
