//! What this machine and this user allow, as far as the sampler depends on it.

use std::fs;
use std::str::FromStr;

use procfs::process::Process;
use rustix::thread::{CapabilitySet, capabilities};

/// The inode number of the initial PID namespace, the same on every machine
/// (`PROC_PID_INIT_INO` of Linux's `include/linux/proc_ns.h`).
const INITIAL_PID_NAMESPACE: u64 = 0xEFFF_FFFC;

/// The limits of `kernel.perf_event_max_sample_rate` and of the CPU clock,
/// whose shortest period is 10 µs (`perf_swevent_start_hrtimer` in
/// `kernel/events/core.c`).
const HIGHEST_RATE: u32 = 100_000;

/// Which of the two capabilities that the sampler needs this thread lacks; both
/// where it cannot be told.
pub(super) fn missing_capabilities() -> Vec<&'static str> {
    missing(capabilities(None).map_or(CapabilitySet::empty(), |sets| sets.effective))
}

/// `CAP_SYS_ADMIN` includes both.
fn missing(held: CapabilitySet) -> Vec<&'static str> {
    [
        (CapabilitySet::BPF, "CAP_BPF"),
        (CapabilitySet::PERFMON, "CAP_PERFMON"),
    ]
    .into_iter()
    .filter(|(needed, _)| !held.intersects(*needed | CapabilitySet::SYS_ADMIN))
    .map(|(_, name)| name)
    .collect()
}

/// This process runs in a user namespace other than the initial one, where its
/// capabilities count for nothing that concerns the whole machine.
pub(super) fn in_user_namespace() -> bool {
    fs::read_to_string("/proc/self/uid_map").is_ok_and(|map| {
        let mut words = map.split_whitespace();
        words.nth(2).is_some_and(|length| length != "4294967295")
    })
}

/// The inode number of this process's PID namespace; 0 for the initial one.
pub(super) fn pid_namespace() -> u32 {
    let inode = Process::myself()
        .and_then(|process| process.namespaces())
        .ok()
        .and_then(|namespaces| {
            namespaces
                .0
                .get(std::ffi::OsStr::new("pid"))
                .map(|pid| pid.identifier)
        });
    match inode {
        Some(INITIAL_PID_NAMESPACE) | None => 0,
        // The kernel numbers namespaces with 32 bits.
        Some(inode) => inode as u32,
    }
}

/// `kernel.perf_event_paranoid`, if it can be read.
pub(super) fn perf_event_paranoid() -> Option<i32> {
    read_number("/proc/sys/kernel/perf_event_paranoid")
}

/// The highest rate at which the kernel delivers ticks, in Hz.
pub(super) fn highest_rate() -> u32 {
    read_number("/proc/sys/kernel/perf_event_max_sample_rate")
        .unwrap_or(HIGHEST_RATE)
        .min(HIGHEST_RATE)
}

/// The kernel tells its own types, which the program needs to be loaded.
pub(super) fn has_type_information() -> bool {
    fs::metadata("/sys/kernel/btf/vmlinux").is_ok()
}

fn read_number<T: FromStr>(path: &str) -> Option<T> {
    fs::read_to_string(path).ok()?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_missing() {
        let (bpf, perfmon) = (CapabilitySet::BPF, CapabilitySet::PERFMON);
        assert_eq!(missing(CapabilitySet::empty()), ["CAP_BPF", "CAP_PERFMON"]);
        assert_eq!(missing(bpf), ["CAP_PERFMON"]);
        assert_eq!(missing(perfmon), ["CAP_BPF"]);
        assert!(missing(bpf | perfmon).is_empty());
        assert!(missing(CapabilitySet::SYS_ADMIN).is_empty());
    }
}
