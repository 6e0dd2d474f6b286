//! When the next fault comes.

use std::fs;
use std::process::Child;
use std::thread::{self, sleep};
use std::time::{Duration, Instant, SystemTime};

use crate::common::matrix::{self, Node};
use crate::worker::{LIMIT, tracer};

/// The earliest moment and the latest one, in seconds.
const RANGE: (f64, f64) = (0.0002, 0.5);
/// How long to wait for a moment that need not come.
const PATIENCE: Duration = Duration::from_secs(1);

/// Whether `node` is the version that is tried most.
pub fn has_most(node: &Node) -> bool {
    node.major() == 24 && !node.is_of("24.0.")
}

/// Moments of chance. What they come from is printed if the test fails.
pub struct Moments {
    seed: u64,
    state: u64,
    rounds: u32,
    /// The round that is under way.
    now: String,
}

/// A moment.
#[derive(Clone, Copy, Debug)]
pub enum Moment {
    /// So long after nodetap was started.
    After(Duration),
    /// So long after it has begun to sample.
    Sampling(Duration),
    /// When the target is seen to be traced, after it has begun to sample.
    Traced,
    /// So long after it was asked to end, while it sampled.
    Ending(Duration),
    /// So long after the program that it started has said that it is ready.
    Ready(Duration),
}

impl Moments {
    /// As many as the tests are to have on `node`.
    pub fn of(node: &Node) -> Moments {
        let given = std::env::var("NODETAP_TEST_SEED").ok();
        let now = || {
            let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
            now.expect("after 1970").as_nanos() as u64
        };
        let seed = given.map_or_else(now, |seed| seed.parse().expect("a number"));
        let rounds = match matrix::is_for_all_nodes() {
            true if has_most(node) => 200,
            true => 16,
            false => 4,
        };
        Moments {
            seed,
            state: seed,
            rounds,
            now: String::new(),
        }
    }

    /// Notes what happens in a round, to be told if the test fails.
    pub fn note(&mut self, round: u32, what: impl std::fmt::Debug) {
        self.now = format!("round {round}: {what:?}");
    }

    /// How many there are.
    pub fn rounds(&self) -> u32 {
        self.rounds
    }

    /// A number from 0 to 1 (SplitMix64).
    pub fn chance(&mut self) -> f64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut bits = self.state;
        bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        bits ^= bits >> 31;
        (bits >> 11) as f64 / (1_u64 << 53) as f64
    }

    /// How long until the moment of a round. All orders of magnitude get their share: much
    /// happens in the first milliseconds.
    fn time(&mut self, round: u32) -> Duration {
        let share = (f64::from(round) + self.chance()) / f64::from(self.rounds);
        let (first, last) = RANGE;
        Duration::from_secs_f64(first * (last / first).powf(share))
    }

    /// A moment of a nodetap that is to sample, or of one that is to sample by ptrace.
    pub fn of_record(&mut self, round: u32, sampler: &str) -> Moment {
        let time = self.time(round);
        match round % 4 {
            0 => Moment::After(time),
            1 if sampler == "ptrace" => Moment::Traced,
            3 => Moment::Ending(time),
            _ => Moment::Sampling(time),
        }
    }

    /// A moment of a nodetap that starts its target. (If that were asked to end, so would
    /// be the target.)
    pub fn of_launch(&mut self, round: u32) -> Moment {
        let time = self.time(round);
        match round / 2 % 2 {
            0 => Moment::After(time),
            _ => Moment::Ready(time),
        }
    }

    /// A moment of a nodetap that takes all stacks once.
    pub fn of_dump(&mut self, round: u32) -> Moment {
        match round % 4 {
            1 => Moment::Traced,
            // It takes no longer.
            _ => Moment::After(self.time(round) / 2),
        }
    }
}

impl Moment {
    /// Waits for it, or for the end of `nodetap`, which has just been started and has to
    /// do with process `pid`.
    pub fn wait(self, nodetap: &mut Child, pid: u32, is_dump: bool) {
        if let Moment::After(time) | Moment::Ready(time) = self {
            return sleep(time);
        }
        if !is_dump && !wait_until_sampling(nodetap) {
            return;
        }
        match self {
            Moment::After(_) | Moment::Ready(_) => {}
            Moment::Sampling(time) => sleep(time),
            Moment::Traced => {
                let begun = Instant::now();
                while begun.elapsed() < PATIENCE
                    && tracer(pid) == Some(0)
                    && nodetap.try_wait().expect("wait").is_none()
                {}
            }
            Moment::Ending(time) => {
                // SAFETY: no memory of ours is touched; a child that has not been waited
                // for.
                unsafe { libc::kill(nodetap.id() as i32, libc::SIGTERM) };
                sleep(time);
            }
        }
    }
}

/// Waits until samples are taken, or `nodetap` has ended; whether it has not.
pub fn wait_until_sampling(nodetap: &mut Child) -> bool {
    let begun = Instant::now();
    let is_sampling = |pid: u32| {
        let fds = fs::read_dir(format!("/proc/{pid}/fd"));
        let fds = fds.into_iter().flatten();
        let mut links = fds.filter_map(|fd| fs::read_link(fd.ok()?.path()).ok());
        links.any(|link| link.as_os_str() == "anon_inode:bpf_link")
            || thread_names(pid).iter().any(|name| name == "ptrace")
    };
    while !is_sampling(nodetap.id()) {
        if nodetap.try_wait().expect("wait").is_some() {
            return false;
        }
        assert!(begun.elapsed() < LIMIT, "it does not begin");
        sleep(Duration::from_millis(2));
    }
    true
}

fn thread_names(pid: u32) -> Vec<String> {
    let tasks = fs::read_dir(format!("/proc/{pid}/task"));
    let name = |task: fs::DirEntry| fs::read_to_string(task.path().join("comm")).ok();
    let names = tasks.into_iter().flatten();
    let names = names.filter_map(|task| name(task.ok()?));
    names.map(|name| name.trim_end().to_owned()).collect()
}

impl Drop for Moments {
    fn drop(&mut self) {
        if thread::panicking() {
            let Moments { seed, now, .. } = self;
            eprintln!("{now}; to have the same moments again: NODETAP_TEST_SEED={seed}");
        }
    }
}
