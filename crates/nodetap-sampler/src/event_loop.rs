//! How long the event loop of a process's main thread has been busy, from outside.
//!
//! libuv's loop keeps a clock: it takes the time when it has waited for events, before it
//! calls what waits for them, and at the begin of each round. As long as it is busy with
//! one thing, its clock stands still; so the time that has passed since, while the thread
//! is not waiting for events, is how long everything else has to wait by now.
//!
//! Where the clock is, is read from the code of three of libuv's own functions, which the
//! binaries of all releases export: `uv_default_loop` loads the loop's address,
//! `uv_now` and `uv_backend_fd` are one load from it each (`src/uv-common.c`,
//! `src/unix/core.c`, `src/unix/loop.c`). What they lead to is then checked on the living
//! process: the file is an epoll instance, and the clock tells a time that has been. Where
//! that does not check out, there is no event loop to tell of.

use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use nodetap_v8::Memory;
use object::Endianness;
use object::ReadCache;
use object::elf::{self, FileHeader64};
use object::read::elf::{FileHeader, ProgramHeader, Sym};
use procfs::FromBufRead;
use procfs::process::{MMapPath, MemoryMap, MemoryMaps};
use rustix::time::{ClockId, clock_gettime};

use crate::memory::ProcessMemory;
use crate::source::Source;
use crate::target::{Target, is_node_library};

type Header = FileHeader64<Endianness>;

/// How many bytes of a function are looked at.
const CODE: usize = 32;
/// The system calls by which libuv waits for events, by their numbers on x86-64:
/// `epoll_wait`, `epoll_pwait`, `epoll_pwait2`.
const WAITS: [u64; 3] = [232, 281, 441];

/// The event loop of a process's main thread.
#[derive(Debug)]
pub struct EventLoop {
    memory: ProcessMemory,
    /// Where its clock is.
    clock: u64,
    /// By which file it waits for events.
    epoll: u64,
    /// `/proc/PID/task/PID/syscall`
    system_call: File,
}

/// What a loop did at one moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Glance {
    /// The moment, by the monotonic clock: not before this,
    pub at: Duration,
    /// and not after this. We may have had no CPU meanwhile.
    pub until: Duration,
    /// Whether it waited for events.
    pub waits: bool,
    /// What its own clock said: when it had waited the last time, or later.
    pub clock: Duration,
}

impl EventLoop {
    /// That of `target`, if it has one that can be found and looked at.
    pub fn find(target: &Target) -> Option<EventLoop> {
        let Source::Alive(pid) = target.source else {
            return None;
        };
        has_our_clock(pid).then_some(())?;
        let maps = MemoryMaps::from_buf_read(&*target.source.mappings().ok()?).ok()?;
        let executable = target.source.executable();
        let memory = target.memory.try_clone().ok()?;
        let places = maps
            .iter()
            .filter(|map| may_hold_libuv(map, executable.as_deref()))
            .find_map(|map| {
                let MMapPath::Path(path) = &map.pathname else {
                    return None;
                };
                let file = target.source.open(map.address, path, map.inode)?;
                let functions = Functions::of_file(&file)?;
                Places::read(&memory, &functions, map.address.0)
            })?;
        let this = memory_word(&memory, places.default_loop).filter(|&it| it != 0)?;
        let epoll = this.checked_add(places.backend_fd)?;
        let epoll = (&memory as &dyn Memory).u32(epoll).ok()?;
        let event_loop = EventLoop {
            clock: this.checked_add(places.time)?,
            epoll: u64::from(epoll),
            system_call: File::open(format!("/proc/{pid}/task/{pid}/syscall")).ok()?,
            memory,
        };
        let file = fs::read_link(format!("/proc/{pid}/fd/{epoll}")).ok()?;
        let is_epoll = file == Path::new("anon_inode:[eventpoll]");
        (is_epoll && event_loop.glance().is_some()).then_some(event_loop)
    }

    /// What it does now; `None` where that cannot be told, or does not make sense.
    pub fn glance(&self) -> Option<Glance> {
        let at = monotonic();
        let clock = memory_word(&self.memory, self.clock)?;
        let mut text = [0; 256];
        let length = self.system_call.read_at(&mut text, 0).ok()?;
        let waits = waits_for_events(str::from_utf8(&text[..length]).ok()?, self.epoll)?;
        // It may have taken the time between the two.
        let clock = memory_word(&self.memory, self.clock)?.max(clock);
        let glance = Glance {
            at,
            until: monotonic(),
            waits,
            clock: Duration::from_millis(clock),
        };
        // No loop is of before the machine started, nor ahead of its time: but rounding.
        let is_past = glance.clock <= glance.until + Duration::from_millis(1);
        (clock != 0 && is_past).then_some(glance)
    }
}

fn memory_word(memory: &ProcessMemory, address: u64) -> Option<u64> {
    (memory as &dyn Memory).u64(address).ok()
}

/// Whether process `pid` has the same monotonic clock as we: one in a container may have
/// its own.
fn has_our_clock(pid: u32) -> bool {
    let clock = |process: &str| fs::read_link(format!("/proc/{process}/ns/time")).ok();
    // Kernels without such namespaces have one clock.
    clock(&pid.to_string()) == clock("self")
}

/// Whether a thread that is in the system call that `text` (of `/proc/…/syscall`) tells of
/// waits for events by file `epoll`. `None` where nothing is told.
fn waits_for_events(text: &str, epoll: u64) -> Option<bool> {
    let mut words = text.split_whitespace();
    let number = match words.next()? {
        "running" => return Some(false),
        number => number.parse::<i64>().ok()?,
    };
    let file = words.next()?.strip_prefix("0x")?;
    let file = u64::from_str_radix(file, 16).ok()?;
    // Of a register of 64 bits, the half that counts.
    let is_it = file & 0xffff_ffff == epoll;
    Some(u64::try_from(number).is_ok_and(|number| WAITS.contains(&number)) && is_it)
}

/// Whether libuv may be in the file of which this is the first mapping.
fn may_hold_libuv(map: &MemoryMap, executable: Option<&Path>) -> bool {
    let MMapPath::Path(path) = &map.pathname else {
        return false;
    };
    let name = path.file_name().and_then(|name| name.to_str());
    let is_libuv = name.is_some_and(|name| name.starts_with("libuv.so"));
    map.offset == 0
        && (is_libuv
            || is_node_library(path)
            || Some(path) == executable.map(PathBuf::from).as_ref())
}

/// Where libuv's functions are, in bytes from the first one of their file in memory.
#[derive(Debug, PartialEq, Eq)]
struct Functions {
    default_loop: u64,
    now: u64,
    backend_fd: u64,
}

impl Functions {
    /// Those that `file` exports.
    fn of_file(file: &File) -> Option<Functions> {
        let data = &ReadCache::new(file);
        let header = Header::parse(data).ok()?;
        let endian = header.endian().ok()?;
        if header.e_machine(endian) != elf::EM_X86_64 {
            return None;
        }
        let segments = header.program_headers(endian, data).ok()?;
        let first = segments
            .iter()
            .filter(|segment| segment.p_type(endian) == elf::PT_LOAD)
            .map(|segment| {
                segment
                    .p_vaddr(endian)
                    .wrapping_sub(segment.p_offset(endian))
            })
            .next()?;
        let sections = header.sections(endian, data).ok()?;
        let symbols = sections.symbols(endian, data, elf::SHT_DYNSYM).ok()?;
        let (table, _) = sections.gnu_hash(endian, data).ok()??;
        let versions = sections.versions(endian, data).ok()?.unwrap_or_default();
        let offset = |name: &str| -> Option<u64> {
            let name = name.as_bytes();
            let hash = elf::gnu_hash(name);
            let (_, symbol) = table.find(endian, name, hash, None, &symbols, &versions)?;
            let is_function = symbol.st_type() == elf::STT_FUNC && symbol.st_value(endian) != 0;
            is_function.then(|| symbol.st_value(endian).wrapping_sub(first))
        };
        Some(Functions {
            default_loop: offset("uv_default_loop")?,
            now: offset("uv_now")?,
            backend_fd: offset("uv_backend_fd")?,
        })
    }
}

/// What the code of those functions says.
#[derive(Debug, PartialEq, Eq)]
struct Places {
    /// The address of the pointer to the loop.
    default_loop: u64,
    /// Where a loop has its clock, in bytes from its begin.
    time: u64,
    /// Where it has the number of its epoll file.
    backend_fd: u64,
}

impl Places {
    /// Reads the code of the functions of a file that is mapped at `start`.
    fn read(memory: &ProcessMemory, functions: &Functions, start: u64) -> Option<Places> {
        let code = |offset: u64| {
            let address = start.wrapping_add(offset);
            let bytes = (memory as &dyn Memory).bytes(address, CODE).ok()?;
            Some((address, bytes))
        };
        let (address, bytes) = code(functions.default_loop)?;
        let (end, displacement) = load_from_here(&bytes)?;
        let next = address.wrapping_add(end as u64);
        Some(Places {
            default_loop: next.wrapping_add_signed(displacement.into()),
            time: load_of_field(&code(functions.now)?.1, true)?,
            backend_fd: load_of_field(&code(functions.backend_fd)?.1, false)?,
        })
    }
}

/// The code after what functions begin with: saving registers and making room.
fn after_prologue(mut code: &[u8]) -> &[u8] {
    const ENDBR64: &[u8] = &[0xf3, 0x0f, 0x1e, 0xfa];
    const MOV_RBP_RSP: [&[u8]; 2] = [&[0x48, 0x89, 0xe5], &[0x48, 0x8b, 0xec]];
    loop {
        code = match code {
            [0x50..=0x57, rest @ ..]
            | [0x41, 0x50..=0x57, rest @ ..]
            // sub $n, %rsp
            | [0x48, 0x83, 0xec, _, rest @ ..] => rest,
            _ if code.starts_with(ENDBR64) => &code[4..],
            _ if MOV_RBP_RSP.iter().any(|it| code.starts_with(it)) => &code[3..],
            _ => return code,
        }
    }
}

/// `mov displacement(%rip), %register` of 64 bits at the begin of a function: where the
/// instruction ends, in bytes from that begin, and the displacement, which counts from there.
fn load_from_here(code: &[u8]) -> Option<(usize, i32)> {
    let rest = after_prologue(code);
    let [0x48 | 0x4c, 0x8b, modrm, displacement @ ..] = rest else {
        return None;
    };
    (modrm & 0b1100_0111 == 0b0000_0101).then_some(())?;
    let displacement = i32::from_le_bytes(*displacement.first_chunk()?);
    Some((code.len() - rest.len() + 7, displacement))
}

/// `mov displacement(%rdi), %rax`, or `%eax`, as the first thing that a function does: the
/// displacement.
fn load_of_field(code: &[u8], is_wide: bool) -> Option<u64> {
    let rest = after_prologue(code);
    let rest = match is_wide {
        true => rest.strip_prefix(&[0x48])?,
        false => rest,
    };
    let displacement = match rest {
        [0x8b, 0x47, displacement, ..] => i32::from(*displacement as i8),
        [0x8b, 0x87, displacement @ ..] => i32::from_le_bytes(*displacement.first_chunk()?),
        _ => return None,
    };
    u64::try_from(displacement).ok().filter(|&it| it < 4096)
}

/// The time of the clock that libuv's loops take theirs from.
fn monotonic() -> Duration {
    let now = clock_gettime(ClockId::Monotonic);
    // Both count up from 0 at boot.
    Duration::new(now.tv_sec.unsigned_abs(), now.tv_nsec.unsigned_abs() as u32)
}

/// How long a loop has been busy, by one glance after the other.
///
/// It is never more than it was: the time counts from when the loop was first seen busy,
/// or from when its clock says that it began, if that is later than when it was seen
/// waiting.
#[derive(Debug, Default)]
pub struct Delay {
    last: Option<Glance>,
    busy_since: Option<Duration>,
}

/// Glances further apart do not tell when a wait ended that was between them.
const APART: Duration = Duration::from_millis(50);

impl Delay {
    /// How long the loop has been busy at `glance`, the next one.
    pub fn observe(&mut self, glance: Glance) -> Duration {
        let last = self.last.replace(glance);
        let before = last.filter(|last| glance.until.saturating_sub(last.at) <= APART);
        // It takes the time at the end of a round as well, before it waits again.
        let stands_still = last.is_some_and(|last| last.clock == glance.clock);
        self.busy_since = match (glance.waits, before) {
            (true, _) => None,
            (false, _) if stands_still && self.busy_since.is_some() => self.busy_since,
            // It has come back from waiting since, and taken the time then.
            (false, Some(before)) if glance.clock >= before.until => Some(glance.clock),
            (false, Some(before)) if !before.waits && glance.clock > before.clock => {
                Some(glance.clock)
            }
            // It comes back just now, or it is not known since when.
            (false, _) => Some(glance.until),
        };
        self.busy_since
            .map_or(Duration::ZERO, |since| glance.at.saturating_sub(since))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ms(milliseconds: u64) -> Duration {
        Duration::from_millis(milliseconds)
    }

    /// What is observed at each of (at, waits, clock), in milliseconds.
    fn observed(glances: &[(u64, bool, u64)]) -> Vec<u128> {
        let mut delay = Delay::default();
        glances
            .iter()
            .map(|&(at, waits, clock)| {
                let glance = Glance {
                    at: ms(at),
                    until: ms(at),
                    waits,
                    clock: ms(clock),
                };
                delay.observe(glance).as_millis()
            })
            .collect()
    }

    #[test]
    fn a_loop_is_busy_from_when_it_took_the_time() {
        let glances = [
            (1000, true, 400),
            (1010, false, 1003),
            (1020, false, 1003),
            (1030, false, 1003),
            (1040, true, 1031),
            (1050, true, 1031),
        ];
        assert_eq!(observed(&glances), [0, 7, 17, 27, 0, 0]);
    }

    #[test]
    fn a_new_round_counts_anew() {
        let glances = [
            (1000, true, 400),
            (1010, false, 1003),
            (1020, false, 1015),
            (1030, false, 1015),
        ];
        assert_eq!(observed(&glances), [0, 7, 5, 15]);
    }

    #[test]
    fn one_that_comes_back_from_a_long_wait_is_not_late() {
        // It runs, and has not taken the time yet.
        let glances = [(1000, true, 400), (1010, false, 400), (1020, false, 1010)];
        assert_eq!(observed(&glances), [0, 0, 10]);
        // Nor is one that nobody looked at before.
        assert_eq!(observed(&[(1000, false, 400), (1010, false, 400)]), [0, 10]);
    }

    #[test]
    fn what_nobody_saw_does_not_count() {
        let glances = [
            (1000, true, 400),
            (5000, false, 1003),
            (5010, false, 1003),
            // The clock would have moved, had it waited meanwhile.
            (9000, false, 1003),
        ];
        assert_eq!(observed(&glances), [0, 0, 10, 4000]);
    }

    /// We had no CPU while we looked.
    #[test]
    fn what_took_us_long_is_not_the_loops() {
        let glance = |at, until, waits, clock| Glance {
            at: ms(at),
            until: ms(until),
            waits,
            clock: ms(clock),
        };
        let mut delay = Delay::default();
        assert_eq!(delay.observe(glance(1000, 1000, true, 400)), ms(0));
        assert_eq!(delay.observe(glance(1010, 1045, false, 1003)), ms(7));
        assert_eq!(delay.observe(glance(1050, 1090, true, 1048)), ms(0));
        // It waited at 1085, say: of before that its clock tells nothing.
        assert_eq!(delay.observe(glance(1100, 1101, false, 1060)), ms(0));
    }

    #[test]
    fn the_system_call_tells_whether_it_waits() {
        let waits = |text: &str| waits_for_events(text, 13);
        assert_eq!(waits("running\n"), Some(false));
        assert_eq!(
            waits("232 0xd 0x7ffc 0x400 0xffffffff 0x0 0x0 0x7ffd 0x7f1\n"),
            Some(true)
        );
        assert_eq!(
            waits("281 0xffffffff0000000d 0x7ffc 0x400 0x0 0x0 0x0 1 2\n"),
            Some(true)
        );
        // By another file: a child's loop, say.
        assert_eq!(
            waits("232 0xe 0x7ffc 0x400 0xffffffff 0x0 0x0 0x7ffd 0x7f1\n"),
            Some(false)
        );
        assert_eq!(
            waits("0 0xd 0x7ffc 0x400 0x0 0x0 0x0 0x7ffd 0x7f1\n"),
            Some(false)
        );
        assert_eq!(waits("-1 0x7ffd 0x7f1\n"), Some(false));
        for odd in ["", "x", "232", "232 13"] {
            assert_eq!(waits(odd), None, "{odd}");
        }
    }

    /// As GCC and clang have compiled them for Node.js and for Debian.
    #[test]
    fn libuvs_functions_say_where_the_clock_is() {
        let plain = [0x48, 0x8b, 0x87, 0x20, 0x02, 0, 0, 0xc3];
        let framed = [
            0x55, 0x48, 0x89, 0xe5, 0x48, 0x8b, 0x87, 0x20, 0x02, 0, 0, 0x5d,
        ];
        let mixed = [
            0x55, 0x48, 0x8b, 0x87, 0x20, 0x02, 0, 0, 0x48, 0x89, 0xe5, 0x5d,
        ];
        for code in [&plain[..], &framed, &mixed] {
            assert_eq!(load_of_field(code, true), Some(0x220));
            assert_eq!(load_of_field(code, false), None);
        }
        assert_eq!(load_of_field(&[0x8b, 0x47, 0x40, 0xc3], false), Some(0x40));
        assert_eq!(load_of_field(&[0x55, 0x8b, 0x47, 0x40], true), None);
        assert_eq!(load_of_field(&[0x8b, 0x47, 0xf0, 0xc3], false), None);
        assert_eq!(load_of_field(&[0x8b, 0x87, 0x40], false), None);
        assert_eq!(load_of_field(&[], false), None);

        let saving = [
            0x55, 0x48, 0x89, 0xe5, 0x41, 0x54, 0x48, 0x83, 0xec, 0x08, 0x4c, 0x8b, 0x25, 0x57,
            0x01, 0xe2, 0x04, 0x4d,
        ];
        assert_eq!(load_from_here(&saving), Some((17, 0x04e2_0157)));
        let short = [0x48, 0x8b, 0x05, 0xd1, 0x07, 0x91, 0xff, 0x48, 0x85];
        assert_eq!(load_from_here(&short), Some((7, -0x006e_f82f)));
        // By another register than that of the instruction.
        assert_eq!(load_from_here(&[0x48, 0x8b, 0x07, 0, 0, 0, 0]), None);
        assert_eq!(load_from_here(&[0x48, 0x8b, 0x05, 0]), None);
        assert_eq!(load_from_here(&[0x55; 32]), None);
    }
}
