//! Why a core file cannot be looked into.

use std::io;
use std::path::{Path, PathBuf};

/// What is wrong with a core file, or with what it needs.
#[derive(Debug, thiserror::Error)]
pub enum CoreError {
    /// It cannot be read.
    #[error("cannot read {}: {}", path.display(), reason(source))]
    Io {
        /// The core file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// It is something else.
    #[error("{} is no core file that can be read: {reason}", path.display())]
    NotCore {
        /// The file.
        path: PathBuf,
        /// How that shows.
        reason: String,
        /// What it is packed with.
        packed: Option<&'static str>,
    },
    /// Its end is missing.
    #[error("{} is cut short: {}", path.display(), there_is(*.length, *.whole))]
    Cut {
        /// The core file.
        path: PathBuf,
        /// How many bytes there are.
        length: u64,
        /// How many there should be, where that can be told.
        whole: Option<u64>,
    },
    /// The kernel was told to leave out what matters.
    #[error("{} has nothing of its process's memory", path.display())]
    NoMemory {
        /// The core file.
        path: PathBuf,
    },
    /// The program is not here.
    #[error(
        "{} needs the program that left it: cannot read {}: {}",
        core.display(),
        path.display(),
        reason(source)
    )]
    NoExecutable {
        /// The core file.
        core: PathBuf,
        /// The program.
        path: PathBuf,
        /// Whether the user has named it.
        is_named: bool,
        /// Why.
        source: io::Error,
    },
    /// The program that is here is another one.
    #[error(
        "{} is not the program that left {}",
        path.display(),
        core.display()
    )]
    WrongExecutable {
        /// The core file.
        core: PathBuf,
        /// The program that was looked at.
        path: PathBuf,
        /// The one that is meant, as its process saw it.
        mapped: PathBuf,
    },
}

/// What the operating system says, without its number for it.
fn reason(error: &io::Error) -> String {
    let text = error.to_string();
    let end = text.rfind(" (os error ").unwrap_or(text.len());
    text[..end].to_owned()
}

fn there_is(length: u64, whole: Option<u64>) -> String {
    match whole {
        Some(whole) => format!("{length} of {whole} bytes are there"),
        None => format!("{length} bytes are there"),
    }
}

impl CoreError {
    pub(super) fn not_a_core(path: &Path, reason: &str) -> CoreError {
        CoreError::NotCore {
            path: path.to_owned(),
            reason: reason.to_owned(),
            packed: None,
        }
    }

    /// It begins with `magic`, as no ELF file does.
    pub(super) fn not_elf(path: &Path, magic: &[u8]) -> CoreError {
        let packers: [(&[u8], &str); 4] = [
            (b"\x28\xb5\x2f\xfd", "zstd"),
            (b"\x04\x22\x4d\x18", "lz4"),
            (b"\xfd7zXZ", "xz"),
            (b"\x1f\x8b", "gzip"),
        ];
        let packed = packers.iter().find(|(first, _)| magic.starts_with(first));
        let packed = packed.map(|&(_, packer)| packer);
        CoreError::NotCore {
            path: path.to_owned(),
            reason: match packed {
                Some(packer) => format!("it is packed by {packer}"),
                None => "it is no ELF file".to_owned(),
            },
            packed,
        }
    }

    pub(super) fn cut(path: &Path, length: u64, whole: Option<u64>) -> CoreError {
        CoreError::Cut {
            path: path.to_owned(),
            length,
            whole,
        }
    }

    /// What would help, in one line.
    pub fn hint(&self) -> Option<String> {
        match self {
            CoreError::Io { .. } | CoreError::NotCore { packed: None, .. } => None,
            CoreError::NotCore {
                packed: Some(packer),
                path,
                ..
            } => Some(format!("unpack it: {packer} -d {}", path.display())),
            CoreError::Cut { .. } => Some(
                "where it was written a limit was too low: `ulimit -c unlimited`, in a systemd unit LimitCORE=infinity"
                    .to_owned(),
            ),
            CoreError::NoMemory { .. } => Some(
                "where it was written, /proc/PID/coredump_filter said so: 0x33 is the default"
                    .to_owned(),
            ),
            CoreError::NoExecutable { is_named: true, .. } => None,
            CoreError::NoExecutable { .. } => Some(
                "copy it from where the core file was written, and name it: --exe PATH".to_owned(),
            ),
            CoreError::WrongExecutable { mapped, .. } => Some(format!(
                "name the same build, that was {} where the core file was written: --exe PATH",
                mapped.display()
            )),
        }
    }
}
