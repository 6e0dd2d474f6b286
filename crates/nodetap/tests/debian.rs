//! Debian's own Node.js: V8 is a shared library without symbols but for those that other
//! programs need. It runs in a folder of its own, as it would in a container.

mod common;

use std::fs;
use std::path::{Path, PathBuf};

use common::call_sites;

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
