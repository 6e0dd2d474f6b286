//! Processes in namespaces of their own, as containers have them: seen from the host, and
//! from beside them. Their binaries are where nobody else has them.

mod common;

use std::ffi::OsString;
use std::fs;
use std::io::{BufRead, BufReader};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Output, Stdio};
use std::time::{Duration, Instant};

use common::call_sites::{Dump, Thread};
use common::recording::{Frame, Recording};
use tempfile::TempDir;

const VERSION: &str = "24.21.0";
const NOBODY: u32 = 65534;

/// A root of its own, on a file system that nobody else has mounted, and in it the libraries
/// in a place of their own. `$2`: which number the process gets inside; by default 1.
const OWN_ROOT: &str = r#"
set -e
ulimit -t 120
cd "$1"
mount -t tmpfs tmpfs root
cd root
mkdir -p opt/app lib64 proc old dev
touch dev/null
mount --bind /dev/null dev/null
cp -r ../files/* opt/app
mv opt/app/ld lib64/ld-linux-x86-64.so.2
mount -t proc proc proc
pivot_root . old
export LD_LIBRARY_PATH=/opt/app/lib
if [ -z "$2" ]; then exec /opt/app/node /opt/app/container.js; fi
exec 3<&0
echo $(($2 - 1)) > /proc/sys/kernel/ns_last_pid
/opt/app/node /opt/app/container.js <&3 &
wait
"#;

/// The host's own root, but for the folder with the binaries: what the host has under the
/// same paths is something else.
const OTHER_MOUNTS: &str = r#"
set -e
ulimit -t 120
mount -t tmpfs tmpfs "$1/decoys"
cp -r "$1"/files/* "$1/decoys"
export LD_LIBRARY_PATH="$1/decoys/lib"
exec "$1/decoys/node" "$1/decoys/container.js"
"#;

/// What containers are made of, and a nodetap that everybody may run.
struct Place {
    folder: TempDir,
}

impl Place {
    fn new() -> Place {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let place = Place { folder };
        for folder in ["", "files/lib", "decoys/lib", "root"] {
            fs::create_dir_all(place.path(folder)).expect("mkdir");
            // Nobody is to mount things there, too.
            let open = fs::Permissions::from_mode(0o777);
            fs::set_permissions(place.path(folder), open).expect("chmod");
        }
        let copy = |from: &Path, to: &str| {
            let to = place.path(to);
            let from = from.canonicalize().expect("it is there");
            let linked = fs::hard_link(&from, &to);
            linked
                .or_else(|_| fs::copy(&from, &to).map(drop))
                .expect("copy");
        };
        let node = common::node(VERSION);
        copy(Path::new(env!("CARGO_BIN_EXE_nodetap")), "nodetap");
        copy(&node, "files/node");
        copy(&common::fixture("container.js"), "files/container.js");
        let ldd = Command::new("ldd").arg(&node).output().expect("ldd");
        for line in String::from_utf8_lossy(&ldd.stdout).lines() {
            let mut words = line.split_whitespace();
            match (words.next(), words.next(), words.next()) {
                (Some(name), Some("=>"), Some(path)) => {
                    copy(Path::new(path), &format!("files/lib/{name}"));
                }
                (Some(loader), ..) if loader.starts_with('/') => {
                    copy(Path::new(loader), "files/ld");
                }
                _ => {}
            }
        }
        copy(Path::new("/bin/sleep"), "decoys/node");
        copy(&place.path("files/lib/libm.so.6"), "decoys/lib/libc.so.6");
        place
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// `nodetap` as it is run on the host.
    fn on_host(&self) -> Nodetap {
        Nodetap::by(&[], self)
    }
}

/// How nodetap is called.
struct Nodetap(Vec<OsString>);

impl Nodetap {
    /// By a command that comes before it.
    fn by(command: &[&str], place: &Place) -> Nodetap {
        let command = command.iter().map(OsString::from);
        Nodetap(command.chain([place.path("nodetap").into()]).collect())
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(&self.0[0]);
        command
            .args(&self.0[1..])
            .args(arguments)
            .current_dir("/")
            .stdin(Stdio::null());
        command
    }

    fn run(&self, arguments: &[&str]) -> Output {
        self.command(arguments).output().expect("cannot run it")
    }

    /// What it prints, where it must not fail.
    fn stdout(&self, arguments: &[&str]) -> Vec<u8> {
        let output = self.run(arguments);
        assert!(output.status.success(), "{:?}", lines(&output.stderr));
        output.stdout
    }

    fn assert_fails(&self, arguments: &[&str], expected: &[&str]) {
        let output = self.run(arguments);
        assert_eq!(lines(&output.stderr), expected, "{arguments:?}");
        assert_eq!(output.status.code(), Some(1));
        assert_eq!(output.stdout, b"");
    }
}

fn lines(bytes: &[u8]) -> Vec<&str> {
    let text = std::str::from_utf8(bytes).expect("UTF-8");
    text.lines().collect()
}

/// The fixture in namespaces of its own.
struct Container {
    unshare: Child,
    /// The main thread reads from it.
    _stdin: ChildStdin,
    /// Its number on the host.
    pid: u32,
    /// Its number inside.
    inner: u32,
    /// Where it has its files, as it sees that itself.
    app: String,
}

impl Container {
    fn start(place: &Place, script: &str) -> Container {
        let unshare = Command::new("unshare");
        Container::start_by(unshare, place, script, "")
    }

    /// The same, started by `unshare`, with a number for the process.
    fn start_by(mut unshare: Command, place: &Place, script: &str, number: &str) -> Container {
        let mut unshare = unshare
            .args(["--pid", "--mount", "--fork", "--kill-child"])
            .args(["sh", "-c", script, "sh"])
            .arg(place.folder.path())
            .arg(number)
            .current_dir("/")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("unshare");
        let mut line = String::new();
        let stdout = unshare.stdout.take().expect("piped");
        BufReader::new(stdout).read_line(&mut line).expect("read");
        let inner = line.trim().parse().expect("the number of the process");
        let mut container = Container {
            _stdin: unshare.stdin.take().expect("piped"),
            pid: 0,
            inner,
            app: match script == OWN_ROOT {
                true => "/opt/app".to_owned(),
                false => place.path("decoys").display().to_string(),
            },
            unshare,
        };
        container.pid = container.find();
        container
    }

    /// Its number on the host: that of the descendant with the right number inside.
    fn find(&self) -> u32 {
        let mut processes = vec![self.unshare.id()];
        while let Some(pid) = processes.pop() {
            let status = fs::read_to_string(format!("/proc/{pid}/status")).expect("status");
            let numbers = status.lines().find_map(|line| line.strip_prefix("NSpid:"));
            let inner: Vec<&str> = numbers.expect("NSpid").split_whitespace().collect();
            if inner.len() > 1 && inner.last() == Some(&&*self.inner.to_string()) {
                return pid;
            }
            let kids = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children"));
            let kids = kids.expect("children");
            processes.extend(
                kids.split_whitespace()
                    .map(|kid| -> u32 { kid.parse().expect("a number") }),
            );
        }
        panic!("no process is {} inside", self.inner)
    }

    /// nodetap in the same PID namespace, but with the host's files.
    fn beside(&self, place: &Place) -> Nodetap {
        self.beside_by(&[], &[], place)
    }

    /// The same with more namespaces that are the container's, and by a command.
    fn beside_by(&self, namespaces: &[&str], command: &[&str], place: &Place) -> Nodetap {
        let pid = self.pid.to_string();
        let enter = ["nsenter", "--target", &pid, "--pid"];
        let unshare = ["--", "unshare", "--mount", "--mount-proc"];
        Nodetap::by(&[&enter, namespaces, &unshare, command].concat(), place)
    }

    /// Fails unless a dump by `nodetap`, to which the process is `pid`, is right.
    #[track_caller]
    fn assert_dump(&self, nodetap: &Nodetap, pid: u32) {
        let deadline = Instant::now() + Duration::from_secs(10);
        loop {
            let json = nodetap.stdout(&["dump", "--json", "-p", &pid.to_string()]);
            let dump: Dump = serde_json::from_slice(&json).expect("the JSON of a dump");
            match self.mistake(&dump, pid) {
                None => return,
                // It takes some time until both threads are where they stay.
                Some(_) if Instant::now() < deadline => {}
                Some(mistake) => panic!("{mistake}: {dump:#?}"),
            }
        }
    }

    fn mistake(&self, dump: &Dump, pid: u32) -> Option<&'static str> {
        let script = format!("{}/container.js", self.app);
        if dump.pid != pid || dump.node != format!("v{VERSION}") || dump.command[1] != script {
            return Some("another process");
        }
        let main = &dump.threads[0];
        let functions: Vec<&str> = main.frames.iter().map(|it| it.function.as_str()).collect();
        let file = |index: usize| main.frames[index].file.as_deref();
        let libc = format!("{}/lib/libc.so.6", self.app);
        if main.tid != pid || functions[0] != "read" || file(0) != Some(&libc) {
            return Some("the main thread does not wait in its own C library's read()");
        }
        if !main.complete || !functions.contains(&"uv_fs_read") {
            return Some("the binary's symbols are not there");
        }
        let mut own = main
            .js()
            .filter(|frame| frame.file.as_ref() == Some(&script));
        if own.next().is_none_or(|frame| frame.function != "blocked") {
            return Some("the main thread is not in blocked()");
        }
        let in_outer =
            |frame: &Frame| frame.function == "outer" && frame.file.as_ref() == Some(&script);
        let worker = |thread: &Thread| thread.js().any(in_outer);
        match dump
            .threads
            .iter()
            .any(|thread| thread.complete && worker(thread))
        {
            true => None,
            false => Some("no thread is in outer()"),
        }
    }

    /// Fails unless a recording by `nodetap` is right.
    #[track_caller]
    fn assert_recording(&self, nodetap: &Nodetap, pid: u32, options: &[&str], sampler: &str) {
        // Where there is little time to be had, it takes longer to get some samples.
        for seconds in ["0.5", "2", "8"] {
            let arguments = ["record", "-p", &pid.to_string(), "-d", seconds];
            let json = ["-f", "json", "--native"];
            let json = nodetap.stdout(&[&arguments[..], &json, options].concat());
            let recording: Recording = serde_json::from_slice(&json).expect("JSON");
            assert_eq!(recording.sampler, sampler);
            assert_eq!(recording.processes.len(), 1);
            assert_eq!(recording.processes[0].pid, pid);
            let (right, all) = self.right_samples(&recording);
            if all > 5 {
                assert!(right * 10 >= all * 8, "{right} of {all}");
                return;
            }
        }
        panic!("hardly any samples");
    }

    /// How many samples are of the thread that spins, with its JavaScript and the C++
    /// that has called it; of how many.
    fn right_samples(&self, recording: &Recording) -> (u64, u64) {
        let script = format!("{}/container.js", self.app);
        let is_right = |stack: &[&Frame]| {
            let is_outer =
                |frame: &Frame| frame.function == "outer" && frame.file.as_ref() == Some(&script);
            let is_native = |frame: &Frame| {
                frame.kind == "native" && frame.function.starts_with("node::worker::Worker::")
            };
            stack.iter().any(|frame| is_outer(frame)) && stack.iter().any(|frame| is_native(frame))
        };
        let threads = recording.threads.iter();
        let stacks: Vec<_> = threads
            .flat_map(|thread| recording.stacks_of(thread.tid))
            .collect();
        let right = stacks.iter().filter(|(stack, _)| is_right(stack));
        (
            right.map(|(_, count)| count).sum(),
            stacks.iter().map(|(_, count)| count).sum(),
        )
    }

    #[track_caller]
    fn assert_listed(&self, nodetap: &Nodetap, pid: u32, profile: &str) -> Output {
        let output = nodetap.run(&["ps"]);
        assert!(output.status.success());
        let table = lines(&output.stdout);
        let first = pid.to_string();
        let line = table
            .iter()
            .find(|line| line.split_whitespace().next() == Some(&first));
        let line = line.unwrap_or_else(|| panic!("not listed: {table:#?}"));
        let command = format!("{0}/node {0}/container.js", self.app);
        assert!(
            line.contains(&format!("  {profile}  ")) && line.ends_with(&command),
            "{line}"
        );
        output
    }
}

impl Drop for Container {
    fn drop(&mut self) {
        // With its first process all of it ends.
        let id = self.unshare.id();
        let first = fs::read_to_string(format!("/proc/{id}/task/{id}/children"));
        if let Some(first) = first.ok().and_then(|first| first.trim().parse().ok()) {
            // SAFETY: a system call without pointers; `unshare` has not waited for it,
            // else it would not be among its children.
            unsafe { libc::kill(first, libc::SIGKILL) };
        }
        let _ = self.unshare.kill();
        let _ = self.unshare.wait();
    }
}

const EBPF: [&str; 2] = ["--sampler", "ebpf"];
const PTRACE: [&str; 2] = ["--sampler", "ptrace"];

/// All that nodetap does, by one who may do all.
#[track_caller]
fn assert_all_works(container: &Container, nodetap: &Nodetap, pid: u32) {
    container.assert_listed(nodetap, pid, "yes");
    container.assert_dump(nodetap, pid);
    container.assert_recording(nodetap, pid, &EBPF, "ebpf");
    container.assert_recording(nodetap, pid, &PTRACE, "ptrace");
}

#[test]
fn from_the_host_and_from_beside_it() {
    let _alone = common::one_at_a_time();
    let place = Place::new();
    let container = Container::start(&place, OWN_ROOT);
    assert_eq!(container.inner, 1);
    assert!(!Path::new("/opt/app/node").exists());
    assert_all_works(&container, &place.on_host(), container.pid);
    assert_all_works(&container, &container.beside(&place), 1);

    // As Docker has it with SYS_PTRACE added: /proc/PID/map_files stays closed.
    let few = "-sys_admin,-checkpoint_restore,-bpf,-perfmon";
    let setpriv = ["setpriv", "--inh-caps", few, "--bounding-set", few];
    let nodetap = container.beside_by(&[], &setpriv, &place);
    container.assert_dump(&nodetap, 1);

    assert_a_pod_without_rights_is_told(&container, &place);

    // The files may be gone by now.
    for file in ["node", "lib/libc.so.6"] {
        let path = format!("/proc/{}/root/opt/app/{file}", container.pid);
        fs::remove_file(path).expect("remove");
    }
    container.assert_dump(&place.on_host(), container.pid);
    container.assert_recording(&place.on_host(), container.pid, &EBPF, "ebpf");
    container.assert_dump(&container.beside(&place), 1);
}

#[test]
fn what_the_host_has_under_the_same_paths_is_not_taken_for_it() {
    let _alone = common::one_at_a_time();
    let place = Place::new();
    let container = Container::start(&place, OTHER_MOUNTS);
    assert_all_works(&container, &place.on_host(), container.pid);
}

#[test]
fn in_a_user_namespace() {
    let _alone = common::one_at_a_time();
    let place = Place::new();
    let mut unshare = Command::new("unshare");
    unshare.uid(NOBODY).gid(NOBODY);
    unshare.args(["--user", "--map-root-user"]);
    let container = Container::start_by(unshare, &place, OWN_ROOT, "");
    assert_all_works(&container, &place.on_host(), container.pid);

    // Beside it, as the root that it has: the capabilities do for ptrace alone.
    let beside = container.beside_by(&["--user"], &[], &place);
    container.assert_listed(&beside, 1, "yes");
    container.assert_dump(&beside, 1);
    container.assert_recording(&beside, 1, &[], "ptrace");
    beside.assert_fails(
        &["record", "--sampler", "ebpf", "-p", "1"],
        &[
            "error: no permission to use eBPF: capabilities of a user namespace do not count for it",
            &outside(true),
        ],
    );

    // Whoever has made it may look into it from outside.
    let nobody = [
        "setpriv",
        "--reuid=65534",
        "--regid=65534",
        "--clear-groups",
    ];
    container.assert_dump(&Nodetap::by(&nobody, &place), container.pid);
    let other = [
        "setpriv",
        "--reuid=65533",
        "--regid=65533",
        "--clear-groups",
    ];
    let other = Nodetap::by(&other, &place);
    other.assert_fails(
        &["dump", "-p", &container.pid.to_string()],
        &[
            &format!(
                "error: no permission to read the memory of process {} (/opt/app/node): it \
                 belongs to nobody",
                container.pid
            ),
            "hint: run it as root: sudo nodetap …",
        ],
    );

    // From within another one nobody may, whatever he is called there.
    let enclosed = Nodetap::by(&["unshare", "--user", "--map-root-user"], &place);
    enclosed.assert_fails(
        &["dump", "-p", &container.pid.to_string()],
        &[
            &format!(
                "error: no permission to read the memory of process {} (/opt/app/node): it is \
                 outside of this user namespace",
                container.pid
            ),
            &outside(false),
        ],
    );
    let listed = container.assert_listed(&enclosed, container.pid, "no: user namespace");
    assert!(lines(&listed.stderr).contains(&&*outside(false)));
}

/// What is proposed in a user namespace. One with its own PIDs seems a container where the
/// machine's files come from one.
fn outside(own_pids: bool) -> String {
    let what = match own_pids && Path::new("/.dockerenv").exists() {
        true => "rootless container",
        false => "user namespace",
    };
    format!("hint: run it as root of the machine, outside of this {what}")
}

#[test]
fn numbers_of_another_pid_namespace() {
    let _alone = common::one_at_a_time();
    let place = Place::new();
    // On the host this number is another process's, which is not Node.js.
    let mut sleep = Command::new("sleep").arg("1000").spawn().expect("sleep");
    let number = sleep.id().to_string();
    let unshare = Command::new("unshare");
    let container = Container::start_by(unshare, &place, OWN_ROOT, &number);
    assert_eq!(container.inner.to_string(), number);
    let pid = container.pid;
    let hint = format!(
        "hint: the process that is {number} inside its container is {pid} (/opt/app/node \
         /opt/app/container.js) here: -p {pid}"
    );
    let not_node = format!("error: process {number} (sleep) is not a Node.js process");
    let host = place.on_host();
    for command in ["dump", "record"] {
        host.assert_fails(&[command, "-p", &number], &[&not_node, &hint]);
    }
    sleep.kill().expect("kill");
    sleep.wait().expect("wait");
    let none = format!("error: there is no process {number}");
    for command in ["dump", "record"] {
        host.assert_fails(&[command, "-p", &number], &[&none, &hint]);
    }

    // And the other way round.
    // Numbers in the container go on from `number`, and may come to that of `pid`.
    let on_host = std::process::id().to_string();
    let none = format!("error: there is no process {on_host} in this PID namespace (container)");
    let pod = ["env", "KUBERNETES_SERVICE_HOST=10.0.0.1"];
    let pod = container.beside_by(&[], &pod, &place);
    pod.assert_fails(
        &["dump", "-p", &on_host],
        &[
            &none,
            "hint: a container has process ids of its own (nodetap ps); to see another's: kubectl \
             debug -it POD --target=CONTAINER …, or shareProcessNamespace: true (hostPID: true) \
             in the pod",
        ],
    );
    let output = container.beside(&place).run(&["record", "-p", &on_host]);
    assert_eq!(lines(&output.stderr)[0], none);

    // With /proc as it is outside no number means what it seems to.
    let pid = container.pid.to_string();
    let confused = Nodetap::by(&["nsenter", "--target", &pid, "--pid"], &place);
    let lines = [
        "error: /proc shows the processes of another PID namespace than nodetap is in",
        "hint: mount the right one first: unshare --mount --mount-proc nodetap …",
    ];
    confused.assert_fails(&["ps"], &lines);
    for command in ["dump", "record"] {
        confused.assert_fails(&[command, "-p", &pid], &lines);
    }
}

/// What is said in a pod in which root is not allowed to trace.
#[track_caller]
fn assert_a_pod_without_rights_is_told(container: &Container, place: &Place) {
    let debug = "hint: kubectl debug -it POD --target=CONTAINER --image=IMAGE --profile=sysadmin";
    let less = "-sys_ptrace,-bpf,-perfmon,-sys_admin";
    let command = ["env", "KUBERNETES_SERVICE_HOST=10.0.0.1", "setpriv"];
    let setpriv = ["--inh-caps", less, "--bounding-set", less];
    let pod = container.beside_by(&[], &[&command[..], &setpriv].concat(), place);
    for command in ["dump", "record"] {
        pod.assert_fails(
            &[command, "-p", "1"],
            &[
                "error: no permission to read the memory of process 1 (/opt/app/node): it has \
                 capabilities that nodetap has not",
                debug,
            ],
        );
    }
    let listed = container.assert_listed(&pod, 1, "no: has more capabilities");
    assert_eq!(lines(&listed.stderr), [debug]);
    let doctor = pod.run(&["doctor"]);
    let text = String::from_utf8_lossy(&doctor.stdout).into_owned();
    let improve = debug.replace("hint: ", "\nto improve it: ");
    assert!(text.contains(&improve), "{text}");
}
