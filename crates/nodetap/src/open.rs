//! `--open`: shows the result in the user's own browser or viewer.
//!
//! Under `sudo` that is the user who called it: his session has the display and his
//! settings, and a browser is not to run as root.

use std::collections::HashMap;
use std::ffi::{OsStr, OsString};
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{OpenOptionsExt, fchown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use nodetap_profile::Format;
use rustix::process::{geteuid, getppid};

use crate::failure::{Failure, Result, reason};
use crate::terminal;

/// How long a program that shows a file is watched: one that cannot says so by then.
const PATIENCE: Duration = Duration::from_millis(1500);

/// Where a result lies that is to be shown.
#[derive(Debug)]
pub struct Place {
    path: PathBuf,
    /// Whether it is to go with this.
    is_temporary: bool,
}

impl Place {
    /// The place that the user named, if it is a file; where none was named, a temporary
    /// file for this format.
    ///
    /// # Errors
    /// Where it is stdout, or no file can be made.
    pub fn choose(output: Option<&Path>, format: Format) -> Result<Place> {
        if format == Format::Nodetap {
            return Err(Failure::usage("--open cannot show a .nodetap file")
                .hint("leave it out; then 'nodetap report FILE --open' shows a page"));
        }
        match output {
            Some(path) if path.as_os_str() == "-" => {
                Err(Failure::usage("--open cannot show what goes to stdout")
                    .hint("leave out --output, or name a file"))
            }
            Some(path) => Ok(Place {
                path: path.to_owned(),
                is_temporary: false,
            }),
            None => Ok(Place {
                path: temporary_file(match format.name() {
                    "flame" => "svg",
                    "text" => "txt",
                    name => name,
                })?,
                is_temporary: true,
            }),
        }
    }

    /// The same, where it is asked for.
    ///
    /// # Errors
    /// As with [`choose`](Self::choose).
    pub fn if_asked(asked: bool, output: Option<&Path>, format: Format) -> Result<Option<Place>> {
        asked.then(|| Place::choose(output, format)).transpose()
    }

    /// The file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The file is there, and stays. Shows it.
    pub fn open(mut self) {
        self.is_temporary = false;
        open(&self.path);
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if self.is_temporary {
            let _ = fs::remove_file(&self.path);
        }
    }
}

/// Creates a file for a result that has no other place, and that the user may read.
fn temporary_file(extension: &str) -> Result<PathBuf> {
    let folder = std::env::temp_dir();
    let user = Sudo::of_this_process();
    let create = || -> io::Result<PathBuf> {
        for number in 0.. {
            let name = format!("nodetap-{}-{number}.{extension}", std::process::id());
            let path = folder.join(name);
            // A new one, whatever links others may have put there.
            let created = OpenOptions::new()
                .write(true)
                .create_new(true)
                .mode(0o600)
                .open(&path);
            match created {
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                Err(error) => return Err(error),
                Ok(file) => {
                    give(&file, user.as_ref())?;
                    return Ok(path);
                }
            }
        }
        Err(io::ErrorKind::AlreadyExists.into())
    };
    create().map_err(|error| {
        Failure::new(format_args!(
            "cannot create a file in '{}': {}",
            folder.display(),
            reason(&error)
        ))
        .hint("name a place for it: --output FILE")
    })
}

fn give(file: &File, user: Option<&Sudo>) -> io::Result<()> {
    match user {
        Some(user) => fchown(file, Some(user.uid), Some(user.gid)),
        None => Ok(()),
    }
}

/// Shows the file at `path`, and says so; where that cannot be done, what to do instead.
/// The result is there in any case: nothing of this is an error.
fn open(path: &Path) {
    let path = fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
    let user = Sudo::of_this_process();
    let environment = match &user {
        Some(user) => user.environment(),
        None => std::env::vars_os().collect(),
    };
    let viewers = viewers(&environment);
    for viewer in &viewers {
        if show(viewer, &path, user.as_ref(), &environment) {
            terminal::note(format_args!("opened '{}'", path.display()));
            return;
        }
    }
    terminal::hint(instead(&path, &environment, viewers.is_empty()));
}

type Environment = HashMap<OsString, OsString>;

fn set<'a>(environment: &'a Environment, name: &str) -> Option<&'a OsStr> {
    let value = environment.get(OsStr::new(name))?;
    (!value.is_empty()).then_some(value)
}

/// The commands that may show a file, the best one first: none where there is no display
/// and the user has not said what to use without.
fn viewers(environment: &Environment) -> Vec<Vec<OsString>> {
    let mut viewers = Vec::new();
    // Commands, separated by colons, as other programs read it.
    if let Some(browsers) = set(environment, "BROWSER") {
        for command in browsers.as_bytes().split(|&byte| byte == b':') {
            let words = command.split(|&byte| byte == b' ');
            let words: Vec<OsString> = words
                .filter(|word| !word.is_empty())
                .map(|word| OsStr::from_bytes(word).to_owned())
                .collect();
            if !words.is_empty() {
                viewers.push(words);
            }
        }
    }
    let has_display = ["DISPLAY", "WAYLAND_DISPLAY", "WSL_DISTRO_NAME"]
        .into_iter()
        .any(|name| set(environment, name).is_some());
    if has_display {
        viewers.push(vec!["xdg-open".into()]);
        viewers.push(vec!["gio".into(), "open".into()]);
        viewers.push(vec!["wslview".into()]);
    }
    viewers
}

/// Starts `viewer` for the file. Whether it seems to have worked.
fn show(viewer: &[OsString], path: &Path, user: Option<&Sudo>, environment: &Environment) -> bool {
    let Some((program, arguments)) = viewer.split_first() else {
        return false;
    };
    let mut command = Command::new(program);
    let mut has_place = false;
    for argument in arguments {
        match argument.as_bytes() {
            b"%s" => {
                has_place = true;
                command.arg(path);
            }
            _ => {
                command.arg(argument);
            }
        }
    }
    if !has_place {
        command.arg(path);
    }
    command
        .env_clear()
        .envs(environment)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        // Ctrl-C in this terminal is not meant for it.
        .process_group(0);
    if let Some(user) = user {
        command.uid(user.uid).gid(user.gid).current_dir("/");
    }
    let Ok(mut child) = command.spawn() else {
        return false;
    };
    let begun = Instant::now();
    while begun.elapsed() < PATIENCE {
        match child.try_wait() {
            Ok(None) => sleep(Duration::from_millis(20)),
            Ok(Some(status)) => return status.success(),
            Err(_) => return false,
        }
    }
    // It shows the file as long as it runs.
    true
}

/// What to do where nothing could be started that shows the file.
fn instead(path: &Path, environment: &Environment, no_display: bool) -> String {
    let path = path.display();
    let is_remote = ["SSH_CONNECTION", "SSH_CLIENT", "SSH_TTY"]
        .into_iter()
        .any(|name| set(environment, name).is_some());
    if is_remote {
        let name = rustix::system::uname();
        let host = name.nodename().to_string_lossy();
        return format!("there is no display here; where there is one: scp {host}:{path} .");
    }
    match no_display {
        true => format!("there is no display here; open it in a browser: {path}"),
        false => format!("nothing could be started to show it; open it in a browser: {path}"),
    }
}

/// The user who became root by `sudo`.
struct Sudo {
    uid: u32,
    gid: u32,
    name: OsString,
}

impl Sudo {
    /// The one who started this process so.
    fn of_this_process() -> Option<Sudo> {
        let number = |name| std::env::var(name).ok()?.parse().ok();
        let uid = number("SUDO_UID").filter(|&uid| uid != 0)?;
        geteuid().is_root().then_some(Sudo {
            uid,
            gid: number("SUDO_GID")?,
            name: std::env::var_os("SUDO_USER")?,
        })
    }

    /// What he had set when he called `sudo`, which has it still: what it starts gets but
    /// a part.
    fn environment(&self) -> Environment {
        environment_of_sudo().unwrap_or_else(|| {
            let mut environment: Environment = std::env::vars_os().collect();
            environment.insert("USER".into(), self.name.clone());
            environment.insert("LOGNAME".into(), self.name.clone());
            let home = home(
                &fs::read_to_string("/etc/passwd").unwrap_or_default(),
                self.uid,
            );
            environment.insert("HOME".into(), home.unwrap_or_else(|| "/".into()).into());
            environment
        })
    }
}

/// The environment of the process that started this one, if that is `sudo`.
fn environment_of_sudo() -> Option<Environment> {
    let parent = getppid()?.as_raw_nonzero();
    let name = fs::read_to_string(format!("/proc/{parent}/comm")).ok()?;
    if name.trim_end() != "sudo" {
        return None;
    }
    let bytes = fs::read(format!("/proc/{parent}/environ")).ok()?;
    Some(parse_environment(&bytes)).filter(|environment| !environment.is_empty())
}

fn parse_environment(bytes: &[u8]) -> Environment {
    let entries = bytes.split(|&byte| byte == 0);
    entries
        .filter_map(|entry| {
            let equals = entry.iter().position(|&byte| byte == b'=')?;
            let (name, value) = (&entry[..equals], &entry[equals + 1..]);
            let owned = |bytes| OsStr::from_bytes(bytes).to_owned();
            (!name.is_empty()).then(|| (owned(name), owned(value)))
        })
        .collect()
}

/// The home of user `uid` by what `/etc/passwd` says.
fn home(passwd: &str, uid: u32) -> Option<String> {
    passwd.lines().find_map(|line| {
        let mut fields = line.split(':').skip(2);
        (fields.next()?.parse::<u32>() == Ok(uid)).then(|| fields.nth(2).map(str::to_owned))?
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn environment(entries: &[(&str, &str)]) -> Environment {
        let owned = |&(name, value): &(&str, &str)| (name.into(), value.into());
        entries.iter().map(owned).collect()
    }

    #[test]
    fn the_users_choice_comes_first_and_no_display_leaves_only_that() {
        assert!(viewers(&environment(&[("TERM", "xterm"), ("DISPLAY", "")])).is_empty());
        let chosen = environment(&[("BROWSER", "w3m -T text/html %s::lynx")]);
        assert_eq!(
            viewers(&chosen),
            [vec!["w3m", "-T", "text/html", "%s"], vec!["lynx"]]
        );
        let desktop = viewers(&environment(&[("WAYLAND_DISPLAY", "wayland-0")]));
        assert_eq!(desktop[0], ["xdg-open"]);
    }

    #[test]
    fn a_viewer_gets_the_path_where_it_wants_it_and_its_failure_is_seen() {
        let folder = tempfile::tempdir().unwrap();
        let out = folder.path().join("out");
        let environment = environment(&[("OUT", out.to_str().unwrap()), ("PATH", "/usr/bin:/bin")]);
        let shell = |script: &str, rest: &[&str]| {
            let words = ["sh", "-c", script, "sh"]
                .into_iter()
                .chain(rest.iter().copied());
            words.map(OsString::from).collect::<Vec<_>>()
        };
        let path = Path::new("/tmp/a b.html");
        let write = r#"printf '%s|' "$@" > "$OUT""#;
        assert!(show(
            &shell(write, &["-x", "%s", "-y"]),
            path,
            None,
            &environment
        ));
        assert_eq!(fs::read_to_string(&out).unwrap(), "-x|/tmp/a b.html|-y|");
        assert!(show(&shell(write, &["-x"]), path, None, &environment));
        assert_eq!(fs::read_to_string(&out).unwrap(), "-x|/tmp/a b.html|");
        assert!(!show(&shell("exit 3", &[]), path, None, &environment));
        assert!(!show(&["/nonexistent".into()], path, None, &environment));
        assert!(!show(&[], path, None, &environment));
    }

    #[test]
    fn what_cannot_be_shown_here_is_copied_to_where_it_can() {
        let path = Path::new("/tmp/out.html");
        let remote = environment(&[("SSH_CONNECTION", "10.0.0.1 5 10.0.0.2 22")]);
        let hint = instead(path, &remote, true);
        assert!(
            hint.starts_with("there is no display here; where there is one: scp ")
                && hint.ends_with(":/tmp/out.html ."),
            "{hint}"
        );
        assert_eq!(
            instead(path, &Environment::new(), true),
            "there is no display here; open it in a browser: /tmp/out.html"
        );
    }

    #[test]
    fn what_sudo_was_called_with_is_read() {
        let parsed = parse_environment(b"A=1\0B=x=y\0\0odd\0=none\0C=\0");
        assert_eq!(parsed, environment(&[("A", "1"), ("B", "x=y"), ("C", "")]));
        let passwd = "root:x:0:0:root:/root:/bin/bash\nann:x:1000:1000:Ann:/home/ann:/bin/sh\n";
        assert_eq!(home(passwd, 1000).as_deref(), Some("/home/ann"));
        assert_eq!(home(passwd, 7), None);
    }

    #[test]
    fn a_temporary_file_goes_where_there_is_no_result() {
        let place = Place::choose(None, Format::Flame).unwrap();
        let path = place.path().to_owned();
        assert!(path.exists() && path.extension() == Some(OsStr::new("svg")));
        drop(place);
        assert!(!path.exists());
        let named = Place::choose(Some(Path::new("Cargo.toml")), Format::Text).unwrap();
        drop(named);
        assert!(Path::new("Cargo.toml").exists());
        let failure = Place::choose(Some(Path::new("-")), Format::Text).unwrap_err();
        assert_eq!(
            failure.lines(),
            [
                "error: --open cannot show what goes to stdout",
                "hint: leave out --output, or name a file"
            ]
        );
    }

    #[test]
    fn a_temporary_file_is_new_and_of_nobody_elses_business() {
        use std::os::unix::fs::PermissionsExt;
        let paths = ["svg", "svg"].map(|extension| temporary_file(extension).unwrap());
        assert_ne!(paths[0], paths[1]);
        for path in paths {
            let mode = fs::metadata(&path).unwrap().permissions().mode();
            assert_eq!(mode & 0o777, 0o600);
            fs::remove_file(path).unwrap();
        }
    }
}
