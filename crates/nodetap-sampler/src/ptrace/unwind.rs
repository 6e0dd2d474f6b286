//! Native code that keeps no frame pointer: libc, OpenSSL, most addons.
//!
//! A thread that waits does so in the C library, so that without this hardly
//! any stack of a waiting thread would be found. What the compilers write down
//! for exceptions (`.eh_frame`) tells for each instruction where the caller's
//! registers are.

use std::ops::{Deref, Range};
use std::sync::Arc;

use framehop::x86_64::{CacheX86_64, UnwindRegsX86_64, UnwinderX86_64};
use framehop::{ExplicitModuleSectionInfo, FrameAddress, Module, Unwinder};
use nodetap_v8::Memory;
use procfs::FromBufRead;
use procfs::process::{MMPermissions, MMapPath, MemoryMap, MemoryMaps};

use crate::source::Source;
use crate::unwind::Cursor;
use crate::unwind::file::{self, Backing, Elf};

/// What is known of a frame's caller.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Caller {
    /// Its registers.
    Found(Cursor),
    /// There is none: threads begin here.
    None,
    /// Nothing: frame pointers have to do.
    Unknown,
}

/// The files that a process executes, with what they tell.
pub(super) struct NativeUnwinder {
    unwinder: UnwinderX86_64<Bytes>,
    cache: CacheX86_64,
    /// The code of files that tell something, by address.
    known: Vec<Code>,
    /// All executable memory, by address.
    executable: Vec<Range<u64>>,
    /// Code was met that is in none of it.
    met_new_code: bool,
}

/// The code of a file as it is mapped.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Code {
    range: Range<u64>,
    /// The file: its device and number; none for the vDSO.
    file: Option<(i32, i32, u64)>,
}

impl NativeUnwinder {
    /// Knows no files.
    pub fn new() -> NativeUnwinder {
        NativeUnwinder {
            unwinder: UnwinderX86_64::new(),
            cache: CacheX86_64::new(),
            known: Vec::new(),
            executable: Vec::new(),
            met_new_code: false,
        }
    }

    /// Reads the mappings of a process. Files that cannot be read are left out.
    pub fn of(source: &Source, memory: &dyn Memory) -> NativeUnwinder {
        let mut found = NativeUnwinder::new();
        found.look_again(source, memory);
        found
    }

    /// Whether code was met since the last look that was not mapped then.
    pub fn met_new_code(&self) -> bool {
        self.met_new_code
    }

    /// Reads the mappings of the process again. What is mapped as it was is not
    /// read once more.
    pub fn look_again(&mut self, source: &Source, memory: &dyn Memory) {
        self.met_new_code = false;
        let maps = source.mappings().map(|it| MemoryMaps::from_buf_read(&*it));
        // A process that has ended maps nothing new.
        let Ok(Ok(maps)) = maps else { return };
        let known = std::mem::take(&mut self.known);
        self.executable.clear();
        let mut last: Option<(Code, Arc<Backing>)> = None;
        for map in &maps {
            if !map.perms.contains(MMPermissions::EXECUTE) {
                continue;
            }
            let (start, end) = map.address;
            self.executable.push(start..end);
            let code = Code {
                range: start..end,
                file: match &map.pathname {
                    MMapPath::Path(_) => Some((map.dev.0, map.dev.1, map.inode)),
                    MMapPath::Vdso => None,
                    _ => continue,
                },
            };
            if known.contains(&code) {
                self.known.push(code);
                continue;
            }
            let file = match (&code.file, &last) {
                (None, _) => {
                    let bytes = memory.bytes(start, (end - start) as usize);
                    bytes.ok().map(|bytes| Arc::new(Backing::Copied(bytes)))
                }
                (Some(_), Some((before, file))) if before.file == code.file => Some(file.clone()),
                (Some(_), _) => file::open(source, map).map(Arc::new),
            };
            let Some(file) = file else { continue };
            last = Some((code.clone(), file.clone()));
            if let Some(module) = module(&file, map) {
                self.known.push(code);
                self.unwinder.add_module(module);
            }
        }
        for gone in known.iter().filter(|code| !self.known.contains(code)) {
            self.unwinder.remove_module(gone.range.start);
        }
    }

    /// The caller of the frame `at`. `first`: the thread itself is there; else
    /// the pc is a return address.
    pub fn caller(
        &mut self,
        at: Cursor,
        first: bool,
        read: &mut dyn FnMut(u64) -> Option<u64>,
    ) -> Caller {
        let address = match first {
            true => FrameAddress::from_instruction_pointer(at.pc),
            false => match FrameAddress::from_return_address(at.pc) {
                Some(address) => address,
                None => return Caller::Unknown,
            },
        };
        let lookup = address.address_for_lookup();
        let after = self.known.partition_point(|it| it.range.start <= lookup);
        if after == 0 || lookup >= self.known[after - 1].range.end {
            self.met_new_code |= !contains(&self.executable, lookup);
            return Caller::Unknown;
        }
        let mut registers = UnwindRegsX86_64::new(at.pc, at.sp, at.fp);
        let mut read = |address| read(address).ok_or(());
        let found = self
            .unwinder
            .unwind_frame(address, &mut registers, &mut self.cache, &mut read);
        match found {
            Ok(None) => Caller::None,
            Ok(Some(0)) => Caller::None,
            // Code that nothing is written down about is taken for a function
            // without a frame, which it need not be.
            Ok(Some(pc)) if contains(&self.executable, pc - 1) && registers.sp() > at.sp => {
                Caller::Found(Cursor {
                    pc,
                    sp: registers.sp(),
                    fp: registers.bp(),
                })
            }
            Ok(Some(_)) | Err(_) => Caller::Unknown,
        }
    }
}

/// Whether one of `ranges`, which are sorted, holds `address`.
fn contains(ranges: &[Range<u64>], address: u64) -> bool {
    let after = ranges.partition_point(|range| range.start <= address);
    after > 0 && address < ranges[after - 1].end
}

/// What `backing` tells of the code in `map`; `None` where it tells nothing.
fn module(backing: &Arc<Backing>, map: &MemoryMap) -> Option<Module<Bytes>> {
    let elf = Elf::parse(&***backing).ok()?;
    let bias = file::bias(&elf, backing, map)?;
    let section = |name: &str| {
        let (range, addresses) = file::section(&elf, backing, name)?;
        let bytes = Bytes {
            file: backing.clone(),
            range,
        };
        Some((bytes, addresses))
    };
    let (eh_frame, eh_frame_svma) = section(".eh_frame")?;
    let (eh_frame_hdr, eh_frame_hdr_svma) = section(".eh_frame_hdr")?;
    let sections = ExplicitModuleSectionInfo {
        base_svma: 0,
        text_svma: section(".text").map(|(_, range)| range),
        got_svma: section(".got").map(|(_, range)| range),
        eh_frame: Some(eh_frame),
        eh_frame_svma: Some(eh_frame_svma),
        eh_frame_hdr: Some(eh_frame_hdr),
        eh_frame_hdr_svma: Some(eh_frame_hdr_svma),
        text: None,
        stubs_svma: None,
        stub_helper_svma: None,
        unwind_info: None,
        debug_frame: None,
        text_segment_svma: None,
        text_segment: None,
    };
    let (start, end) = map.address;
    Some(Module::new(String::new(), start..end, bias, sections))
}

/// A part of a file.
struct Bytes {
    file: Arc<Backing>,
    range: Range<usize>,
}

impl Deref for Bytes {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        // It was found to be in the file.
        self.file.get(self.range.clone()).unwrap_or_default()
    }
}
