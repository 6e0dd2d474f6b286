//! The threads, as the formats show them that keep them apart.

use std::cmp::Reverse;

use rustc_hash::FxHashMap;

use crate::label::visible;
use crate::{Profile, ThreadId};

/// The thread to look at first: the main one of the process that has the most samples, or,
/// where that one has none, the one of that process that has the most. `None` where there
/// are no samples.
pub(super) fn first(profile: &Profile) -> Option<ThreadId> {
    let of_thread = samples(profile);
    let sampled = || {
        let ids = (0..).map_while(|index| profile.thread_id(index));
        ids.filter(|id| of_thread[id.index()] > 0)
    };
    let pid_of = |id: ThreadId| profile.thread(id).pid;
    let mut of_process: FxHashMap<u32, u64> = FxHashMap::default();
    for id in sampled() {
        *of_process.entry(pid_of(id)).or_default() += of_thread[id.index()];
    }
    // Of equal ones the first, which `max_by_key` would not give.
    let busiest = sampled().min_by_key(|&id| Reverse(of_process[&pid_of(id)]))?;
    let pid = pid_of(busiest);
    sampled()
        .filter(|&id| pid_of(id) == pid)
        .min_by_key(|&id| Reverse((profile.thread(id).tid == pid, of_thread[id.index()])))
}

/// How many samples each thread has.
pub(super) fn samples(profile: &Profile) -> Vec<u64> {
    let mut of_thread = vec![0; profile.threads().len()];
    for (key, count) in profile.counts() {
        of_thread[key.thread.index()] += count;
    }
    of_thread
}

/// What a thread is called: `node 4711 (main thread)`, and where there are several processes
/// `node 4712 of 4711`.
pub(super) fn label(profile: &Profile, thread: ThreadId) -> String {
    let thread = profile.thread(thread);
    let name = match thread.name.trim() {
        "" => "thread".into(),
        name => visible(name),
    };
    let mut pids = profile.threads().iter().map(|it| it.pid);
    let of = match pids.any(|pid| pid != thread.pid) {
        _ if thread.tid == thread.pid => " (main thread)".into(),
        true => format!(" of {}", thread.pid),
        false => String::new(),
    };
    format!("{name} {}{of}", thread.tid)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{add, add_thread, bare, empty, js, several_processes, small};
    use crate::{Thread, Tier};

    fn tid_of_first(profile: &Profile) -> u32 {
        profile.thread(first(profile).unwrap()).tid
    }

    #[test]
    fn the_main_thread_of_the_busiest_process_comes_first() {
        assert_eq!(tid_of_first(&small()), 32642);
        assert_eq!(tid_of_first(&several_processes()), 7);
        assert_eq!(first(&bare()), None);
        assert_eq!(first(&empty().0), None);
    }

    #[test]
    fn a_worker_does_where_the_main_thread_has_no_samples() {
        let (mut profile, _) = empty();
        let few = add_thread(&mut profile, 32642, 1, "worker");
        let many = add_thread(&mut profile, 32642, 2, "worker");
        let frame = [js("f", 1, Tier::Optimized)];
        add(&mut profile, few, &frame, 1);
        add(&mut profile, many, &frame, 2);
        assert_eq!(first(&profile), Some(many));
    }

    #[test]
    fn a_thread_is_called_by_its_name_and_number() {
        let (mut profile, main) = empty();
        let worker = add_thread(&mut profile, 32642, 2, "wor\x1bker");
        assert_eq!(label(&profile, main), "node 32642 (main thread)");
        assert_eq!(label(&profile, worker), r"wor\u{1b}ker 2");
        let other = profile.add_thread(Thread {
            pid: 7,
            tid: 8,
            name: String::new(),
        });
        assert_eq!(label(&profile, main), "node 32642 (main thread)");
        assert_eq!(label(&profile, other), "thread 8 of 7");
    }
}
