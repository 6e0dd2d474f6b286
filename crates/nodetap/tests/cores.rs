//! `nodetap dump --core`: the core file of a process says of its stacks what a dump of
//! the process itself said before, and a damaged core file is told of.

mod common;

use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::Arc;

use common::call_sites::{CallSite, Dump, Thread, dump, mistake};
use common::core_file;
use common::matrix::{self, Node, Test};
use common::recording::Frame;
use common::target::Target;
use nodetap_profile::{Metadata, Profile};
use nodetap_sampler::core::{Core, snapshot};
use nodetap_sampler::target;
use nodetap_symbols::{Options, Symbolizer};
use tempfile::TempDir;

fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).expect("UTF-8")
}

fn folder() -> TempDir {
    tempfile::tempdir().expect("a temporary folder")
}

/// The dump of a core file, and what was noted.
fn dump_of(core: &Path, options: &[&str]) -> (Dump, String) {
    let output = core_file::nodetap(core, &[&["--json"], options].concat());
    let notes = text(&output.stderr).to_owned();
    assert!(output.status.success(), "{notes}");
    let dump = serde_json::from_slice(&output.stdout).expect("the JSON of a dump");
    (dump, notes)
}

fn assert_fails(output: &Output, lines: &[&str]) {
    let said: Vec<&str> = text(&output.stderr).lines().collect();
    assert_eq!(said, lines);
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(text(&output.stdout), "");
}

/// Where a thread begins. Any but the main thread may have gone on before all ended.
fn beginning(thread: &Thread) -> (u32, Vec<&str>) {
    let functions = thread.frames.iter().rev().take(3);
    (
        thread.tid,
        functions.map(|it| it.function.as_str()).collect(),
    )
}

/// What the core file of a stopped target says is what a dump said before.
fn check_same(live: &Dump, core: &Path, by_kernel: bool) {
    let (left, notes) = dump_of(core, &[]);
    match by_kernel {
        true => assert_eq!(notes, format!("note: thread {} got SIGQUIT\n", live.pid)),
        false => assert_eq!(notes, ""),
    }
    assert_eq!(
        (left.pid, &left.node, &left.v8),
        (live.pid, &live.node, &live.v8)
    );
    assert_eq!(left.command, live.command);
    assert_eq!(left.sampler, "core");
    assert_eq!(left.threads[0].frames, live.threads[0].frames);
    assert!(left.threads[0].complete);
    let tids = |dump: &Dump| -> Vec<u32> { dump.threads.iter().map(|it| it.tid).collect() };
    assert_eq!(tids(&left), tids(live));
    for (left, live) in left.threads.iter().zip(&live.threads) {
        // One that had only begun may have gone on.
        if live.frames.len() > 3 {
            assert_eq!(beginning(left), beginning(live));
            assert_eq!(left.complete, live.complete);
        }
    }
}

fn oracle(node: &Node, folder: &Path, arguments: &[&str]) -> (Target, Dump) {
    let script = match node.has_full_codegen() {
        true => "oracle_es5/main.js",
        false => "oracle/main.js",
    };
    let program = common::node(&node.version);
    let mut target = Target::start_in(folder, &program, script, arguments);
    let sites: Vec<CallSite> = serde_json::from_str(&target.line()).expect("call sites");
    // It may still be in what it told them by.
    let mut found = None;
    for _ in 0..50 {
        core_file::stop(&target);
        let dump = dump(&target);
        let js: Vec<&Frame> = dump.threads[0].js().collect();
        found = mistake(&js, &sites);
        if found.is_none() {
            return (target, dump);
        }
        core_file::go_on(&target);
    }
    panic!("{found:?}");
}

/// Where the program has stopped, as V8 says, is in its core file too.
fn same_stack(node: &Node, arguments: &[&str]) {
    let folder = folder();
    common::measure(|| {
        let (target, live) = oracle(node, folder.path(), arguments);
        let core = core_file::of_stopped(target, folder.path());
        check_same(&live, &core, core_file::kernel_writes_them());
        fs::remove_file(core).expect("remove");
    });
}

/// What gdb writes says the same.
fn same_by_gcore(node: &Node) {
    let folder = folder();
    common::measure(|| {
        let (target, live) = oracle(node, folder.path(), &["main", "kinds"]);
        let core = core_file::of_gcore(&target, folder.path());
        check_same(&live, &core, false);
    });
}

/// Every worker has its own V8.
fn workers(node: &Node) {
    let folder = folder();
    let program = common::node(&node.version);
    let target = Target::start_in(folder.path(), &program, "threads.js", &[]).wait_until_ready();
    let busy = |dump: &Dump| {
        let is_busy = |thread: &&Thread| thread.js().any(|it| it.function == "inEarlyWorker");
        dump.threads.iter().filter(is_busy).count()
    };
    core_file::wait_until(|| {
        core_file::stop(&target);
        let dump = dump(&target);
        let are_busy = busy(&dump) == 2;
        if !are_busy {
            core_file::go_on(&target);
        }
        are_busy
    });
    let core = core_file::of_stopped(target, folder.path());
    let (left, _) = dump_of(&core, &[]);
    assert_eq!(busy(&left), 2, "{left:#?}");
}

/// A program that ends itself leaves where it did.
fn aborted(node: &Node) {
    let folder = folder();
    let mut command = Command::new(common::node(&node.version));
    command.args([
        "-e",
        "function crash() { process.abort(); }\nfunction main() { crash(); }\nmain();",
    ]);
    command.current_dir(folder.path()).stderr(Stdio::null());
    let mut child = command.stdin(Stdio::piped()).spawn().expect("node");
    core_file::allow_core_file(child.id() as i32);
    let status = child.wait().expect("wait");
    if !core_file::kernel_writes_them() {
        return;
    }
    assert_eq!(
        std::os::unix::process::ExitStatusExt::signal(&status),
        Some(libc::SIGABRT)
    );
    let output = core_file::nodetap(&core_file::written_to(folder.path()), &[]);
    let pid = child.id();
    let notes = text(&output.stderr);
    assert_eq!(notes, format!("note: thread {pid} got SIGABRT\n"));
    let lines: Vec<&str> = text(&output.stdout).lines().collect();
    assert!(
        lines[0].starts_with(&format!("Process {pid}: ")),
        "{lines:#?}"
    );
    assert!(
        lines[2].starts_with(&format!("Thread {pid} \"")),
        "{lines:#?}"
    );
    let crash = lines.iter().position(|line| line.starts_with("  crash "));
    let crash = crash.unwrap_or_else(|| panic!("not in {lines:#?}"));
    assert!(lines[crash].contains(":1:28 ["), "{}", lines[crash]);
    assert!(
        lines[crash + 1].starts_with("  main "),
        "{}",
        lines[crash + 1]
    );
    assert!(lines[crash + 1].contains(":2:19 ["), "{}", lines[crash + 1]);
}

/// The program must be the one that left the core file, wherever it is.
fn executable(node: &Node) {
    let folder = folder();
    let program = common::node(&node.version);
    let moved = folder.path().join("node");
    common::copy_program(&program, &moved);
    let target = Target::start_in(folder.path(), &moved, "oracle/main.js", &["main", "kinds"]);
    let core = left_by(target, folder.path());
    let (there, notes) = dump_of(&core, &[]);
    // What files have need not be mentioned.
    forget_what_is_left_out(&core);
    assert_eq!(dump_of(&core, &[]), (there.clone(), notes));
    fs::remove_file(&moved).expect("remove");
    let (core_name, moved_name) = (core.display(), moved.display());
    assert_fails(
        &core_file::nodetap(&core, &[]),
        &[
            &format!(
                "error: {core_name} needs the program that left it: cannot read {moved_name}: No such file or directory"
            ),
            "hint: copy it from where the core file was written, and name it: --exe PATH",
        ],
    );
    let named = program.to_str().expect("UTF-8");
    let (elsewhere, _) = dump_of(&core, &["--exe", named]);
    let frames = |dump: &Dump| -> Vec<Vec<Frame>> {
        let frames = dump.threads.iter().map(|it| it.js().cloned().collect());
        frames.collect()
    };
    assert_eq!(frames(&elsewhere), frames(&there));

    let other = std::env::current_exe().expect("this test");
    for (path, is_named) in [(&other, true), (&moved, false)] {
        if !is_named {
            fs::copy(&other, &moved).expect("copy");
        }
        let option = path.to_str().expect("UTF-8");
        let options = ["--exe", option];
        assert_fails(
            &core_file::nodetap(&core, &options[..if is_named { 2 } else { 0 }]),
            &[
                &format!("error: {option} is not the program that left {core_name}"),
                &format!(
                    "hint: name the same build, that was {moved_name} where the core file was written: --exe PATH"
                ),
            ],
        );
    }
}

/// Leaves out the program headers of what is not in a core file, as gcore does.
fn forget_what_is_left_out(core: &Path) {
    let file = File::options().read(true).write(true).open(core);
    let file = file.expect("the core file");
    let mut header = [0; 64];
    file.read_exact_at(&mut header, 0).expect("its header");
    let count = u16::from_le_bytes([header[56], header[57]]);
    let mut forgotten = 0;
    for at in (0..u64::from(count)).map(|index| 64 + 56 * index) {
        let mut segment = [0; 56];
        file.read_exact_at(&mut segment, at).expect("a header");
        if segment[32..40] == [0; 8] {
            file.write_all_at(&[0; 4], at).expect("write");
            forgotten += 1;
        }
    }
    assert!(
        !core_file::kernel_writes_them() || forgotten > 5,
        "{forgotten}"
    );
}

/// Waits for the target's first line, and has it leave a core file.
fn left_by(mut target: Target, folder: &Path) -> PathBuf {
    target.line();
    core_file::stop(&target);
    core_file::of_stopped(target, folder)
}

/// What is no core file, or none that says anything, is told of.
fn not_a_core(_: &Node) {
    let folder = folder();
    let path = folder.path().join("file");
    let name = path.display();
    let fails = |line: &str, hint: Option<&str>| {
        let lines: Vec<&str> = std::iter::once(line).chain(hint).collect();
        assert_fails(&core_file::nodetap(&path, &[]), &lines);
    };
    fails(
        &format!("error: cannot read {name}: No such file or directory"),
        None,
    );
    let no_core = format!("error: {name} is no core file that can be read: ");
    for (bytes, reason) in [
        (&b""[..], "it is no ELF file"),
        (b"#!/bin/sh\n", "it is no ELF file"),
        (b"\x7fELF\x01\x01\x01\0", "it is of another kind of machine"),
    ] {
        fs::write(&path, bytes).expect("write");
        fails(&format!("{no_core}{reason}"), None);
    }
    fs::write(&path, b"\x28\xb5\x2f\xfd and so on").expect("write");
    let hint = format!("hint: unpack it: zstd -d {name}");
    fails(&format!("{no_core}it is packed by zstd"), Some(&hint));
    fs::copy("/bin/sleep", &path).expect("copy");
    fails(&format!("{no_core}it is a program or library"), None);
    fs::remove_file(&path).expect("remove");
    fs::create_dir(&path).expect("mkdir");
    fails(&format!("{no_core}it is no file"), None);

    let output = Command::new(env!("CARGO_BIN_EXE_nodetap"))
        .args(["dump", "--core", "x", "-p", "1"])
        .output()
        .expect("run");
    assert_eq!(output.status.code(), Some(2));
    assert!(text(&output.stderr).starts_with("error: "), "{output:?}");
}

/// A core file of something else, which is small.
fn of_sleep(folder: &Path, filter: &str) -> Option<(u32, PathBuf)> {
    if !core_file::kernel_writes_them() {
        return None;
    }
    let script = "echo $1 > /proc/self/coredump_filter; exec sleep 100";
    let mut command = Command::new("sh");
    command.args(["-c", script, "sh", filter]);
    let mut child = command.current_dir(folder).spawn().expect("sleep");
    core_file::allow_core_file(child.id() as i32);
    let asleep = format!("/proc/{}/wchan", child.id());
    core_file::wait_until(|| fs::read_to_string(&asleep).is_ok_and(|it| it.contains("nanosleep")));
    // SAFETY: a system call without pointers.
    unsafe { libc::kill(child.id() as i32, libc::SIGQUIT) };
    child.wait().expect("wait");
    Some((child.id(), core_file::written_to(folder)))
}

fn of_no_node(_: &Node) {
    let folder = folder();
    let Some((_, core)) = of_sleep(folder.path(), "0") else {
        return;
    };
    assert_fails(
        &core_file::nodetap(&core, &[]),
        &[
            &format!(
                "error: {} has nothing of its process's memory",
                core.display()
            ),
            "hint: where it was written, /proc/PID/coredump_filter said so: 0x33 is the default",
        ],
    );
    fs::remove_file(core).expect("remove");
    let (pid, core) = of_sleep(folder.path(), "0x33").expect("a core file");
    let name = core.display();
    let output = core_file::nodetap(&core, &[]);
    assert_fails(
        &output,
        &[&format!(
            "error: {name}: process {pid} (sleep) is not a Node.js process"
        )],
    );
    // As `ulimit -c` cuts it.
    let whole = fs::metadata(&core).expect("it").len();
    let file = File::options().write(true).open(&core).expect("it");
    for length in [whole - 1, whole / 2, 4096, 100] {
        file.set_len(length).expect("truncate");
        let output = core_file::nodetap(&core, &[]);
        let said = text(&output.stderr);
        let first = format!("error: {name} is cut short: {length} ");
        assert!(said.starts_with(&first), "{said}");
        assert!(
            said.ends_with("in a systemd unit LimitCORE=infinity\n"),
            "{said}"
        );
        assert_eq!(output.status.code(), Some(1));
    }
}

/// Numbers that are the same in each run.
struct Random(u64);

impl Random {
    fn below(&mut self, end: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % end
    }
}

/// All that can be asked of a core file; whatever is in it, that comes to an end.
fn ask(path: &Path) -> bool {
    let Ok(core) = Core::open(path, None) else {
        return false;
    };
    let core = Arc::new(core);
    core.missing_files();
    let Ok(target) = target::Target::of_core(&core) else {
        return false;
    };
    let mut symbolizer = Symbolizer::new(Options::default());
    symbolizer.attach(&target).expect("mappings");
    symbolizer.begin_batch(&target);
    let mut profile = Profile::new(Metadata::new("core", 0));
    for thread in snapshot(&core, &target).expect("threads").threads {
        let sample = thread.sample.expect("its stack");
        symbolizer.stacks(&target, [sample.as_ref()], &mut profile);
    }
    true
}

/// Whatever bytes of a core file are others, and wherever it ends: no panic.
fn damaged(
    path: &Path,
    places: &mut dyn FnMut(&mut Random) -> u64,
    rounds: u32,
    random: &mut Random,
) {
    let file = File::options()
        .read(true)
        .write(true)
        .open(path)
        .expect("it");
    for _ in 0..rounds {
        let mut changed = Vec::new();
        for _ in 0..=random.below(4) {
            let at = places(random);
            let mut byte = [0];
            if file.read_exact_at(&mut byte, at).is_err() {
                continue;
            }
            changed.push((at, byte));
            let other = match random.below(3) {
                0 => byte[0] ^ (1 << random.below(8)),
                1 => 0xff,
                _ => random.below(256) as u8,
            };
            file.write_all_at(&[other], at).expect("write");
        }
        ask(path);
        for (at, byte) in changed.into_iter().rev() {
            file.write_all_at(&byte, at).expect("write");
        }
    }
}

fn damaged_small(_: &Node) {
    let folder = folder();
    let Some((_, core)) = of_sleep(folder.path(), "0x33") else {
        return;
    };
    let length = fs::metadata(&core).expect("it").len();
    let mut random = Random(0x9e37_79b9_7f4a_7c15);
    // Its headers and notes come first.
    damaged(&core, &mut |random| random.below(8192), 2000, &mut random);
    damaged(&core, &mut |random| random.below(64), 500, &mut random);
    damaged(&core, &mut |random| random.below(length), 200, &mut random);
    let file = File::options().write(true).open(&core).expect("it");
    for length in (0..length).rev().step_by(211) {
        file.set_len(length).expect("truncate");
        assert!(!ask(&core));
    }
}

/// The same of Node.js, where there is more to be asked.
fn damaged_node(node: &Node) {
    let folder = folder();
    let (target, _) = oracle(node, folder.path(), &["main", "kinds"]);
    let pid = target.pid();
    let core = core_file::of_stopped(target, folder.path());
    assert!(ask(&core), "{pid}");
    let mut random = Random(0x2545_f491_4f6c_dd1d);
    damaged(&core, &mut |random| random.below(32 << 10), 15, &mut random);
    // The main thread's stack is the last of its memory.
    let length = fs::metadata(&core).expect("it").len();
    let stack = &mut |random: &mut Random| length - 8192 - random.below(24 << 10);
    damaged(&core, stack, 15, &mut random);
    let file = File::options().write(true).open(&core).expect("it");
    for part in (0..16).rev() {
        file.set_len(length / 16 * part).expect("truncate");
        assert!(!ask(&core));
    }
}

fn main() -> std::process::ExitCode {
    let cold = |node: &Node| same_stack(node, &["main", "kinds"]);
    let warm = |node: &Node| same_stack(node, &["main", "kinds", "--warm"]);
    let is_20 = |node: &Node| node.is_of("20.");
    let tests = [
        Test::new("core", 0, cold).seldom_if(|_| true),
        Test::new("core_warm", 0, warm).long(),
        Test::new("gcore", 0, same_by_gcore).long(),
        Test::new("workers", 12, workers).long(),
        Test::new("aborted", 4, aborted).seldom_if(|_| true),
        Test::new("executable", 20, executable).only_on(is_20),
        Test::new("not_a_core", 20, not_a_core).only_on(is_20),
        Test::new("of_no_node", 20, of_no_node).only_on(is_20),
        Test::new("damaged_small", 20, damaged_small).only_on(is_20),
        Test::new("damaged_node", 8, damaged_node).long(),
    ];
    matrix::main(tests)
}
