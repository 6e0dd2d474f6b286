//! From facts to what can be recorded, and what would help.

use super::facts::{Capability, Container, Facts, Refusal};

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
    let (sampler, why) = match (&facts.ebpf, &facts.ptrace) {
        (Ok(()), _) => (
            Some("ebpf"),
            "its program was loaded here just now".to_owned(),
        ),
        (Err(refusal), Ok(())) => (
            Some("ptrace"),
            format!("for eBPF, which stops nothing, {}", why_not(facts, refusal)),
        ),
        (Err(refusal), Err(_)) => (None, why_not(facts, refusal)),
    };
    Report {
        findings,
        sampler,
        why,
        improve: improvement(facts),
    }
}

/// The first kernel on which the sampler is known to work.
const OLDEST_KERNEL: (u32, u32) = (5, 15);

fn kernel_is_old(facts: &Facts) -> bool {
    let mut numbers = facts
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
    let release = &facts.kernel;
    if kernel_is_old(facts) {
        let (major, minor) = OLDEST_KERNEL;
        let text = format!("Linux {release}; eBPF sampling needs {major}.{minor} or later");
        finding(State::Bad, "kernel", text)
    } else {
        finding(State::Good, "kernel", format!("Linux {release}"))
    }
}

fn type_information(facts: &Facts) -> Finding {
    match facts.btf {
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
    let setting = shown("unprivileged_bpf_disabled", facts.unprivileged_bpf_disabled);
    match &facts.ebpf {
        Ok(()) => finding(State::Good, "BPF", format!("allowed ({setting})")),
        Err(_) if !has_bpf(facts) => {
            let text = format!("needs CAP_BPF or CAP_SYS_ADMIN ({setting})");
            finding(State::Bad, "BPF", text)
        }
        Err(refusal) => finding(State::Bad, "BPF", &*refusal.reason),
    }
}

fn perf_events(facts: &Facts) -> Finding {
    let setting = shown("perf_event_paranoid", facts.perf_event_paranoid);
    // Without a capability, -1 or 0 lets everybody look at a whole CPU.
    let open_to_all = facts.perf_event_paranoid.is_some_and(|level| level <= 0);
    if facts.ebpf.is_ok() || has_perfmon(facts) || open_to_all {
        finding(State::Good, "perf events", format!("allowed ({setting})"))
    } else {
        let text = format!("need CAP_PERFMON or CAP_SYS_ADMIN ({setting})");
        finding(State::Bad, "perf events", text)
    }
}

fn ptrace(facts: &Facts) -> Finding {
    match &facts.ptrace {
        Ok(()) => finding(State::Good, "ptrace", "allowed"),
        Err(refusal) => finding(State::Bad, "ptrace", &*refusal.reason),
    }
}

fn other_processes(facts: &Facts) -> Finding {
    const SUBJECT: &str = "processes";
    let setting = match facts.ptrace_scope {
        Some(scope) => format!("ptrace_scope = {scope}"),
        None => "no Yama".to_owned(),
    };
    let all = facts.capabilities.has(Capability::SysPtrace);
    match facts.ptrace_scope {
        Some(3) => {
            let text = format!("nobody's memory can be read ({setting})");
            finding(State::Bad, SUBJECT, text)
        }
        _ if all => finding(
            State::Good,
            SUBJECT,
            format!("every user's can be read ({setting})"),
        ),
        Some(1) => {
            let text = format!(
                "only what nodetap starts can be read: nodetap record -- node app.js ({setting})"
            );
            finding(State::Limited, SUBJECT, text)
        }
        Some(2) => {
            let text = format!("reading any needs CAP_SYS_PTRACE ({setting})");
            finding(State::Bad, SUBJECT, text)
        }
        _ => {
            let text = format!("only this user's own can be read ({setting})");
            finding(State::Limited, SUBJECT, text)
        }
    }
}

fn kernel_addresses(facts: &Facts) -> Finding {
    let setting = shown("kptr_restrict", facts.kptr_restrict);
    if kernel_names(facts) {
        finding(State::Good, "kernel names", format!("shown ({setting})"))
    } else {
        let text = format!("hidden: --kernel has frames without names ({setting})");
        finding(State::Limited, "kernel names", text)
    }
}

/// Whether `/proc/kallsyms` shows addresses (`kallsyms_show_value` in the kernel).
fn kernel_names(facts: &Facts) -> bool {
    let privileged = facts.first_user_namespace && facts.capabilities.has(Capability::Syslog);
    match facts.kptr_restrict {
        None => true,
        Some(0) => privileged || facts.perf_event_paranoid.is_some_and(|level| level <= 1),
        Some(1) => privileged,
        Some(_) => false,
    }
}

fn lockdown(facts: &Facts) -> Finding {
    match facts.lockdown.as_deref() {
        None => finding(State::Good, "lockdown", "off"),
        Some("integrity") => finding(State::Good, "lockdown", "integrity; not in the way"),
        Some(mode) => {
            let text = format!("{mode}; the kernel keeps BPF programs from reading");
            finding(State::Bad, "lockdown", text)
        }
    }
}

fn seccomp(facts: &Facts) -> Finding {
    match (facts.seccomp, &facts.ebpf) {
        (false, _) => finding(State::Good, "seccomp", "off"),
        (true, Ok(())) => finding(State::Good, "seccomp", "on; lets the sampler load"),
        (true, Err(_)) => finding(State::Limited, "seccomp", "on; may keep the sampler out"),
    }
}

fn capabilities(facts: &Facts) -> Finding {
    const KNOWN: [(Capability, &str); 5] = [
        (Capability::Bpf, "CAP_BPF"),
        (Capability::Perfmon, "CAP_PERFMON"),
        (Capability::SysPtrace, "CAP_SYS_PTRACE"),
        (Capability::SysAdmin, "CAP_SYS_ADMIN"),
        (Capability::Syslog, "CAP_SYSLOG"),
    ];
    let held: Vec<&str> = KNOWN
        .iter()
        .filter(|(capability, _)| facts.capabilities.has(*capability))
        .map(|(_, name)| *name)
        .collect();
    let mut text = match held.is_empty() {
        true => "none of those that matter".to_owned(),
        false => held.join(", "),
    };
    let state = if facts.first_user_namespace {
        State::Neutral
    } else {
        text.push_str("; in a user namespace, where they do not count for BPF");
        State::Limited
    };
    finding(state, "capabilities", text)
}

fn namespace(facts: &Facts) -> Finding {
    let inside = match facts.container {
        Some(Container::Docker) => "; in a Docker container",
        Some(Container::Podman) => "; in a Podman container",
        Some(Container::Kubernetes) => "; in a Kubernetes pod",
        Some(Container::Other) => "; in a container",
        None => "",
    };
    if facts.first_pid_namespace {
        let text = format!("the machine's{inside}");
        finding(State::Neutral, "PID namespace", text)
    } else {
        let text = format!("one of its own: only its processes can be seen{inside}");
        finding(State::Neutral, "PID namespace", text)
    }
}

/// Whether the capability to load BPF programs is held where it counts.
fn has_bpf(facts: &Facts) -> bool {
    facts.first_user_namespace && facts.capabilities.bpf()
}

/// Whether the capability to open performance events is held where it counts.
fn has_perfmon(facts: &Facts) -> bool {
    facts.first_user_namespace && facts.capabilities.perfmon()
}

/// Why no sampler can be used: the first thing in the way.
fn why_not(facts: &Facts, refusal: &Refusal) -> String {
    if kernel_is_old(facts) {
        return "the kernel is too old".to_owned();
    }
    if !facts.btf {
        return "the kernel has no type information (BTF)".to_owned();
    }
    match (has_bpf(facts), has_perfmon(facts)) {
        (false, false) => "CAP_BPF and CAP_PERFMON are missing".to_owned(),
        (false, true) => "CAP_BPF is missing".to_owned(),
        (true, false) => "CAP_PERFMON is missing".to_owned(),
        (true, true) if facts.lockdown.as_deref() == Some("confidentiality") => {
            "the kernel is locked down".to_owned()
        }
        (true, true) => refusal.reason.clone(),
    }
}

/// The one step that would help most.
fn improvement(facts: &Facts) -> Option<String> {
    let Err(refusal) = &facts.ebpf else {
        return improvement_of_a_working_sampler(facts);
    };
    let locked = facts.lockdown.as_deref() == Some("confidentiality");
    if kernel_is_old(facts) || !facts.btf || locked {
        return None;
    }
    if !has_bpf(facts) || !has_perfmon(facts) {
        return Some(more_capabilities(facts));
    }
    if facts.seccomp
        && let Some(Container::Docker | Container::Podman) = facts.container
    {
        let engine = engine(facts);
        return Some(format!("{engine} run --security-opt seccomp=unconfined …"));
    }
    refusal.hint.clone()
}

fn improvement_of_a_working_sampler(facts: &Facts) -> Option<String> {
    if !facts.capabilities.has(Capability::SysPtrace) && facts.ptrace_scope != Some(3) {
        return Some(more_capabilities(facts));
    }
    // The sysctl can be written by root only, from outside of containers.
    if facts.kptr_restrict.is_some_and(|level| level > 1) && facts.container.is_none() {
        return Some("sudo sysctl kernel.kptr_restrict=1".to_owned());
    }
    None
}

/// How a process like this one gets the capabilities to record everything.
fn more_capabilities(facts: &Facts) -> String {
    const FLAGS: &str = "--cap-add BPF --cap-add PERFMON --cap-add SYS_PTRACE …";
    match facts.container {
        Some(Container::Docker | Container::Podman) => {
            // What is added reaches root only.
            let user = if facts.uid == 0 { "" } else { "--user root " };
            format!("{} run {user}{FLAGS}", engine(facts))
        }
        Some(Container::Kubernetes) => {
            "kubectl debug -it POD --target CONTAINER --image IMAGE --profile sysadmin".to_owned()
        }
        _ if facts.uid == 0 || facts.no_new_privs || !facts.first_user_namespace => {
            "run it outside of this sandbox, as root".to_owned()
        }
        _ => format!(
            "sudo setcap cap_bpf,cap_perfmon,cap_sys_ptrace=ep '{}'",
            facts.executable.display()
        ),
    }
}

fn engine(facts: &Facts) -> &'static str {
    match facts.container {
        Some(Container::Podman) => "podman",
        _ => "docker",
    }
}

#[cfg(test)]
mod tests;
