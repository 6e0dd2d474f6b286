//! What must be known of a process to walk its stacks.

use std::cell::Cell;
use std::io;
use std::ops::Range;

use nodetap_v8::Memory;
use rustc_hash::FxHashMap;
use rustix::time::{ClockId, clock_gettime};

use super::identity::Guesses;
use super::memory::StoppedMemory;
use super::sys::State;
use super::unwind::NativeUnwinder;
use super::walk::Walker;
use crate::builtins::Builtins;
use crate::ebpf::ProcessConfig;
use crate::memory::ProcessMemory;
use crate::raw::RawSample;
use crate::source::Source;
use crate::target::Target;

/// One process, for the thread that traces it.
pub(crate) struct Process {
    pub pid: u32,
    source: Source,
    /// Where the code of its V8 starts.
    code_start: u64,
    memory: ProcessMemory,
    config: ProcessConfig,
    builtins: Builtins,
    /// Where those are.
    builtin_places: Vec<Range<u64>>,
    native: NativeUnwinder,
    guesses: Guesses,
    /// See [`StoppedMemory::only_file`].
    only_file: Cell<bool>,
}

impl Process {
    /// Looks at `target`, whose stacks are to have at most `max_depth` frames.
    ///
    /// # Errors
    /// Where we have too many files open.
    pub fn of(target: &Target, max_depth: u32) -> io::Result<Process> {
        let memory = target.memory.try_clone()?;
        Ok(Process {
            pid: target.pid,
            code_start: target.code.start,
            native: NativeUnwinder::of(&target.source, &memory),
            source: target.source.clone(),
            memory,
            config: target.config(max_depth),
            builtins: target.builtins.clone(),
            builtin_places: target.builtins.places(),
            guesses: Guesses::default(),
            only_file: Cell::new(matches!(target.source, Source::Core(_))),
        })
    }

    /// Whether the program that was attached to still runs: its memory goes with
    /// it.
    pub fn is_same_program(&self) -> bool {
        self.memory.read(self.code_start, &mut [0]).is_ok()
    }

    /// The stacks of threads that stand still, `(thread id, state)`, all of the
    /// same moment. They are good if these still stand still afterwards.
    pub fn walk(&mut self, threads: &[(u32, State)]) -> Vec<RawSample> {
        let places = &self.builtin_places;
        let is_builtin = |pc: u64| places.iter().any(|place| place.contains(&pc));
        let mut walker = Walker {
            config: self.config,
            is_builtin: &is_builtin,
            native: &mut self.native,
            identified: FxHashMap::default(),
            guesses: &mut self.guesses,
        };
        let now = clock_gettime(ClockId::Monotonic);
        let time_ns = now.tv_sec.unsigned_abs() * 1_000_000_000 + now.tv_nsec.unsigned_abs();
        let of_thread = |&(tid, ref state): &(u32, State)| {
            let memory = StoppedMemory {
                tid,
                file: &self.memory,
                only_file: &self.only_file,
            };
            RawSample {
                time_ns,
                pid: self.pid,
                tid,
                ..walker.walk(&memory, state)
            }
        };
        threads.iter().map(of_thread).collect()
    }

    /// Looks at the mappings again where a walk since the last look met code
    /// that was not mapped then.
    pub fn look_for_new_code(&mut self) {
        if !self.native.met_new_code() {
            return;
        }
        self.native.look_again(&self.source, &self.memory);
        self.builtins.look_again(&self.memory);
        self.builtin_places = self.builtins.places();
    }
}
