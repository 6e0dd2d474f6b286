//! What is said, and what is proposed, on which facts.

use nodetap_sampler::sandbox::Call;

use super::observer::{Capabilities, Capability, Container, Observer};
use super::process::{Process, UserNamespace};
use super::remedy::{Task, remedy};
use super::rules::{Access, Obstacle, ebpf, tracing, why_not_ebpf, why_not_tracing};

/// Every capability that there is.
pub const ALL: Capabilities = Capabilities(0x1ff_ffff_ffff);
/// What Docker leaves root of a container by default.
pub const OF_DOCKER: Capabilities = Capabilities(0xa804_25fb);

/// Root on a usual Debian.
pub fn root() -> Observer {
    Observer {
        kernel: "6.1.0-18-amd64".to_owned(),
        btf: true,
        uid: 0,
        gid: 0,
        capabilities: ALL,
        bounding: ALL,
        no_new_privs: false,
        seccomp: false,
        filtered: vec![],
        unprivileged_bpf_disabled: Some(2),
        perf_event_paranoid: Some(3),
        kptr_restrict: Some(0),
        ptrace_scope: Some(0),
        lockdown: None,
        confined: None,
        first_pid_namespace: true,
        first_user_namespace: true,
        container: None,
        executable: "/usr/bin/nodetap".into(),
    }
}

/// A user of that Debian.
pub fn user() -> Observer {
    Observer {
        uid: 1000,
        gid: 1000,
        capabilities: Capabilities(0),
        ..root()
    }
}

/// Root of a container of Docker's.
pub fn docker() -> Observer {
    Observer {
        capabilities: OF_DOCKER,
        bounding: OF_DOCKER,
        seccomp: true,
        filtered: vec![Call::Bpf, Call::PerfEventOpen],
        first_pid_namespace: false,
        container: Some(Container::Docker),
        ..root()
    }
}

/// Root of a container in a pod.
fn pod() -> Observer {
    Observer {
        seccomp: false,
        filtered: vec![],
        container: Some(Container::Kubernetes),
        ..docker()
    }
}

/// `observer` with nothing but these.
pub fn with(observer: Observer, capabilities: &[Capability]) -> Observer {
    let bits = capabilities.iter().map(|&it| 1 << it as u32);
    Observer {
        capabilities: Capabilities(bits.sum()),
        ..observer
    }
}

fn scope(observer: Observer, scope: i32) -> Observer {
    Observer {
        ptrace_scope: Some(scope),
        ..observer
    }
}

/// A process of user `uid`.
fn of(uid: u32, owner: &str) -> Process {
    Process {
        uids: [uid; 3],
        gids: [uid; 3],
        owner: owner.to_owned(),
        permitted: if uid == 0 { ALL } else { Capabilities(0) },
        dumpable: true,
        user_namespace: UserNamespace::Ours,
        is_descendant: false,
    }
}

/// What is said of a process that could not be read, or stopped.
#[track_caller]
fn assert_told(us: &Observer, it: &Process, access: Access, lines: [&str; 2]) {
    let obstacle = why_not_tracing(us, it, access);
    let hint = remedy(&obstacle, us, Task::Attach).expect("a hint");
    assert_eq!([&*obstacle.to_string(), &*hint], lines);
    assert!(!obstacle.in_short().is_empty());
}

const SUDO: &str = "run it as root: sudo nodetap …";
const DEBUG: &str = "kubectl debug -it POD --target=CONTAINER --image=IMAGE --profile=sysadmin";
const IN_DOCKER: &str = "docker run --pid=container:NAME --cap-add SYS_PTRACE …";

#[test]
fn who_may() {
    let own = of(1000, "dh");
    let child = Process {
        is_descendant: true,
        ..own.clone()
    };
    let ptrace = [Capability::SysPtrace];
    let ptrace_and_files = [Capability::SysPtrace, Capability::DacReadSearch];
    let in_docker = Process {
        permitted: OF_DOCKER,
        ..of(0, "root")
    };
    let without_yama = Observer {
        ptrace_scope: None,
        ..user()
    };
    for (us, it) in [
        (root(), own.clone()),
        (root(), of(0, "root")),
        (scope(root(), 1), own.clone()),
        (scope(root(), 2), own.clone()),
        (user(), own.clone()),
        (without_yama, own.clone()),
        (scope(user(), 1), child),
        (with(user(), &ptrace), own.clone()),
        (scope(with(user(), &ptrace), 2), own),
        (with(user(), &ptrace_and_files), of(0, "root")),
        (docker(), in_docker),
    ] {
        for access in [Access::Read, Access::Stop] {
            assert_eq!(tracing(&us, &it, access), Ok(()), "{us:?} {it:?}");
        }
    }
}

#[test]
fn what_ptrace_scope_means() {
    let own = of(1000, "dh");
    let only_its_parent =
        "kernel.yama.ptrace_scope is 1, so that only what started it may look into it";
    let only_capable =
        "kernel.yama.ptrace_scope is 2, so that it takes CAP_SYS_PTRACE to look into any";
    let nobody = "kernel.yama.ptrace_scope is 3, so that nobody may look into any";
    let reboot = "until the machine boots anew nobody can change that: set \
                  kernel.yama.ptrace_scope lower in /etc/sysctl.d and reboot";
    let start = "start it with nodetap: nodetap record -- node app.js; or run nodetap as root: \
                 sudo nodetap …; or once, for all: sudo sysctl kernel.yama.ptrace_scope=0";
    for access in [Access::Read, Access::Stop] {
        let told = |us: Observer, value, lines| assert_told(&scope(us, value), &own, access, lines);
        told(user(), 1, [only_its_parent, start]);
        told(user(), 2, [only_capable, SUDO]);
        told(user(), 3, [nobody, reboot]);
        // Not even root.
        told(root(), 3, [nobody, reboot]);
        let child = Process {
            is_descendant: true,
            ..own.clone()
        };
        assert_told(&scope(user(), 2), &child, access, [only_capable, SUDO]);
        // In containers, in their terms.
        let in_docker = Process {
            permitted: OF_DOCKER,
            ..of(0, "root")
        };
        let told = |us, value, lines| assert_told(&scope(us, value), &in_docker, access, lines);
        told(docker(), 1, [only_its_parent, IN_DOCKER]);
        told(docker(), 2, [only_capable, IN_DOCKER]);
        told(docker(), 3, [nobody, reboot]);
        told(pod(), 1, [only_its_parent, DEBUG]);
        told(pod(), 2, [only_capable, DEBUG]);
    }
}

#[test]
fn another_users_process() {
    for access in [Access::Read, Access::Stop] {
        let told = |us: &Observer, lines| assert_told(us, &of(33, "www-data"), access, lines);
        told(&user(), ["it belongs to www-data", SUDO]);
        // What the setting says does not come into it.
        told(&scope(user(), 1), ["it belongs to www-data", SUDO]);
        told(&docker(), ["it belongs to www-data", IN_DOCKER]);
        told(&pod(), ["it belongs to www-data", DEBUG]);
        let with_ptrace = with(user(), &[Capability::SysPtrace]);
        let reason = "it belongs to www-data, and CAP_SYS_PTRACE alone does not open its memory";
        told(&with_ptrace, [reason, SUDO]);
        let in_docker = with(docker(), &[Capability::SysPtrace]);
        let both = "docker run --pid=container:NAME --cap-add SYS_PTRACE --cap-add \
                    DAC_READ_SEARCH …";
        told(&in_docker, [reason, both]);
        let no_new_privs = Observer {
            no_new_privs: true,
            ..user()
        };
        let outside = "run it outside of this sandbox, as root";
        told(&no_new_privs, ["it belongs to www-data", outside]);
        told(&with(root(), &[]), ["it belongs to www-data", outside]);
    }
}

#[test]
fn a_process_that_is_protected() {
    let protected = "it is protected, being setuid, having changed its user, or running a \
                     program that may not be read";
    let own = of(1000, "dh");
    let setuid = Process {
        uids: [1000, 0, 0],
        ..own.clone()
    };
    let not_dumpable = Process {
        dumpable: false,
        ..own.clone()
    };
    let setgid = Process {
        gids: [1000, 42, 42],
        ..own
    };
    for it in [setuid, not_dumpable, setgid] {
        assert_told(&user(), &it, Access::Read, [protected, SUDO]);
        assert_eq!(tracing(&root(), &it, Access::Stop), Ok(()));
    }
}

#[test]
fn a_process_that_may_more() {
    let reason = "it has capabilities that nodetap has not";
    assert_told(&docker(), &of(0, "root"), Access::Read, [reason, IN_DOCKER]);
    assert_told(&pod(), &of(0, "root"), Access::Read, [reason, DEBUG]);
    let capable = Process {
        permitted: Capabilities(1 << 10),
        ..of(1000, "dh")
    };
    assert_told(&user(), &capable, Access::Read, [reason, SUDO]);
}

#[test]
fn a_process_outside_of_the_user_namespace() {
    let rootless = Observer {
        first_user_namespace: false,
        container: Some(Container::Podman),
        ..root()
    };
    let outside = Process {
        user_namespace: UserNamespace::Outside,
        ..of(65534, "nobody")
    };
    assert_told(
        &rootless,
        &outside,
        Access::Read,
        [
            "it is outside of this user namespace",
            "run it as root of the machine, outside of this rootless container",
        ],
    );
    let inside = Process {
        user_namespace: UserNamespace::Inside,
        ..of(100_999, "user 100999")
    };
    assert_eq!(tracing(&root(), &inside, Access::Stop), Ok(()));
    // One's own, where it is root.
    let own = Process {
        user_namespace: UserNamespace::Inside,
        permitted: ALL,
        ..of(1000, "dh")
    };
    assert_eq!(tracing(&user(), &own, Access::Stop), Ok(()));
    // Of two that one user has made, neither may look into the other.
    assert_eq!(
        why_not_tracing(&rootless, &inside, Access::Read),
        Obstacle::UserNamespace
    );
    assert_told(
        &user(),
        &inside,
        Access::Stop,
        ["it belongs to user 100999", SUDO],
    );
}

/// `observer` behind a filter that refuses these calls.
fn filtered(observer: Observer, calls: &[Call]) -> Observer {
    Observer {
        seccomp: true,
        filtered: calls.to_vec(),
        ..observer
    }
}

#[test]
fn a_filter_that_forbids_ptrace() {
    let reason = "a seccomp filter forbids ptrace";
    let own = Process {
        permitted: OF_DOCKER,
        ..of(0, "root")
    };
    let told = |us: &Observer, hint| {
        assert_told(us, &own, Access::Stop, [reason, hint]);
        // To read memory takes no such call.
        assert_eq!(tracing(us, &own, Access::Read), Ok(()));
    };
    let outside = "run it outside of this sandbox (of a systemd service: SystemCallFilter=)";
    let calls = [Call::Ptrace];
    told(&filtered(root(), &calls), outside);
    told(&filtered(docker(), &calls), IN_DOCKER);
    let capable = Observer {
        capabilities: ALL,
        bounding: ALL,
        ..docker()
    };
    let unconfined = "docker run --security-opt seccomp=unconfined …";
    told(&filtered(capable, &calls), unconfined);
    let of_pod = "in the container's securityContext: seccompProfile: {type: Unconfined}";
    told(&filtered(pod(), &calls), of_pod);
}

#[test]
fn what_is_forbidden_for_no_other_reason() {
    let told = |us: &Observer, confined: Option<&str>, lines| {
        let us = Observer {
            confined: confined.map(str::to_owned),
            ..us.clone()
        };
        assert_told(&us, &of(1000, "dh"), Access::Read, lines);
    };
    let some = "a security module (AppArmor, SELinux) or a sandbox forbids it";
    let log = "the kernel's log tells which rule: sudo dmesg | grep -i denied";
    told(&root(), None, [some, log]);
    let capable = Observer {
        capabilities: ALL,
        ..docker()
    };
    told(
        &capable,
        Some("docker-default (enforce)"),
        [
            "AppArmor or SELinux forbids it, as which nodetap is 'docker-default (enforce)'",
            "docker run --security-opt apparmor=unconfined …",
        ],
    );
    told(
        &capable,
        Some("system_u:system_r:container_t:s0:c1,c2"),
        [
            "AppArmor or SELinux forbids it, as which nodetap is \
             'system_u:system_r:container_t:s0:c1,c2'",
            "docker run --security-opt label=disable …",
        ],
    );
}

/// What is said where the kernel refused `call` of the eBPF sampler.
#[track_caller]
fn assert_no_ebpf(us: &Observer, call: Call, task: Task, reason: &str, hint: Option<&str>) {
    let obstacle = why_not_ebpf(us, call);
    assert_eq!(obstacle.to_string(), reason);
    assert_eq!(remedy(&obstacle, us, task).as_deref(), hint);
}

const BOTH: &str = "CAP_BPF and CAP_PERFMON are missing";

#[test]
fn each_missing_capability() {
    let (bpf, perfmon) = (Capability::Bpf, Capability::Perfmon);
    for (held, reason) in [
        (&[][..], BOTH),
        (&[Capability::SysPtrace], BOTH),
        (&[bpf], "CAP_PERFMON is missing"),
        (&[perfmon], "CAP_BPF is missing"),
    ] {
        let us = with(user(), held);
        assert_no_ebpf(&us, Call::Bpf, Task::Attach, reason, Some(SUDO));
    }
    for held in [&[bpf, perfmon][..], &[Capability::SysAdmin]] {
        assert_eq!(ebpf(&with(user(), held)), Ok(()));
    }
    // Neither setting gives what takes a capability.
    let open = Observer {
        unprivileged_bpf_disabled: Some(0),
        perf_event_paranoid: Some(-1),
        ..user()
    };
    assert_no_ebpf(&open, Call::Bpf, Task::Attach, BOTH, Some(SUDO));
}

#[test]
fn missing_capabilities_in_containers_and_for_what_is_started() {
    let told = |us: &Observer, task, hint| {
        assert_no_ebpf(us, Call::Bpf, task, BOTH, Some(hint));
    };
    let all = "docker run --pid=container:NAME --cap-add BPF --cap-add PERFMON \
               --cap-add SYS_PTRACE …";
    told(&docker(), Task::Attach, all);
    let two = "docker run --cap-add BPF --cap-add PERFMON …";
    told(&docker(), Task::Start, two);
    let with_hosts_pids = Observer {
        first_pid_namespace: true,
        ..docker()
    };
    let of_host = "docker run --pid=host --cap-add BPF --cap-add PERFMON --cap-add SYS_PTRACE …";
    told(&with_hosts_pids, Task::Attach, of_host);
    let podman = Observer {
        uid: 1000,
        container: Some(Container::Podman),
        ..docker()
    };
    let to_root = "podman run --user root --cap-add BPF --cap-add PERFMON …";
    told(&podman, Task::Start, to_root);
    // The container has them, its user has not.
    let lesser = Observer {
        capabilities: Capabilities(0),
        bounding: ALL,
        ..podman
    };
    let exec = "podman exec --user root CONTAINER nodetap …";
    told(&lesser, Task::Attach, exec);
    told(&pod(), Task::Attach, DEBUG);
    let not_root = Observer {
        uid: 1000,
        capabilities: Capabilities(0),
        bounding: ALL,
        ..pod()
    };
    let as_root = "in the container's securityContext: runAsUser: 0";
    told(&not_root, Task::Attach, as_root);
    told(
        &user(),
        Task::Start,
        "sudo setcap cap_bpf,cap_perfmon=ep '/usr/bin/nodetap'",
    );
    let sandboxed = Observer {
        bounding: Capabilities(0),
        ..user()
    };
    let outside = "run it outside of this sandbox, as root";
    told(&sandboxed, Task::Attach, outside);
}

#[test]
fn other_reasons_for_no_ebpf() {
    let attach = Task::Attach;
    let rootless = Observer {
        first_user_namespace: false,
        ..root()
    };
    assert_no_ebpf(
        &rootless,
        Call::Bpf,
        attach,
        "capabilities of a user namespace do not count for it",
        Some("run it as root of the machine, outside of this user namespace"),
    );
    let capable = Observer {
        capabilities: ALL,
        bounding: ALL,
        ..docker()
    };
    for call in [Call::Bpf, Call::PerfEventOpen] {
        let us = filtered(capable.clone(), &[call]);
        assert_no_ebpf(
            &us,
            call,
            attach,
            &format!("a seccomp filter forbids {call}"),
            Some("docker run --security-opt seccomp=unconfined …"),
        );
    }
    // Of these two the second takes more than the first on a patched kernel.
    let two = with(user(), &[Capability::Bpf, Capability::Perfmon]);
    assert_no_ebpf(
        &two,
        Call::PerfEventOpen,
        attach,
        "kernel.perf_event_paranoid is 3, so that CAP_PERFMON is not enough",
        Some("sudo sysctl kernel.perf_event_paranoid=2"),
    );
    let some = "a security module (AppArmor, SELinux) or a sandbox forbids it";
    let log = "the kernel's log tells which rule: sudo dmesg | grep -i denied";
    assert_no_ebpf(&two, Call::Bpf, attach, some, Some(log));
    let locked = Observer {
        lockdown: Some("confidentiality".to_owned()),
        ..root()
    };
    let reason = "the kernel is locked down (confidentiality)";
    assert_no_ebpf(&locked, Call::Bpf, attach, reason, None);
    let integrity = Observer {
        lockdown: Some("integrity".to_owned()),
        ..root()
    };
    assert_eq!(ebpf(&integrity), Ok(()));
}

#[test]
fn what_is_hidden() {
    assert_eq!(
        remedy(&Obstacle::Hidden, &user(), Task::Attach).as_deref(),
        Some(SUDO)
    );
}
