//! Names of the kernel's functions, from `/proc/kallsyms`.

use std::fs::File;
use std::io::{self, BufRead, BufReader};
use std::sync::Arc;

use nodetap_profile::{Frame, Kind};
use rustc_hash::FxHashMap;

use crate::demangle::readable;

const KALLSYMS: &str = "/proc/kallsyms";

/// No function of the kernel's is longer than this. The list has no sizes, and
/// after the last function of a region comes what is none.
const LONGEST: u64 = 1 << 20;

/// Symbols that mark the end of the kernel's code.
const ENDS: [&str; 2] = ["_etext", "_einittext"];

/// Names the kernel's functions.
///
/// The list is read when the first name is asked for: 122,000 functions take 50 ms
/// of processor time (most of it the kernel's, for writing them) and 4 MB.
#[derive(Debug, Default)]
pub struct KernelNames {
    symbols: Option<Symbols>,
    hidden: bool,
    named: FxHashMap<u64, Frame>,
}

impl KernelNames {
    /// Nothing read yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// The frame of the kernel's code at `pc`. `is_return_address` as for native
    /// code: the byte before is looked up.
    ///
    /// Where its function is not known it is called `(kernel)`.
    pub fn frame(&mut self, pc: u64, is_return_address: bool) -> Frame {
        let address = pc.wrapping_sub(is_return_address.into());
        if let Some(frame) = self.named.get(&address) {
            return frame.clone();
        }
        if self.symbols.is_none() {
            let symbols = File::open(KALLSYMS)
                .and_then(|file| Symbols::read(BufReader::with_capacity(1 << 16, file)));
            let symbols = symbols.unwrap_or_else(|error| {
                tracing::debug!(%error, "cannot read {KALLSYMS}");
                Symbols::default()
            });
            self.hidden = symbols.by_address.is_empty();
            self.symbols = Some(symbols);
        }
        let found = self.symbols.as_ref().and_then(|all| all.find(address));
        let frame = match found {
            Some((function, module)) => Frame {
                file: Some(Arc::from(module.unwrap_or("[kernel]"))),
                ..Frame::new(Kind::Kernel, readable(function))
            },
            None => Frame::new(Kind::Kernel, "(kernel)"),
        };
        self.named.insert(address, frame.clone());
        frame
    }

    /// Whether names were asked for and the kernel hides where its functions are
    /// (`kernel.kptr_restrict`, or no privilege): then none has a name.
    pub fn are_hidden(&self) -> bool {
        self.hidden
    }
}

/// The kernel's functions.
#[derive(Debug, Default)]
struct Symbols {
    /// Address, and where its line starts in `lines`.
    by_address: Vec<(u64, u32)>,
    /// `name`, or `name [module]`, a line each.
    lines: String,
}

impl Symbols {
    /// Reads lines of `address type name`, followed by `[module]` for a module's.
    fn read(mut kallsyms: impl BufRead) -> io::Result<Self> {
        let mut symbols = Self::default();
        let mut line = String::new();
        while kallsyms.read_line(&mut line)? > 0 {
            symbols.add(line.trim_end());
            line.clear();
        }
        symbols.by_address.sort_unstable();
        symbols.by_address.shrink_to_fit();
        symbols.lines.shrink_to_fit();
        Ok(symbols)
    }

    fn add(&mut self, line: &str) {
        let mut fields = line.splitn(3, ' ');
        let (Some(address), Some(kind), Some(name)) = (fields.next(), fields.next(), fields.next())
        else {
            return;
        };
        // Text, and weak symbols, which may be.
        if !matches!(kind, "t" | "T" | "w" | "W") {
            return;
        }
        // Addresses are 0 for who may not see them.
        if let Ok(address @ 1..) = u64::from_str_radix(address, 16)
            && let Ok(start) = u32::try_from(self.lines.len())
        {
            self.by_address.push((address, start));
            self.lines.push_str(name);
            self.lines.push('\n');
        }
    }

    /// The function at `address`, and its module as `[module]` if it is in one.
    fn find(&self, address: u64) -> Option<(&str, Option<&str>)> {
        let after = self
            .by_address
            .partition_point(|symbol| symbol.0 <= address);
        let start = self.by_address[..after].last()?.0;
        if address - start >= LONGEST {
            return None;
        }
        let (name, module) = self.by_address[..after]
            .iter()
            .rev()
            .take_while(|symbol| symbol.0 == start)
            .filter_map(|symbol| {
                let line = self.lines.get(symbol.1 as usize..)?.lines().next()?;
                match line.split_once(['\t', ' ']) {
                    Some((name, module)) => Some((name, Some(module.trim()))),
                    None => Some((line, None)),
                }
            })
            // Of several names the plainest: `vfs_read`, not `__pfx_…`.
            .min_by_key(|(name, _)| {
                let underscores = name.bytes().take_while(|&byte| byte == b'_').count();
                (underscores, name.len(), *name)
            })?;
        (!ENDS.contains(&name)).then_some((name, module))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn symbols(text: &str) -> Symbols {
        Symbols::read(text.as_bytes()).unwrap()
    }

    #[test]
    fn functions_are_found_by_address() {
        let symbols = symbols(
            "ffffffff81000000 T _stext\n\
             ffffffff81000000 T startup_64\n\
             ffffffff81000100 t __pfx_vfs_read\n\
             ffffffff81000110 T vfs_read\n\
             ffffffff81000400 T _etext\n\
             ffffffff82000000 D jiffies\n\
             ffffffffc0000000 t ext4_map_blocks\t[ext4]\n\
             ffffffffc0001000 t bpf_prog_6deef7357e7b4530_walk\t[bpf]\n\
             not a line\n\
             \n\
             ffffffff8100020 \n",
        );
        for (address, found) in [
            (0xffff_ffff_80ff_ffff, None),
            (0xffff_ffff_8100_0000, Some(("startup_64", None))),
            (0xffff_ffff_8100_0105, Some(("__pfx_vfs_read", None))),
            (0xffff_ffff_8100_0110, Some(("vfs_read", None))),
            (0xffff_ffff_8100_03ff, Some(("vfs_read", None))),
            (0xffff_ffff_8100_0400, None),
            (0xffff_ffff_8200_0000, None),
            (
                0xffff_ffff_c000_0fff,
                Some(("ext4_map_blocks", Some("[ext4]"))),
            ),
            (
                0xffff_ffff_c000_1000,
                Some(("bpf_prog_6deef7357e7b4530_walk", Some("[bpf]"))),
            ),
            (u64::MAX, None),
            (0, None),
        ] {
            assert_eq!(symbols.find(address), found, "{address:x}");
        }
    }

    #[test]
    fn hidden_addresses_name_nothing() {
        let symbols = symbols("0000000000000000 T vfs_read\n0000000000000000 T vfs_write\n");
        assert_eq!(symbols.find(0), None);
        assert_eq!(symbols.find(0xffff_ffff_8100_0000), None);
    }

    #[test]
    fn what_is_not_known_is_called_the_kernel() {
        let mut names = KernelNames::new();
        assert!(!names.are_hidden(), "not asked yet");
        let frame = names.frame(16, false);
        assert_eq!(frame, Frame::new(Kind::Kernel, "(kernel)"));
        assert_eq!(names.frame(16, false), frame);
    }
}
