//! What the threads that run JavaScript did with the CPU, all in all.

use std::fmt;

use nodetap_profile::Mode;

use crate::doing::Activity;
use crate::roles::{Role, ThreadRole};

/// What a sample counts for. In the order in which equal shares are listed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Share {
    /// JavaScript and WebAssembly.
    JavaScript,
    /// V8's builtins.
    Builtins,
    /// Something that V8 did for JavaScript, in the kernel as well.
    Activity(Activity),
    /// Other native code.
    Native,
    /// The kernel, for other native code or for JavaScript.
    Kernel,
    /// It is not known.
    Unknown,
}

impl Share {
    const ALL: [Share; 11] = [
        Share::JavaScript,
        Share::Builtins,
        Share::Activity(Activity::GarbageCollector),
        Share::Activity(Activity::Compiler),
        Share::Activity(Activity::RegExp),
        Share::Activity(Activity::Json),
        Share::Activity(Activity::InlineCache),
        Share::Activity(Activity::Deoptimizer),
        Share::Native,
        Share::Kernel,
        Share::Unknown,
    ];

    /// What a sample counts for whose thread was in `mode`, for `activity`; `None` where
    /// it had no CPU.
    pub fn of(activity: Activity, mode: Mode) -> Option<Share> {
        Some(match (mode, activity) {
            (Mode::Waiting, _) => return None,
            (Mode::JavaScript, Activity::Program) => Share::JavaScript,
            (Mode::Builtin, Activity::Program) => Share::Builtins,
            (Mode::Native, Activity::Program) => Share::Native,
            (Mode::Kernel, Activity::Program) => Share::Kernel,
            (Mode::Unknown, Activity::Program) => Share::Unknown,
            (_, activity) => Share::Activity(activity),
        })
    }

    fn words(self) -> &'static str {
        match self {
            Share::JavaScript => "JavaScript",
            Share::Builtins => "builtins",
            Share::Activity(Activity::Program) | Share::Native => "native",
            // As in the pseudo frame, `(garbage collector)`.
            Share::Activity(activity) => activity.label().trim_matches(['(', ')']),
            Share::Kernel => "kernel",
            Share::Unknown => "unknown",
        }
    }
}

/// How many samples there were of each.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Shares {
    samples: [u64; Share::ALL.len()],
}

impl Shares {
    /// Counts `samples` more.
    pub fn add(&mut self, share: Share, samples: u64) {
        if let Some(at) = Share::ALL.iter().position(|it| *it == share) {
            self.samples[at] += samples;
        }
    }

    /// Counts what others have counted.
    pub fn add_all(&mut self, others: &Shares) {
        for (count, others) in self.samples.iter_mut().zip(others.samples) {
            *count += others;
        }
    }

    /// Those that were counted after `earlier`.
    fn since(&self, earlier: &Shares) -> Shares {
        let mut since = *self;
        for (count, before) in since.samples.iter_mut().zip(earlier.samples) {
            *count = count.saturating_sub(before);
        }
        since
    }

    /// Whether there are none.
    pub fn are_empty(&self) -> bool {
        self.samples.iter().all(|&count| count == 0)
    }
}

/// The largest first; what is less than half a percent is left out.
impl fmt::Display for Shares {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let all: u64 = self.samples.iter().sum();
        let mut shares: Vec<(u64, Share)> = self.samples.into_iter().zip(Share::ALL).collect();
        shares.sort_by_key(|&(count, _)| std::cmp::Reverse(count));
        let mut separator = "";
        for (count, share) in shares {
            if count * 200 < all || count == 0 {
                break;
            }
            let percent = 100.0 * count as f64 / all as f64;
            write!(f, "{separator}{percent:.0} % {}", share.words())?;
            separator = ", ";
        }
        Ok(())
    }
}

/// The shares of all threads that run JavaScript.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Summary {
    main: Threads,
    workers: Threads,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Threads {
    number: u32,
    shares: Shares,
}

impl Summary {
    /// Counts a thread.
    pub fn add(&mut self, role: &ThreadRole, shares: &Shares) {
        if !role.runs_javascript() || shares.are_empty() {
            return;
        }
        let threads = match role.role() {
            Some(Role::Main) => &mut self.main,
            _ => &mut self.workers,
        };
        threads.number += 1;
        threads.shares.add_all(shares);
    }

    /// What came after `earlier`, a summary of the same threads.
    pub fn since(&self, earlier: &Summary) -> Summary {
        let since = |now: &Threads, before: &Threads| {
            let shares = now.shares.since(&before.shares);
            match shares.are_empty() {
                true => Threads::default(),
                false => Threads {
                    number: now.number,
                    shares,
                },
            }
        };
        Summary {
            main: since(&self.main, &earlier.main),
            workers: since(&self.workers, &earlier.workers),
        }
    }

    /// A line for the main threads and one for the others, where there are any. Where
    /// more is told of them than what they did with the CPU, the lines say that this is
    /// it.
    pub fn lines(&self, among_others: bool) -> Vec<String> {
        let on_cpu = if among_others { " on CPU" } else { "" };
        let line = |threads: &Threads, name: &str| match threads.number {
            0 => None,
            1 => Some(format!("{name} thread{on_cpu}: {}", threads.shares)),
            number => Some(format!(
                "{number} {name} threads{on_cpu}: {}",
                threads.shares
            )),
        };
        let lines = [line(&self.main, "main"), line(&self.workers, "worker")];
        lines.into_iter().flatten().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shares(counts: &[(Share, u64)]) -> Shares {
        let mut shares = Shares::default();
        for &(share, count) in counts {
            shares.add(share, count);
        }
        shares
    }

    #[test]
    fn a_thread_has_a_line() {
        let main = ThreadRole::new(true, "node", "node");
        let gc = Share::Activity(Activity::GarbageCollector);
        let of_main = shares(&[
            (Share::Kernel, 40),
            (gc, 120),
            (Share::JavaScript, 836),
            (Share::Native, 4),
        ]);
        let mut summary = Summary::default();
        assert!(summary.lines(false).is_empty());
        summary.add(&main, &Shares::default());
        assert!(summary.lines(false).is_empty());
        summary.add(&main, &of_main);
        assert_eq!(
            summary.lines(false),
            ["main thread: 84 % JavaScript, 12 % garbage collector, 4 % kernel"]
        );
        assert!(summary.lines(true)[0].starts_with("main thread on CPU: 84 %"));
        let helper = ThreadRole::new(false, "libuv-worker", "node");
        summary.add(&helper, &of_main);
        assert_eq!(summary.lines(false).len(), 1, "it runs no JavaScript");
        let mut worker = ThreadRole::new(false, "node", "node");
        worker.saw_javascript();
        for _ in 0..2 {
            summary.add(
                &worker,
                &shares(&[(Share::Builtins, 1), (Share::Unknown, 1)]),
            );
        }
        summary.add(&main, &shares(&[(Share::Native, 1000)]));
        assert_eq!(
            summary.lines(false),
            [
                "2 main threads: 50 % native, 42 % JavaScript, 6 % garbage collector, 2 % kernel",
                "2 worker threads: 50 % builtins, 50 % unknown"
            ]
        );
    }

    #[test]
    fn a_part_of_the_time_has_a_summary_of_its_own() {
        let main = ThreadRole::new(true, "node", "node");
        let mut earlier = Summary::default();
        earlier.add(&main, &shares(&[(Share::JavaScript, 100)]));
        let mut now = Summary::default();
        now.add(
            &main,
            &shares(&[(Share::JavaScript, 103), (Share::Native, 1)]),
        );
        assert_eq!(
            now.since(&earlier).lines(false),
            ["main thread: 75 % JavaScript, 25 % native"]
        );
        assert!(now.since(&now).lines(false).is_empty());
    }

    #[test]
    fn what_v8_did_counts_for_that_wherever_the_tick_fell() {
        let gc = Activity::GarbageCollector;
        for mode in [Mode::Native, Mode::Kernel, Mode::Unknown] {
            assert_eq!(Share::of(gc, mode), Some(Share::Activity(gc)));
        }
        assert_eq!(Share::of(gc, Mode::Waiting), None);
        let of_kernel = Share::of(Activity::Program, Mode::Kernel);
        assert_eq!(of_kernel, Some(Share::Kernel));
        for share in Share::ALL {
            let alone = shares(&[(share, 3)]).to_string();
            assert_eq!(alone, format!("100 % {}", share.words()));
        }
    }
}
