//! Memory of a target that does not change.

use nodetap_v8::Version;
use procfs::FromBufRead;
use procfs::process::{MMPermissions, MMapPath, MemoryMaps};

use super::{Addresses, Target};

/// The first V8 of which it is relied on that its isolates share the objects that never
/// change: where they do not, those of a thread go with it (`V8_SHARED_RO_HEAP`,
/// `src/heap/read-only-heap.h`).
const FIRST_TO_SHARE: Version = Version::new(9, 0);

impl Target {
    /// Looks again which memory the process cannot write: as it starts, there is less.
    pub fn look_for_constant_memory(&self) {
        let text = self.source.mappings().unwrap_or_default();
        // One that has ended has its memory no more.
        if let Ok(maps) = MemoryMaps::from_buf_read(&*text) {
            self.set_constant(&maps);
        }
    }

    pub(super) fn set_constant(&self, maps: &MemoryMaps) {
        if self.layout.version >= FIRST_TO_SHARE {
            self.memory.set_constant(constant(maps).collect());
        }
    }
}

/// Memory of no file that the process can read and not write.
fn constant(maps: &MemoryMaps) -> impl Iterator<Item = Addresses> {
    let wanted = MMPermissions::READ | MMPermissions::PRIVATE;
    maps.iter()
        .filter(move |map| matches!(map.pathname, MMapPath::Anonymous) && map.perms == wanted)
        .map(|map| map.address.0..map.address.1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_can_be_written_or_is_the_kernels_is_not_constant() {
        let text = b"00400000-00401000 r--p 00000000 08:01 123                /usr/bin/node\n\
            3a3114c0000-3a3114de000 r--p 00000000 00:00 0 \n\
            3a3114de000-3a3114e0000 rw-p 00000000 00:00 0 \n\
            3a3114e0000-3a3114f0000 r-xp 00000000 00:00 0 \n\
            3a3114f0000-3a311500000 r--s 00000000 00:00 0 \n\
            3a311500000-3a311600000 ---p 00000000 00:00 0 \n\
            7f494e208000-7f494e20c000 r--p 00000000 00:00 0          [vvar]\n";
        let maps = MemoryMaps::from_buf_read(&text[..]).unwrap();
        let mut found = constant(&maps);
        assert_eq!(found.next(), Some(0x03a3_114c_0000..0x03a3_114d_e000));
        assert_eq!(found.next(), None);
    }
}
