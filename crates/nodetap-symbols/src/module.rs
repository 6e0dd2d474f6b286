//! One mapped file of a process: opened through the process, and named.

use std::fs::{self, File};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustc_hash::FxHashMap;

use crate::demangle::readable;
use crate::elf::{ElfSymbols, Source, Symbol};
use crate::maps::{Content, FileId, Maps};
use crate::native::NativeFrame;

/// V8's embedded builtins are functions named like this.
const BUILTIN: &str = "Builtins_";

/// A mapped file.
#[derive(Debug)]
pub(crate) struct Module {
    path: Arc<str>,
    unnamed: Arc<str>,
    symbols: Symbols,
    /// Names by the function's address.
    named: FxHashMap<(u64, bool), (Arc<str>, bool)>,
}

#[derive(Debug)]
enum Symbols {
    /// Not asked for yet.
    Unread(Source),
    Read(ElfSymbols),
    /// It could not be opened, or is no ELF file.
    None,
}

impl Module {
    pub(crate) fn open(pid: u32, id: &FileId, range: (u64, u64)) -> Self {
        let opened = open_mapped(pid, id, range);
        if opened.is_none() {
            tracing::debug!(pid, path = %id.path.display(), "cannot open a mapped file");
        }
        Self {
            path: id.path.to_string_lossy().into(),
            unnamed: format!("({})", id.name()).into(),
            symbols: opened.map_or(Symbols::None, |file| Symbols::Unread(Source::File(file))),
            named: FxHashMap::default(),
        }
    }

    pub(crate) fn vdso(pid: u32) -> Self {
        let bytes = vdso_of(pid).or_else(|| vdso_of(std::process::id()));
        Self {
            path: "[vdso]".into(),
            unnamed: "(vdso)".into(),
            symbols: bytes.map_or(Symbols::None, |bytes| Symbols::Unread(Source::Bytes(bytes))),
            named: FxHashMap::default(),
        }
    }

    /// The frame of the code at `offset` in the file, as process `pid` runs it.
    pub(crate) fn frame(&mut self, pid: u32, offset: u64) -> NativeFrame {
        let (address, symbol) = match self.symbols(pid) {
            Some(symbols) => match symbols.address_of(offset) {
                Some(address) => (address, symbols.find(address)),
                None => (offset, None),
            },
            None => (offset, None),
        };
        let mut frame = NativeFrame {
            function: None,
            builtin: false,
            module: self.path.clone(),
            address,
            unnamed: self.unnamed.clone(),
        };
        if let Some(symbol) = symbol {
            frame.address = symbol.start;
            let (name, builtin) = self
                .named
                .entry((symbol.start, symbol.stub))
                .or_insert_with(|| name_of(&symbol));
            frame.function = Some(name.clone());
            frame.builtin = *builtin;
        }
        frame
    }

    /// Whether its functions have been read.
    pub(crate) fn is_read(&self) -> bool {
        matches!(self.symbols, Symbols::Read(_))
    }

    fn symbols(&mut self, pid: u32) -> Option<&ElfSymbols> {
        if let Symbols::Unread(_) = &self.symbols
            && let Symbols::Unread(source) = std::mem::replace(&mut self.symbols, Symbols::None)
        {
            match ElfSymbols::read(source, |id| open_debug_file(pid, id)) {
                Ok(symbols) => self.symbols = Symbols::Read(symbols),
                Err(error) => tracing::debug!(path = %self.path, %error, "no symbols"),
            }
        }
        match &self.symbols {
            Symbols::Read(symbols) => Some(symbols),
            _ => None,
        }
    }
}

/// The name to show for a symbol, and whether it is a builtin of V8's.
fn name_of(symbol: &Symbol) -> (Arc<str>, bool) {
    if let Some(builtin) = symbol.name.strip_prefix(BUILTIN) {
        return (builtin.into(), true);
    }
    let name = readable(&symbol.name);
    if symbol.stub {
        (format!("{name}@plt").into(), false)
    } else {
        (name.into(), false)
    }
}

/// Opens the file that process `pid` has mapped at `range`.
fn open_mapped(pid: u32, id: &FileId, (start, end): (u64, u64)) -> Option<File> {
    // The very file, whatever became of its name. Needs CAP_SYS_ADMIN or
    // CAP_CHECKPOINT_RESTORE.
    let mapped = PathBuf::from(format!("/proc/{pid}/map_files/{start:x}-{end:x}"));
    // Of these two it must be made sure that they are the file that was mapped.
    let executable = PathBuf::from(format!("/proc/{pid}/exe"));
    let by_name = in_root(pid, &id.path);
    [(mapped, false), (executable, true), (by_name, true)]
        .into_iter()
        .find_map(|(path, check)| {
            // Nothing that acts on being opened.
            let metadata = fs::metadata(&path).ok().filter(fs::Metadata::is_file)?;
            if check && metadata.ino() != id.inode {
                return None;
            }
            let file = File::open(&path).ok()?;
            let opened = file.metadata().ok()?;
            (opened.ino() == metadata.ino() && opened.dev() == metadata.dev()).then_some(file)
        })
}

/// `path` as process `pid` sees it, in its mount namespace and root directory.
fn in_root(pid: u32, path: &Path) -> PathBuf {
    let mut inside = format!("/proc/{pid}/root").into_bytes();
    if !path.as_os_str().as_bytes().starts_with(b"/") {
        inside.push(b'/');
    }
    inside.extend_from_slice(path.as_os_str().as_bytes());
    PathBuf::from(std::ffi::OsStr::from_bytes(&inside))
}

/// The file with the separate symbols of the file that has build id `id`, where a
/// distribution's `-dbg` package puts it; the process's own file system first.
fn open_debug_file(pid: u32, id: &[u8]) -> Option<File> {
    let (first, rest) = id.split_first()?;
    if rest.is_empty() {
        return None;
    }
    let rest: String = rest.iter().map(|byte| format!("{byte:02x}")).collect();
    let path = format!("/usr/lib/debug/.build-id/{first:02x}/{rest}.debug");
    let path = Path::new(&path);
    [in_root(pid, path), path.to_owned()]
        .iter()
        .find_map(|path| {
            let is_file = fs::metadata(path).is_ok_and(|metadata| metadata.is_file());
            is_file.then(|| File::open(path).ok()).flatten()
        })
}

/// The vDSO as it stands in the memory of process `pid`.
pub(crate) fn vdso_of(pid: u32) -> Option<Vec<u8>> {
    let maps = Maps::read(pid).ok()?;
    let mapping = maps
        .iter()
        .find(|mapping| mapping.content == Content::Vdso)?;
    let length = usize::try_from(mapping.end - mapping.start).ok()?;
    // A few pages.
    if length > 1 << 20 {
        return None;
    }
    let mut bytes = vec![0; length];
    File::open(format!("/proc/{pid}/mem"))
        .ok()?
        .read_exact_at(&mut bytes, mapping.start)
        .ok()?;
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn builtins_and_stubs_are_told_apart() {
        let symbol = |name: &str, stub| Symbol {
            name: name.to_owned(),
            start: 0,
            stub,
        };
        assert_eq!(
            name_of(&symbol("Builtins_ArrayPrototypeMap", false)),
            ("ArrayPrototypeMap".into(), true)
        );
        assert_eq!(
            name_of(&symbol("_ZN1a1bEv", true)),
            ("a::b@plt".into(), false)
        );
        assert_eq!(name_of(&symbol("uv_run", false)), ("uv_run".into(), false));
    }

    #[test]
    fn paths_are_looked_up_in_the_processs_own_root() {
        assert_eq!(
            in_root(7, Path::new("/usr/bin/node")),
            Path::new("/proc/7/root/usr/bin/node")
        );
        assert_eq!(in_root(7, Path::new("x")), Path::new("/proc/7/root/x"));
    }
}
