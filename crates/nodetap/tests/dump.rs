//! `nodetap dump` against what is true: V8's own call sites, the place where a program
//! waits, and what is left of the process afterwards, namely all of it.

mod common;

use std::fs;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use common::call_sites::{CallSite, Dump, Thread, dump, mistake};
use common::matrix::{self, Node, Test};
use common::recording::Frame;
use common::target::Target;

/// The thread that has a JavaScript frame of this function.
fn thread_in<'a>(dump: &'a Dump, function: &str) -> &'a Thread {
    let is_in = |thread: &&Thread| thread.js().any(|frame| frame.function == function);
    let found = dump.threads.iter().find(is_in);
    found.unwrap_or_else(|| panic!("no thread is in {function}: {dump:#?}"))
}

fn nodetap(pid: u32, options: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_nodetap"));
    command.args(["dump", "-p", &pid.to_string()]).args(options);
    command.stdin(Stdio::null());
    command
}

fn run(pid: u32, options: &[&str]) -> Output {
    nodetap(pid, options).output().expect("cannot run nodetap")
}

fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).expect("UTF-8")
}

/// A field of `/proc/PID/status`.
fn status(pid: u32, field: &str) -> String {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).expect("it runs");
    let value = status.lines().find_map(|line| line.strip_prefix(field));
    value.expect(field).trim().to_owned()
}

fn send(pid: u32, signal: i32) {
    // SAFETY: a system call without pointers.
    let sent = unsafe { libc::kill(pid as i32, signal) };
    assert_eq!(sent, 0, "kill");
}

/// Ten dumps of a spinning program show V8's own call sites, each of them exactly.
fn oracle(node: &Node, arguments: &[&str]) {
    common::measure(|| {
        let _alone = common::one_at_a_time();
        let mut target = Target::start(&node.version, &[], "oracle/main.js", arguments);
        let sites: Vec<CallSite> = serde_json::from_str(&target.line()).expect("call sites");
        for _ in 0..10 {
            let dump = dump(&target);
            let thread = &dump.threads[0];
            assert_eq!(thread.tid, target.pid());
            assert!(thread.complete, "{thread:#?}");
            let js: Vec<&Frame> = thread.js().collect();
            assert_eq!(mistake(&js, &sites), None);
        }
    });
}

/// What a program waits in is on the right thread's stack, which is whole, and the
/// program goes on where it was.
fn waits(node: &Node, how: &str, function: &str, callers: &[&str], native: &[&str]) {
    waits_with(node, &[how], function, callers, native);
}

fn waits_with(node: &Node, how: &[&str], function: &str, callers: &[&str], native: &[&str]) {
    let mut target = waiting_with(node, how);
    let how = how[0];
    for _ in 0..3 {
        let dump = dump(&target);
        assert_eq!(dump.pid, target.pid());
        assert_eq!(dump.node, format!("v{}", node.version));
        assert_eq!(dump.sampler, "ptrace");
        let mut tids: Vec<u32> = dump.threads.iter().map(|thread| thread.tid).collect();
        tids.sort_unstable();
        let mut alive = target.threads();
        alive.sort_unstable();
        assert_eq!(tids, alive);
        for thread in &dump.threads {
            assert!(thread.complete, "{thread:#?}");
        }
        let thread = thread_in(&dump, function);
        assert_eq!(thread.tid == target.pid(), how != "worker", "{how}");
        let js: Vec<&str> = thread.js().map(|frame| frame.function.as_str()).collect();
        let at = js.iter().position(|&name| name == function).expect("it");
        assert_eq!(js[at + 1..][..callers.len()], *callers, "{js:?}");
        let waiting = thread.js().nth(at).expect("it");
        assert_eq!(waiting.line, waiting.function_line, "{waiting}");
        let top = thread.frames.iter().take_while(|frame| !frame.is_js());
        let top: Vec<&str> = top.map(|frame| frame.function.as_str()).collect();
        for name in native {
            assert!(top.iter().any(|top| top.contains(name)), "{name}: {top:?}");
        }
    }
    target.tell("go on");
    assert_eq!(target.line(), "went on");
}

/// An addon of native code without frame pointers waits, and a thread of its own too.
fn waits_in_addon(node: &Node) {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let addon = folder.path().join("waits.node");
    let status = Command::new("clang")
        .args([
            "-shared",
            "-fPIC",
            "-O2",
            "-fomit-frame-pointer",
            "-pthread",
            "-o",
        ])
        .arg(&addon)
        .arg(common::fixture("waits.c"))
        .status()
        .expect("cannot run clang");
    assert!(status.success(), "{status}");
    let how = ["addon", addon.to_str().expect("UTF-8")];
    let native = ["wait_for_cell", "wait_for_line"];
    waits_with(node, &how, "addon", &["asked", "addon"], &native);
}

/// A loop that never ends, while it is interpreted and when it has been optimized.
fn endless_loop(node: &Node) {
    // What each keeps V8 from doing to it.
    let mut interpreted = vec!["--no-opt"];
    interpreted.extend((node.major() >= 16).then_some("--no-sparkplug"));
    interpreted.extend((node.major() >= 22).then_some("--no-maglev"));
    for (flags, tiers) in [
        (&interpreted[..], &["interpreted"][..]),
        (&[], &["maglev", "optimized"]),
    ] {
        let target = Target::start(&node.version, flags, "waits.js", &["loop"]).wait_until_ready();
        let deadline = Instant::now() + Duration::from_secs(20);
        loop {
            let dump = dump(&target);
            let main = &dump.threads[0];
            assert!(main.complete, "{main:#?}");
            let js: Vec<&Frame> = main.js().collect();
            // It may not have got there yet.
            let is_there = js[0].function == "loop";
            if is_there {
                let functions = js.iter().map(|frame| frame.function.as_str());
                let functions: Vec<&str> = functions.take(3).collect();
                assert_eq!(functions, ["loop", "asked", "loop"]);
                assert_eq!(js[0].line, js[0].function_line, "{}", js[0]);
            }
            if is_there && tiers.contains(&js[0].tier.as_deref().expect("a tier")) {
                break;
            }
            assert!(Instant::now() < deadline, "never {tiers:?}: {main:#?}");
            sleep(Duration::from_millis(20));
        }
    }
}

/// Starts the fixture and gives it the time to get where it waits.
fn waiting(node: &Node, how: &str) -> Target {
    waiting_with(node, &[how])
}

fn waiting_with(node: &Node, how: &[&str]) -> Target {
    let target = Target::start(&node.version, &[], "waits.js", how).wait_until_ready();
    let deadline = Instant::now() + Duration::from_secs(10);
    let runs = |tid: u32| {
        let stat = fs::read_to_string(format!("/proc/{}/task/{tid}/stat", target.pid()));
        stat.is_ok_and(|stat| stat.contains(") R "))
    };
    // All asleep, twice in a row.
    let mut asleep = 0;
    while asleep < 2 {
        asleep = match target.threads().into_iter().any(runs) {
            true => 0,
            false => asleep + 1,
        };
        assert!(Instant::now() < deadline, "it does not come to rest");
        sleep(Duration::from_millis(20));
    }
    target
}

/// A process that has nothing to do waits in its event loop.
fn idle(node: &Node) {
    let mut target = waiting(node, "idle");
    let dump = dump(&target);
    let main = &dump.threads[0];
    assert!(main.complete, "{main:#?}");
    assert_eq!(main.js().count(), 0, "{main:#?}");
    let functions: Vec<&str> = main.frames.iter().map(|it| it.function.as_str()).collect();
    for function in ["uv__io_poll", "uv_run", "node::Start"] {
        assert!(functions.contains(&function), "{function}: {functions:?}");
    }
    target.tell("go on");
    assert_eq!(target.line(), "went on");
}

/// Not one signal is lost that arrives while a target is dumped, and one that is already
/// waiting to be taken is neither.
fn signals(node: &Node) {
    let mut target = waiting(node, "idle");
    let mut dumps = 0;
    let mut running = nodetap(target.pid(), &["--json"]);
    let running = running.stdout(Stdio::null());
    while dumps < 8 {
        let mut nodetap = running.spawn().expect("cannot run nodetap");
        while nodetap.try_wait().expect("wait").is_none() {
            send(target.pid(), libc::SIGUSR2);
            assert_eq!(target.line(), "signal");
        }
        assert!(nodetap.wait().expect("wait").success());
        dumps += 1;
    }
    target.tell("go on");
    assert_eq!(target.line(), "went on");
}

/// A process that somebody has stopped is dumped as well, and stays stopped.
fn paused(node: &Node) {
    let mut target = waiting(node, "read");
    send(target.pid(), libc::SIGSTOP);
    while !status(target.pid(), "State:").starts_with('T') {
        sleep(Duration::from_millis(1));
    }
    let first = dump(&target);
    assert!(status(target.pid(), "State:").starts_with('T'));
    let second = dump(&target);
    assert!(status(target.pid(), "State:").starts_with('T'));
    assert_eq!(first, second);
    thread_in(&first, "read");
    send(target.pid(), libc::SIGCONT);
    target.tell("go on");
    assert_eq!(target.line(), "went on");
}

/// nodetap may be killed at any moment, at that one too when it holds all threads.
fn killed(node: &Node) {
    let mut target = waiting(node, "read");
    let pid = target.pid();
    let traced = || status(pid, "TracerPid:") != "0";
    let mut caught = 0;
    for _ in 0..200 {
        let mut command = nodetap(pid, &["--json"]);
        let mut nodetap = command.stdout(Stdio::null()).spawn().expect("run");
        let mut held = false;
        while !held && nodetap.try_wait().expect("wait").is_none() {
            held = traced();
        }
        nodetap.kill().expect("kill");
        nodetap.wait().expect("wait");
        assert!(!traced());
        caught += u32::from(held);
        if caught == 3 {
            break;
        }
    }
    assert_eq!(caught, 3, "nodetap was never seen holding its target");
    target.tell("go on");
    assert_eq!(target.line(), "went on");
}

/// Threads that come and go meanwhile are no trouble.
fn coming_and_going(node: &Node) {
    let _alone = common::one_at_a_time();
    let mut target = Target::start(&node.version, &[], "threads.js", &[]).wait_until_ready();
    thread_in(&dump(&target), "inEarlyWorker");
    target.tell("more");
    for _ in 0..5 {
        let dump = dump(&target);
        assert_eq!(dump.threads[0].tid, target.pid());
    }
    thread_in(&dump(&target), "inLateWorker");
}

/// The text says what the JSON says.
fn as_text(node: &Node) {
    let target = waiting(node, "read");
    let output = run(target.pid(), &[]);
    assert_eq!(text(&output.stderr), "");
    let lines: Vec<&str> = text(&output.stdout).lines().collect();
    let (pid, version) = (target.pid(), &node.version);
    assert!(
        lines[0].starts_with(&format!("Process {pid}: "))
            && lines[0].contains(&format!("waits.js read (Node.js v{version}, V8 ")),
        "{}",
        lines[0]
    );
    assert_eq!(lines[1], "");
    assert!(
        lines[2].starts_with(&format!("Thread {pid} \"")),
        "{lines:?}"
    );
    assert!(lines[2].ends_with("\" (main thread)"), "{lines:?}");
    let dump = dump(&target);
    let frames = thread_in(&dump, "read").frames.len();
    let read = lines.iter().find(|line| line.starts_with("  read /"));
    let read = read.expect("where it reads");
    assert!(read.contains("/waits.js:16:29 ["), "{read}");
    assert_eq!(lines[3 + frames], "", "a line for each frame");

    // Whoever reads it may stop reading.
    let script = format!(
        "{} dump -p {pid} | true; exec {} dump -p {pid} >&-",
        env!("CARGO_BIN_EXE_nodetap"),
        env!("CARGO_BIN_EXE_nodetap")
    );
    let output = Command::new("sh")
        .args(["-c", &script])
        .output()
        .expect("sh");
    let said = text(&output.stderr);
    assert!(
        said.lines()
            .all(|line| line.starts_with("error: cannot write to stdout: ")),
        "{said}"
    );
}

fn assert_fails(output: &Output, lines: &[&str]) {
    let said: Vec<&str> = text(&output.stderr).lines().collect();
    assert_eq!(said, lines);
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(text(&output.stdout), "");
}

/// A process has one tracer at most.
fn already_traced(node: &Node) {
    let mut target = waiting(node, "read");
    let pid = target.pid();
    // SAFETY: a request without memory.
    let seized = unsafe { libc::ptrace(libc::PTRACE_SEIZE, pid as i32, 0, 0) };
    assert_eq!(seized, 0, "{}", std::io::Error::last_os_error());
    let own = std::process::id();
    let name = fs::read_to_string(format!("/proc/{own}/comm")).expect("comm");
    let name = name.trim_end();
    assert_fails(
        &run(pid, &[]),
        &[
            &format!("error: process {pid} is already traced by process {own} ({name})"),
            "hint: end the debugger or strace that has it, and try again",
        ],
    );
    target.tell("go on");
    assert_eq!(target.line(), "went on");
}

/// Somebody without rights is told so, and the process is left alone.
fn not_ours(node: &Node) {
    let target = waiting(node, "read");
    let pid = target.pid();
    let folder = tempfile::tempdir().expect("a temporary folder");
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    fs::set_permissions(folder.path(), mode).expect("chmod");
    let copy = folder.path().join("nodetap");
    common::copy_program(Path::new(env!("CARGO_BIN_EXE_nodetap")), &copy);
    let mut command = Command::new(&copy);
    command.args(["dump", "-p", &pid.to_string()]);
    command.uid(65534).gid(65534).current_dir("/");
    let program = common::node(&node.version);
    let program: String = program.display().to_string().chars().take(60).collect();
    assert_fails(
        &command.output().expect("run"),
        &[
            &format!(
                "error: no permission to read the memory of process {pid} ({program}): it belongs to root"
            ),
            "hint: run it as root: sudo nodetap …",
        ],
    );
    assert_eq!(status(pid, "TracerPid:"), "0");
}

/// A target that ends meanwhile is told of in one line, or was dumped before it did.
fn ending(node: &Node) {
    for step in 0..40 {
        let target = waiting(node, "read");
        let pid = target.pid();
        let mut command = nodetap(pid, &[]);
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        let nodetap = command.spawn().expect("run");
        sleep(Duration::from_millis(step * 2));
        drop(target);
        let output = nodetap.wait_with_output().expect("wait");
        let said = text(&output.stderr);
        match output.status.code() {
            Some(0) => assert_eq!(said, ""),
            Some(1) => {
                let first = said.lines().next().unwrap_or_default();
                assert!(
                    first == format!("error: there is no process {pid}")
                        || first == format!("error: process {pid} has ended"),
                    "{said}"
                );
            }
            other => panic!("{other:?}: {said}"),
        }
    }
}

fn main() -> std::process::ExitCode {
    let always = ["oracle_cold", "oracle_warm", "waits_read"];
    let cold = |node: &Node| oracle(node, &["main", "kinds"]);
    let warm = |node: &Node| oracle(node, &["main", "kinds", "--warm"]);
    let deep = |node: &Node| oracle(node, &["timeout", "recurse"]);
    let read = |node: &Node| {
        // Before Node.js 9.3 the function had no namespace.
        let native = if node.major() < 10 {
            "node::Read"
        } else {
            "node::fs::Read"
        };
        waits(node, "read", "read", &["asked", "read"], &[native]);
    };
    let exec = |node: &Node| {
        let spawn = ["node::SyncProcessRunner::Spawn", "uv_run"];
        waits(node, "exec", "exec", &["asked", "exec"], &spawn);
    };
    let atomics = |node: &Node| {
        let wait = ["v8::internal::FutexEmulation::Wait"];
        waits(
            node,
            "atomics",
            "atomics",
            &["asked", "listOnTimeout"],
            &wait,
        );
    };
    let worker = |node: &Node| waits(node, "worker", "read", &["asked"], &["node::fs::Read"]);
    let tests = [
        Test::new("oracle_cold", 16, cold),
        Test::new("oracle_warm", 16, warm),
        Test::new("oracle_deep", 16, deep),
        Test::new("waits_read", 12, read),
        Test::new("waits_exec", 12, exec),
        Test::new("waits_atomics", 12, atomics),
        Test::new("waits_worker", 12, worker),
        Test::new("waits_in_addon", 12, waits_in_addon),
        Test::new("endless_loop", 12, endless_loop),
        Test::new("idle", 12, idle),
        Test::new("signals", 12, signals),
        Test::new("paused", 12, paused),
        Test::new("killed", 12, killed),
        Test::new("coming_and_going", 12, coming_and_going),
        Test::new("as_text", 12, as_text),
        Test::new("already_traced", 12, already_traced),
        Test::new("not_ours", 12, not_ours),
        Test::new("ending", 12, ending),
    ];
    let earlier = [
        Test::new("oracle_cold", 8, cold).before(16),
        Test::new("oracle_warm", 8, warm).before(16),
        Test::new("oracle_deep", 8, deep).before(16),
        Test::new("waits_read", 8, read).before(12),
        Test::new("waits_exec", 8, exec).before(12),
        Test::new("idle", 8, idle).before(12),
        Test::new("signals", 8, signals).before(12),
        Test::new("paused", 8, paused).before(12),
        Test::new("as_text", 8, as_text).before(12),
    ];
    let tests = tests.map(|test| test.seldom_if(|name| !always.contains(&name)));
    matrix::main(tests.into_iter().chain(earlier.map(Test::long)))
}
