//! What is concluded from which facts.

use super::super::facts::Capabilities;
use super::*;

/// Root on a usual Debian.
fn root() -> Facts {
    Facts {
        kernel: "6.1.0-18-amd64".to_owned(),
        btf: true,
        uid: 0,
        capabilities: Capabilities(0x1ff_ffff_ffff),
        no_new_privs: false,
        seccomp: false,
        unprivileged_bpf_disabled: Some(2),
        perf_event_paranoid: Some(3),
        kptr_restrict: Some(0),
        ptrace_scope: Some(0),
        lockdown: None,
        first_pid_namespace: true,
        first_user_namespace: true,
        container: None,
        executable: "/usr/bin/nodetap".into(),
        ebpf: Ok(()),
        ptrace: Ok(()),
    }
}

fn refused() -> Result<(), Refusal> {
    Err(Refusal {
        reason: "the kernel refused it: Operation not permitted".to_owned(),
        hint: Some("ask the sampler".to_owned()),
    })
}

/// A user of that Debian.
fn user() -> Facts {
    Facts {
        uid: 1000,
        capabilities: Capabilities(0),
        ebpf: refused(),
        ..root()
    }
}

fn of(report: &Report, subject: &str) -> (State, String) {
    let found = report.findings.iter().find(|f| f.subject == subject);
    let found = found.expect("no such subject");
    (found.state, found.text.clone())
}

fn conclusion(facts: &Facts) -> (Option<&'static str>, String, Option<String>) {
    let report = diagnose(facts);
    (report.sampler, report.why, report.improve)
}

#[test]
fn root_needs_nothing() {
    let report = diagnose(&root());
    assert_eq!(report.sampler, Some("ebpf"));
    assert_eq!(report.improve, None);
    assert!(
        report
            .findings
            .iter()
            .all(|f| matches!(f.state, State::Good | State::Neutral)),
        "{report:?}"
    );
}

#[test]
fn a_user_needs_capabilities() {
    let report = diagnose(&user());
    assert_eq!(report.sampler, Some("ptrace"));
    assert_eq!(
        report.why,
        "for eBPF, which stops nothing, CAP_BPF and CAP_PERFMON are missing"
    );
    assert_eq!(
        report.improve.as_deref(),
        Some("sudo setcap cap_bpf,cap_perfmon,cap_sys_ptrace=ep '/usr/bin/nodetap'")
    );
    assert_eq!(
        of(&report, "BPF"),
        (
            State::Bad,
            "needs CAP_BPF or CAP_SYS_ADMIN (unprivileged_bpf_disabled = 2)".to_owned()
        )
    );
    assert_eq!(
        of(&report, "perf events"),
        (
            State::Bad,
            "need CAP_PERFMON or CAP_SYS_ADMIN (perf_event_paranoid = 3)".to_owned()
        )
    );
    assert_eq!(
        of(&report, "processes"),
        (
            State::Limited,
            "only this user's own can be read (ptrace_scope = 0)".to_owned()
        )
    );
}

#[test]
fn root_in_docker_is_told_the_flags() {
    let docker = Facts {
        // Docker's default set: none of those that matter.
        capabilities: Capabilities(0xa804_25fb),
        seccomp: true,
        first_pid_namespace: false,
        container: Some(Container::Docker),
        ebpf: refused(),
        ptrace: refused(),
        ..root()
    };
    assert_eq!(
        conclusion(&docker),
        (
            None,
            "CAP_BPF and CAP_PERFMON are missing".to_owned(),
            Some("docker run --cap-add BPF --cap-add PERFMON --cap-add SYS_PTRACE …".to_owned())
        )
    );
    let user = Facts {
        uid: 1000,
        container: Some(Container::Podman),
        ..docker.clone()
    };
    assert_eq!(
        conclusion(&user).2.as_deref(),
        Some("podman run --user root --cap-add BPF --cap-add PERFMON --cap-add SYS_PTRACE …")
    );
    let with_capabilities = Facts {
        capabilities: Capabilities(0x1ff_ffff_ffff),
        ..docker
    };
    assert_eq!(
        conclusion(&with_capabilities),
        (
            None,
            "the kernel refused it: Operation not permitted".to_owned(),
            Some("docker run --security-opt seccomp=unconfined …".to_owned())
        )
    );
}

#[test]
fn root_of_a_user_namespace_is_not_root() {
    let facts = Facts {
        first_user_namespace: false,
        ebpf: refused(),
        ptrace: refused(),
        ..root()
    };
    let (sampler, why, improve) = conclusion(&facts);
    assert_eq!(sampler, None);
    assert_eq!(why, "CAP_BPF and CAP_PERFMON are missing");
    assert_eq!(
        improve.as_deref(),
        Some("run it outside of this sandbox, as root")
    );
}

#[test]
fn no_command_makes_a_kernel_newer_or_unlocks_it() {
    let old = Facts {
        kernel: "5.4.0-150-generic".to_owned(),
        ebpf: refused(),
        ptrace: refused(),
        ..root()
    };
    assert_eq!(
        conclusion(&old),
        (None, "the kernel is too old".to_owned(), None)
    );
    let without_btf = Facts {
        btf: false,
        ebpf: refused(),
        ptrace: refused(),
        ..root()
    };
    assert_eq!(
        conclusion(&without_btf),
        (
            None,
            "the kernel has no type information (BTF)".to_owned(),
            None
        )
    );
    let locked = Facts {
        lockdown: Some("confidentiality".to_owned()),
        ebpf: refused(),
        ptrace: refused(),
        ..root()
    };
    assert_eq!(
        conclusion(&locked),
        (None, "the kernel is locked down".to_owned(), None)
    );
}

#[test]
fn what_the_sampler_says_is_passed_on() {
    let facts = Facts {
        ebpf: refused(),
        ptrace: refused(),
        ..root()
    };
    assert_eq!(
        conclusion(&facts),
        (
            None,
            "the kernel refused it: Operation not permitted".to_owned(),
            Some("ask the sampler".to_owned())
        )
    );
}

#[test]
fn a_file_with_capabilities_works_without_root() {
    let facts = Facts {
        uid: 1000,
        capabilities: Capabilities(1 << 39 | 1 << 38 | 1 << 19),
        ..root()
    };
    let report = diagnose(&facts);
    assert_eq!(report.sampler, Some("ebpf"));
    assert_eq!(report.improve, None);
    assert_eq!(
        of(&report, "capabilities"),
        (
            State::Neutral,
            "CAP_BPF, CAP_PERFMON, CAP_SYS_PTRACE".to_owned()
        )
    );
    assert_eq!(of(&report, "kernel names").0, State::Limited);
}

#[test]
fn hidden_kernel_addresses_can_be_shown() {
    let facts = Facts {
        kptr_restrict: Some(2),
        ..root()
    };
    let report = diagnose(&facts);
    assert_eq!(
        of(&report, "kernel names"),
        (
            State::Limited,
            "hidden: --kernel has frames without names (kptr_restrict = 2)".to_owned()
        )
    );
    assert_eq!(
        report.improve.as_deref(),
        Some("sudo sysctl kernel.kptr_restrict=1")
    );
}

#[test]
fn odd_kernel_releases_are_not_called_old() {
    for release in ["6.18.44-fc-v669", "5.15.0", "10.0", "unknown", ""] {
        let facts = Facts {
            kernel: release.to_owned(),
            ..root()
        };
        assert!(!kernel_is_old(&facts), "{release}");
    }
    for release in ["5.14.21", "4.18.0-513.el8.x86_64"] {
        let facts = Facts {
            kernel: release.to_owned(),
            ..root()
        };
        assert!(kernel_is_old(&facts), "{release}");
    }
}

#[test]
fn what_ptrace_scope_means_is_told() {
    let told = |facts: Facts, scope: i32| {
        let facts = Facts {
            ptrace_scope: Some(scope),
            ..facts
        };
        of(&diagnose(&facts), "processes")
    };
    assert_eq!(
        told(root(), 3),
        (
            State::Bad,
            "nobody's memory can be read (ptrace_scope = 3)".to_owned()
        )
    );
    for scope in [0, 1, 2] {
        let text = format!("every user's can be read (ptrace_scope = {scope})");
        assert_eq!(told(root(), scope), (State::Good, text));
    }
    assert_eq!(
        told(user(), 1),
        (
            State::Limited,
            "only what nodetap starts can be read: nodetap record -- node app.js \
             (ptrace_scope = 1)"
                .to_owned()
        )
    );
    assert_eq!(
        told(user(), 2),
        (
            State::Bad,
            "reading any needs CAP_SYS_PTRACE (ptrace_scope = 2)".to_owned()
        )
    );
}

#[test]
fn without_either_there_is_no_sampler() {
    let facts = Facts {
        ptrace: Err(Refusal {
            reason: "forbidden here".to_owned(),
            hint: None,
        }),
        ..user()
    };
    let report = diagnose(&facts);
    assert_eq!(report.sampler, None);
    assert_eq!(report.why, "CAP_BPF and CAP_PERFMON are missing");
    assert_eq!(
        of(&report, "ptrace"),
        (State::Bad, "forbidden here".to_owned())
    );
}
