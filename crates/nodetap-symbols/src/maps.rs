//! What a process has mapped where it executes: `/proc/PID/maps`.

use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use nodetap_sampler::source::Source;

/// What is mapped.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Content {
    /// A file.
    File(FileId),
    /// The kernel's own shared object, `[vdso]`.
    Vdso,
    /// Another thing of the kernel's: `[vsyscall]`, `[uprobes]`.
    Special(Arc<str>),
    /// Memory of no file, such as code that V8 compiled.
    Anonymous,
}

/// What tells one mapped file from another.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct FileId {
    /// The device it is on, as the kernel writes it: `fe:00`.
    pub device: Arc<str>,
    /// Its inode number.
    pub inode: u64,
    /// Its path as the process sees it, without the mark of a deleted file.
    pub path: Arc<Path>,
}

impl FileId {
    /// The file's name without its directories.
    pub fn name(&self) -> String {
        self.path.file_name().map_or_else(
            || self.path.to_string_lossy().into_owned(),
            |name| name.to_string_lossy().into_owned(),
        )
    }
}

/// A range of executable memory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mapping {
    /// Its first address.
    pub start: u64,
    /// The address after its last.
    pub end: u64,
    /// Where in the file it starts.
    pub offset: u64,
    /// What it is.
    pub content: Content,
}

impl Mapping {
    /// The file offset of what is mapped at `address`, which is in this mapping.
    pub fn offset_of(&self, address: u64) -> u64 {
        address.wrapping_sub(self.start).wrapping_add(self.offset)
    }
}

/// The executable memory of a process, by address.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Maps(Vec<Mapping>);

impl Maps {
    /// Reads the mappings of a process.
    ///
    /// # Errors
    /// Those of [`Source::mappings`].
    pub fn read(source: &Source) -> io::Result<Self> {
        Ok(Self::parse(&source.mappings()?))
    }

    fn parse(text: &[u8]) -> Self {
        let mut maps: Vec<Mapping> = text
            .split(|&byte| byte == b'\n')
            .filter_map(parse_line)
            .collect();
        maps.sort_by_key(|mapping| mapping.start);
        fill_holes(&mut maps);
        Self(maps)
    }

    /// The executable mapping that holds `address`.
    pub fn find(&self, address: u64) -> Option<&Mapping> {
        let after = self.0.partition_point(|mapping| mapping.start <= address);
        self.0[..after]
            .last()
            .filter(|mapping| address < mapping.end)
    }

    /// The executable mappings of files, by address.
    pub fn files(&self) -> impl Iterator<Item = &Mapping> {
        self.iter()
            .filter(|mapping| matches!(mapping.content, Content::File(_)))
    }

    /// All executable mappings, by address.
    pub fn iter(&self) -> impl Iterator<Item = &Mapping> {
        self.0.iter()
    }
}

/// One line of `/proc/PID/maps`; `None` unless it is executable memory.
///
/// `start-end perms offset device inode          path`
fn parse_line(line: &[u8]) -> Option<Mapping> {
    let mut rest = line;
    let mut field = || {
        let end = rest.iter().position(|&byte| byte == b' ')?;
        let (field, after) = rest.split_at(end);
        rest = &after[1..];
        std::str::from_utf8(field).ok()
    };
    let (start, end) = field()?.split_once('-')?;
    let permissions = field()?;
    if permissions.as_bytes().get(2) != Some(&b'x') {
        return None;
    }
    let offset = field()?;
    let device = field()?;
    // The last field that is always there: nothing need follow it.
    let after_device = rest;
    let digits = after_device
        .iter()
        .take_while(|byte| byte.is_ascii_digit())
        .count();
    let inode = std::str::from_utf8(&after_device[..digits]).ok()?;
    let inode: u64 = inode.parse().ok()?;
    let path = after_device[digits..].trim_ascii_start();
    let content = match path {
        b"" => Content::Anonymous,
        b"[vdso]" => Content::Vdso,
        // The name of a thread's stack or of anonymous memory that was given one.
        _ if path.starts_with(b"[anon") || path.starts_with(b"[stack") || path == b"[heap]" => {
            Content::Anonymous
        }
        _ if path.starts_with(b"[") => Content::Special(String::from_utf8_lossy(path).into()),
        // Shared anonymous memory has a path, but nothing can be read there.
        _ if path.starts_with(b"/memfd:")
            || path.starts_with(b"/dev/zero")
            || path.starts_with(b"/SYSV")
            || path.starts_with(b"anon_inode:") =>
        {
            Content::Anonymous
        }
        _ => Content::File(FileId {
            device: device.into(),
            inode,
            path: unescape(path.strip_suffix(b" (deleted)").unwrap_or(path)).into(),
        }),
    };
    let mapping = Mapping {
        start: u64::from_str_radix(start, 16).ok()?,
        end: u64::from_str_radix(end, 16).ok()?,
        offset: u64::from_str_radix(offset, 16).ok()?,
        content,
    };
    (mapping.start < mapping.end).then_some(mapping)
}

/// The kernel writes a newline in a path as `\012`.
fn unescape(path: &[u8]) -> PathBuf {
    let mut plain = Vec::with_capacity(path.len());
    let mut rest = path;
    while let Some((&byte, after)) = rest.split_first() {
        if let Some(after) = rest.strip_prefix(br"\012") {
            plain.push(b'\n');
            rest = after;
        } else {
            plain.push(byte);
            rest = after;
        }
    }
    PathBuf::from(std::ffi::OsStr::from_bytes(&plain))
}

/// `node --use-largepages` copies most of its code to anonymous memory in the same
/// place. Anonymous memory that fills the gap between two parts of a file, where
/// exactly as much of the file is missing, is that part of the file.
fn fill_holes(maps: &mut [Mapping]) {
    for index in 1..maps.len().saturating_sub(1) {
        let [before, hole, after] = &maps[index - 1..=index + 1] else {
            continue;
        };
        if hole.content == Content::Anonymous
            && matches!(before.content, Content::File(_))
            && before.content == after.content
            && before.end == hole.start
            && hole.end == after.start
            && before.offset_of(after.start) == after.offset
        {
            let (offset, content) = (before.offset_of(before.end), before.content.clone());
            maps[index].offset = offset;
            maps[index].content = content;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(path: &str) -> Content {
        Content::File(FileId {
            device: "fe:00".into(),
            inode: 7,
            path: Path::new(path).into(),
        })
    }

    #[test]
    fn only_executable_memory_is_kept() {
        let maps = Maps::parse(
            b"00400000-00b6f000 r--p 00000000 fe:00 7                            /opt/my node\n\
              00b6f000-02601000 r-xp 0076f000 fe:00 7                            /opt/my node\n\
              7f8418003000-7f841803f000 rwxp 00000000 00:00 0 \n\
              7f8437e40000-7f8437fd2000 r-xp 014c4000 fe:00 7        /opt/my node (deleted)\n\
              7ffd0a9d4000-7ffd0a9d6000 r-xp 00000000 00:00 0                  [vdso]\n\
              ffffffffff600000-ffffffffff601000 --xp 00000000 00:00 0          [vsyscall]\n",
        );
        let found: Vec<_> = maps
            .iter()
            .map(|mapping| (mapping.start, mapping.offset, mapping.content.clone()))
            .collect();
        assert_eq!(
            found,
            [
                (0x00b6_f000, 0x76f000, file("/opt/my node")),
                (0x7f84_1800_3000, 0, Content::Anonymous),
                (0x7f84_37e4_0000, 0x14c_4000, file("/opt/my node")),
                (0x7ffd_0a9d_4000, 0, Content::Vdso),
                (
                    0xffff_ffff_ff60_0000,
                    0,
                    Content::Special("[vsyscall]".into())
                ),
            ]
        );
        assert_eq!(maps.find(0x00b6_efff), None);
        let text = maps.find(0x00b6_f010).unwrap();
        assert_eq!(text.offset_of(0x00b6_f010), 0x76f010);
        assert_eq!(maps.find(0x0260_0fff).unwrap(), text);
        assert_eq!(maps.find(0x0260_1000), None);
        assert_eq!(maps.find(u64::MAX), None);
    }

    #[test]
    fn odd_paths_are_kept_and_broken_lines_dropped() {
        let maps = Maps::parse(
            b"1000-2000 r-xp 00000000 fe:00 7 /a b\\012c\n\
              2000-1000 r-xp 00000000 fe:00 7 /backwards\n\
              zzzz-5000 r-xp 00000000 fe:00 7 /not-hexadecimal\n\
              3000-4000 r-xp 00000000 fe:00\n\
              3000-4000\n\
              \n\
              5000-6000 rwxs 00000000 00:01 9 /memfd:jit (deleted)\n\
              6000-7000 r-xp 00000000 fe:00 7 /caf\xc3\xa9/\xff",
        );
        let contents: Vec<_> = maps.iter().map(|mapping| &mapping.content).collect();
        assert_eq!(contents.len(), 3);
        assert_eq!(*contents[0], file("/a b\nc"));
        assert_eq!(*contents[1], Content::Anonymous);
        let Content::File(last) = contents[2] else {
            panic!("{:?}", contents[2]);
        };
        assert_eq!(last.path.as_os_str().as_bytes(), b"/caf\xc3\xa9/\xff");
        assert_eq!(last.name(), "\u{fffd}");
    }

    #[test]
    fn a_hole_of_the_right_size_in_a_file_is_that_file() {
        let large_pages = b"1000-2000 r-xp 00001000 fe:00 7 /node\n\
                            2000-8000 r-xp 00000000 00:00 0 \n\
                            8000-9000 r-xp 00008000 fe:00 7 /node\n";
        let maps = Maps::parse(large_pages);
        let hole = maps.find(0x2345).unwrap();
        assert_eq!(hole.content, file("/node"));
        assert_eq!(hole.offset_of(0x2345), 0x2345);

        let elsewhere = b"1000-2000 r-xp 00001000 fe:00 7 /node\n\
                          2000-8000 rwxp 00000000 00:00 0 \n\
                          8000-9000 r-xp 00001000 fe:00 7 /node\n";
        let maps = Maps::parse(elsewhere);
        assert_eq!(maps.find(0x2345).unwrap().content, Content::Anonymous);
    }

    #[test]
    fn our_own_mappings_hold_our_own_code() {
        let maps = Maps::read(&std::process::id().into()).unwrap();
        let here = Maps::parse as fn(&[u8]) -> Maps as usize as u64;
        let mapping = maps.find(here).unwrap();
        let Content::File(file) = &mapping.content else {
            panic!("{mapping:?}");
        };
        assert_eq!(*file.path, *std::env::current_exe().unwrap());
    }
}
