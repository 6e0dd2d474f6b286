//! Who looks: what this machine and nodetap's own process are, read from the kernel.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use nodetap_sampler::sandbox::Call;

/// The capabilities that matter to us, by their number in
/// `include/uapi/linux/capability.h`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Capability {
    /// Open files whatever their modes say.
    DacOverride = 1,
    /// The same for reading alone.
    DacReadSearch = 2,
    /// Look into other users' processes.
    SysPtrace = 19,
    /// Nearly everything, the last two included.
    SysAdmin = 21,
    /// See kernel addresses.
    Syslog = 34,
    /// Open performance events of the whole machine.
    Perfmon = 38,
    /// Load BPF programs.
    Bpf = 39,
}

impl Capability {
    /// As Docker and Kubernetes call it: `SYS_PTRACE`; all others put `CAP_` before it.
    pub fn name(self) -> &'static str {
        match self {
            Capability::DacOverride => "DAC_OVERRIDE",
            Capability::DacReadSearch => "DAC_READ_SEARCH",
            Capability::SysPtrace => "SYS_PTRACE",
            Capability::SysAdmin => "SYS_ADMIN",
            Capability::Syslog => "SYSLOG",
            Capability::Perfmon => "PERFMON",
            Capability::Bpf => "BPF",
        }
    }
}

/// A set of capabilities.
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

    /// Whether all of `others` are among them.
    pub fn include(self, others: Capabilities) -> bool {
        others.0 & !self.0 == 0
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
pub struct Observer {
    /// `uname -r`
    pub kernel: String,
    /// Whether the kernel tells its types.
    pub btf: bool,
    /// The effective user id.
    pub uid: u32,
    /// The effective group id.
    pub gid: u32,
    /// The effective capabilities.
    pub capabilities: Capabilities,
    /// Those that root can get here.
    pub bounding: Capabilities,
    /// Whether this process can never gain capabilities.
    pub no_new_privs: bool,
    /// Whether a seccomp filter looks at its system calls.
    pub seccomp: bool,
    /// The calls that are refused whatever they ask for.
    pub filtered: Vec<Call>,
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
    /// What AppArmor or SELinux have this process confined as.
    pub confined: Option<String>,
    /// Whether the PID namespace is the machine's first, which has every process.
    pub first_pid_namespace: bool,
    /// Whether the user namespace is the machine's first, whose capabilities
    /// are the ones that count.
    pub first_user_namespace: bool,
    /// The container that this process seems to be in.
    pub container: Option<Container>,
    /// The path of nodetap's own executable.
    pub executable: PathBuf,
}

impl Observer {
    /// Reads them all.
    pub fn gather() -> Observer {
        let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
        let field = |name| status_field(&status, name);
        let number = |name| field(name).and_then(|value| value.parse::<u32>().ok());
        // Real, effective, saved, of the file system.
        let id = |name| field(name).and_then(|ids| ids.split_whitespace().nth(1)?.parse().ok());
        let capabilities = |name| {
            let mask = field(name).and_then(|mask| u64::from_str_radix(mask, 16).ok());
            Capabilities(mask.unwrap_or(0))
        };
        let seccomp = number("Seccomp").is_some_and(|mode| mode != 0);
        let mut filtered = Call::ALL.to_vec();
        // Who lacks the capability may be told the same by the kernel itself.
        let is_certain = |call: &Call| *call != Call::Bpf || capabilities("CapEff").bpf();
        filtered.retain(|call| seccomp && is_certain(call) && call.is_filtered());
        Observer {
            kernel: setting("osrelease").unwrap_or_else(|| "unknown".to_owned()),
            btf: Path::new("/sys/kernel/btf/vmlinux").exists(),
            uid: id("Uid").unwrap_or(u32::MAX),
            gid: id("Gid").unwrap_or(u32::MAX),
            capabilities: capabilities("CapEff"),
            bounding: capabilities("CapBnd"),
            no_new_privs: number("NoNewPrivs") == Some(1),
            seccomp,
            filtered,
            unprivileged_bpf_disabled: number_setting("unprivileged_bpf_disabled"),
            perf_event_paranoid: number_setting("perf_event_paranoid"),
            kptr_restrict: number_setting("kptr_restrict"),
            ptrace_scope: number_setting("yama/ptrace_scope"),
            lockdown: fs::read_to_string("/sys/kernel/security/lockdown")
                .ok()
                .and_then(|choices| chosen(&choices))
                .filter(|mode| mode != "none"),
            confined: confined(),
            first_pid_namespace: is_first_namespace("pid"),
            first_user_namespace: is_first_namespace("user"),
            container: container(),
            executable: std::env::current_exe().unwrap_or_else(|_| "nodetap".into()),
        }
    }
}

/// The value of `NAME:` in `/proc/PID/status`.
pub fn status_field<'a>(status: &'a str, name: &str) -> Option<&'a str> {
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

/// Whether we are in the namespace that this kernel began with; these have the same
/// numbers everywhere (`include/linux/proc_ns.h`).
fn is_first_namespace(name: &str) -> bool {
    let number = match name {
        "ipc" => 0xEFFF_FFFF,
        "uts" => 0xEFFF_FFFE,
        "user" => 0xEFFF_FFFD,
        "pid" => 0xEFFF_FFFC,
        _ => return false,
    };
    let namespace = fs::metadata(format!("/proc/self/ns/{name}"));
    namespace.is_ok_and(|namespace| namespace.ino() == number)
}

/// What tells a container: the files and variables that its makers leave. (What has
/// the machine's own namespaces is none, though it may be made of a container's files.)
fn container() -> Option<Container> {
    if ["pid", "uts", "ipc"].into_iter().all(is_first_namespace) {
        return None;
    }
    let variable = std::env::var("container").unwrap_or_default();
    if std::env::var_os("KUBERNETES_SERVICE_HOST").is_some()
        || Path::new("/var/run/secrets/kubernetes.io").exists()
    {
        Some(Container::Kubernetes)
    } else if variable == "podman" || Path::new("/run/.containerenv").exists() {
        Some(Container::Podman)
    } else if Path::new("/.dockerenv").exists() {
        Some(Container::Docker)
    } else {
        (!variable.is_empty()).then_some(Container::Other)
    }
}

/// AppArmor's profile or SELinux's context, where it is one that forbids things.
fn confined() -> Option<String> {
    let label = fs::read_to_string("/proc/self/attr/current").ok()?;
    let label = label.trim_matches(['\0', '\n']);
    let free = label.is_empty() || label == "unconfined" || label.contains("unconfined_t");
    (!free).then(|| label.to_owned())
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
        let admin = Capabilities(1 << Capability::SysAdmin as u32);
        assert!(admin.bpf() && admin.perfmon() && !admin.has(Capability::SysPtrace));
        assert!(!Capabilities(1 << 38).bpf());
    }
}
