//! What helps against an obstacle, where we are: one command or setting.

use nodetap_sampler::sandbox::Call;

use super::observer::{Capabilities, Capability, Container, Observer};
use super::rules::Obstacle;

/// What nodetap is asked to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Task {
    /// To look at a process that runs.
    Attach,
    /// To start one.
    Start,
}

/// What would take `obstacle` out of our way, in one line.
pub fn remedy(obstacle: &Obstacle, us: &Observer, task: Task) -> Option<String> {
    Some(match obstacle {
        Obstacle::OtherUser { .. }
        | Obstacle::NotDumpable
        | Obstacle::MoreCapable
        | Obstacle::Hidden => gain(us, &[Capability::SysPtrace], task),
        Obstacle::FileMode { .. } => gain(
            us,
            &[Capability::SysPtrace, Capability::DacReadSearch],
            task,
        ),
        Obstacle::PtraceScope(1) if place(us) == Place::User => {
            "start it with nodetap: nodetap record -- node app.js; or run nodetap as root: sudo \
             nodetap …; or once, for all: sudo sysctl kernel.yama.ptrace_scope=0"
                .to_owned()
        }
        Obstacle::PtraceScope(1 | 2) => gain(us, &[Capability::SysPtrace], task),
        Obstacle::PtraceScope(_) => {
            "until the machine boots anew nobody can change that: set kernel.yama.ptrace_scope \
             lower in /etc/sysctl.d and reboot"
                .to_owned()
        }
        Obstacle::Missing(missing) => {
            let mut wanted = missing.clone();
            // It reads the process's memory, too.
            if task == Task::Attach && !us.capabilities.has(Capability::SysPtrace) {
                wanted.push(Capability::SysPtrace);
            }
            gain(us, &wanted, task)
        }
        Obstacle::UserNamespace | Obstacle::OwnUserNamespace => match us.container {
            Some(_) => "run it as root of the machine, outside of this rootless container",
            None => "run it as root of the machine, outside of this user namespace",
        }
        .to_owned(),
        Obstacle::Filtered(call) => unfilter(us, *call, task),
        Obstacle::SecurityModule(label) => unconfine(us, label.as_deref()),
        Obstacle::Paranoid(_) => match us.container {
            Some(_) => "on the machine, as root: sysctl kernel.perf_event_paranoid=2",
            None => "sudo sysctl kernel.perf_event_paranoid=2",
        }
        .to_owned(),
        Obstacle::Lockdown => return None,
    })
}

/// In which way rights are to be had here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    /// A user of the machine, who may become root.
    User,
    /// Docker, or what has the same commands.
    Engine(&'static str),
    /// A pod.
    Kubernetes,
    /// Where even root has not all rights.
    Sandbox,
}

fn place(us: &Observer) -> Place {
    match us.container {
        Some(Container::Docker) => Place::Engine("docker"),
        Some(Container::Podman) => Place::Engine("podman"),
        Some(Container::Kubernetes) => Place::Kubernetes,
        Some(Container::Other) => Place::Sandbox,
        None => {
            let root_can = us.bounding.has(Capability::SysPtrace) && us.first_user_namespace;
            match us.uid != 0 && !us.no_new_privs && root_can {
                true => Place::User,
                false => Place::Sandbox,
            }
        }
    }
}

/// How a process like this one gets these capabilities.
fn gain(us: &Observer, wanted: &[Capability], task: Task) -> String {
    let holds = |set: Capabilities| wanted.iter().all(|&capability| set.has(capability));
    match place(us) {
        Place::User => match task {
            Task::Attach => "run it as root: sudo nodetap …".to_owned(),
            // As root the program would be root's, too.
            Task::Start => {
                let names = wanted
                    .iter()
                    .map(|it| format!("cap_{}", it.name().to_lowercase()));
                let names = names.collect::<Vec<_>>().join(",");
                format!("sudo setcap {names}=ep '{}'", us.executable.display())
            }
        },
        Place::Engine(engine) => {
            // To root, and to nobody else, an engine gives what is added.
            if us.uid != 0 && holds(us.bounding) {
                return format!("{engine} exec --user root CONTAINER nodetap …");
            }
            let user = if us.uid == 0 { "" } else { "--user root " };
            let namespace = match task {
                Task::Attach if us.first_pid_namespace => "--pid=host ",
                Task::Attach => "--pid=container:NAME ",
                Task::Start => "",
            };
            // Root of a container opens every file there, unless that was taken from him.
            let is_needed = |it: &&Capability| **it != Capability::DacReadSearch || us.uid == 0;
            let flags = wanted.iter().filter(is_needed);
            let flags: String = flags
                .map(|it| format!("--cap-add {} ", it.name()))
                .collect();
            format!("{engine} run {namespace}{user}{flags}…")
        }
        // A pod's `runAsUser` holds for what is added to it as well.
        Place::Kubernetes if us.uid != 0 && holds(us.bounding) => {
            "in the container's securityContext: runAsUser: 0".to_owned()
        }
        Place::Kubernetes => {
            "kubectl debug -it POD --target=CONTAINER --image=IMAGE --profile=sysadmin".to_owned()
        }
        Place::Sandbox => "run it outside of this sandbox, as root".to_owned(),
    }
}

/// How a seccomp filter lets a call through.
fn unfilter(us: &Observer, call: Call, task: Task) -> String {
    let lets_through = match call {
        Call::Bpf => Capability::Bpf,
        Call::PerfEventOpen => Capability::Perfmon,
        Call::Ptrace => Capability::SysPtrace,
    };
    match place(us) {
        // The usual filter of an engine follows the capabilities of the container.
        Place::Engine(_) if !us.bounding.has(lets_through) => gain(us, &[lets_through], task),
        Place::Engine(engine) => format!("{engine} run --security-opt seccomp=unconfined …"),
        Place::Kubernetes => {
            "in the container's securityContext: seccompProfile: {type: Unconfined}".to_owned()
        }
        Place::User | Place::Sandbox => {
            "run it outside of this sandbox (of a systemd service: SystemCallFilter=)".to_owned()
        }
    }
}

/// How AppArmor or SELinux let us be.
fn unconfine(us: &Observer, label: Option<&str>) -> String {
    // SELinux: user:role:type:level.
    let selinux = label.is_some_and(|label| label.contains(':'));
    match (place(us), selinux) {
        (Place::Engine(engine), true) => format!("{engine} run --security-opt label=disable …"),
        (Place::Engine(engine), false) => {
            format!("{engine} run --security-opt apparmor=unconfined …")
        }
        (Place::Kubernetes, true) => {
            "in the container's securityContext: seLinuxOptions: {type: spc_t}".to_owned()
        }
        (Place::Kubernetes, false) => {
            "in the container's securityContext: appArmorProfile: {type: Unconfined}".to_owned()
        }
        (Place::User | Place::Sandbox, _) => {
            "the kernel's log tells which rule: sudo dmesg | grep -i denied".to_owned()
        }
    }
}
