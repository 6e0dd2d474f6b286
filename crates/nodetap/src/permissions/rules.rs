//! What is in the way, by the kernel's own rules: facts in, [`Obstacle`] out.

use std::fmt;

use nodetap_sampler::sandbox::Call;

use super::observer::{Capability, Observer};
use super::process::{Process, UserNamespace};

/// What keeps us from sampling a process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Obstacle {
    /// It is another user's.
    OtherUser {
        /// Whose.
        owner: String,
    },
    /// It is another user's; we may trace it, but not open its memory.
    FileMode {
        /// Whose.
        owner: String,
    },
    /// The kernel protects it: `prctl(PR_SET_DUMPABLE)`.
    NotDumpable,
    /// It has capabilities that we have not.
    MoreCapable,
    /// It is outside of our user namespace.
    UserNamespace,
    /// `/proc` does not show it.
    Hidden,
    /// `kernel.yama.ptrace_scope` has this value.
    PtraceScope(i32),
    /// A seccomp filter refuses the call.
    Filtered(Call),
    /// AppArmor, SELinux or the like, if nothing else: what they have us confined as.
    SecurityModule(Option<String>),
    /// Without these there is no eBPF.
    Missing(Vec<Capability>),
    /// Our capabilities are those of a user namespace, of no use for eBPF.
    OwnUserNamespace,
    /// `kernel.perf_event_paranoid` has this value, of a patched kernel.
    Paranoid(i32),
    /// The kernel is locked down.
    Lockdown,
}

/// What we want of a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// To read its memory.
    Read,
    /// To stop its threads as well.
    Stop,
}

/// Whether `us` may look into `it`, as far as we know the rules:
/// `__ptrace_may_access` in kernel/ptrace.c, `cap_ptrace_access_check` in
/// security/commoncap.c, `yama_ptrace_access_check` in security/yama/yama_lsm.c. For
/// `/proc/PID/mem` the modes of files count too.
///
/// # Errors
/// What is in the way.
pub fn tracing(us: &Observer, it: &Process, access: Access) -> Result<(), Obstacle> {
    let owner = || it.owner.clone();
    if access == Access::Stop && us.filtered.contains(&Call::Ptrace) {
        return Err(Obstacle::Filtered(Call::Ptrace));
    }
    if let Some(scope @ 3..) = us.ptrace_scope {
        return Err(Obstacle::PtraceScope(scope));
    }
    let has = |capability| us.capabilities.has(capability);
    let outside = it.user_namespace == UserNamespace::Outside;
    if has(Capability::SysPtrace) && !outside {
        let opens = has(Capability::DacOverride) || has(Capability::DacReadSearch);
        return match it.uids[1] == us.uid && it.dumpable || opens {
            true => Ok(()),
            false => Err(Obstacle::FileMode { owner: owner() }),
        };
    }
    let ours = it.uids == [us.uid; 3] && it.gids == [us.gid; 3];
    if outside {
        return Err(Obstacle::UserNamespace);
    }
    if !ours && !it.uids.contains(&us.uid) {
        return Err(Obstacle::OtherUser { owner: owner() });
    }
    if !ours || !it.dumpable {
        return Err(Obstacle::NotDumpable);
    }
    // Who has made a user namespace has all rights in it.
    if it.user_namespace == UserNamespace::Ours && !us.capabilities.include(it.permitted) {
        return Err(Obstacle::MoreCapable);
    }
    match us.ptrace_scope {
        Some(1) if !it.is_descendant => Err(Obstacle::PtraceScope(1)),
        Some(2) => Err(Obstacle::PtraceScope(2)),
        _ => Ok(()),
    }
}

/// Why we may not look into `it`, as it turned out.
pub fn why_not_tracing(us: &Observer, it: &Process, access: Access) -> Obstacle {
    match tracing(us, it, access) {
        Err(obstacle) => obstacle,
        // It is beside ours, then, not inside.
        Ok(()) if it.user_namespace != UserNamespace::Ours && !us.first_user_namespace => {
            Obstacle::UserNamespace
        }
        Ok(()) => Obstacle::SecurityModule(us.confined.clone()),
    }
}

/// Whether `us` may sample by eBPF, as far as we know the rules: `bpf_prog_load` in
/// kernel/bpf/syscall.c (programs for performance events need both capabilities,
/// whatever `kernel.unprivileged_bpf_disabled` and `kernel.perf_event_paranoid` are),
/// `perf_event_open` in kernel/events/core.c.
///
/// # Errors
/// What is in the way.
pub fn ebpf(us: &Observer) -> Result<(), Obstacle> {
    if !us.first_user_namespace {
        return Err(Obstacle::OwnUserNamespace);
    }
    let needed = [
        (us.capabilities.bpf(), Capability::Bpf),
        (us.capabilities.perfmon(), Capability::Perfmon),
    ];
    let missing = needed.into_iter().filter(|(held, _)| !held);
    let missing: Vec<Capability> = missing.map(|(_, capability)| capability).collect();
    if !missing.is_empty() {
        return Err(Obstacle::Missing(missing));
    }
    let calls = [Call::Bpf, Call::PerfEventOpen];
    if let Some(call) = calls.into_iter().find(|call| us.filtered.contains(call)) {
        return Err(Obstacle::Filtered(call));
    }
    if us.lockdown.as_deref() == Some("confidentiality") {
        return Err(Obstacle::Lockdown);
    }
    Ok(())
}

/// Why `call` was refused, which the eBPF sampler made.
pub fn why_not_ebpf(us: &Observer, call: Call) -> Obstacle {
    match (ebpf(us), us.perf_event_paranoid) {
        (Err(obstacle), _) => obstacle,
        // From 3 on (a patch of Debian's and Ubuntu's) only root gets performance events.
        (Ok(()), Some(level @ 3..))
            if call == Call::PerfEventOpen && !us.capabilities.has(Capability::SysAdmin) =>
        {
            Obstacle::Paranoid(level)
        }
        (Ok(()), _) => Obstacle::SecurityModule(us.confined.clone()),
    }
}

impl Obstacle {
    /// In few words, for a table.
    pub fn in_short(&self) -> String {
        match self {
            Obstacle::OtherUser { owner } | Obstacle::FileMode { owner } => {
                format!("belongs to {owner}")
            }
            Obstacle::NotDumpable => "protected".to_owned(),
            Obstacle::MoreCapable => "has more capabilities".to_owned(),
            Obstacle::UserNamespace | Obstacle::OwnUserNamespace => "user namespace".to_owned(),
            Obstacle::Hidden => "hidden".to_owned(),
            Obstacle::PtraceScope(scope) => format!("ptrace_scope is {scope}"),
            Obstacle::Filtered(call) => format!("seccomp forbids {call}"),
            Obstacle::SecurityModule(_) => "forbidden".to_owned(),
            Obstacle::Missing(missing) => format!("{} missing", names(missing)),
            Obstacle::Paranoid(level) => format!("perf_event_paranoid is {level}"),
            Obstacle::Lockdown => "kernel locked down".to_owned(),
        }
    }
}

impl fmt::Display for Obstacle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Obstacle::OtherUser { owner } => write!(f, "it belongs to {owner}"),
            Obstacle::FileMode { owner } => write!(
                f,
                "it belongs to {owner}, and CAP_SYS_PTRACE alone does not open its memory"
            ),
            Obstacle::NotDumpable => f.write_str(
                "it is protected, being setuid, having changed its user, or running a program \
                 that may not be read",
            ),
            Obstacle::MoreCapable => f.write_str("it has capabilities that nodetap has not"),
            Obstacle::UserNamespace => f.write_str("it is outside of this user namespace"),
            Obstacle::Hidden => f.write_str("/proc shows this user's own processes only (hidepid)"),
            Obstacle::PtraceScope(1) => f.write_str(
                "kernel.yama.ptrace_scope is 1, so that only what started it may look into it",
            ),
            Obstacle::PtraceScope(2) => f.write_str(
                "kernel.yama.ptrace_scope is 2, so that it takes CAP_SYS_PTRACE to look into any",
            ),
            Obstacle::PtraceScope(scope) => write!(
                f,
                "kernel.yama.ptrace_scope is {scope}, so that nobody may look into any"
            ),
            Obstacle::Filtered(call) => write!(f, "a seccomp filter forbids {call}"),
            Obstacle::SecurityModule(None) => {
                f.write_str("a security module (AppArmor, SELinux) or a sandbox forbids it")
            }
            Obstacle::SecurityModule(Some(label)) => {
                write!(
                    f,
                    "AppArmor or SELinux forbids it, as which nodetap is '{label}'"
                )
            }
            Obstacle::Missing(missing) => {
                let verb = if missing.len() == 1 { "is" } else { "are" };
                write!(f, "{} {verb} missing", names(missing))
            }
            Obstacle::OwnUserNamespace => {
                f.write_str("capabilities of a user namespace do not count for it")
            }
            Obstacle::Paranoid(level) => write!(
                f,
                "kernel.perf_event_paranoid is {level}, so that CAP_PERFMON is not enough"
            ),
            Obstacle::Lockdown => f.write_str("the kernel is locked down (confidentiality)"),
        }
    }
}

/// `CAP_BPF and CAP_PERFMON`
fn names(capabilities: &[Capability]) -> String {
    let names = capabilities.iter().map(|it| format!("CAP_{}", it.name()));
    names.collect::<Vec<_>>().join(" and ")
}
