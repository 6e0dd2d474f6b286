//! Raw samples in, a profile out.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::{Arc, Weak};
use std::time::Duration;
use std::{io, mem};

use nodetap_profile::{Frame, Kind, Mode, Profile, Thread, ThreadId};
use nodetap_sampler::raw::{RawSampleRef, Wait};
use nodetap_sampler::root::{Root, RootIdentity};
use nodetap_sampler::target::Target;
use rustc_hash::FxHashMap;

use crate::complete::Starts;
use crate::generated::{NamedFrames, NamedId};
use crate::held::{Held, Shown, ShownSample};
use crate::js::PcKind;
use crate::kernel::KernelNames;
use crate::native::{NativeNames, Pc};
use crate::roles::{Role, ThreadRole};
use crate::source_text::Texts;
use crate::stack::{Context, NativeCode, StackNames};
use crate::summary::{Share, Shares, Summary};
use crate::view::View;
use crate::waits;

/// What of a stack is shown.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Options {
    /// Native frames and V8's builtins too.
    pub native: bool,
    /// The kernel's frames too.
    pub kernel: bool,
    /// JavaScript where its original source is.
    pub source_maps: bool,
    /// What stands on the lines that were executing.
    pub sources: bool,
}

/// How long the frames of a stack wait for each of their originals.
const PATIENCE: Duration = Duration::from_secs(10);

/// Names the samples of any number of processes.
pub struct Symbolizer {
    options: Options,
    native: NativeNames,
    kernel: KernelNames,
    processes: FxHashMap<u32, ProcessNames>,
    /// The files of each container, once, however many processes are in it.
    roots: FxHashMap<RootIdentity, Weak<Root>>,
    /// The texts of all scripts, where they are wanted.
    texts: Option<Rc<RefCell<Texts>>>,
    /// All frames, as V8 has them.
    named: NamedFrames,
    /// Samples that wait for what their frames were made of.
    held: Held,
    /// Those of the stack that is being named, innermost first.
    frames: Vec<NamedId>,
    /// What waits that nobody wants to see are known by.
    unwanted: Vec<u32>,
    /// By what the threads' waits are known by.
    waits: FxHashMap<u32, KnownWait>,
    /// Of the processes that there are no more samples of.
    summary: Summary,
}

/// One thread's stack, named.
#[derive(Clone, Debug)]
pub struct NamedStack {
    /// Innermost first.
    pub frames: Vec<Frame>,
    /// Whether the thread's first frame is among them.
    pub complete: bool,
    /// What the thread is for, where that is known: `(v8 worker)`.
    pub role: Option<&'static str>,
}

/// The last wait of a thread. It may come in parts, of which the first was named while
/// all was there that its stack names.
struct KnownWait {
    since_ns: u64,
    /// `None` for one that is left out.
    shown: Option<Shown>,
}

/// What is known of one process.
struct ProcessNames {
    stacks: StackNames,
    starts: Starts,
    main_name: String,
    threads: FxHashMap<u32, KnownThread>,
    /// The mappings have been read for this batch, as it has a new thread.
    has_looked: bool,
}

struct KnownThread {
    id: ThreadId,
    role: ThreadRole,
    shares: Shares,
}

/// What is known of a stack besides its frames.
struct Named {
    thread: ThreadId,
    role: ThreadRole,
    /// Whether the thread's first frame is among them.
    complete: bool,
    /// What the thread was in.
    mode: Mode,
}

impl Symbolizer {
    /// Names nothing yet.
    pub fn new(options: Options) -> Symbolizer {
        Symbolizer {
            options,
            native: NativeNames::new(),
            kernel: KernelNames::new(),
            processes: FxHashMap::default(),
            roots: FxHashMap::default(),
            texts: options.sources.then(Rc::default),
            named: NamedFrames::default(),
            held: Held::new(options.sources),
            frames: Vec::new(),
            unwanted: Vec::new(),
            waits: FxHashMap::default(),
            summary: Summary::default(),
        }
    }

    /// Gets ready to name the stacks of `target`.
    ///
    /// # Errors
    /// Where its mappings cannot be read.
    pub fn attach(&mut self, target: &Target) -> io::Result<()> {
        self.native.attach(target.source.clone())?;
        let names = ProcessNames {
            stacks: StackNames::new(
                self.root(target),
                self.options.source_maps,
                self.texts.clone(),
            ),
            starts: Starts::new(),
            main_name: target.source.thread_name(target.pid),
            threads: FxHashMap::default(),
            has_looked: false,
        };
        // What ran there before has been looked at.
        if let Some(before) = self.processes.insert(target.pid, names) {
            before.sum_up(&mut self.summary);
        }
        Ok(())
    }

    /// The files that `target` sees; `None` where they are not ours to look at.
    fn root(&mut self, target: &Target) -> Option<Arc<Root>> {
        let root = Root::of(&target.source);
        let root = root.inspect_err(|error| tracing::debug!(target.pid, %error, "no files"));
        let root = root.ok()?;
        let known = self.roots.entry(root.identity()).or_default();
        Some(known.upgrade().unwrap_or_else(|| {
            let root = Arc::new(root);
            *known = Arc::downgrade(&root);
            root
        }))
    }

    /// Forgets process `pid`, of which there are no more samples to name.
    pub fn detach(&mut self, pid: u32) {
        self.native.detach(pid);
        if let Some(names) = self.processes.remove(&pid) {
            names.sum_up(&mut self.summary);
        }
    }

    /// Reads now what would be read with the first sample of `target`: the symbols of
    /// its binary, which takes its time. For a target that waits for it.
    pub fn warm_up(&mut self, target: &Target) {
        let _ = self.native.name(target.pid, Pc::Own(target.code.start));
    }

    /// Begins another batch of samples of `target`: what may have changed in
    /// it since the last one is looked at again.
    pub fn begin_batch(&mut self, target: &Target) {
        if let Some(names) = self.processes.get_mut(&target.pid) {
            names.stacks.begin_batch(target);
            names.has_looked = false;
            self.look_again(target, false);
        }
    }

    /// Follows what is mapped where in `target`; see [`NativeNames::look_again`].
    fn look_again(&mut self, target: &Target, new_thread: bool) {
        let was_read = self.native.look_again(target.pid, new_thread);
        let state = self.native.state(target.pid);
        target.builtins.follow(&target.memory, state, was_read);
    }

    /// Reads the functions of `sample` that are not known yet. Those of a batch's
    /// last samples are there still, more likely than what its first ones saw.
    pub fn meet(&mut self, target: &Target, sample: &RawSampleRef<'_>) {
        if self.known_wait(sample).is_none()
            && let Some(names) = self.processes.get_mut(&target.pid)
        {
            // Before anything in the batch is named.
            if !names.has_looked && !names.threads.contains_key(&sample.tid) {
                names.has_looked = true;
                self.look_again(target, true);
            }
            if let Some(names) = self.processes.get_mut(&target.pid) {
                names.stacks.meet(target, sample);
            }
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
        let count = sample.wait.map_or(1, |wait| wait.ticks);
        let shown = match self.known_wait(sample) {
            Some(KnownWait { shown, .. }) => shown.clone(),
            None => self.show(target, sample, profile),
        };
        if let Some(Wait { key, since_ns, .. }) = sample.wait {
            let shown = shown.clone();
            self.waits.insert(key, KnownWait { since_ns, shown });
        }
        let Some(shown) = shown else {
            return;
        };
        let sample = ShownSample {
            time_us: time.as_micros() as u64,
            count,
            truncated: sample.truncated,
            shown,
        };
        self.held.add(sample, &self.named, profile);
    }

    /// Adds the samples to `profile` that have waited for the places of their frames,
    /// which come from source maps. To be called after each batch.
    pub fn settle(&mut self, profile: &mut Profile) {
        self.held.settle(&self.named, profile);
    }

    /// Adds all samples to `profile` that still wait, which may take a moment. To be
    /// called after the last batch.
    pub fn finish(&mut self, profile: &mut Profile) {
        self.held.finish(&self.named, profile);
    }

    /// The samples that still wait, as far as they are known: with the frames that V8 has
    /// where what these were made of is not known yet. Threads are those of `profile`. It
    /// hands out its samples.
    pub fn waiting(&self, profile: &Profile) -> Profile {
        self.held.waiting(&self.named, profile)
    }

    /// What somebody should know of the source maps, since this was asked for the last
    /// time.
    pub fn take_notes(&mut self) -> Vec<String> {
        self.held.originals().take_notes()
    }

    /// What was made of an earlier part of the wait that `sample` is a part of.
    fn known_wait(&self, sample: &RawSampleRef<'_>) -> Option<&KnownWait> {
        let wait = sample.wait?;
        let known = self.waits.get(&wait.key)?;
        (known.since_ns == wait.since_ns).then_some(known)
    }

    /// Names `sample` and keeps in `profile` what is shown of it; `None` where nothing is.
    fn show(
        &mut self,
        target: &Target,
        sample: &RawSampleRef<'_>,
        profile: &mut Profile,
    ) -> Option<Shown> {
        let stack = self.name(target, sample, profile)?;
        let named = self.frames.iter().map(|&id| &self.named.get(id).frame);
        let named: Vec<&Frame> = named.collect();
        let view = View::of(self.options, &named, &stack.role);
        let (pseudo, mode) = match sample.wait {
            None => (view.pseudo().to_vec(), stack.mode),
            Some(Wait { cause, key, .. }) => {
                let Some(label) = waits::label(cause, &named, stack.complete, &stack.role) else {
                    if waits::are_unwanted(&stack.role) {
                        self.unwanted.push(key);
                    }
                    return None;
                };
                (view.with_wait(label), Mode::Waiting)
            }
        };
        let pseudo = pseudo.into_iter().map(|name| {
            let frame = Frame::new(Kind::Pseudo, name);
            self.named.intern(frame.into())
        });
        let pseudo: Vec<NamedId> = pseudo.collect();
        let shown = Rc::from(view.frames(&self.frames, &pseudo));
        let names = self.processes.get_mut(&target.pid);
        if let Some(thread) = names.and_then(|names| names.threads.get_mut(&sample.tid))
            && let Some(share) = Share::of(view.activity(), mode)
        {
            thread.shares.add(share, 1);
        }
        Some(Shown {
            thread: stack.thread,
            stack: shown,
            mode,
            complete: stack.complete,
        })
    }

    /// Names every frame of each of `samples`, for whom nothing is to be left out. The
    /// threads are kept in `profile`, and nothing else. `None` for a sample of an unknown
    /// process.
    pub fn stacks<'a>(
        &mut self,
        target: &Target,
        samples: impl IntoIterator<Item = RawSampleRef<'a>>,
        profile: &mut Profile,
    ) -> Vec<Option<NamedStack>> {
        // The process runs: first all is read from it.
        let samples = samples.into_iter();
        let stacks: Vec<_> = samples
            .map(|sample| Some((self.name(target, &sample, profile)?, self.frames.clone())))
            .collect();
        let ids = stacks.iter().flatten().flat_map(|(_, frames)| frames);
        for &id in ids {
            self.held.originals().get(id, self.named.get(id));
        }
        self.held.originals().wait(PATIENCE);
        let mut frame = |&id: &NamedId| {
            let named = self.named.get(id);
            let found = self.held.originals().get(id, named);
            found.unwrap_or_else(|| named.frame.clone())
        };
        let stacks = stacks.into_iter().map(|stack| {
            let (stack, frames) = stack?;
            Some(NamedStack {
                frames: frames.iter().map(&mut frame).collect(),
                complete: stack.complete,
                role: stack.role.role().map(Role::label),
            })
        });
        stacks.collect()
    }

    /// Names all frames of `sample` into `self.frames`.
    fn name(
        &mut self,
        target: &Target,
        sample: &RawSampleRef<'_>,
        profile: &mut Profile,
    ) -> Option<Named> {
        let names = self.processes.get_mut(&target.pid)?;
        let main_name = &names.main_name;
        let thread = names.threads.entry(sample.tid).or_insert_with(|| {
            // A thread that is gone already has no name any more.
            let name = target.source.thread_name(sample.tid);
            let role = ThreadRole::new(sample.tid == sample.pid, &name, main_name);
            let id = profile.add_thread(Thread {
                pid: sample.pid,
                tid: sample.tid,
                name,
            });
            KnownThread {
                id,
                role,
                shares: Shares::default(),
            }
        });

        self.frames.clear();
        for (index, &pc) in sample.kernel.iter().enumerate() {
            let frame = self.kernel.frame(pc, index > 0);
            self.frames.push(self.named.intern(frame.into()));
        }
        if sample.wait.is_some() {
            waits::leave_out_switch(&mut self.frames, |id| &self.named.get(id).function);
        }
        let mut native = ProcessCode {
            names: &mut self.native,
            pid: target.pid,
        };
        let mut context = Context {
            target,
            native: &mut native,
            frames: &mut self.named,
        };
        let mode = names.stacks.name(&mut context, sample, &mut self.frames);

        let is_js = |&id: &NamedId| self.named.get(id).kind == Kind::Js;
        if self.frames.iter().any(is_js) {
            thread.role.saw_javascript();
        }
        let role = &mut thread.role;
        // Learns from the stack too: it is asked in any case.
        let reached = names
            .starts
            .reached(&mut self.native, target.pid, sample.frames, role);
        let complete = !sample.truncated && (sample.complete || reached);
        Some(Named {
            thread: thread.id,
            role: thread.role.clone(),
            complete,
            mode,
        })
    }

    /// The keys of the threads all of whose waits are left out, but for a CPU: of those
    /// that were met since this was asked for the last time.
    pub fn take_unwanted_waits(&mut self) -> Vec<u32> {
        mem::take(&mut self.unwanted)
    }

    /// How often so far a function was not to be read any more when its sample
    /// was named: a reason to name samples sooner.
    pub fn missed(&self) -> u64 {
        let of_each = self.processes.values().map(|names| names.stacks.missed());
        of_each.sum()
    }

    /// What the threads that run JavaScript were doing in all samples so far.
    pub fn summary(&self) -> Summary {
        let mut summary = self.summary;
        for names in self.processes.values() {
            names.sum_up(&mut summary);
        }
        summary
    }

    /// Whether the kernel hides its functions' names from this user.
    pub fn kernel_names_are_hidden(&self) -> bool {
        self.kernel.are_hidden()
    }
}

impl ProcessNames {
    fn sum_up(&self, summary: &mut Summary) {
        for thread in self.threads.values() {
            summary.add(&thread.role, &thread.shares);
        }
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

    fn state(&self) -> u64 {
        self.names.state(self.pid)
    }

    fn doubt(&mut self) {
        self.names.doubt(self.pid);
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
