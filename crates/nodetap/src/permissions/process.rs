//! Who is looked at: what the kernel tells everybody of a process.

use std::fs;
use std::os::unix::fs::MetadataExt;

use super::observer::{Capabilities, Observer, status_field};

/// Where the user namespace of a process lies, seen from ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UserNamespace {
    /// It is ours.
    Ours,
    /// It is inside of ours.
    Inside,
    /// It is outside: our capabilities count for nothing there.
    Outside,
}

/// A process, as far as it matters for who may look into it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Process {
    /// The real, effective and saved user.
    pub uids: [u32; 3],
    /// The same of its group.
    pub gids: [u32; 3],
    /// What its effective user is called, or its number.
    pub owner: String,
    /// The capabilities that it may use.
    pub permitted: Capabilities,
    /// Whether the kernel lets its user look into it, as far as can be told.
    pub dumpable: bool,
    /// Where its user namespace is.
    pub user_namespace: UserNamespace,
    /// Whether we, or what we started, have started it.
    pub is_descendant: bool,
}

impl Process {
    /// What can be read of process `pid`; `None` where it has ended.
    pub fn gather(pid: u32) -> Option<Process> {
        let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
        let uids = ids(&status, "Uid")?;
        // The files of what is not dumpable belong to root (`task_dump_owner` in
        // fs/proc/base.c).
        let owner = fs::metadata(format!("/proc/{pid}/stat")).ok()?.uid();
        let map = |pid: &str| fs::read_to_string(format!("/proc/{pid}/uid_map"));
        let user_namespace = match (map("self"), map(&pid.to_string())) {
            (Ok(ours), Ok(its)) => place(&ours, &its),
            _ => UserNamespace::Ours,
        };
        let passwd = fs::read_to_string("/etc/passwd").unwrap_or_default();
        Some(Process {
            uids,
            gids: ids(&status, "Gid")?,
            owner: name(&passwd, uids[1]),
            permitted: permitted(&status),
            dumpable: owner == uids[1],
            user_namespace,
            is_descendant: is_descendant(pid),
        })
    }

    /// One that `us` start: nothing is different.
    pub fn started_by(us: &Observer) -> Process {
        Process {
            uids: [us.uid; 3],
            gids: [us.gid; 3],
            owner: "this user".to_owned(),
            permitted: us.capabilities,
            dumpable: true,
            user_namespace: UserNamespace::Ours,
            is_descendant: true,
        }
    }

    /// Another one of the same user.
    pub fn of_same_user(us: &Observer) -> Process {
        Process {
            permitted: Capabilities(0),
            is_descendant: false,
            ..Process::started_by(us)
        }
    }

    /// One of another user.
    pub fn of_other_user(us: &Observer) -> Process {
        // Whichever it is, it is another one.
        let other = us.uid.wrapping_add(1);
        Process {
            uids: [other; 3],
            owner: "another user".to_owned(),
            ..Process::of_same_user(us)
        }
    }
}

/// The first three of a line of ids: real, effective, saved.
fn ids(status: &str, field: &str) -> Option<[u32; 3]> {
    let mut ids = status_field(status, field)?.split_whitespace();
    let mut next = || ids.next()?.parse().ok();
    Some([next()?, next()?, next()?])
}

fn permitted(status: &str) -> Capabilities {
    let mask = status_field(status, "CapPrm").and_then(|mask| u64::from_str_radix(mask, 16).ok());
    Capabilities(mask.unwrap_or(0))
}

/// The numbers that the process has in its PID namespaces, ours first.
pub fn numbers(pid: u32) -> Vec<u32> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let numbers = status_field(&status, "NSpid").unwrap_or_default();
    numbers
        .split_whitespace()
        .filter_map(|number| number.parse().ok())
        .collect()
}

/// Where a user namespace is whose `uid_map` reads so from ours.
fn place(ours: &str, its: &str) -> UserNamespace {
    /// What the kernel writes for a user whom the reader's namespace does not have.
    const NOBODY_HERE: &str = "4294967295";
    if ours == its {
        return UserNamespace::Ours;
    }
    let unknown = |line: &str| line.split_whitespace().nth(1) == Some(NOBODY_HERE);
    let users = |map: &str| -> u64 {
        let count = |line: &str| line.split_whitespace().nth(2)?.parse::<u64>().ok();
        map.lines().filter_map(count).sum()
    };
    // What is inside of ours has no users that we have not.
    match its.lines().any(unknown) || users(its) > users(ours) {
        true => UserNamespace::Outside,
        false => UserNamespace::Inside,
    }
}

/// What user `uid` is called: by the first line of `/etc/passwd` that has it.
fn name(passwd: &str, uid: u32) -> String {
    let line = passwd.lines().find_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next()?;
        (fields.nth(1)?.parse() == Ok(uid)).then_some(name)
    });
    line.map_or_else(|| format!("user {uid}"), str::to_owned)
}

/// Whether the chain of parents of `pid` leads to us.
fn is_descendant(pid: u32) -> bool {
    let us = std::process::id();
    let mut pid = pid;
    // Deeper chains than this are none of ours.
    for _ in 0..64 {
        let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
        let parent = status_field(&status, "PPid").and_then(|parent| parent.parse().ok());
        match parent {
            Some(parent) if parent == us => return true,
            Some(0) | None => return false,
            Some(parent) => pid = parent,
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_status_file() {
        let status = "Name:\tnode\nUid:\t1000\t0\t1\t0\nCapPrm:\t000001ffffffffff\n";
        assert_eq!(ids(status, "Uid"), Some([1000, 0, 1]));
        assert_eq!(ids(status, "Gid"), None);
        assert_eq!(permitted(status), Capabilities(0x1ff_ffff_ffff));
        assert_eq!(permitted(""), Capabilities(0));
    }

    #[test]
    fn we_ourselves() {
        let process = Process::gather(std::process::id()).expect("we run");
        assert!(process.dumpable);
        assert_eq!(process.user_namespace, UserNamespace::Ours);
        assert!(!process.is_descendant);
        assert_eq!(numbers(std::process::id())[0], std::process::id());
        let mut child = std::process::Command::new("sleep")
            .arg("100")
            .spawn()
            .expect("sleep");
        assert!(is_descendant(child.id()));
        child.kill().expect("kill");
        child.wait().expect("wait");
        assert_eq!(Process::gather(child.id()), None);
    }

    #[test]
    fn user_namespaces() {
        let machine = "         0          0 4294967295\n";
        let rootless = "         0       1000          1\n         1     100000      65536\n";
        let not_here = "         0 4294967295 4294967295\n";
        assert_eq!(place(machine, machine), UserNamespace::Ours);
        assert_eq!(place(machine, rootless), UserNamespace::Inside);
        assert_eq!(place(rootless, not_here), UserNamespace::Outside);
        let of_root = "         0          0          1\n";
        assert_eq!(place(of_root, machine), UserNamespace::Outside);
    }

    #[test]
    fn names_of_users() {
        let passwd = "root:x:0:0:root:/root:/bin/sh\nbroken\ndh:x:1000:1000::/home/dh:\n";
        assert_eq!(name(passwd, 0), "root");
        assert_eq!(name(passwd, 1000), "dh");
        assert_eq!(name(passwd, 7), "user 7");
    }
}
