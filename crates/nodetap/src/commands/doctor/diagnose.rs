//! From facts to what can be recorded, and what would help.

use crate::permissions::Advice;
use crate::permissions::observer::{Capability, Container, Observer};
use crate::permissions::process::Process;
use crate::permissions::remedy::{Task, remedy};
use crate::permissions::rules::{self, Access, Obstacle};

/// All that was found out.
#[derive(Clone, Debug)]
pub struct Facts {
    /// This machine and this process.
    pub us: Observer,
    /// What came of loading the sampler: nothing, or why not.
    pub ebpf: Result<(), Advice>,
    /// What came of tracing a process that was started for it.
    pub ptrace: Result<(), Advice>,
}

/// How a finding bears on recording.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// As it should be.
    Good,
    /// Something will be missing, or is only for some processes.
    Limited,
    /// In the way.
    Bad,
    /// For information.
    Neutral,
}

/// One thing that was looked at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// How it bears on recording.
    pub state: State,
    /// What was looked at.
    pub subject: &'static str,
    /// What it is like.
    pub text: String,
}

/// What `nodetap doctor` tells.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// All that was looked at.
    pub findings: Vec<Finding>,
    /// The sampler that would be used, if one can be.
    pub sampler: Option<&'static str>,
    /// Why this one, or why none.
    pub why: String,
    /// The one step that would help most, if there is one.
    pub improve: Option<String>,
}

/// Draws the conclusions.
pub fn diagnose(facts: &Facts) -> Report {
    let findings = vec![
        kernel(facts),
        type_information(facts),
        bpf(facts),
        perf_events(facts),
        ptrace(facts),
        other_processes(facts),
        kernel_addresses(facts),
        lockdown(facts),
        seccomp(facts),
        capabilities(facts),
        namespace(facts),
    ];
    let (sampler, why) = sampler(facts);
    Report {
        findings,
        sampler,
        why,
        improve: improvement(facts),
    }
}

/// The sampler that would be used, and why this one, or why none.
fn sampler(facts: &Facts) -> (Option<&'static str>, String) {
    if let Err(obstacle) = is_anything_readable(facts) {
        return (None, obstacle.to_string());
    }
    match (&facts.ebpf, &facts.ptrace) {
        (Ok(()), _) => (
            Some("ebpf"),
            "its program was loaded here just now".to_owned(),
        ),
        (Err(refusal), Ok(())) => (
            Some("ptrace"),
            format!("for eBPF, which stops nothing, {}", why_not(facts, refusal)),
        ),
        (Err(refusal), Err(_)) => (None, why_not(facts, refusal)),
    }
}

/// Whether the memory of any process can be read: without it nothing has a name.
fn is_anything_readable(facts: &Facts) -> Result<(), Obstacle> {
    rules::tracing(&facts.us, &Process::started_by(&facts.us), Access::Read)
}

/// The first kernel on which the sampler is known to work.
const OLDEST_KERNEL: (u32, u32) = (5, 15);

fn kernel_is_old(facts: &Facts) -> bool {
    let mut numbers = facts
        .us
        .kernel
        .split(|c: char| !c.is_ascii_digit())
        .map_while(|part| part.parse::<u32>().ok());
    match (numbers.next(), numbers.next()) {
        (Some(major), Some(minor)) => (major, minor) < OLDEST_KERNEL,
        _ => false,
    }
}

fn finding(state: State, subject: &'static str, text: impl Into<String>) -> Finding {
    Finding {
        state,
        subject,
        text: text.into(),
    }
}

fn kernel(facts: &Facts) -> Finding {
    let release = &facts.us.kernel;
    if kernel_is_old(facts) {
        let (major, minor) = OLDEST_KERNEL;
        let text = format!("Linux {release}; eBPF sampling needs {major}.{minor} or later");
        finding(State::Bad, "kernel", text)
    } else {
        finding(State::Good, "kernel", format!("Linux {release}"))
    }
}

fn type_information(facts: &Facts) -> Finding {
    match facts.us.btf {
        true => finding(State::Good, "BTF", "present (/sys/kernel/btf/vmlinux)"),
        false => {
            let text = "absent; eBPF sampling needs it (CONFIG_DEBUG_INFO_BTF)";
            finding(State::Bad, "BTF", text)
        }
    }
}

/// How a `/proc/sys/kernel` setting is written here.
fn shown(name: &str, value: Option<i32>) -> String {
    match value {
        Some(value) => format!("{name} = {value}"),
        None => format!("{name} is not there"),
    }
}

fn bpf(facts: &Facts) -> Finding {
    let value = facts.us.unprivileged_bpf_disabled;
    let setting = shown("kernel.unprivileged_bpf_disabled", value);
    match &facts.ebpf {
        Ok(()) => finding(State::Good, "BPF", format!("allowed ({setting})")),
        Err(_) if !facts.us.capabilities.bpf() => {
            let text = format!("needs CAP_BPF, in any case ({setting})");
            finding(State::Bad, "BPF", text)
        }
        Err(refusal) => finding(State::Bad, "BPF", &*refusal.reason),
    }
}

fn perf_events(facts: &Facts) -> Finding {
    const SUBJECT: &str = "perf events";
    let level = facts.us.perf_event_paranoid;
    let setting = shown("kernel.perf_event_paranoid", level);
    let root = facts.us.capabilities.has(Capability::SysAdmin);
    match level {
        _ if facts.ebpf.is_ok() => finding(State::Good, SUBJECT, format!("allowed ({setting})")),
        _ if !facts.us.first_user_namespace => {
            finding(State::Bad, SUBJECT, Obstacle::OwnUserNamespace.to_string())
        }
        _ if !facts.us.capabilities.perfmon() => {
            let text = format!("need CAP_PERFMON, in any case ({setting})");
            finding(State::Bad, SUBJECT, text)
        }
        Some(level @ 3..) if !root => {
            let text = Obstacle::Paranoid(level).to_string();
            finding(State::Limited, SUBJECT, text)
        }
        _ => finding(State::Good, SUBJECT, format!("allowed ({setting})")),
    }
}

fn ptrace(facts: &Facts) -> Finding {
    match &facts.ptrace {
        Ok(()) => finding(State::Good, "ptrace", "allowed"),
        Err(refusal) => finding(State::Bad, "ptrace", &*refusal.reason),
    }
}

/// Which processes may be looked into, by the rules that hold for each.
fn other_processes(facts: &Facts) -> Finding {
    let us = &facts.us;
    let setting = match us.ptrace_scope {
        Some(scope) => format!("kernel.yama.ptrace_scope = {scope}"),
        None => "no Yama".to_owned(),
    };
    let may = |process: Process| rules::tracing(us, &process, Access::Read);
    let (state, text) = match (
        may(Process::of_other_user(us)),
        may(Process::of_same_user(us)),
        may(Process::started_by(us)),
    ) {
        (Ok(()), _, _) => (State::Good, format!("every user's can be read ({setting})")),
        (Err(Obstacle::FileMode { .. }), Ok(()), _) => (
            State::Limited,
            "only this user's own can be read: others' take CAP_DAC_READ_SEARCH, too".to_owned(),
        ),
        (_, Ok(()), _) => (
            State::Limited,
            format!("only this user's own can be read ({setting})"),
        ),
        (_, Err(obstacle), Ok(())) => (
            State::Limited,
            format!("only what nodetap starts can be read (record -- COMMAND): {obstacle}"),
        ),
        (_, _, Err(obstacle)) => (State::Bad, format!("none can be read: {obstacle}")),
    };
    finding(state, "processes", text)
}

fn kernel_addresses(facts: &Facts) -> Finding {
    let setting = shown("kptr_restrict", facts.us.kptr_restrict);
    if kernel_names(facts) {
        finding(State::Good, "kernel names", format!("shown ({setting})"))
    } else {
        let text = format!("hidden: --kernel has frames without names ({setting})");
        finding(State::Limited, "kernel names", text)
    }
}

/// Whether `/proc/kallsyms` shows addresses (`kallsyms_show_value` in the kernel).
fn kernel_names(facts: &Facts) -> bool {
    let privileged = facts.us.first_user_namespace && facts.us.capabilities.has(Capability::Syslog);
    match facts.us.kptr_restrict {
        None => true,
        Some(0) => privileged || facts.us.perf_event_paranoid.is_some_and(|level| level <= 1),
        Some(1) => privileged,
        Some(_) => false,
    }
}

fn lockdown(facts: &Facts) -> Finding {
    match facts.us.lockdown.as_deref() {
        None => finding(State::Good, "lockdown", "off"),
        Some("integrity") => finding(State::Good, "lockdown", "integrity; not in the way"),
        Some(mode) => {
            let text = format!("{mode}; the kernel keeps BPF programs from reading");
            finding(State::Bad, "lockdown", text)
        }
    }
}

fn seccomp(facts: &Facts) -> Finding {
    const SUBJECT: &str = "seccomp";
    match &facts.us.filtered[..] {
        _ if !facts.us.seccomp => finding(State::Good, SUBJECT, "off"),
        [] => finding(State::Good, SUBJECT, "on; not in the way"),
        calls => {
            let calls: Vec<String> = calls.iter().map(ToString::to_string).collect();
            let text = format!("on; forbids {}", calls.join(" and "));
            finding(State::Bad, SUBJECT, text)
        }
    }
}

fn capabilities(facts: &Facts) -> Finding {
    const KNOWN: [Capability; 6] = [
        Capability::Bpf,
        Capability::Perfmon,
        Capability::SysPtrace,
        Capability::DacReadSearch,
        Capability::SysAdmin,
        Capability::Syslog,
    ];
    let held: Vec<String> = KNOWN
        .iter()
        .filter(|capability| facts.us.capabilities.has(**capability))
        .map(|capability| format!("CAP_{}", capability.name()))
        .collect();
    let mut text = match held.is_empty() {
        true => "none of those that matter".to_owned(),
        false => held.join(", "),
    };
    let state = if facts.us.first_user_namespace {
        State::Neutral
    } else {
        text.push_str("; in a user namespace, where they do not count for BPF");
        State::Limited
    };
    finding(state, "capabilities", text)
}

fn namespace(facts: &Facts) -> Finding {
    let inside = match facts.us.container {
        Some(Container::Docker) => "; in a Docker container",
        Some(Container::Podman) => "; in a Podman container",
        Some(Container::Kubernetes) => "; in a Kubernetes pod",
        Some(Container::Other) => "; in a container",
        None => "",
    };
    if facts.us.first_pid_namespace {
        let text = format!("the machine's{inside}");
        finding(State::Neutral, "PID namespace", text)
    } else {
        let text = format!("one of its own: only its processes can be seen{inside}");
        finding(State::Neutral, "PID namespace", text)
    }
}

/// Why there is no eBPF.
fn why_not(facts: &Facts, refusal: &Advice) -> String {
    if kernel_is_old(facts) {
        "the kernel is too old".to_owned()
    } else if !facts.us.btf {
        "the kernel has no type information (BTF)".to_owned()
    } else {
        refusal.reason.clone()
    }
}

/// The one step that would help most.
fn improvement(facts: &Facts) -> Option<String> {
    let us = &facts.us;
    let help = |obstacle: Obstacle| remedy(&obstacle, us, Task::Attach);
    // Nobody may: that comes before all else.
    if let Err(obstacle) = is_anything_readable(facts) {
        return help(obstacle);
    }
    if let Err(refusal) = &facts.ebpf {
        // No command makes a kernel newer.
        let possible = !kernel_is_old(facts) && us.btf;
        return refusal.hint.clone().filter(|_| possible);
    }
    if let Err(obstacle) = rules::tracing(us, &Process::of_other_user(us), Access::Read) {
        return help(obstacle);
    }
    // The sysctl can be written by root only, from outside of containers.
    if us.kptr_restrict.is_some_and(|level| level > 1) && us.container.is_none() {
        return Some("sudo sysctl kernel.kptr_restrict=1".to_owned());
    }
    None
}

#[cfg(test)]
mod tests;
