//! The process to profile: is it Node.js, which one, and where is its V8?

mod constant;

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use nodetap_v8::bytecode::BytecodeSizes;
use nodetap_v8::layout::UnknownLayout;
use nodetap_v8::{Layout, Memory};
use procfs::FromBufRead;
use procfs::process::{MMapPath, MemoryMaps};
use tracing::debug;

use crate::builtins::Builtins;
use crate::core::Core;
use crate::ebpf::shared::ProcessConfig;
use crate::image::{Image, ImageError, Images};
use crate::memory::ProcessMemory;
use crate::source::Source;

/// A range of addresses, end exclusive.
pub type Addresses = std::ops::Range<u64>;

/// The first V8 whose builtins are in its binary; before, they are on the heap.
const FIRST_IN_BINARY: nodetap_v8::Version = nodetap_v8::Version::new(7, 0);

/// A Node.js process that can be profiled.
#[derive(Debug)]
pub struct Target {
    /// Process id.
    pub pid: u32,
    /// Where it is looked at.
    pub source: Source,
    /// Its command line.
    pub command: Vec<String>,
    /// `v24.21.0`, where it can be told.
    pub node_version: Option<String>,
    /// `13.6.233.17-node.53`
    pub v8_version: String,
    /// Where things are in its heaps.
    pub layout: Layout,
    /// The length of each bytecode, where the binary tells.
    pub bytecode_sizes: Option<BytecodeSizes>,
    /// V8's embedded builtins.
    pub builtins: Builtins,
    /// The code of the module that V8 is in (builtins included).
    pub code: Addresses,
    /// Its memory.
    pub memory: ProcessMemory,
    /// Where Node.js has its version, once it has begun.
    node_metadata: Option<u64>,
}

/// Why a process cannot be profiled.
#[derive(Debug, thiserror::Error)]
pub enum TargetError {
    /// There is none of that number.
    #[error("there is no process {0}")]
    NoSuchProcess(u32),
    /// It is a process of another user, or protected.
    #[error("no permission to read the memory of process {pid}{}", of(.command))]
    NoPermission {
        /// The process.
        pid: u32,
        /// Its command line, as far as it could be read.
        command: Vec<String>,
    },
    /// No V8 is in it.
    #[error("process {pid}{} is not a Node.js process", of(.command))]
    NotNode {
        /// The process.
        pid: u32,
        /// Its command line.
        command: Vec<String>,
    },
    /// A V8 is in it whose memory nodetap does not know how to read.
    #[error("process {pid} runs a V8 that nodetap cannot read: {source}")]
    UnknownV8 {
        /// The process.
        pid: u32,
        /// What is not known.
        source: UnknownLayout,
    },
    /// Its binary could not be read.
    #[error("cannot read {} of process {pid}: {source}", path.display())]
    Image {
        /// The process.
        pid: u32,
        /// The binary.
        path: PathBuf,
        /// Why.
        source: ImageError,
    },
    /// Something of `/proc/PID` could not be read.
    #[error("cannot look at process {pid}: {source}")]
    Io {
        /// The process.
        pid: u32,
        /// Why.
        source: io::Error,
    },
}

/// ` (sleep 100)`, cut where it is long.
fn of(command: &[String]) -> String {
    let Some(program) = command.first() else {
        return String::new();
    };
    let text: String = program
        .chars()
        .map(|c| if c.is_control() { '?' } else { c })
        .take(60)
        .collect();
    format!(" ({text})")
}

impl TargetError {
    /// What would help, in one line; what gives a permission, the caller knows better.
    pub fn hint(&self) -> Option<String> {
        match self {
            TargetError::NoSuchProcess(_) | TargetError::NotNode { .. } => {
                Some("`nodetap ps` lists the Node.js processes of this machine".to_owned())
            }
            TargetError::UnknownV8 { .. } => Some(
                "nodetap reads Node.js 0.10, 0.12, 4, 6 and 8 to 26 (of 8 and 10 not every release)"
                    .to_owned(),
            ),
            TargetError::NoPermission { .. } | TargetError::Image { .. } | TargetError::Io { .. } => {
                None
            }
        }
    }

    /// What it means that something of process `pid` could not be read.
    pub fn io(pid: u32, command: &[String], source: io::Error) -> TargetError {
        match source.kind() {
            // A process that ends while its files are read gives ESRCH.
            io::ErrorKind::NotFound => TargetError::NoSuchProcess(pid),
            _ if source.raw_os_error() == Some(3) => TargetError::NoSuchProcess(pid),
            io::ErrorKind::PermissionDenied => TargetError::NoPermission {
                pid,
                command: command.to_vec(),
            },
            _ => TargetError::Io { pid, source },
        }
    }
}

impl Target {
    /// Looks at process `pid` and finds out all that sampling it needs.
    /// The process is neither stopped nor changed.
    ///
    /// # Errors
    /// Where it cannot be profiled; [`TargetError::hint`] says what would help.
    pub fn attach(pid: u32) -> Result<Target, TargetError> {
        Target::attach_with(pid, &mut Images::default())
    }

    /// The same for one of many processes, whose binaries are read but once.
    ///
    /// # Errors
    /// As with [`attach`](Self::attach).
    pub fn attach_with(pid: u32, images: &mut Images) -> Result<Target, TargetError> {
        Target::find(pid, images).map_err(|error| match has_ended(pid) {
            // Whatever could not be read: that is why.
            true => TargetError::NoSuchProcess(pid),
            false => error,
        })
    }

    /// Looks at the process that left a core file, and finds out all that naming its
    /// stacks needs.
    ///
    /// # Errors
    /// As with [`attach`](Self::attach).
    pub fn of_core(core: &Arc<Core>) -> Result<Target, TargetError> {
        let source = Source::Core(core.clone());
        Target::find_in(&source, core.command().to_vec(), &mut Images::default())
    }

    fn find(pid: u32, images: &mut Images) -> Result<Target, TargetError> {
        Target::find_in(&Source::Alive(pid), command_line(pid)?, images)
    }

    fn find_in(
        source: &Source,
        command: Vec<String>,
        images: &mut Images,
    ) -> Result<Target, TargetError> {
        let pid = source.pid();
        let io_error = |error| TargetError::io(pid, &command, error);
        let maps = source.mappings().map_err(io_error)?;
        let maps = MemoryMaps::from_buf_read(&*maps).map_err(|error| io_error(to_io(error)))?;
        // `/proc/PID/mem` is the last word on whether we may.
        let memory = source.memory().map_err(io_error)?;

        for (index, path) in modules_that_may_hold_v8(source, &maps)
            .into_iter()
            .enumerate()
        {
            let image = match images.open(&path.open_as) {
                Ok(image) => image,
                // Another library need not be one that we can read.
                Err(_) if index > 0 => continue,
                Err(source) => {
                    return Err(match source {
                        ImageError::Io(source) => io_error(source),
                        source => TargetError::Image {
                            pid,
                            path: path.mapped_as,
                            source,
                        },
                    });
                }
            };
            let has_metadata = !image.metadata.is_empty();
            if !has_metadata && !needs_no_metadata(&memory, &image, &path) {
                continue;
            }
            let mut target = Target::with_image(source, command, memory, image, &path)?;
            if !has_metadata {
                let checked = target
                    .layout
                    .check_objects(&target.memory, anonymous(&maps));
                checked.map_err(|source| TargetError::UnknownV8 { pid, source })?;
            }
            let Target {
                builtins, memory, ..
            } = &mut target;
            builtins.find_copies(source, memory, &maps, &path.mapped_as);
            target.set_constant(&maps);
            return Ok(target);
        }
        Err(TargetError::NotNode { pid, command })
    }

    fn with_image(
        source: &Source,
        command: Vec<String>,
        memory: ProcessMemory,
        mut image: Image,
        module: &Module,
    ) -> Result<Target, TargetError> {
        let pid = source.pid();
        let bias = module.start.wrapping_sub(image.first_address);
        let unknown = |source| TargetError::UnknownV8 { pid, source };
        let missing = |what: &str| {
            unknown(UnknownLayout::Missing {
                version: nodetap_v8::Version::new(0, 0),
                what: what.to_owned(),
            })
        };
        let v8_version = v8_version(&memory, &image, bias).ok_or_else(|| missing("its version"))?;
        let version = v8_version
            .parse()
            .map_err(|_| missing("its version in a known form"))?;
        let layout = Layout::new(version, &image.metadata).map_err(unknown)?;
        if image.builtin_names.is_empty() && version >= FIRST_IN_BINARY {
            // What is not found has no name.
            let found = image.find_stripped(&module.open_as, &memory, bias);
            debug!(?found, builtins = image.builtin_names.len(), "stripped");
        }
        let moved =
            |range: &Addresses| range.start.wrapping_add(bias)..range.end.wrapping_add(bias);
        let bytecode_sizes = image
            .bytecode_sizes
            .as_deref()
            .and_then(|table| BytecodeSizes::new(table, &layout.bytecode));
        let node_metadata = image.node_metadata.map(|it| it.wrapping_add(bias));
        Ok(Target {
            pid,
            source: source.clone(),
            command,
            node_version: node_version(&memory, node_metadata)
                .or_else(|| image.node_version.clone()),
            node_metadata,
            v8_version,
            layout,
            bytecode_sizes,
            code: moved(&image.code),
            builtins: Builtins::new(&image, bias, &memory),
            memory: memory.with_neighbours(),
        })
    }

    /// Node's version, which a process that was attached to before its first
    /// instruction has only later.
    pub fn node_version_by_now(&mut self) -> Option<&str> {
        if self.node_version.is_none() {
            self.node_version = node_version(&self.memory, self.node_metadata);
        }
        self.node_version.as_deref()
    }

    /// What the sampler's walker must know of this process.
    pub fn config(&self, max_depth: u32) -> ProcessConfig {
        let builtins = self.builtins.in_binary();
        let shared = &self.layout.shared;
        let scope_info = &self.layout.scope_info;
        ProcessConfig {
            native_start: self.code.start,
            native_end: self.code.end,
            builtins_start: builtins.start,
            builtins_end: builtins.end,
            function_shared: self.layout.function_shared,
            shared_script: shared.script,
            shared_literal_id: shared.function_literal_id.unwrap_or(shared.script + 8),
            shared_scope_info: match shared.function_literal_id {
                Some(_) => 0,
                None => shared.name_or_scope_info,
            },
            scope_info_flags: scope_info.flags,
            scope_info_function_variable: scope_info.function_variable,
            scope_info_inferred_name: scope_info.has_inferred_function_name,
            scope_info_kind_shift: scope_info.function_kind_shift,
            shared_code: self.layout.only_full_codegen().unwrap_or(0),
            script_id: self.layout.script.id,
            frame_bytecode_array: self.layout.frame.bytecode_array.unsigned_abs(),
            frame_bytecode_offset: self.layout.frame.bytecode_offset.unsigned_abs(),
            debug_info_script: self.layout.debug_info_script.unwrap_or(0),
            max_depth,
            has_v8: 1,
            entry_caller: self.layout.frame.entry_caller.map_or(0, i32::unsigned_abs),
            ..ProcessConfig::default()
        }
    }
}

/// Whether `pid` is no process, or one that is ending: its memory goes first, and
/// then somebody has to take note.
fn has_ended(pid: u32) -> bool {
    /// `PF_EXITING` in `include/linux/sched.h`
    const EXITING: u32 = 4;
    match fs::read_to_string(format!("/proc/{pid}/stat")) {
        // The name before it may hold anything; the flags are the sixth field after
        // the state.
        Ok(stat) => stat.rsplit_once(") ").is_some_and(|(_, fields)| {
            let flags = fields.split(' ').nth(6).and_then(|it| it.parse().ok());
            fields.starts_with(['Z', 'X']) || flags.is_some_and(|flags: u32| flags & EXITING != 0)
        }),
        Err(error) => error.kind() == io::ErrorKind::NotFound || error.raw_os_error() == Some(3),
    }
}

/// The command line of `pid`.
fn command_line(pid: u32) -> Result<Vec<String>, TargetError> {
    let bytes = fs::read(format!("/proc/{pid}/cmdline"))
        .map_err(|source| TargetError::io(pid, &[], source))?;
    Ok(bytes
        .split(|&byte| byte == 0)
        .filter(|word| !word.is_empty())
        .map(|word| String::from_utf8_lossy(word).into_owned())
        .collect())
}

fn to_io(error: procfs::ProcError) -> io::Error {
    match error {
        procfs::ProcError::PermissionDenied(_) => io::ErrorKind::PermissionDenied.into(),
        procfs::ProcError::NotFound(_) => io::ErrorKind::NotFound.into(),
        procfs::ProcError::Io(error, _) => error,
        other => io::Error::other(other.to_string()),
    }
}

/// A mapped binary.
struct Module {
    /// Its path as the target sees it.
    mapped_as: PathBuf,
    /// A path by which it can be opened from here, whatever the mount
    /// namespace of the target, and though it may have been deleted since.
    open_as: PathBuf,
    /// Where its first byte is mapped.
    start: u64,
}

/// The executable, then the shared libraries that could be Node's.
fn modules_that_may_hold_v8(source: &Source, maps: &MemoryMaps) -> Vec<Module> {
    let executable = source.executable();
    let mut modules: Vec<Module> = Vec::new();
    for map in maps {
        let MMapPath::Path(path) = &map.pathname else {
            continue;
        };
        if map.offset != 0 {
            continue;
        }
        let (start, end) = map.address;
        let is_executable = Some(path) == executable.as_ref();
        // The first mapping of the file; later ones of offset 0 are none of the
        // loader's.
        let is_known = || modules.iter().any(|module| module.mapped_as == *path);
        if is_executable && is_known() || !is_executable && !is_node_library(path) {
            continue;
        }
        let open_as = match source {
            Source::Alive(pid) if is_executable => format!("/proc/{pid}/exe").into(),
            Source::Alive(pid) => {
                let map_file = PathBuf::from(format!("/proc/{pid}/map_files/{start:x}-{end:x}"));
                match fs::File::open(&map_file) {
                    Ok(_) => map_file,
                    Err(_) => source.in_root(path),
                }
            }
            Source::Core(core) => match core.file_at(start) {
                Some(path) => path.to_owned(),
                None => continue,
            },
        };
        let module = Module {
            mapped_as: path.clone(),
            open_as,
            start,
        };
        match is_executable {
            true => modules.insert(0, module),
            false => modules.push(module),
        }
    }
    modules
}

/// Memory that is of no file, is read and is written: V8's heap is there.
fn anonymous(maps: &procfs::process::MemoryMaps) -> impl Iterator<Item = Addresses> {
    use procfs::process::{MMPermissions, MMapPath};
    let wanted = MMPermissions::READ | MMPermissions::WRITE;
    let is_heap = move |map: &&procfs::process::MemoryMap| {
        matches!(map.pathname, MMapPath::Anonymous) && map.perms.contains(wanted)
    };
    let range = |map: &procfs::process::MemoryMap| map.address.0..map.address.1;
    maps.iter().filter(is_heap).map(range)
}

/// `libnode.so.108`, `libv8.so`: what distributions put V8 in.
pub fn is_node_library(path: &Path) -> bool {
    path.file_name()
        .and_then(|name| name.to_str())
        .is_some_and(|name| name.starts_with("libnode") || name.starts_with("libv8"))
}

/// Whether the V8 in `image` is one that has no metadata, and is known all the same.
fn needs_no_metadata(memory: &dyn Memory, image: &Image, module: &Module) -> bool {
    let bias = module.start.wrapping_sub(image.first_address);
    let version = v8_version(memory, image, bias).and_then(|version| version.parse().ok());
    version.is_some_and(Layout::needs_no_metadata)
}

/// V8's version as its `Version` class has it (`src/utils/version.h`).
fn v8_version(memory: &dyn Memory, image: &Image, bias: u64) -> Option<String> {
    let number = |name: &str| -> Option<u32> {
        memory
            .u32(image.version_symbols.get(name)?.wrapping_add(bias))
            .ok()
    };
    let embedder = image
        .version_symbols
        .get("embedder")
        .and_then(|&address| memory.u64(address.wrapping_add(bias)).ok())
        .and_then(|text| c_string(memory, text))
        .unwrap_or_default();
    Some(format!(
        "{}.{}.{}.{}{embedder}",
        number("major")?,
        number("minor")?,
        number("build")?,
        number("patch")?,
    ))
}

/// Node's version: the first string of `node::per_process::metadata`
/// (`src/node_metadata.h`), a libstdc++ string: pointer, length. Up to Node 16
/// it is one of the older kind: a pointer, and the length three words before
/// what that points to.
fn node_version(memory: &dyn Memory, metadata: Option<u64>) -> Option<String> {
    let metadata = metadata?;
    let text = memory.u64(metadata).ok()?;
    let lengths = [metadata.wrapping_add(8), text.wrapping_sub(24)];
    let length = lengths
        .into_iter()
        .filter_map(|address| memory.u64(address).ok())
        .find(|length| (1..=64).contains(length))?;
    let text = String::from_utf8(memory.bytes(text, length as usize).ok()?).ok()?;
    text.starts_with(|c: char| c.is_ascii_digit())
        .then(|| format!("v{text}"))
}

fn c_string(memory: &dyn Memory, address: u64) -> Option<String> {
    let mut text = Vec::new();
    while text.len() < 64 {
        let byte = memory.bytes(address + text.len() as u64, 1).ok()?[0];
        if byte == 0 {
            return String::from_utf8(text).ok();
        }
        text.push(byte);
    }
    None
}
