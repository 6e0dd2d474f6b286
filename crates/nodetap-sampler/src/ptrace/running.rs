//! Which threads of a process run.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

use rustc_hash::FxHashMap;
use rustix::fs::{Dir, Mode, OFlags, open, openat};

/// How many samples a thread may be ahead of its CPU time, or behind it.
const LEEWAY: f64 = 4.0;

/// The threads of one process, and how much CPU time each has used that no sample
/// stands for yet.
///
/// A sample stands for a period of CPU time. Whether a thread is sampled at a tick
/// is decided by whether it runs then, which alone gives every part of the program
/// its share. The account keeps a thread that has to share its CPU with others, and
/// so can run but does not, from being counted as if it had had all of it.
pub(super) struct Threads {
    folder: OwnedFd,
    accounts: FxHashMap<u32, Account>,
    look: u64,
}

/// What is known of a thread.
struct Account {
    /// What it was at the last look.
    times: Times,
    /// How many samples it has used CPU time for and not got; negative where it
    /// has got more.
    due: f64,
    /// The number of the last look that saw it.
    seen: u64,
}

/// What the scheduler tells of a thread, as of the last time that it looked.
#[derive(Clone, Copy, Debug, Default)]
struct Times {
    /// CPU time used.
    used: Duration,
    /// How long it has waited for a CPU, not counting a wait that goes on.
    waited: Duration,
}

impl Threads {
    /// Those of process `pid`.
    ///
    /// # Errors
    /// Where there is no such process.
    pub fn of(pid: u32) -> io::Result<Threads> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let folder = open(format!("/proc/{pid}/task"), flags, Mode::empty())?;
        Ok(Threads {
            folder,
            accounts: FxHashMap::default(),
            look: 0,
        })
    }

    /// Those that run and are due for a sample that stands for `period`, but for those
    /// that wait for one already, by what `waits` says.
    pub fn due(&mut self, period: Duration, waits: impl Fn(u32) -> bool) -> Vec<u32> {
        self.look += 1;
        let mut due = Vec::new();
        // After its process has ended there is nothing in it.
        let Ok(entries) = Dir::read_from(&self.folder) else {
            return due;
        };
        for entry in entries.flatten() {
            let name = entry.file_name().to_str();
            let Some(tid) = name.ok().and_then(|name| name.parse().ok()) else {
                continue;
            };
            if self.is_due(tid, period, waits(tid)) {
                due.push(tid);
            }
        }
        let look = self.look;
        self.accounts.retain(|_, account| account.seen == look);
        due
    }

    fn is_due(&mut self, tid: u32, period: Duration, waits: bool) -> bool {
        let times = self.times(tid);
        let runs = !waits && self.runs(tid).is_some();
        let look = self.look;
        let account = self.accounts.entry(tid).or_insert(Account {
            times: times.unwrap_or_default(),
            // The first sample is for the time before it was seen.
            due: 1.0 - LEEWAY,
            seen: look,
        });
        account.seen = look;
        match times {
            Some(times) => {
                let since = times.used.saturating_sub(account.times.used);
                account.times.used = times.used;
                if !waits {
                    account.times.waited = times.waited;
                }
                account.due += since.as_secs_f64() / period.as_secs_f64();
                account.due = account.due.min(LEEWAY);
            }
            // A kernel that does not tell: a tick is a period.
            None => account.due += 1.0,
        }
        let is_due = runs && account.due > -LEEWAY;
        if is_due {
            account.due -= 1.0;
        }
        is_due
    }

    /// Whether thread `tid` runs, or would if it had a CPU: the one that it runs on, or
    /// waits for.
    pub fn runs(&self, tid: u32) -> Option<u32> {
        /// The fields of `/proc/PID/stat` behind the name, which may hold anything:
        /// the state is the first one.
        const PROCESSOR: usize = 39 - 3;
        let mut buffer = [0; 512];
        let text = self.read(&format!("{tid}/stat"), &mut buffer)?;
        let end = text.iter().rposition(|&byte| byte == b')')?;
        let mut fields = text.get(end + 2..)?.split(|&byte| byte == b' ');
        if fields.next()? != b"R" {
            return None;
        }
        let processor = str::from_utf8(fields.nth(PROCESSOR - 1)?).ok()?;
        processor.parse().ok()
    }

    /// How long a thread has waited for a CPU since it was found to be due, and before
    /// that if it waited then.
    pub fn waited(&self, tid: u32) -> Duration {
        let before = self.accounts.get(&tid).map(|account| account.times.waited);
        let now = self.times(tid).map(|times| times.waited);
        let since = now
            .zip(before)
            .and_then(|(now, before)| now.checked_sub(before));
        since.unwrap_or_default()
    }

    /// Whether a thread that was due for a sample can do without it for now: it has not
    /// used more CPU time than it has got samples for.
    pub fn do_without(&mut self, tid: u32) -> bool {
        let Some(account) = self.accounts.get_mut(&tid) else {
            return true;
        };
        let can = account.due < -1.0;
        if can {
            account.due += 1.0;
        }
        can
    }

    fn times(&self, tid: u32) -> Option<Times> {
        let mut buffer = [0; 128];
        let text = self.read(&format!("{tid}/schedstat"), &mut buffer)?;
        let mut numbers = text.split(|&byte| byte == b' ');
        let mut time = || {
            let number = str::from_utf8(numbers.next()?).ok()?;
            Some(Duration::from_nanos(number.parse().ok()?))
        };
        Some(Times {
            used: time()?,
            waited: time()?,
        })
    }

    /// The beginning of a file in the folder of the threads.
    fn read<'a>(&self, path: &str, buffer: &'a mut [u8]) -> Option<&'a [u8]> {
        let flags = OFlags::RDONLY | OFlags::CLOEXEC;
        let file = openat(self.folder.as_fd(), path, flags, Mode::empty()).ok()?;
        let length = rustix::io::read(&file, &mut *buffer).ok()?;
        buffer.get(..length)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process;
    use std::sync::atomic::{AtomicBool, Ordering};
    use std::thread;

    #[test]
    fn a_thread_that_waits_is_not_due_and_one_that_runs_gets_what_it_uses() {
        let mut threads = Threads::of(process::id()).unwrap();
        let stop = AtomicBool::new(false);
        let id = || {
            rustix::thread::gettid()
                .as_raw_nonzero()
                .get()
                .unsigned_abs()
        };
        let (send, receive) = std::sync::mpsc::channel();
        thread::scope(|scope| {
            let busy = send.clone();
            scope.spawn(|| {
                busy.send(id()).unwrap();
                drop(busy);
                while !stop.load(Ordering::Relaxed) {
                    std::hint::spin_loop();
                }
            });
            let busy = receive.recv().unwrap();
            let idle = scope.spawn(move || {
                send.send(id()).unwrap();
                thread::park();
            });
            let waits = receive.recv().unwrap();
            let period = Duration::from_millis(5);
            let used = |threads: &Threads| threads.times(busy).unwrap().used.as_secs_f64();
            let before = used(&threads);
            let mut samples = 0.0;
            // It may get a small part of a CPU only.
            while used(&threads) - before < 60.0 * period.as_secs_f64() {
                thread::sleep(period);
                let due = threads.due(period, |_| false);
                assert!(!due.contains(&waits), "{due:?}");
                samples += f64::from(due.contains(&busy));
            }
            let expected = (used(&threads) - before) / period.as_secs_f64();
            stop.store(true, Ordering::Relaxed);
            idle.thread().unpark();
            // A sleep takes longer than it is asked to: then there are fewer looks.
            assert!(
                samples <= expected + 2.0 * LEEWAY && samples > 5.0,
                "{samples} samples, {expected} periods"
            );
        });
    }
}
