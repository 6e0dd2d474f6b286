//! What the tests on real Node.js processes share.
//!
//! They profile the official binaries that `make test` puts into the cache, one target
//! at a time: a recording says what share of the machine a thread had, and the machines
//! that run these tests have two cores.

#![allow(
    dead_code,
    reason = "each test file uses its own part of what is shared"
)]

pub mod accuracy;
pub mod as_v8;
pub mod call_sites;
pub mod core_file;
pub mod cpu_profile;
pub mod matrix;
pub mod recording;
pub mod target;
pub mod terminal;
pub mod truth;

use std::fs::File;
use std::panic::{self, AssertUnwindSafe};
use std::path::{Path, PathBuf};

/// The folder where `make test` keeps what it fetches.
pub fn cache() -> PathBuf {
    let own = std::env::var_os("NODETAP_CACHE").map(PathBuf::from);
    let shared = || {
        let base = std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from);
        let home = || PathBuf::from(std::env::var_os("HOME").expect("HOME")).join(".cache");
        base.unwrap_or_else(home).join("nodetap")
    };
    own.unwrap_or_else(shared)
}

/// The binary of a Node.js version.
pub fn node(version: &str) -> PathBuf {
    cached(&Path::new("nodes").join(version).join("bin/node"))
}

/// The `node_modules` folder with the real programs that are profiled.
pub fn programs() -> PathBuf {
    cached(Path::new("programs/node_modules"))
}

/// The `node_modules` folder with what reads the formats of other programs.
pub fn format_readers() -> PathBuf {
    cached(Path::new("format-readers/node_modules"))
}

/// The `node_modules` folder with what makes JavaScript of TypeScript.
pub fn transpilers() -> PathBuf {
    cached(Path::new("transpilers/node_modules"))
}

/// A browser of the kind that the tests drive.
pub fn chromium() -> PathBuf {
    let path = std::env::var_os("PATH").expect("PATH");
    let names = ["chromium", "chromium-browser", "google-chrome", "chrome"];
    names
        .iter()
        .flat_map(|name| std::env::split_paths(&path).map(move |folder| folder.join(name)))
        .find(|program| program.is_file())
        .expect("a Chromium: `make test` installs what the tests need")
}

fn cached(path: &Path) -> PathBuf {
    let path = cache().join(path);
    assert!(
        path.exists(),
        "{} is missing: `make test` fetches what the tests need",
        path.display()
    );
    path
}

/// A program of `tests/fixtures`.
pub fn fixture(name: &str) -> PathBuf {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/fixtures")
        .join(name);
    assert!(path.exists(), "no fixture {}", path.display());
    path
}

/// Copies a program that is to be run. Another process does that: what this one has open
/// for writing, a child that another test starts has open too for a moment, and then it
/// cannot be executed.
pub fn copy_program(from: &Path, to: &Path) {
    let mut copy = std::process::Command::new("cp");
    let status = copy.arg(from).arg(to).status().expect("cannot run cp");
    assert!(status.success(), "cp: {status}");
}

/// The program of `make demo`.
pub fn demo() -> PathBuf {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../demo");
    folder.canonicalize().expect("the demo").join("loop.js")
}

/// Runs a test that measures, up to three times. Which instructions the ticks hit is
/// chance, and so is what else the machine does meanwhile: what holds for 99 % of all
/// samples may be missed once by few. What is wrong is wrong each time.
pub fn measure(test: impl Fn()) {
    for attempt in 1..3 {
        if panic::catch_unwind(AssertUnwindSafe(&test)).is_ok() {
            return;
        }
        eprintln!("attempt {attempt} failed; trying again");
    }
    test();
}

/// Waits until no other test measures, in this process or another, and keeps others
/// waiting until what is returned is dropped.
pub fn one_at_a_time() -> File {
    let path = cache().join("tests.lock");
    let file = File::create(&path)
        .unwrap_or_else(|error| panic!("cannot create {}: {error}", path.display()));
    rustix::fs::flock(&file, rustix::fs::FlockOperation::LockExclusive).expect("flock");
    file
}
