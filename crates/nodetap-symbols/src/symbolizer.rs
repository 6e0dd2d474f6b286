//! Raw samples in, a profile out.

use std::fs;
use std::io;
use std::time::Duration;

use nodetap_profile::{Frame, FrameId, Kind, Profile, Thread, ThreadId};
use nodetap_sampler::raw::RawSampleRef;
use nodetap_sampler::target::Target;
use rustc_hash::FxHashMap;

use crate::js::PcKind;
use crate::native::{NativeNames, Pc};
use crate::stack::{Context, NativeCode, StackNames};

/// What of a stack is shown.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Options {
    /// Native frames and V8's builtins too.
    pub native: bool,
    /// The kernel's frames too.
    pub kernel: bool,
}

/// Names the samples of any number of processes.
pub struct Symbolizer {
    options: Options,
    native: NativeNames,
    processes: FxHashMap<u32, ProcessNames>,
    frames: Vec<FrameId>,
}

/// What is known of one process.
struct ProcessNames {
    stacks: StackNames,
    threads: FxHashMap<u32, ThreadId>,
}

impl Symbolizer {
    /// Names nothing yet.
    pub fn new(options: Options) -> Symbolizer {
        Symbolizer {
            options,
            native: NativeNames::new(),
            processes: FxHashMap::default(),
            frames: Vec::new(),
        }
    }

    /// Gets ready to name the stacks of `target`.
    ///
    /// # Errors
    /// Where its mappings cannot be read.
    pub fn attach(&mut self, target: &Target) -> io::Result<()> {
        self.native.attach(target.pid)?;
        let names = ProcessNames {
            stacks: StackNames::new(),
            threads: FxHashMap::default(),
        };
        self.processes.insert(target.pid, names);
        Ok(())
    }

    /// Begins another batch of samples of `target`: what may have changed in
    /// it since the last one is looked at again.
    pub fn begin_batch(&mut self, target: &Target) {
        if let Some(names) = self.processes.get_mut(&target.pid) {
            names.stacks.begin_batch(target);
        }
    }

    /// Names `sample`, which was taken `time` after the recording's start, and
    /// adds it to `profile`.
    pub fn add(
        &mut self,
        target: &Target,
        sample: &RawSampleRef<'_>,
        time: Duration,
        profile: &mut Profile,
    ) {
        let Some(names) = self.processes.get_mut(&target.pid) else {
            return;
        };
        self.frames.clear();
        let mut native = ProcessCode {
            names: &mut self.native,
            pid: target.pid,
        };
        let mut context = Context {
            target,
            native: &mut native,
            profile,
        };
        names.stacks.name(&mut context, sample, &mut self.frames);
        let thread = *names
            .threads
            .entry(sample.tid)
            .or_insert_with(|| profile.add_thread(thread(sample)));
        let shown = shown(self.options, profile, &self.frames);
        let stack = profile.intern_stack(shown.into_iter().rev());
        if sample.truncated {
            profile.metadata.truncated += 1;
        }
        profile.add_sample(time.as_micros() as u64, thread, stack);
    }
}

fn shown(options: Options, profile: &mut Profile, frames: &[FrameId]) -> Vec<FrameId> {
    if options.native {
        return frames.to_vec();
    }
    let mut shown: Vec<FrameId> = frames
        .iter()
        .copied()
        .filter(|&frame| {
            matches!(
                profile.frame(frame).kind,
                Kind::Js | Kind::Wasm | Kind::Pseudo
            )
        })
        .collect();
    let top = frames.first().map(|&frame| profile.frame(frame).kind);
    if matches!(top, Some(Kind::Native) | None) {
        let program = profile.intern_frame(Frame::new(Kind::Pseudo, "(program)"));
        shown.insert(0, program);
    }
    shown
}

fn thread(sample: &RawSampleRef<'_>) -> Thread {
    let path = format!("/proc/{}/task/{}/comm", sample.pid, sample.tid);
    // A thread that is gone already has no name any more.
    let name = fs::read(path).unwrap_or_default();
    Thread {
        pid: sample.pid,
        tid: sample.tid,
        name: String::from_utf8_lossy(&name).trim_end().into(),
    }
}

/// The native code of one process.
struct ProcessCode<'a> {
    names: &'a mut NativeNames,
    pid: u32,
}

impl NativeCode for ProcessCode<'_> {
    fn is_executable(&mut self, pc: u64) -> bool {
        self.names.is_executable(self.pid, pc)
    }

    fn is_native(&mut self, pc: u64) -> bool {
        self.names.is_native(self.pid, pc)
    }

    fn frame(&mut self, pc: u64, kind: PcKind) -> Frame {
        let pc = match kind {
            PcKind::Own => Pc::Own(pc),
            PcKind::Return => Pc::Return(pc),
        };
        match self.names.name(self.pid, pc) {
            Some(frame) => frame.frame(),
            None => Frame::new(Kind::Native, "(unknown code)"),
        }
    }
}
