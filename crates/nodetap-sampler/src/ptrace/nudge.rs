//! Threads that wait are made to begin their waits anew.
//!
//! What a thread waits for is seen when it begins to wait, so of those that do already
//! nothing would be known until they are woken; of one that hangs, never.

use std::thread;
use std::time::{Duration, Instant};

use super::asked::{Answer, AskedThread};
use super::error::Error;
use super::{by_tracer, stop};

/// How long to wait for a thread that has no CPU to stop on: nobody stops for longer
/// than a part of that.
const PATIENCE_WITH_ONE: Duration = Duration::from_millis(2);
/// The same for all of a process.
const PATIENCE_WITH_ALL: Duration = Duration::from_millis(20);

/// Stops each thread of process `pid` that waits for something, one after the other, and
/// lets it go at once. It goes on to wait, as after any stop (see [`super`]).
///
/// # Errors
/// Where it may not be stopped, or has ended.
pub fn nudge(pid: u32) -> Result<(), Error> {
    by_tracer(pid, move || nudge_threads(pid))
}

fn nudge_threads(pid: u32) -> Result<(), Error> {
    crate::priority::raise();
    let begun = Instant::now();
    let mut asked = Vec::new();
    for tid in stop::thread_ids(pid)? {
        if stop::state_letter(pid, tid) != Some('S') {
            continue;
        }
        if let Some(thread) = AskedThread::ask(pid, tid, Instant::now())? {
            asked.extend(let_go(thread.watch(PATIENCE_WITH_ONE)));
        }
    }
    while !asked.is_empty() && begun.elapsed() < PATIENCE_WITH_ALL {
        thread::sleep(Duration::from_millis(1));
        let answers = asked.into_iter().map(AskedThread::look);
        asked = answers.filter_map(let_go).collect();
    }
    Ok(())
}

/// Lets go of a thread that has stopped; gives back one that has not.
fn let_go(answer: Answer) -> Option<AskedThread> {
    match answer {
        Answer::NotYet(asked) => Some(asked),
        Answer::Stopped(stopped) => stopped.release().err(),
        Answer::Ended => None,
    }
}
