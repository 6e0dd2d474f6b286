//! The notes of a core file: what the kernel writes about a process besides its
//! memory (`fs/binfmt_elf.c`; the structures are those of `include/linux/elfcore.h`
//! for x86-64).

use std::ffi::OsStr;
use std::ops::Range;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

use object::LittleEndian;
use object::elf::{self, FileHeader64};
use object::read::elf::Note;

use crate::ptrace::State;
use crate::raw::Registers;

/// What the notes say.
#[derive(Debug, Default)]
pub(super) struct Notes {
    /// The process's number.
    pub pid: u32,
    /// The name of its main thread.
    pub name: String,
    /// The beginning of its command line.
    pub arguments: String,
    /// Its threads, in the order of the notes.
    pub threads: Vec<(u32, State)>,
    /// The signal that ended it, and the thread that got that.
    pub ended_by: Option<(i32, u32)>,
    /// Where the kernel has mapped its vDSO.
    pub vdso: Option<u64>,
    /// How it was started.
    pub start: Start,
    /// The auxiliary vector as it stands on the main thread's stack.
    pub auxiliary: Vec<u8>,
    /// The files that it had mapped, each path once.
    pub paths: Vec<PathBuf>,
    /// Where it had them, by address.
    pub mappings: Vec<Mapping>,
}

/// What the kernel told the process of its executable.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Start {
    /// Where it begins to execute.
    pub entry: Option<u64>,
    /// How many program headers it has.
    pub headers: Option<u64>,
}

/// A mapping of a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Mapping {
    pub addresses: Range<u64>,
    /// Its number among the paths.
    pub file: usize,
    /// Where in the file it begins.
    pub offset: u64,
}

/// `AT_*` of `include/uapi/linux/auxvec.h`
const AT_PHNUM: u64 = 5;
const AT_ENTRY: u64 = 9;
const AT_SYSINFO_EHDR: u64 = 33;

/// The signals that end a process with a core file (signal(7)), without SIGTRAP,
/// which debuggers use.
const FATAL: [i32; 9] = [
    libc::SIGQUIT,
    libc::SIGILL,
    libc::SIGABRT,
    libc::SIGBUS,
    libc::SIGFPE,
    libc::SIGSEGV,
    libc::SIGXCPU,
    libc::SIGXFSZ,
    libc::SIGSYS,
];

impl Notes {
    /// Reads one note. What is too short, or of no use here, is left out.
    pub fn add(&mut self, note: &Note<'_, FileHeader64<LittleEndian>>) {
        if note.name() != b"CORE" {
            return;
        }
        let bytes = note.desc();
        match note.n_type(LittleEndian) {
            elf::NT_PRSTATUS => self.add_thread(bytes),
            elf::NT_PRPSINFO => self.add_process(bytes),
            elf::NT_AUXV => self.add_auxiliary(bytes),
            elf::NT_FILE => self.add_files(bytes).unwrap_or_default(),
            _ => {}
        }
    }

    /// What must wait until all notes have been read.
    pub fn complete(&mut self) {
        let is_known = |&(tid, _): &(u32, State)| tid == self.pid;
        if !self.threads.iter().any(is_known)
            && let Some(first) = self.threads.iter().map(|thread| thread.0).min()
        {
            self.pid = first;
        }
        self.mappings.sort_by_key(|mapping| mapping.addresses.start);
    }

    /// The file that is mapped at `address`, and which of its bytes is there.
    pub fn mapped_at(&self, address: u64) -> Option<(usize, u64)> {
        let after = self
            .mappings
            .partition_point(|mapping| mapping.addresses.start <= address);
        let mapping = self.mappings.get(after.checked_sub(1)?)?;
        let offset = mapping
            .offset
            .checked_add(address - mapping.addresses.start)?;
        (address < mapping.addresses.end).then_some((mapping.file, offset))
    }

    /// `struct elf_prstatus`
    fn add_thread(&mut self, bytes: &[u8]) {
        /// `pr_reg`: a `struct user_regs_struct`.
        const REGISTERS: usize = 112;
        let register = |index: usize| word(bytes, REGISTERS + 8 * index);
        let state = || {
            Some(State {
                registers: Registers {
                    r15: register(0)?,
                    r14: register(1)?,
                    r13: register(2)?,
                    r12: register(3)?,
                    rbp: register(4)?,
                    rbx: register(5)?,
                    r11: register(6)?,
                    r10: register(7)?,
                    r9: register(8)?,
                    r8: register(9)?,
                    rax: register(10)?,
                    rcx: register(11)?,
                    rdx: register(12)?,
                    rsi: register(13)?,
                    rdi: register(14)?,
                    rip: register(16)?,
                    rsp: register(19)?,
                },
                // The number of a system call; negative where it was in none.
                in_kernel: (register(15)? as i64) >= 0,
            })
        };
        let (Some(state), Some(tid)) = (state(), number(bytes, 32)) else {
            return;
        };
        if self.threads.is_empty() {
            // `pr_cursig`. The kernel writes the thread first that got the signal.
            let signal = bytes.get(12..14).and_then(|it| it.try_into().ok());
            let signal = signal.map_or(0, |it| i32::from(u16::from_le_bytes(it)));
            self.ended_by = FATAL.contains(&signal).then_some((signal, tid));
        }
        self.threads.push((tid, state));
    }

    /// `struct elf_prpsinfo`
    fn add_process(&mut self, bytes: &[u8]) {
        let text = |range: Range<usize>| {
            let bytes = bytes.get(range).unwrap_or_default();
            let bytes = bytes.split(|&byte| byte == 0).next().unwrap_or_default();
            String::from_utf8_lossy(bytes).trim_end().to_owned()
        };
        if let Some(pid) = number(bytes, 24) {
            self.pid = pid;
            self.name = text(40..56);
            self.arguments = text(56..136);
        }
    }

    fn add_auxiliary(&mut self, bytes: &[u8]) {
        self.auxiliary = bytes.to_vec();
        for at in (0..bytes.len()).step_by(16) {
            let (Some(kind), Some(value)) = (word(bytes, at), word(bytes, at + 8)) else {
                return;
            };
            match kind {
                AT_PHNUM => self.start.headers = Some(value),
                AT_ENTRY => self.start.entry = Some(value),
                AT_SYSINFO_EHDR => self.vdso = Some(value),
                _ => {}
            }
        }
    }

    /// How many there are, and how large a page is; of each, its addresses and the
    /// page of the file that it begins with; then the paths.
    fn add_files(&mut self, bytes: &[u8]) -> Option<()> {
        let count = usize::try_from(word(bytes, 0)?).ok()?;
        let page = word(bytes, 8)?;
        let names = count.checked_mul(24)?.checked_add(16)?;
        let mut names = bytes.get(names..)?.split(|&byte| byte == 0);
        let mut numbers = rustc_hash::FxHashMap::default();
        for index in 0..count {
            let at = 16 + 24 * index;
            let (start, end) = (word(bytes, at)?, word(bytes, at + 8)?);
            let offset = word(bytes, at + 16)?.checked_mul(page)?;
            let name = names.next().filter(|name| !name.is_empty())?;
            let file = *numbers.entry(name).or_insert_with(|| {
                self.paths.push(PathBuf::from(OsStr::from_bytes(name)));
                self.paths.len() - 1
            });
            if start < end {
                self.mappings.push(Mapping {
                    addresses: start..end,
                    file,
                    offset,
                });
            }
        }
        Some(())
    }
}

fn word(bytes: &[u8], at: usize) -> Option<u64> {
    let bytes = bytes.get(at..)?.first_chunk()?;
    Some(u64::from_le_bytes(*bytes))
}

fn number(bytes: &[u8], at: usize) -> Option<u32> {
    let bytes = bytes.get(at..)?.first_chunk()?;
    Some(u32::from_le_bytes(*bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(words: &[u64]) -> Vec<u8> {
        words.iter().flat_map(|word| word.to_le_bytes()).collect()
    }

    fn files(bytes: &[u8]) -> Notes {
        let mut notes = Notes::default();
        let _ = notes.add_files(bytes);
        notes.complete();
        notes
    }

    /// Two files, the first of them mapped twice, the later part first.
    fn two_files() -> Vec<u8> {
        let numbers = [
            3, 4096, 0x5000, 0x7000, 2, 0x9000, 0xa000, 0, 0x1000, 0x3000, 0,
        ];
        let mut bytes = words(&numbers);
        bytes.extend_from_slice(b"/bin/a\0/lib/b\0/bin/a\0");
        bytes
    }

    #[test]
    fn a_mapping_has_its_file_and_offset() {
        let notes = files(&two_files());
        assert_eq!(notes.paths, [PathBuf::from("/bin/a"), "/lib/b".into()]);
        for (address, mapped) in [
            (0xfff, None),
            (0x1000, Some((0, 0))),
            (0x2fff, Some((0, 0x1fff))),
            (0x3000, None),
            (0x6001, Some((0, 0x3001))),
            (0x9000, Some((1, 0))),
            (u64::MAX, None),
        ] {
            assert_eq!(notes.mapped_at(address), mapped, "{address:#x}");
        }
    }

    #[test]
    fn what_cannot_be_is_left_out() {
        let whole = two_files();
        for length in 0..whole.len() {
            let cut = files(&whole[..length]);
            assert!(cut.mappings.len() <= 3, "{length}");
        }
        for numbers in [[u64::MAX, 4096], [1 << 60, 4096], [0, 0]] {
            assert!(files(&words(&numbers)).mappings.is_empty());
        }
        // A page so large that no offset is left, and an end before its start.
        let mut odd = words(&[1, u64::MAX, 0x1000, 0x2000, 2]);
        odd.extend_from_slice(b"/a\0");
        assert!(files(&odd).mappings.is_empty());
        let mut odd = words(&[1, 4096, 0x2000, 0x1000, 0]);
        odd.extend_from_slice(b"/a\0");
        assert!(files(&odd).mappings.is_empty());
    }

    fn thread(tid: u32, signal: u8, rip: u64) -> Vec<u8> {
        let mut bytes = vec![0; 336];
        bytes[12] = signal;
        bytes[32..36].copy_from_slice(&tid.to_le_bytes());
        bytes[112 + 8 * 16..][..8].copy_from_slice(&rip.to_le_bytes());
        bytes[112 + 8 * 15..][..8].copy_from_slice(&(-1_i64).to_le_bytes());
        bytes
    }

    #[test]
    fn the_first_thread_is_the_one_that_got_the_signal() {
        let mut notes = Notes::default();
        notes.add_thread(&thread(12, 11, 0x1234)[..200]);
        assert!(notes.threads.is_empty(), "cut short");
        notes.add_thread(&thread(12, 11, 0x1234));
        notes.add_thread(&thread(10, 6, 0x5678));
        assert_eq!(notes.ended_by, Some((libc::SIGSEGV, 12)));
        let (tid, state) = notes.threads[0];
        assert_eq!(
            (tid, state.registers.rip, state.in_kernel),
            (12, 0x1234, false)
        );
        notes.complete();
        assert_eq!(notes.pid, 10, "the lowest, where nobody tells");

        let mut stopped = Notes::default();
        stopped.add_thread(&thread(12, 5, 0x1234));
        assert_eq!(stopped.ended_by, None, "by a debugger");
    }

    #[test]
    fn the_process_has_a_name_and_a_beginning() {
        let mut notes = Notes::default();
        notes.add_process(&[1; 20]);
        assert_eq!(notes.pid, 0);
        let mut bytes = vec![0; 136];
        bytes[24] = 42;
        bytes[40..44].copy_from_slice(b"node");
        bytes[56..70].copy_from_slice(b"node a.js b   ");
        notes.add_process(&bytes);
        assert_eq!(
            (notes.pid, &*notes.name, &*notes.arguments),
            (42, "node", "node a.js b")
        );

        notes.add_auxiliary(&words(&[
            AT_ENTRY,
            0x4000,
            AT_PHNUM,
            9,
            AT_SYSINFO_EHDR,
            0x7000,
            0,
            0,
            5,
        ]));
        let start = Start {
            entry: Some(0x4000),
            headers: Some(9),
        };
        assert_eq!((notes.start, notes.vdso), (start, Some(0x7000)));
    }
}
