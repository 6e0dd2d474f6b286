//! What this machine and this process are, read from the kernel.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// The capabilities that matter to us, by their number in
/// `include/uapi/linux/capability.h`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Capability {
    /// Look into other users' processes.
    SysPtrace = 19,
    /// Nearly everything, the next two included.
    SysAdmin = 21,
    /// See kernel addresses.
    Syslog = 34,
    /// Open performance events of the whole machine.
    Perfmon = 38,
    /// Load BPF programs.
    Bpf = 39,
}

/// A process's effective capabilities.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Capabilities(pub u64);

impl Capabilities {
    /// Whether this one is among them.
    pub fn has(self, capability: Capability) -> bool {
        self.0 & (1 << capability as u32) != 0
    }

    /// Whether BPF programs may be loaded (`bpf_capable` in the kernel).
    pub fn bpf(self) -> bool {
        self.has(Capability::Bpf) || self.has(Capability::SysAdmin)
    }

    /// Whether performance events may be opened (`perfmon_capable`).
    pub fn perfmon(self) -> bool {
        self.has(Capability::Perfmon) || self.has(Capability::SysAdmin)
    }
}

/// What runs this process apart from the rest of the machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Container {
    /// Docker
    Docker,
    /// Podman
    Podman,
    /// A pod of Kubernetes
    Kubernetes,
    /// Another one
    Other,
}

/// What was found. Absent: this kernel does not have the setting, or hides it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Facts {
    /// `uname -r`
    pub kernel: String,
    /// Whether the kernel tells its types.
    pub btf: bool,
    /// The effective user id.
    pub uid: u32,
    /// The effective capabilities.
    pub capabilities: Capabilities,
    /// Whether this process can never gain capabilities.
    pub no_new_privs: bool,
    /// Whether a seccomp filter looks at its system calls.
    pub seccomp: bool,
    /// `kernel.unprivileged_bpf_disabled`
    pub unprivileged_bpf_disabled: Option<i32>,
    /// `kernel.perf_event_paranoid`
    pub perf_event_paranoid: Option<i32>,
    /// `kernel.kptr_restrict`
    pub kptr_restrict: Option<i32>,
    /// `kernel.yama.ptrace_scope`; absent without Yama.
    pub ptrace_scope: Option<i32>,
    /// `integrity` or `confidentiality`, where the kernel is locked down.
    pub lockdown: Option<String>,
    /// Whether the PID namespace is the machine's first, which has every process.
    pub first_pid_namespace: bool,
    /// Whether the user namespace is the machine's first, whose capabilities
    /// are the ones that count.
    pub first_user_namespace: bool,
    /// The container that this process seems to be in.
    pub container: Option<Container>,
    /// The path of nodetap's own executable.
    pub executable: PathBuf,
    /// What came of loading the sampler: nothing, or why it failed, and what
    /// the sampler itself proposes.
    pub ebpf: Result<(), Refusal>,
    /// What came of tracing a process that was started for it.
    pub ptrace: Result<(), Refusal>,
}

/// Why the sampler could not be loaded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// One clause.
    pub reason: String,
    /// What may help.
    pub hint: Option<String>,
}

impl Facts {
    /// Reads them all; `ebpf` is what came of loading the sampler, `ptrace` what came
    /// of tracing a process.
    pub fn gather(ebpf: Result<(), Refusal>, ptrace: Result<(), Refusal>) -> Facts {
        let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
        let field = |name| status_field(&status, name);
        let number = |name| field(name).and_then(|value| value.parse::<u32>().ok());
        Facts {
            kernel: setting("osrelease").unwrap_or_else(|| "unknown".to_owned()),
            btf: Path::new("/sys/kernel/btf/vmlinux").exists(),
            // Uid: real, effective, saved, file system.
            uid: field("Uid")
                .and_then(|ids| ids.split_whitespace().nth(1)?.parse().ok())
                .unwrap_or(u32::MAX),
            capabilities: Capabilities(
                field("CapEff")
                    .and_then(|mask| u64::from_str_radix(mask, 16).ok())
                    .unwrap_or(0),
            ),
            no_new_privs: number("NoNewPrivs") == Some(1),
            seccomp: number("Seccomp").is_some_and(|mode| mode != 0),
            unprivileged_bpf_disabled: number_setting("unprivileged_bpf_disabled"),
            perf_event_paranoid: number_setting("perf_event_paranoid"),
            kptr_restrict: number_setting("kptr_restrict"),
            ptrace_scope: number_setting("yama/ptrace_scope"),
            lockdown: fs::read_to_string("/sys/kernel/security/lockdown")
                .ok()
                .and_then(|choices| chosen(&choices))
                .filter(|mode| mode != "none"),
            // PROC_PID_INIT_INO and PROC_USER_INIT_INO of the kernel's
            // include/linux/proc_ns.h.
            first_pid_namespace: namespace("pid") == Some(0xEFFF_FFFC),
            first_user_namespace: namespace("user") == Some(0xEFFF_FFFD),
            container: container(),
            executable: std::env::current_exe().unwrap_or_else(|_| "nodetap".into()),
            ebpf,
            ptrace,
        }
    }
}

/// The value of `NAME:` in `/proc/PID/status`.
fn status_field<'a>(status: &'a str, name: &str) -> Option<&'a str> {
    status.lines().find_map(|line| {
        let (field, value) = line.split_once(':')?;
        (field == name).then(|| value.trim())
    })
}

fn setting(name: &str) -> Option<String> {
    let value = fs::read_to_string(Path::new("/proc/sys/kernel").join(name)).ok()?;
    Some(value.trim().to_owned())
}

fn number_setting(name: &str) -> Option<i32> {
    setting(name)?.parse().ok()
}

/// Which one is in brackets: `none [integrity] confidentiality`.
fn chosen(choices: &str) -> Option<String> {
    choices.split_whitespace().find_map(|choice| {
        let choice = choice.strip_prefix('[')?.strip_suffix(']')?;
        Some(choice.to_owned())
    })
}

fn namespace(name: &str) -> Option<u64> {
    let namespace = fs::metadata(format!("/proc/self/ns/{name}")).ok()?;
    Some(namespace.ino())
}

/// What tells a container: the files and variables that its makers leave.
fn container() -> Option<Container> {
    let variable = std::env::var("container").unwrap_or_default();
    if std::env::var_os("KUBERNETES_SERVICE_HOST").is_some() {
        Some(Container::Kubernetes)
    } else if Path::new("/.dockerenv").exists() {
        Some(Container::Docker)
    } else if variable == "podman" || Path::new("/run/.containerenv").exists() {
        Some(Container::Podman)
    } else {
        (!variable.is_empty()).then_some(Container::Other)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_status_file_is_read_by_whole_names() {
        let status = "Name:\tnode\nSeccomp:\t2\nSeccomp_filters:\t1\nCapEff:\t000001ffffffffff\n";
        assert_eq!(status_field(status, "Seccomp"), Some("2"));
        assert_eq!(status_field(status, "Seccomp_filters"), Some("1"));
        assert_eq!(status_field(status, "CapInh"), None);
    }

    #[test]
    fn the_mode_in_brackets_is_chosen() {
        assert_eq!(chosen("[none] integrity\n").as_deref(), Some("none"));
        assert_eq!(
            chosen("none integrity [confidentiality]\n").as_deref(),
            Some("confidentiality")
        );
        assert_eq!(chosen(""), None);
    }

    #[test]
    fn admin_includes_bpf_and_perfmon() {
        let admin = Capabilities(1 << 21);
        assert!(admin.bpf() && admin.perfmon() && !admin.has(Capability::SysPtrace));
        assert!(!Capabilities(1 << 38).bpf());
    }
}
