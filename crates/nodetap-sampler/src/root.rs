//! The file system as a process sees it: files that it names, opened with care.
//!
//! What path a process names is up to it, and so is what is there. Nothing is opened
//! but regular files, so that no device acts on being opened and no pipe holds us up;
//! a symbolic link leads nowhere but to what the process itself would find there.

use std::fs::{self, File};
use std::io::{self, Read};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::path::{Component, Path};

use rustix::fs::{CWD, FileType, Mode, OFlags, ResolveFlags, fstat, fstatfs, openat, openat2};
use rustix::io::Errno;

use crate::source::Source;

/// How often a path is looked up that is being changed meanwhile.
const LOOKUPS: usize = 3;

/// File systems whose regular files are the kernel's own state: procfs, sysfs, cgroups,
/// tracefs, debugfs, securityfs, bpf, configfs, efivarfs (`linux/magic.h`).
const OF_THE_KERNEL: [u64; 10] = [
    0x9fa0,
    0x6265_6572,
    0x0027_e0eb,
    0x6367_7270,
    0x7472_6163,
    0x6462_6720,
    0x7363_6673,
    0xcafe_4a11,
    0x6265_6570,
    0xde5e_81e4,
];

/// The root directory of a process, in its mount namespace. It stays what it is when the
/// process is gone.
#[derive(Debug)]
pub struct Root {
    directory: OwnedFd,
    identity: RootIdentity,
    /// Whether it is ours too.
    is_own: bool,
}

/// What two processes have in common that see the same files.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct RootIdentity {
    namespace: u64,
    device: u64,
    inode: u64,
}

impl Root {
    /// The root of a process; of one that left a core file, our own.
    ///
    /// # Errors
    /// Where it is gone, or not ours to look at.
    pub fn of(source: &Source) -> io::Result<Root> {
        let process = match source {
            Source::Alive(pid) => format!("/proc/{pid}"),
            Source::Core(_) => "/proc/self".to_owned(),
        };
        let own = RootIdentity::of("/proc/self")?;
        let identity = RootIdentity::of(&process)?;
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let directory = openat(CWD, format!("{process}/root"), flags, Mode::empty())?;
        Ok(Root {
            directory,
            identity,
            is_own: own == identity,
        })
    }

    /// What tells it from others.
    pub fn identity(&self) -> RootIdentity {
        self.identity
    }

    /// All of the regular file at `path`, an absolute one.
    ///
    /// # Errors
    /// Where there is none, it is no regular file, or it has more than `limit` bytes.
    pub fn read(&self, path: &Path, limit: u64) -> io::Result<Vec<u8>> {
        let file = self.open(path)?;
        let too_large = || io::Error::from(io::ErrorKind::FileTooLarge);
        let size = file.metadata()?.len();
        if size > limit {
            return Err(too_large());
        }
        let mut bytes = Vec::with_capacity(size as usize);
        // It may grow meanwhile.
        file.take(limit + 1).read_to_end(&mut bytes)?;
        match bytes.len() as u64 > limit {
            true => Err(too_large()),
            false => Ok(bytes),
        }
    }

    /// Opens the regular file at `path`, an absolute one, for reading.
    ///
    /// # Errors
    /// Where there is none, or it is none.
    pub fn open(&self, path: &Path) -> io::Result<File> {
        // This does nothing but to look up the path.
        let found = self.look_up(path)?;
        let kind = FileType::from_raw_mode(fstat(&found)?.st_mode);
        let is_of_the_kernel = || -> io::Result<bool> {
            let file_system = fstatfs(&found)?.f_type as u64;
            Ok(OF_THE_KERNEL.contains(&file_system))
        };
        if kind != FileType::RegularFile || is_of_the_kernel()? {
            return Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                "not a regular file",
            ));
        }
        let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
        let again = format!("/proc/self/fd/{}", found.as_raw_fd());
        Ok(openat(CWD, again, flags, Mode::empty())?.into())
    }

    fn look_up(&self, path: &Path) -> io::Result<OwnedFd> {
        let flags = OFlags::PATH | OFlags::CLOEXEC;
        let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
        for _ in 0..LOOKUPS {
            match openat2(&self.directory, path, flags, Mode::empty(), resolve) {
                Ok(found) => return Ok(found),
                // Somebody moves directories.
                Err(Errno::AGAIN) => {}
                // Not there, or a sandbox does not know it.
                Err(Errno::NOSYS | Errno::PERM) if self.is_own => {
                    return Ok(openat(CWD, path, flags, Mode::empty())?);
                }
                Err(Errno::NOSYS | Errno::PERM) => return self.look_up_without_links(path),
                Err(error) => return Err(error.into()),
            }
        }
        Err(Errno::AGAIN.into())
    }

    /// The same by way of directories only.
    fn look_up_without_links(&self, path: &Path) -> io::Result<OwnedFd> {
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let mut at = self.directory.try_clone()?;
        for component in path.components() {
            match component {
                Component::Normal(name) => at = openat(&at, name, flags, Mode::empty())?,
                Component::RootDir | Component::CurDir => {}
                Component::ParentDir | Component::Prefix(_) => return Err(Errno::XDEV.into()),
            }
        }
        Ok(at)
    }
}

impl RootIdentity {
    fn of(process: &str) -> io::Result<RootIdentity> {
        let root = fs::metadata(format!("{process}/root/"))?;
        Ok(RootIdentity {
            namespace: fs::metadata(format!("{process}/ns/mnt"))?.ino(),
            device: root.dev(),
            inode: root.ino(),
        })
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    fn own() -> Root {
        Root::of(&Source::from(std::process::id())).expect("our own root")
    }

    /// A root that is a folder of ours.
    fn jail(folder: &Path) -> Root {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        Root {
            directory: openat(CWD, folder, flags, Mode::empty()).expect("a folder"),
            is_own: false,
            ..own()
        }
    }

    fn text(root: &Root, path: &str) -> Option<String> {
        let bytes = root.read(Path::new(path), 1 << 20).ok()?;
        String::from_utf8(bytes).ok()
    }

    #[test]
    fn links_stay_inside() {
        let folder = tempfile::tempdir().expect("a folder");
        let at = |name: &str| folder.path().join(name);
        let outside = tempfile::NamedTempFile::new().expect("a file");
        fs::write(outside.path(), "secret").expect("written");
        fs::create_dir(at("sub")).expect("a folder");
        fs::write(at("file"), "inside").expect("written");
        symlink("/file", at("absolute")).expect("a link");
        symlink("../../../file", at("sub/up")).expect("a link");
        symlink(outside.path(), at("out")).expect("a link");
        let root = jail(folder.path());
        for path in ["/file", "/absolute", "/sub/up", "/sub/../../file"] {
            assert_eq!(text(&root, path).as_deref(), Some("inside"), "{path}");
        }
        assert_eq!(text(&root, "/out"), None);
        let outside = outside.path().to_str().expect("UTF-8");
        assert_eq!(text(&root, outside), None);
        assert_eq!(text(&own(), outside).as_deref(), Some("secret"));
        // Where the kernel helps less, no links at all.
        let found = |path: &str| root.look_up_without_links(Path::new(path)).is_ok();
        assert!(found("/file") && found("/sub"));
        assert!(!found("/sub/../file") && !found("/out/x"));
    }

    #[test]
    fn only_regular_files_are_opened() {
        let folder = tempfile::tempdir().expect("a folder");
        let pipe = folder.path().join("pipe");
        let mode = Mode::from_raw_mode(0o600);
        rustix::fs::mknodat(CWD, &pipe, FileType::Fifo, mode, 0).expect("a pipe");
        for path in [
            pipe.to_str().expect("UTF-8"),
            "/dev/zero",
            "/proc/self/environ",
            "/proc/self/exe",
            "/proc/self/fd/0",
            "/sys/kernel/mm/transparent_hugepage/enabled",
            "/tmp",
            "/nowhere/at/all",
        ] {
            assert!(own().open(Path::new(path)).is_err(), "{path}");
        }
    }

    #[test]
    fn no_more_is_read_than_the_limit() {
        let file = tempfile::NamedTempFile::new().expect("a file");
        fs::write(file.path(), [b'x'; 100]).expect("written");
        assert_eq!(own().read(file.path(), 100).expect("read").len(), 100);
        let error = own().read(file.path(), 99).expect_err("more");
        assert_eq!(error.kind(), io::ErrorKind::FileTooLarge);
    }
}
