//! Where the result goes: found out before the recording, written after it.

use std::ffi::OsString;
use std::fs::{self, File, OpenOptions};
use std::io::{self, IsTerminal, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt, fchown};
use std::path::{Path, PathBuf};

use nodetap_profile::Format;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::termios::tcgetwinsize;

use crate::failure::{Failure, Result, reason};

/// A place that could be written to when it was looked at.
#[derive(Debug)]
pub struct Output {
    place: Place,
    /// The path as the user wrote it.
    shown: String,
}

#[derive(Debug)]
enum Place {
    Stdout,
    /// A regular file, there already or not. It is written beside its place
    /// and then moved there: what stood there stays until the result is whole.
    File(PathBuf),
    /// A device or a pipe: written to as it is.
    Stream(File),
}

impl Output {
    /// Checks that the result can be written to `path` (none or `-`: stdout),
    /// changing nothing there.
    pub fn open(path: Option<&Path>) -> Result<Output> {
        let Some(path) = path.filter(|path| path.as_os_str() != "-") else {
            return Ok(Output {
                place: Place::Stdout,
                shown: "stdout".to_owned(),
            });
        };
        let shown = path.display().to_string();
        let place = place(path).map_err(|error| {
            Failure::new(format_args!(
                "cannot write to '{shown}': {}",
                reason(&error)
            ))
            .hint(remedy(path, &error))
        })?;
        Ok(Output { place, shown })
    }

    /// The same for a result in `format`, which may be none for a terminal.
    pub fn open_for(path: Option<&Path>, format: Format) -> Result<Output> {
        let output = Output::open(path)?;
        if format.is_binary() && output.is_terminal() {
            let message = format!("{format} is a binary format, not for a terminal");
            return Err(Failure::usage(message).hint("write it to a file: --output FILE"));
        }
        Ok(output)
    }

    /// The directory that the result will lie in, if it will be a file.
    pub fn directory(&self) -> Option<&Path> {
        match &self.place {
            Place::File(path) => Some(parent(path)),
            Place::Stdout | Place::Stream(_) => None,
        }
    }

    /// Whether this is a terminal, where people would see it.
    pub fn is_terminal(&self) -> bool {
        match &self.place {
            Place::Stdout => io::stdout().is_terminal(),
            Place::File(_) => false,
            Place::Stream(file) => file.is_terminal(),
        }
    }

    /// How many columns a line has where people would see it; `None` for a file or a pipe.
    pub fn width(&self) -> Option<usize> {
        let size = match &self.place {
            Place::Stdout => tcgetwinsize(io::stdout()),
            Place::File(_) => return None,
            Place::Stream(file) => tcgetwinsize(file),
        };
        let columns = size.ok()?.ws_col;
        (columns > 0).then_some(columns.into())
    }

    /// Whether whoever read this pipe has gone: nothing written to it would
    /// arrive.
    pub fn is_abandoned(&self) -> bool {
        let stdout = io::stdout();
        let mut watched = [match &self.place {
            Place::Stdout => PollFd::new(&stdout, PollFlags::empty()),
            Place::File(_) => return false,
            Place::Stream(file) => PollFd::new(file, PollFlags::empty()),
        }];
        let now = Timespec {
            tv_sec: 0,
            tv_nsec: 0,
        };
        // A pipe without a reader reports an error, unasked.
        poll(&mut watched, Some(&now)).is_ok() && watched[0].revents().contains(PollFlags::ERR)
    }

    /// Writes the result with `write`, and makes it be there.
    pub fn write(self, write: impl FnOnce(&mut dyn Write) -> io::Result<()>) -> Result<()> {
        let written = match self.place {
            Place::Stdout => {
                return whole(io::stdout().lock(), write)
                    .map(drop)
                    .map_err(|error| Failure::of_stdout(&error));
            }
            Place::File(path) => replace(&path, write),
            Place::Stream(file) => whole(file, write).map(drop),
        };
        written.map_err(|error| failure(&self.shown, &error))
    }

    /// Opens the place for a result that is written bit by bit from now on. A file that is
    /// there is kept as `NAME.old`.
    pub fn begin(&self) -> Result<Begun> {
        let begun = |file, renamed| Begun {
            file,
            shown: self.shown.clone(),
            renamed,
        };
        let opened = match &self.place {
            Place::Stdout => {
                let fd = io::stdout().as_fd().try_clone_to_owned();
                fd.map(|fd| begun(File::from(fd), None))
            }
            Place::Stream(file) => file.try_clone().map(|file| begun(file, None)),
            Place::File(path) => {
                begin(path).map(|(file, old)| begun(file, Some((path.clone(), old))))
            }
        };
        opened.map_err(|error| failure(&self.shown, &error))
    }
}

/// A place that is written to bit by bit.
#[derive(Debug)]
pub struct Begun {
    /// To be written to.
    pub file: File,
    /// The path as the user wrote it.
    pub shown: String,
    /// The file's path, if it is one, and what was there before is called now.
    renamed: Option<(PathBuf, Option<PathBuf>)>,
}

impl Begun {
    /// There is nothing to be written: what was there is put back.
    pub fn undo(self) {
        if let Some((path, old)) = self.renamed {
            // Nothing depends on it.
            let _ = match old {
                Some(old) => fs::rename(old, path),
                None => fs::remove_file(path),
            };
        }
    }
}

/// A write to the place that is shown as `shown` failed.
pub fn failure(shown: &str, error: &io::Error) -> Failure {
    if error.kind() == io::ErrorKind::BrokenPipe {
        return Failure::silent(0);
    }
    let shown = match shown {
        "stdout" => shown.to_owned(),
        path => format!("'{path}'"),
    };
    Failure::new(format_args!("cannot write to {shown}: {}", reason(error)))
}

/// Makes a new file at `path`. What is there gets another name, which is returned: a
/// recording may end at any moment, and until then nobody knows whether it is of more use.
fn begin(path: &Path) -> io::Result<(File, Option<PathBuf>)> {
    let there = fs::metadata(path).ok();
    let mut old = path.as_os_str().to_owned();
    old.push(".old");
    let old = there.is_some().then(|| PathBuf::from(old));
    if let Some(old) = &old {
        fs::rename(path, old)?;
    }
    let file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(there.as_ref().map_or(0o666, |there| there.mode() & 0o7777))
        .open(path)?;
    if let Some(there) = there {
        like(&file, &there)?;
    }
    Ok((file, old))
}

/// Makes a file that of the one that was there before it.
fn like(file: &File, there: &fs::Metadata) -> io::Result<()> {
    // Only root may give a file away; for others it stays theirs.
    let _ = fchown(file, Some(there.uid()), Some(there.gid()));
    file.set_permissions(there.permissions())
}

/// Where writing to `path` leads, if it can be done.
fn place(path: &Path) -> io::Result<Place> {
    match fs::metadata(path) {
        Ok(there) if there.is_dir() => Err(io::ErrorKind::IsADirectory.into()),
        Ok(there) if there.file_type().is_socket() => Err(io::Error::other("it is a socket")),
        Ok(there) if there.is_file() => {
            OpenOptions::new().write(true).open(path)?;
            // The file itself, not a symbolic link to it, is to be replaced.
            let path = path.canonicalize()?;
            probe_beside(&path)?;
            Ok(Place::File(path))
        }
        Ok(_) => Ok(Place::Stream(OpenOptions::new().write(true).open(path)?)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            // A name that ends in a slash asks for a directory; a dangling link
            // would be replaced instead of followed.
            if path.as_os_str().as_encoded_bytes().ends_with(b"/") {
                return Err(io::ErrorKind::IsADirectory.into());
            }
            let path = match fs::read_link(path) {
                Ok(target) => parent(path).join(target),
                Err(_) => path.to_owned(),
            };
            probe_beside(&path)?;
            Ok(Place::File(path))
        }
        Err(error) => Err(error),
    }
}

/// Finds out whether a file can be made beside `path`, and leaves none.
fn probe_beside(path: &Path) -> io::Result<()> {
    let (file, name) = create_beside(path, 0o600)?;
    drop(file);
    fs::remove_file(name)
}

/// Writes a new file and moves it to `path`.
fn replace(path: &Path, write: impl FnOnce(&mut dyn Write) -> io::Result<()>) -> io::Result<()> {
    let there = fs::metadata(path).ok();
    let mode = there.as_ref().map_or(0o666, |there| there.mode() & 0o7777);
    let (file, name) = create_beside(path, mode)?;
    let written = whole(file, write).and_then(|file| {
        if let Some(there) = there {
            like(&file, &there)?;
        }
        fs::rename(&name, path)
    });
    if written.is_err() {
        let _ = fs::remove_file(&name);
    }
    written
}

/// Creates a file with a name of its own in the directory of `path`.
fn create_beside(path: &Path, mode: u32) -> io::Result<(File, PathBuf)> {
    let mut name = OsString::from(".");
    name.push(path.file_name().ok_or(io::ErrorKind::IsADirectory)?);
    name.push(format!(".nodetap-{}", std::process::id()));
    let name = parent(path).join(name);
    let file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(mode)
        .open(&name)?;
    Ok((file, name))
}

/// The directory that `path` lies in.
fn parent(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if parent.as_os_str().is_empty() => Path::new("."),
        Some(parent) => parent,
        None => Path::new("/"),
    }
}

/// Runs `write`, which buffers, and gives `to` back when all has arrived there.
fn whole<W: Write>(
    mut to: W,
    write: impl FnOnce(&mut dyn Write) -> io::Result<()>,
) -> io::Result<W> {
    write(&mut to)?;
    to.flush()?;
    Ok(to)
}

/// What helps against `error` at `path`.
fn remedy(path: &Path, error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::NotFound => {
            format!(
                "create the directory first: mkdir -p '{}'",
                parent(path).display()
            )
        }
        io::ErrorKind::IsADirectory => "name a file in it".to_owned(),
        _ => "name a file that you may write to, or leave out --output for stdout".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::{PermissionsExt, symlink};

    fn names(dir: &Path) -> Vec<String> {
        let mut names: Vec<String> = fs::read_dir(dir)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }

    #[test]
    fn nothing_changes_before_the_result_is_written() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("out.txt");
        let output = Output::open(Some(&path)).unwrap();
        assert_eq!(names(dir.path()), [""; 0]);
        output.write(|to| to.write_all(b"new")).unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "new");
        assert_eq!(names(dir.path()), ["out.txt"]);
    }

    #[test]
    fn a_failed_write_leaves_what_was_there() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("out.txt");
        fs::write(&path, "old").unwrap();
        let output = Output::open(Some(&path)).unwrap();
        let failure = output
            .write(|to| {
                to.write_all(b"half")?;
                Err(io::Error::from_raw_os_error(28))
            })
            .unwrap_err();
        assert_eq!(
            failure.lines(),
            [format!(
                "error: cannot write to '{}': No space left on device",
                path.display()
            )]
        );
        assert_eq!(fs::read_to_string(&path).unwrap(), "old");
        assert_eq!(names(dir.path()), ["out.txt"]);
    }

    #[test]
    fn a_link_is_followed_and_the_mode_is_kept() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("file");
        let link = dir.path().join("link");
        fs::write(&file, "old").unwrap();
        fs::set_permissions(&file, fs::Permissions::from_mode(0o640)).unwrap();
        symlink("file", &link).unwrap();
        let output = Output::open(Some(&link)).unwrap();
        output.write(|to| to.write_all(b"new")).unwrap();
        assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
        assert_eq!(fs::read_to_string(&file).unwrap(), "new");
        assert_eq!(fs::metadata(&file).unwrap().mode() & 0o7777, 0o640);
    }

    #[test]
    fn a_dangling_link_is_followed() {
        let dir = tempfile::tempdir().unwrap();
        let link = dir.path().join("link");
        symlink("file", &link).unwrap();
        let output = Output::open(Some(&link)).unwrap();
        output.write(|to| to.write_all(b"new")).unwrap();
        assert_eq!(fs::read_to_string(dir.path().join("file")).unwrap(), "new");
    }

    #[test]
    fn what_cannot_be_written_is_told_with_a_remedy() {
        let dir = tempfile::tempdir().unwrap();
        let shown = dir.path().display();
        let lines = |path: &Path| Output::open(Some(path)).unwrap_err().lines();
        assert_eq!(
            lines(&dir.path().join("none/out.svg")),
            [
                format!("error: cannot write to '{shown}/none/out.svg': No such file or directory"),
                format!("hint: create the directory first: mkdir -p '{shown}/none'"),
            ]
        );
        assert_eq!(
            lines(dir.path()),
            [
                format!("error: cannot write to '{shown}': is a directory"),
                "hint: name a file in it".to_owned(),
            ]
        );
    }

    #[test]
    fn a_device_is_written_to_as_it_is() {
        let output = Output::open(Some(Path::new("/dev/full"))).unwrap();
        let failure = output.write(|to| to.write_all(b"text")).unwrap_err();
        assert_eq!(
            failure.lines(),
            ["error: cannot write to '/dev/full': No space left on device"]
        );
    }
}
