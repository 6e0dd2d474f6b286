//! What users with few rights, or few capabilities, may do, and what they are told where
//! they may not.

mod common;

use std::fs;
use std::io::{BufRead, BufReader};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Child, ChildStdin, Command, Output, Stdio};

use common::call_sites::Dump;
use tempfile::TempDir;

const VERSION: &str = "22.23.3";
const NOBODY: u32 = 65534;
const SUDO: &str = "run it as root: sudo nodetap …";

/// A folder that everybody may write to, with Node.js, the fixture and a nodetap in it that
/// everybody may run.
struct Place {
    folder: TempDir,
}

impl Place {
    /// To be called by one test at a time: a process that another one starts meanwhile has
    /// these files open for a moment, and what is open for writing cannot be executed.
    fn new() -> Place {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let open = fs::Permissions::from_mode(0o777);
        fs::set_permissions(folder.path(), open).expect("chmod");
        let place = Place { folder };
        fs::copy(env!("CARGO_BIN_EXE_nodetap"), place.path("nodetap")).expect("copy");
        fs::copy(common::node(VERSION), place.path("node")).expect("copy");
        let fixture = common::fixture("container.js");
        fs::copy(fixture, place.path("container.js")).expect("copy");
        place
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// The fixture, run by `user`: one thread waits, another one spins.
    fn start(&self, user: u32) -> Running {
        let mut command = Command::new("sh");
        command.args(["-c", r#"ulimit -t 120; exec "$@""#, "sh"]);
        command.args([self.path("node"), self.path("container.js")]);
        Running::start(command.uid(user).gid(user).current_dir("/"))
    }

    /// `nodetap` as nobody, who has these capabilities: `+bpf,+perfmon`.
    fn nodetap(&self, capabilities: &str, arguments: &[&str]) -> Command {
        let mut command = Command::new("setpriv");
        command.args(["--reuid=65534", "--regid=65534", "--clear-groups"]);
        if !capabilities.is_empty() {
            command.args(["--inh-caps", capabilities, "--ambient-caps", capabilities]);
        }
        command
            .arg(self.path("nodetap"))
            .args(arguments)
            .current_dir("/")
            .stdin(Stdio::null());
        command
    }

    fn run(&self, capabilities: &str, arguments: &[&str]) -> Output {
        let output = self.nodetap(capabilities, arguments).output();
        output.expect("cannot run nodetap")
    }

    /// Records process `pid`, which must have been seen spinning. Where there is little
    /// time to be had, it takes longer to see that.
    #[track_caller]
    fn record(&self, capabilities: &str, pid: &str) -> Output {
        for seconds in ["0.3", "2", "8"] {
            let output = self.run(capabilities, &["record", "-p", pid, "-d", seconds]);
            let told = lines(&output.stderr);
            assert!(output.status.success(), "{capabilities}: {told:?}");
            if String::from_utf8_lossy(&output.stdout).contains(" outer ") {
                return output;
            }
        }
        panic!("{capabilities}: no samples")
    }
}

/// A process that is killed when this is dropped.
struct Running {
    child: Child,
    /// Its main thread reads from it.
    _stdin: ChildStdin,
}

impl Running {
    /// Starts a program that says its number when it is ready.
    fn start(command: &mut Command) -> Running {
        let command = command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().expect("cannot start it");
        let mut line = String::new();
        let stdout = child.stdout.take().expect("piped");
        BufReader::new(stdout).read_line(&mut line).expect("read");
        assert_eq!(line.trim(), child.id().to_string());
        Running {
            _stdin: child.stdin.take().expect("piped"),
            child,
        }
    }

    fn pid(&self) -> String {
        self.child.id().to_string()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn lines(bytes: &[u8]) -> Vec<&str> {
    let text = std::str::from_utf8(bytes).expect("UTF-8");
    text.lines().collect()
}

#[track_caller]
fn assert_fails(output: &Output, expected: [&str; 2]) {
    assert_eq!(lines(&output.stderr), expected);
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(output.stdout, b"");
}

/// Whoever may use eBPF gets it; who may not, gets the other sampler, and is told what it
/// would take. `doctor` comes to the same conclusion.
#[test]
fn the_best_sampler_that_may_be() {
    let _alone = common::one_at_a_time();
    let place = Place::new();
    let target = place.start(NOBODY);
    let both = "CAP_BPF and CAP_PERFMON are missing";
    for (capabilities, missing) in [
        ("", Some(both)),
        ("+sys_ptrace", Some(both)),
        ("+bpf", Some("CAP_PERFMON is missing")),
        ("+perfmon", Some("CAP_BPF is missing")),
        ("+bpf,+perfmon", None),
        ("+bpf,+perfmon,+sys_ptrace", None),
    ] {
        let output = place.record(capabilities, &target.pid());
        let told = lines(&output.stderr);
        let doctor = place.run(capabilities, &["doctor"]);
        let doctor = String::from_utf8_lossy(&doctor.stdout).into_owned();
        match missing {
            None => {
                let [closing, _summary] = told[..] else {
                    panic!("{capabilities}: {told:?}")
                };
                assert!(closing.contains(" at 999 Hz (ebpf): "), "{closing}");
                assert!(doctor.contains("\nsampler: ebpf: "), "{doctor}");
            }
            Some(missing) => {
                let [closing, _summary, hint] = told[..] else {
                    panic!("{capabilities}: {told:?}")
                };
                assert!(closing.contains(" at 99 Hz (ptrace): "), "{closing}");
                let better = "hint: the eBPF sampler stops nothing and samples ten times as often";
                assert_eq!(hint, format!("{better}: {SUDO}"));
                let conclusion = format!(
                    "\nsampler: ptrace: for eBPF, which stops nothing, {missing}\nto improve it: \
                     {SUDO}\n"
                );
                assert!(doctor.contains(&conclusion), "{doctor}");
                let ebpf = ["record", "--sampler", "ebpf", "-p", &target.pid()];
                assert_fails(
                    &place.run(capabilities, &ebpf),
                    [
                        &format!("error: no permission to use eBPF: {missing}"),
                        &format!("hint: {SUDO}"),
                    ],
                );
            }
        }
    }
}

#[test]
fn another_users_process() {
    let _alone = common::one_at_a_time();
    let place = Place::new();
    let target = place.start(0);
    let pid = target.pid();
    let node = place.path("node").display().to_string();
    let error = format!("error: no permission to read the memory of process {pid} ({node})");
    let belongs = format!("{error}: it belongs to root");
    let hint = format!("hint: {SUDO}");
    for capabilities in ["", "+bpf,+perfmon"] {
        for command in ["dump", "record"] {
            let output = place.run(capabilities, &[command, "-p", &pid]);
            assert_fails(&output, [&belongs, &hint]);
        }
    }
    let alone = format!("{belongs}, and CAP_SYS_PTRACE alone does not open its memory");
    for command in ["dump", "record"] {
        let output = place.run("+sys_ptrace", &[command, "-p", &pid]);
        assert_fails(&output, [&alone, &hint]);
    }

    // `ps` has the same to say.
    let output = place.run("", &["ps"]);
    let table = lines(&output.stdout);
    let line = table
        .iter()
        .find(|line| line.split_whitespace().next() == Some(&pid));
    let line = line.unwrap_or_else(|| panic!("not listed: {table:#?}"));
    assert!(line.contains("  no: belongs to root  "), "{line}");
    assert!(lines(&output.stderr).contains(&&*hint), "{output:?}");

    // With both it may.
    let all = "+sys_ptrace,+dac_read_search,+bpf,+perfmon";
    let output = place.run(all, &["dump", "-p", &pid]);
    assert!(output.status.success(), "{:?}", lines(&output.stderr));
    let output = place.record(all, &pid);
    let told = lines(&output.stderr);
    assert!(told[0].contains(" (ebpf): "), "{told:?}");
}

/// A server that root has started, and that has become nobody since.
#[test]
fn a_process_that_has_changed_its_user() {
    let _alone = common::one_at_a_time();
    let place = Place::new();
    let script = "process.setgroups([]); process.setgid(65534); process.setuid(65534); \
                  console.log(process.pid); setInterval(() => {}, 1000)";
    let target = Running::start(Command::new(place.path("node")).args(["-e", script]));
    let pid = target.pid();
    let node = place.path("node").display().to_string();
    assert_fails(
        &place.run("", &["dump", "-p", &pid]),
        [
            &format!(
                "error: no permission to read the memory of process {pid} ({node}): it is \
                 protected, being setuid, having changed its user, or running a program that may \
                 not be read"
            ),
            &format!("hint: {SUDO}"),
        ],
    );
    let by_root = Command::new(place.path("nodetap"))
        .args(["dump", "-p", &pid])
        .output()
        .expect("run");
    assert!(by_root.status.success(), "{:?}", lines(&by_root.stderr));
}

#[test]
fn a_process_that_proc_hides() {
    let _alone = common::one_at_a_time();
    let place = Place::new();
    let target = place.start(0);
    let pid = target.pid();
    let script = r#"
        mount -t proc -o hidepid=2 proc /proc
        exec setpriv --reuid=65534 --regid=65534 --clear-groups "$@"
    "#;
    let output = Command::new("unshare")
        .args(["--mount", "sh", "-ec", script, "sh"])
        .arg(place.path("nodetap"))
        .args(["dump", "-p", &pid])
        .current_dir("/")
        .output()
        .expect("unshare");
    assert_fails(
        &output,
        [
            &format!(
                "error: cannot see process {pid}: /proc shows this user's own processes only \
                 (hidepid)"
            ),
            &format!("hint: {SUDO}"),
        ],
    );
}

/// Somebody starts a program in his shell, and asks what it does.
#[test]
fn nobody_dumps_his_own_child() {
    let _alone = common::one_at_a_time();
    let place = Place::new();
    // It may take a moment until the other thread spins.
    let script = r#"
        ulimit -t 120
        mkfifo in
        exec 3<>in
        ./node container.js <&3 >out &
        trap 'kill $!' EXIT
        until [ -s out ]; do sleep 0.05; done
        for attempt in 1 2 3 4 5 6 7 8 9 10; do
            ./nodetap dump --json -p $! >dump.json
            if grep -q '"outer"' dump.json; then break; fi
            sleep 0.1
        done
        cat out dump.json
    "#;
    let output = Command::new("sh")
        .args(["-ec", script])
        .uid(NOBODY)
        .gid(NOBODY)
        .current_dir(place.folder.path())
        .output()
        .expect("sh");
    assert_eq!(lines(&output.stderr), [""; 0]);
    let text = String::from_utf8_lossy(&output.stdout);
    let (pid, json) = text.split_once('\n').expect("a line");
    let dump: Dump = serde_json::from_str(json).expect("the JSON of a dump");
    assert_eq!(dump.pid.to_string(), pid);
    let functions = |index: usize| -> Vec<&str> {
        let js = dump.threads[index].js();
        js.map(|frame| frame.function.as_str()).collect()
    };
    assert_eq!(functions(0)[..2], ["readSync", "blocked"]);
    let spinning = (0..dump.threads.len()).filter(|&index| functions(index).contains(&"outer"));
    assert_eq!(spinning.count(), 1);
    assert!(dump.threads.iter().all(|thread| thread.complete));
}
