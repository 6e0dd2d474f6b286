//! Process ids that are right in another place: a container has its own.

use nodetap_sampler::discover::node_processes;
use rustix::io::Errno;
use rustix::process::{Pid, test_kill_process};

use super::observer::{Container, Observer};
use super::process;
use super::remedy::{Task, remedy};
use super::rules::Obstacle;
use crate::failure::Failure;

/// A Node.js process by the number that it has here.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Candidate {
    pid: u32,
    command: String,
}

/// There is no process `pid`: in a container it may be one, or outside of this one.
pub fn failure_of_no_process(pid: u32) -> Failure {
    let failure = Failure::new(format_args!("there is no process {pid}"));
    if let Some(hint) = inside_of_containers(pid) {
        return failure.hint(hint);
    }
    let us = Observer::gather();
    if is_hidden(pid) {
        let failure = Failure::new(format_args!(
            "cannot see process {pid}: {}",
            Obstacle::Hidden
        ));
        return failure.hint_maybe(remedy(&Obstacle::Hidden, &us, Task::Attach));
    }
    match outside_of_container(&us) {
        Some(hint) => Failure::new(format_args!(
            "there is no process {pid} in this PID namespace (container)"
        ))
        .hint(hint),
        None => failure.hint("`nodetap ps` lists the Node.js processes of this machine"),
    }
}

/// Which Node.js processes have the number `pid` inside of their containers, if some have.
pub fn inside_of_containers(pid: u32) -> Option<String> {
    let processes = node_processes().ok()?;
    let candidates: Vec<Candidate> = processes
        .into_iter()
        .filter(|process| {
            let numbers = process::numbers(process.pid);
            numbers.len() > 1 && numbers[1..].contains(&pid)
        })
        .map(|process| Candidate {
            pid: process.pid,
            command: process.command.join(" "),
        })
        .collect();
    suggestion(pid, &candidates)
}

fn suggestion(pid: u32, candidates: &[Candidate]) -> Option<String> {
    /// So many are told of.
    const MOST: usize = 3;
    let shown = |candidate: &Candidate| {
        let command: String = candidate.command.chars().take(40).collect();
        format!("{} ({command})", candidate.pid)
    };
    match candidates {
        [] => None,
        [one] => Some(format!(
            "the process that is {pid} inside its container is {} here: -p {}",
            shown(one),
            one.pid
        )),
        several => {
            let some: Vec<String> = several.iter().take(MOST).map(shown).collect();
            let more = if several.len() > MOST { ", …" } else { "" };
            Some(format!(
                "the processes that are {pid} inside their containers are here {}{more}",
                some.join(", ")
            ))
        }
    }
}

/// How to see the processes outside of this container; `None` where all are seen.
fn outside_of_container(us: &Observer) -> Option<String> {
    if us.first_pid_namespace {
        return None;
    }
    Some(match us.container {
        Some(Container::Docker) => {
            "a container has process ids of its own (nodetap ps); to see those of another or of \
             the host: docker run --pid=container:NAME … or --pid=host …"
        }
        Some(Container::Podman) => {
            "a container has process ids of its own (nodetap ps); to see those of another or of \
             the host: podman run --pid=container:NAME … or --pid=host …"
        }
        Some(Container::Kubernetes) => {
            "a container has process ids of its own (nodetap ps); to see another's: kubectl debug \
             -it POD --target=CONTAINER …, or shareProcessNamespace: true (hostPID: true) in the \
             pod"
        }
        Some(Container::Other) | None => {
            "a PID namespace has process ids of its own: `nodetap ps` lists the Node.js processes \
             of this one; run nodetap outside of it to see others"
        }
    }
    .to_owned())
}

/// The failure of whatever is asked, where `/proc` shows the processes of another PID
/// namespace than ours: the numbers there are not those that the kernel takes from us.
pub fn failure_of_foreign_proc() -> Option<Failure> {
    let own = std::fs::read_link("/proc/self").ok()?;
    let is_ours = own.to_str() == Some(std::process::id().to_string().as_str());
    (!is_ours).then(|| {
        Failure::new("/proc shows the processes of another PID namespace than nodetap is in")
            .hint("mount the right one first: unshare --mount --mount-proc nodetap …")
    })
}

/// Whether there is such a process, and `/proc` does not show it.
fn is_hidden(pid: u32) -> bool {
    // In this order: one that ends meanwhile is not hidden.
    if std::path::Path::new(&format!("/proc/{pid}")).exists() {
        return false;
    }
    let id = i32::try_from(pid).ok().and_then(Pid::from_raw);
    id.is_some_and(|id| matches!(test_kill_process(id), Ok(()) | Err(Errno::PERM)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn candidate(pid: u32) -> Candidate {
        Candidate {
            pid,
            command: format!("node /srv/{pid}.js with a rather long list of arguments"),
        }
    }

    #[test]
    fn processes_of_containers_are_suggested() {
        assert_eq!(suggestion(1, &[]), None);
        assert_eq!(
            suggestion(1, &[candidate(4711)]).as_deref(),
            Some(
                "the process that is 1 inside its container is 4711 (node /srv/4711.js with a \
                 rather long lis) here: -p 4711"
            )
        );
        let several: Vec<Candidate> = (11..15).map(candidate).collect();
        let told = suggestion(7, &several).expect("several");
        assert!(told.starts_with("the processes that are 7 inside their containers are here 11 ("));
        assert!(told.ends_with("), …") && told.contains(", 13 (") && !told.contains("14 ("));
    }

    #[test]
    fn nobody_is_hidden_from_root() {
        assert!(!is_hidden(1));
        assert!(!is_hidden(std::process::id()));
        assert!(!is_hidden(u32::MAX));
    }
}
