//! Node.js whose symbols have been taken away by `strip`: as exact as with them.

mod common;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use common::call_sites;
use common::matrix::{self, Node, Test};

/// The binary of a version, stripped; it is kept in the cache.
fn stripped(version: &str) -> PathBuf {
    let whole = common::node(version);
    let folder = common::cache().join("stripped").join(version);
    let path = folder.join("node");
    let written = |path: &Path| fs::metadata(path).and_then(|file| file.modified()).ok();
    if written(&path) < written(&whole) {
        fs::create_dir_all(&folder).expect("mkdir");
        let new = tempfile::NamedTempFile::new_in(&folder).expect("a temporary file");
        let mut strip = Command::new("strip");
        let status = strip.arg("-o").arg(new.path()).arg(&whole).status();
        assert!(status.expect("cannot run strip").success());
        new.persist(&path).expect("rename");
    }
    path
}

fn check(node: &Node, chain: &str, flags: &[&str], warm: bool) {
    let mut arguments = vec!["main", chain];
    if warm {
        arguments.push("--warm");
    }
    let program = [stripped(&node.version).into_os_string()];
    let script = common::fixture(match node.major() {
        ..8 => "oracle_es5/main.js",
        _ => "oracle/main.js",
    });
    call_sites::check(&program, flags, &script, &arguments);
}

fn main() -> std::process::ExitCode {
    let cold = |node: &Node| check(node, "kinds", &[], false);
    let warm = |node: &Node| check(node, "kinds", &[], true);
    let interpreted = |node: &Node| {
        let flags = ["--no-opt", "--no-sparkplug"];
        check(
            node,
            "recurse",
            &flags[..if node.major() < 16 { 1 } else { 2 }],
            false,
        );
    };
    let baseline = |node: &Node| {
        let flags = ["--no-opt", "--always-sparkplug"];
        check(node, "kinds", &flags, false);
    };
    matrix::main([
        Test::new("cold", 16, cold).seldom_if(|_| true),
        Test::new("warm", 16, warm).seldom_if(|_| true),
        Test::new("interpreted", 16, interpreted).seldom_if(|_| true),
        Test::new("baseline", 16, baseline).seldom_if(|_| true),
        Test::new("cold", 0, cold).before(16).long(),
        Test::new("warm", 0, warm).before(16).long(),
        Test::new("interpreted", 8, interpreted).before(16).long(),
    ])
}
