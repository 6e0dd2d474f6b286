//! One mapped file of a process: opened through the process, and named.

use std::fs::{self, File};
use std::path::Path;
use std::sync::Arc;

use nodetap_sampler::source::Source as Process;
use nodetap_v8::Memory;
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
    pub(crate) fn open(process: &Process, id: &FileId, range: (u64, u64)) -> Self {
        let opened = process.open(range, &id.path, id.inode);
        if opened.is_none() {
            tracing::debug!(pid = process.pid(), path = %id.path.display(), "cannot open a mapped file");
        }
        Self {
            path: id.path.to_string_lossy().into(),
            unnamed: format!("({})", id.name()).into(),
            symbols: opened.map_or(Symbols::None, |file| Symbols::Unread(Source::File(file))),
            named: FxHashMap::default(),
        }
    }

    pub(crate) fn vdso(process: &Process) -> Self {
        let bytes = vdso_of(process).or_else(|| vdso_of(&std::process::id().into()));
        Self {
            path: "[vdso]".into(),
            unnamed: "(vdso)".into(),
            symbols: bytes.map_or(Symbols::None, |bytes| Symbols::Unread(Source::Bytes(bytes))),
            named: FxHashMap::default(),
        }
    }

    /// The frame of the code at `offset` in the file, as `process` runs it.
    pub(crate) fn frame(&mut self, process: &Process, offset: u64) -> NativeFrame {
        let (address, symbol) = match self.symbols(process) {
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

    fn symbols(&mut self, process: &Process) -> Option<&ElfSymbols> {
        if let Symbols::Unread(_) = &self.symbols
            && let Symbols::Unread(source) = std::mem::replace(&mut self.symbols, Symbols::None)
        {
            match ElfSymbols::read(source, |id| open_debug_file(process, id)) {
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

/// The file with the separate symbols of the file that has build id `id`, where a
/// distribution's `-dbg` package puts it; the process's own file system first.
fn open_debug_file(process: &Process, id: &[u8]) -> Option<File> {
    let (first, rest) = id.split_first()?;
    if rest.is_empty() {
        return None;
    }
    let rest: String = rest.iter().map(|byte| format!("{byte:02x}")).collect();
    let path = format!("/usr/lib/debug/.build-id/{first:02x}/{rest}.debug");
    let path = Path::new(&path);
    [process.in_root(path), path.to_owned()]
        .iter()
        .find_map(|path| {
            let is_file = fs::metadata(path).is_ok_and(|metadata| metadata.is_file());
            is_file.then(|| File::open(path).ok()).flatten()
        })
}

/// The vDSO as it stands in the memory of a process.
pub(crate) fn vdso_of(process: &Process) -> Option<Vec<u8>> {
    let maps = Maps::read(process).ok()?;
    let mapping = maps
        .iter()
        .find(|mapping| mapping.content == Content::Vdso)?;
    let length = usize::try_from(mapping.end - mapping.start).ok()?;
    // A few pages.
    if length > 1 << 20 {
        return None;
    }
    let mut bytes = vec![0; length];
    let memory = process.memory().ok()?;
    memory.read(mapping.start, &mut bytes).ok()?;
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
}
