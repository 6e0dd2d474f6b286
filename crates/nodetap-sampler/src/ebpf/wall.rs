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
/// How long a wait has lasted when its first part is handed out, in nanoseconds: what its
/// stack names is there then.
const FIRST_NS: u64 = 5_000_000;
/// How long the other parts are.
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
        let patience = if is_over { [0; 2] } else { [FIRST_NS, PART_NS] };
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
        [first_ns, part_ns]: [u64; 2],
        goes_on: &dyn Fn(u32, u64) -> bool,
        sink: &mut dyn FnMut(RawSampleRef<'_>),
    ) {
        let (tick_ns, not_before_ns) = (self.tick_ns, self.not_before_ns);
        self.pending.retain(|&key, pending| {
            let patience_ns = match pending.rest_ns == pending.since_ns {
                true => first_ns,
                false => part_ns,
            };
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
        if ticks == 0 {
            return;
        }
        self.rest_ns = until_ns;
        let mut sample = self.sample.as_ref();
        sample.time_ns = (before + 1) * tick_ns;
        sample.wait = Some(Wait {
            cause: self.cause,
            ticks: u32::try_from(ticks).unwrap_or(u32::MAX),
            key,
            since_ns: self.since_ns,
        });
        sink(sample);
    }
}

/// The time of the clock that samples carry.
fn monotonic_ns() -> u64 {
    let now = clock_gettime(ClockId::Monotonic);
    now.tv_sec.unsigned_abs() * 1_000_000_000 + now.tv_nsec.unsigned_abs()
}

#[cfg(test)]
mod tests {
    use super::super::shared::{OFF_CPU, Registers, STACK_WORDS};
    use super::*;

    const TICK: u64 = 1000;
    const NOT_WAITING: fn(u32, u64) -> bool = |_, _| false;

    fn header(time_ns: u64, key: u32, system_call: i32) -> SampleHeader {
        SampleHeader {
            time_ns,
            pid: 7,
            tid: key,
            flags: OFF_CPU,
            frame_count: 0,
            kernel_count: 0,
            stack_count: 0,
            wait_key: key,
            system_call,
            registers: Registers::default(),
            code: [0; 32],
            stack: [0; STACK_WORDS as usize],
        }
    }

    fn begin(joined: &mut Joined, time_ns: u64, key: u32, system_call: i32) {
        let sample = RawSample {
            time_ns,
            pid: 7,
            tid: key,
            ..RawSample::default()
        };
        joined.begin(&header(time_ns, key, system_call), sample.as_ref());
    }

    /// The ends of waits that are handed out: time, thread, cause and ticks.
    #[derive(Default)]
    struct Seen(Vec<(u64, u32, Cause, u32)>);

    impl Seen {
        fn end(&mut self, joined: &mut Joined, key: u32, since_ns: u64, time_ns: u64) {
            let end = WaitEnd {
                since_ns,
                time_ns,
                wait_key: key,
                zero: 0,
            };
            joined.end(&end, &mut |sample| self.see(&sample));
        }

        fn flush(
            &mut self,
            joined: &mut Joined,
            now_ns: u64,
            patience_ns: u64,
            goes_on: &dyn Fn(u32, u64) -> bool,
        ) {
            joined.flush(now_ns, [patience_ns; 2], goes_on, &mut |sample| {
                self.see(&sample)
            });
        }

        fn see(&mut self, sample: &RawSampleRef<'_>) {
            let wait = sample.wait.expect("a wait");
            assert_eq!(wait.key, sample.tid);
            self.0
                .push((sample.time_ns, sample.tid, wait.cause, wait.ticks));
        }
    }

    #[test]
    fn a_wait_counts_for_the_ticks_that_fall_into_it() {
        let (mut joined, mut seen) = (Joined::new(TICK), Seen::default());
        begin(&mut joined, 1500, 1, 0);
        begin(&mut joined, 1700, 2, 202);
        seen.end(&mut joined, 1, 1500, 4100);
        // One that ended before a tick has no end; the next one takes its place.
        begin(&mut joined, 2100, 3, 0);
        begin(&mut joined, 2900, 3, 7);
        seen.end(&mut joined, 3, 2900, 3000);
        seen.end(&mut joined, 2, 1700, 1900);
        assert_eq!(
            seen.0,
            [
                (2000, 1, Cause::SystemCall(0), 3),
                (3000, 3, Cause::SystemCall(7), 1)
            ]
        );
        assert_eq!(joined.lost, 0);
    }

    #[test]
    fn an_end_without_its_begin_is_lost() {
        let (mut joined, mut seen) = (Joined::new(TICK), Seen::default());
        seen.end(&mut joined, 1, 1500, 4100);
        begin(&mut joined, 5500, 1, 0);
        seen.end(&mut joined, 1, 4500, 5100);
        assert_eq!((joined.lost, seen.0.len()), (2, 0));
        seen.end(&mut joined, 1, 5500, 6500);
        assert_eq!(seen.0, [(6000, 1, Cause::SystemCall(0), 1)]);
    }

    #[test]
    fn a_long_wait_comes_in_parts() {
        let (mut joined, mut seen) = (Joined::new(TICK), Seen::default());
        begin(&mut joined, 1500, 1, -1);
        let goes_on = |key, since| (key, since) == (1, 1500);
        seen.flush(&mut joined, 9900, 10_000, &goes_on);
        assert_eq!(seen.0, [], "not long enough");
        seen.flush(&mut joined, 12_000, 10_000, &goes_on);
        seen.flush(&mut joined, 13_000, 10_000, &goes_on);
        seen.end(&mut joined, 1, 1500, 14_999);
        let fault = Cause::PageFault;
        assert_eq!(seen.0, [(2000, 1, fault, 11), (13_000, 1, fault, 2)]);
    }

    #[test]
    fn nothing_is_handed_out_of_what_may_have_ended() {
        let (mut joined, mut seen) = (Joined::new(TICK), Seen::default());
        begin(&mut joined, 1500, 1, 0);
        begin(&mut joined, 1500, 2, 0);
        seen.flush(&mut joined, 20_000, 10_000, &NOT_WAITING);
        // Its end was on the way.
        seen.end(&mut joined, 1, 1500, 2500);
        seen.flush(&mut joined, 20_001, 10_000, &NOT_WAITING);
        assert_eq!(seen.0, [(2000, 1, Cause::SystemCall(0), 1)]);
        assert!(joined.pending.is_empty());
    }

    #[test]
    fn what_was_before_the_recording_does_not_count() {
        let (mut joined, mut seen) = (Joined::new(TICK), Seen::default());
        begin(&mut joined, 1500, 1, 0);
        joined.not_before_ns = 5500;
        seen.end(&mut joined, 1, 1500, 7500);
        assert_eq!(seen.0, [(6000, 1, Cause::SystemCall(0), 2)]);
    }

    #[test]
    fn a_call_that_is_begun_again_is_the_same() {
        let (mut joined, mut seen) = (Joined::new(TICK), Seen::default());
        begin(&mut joined, 500, 1, 202);
        seen.end(&mut joined, 1, 500, 1500);
        begin(&mut joined, 1600, 1, RESTART_SYSCALL);
        seen.end(&mut joined, 1, 1600, 2500);
        begin(&mut joined, 2600, 2, RESTART_SYSCALL);
        seen.end(&mut joined, 2, 2600, 3500);
        let causes: Vec<Cause> = seen.0.iter().map(|&(_, _, cause, _)| cause).collect();
        assert_eq!(causes, [202, 202, 219].map(Cause::SystemCall));
    }
}
