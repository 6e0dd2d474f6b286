//! Debian's own Node.js: V8 is a shared library without symbols but for those that other
//! programs need. It runs in a folder of its own, as it would in a container.

mod common;

use std::fs;
use std::path::{Path, PathBuf};

use common::recording::Frame;
use common::target::Target;
use common::{call_sites, core_file};

/// The folder to chroot into, with the fixtures in it; `None` where Debian's packages
/// could not be fetched.
fn root() -> Option<PathBuf> {
    let root = common::cache().join("debian-node/root");
    if !root.join("usr/bin/node").exists() {
        eprintln!("not tested: there is no {}", root.display());
        return None;
    }
    let folder = root.join("srv/oracle");
    fs::create_dir_all(&folder).expect("mkdir");
    for file in fs::read_dir(common::fixture("oracle")).expect("the fixture") {
        let file = file.expect("the fixture");
        fs::copy(file.path(), folder.join(file.file_name())).expect("copy");
    }
    Some(root)
}

fn check(chain: &str, flags: &[&str]) {
    if let Some(root) = root() {
        let node = [
            "chroot".into(),
            root.into_os_string(),
            "/usr/bin/node".into(),
        ];
        let script = Path::new("/srv/oracle/main.js");
        call_sites::check(&node, flags, script, &["timeout", chain]);
    }
}

#[test]
fn cold() {
    check("kinds", &[]);
}

#[test]
fn interpreted() {
    check("recurse", &["--no-opt", "--no-sparkplug"]);
}

#[test]
fn baseline() {
    check("kinds", &["--no-opt", "--always-sparkplug"]);
}

/// A core file from a container, and a copy of that: the libraries are where the
/// program is.
#[test]
fn core_file() {
    let Some(root) = root().filter(|_| core_file::kernel_writes_them()) else {
        return;
    };
    let node = ["chroot".into(), root.clone().into(), "/usr/bin/node".into()];
    let script = Path::new("/srv/oracle/main.js");
    let mut target = Target::start_as(&node, &[], script, &["timeout", "kinds"]);
    target.line();
    core_file::stop(&target);
    let live = call_sites::dump(&target);
    let core = core_file::of_kernel(target, &root);
    let executable = root.join("usr/bin/node");
    let options = ["--json", "--exe", executable.to_str().expect("UTF-8")];
    let output = core_file::nodetap(&core, &options);
    // What is there without the copy is not what the process had.
    let without = core_file::nodetap(&core, &[]);
    fs::remove_file(core).expect("remove");
    let left: call_sites::Dump = serde_json::from_slice(&output.stdout).expect("a dump");
    let frames = |dump: &call_sites::Dump| -> Vec<Frame> {
        let frames = dump.threads[0].frames.iter().cloned();
        // Paths are those of outside, or of inside.
        let plain = frames.map(|frame| Frame {
            file: None,
            ..frame
        });
        plain.collect()
    };
    assert_eq!(frames(&left), frames(&live));
    assert!(left.threads[0].complete);
    assert_eq!(without.status.code(), Some(1), "{without:?}");
}
