//! Off-CPU time: joins what `wall.h` sends when a thread loses its CPU with what it
//! sends when the thread has one again.
//!
//! A wait counts for as many samples as ticks fall into it, so that it weighs as much
//! as time on a CPU, which is sampled at the same rate. Most waits are shorter than the
//! time between two ticks, and none falls into them: what was taken of those is
//! forgotten. Long ones are handed out in parts while they last, for what their stacks
//! name is there as long as the thread waits.

use aya::Ebpf;
use aya::maps::{HashMap, MapData};
use aya::programs::RawTracePoint;
use aya::programs::raw_trace_point::RawTracePointLink;
use rustc_hash::FxHashMap;
use rustix::time::{ClockId, clock_gettime};

use super::error::Error;
use super::sampler::{absent, take_map};
use super::shared::{IS_READY, IS_STOPPED, SampleHeader, WaitEnd};
use crate::raw::{Cause, RawSample, RawSampleRef, Wait};

/// The name of the program, as the kernel lists it.
pub(super) const PROGRAM_NAME: &str = "nodetap_switch";

/// `restart_syscall`, by which the kernel goes on with a call that waited for a limited
/// time when it was interrupted.
const RESTART_SYSCALL: i32 = 219;
/// How much of a wait is handed out at once, in nanoseconds.
const PART_NS: u64 = 100_000_000;

/// What takes the waits of watched processes.
pub(super) struct Wall {
    /// Declared first: nothing is to come when the maps go.
    _link: RawTracePointLink,
    /// Since when threads wait, as the kernel knows it.
    waits: HashMap<MapData, u32, u64>,
    ignored: HashMap<MapData, u32, u32>,
    joined: Joined,
}

impl Wall {
    /// Begins to take waits; a tick is due at every multiple of `tick_ns`.
    pub fn start(ebpf: &mut Ebpf, tick_ns: u64) -> Result<Wall, Error> {
        let program = ebpf.program_mut(PROGRAM_NAME);
        let program = program.ok_or_else(|| absent(PROGRAM_NAME))?;
        let program: &mut RawTracePoint = program.try_into()?;
        program.load()?;
        let waits = HashMap::try_from(take_map(ebpf, "waits")?)?;
        let ignored = HashMap::try_from(take_map(ebpf, "ignored")?)?;
        let program: &mut RawTracePoint = ebpf
            .program_mut(PROGRAM_NAME)
            .ok_or_else(|| absent(PROGRAM_NAME))?
            .try_into()?;
        let link = program.attach("sched_switch").map_err(Error::of_attach)?;
        Ok(Wall {
            _link: program.take_link(link)?,
            waits,
            ignored,
            joined: Joined::new(tick_ns),
        })
    }

    /// A thread has lost its CPU.
    pub fn begin(&mut self, header: &SampleHeader, sample: RawSampleRef<'_>) {
        self.joined.begin(header, sample);
    }

    /// A thread has a CPU again.
    pub fn end(&mut self, end: &WaitEnd, sink: &mut dyn FnMut(RawSampleRef<'_>)) {
        self.joined.end(end, sink);
    }

    /// Hands out what has passed by now of the waits that go on: all of it, if the
    /// recording `is_over`, else of long ones.
    pub fn flush(&mut self, is_over: bool, sink: &mut dyn FnMut(RawSampleRef<'_>)) {
        // Before the kernel is asked: by then they had not ended.
        let now = monotonic_ns();
        let waits = &self.waits;
        let goes_on = |key, since| waits.get(&key, 0).is_ok_and(|it| it == since);
        let patience = if is_over { 0 } else { PART_NS };
        self.joined.flush(now, patience, &goes_on, sink);
    }

    /// What has passed is of no interest: the recording begins now.
    pub fn begin_recording(&mut self) {
        self.joined.not_before_ns = monotonic_ns();
    }

    /// Has the kernel take no more waits of the threads that are known by `keys`, but
    /// for a CPU.
    pub fn ignore(&mut self, keys: &[u32]) {
        for key in keys {
            // Without it nothing is wrong, only more expensive.
            let _ = self.ignored.insert(key, 1, 0);
        }
    }

    /// Waits whose end is not known.
    pub fn lost(&self) -> u64 {
        self.joined.lost
    }
}

/// Waits that have begun, and how they end.
struct Joined {
    tick_ns: u64,
    pending: FxHashMap<u32, Pending>,
    calls: FxHashMap<u32, Call>,
    /// When the recording begins.
    not_before_ns: u64,
    lost: u64,
}

/// A system call: its number, and where in the program it is.
#[derive(Clone, Copy)]
struct Call {
    number: i32,
    rip: u64,
    rsp: u64,
}

/// A wait that has begun.
struct Pending {
    /// When; by this it is known as well.
    since_ns: u64,
    /// What is before this was handed out.
    rest_ns: u64,
    /// The kernel says that it has ended, and its end has not arrived.
    is_overdue: bool,
    cause: Cause,
    sample: RawSample,
}

impl Joined {
    fn new(tick_ns: u64) -> Joined {
        Joined {
            tick_ns: tick_ns.max(1),
            pending: FxHashMap::default(),
            calls: FxHashMap::default(),
            not_before_ns: 0,
            lost: 0,
        }
    }

    fn begin(&mut self, header: &SampleHeader, sample: RawSampleRef<'_>) {
        let pending = Pending {
            since_ns: sample.time_ns,
            rest_ns: sample.time_ns,
            is_overdue: false,
            cause: self.cause(header),
            sample: sample.to_owned(),
        };
        // If there was one it has ended before a tick; or its end is counted as lost.
        self.pending.insert(header.wait_key, pending);
    }

    fn cause(&mut self, header: &SampleHeader) -> Cause {
        if header.flags & IS_READY != 0 {
            return Cause::Cpu;
        }
        if header.flags & IS_STOPPED != 0 {
            return Cause::Stopped;
        }
        let mut call = Call {
            number: header.system_call,
            rip: header.registers.rip,
            rsp: header.registers.rsp,
        };
        if call.number == RESTART_SYSCALL
            && let Some(before) = self.calls.get(&header.wait_key)
            && (before.rip, before.rsp) == (call.rip, call.rsp)
        {
            call = *before;
        }
        match u32::try_from(call.number) {
            Ok(number) => {
                self.calls.insert(header.wait_key, call);
                Cause::SystemCall(number)
            }
            Err(_) => Cause::PageFault,
        }
    }

    fn end(&mut self, end: &WaitEnd, sink: &mut dyn FnMut(RawSampleRef<'_>)) {
        match self.pending.remove(&end.wait_key) {
            Some(mut pending) if pending.since_ns == end.since_ns => {
                pending.rest_ns = pending.rest_ns.max(self.not_before_ns);
                pending.hand_out(end.wait_key, end.time_ns, self.tick_ns, sink);
            }
            Some(other) => {
                self.pending.insert(end.wait_key, other);
                self.lost += 1;
            }
            None => self.lost += 1,
        }
    }

    fn flush(
        &mut self,
        now_ns: u64,
        patience_ns: u64,
        goes_on: &dyn Fn(u32, u64) -> bool,
        sink: &mut dyn FnMut(RawSampleRef<'_>),
    ) {
        let (tick_ns, not_before_ns) = (self.tick_ns, self.not_before_ns);
        self.pending.retain(|&key, pending| {
            if now_ns.saturating_sub(pending.rest_ns) < patience_ns {
                return true;
            }
            pending.rest_ns = pending.rest_ns.max(not_before_ns);
            if goes_on(key, pending.since_ns) {
                pending.hand_out(key, now_ns, tick_ns, sink);
                return true;
            }
            // Its end may be on the way. If it is not there the next time either, no tick
            // fell into its rest; or it was lost, which the kernel has counted.
            let was_overdue = std::mem::replace(&mut pending.is_overdue, true);
            !was_overdue
        });
    }
}

impl Pending {
    /// Hands out what of it is before `until_ns`.
    fn hand_out(
        &mut self,
        key: u32,
        until_ns: u64,
        tick_ns: u64,
        sink: &mut dyn FnMut(RawSampleRef<'_>),
    ) {
        // As many as are due after its begin, up to its end.
        let before = self.rest_ns / tick_ns;
        let ticks = (until_ns / tick_ns).saturating_sub(before);
        self.rest_ns = self.rest_ns.max(until_ns);
        if ticks == 0 {
            return;
        }
        let mut sample = self.sample.as_ref();
        sample.time_ns = (before + 1) * tick_ns;
        sample.wait = Some(Wait {
            cause: self.cause,
            ticks: u32::try_from(ticks).unwrap_or(u32::MAX),
            key,
        });
        sink(sample);
    }
}

/// The time of the clock that samples carry.
fn monotonic_ns() -> u64 {
    let now = clock_gettime(ClockId::Monotonic);
    now.tv_sec.unsigned_abs() * 1_000_000_000 + now.tv_nsec.unsigned_abs()
}
