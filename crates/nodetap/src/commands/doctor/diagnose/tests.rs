//! What is concluded from which facts.

use nodetap_sampler::sandbox::Call;

use super::*;
use crate::permissions::tests as permissions;
use crate::permissions::tests::{docker, with};

/// Where both samplers work.
fn good(us: Observer) -> Facts {
    Facts {
        us,
        ebpf: Ok(()),
        ptrace: Ok(()),
    }
}

fn root() -> Facts {
    good(permissions::root())
}

/// What the sampler's own refusal becomes.
fn advice(obstacle: &Obstacle, us: &Observer) -> Advice {
    Advice {
        reason: obstacle.to_string(),
        hint: remedy(obstacle, us, Task::Attach),
    }
}

/// Where the kernel refused eBPF.
fn without_ebpf(us: Observer) -> Facts {
    let obstacle = rules::why_not_ebpf(&us, Call::Bpf);
    Facts {
        ebpf: Err(advice(&obstacle, &us)),
        ..good(us)
    }
}

/// Where it refused ptrace, too.
fn without_either(us: Observer) -> Facts {
    let obstacle = rules::why_not_tracing(&us, &Process::started_by(&us), Access::Stop);
    Facts {
        ptrace: Err(advice(&obstacle, &us)),
        ..without_ebpf(us)
    }
}

/// A user of a usual Debian.
fn user() -> Facts {
    without_ebpf(permissions::user())
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
        Some("run it as root: sudo nodetap …")
    );
    assert_eq!(
        of(&report, "BPF"),
        (
            State::Bad,
            "needs CAP_BPF, in any case (kernel.unprivileged_bpf_disabled = 2)".to_owned()
        )
    );
    assert_eq!(
        of(&report, "perf events"),
        (
            State::Bad,
            "need CAP_PERFMON, in any case (kernel.perf_event_paranoid = 3)".to_owned()
        )
    );
    assert_eq!(
        of(&report, "processes"),
        (
            State::Limited,
            "only this user's own can be read (kernel.yama.ptrace_scope = 0)".to_owned()
        )
    );
}

#[test]
fn root_in_docker_is_told_the_flags() {
    let report = diagnose(&without_ebpf(docker()));
    assert_eq!(report.sampler, Some("ptrace"));
    assert_eq!(
        report.improve.as_deref(),
        Some(
            "docker run --pid=container:NAME --cap-add BPF --cap-add PERFMON \
             --cap-add SYS_PTRACE …"
        )
    );
    assert_eq!(
        of(&report, "seccomp"),
        (State::Bad, "on; forbids bpf and perf_event_open".to_owned())
    );
    let with_capabilities = Observer {
        capabilities: permissions::ALL,
        bounding: permissions::ALL,
        filtered: Call::ALL.to_vec(),
        ..docker()
    };
    let report = diagnose(&without_either(with_capabilities));
    assert_eq!(report.sampler, None);
    assert_eq!(report.why, "a seccomp filter forbids bpf");
    assert_eq!(
        report.improve.as_deref(),
        Some("docker run --security-opt seccomp=unconfined …")
    );
    assert_eq!(
        of(&report, "ptrace"),
        (State::Bad, "a seccomp filter forbids ptrace".to_owned())
    );
}

#[test]
fn root_of_a_user_namespace_is_not_root() {
    let us = Observer {
        first_user_namespace: false,
        ..permissions::root()
    };
    assert_eq!(
        conclusion(&without_ebpf(us)),
        (
            Some("ptrace"),
            "for eBPF, which stops nothing, capabilities of a user namespace do not count for it"
                .to_owned(),
            Some("run it as root of the machine, outside of this user namespace".to_owned())
        )
    );
}

/// Neither sampler works, for reasons that the sampler tells.
fn failed(us: Observer) -> Facts {
    let advice = Advice {
        reason: "it broke".to_owned(),
        hint: Some("mend it".to_owned()),
    };
    Facts {
        us,
        ebpf: Err(advice.clone()),
        ptrace: Err(advice),
    }
}

#[test]
fn no_command_makes_a_kernel_newer_or_unlocks_it() {
    let old = Observer {
        kernel: "5.4.0-150-generic".to_owned(),
        ..permissions::root()
    };
    assert_eq!(
        conclusion(&failed(old)),
        (None, "the kernel is too old".to_owned(), None)
    );
    let without_btf = Observer {
        btf: false,
        ..permissions::root()
    };
    assert_eq!(
        conclusion(&failed(without_btf)),
        (
            None,
            "the kernel has no type information (BTF)".to_owned(),
            None
        )
    );
    let locked = Observer {
        lockdown: Some("confidentiality".to_owned()),
        ..permissions::root()
    };
    let (sampler, why, improve) = conclusion(&without_ebpf(locked));
    assert_eq!((sampler, improve), (Some("ptrace"), None));
    assert!(why.ends_with("the kernel is locked down (confidentiality)"));
}

#[test]
fn what_the_sampler_says_is_passed_on() {
    let report = diagnose(&failed(permissions::root()));
    assert_eq!(report.sampler, None);
    assert_eq!(report.why, "it broke");
    assert_eq!(report.improve.as_deref(), Some("mend it"));
    for subject in ["BPF", "ptrace"] {
        assert_eq!(of(&report, subject), (State::Bad, "it broke".to_owned()));
    }
}

#[test]
fn a_file_with_capabilities_works_without_root() {
    let held = [
        Capability::Bpf,
        Capability::Perfmon,
        Capability::SysPtrace,
        Capability::DacReadSearch,
    ];
    let report = diagnose(&good(with(permissions::user(), &held)));
    assert_eq!(report.sampler, Some("ebpf"));
    assert_eq!(report.improve, None);
    assert_eq!(
        of(&report, "capabilities"),
        (
            State::Neutral,
            "CAP_BPF, CAP_PERFMON, CAP_SYS_PTRACE, CAP_DAC_READ_SEARCH".to_owned()
        )
    );
    assert_eq!(of(&report, "kernel names").0, State::Limited);
    assert_eq!(of(&report, "processes").0, State::Good);
    // Without the last one it may trace what it cannot read.
    let report = diagnose(&good(with(permissions::user(), &held[..3])));
    assert_eq!(
        of(&report, "processes"),
        (
            State::Limited,
            "only this user's own can be read: others' take CAP_DAC_READ_SEARCH, too".to_owned()
        )
    );
    assert_eq!(
        report.improve.as_deref(),
        Some("run it as root: sudo nodetap …")
    );
}

#[test]
fn hidden_kernel_addresses_can_be_shown() {
    let us = Observer {
        kptr_restrict: Some(2),
        ..permissions::root()
    };
    let report = diagnose(&good(us));
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
    let of_release = |release: &str| {
        good(Observer {
            kernel: release.to_owned(),
            ..permissions::root()
        })
    };
    for release in ["6.18.44-fc-v669", "5.15.0", "10.0", "unknown", ""] {
        assert!(!kernel_is_old(&of_release(release)), "{release}");
    }
    for release in ["5.14.21", "4.18.0-513.el8.x86_64"] {
        assert!(kernel_is_old(&of_release(release)), "{release}");
    }
}

fn scope(us: Observer, scope: i32) -> Observer {
    Observer {
        ptrace_scope: Some(scope),
        ..us
    }
}

#[test]
fn what_ptrace_scope_means_is_told() {
    for value in [0, 1, 2] {
        let text = format!("every user's can be read (kernel.yama.ptrace_scope = {value})");
        let report = diagnose(&good(scope(permissions::root(), value)));
        assert_eq!(of(&report, "processes"), (State::Good, text));
    }
    let processes = |value| {
        let report = diagnose(&without_ebpf(scope(permissions::user(), value)));
        of(&report, "processes")
    };
    assert_eq!(
        processes(1),
        (
            State::Limited,
            "only what nodetap starts can be read (record -- COMMAND): \
             kernel.yama.ptrace_scope is 1, so that only what started it may look into it"
                .to_owned()
        )
    );
    assert_eq!(
        processes(2),
        (
            State::Bad,
            "none can be read: kernel.yama.ptrace_scope is 2, so that it takes CAP_SYS_PTRACE \
             to look into any"
                .to_owned()
        )
    );
}

#[test]
fn where_nobody_may_nothing_works() {
    for us in [permissions::root(), permissions::user()] {
        let us = scope(us, 3);
        let (sampler, why, improve) = conclusion(&without_either(us));
        assert_eq!(sampler, None);
        assert_eq!(
            why,
            "kernel.yama.ptrace_scope is 3, so that nobody may look into any"
        );
        assert!(improve.is_some_and(|it| it.contains("reboot")));
    }
    let (sampler, why, improve) = conclusion(&without_either(scope(permissions::user(), 2)));
    assert_eq!(sampler, None);
    assert!(why.starts_with("kernel.yama.ptrace_scope is 2"), "{why}");
    assert_eq!(improve.as_deref(), Some("run it as root: sudo nodetap …"));
}
