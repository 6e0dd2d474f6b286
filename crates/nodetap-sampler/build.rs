//! Compiles the BPF program, `src/ebpf/walk.bpf.c`, with clang.
//!
//! The records that it shares with its loader are defined in
//! `src/ebpf/shared.rs`; their C side, `shared.h`, is generated from there.

use std::env;
use std::path::{Path, PathBuf};
use std::process::{Command, exit};

const SHARED: &str = "src/ebpf/shared.rs";
const HELPERS: &str = "src/ebpf/helpers.h";
const IDENTIFY: &str = "src/ebpf/identify.h";
const UNWIND: &str = "src/ebpf/unwind.h";
const PROGRAM: &str = "src/ebpf/walk.bpf.c";
const WALL: &str = "src/ebpf/wall.h";
/// The first clang whose BPF code uses the instructions and the type
/// information (BTF) that the program needs.
const OLDEST_CLANG: u32 = 12;
/// The program is compiled twice: every CPU needs room for one sample, which
/// for the deepest stacks is 1.2 MiB, and for usual ones a thirtieth of it.
const FRAMES: [u32; 2] = [512, 16384];

fn main() {
    for path in [SHARED, HELPERS, IDENTIFY, UNWIND, PROGRAM, WALL] {
        println!("cargo::rerun-if-changed={path}");
    }
    println!("cargo::rerun-if-env-changed=CLANG");
    let out = PathBuf::from(env::var_os("OUT_DIR").expect("cargo sets OUT_DIR"));
    write_header(&out.join("shared.h"));
    let clang = env::var("CLANG").unwrap_or_else(|_| "clang".to_owned());
    check_clang(&clang);
    for frames in FRAMES {
        compile(&clang, &out, frames);
    }
}

/// Writes the C declarations of the shared records.
fn write_header(header: &Path) {
    let bindings = cbindgen::Builder::new()
        .with_src(SHARED)
        .with_language(cbindgen::Language::C)
        .with_no_includes()
        .with_include_guard("NODETAP_SHARED_H")
        .with_style(cbindgen::Style::Tag)
        .with_documentation(false)
        .include_item("ProcessConfig")
        .include_item("SampleHeader")
        .include_item("FrameRecord")
        .include_item("WaitEnd")
        .include_item("CodeMapping")
        .include_item("UnwindRow")
        .generate();
    match bindings {
        Ok(bindings) => {
            bindings.write_to_file(header);
        }
        Err(error) => fail(&format!("cannot derive shared.h from {SHARED}: {error}")),
    }
}

/// Ends the build with one clear message unless a usable clang is there.
fn check_clang(clang: &str) {
    let install = "install it with: sudo apt-get install clang";
    let Ok(output) = Command::new(clang)
        .args(["-target", "bpf", "-dM", "-E", "-x", "c", "/dev/null"])
        .output()
    else {
        fail(&format!(
            "clang is needed to compile the eBPF program and was not found; {install}"
        ));
    };
    if !output.status.success() {
        fail(&format!(
            "`{clang}` cannot compile for the BPF target; {install}"
        ));
    }
    let macros = String::from_utf8_lossy(&output.stdout);
    let major = macros
        .lines()
        .find_map(|line| line.strip_prefix("#define __clang_major__ "))
        .and_then(|version| version.trim().parse::<u32>().ok());
    match major {
        Some(major) if major >= OLDEST_CLANG => {}
        Some(major) => fail(&format!(
            "clang {major} is too old to compile the eBPF program, {OLDEST_CLANG} or later is needed; {install}"
        )),
        None => fail(&format!("`{clang}` is not clang; {install}")),
    }
}

/// `frames`: see `FRAMES`.
fn compile(clang: &str, out: &Path, frames: u32) {
    let status = Command::new(clang)
        .args(["-target", "bpf", "-mcpu=v3", "-std=gnu11", "-O2", "-g"])
        .args(["-Wall", "-Wextra", "-Werror"])
        // No absolute path of the build machine in the program's debug data.
        .arg("-fdebug-compilation-dir=.")
        .arg(format!("-DFRAMES={frames}"))
        .arg("-I")
        .arg(out)
        .args(["-c", PROGRAM, "-o"])
        .arg(out.join(format!("walk-{frames}.bpf.o")))
        .status();
    match status {
        Ok(status) if status.success() => {}
        Ok(status) => fail(&format!("clang could not compile {PROGRAM} ({status})")),
        Err(error) => fail(&format!("cannot run `{clang}`: {error}")),
    }
}

fn fail(message: &str) -> ! {
    println!("cargo::error={message}");
    exit(1)
}
