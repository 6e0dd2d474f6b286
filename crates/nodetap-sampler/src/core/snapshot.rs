//! The stacks of a core file's threads.

use std::time::Duration;

use super::Core;
use crate::ptrace::process::Process;
use crate::ptrace::{MAX_FRAMES, Snapshot, ThreadStack};
use crate::target::Target;

/// The stacks of all threads of `core`, which `target` was made of.
///
/// # Errors
/// Where we have too many files open.
pub fn snapshot(core: &Core, target: &Target) -> std::io::Result<Snapshot> {
    let mut process = Process::of(target, MAX_FRAMES)?;
    let samples = process.walk(&core.threads());
    let threads = samples.into_iter().map(|sample| ThreadStack {
        tid: sample.tid,
        name: core.thread_name(sample.tid).to_owned(),
        sample: Some(sample),
    });
    Ok(Snapshot {
        threads: threads.collect(),
        stopped: Duration::ZERO,
    })
}
