//! Layouts of builds before Ignition, and a function in a heap made by hand.
//!
//! `metadata/VERSION.txt` has the names and values of all `v8dbg_*` symbols of
//! the official Linux x64 binary of that Node.js release.

use std::collections::HashMap;

use nodetap_v8::code::CodeKind;
use nodetap_v8::layout::UnknownLayout;
use nodetap_v8::{Error, Heap, Layout, Memory, Metadata, Tagged, Unreadable, Version};

const BUILDS: [(Version, &str); 4] = [
    (Version::new(3, 14), include_str!("metadata/0.10.48.txt")),
    (Version::new(3, 28), include_str!("metadata/0.12.18.txt")),
    (Version::new(4, 5), include_str!("metadata/4.9.1.txt")),
    (Version::new(5, 1), include_str!("metadata/6.17.1.txt")),
];

fn metadata(text: &str) -> Metadata {
    text.lines()
        .filter_map(|line| {
            let (name, value) = line.split_once(' ')?;
            Some((name, value.parse().ok()?))
        })
        .collect()
}

fn layouts() -> impl Iterator<Item = Layout> {
    BUILDS
        .iter()
        .map(|(version, text)| Layout::new(*version, &metadata(text)).expect("a known build"))
}

#[test]
fn every_build_has_the_offsets_that_its_live_objects_have() {
    // Read off objects of running processes, field by field.
    let expected = [
        // function.shared, shared.script, .start_position_and_type,
        // .inferred_name, script.id, code size, flags, relocation, kind mask
        [40, 64, 132, 80, 96, 8, 56, 12, 0x780],
        [40, 64, 116, 80, 72, 8, 64, 12, 0x780],
        [40, 64, 116, 80, 72, 56, 64, 8, 0x780],
        [32, 64, 116, 80, 72, 56, 64, 8, 0x7c0],
    ];
    for (layout, expected) in layouts().zip(expected) {
        let names = layout.shared.own_names.expect("they have");
        let found = [
            layout.function_shared,
            layout.shared.script,
            layout.shared.function_literal_id.unwrap_or(0),
            names.inferred_name,
            layout.script.id,
            layout.code.instruction_size,
            layout.code.flags,
            layout.code.position_table,
            layout.code.kind_mask,
        ];
        assert_eq!(found, expected, "V8 {}", layout.version);
        assert_eq!(names.start_position_and_type, expected[2]);
        assert_eq!(
            layout.script.only_newlines_end_lines,
            layout.version < Version::new(4, 0)
        );
    }
}

#[test]
fn a_build_without_metadata_is_taken_for_one_with_it() {
    let untold = Layout::new(Version::new(3, 14), &Metadata::default()).expect("known");
    assert!(Layout::needs_no_metadata(untold.version));
    let mut told = layouts().next().expect("the first one");
    assert_eq!(told.frame.entry_caller, None);
    told.frame.entry_caller = Some(-64);
    assert_eq!(untold, told);
    let later = Version::new(3, 28);
    assert!(!Layout::needs_no_metadata(later));
    assert!(Layout::new(later, &Metadata::default()).is_err());
}

#[test]
fn a_heap_with_many_objects_and_no_functions_is_another_build_s() {
    const META: u64 = 0x10001;
    const OBJECTS: u64 = 0x20000;
    let layout = layouts().next().expect("the first one");
    let check = |objects: u64| {
        let mut words = vec![0; 0x40000 / 8];
        // All are maps, of the map that is its own.
        words[0] = META;
        for index in 0..objects {
            words[((OBJECTS - 0x10000) / 8 + index) as usize] = META;
        }
        let memory = Words(words);
        layout.check_objects(&memory, std::iter::once(0x10000..0x50000))
    };
    assert_eq!(check(0), Ok(()), "too young to tell");
    assert_eq!(
        check(0x5000),
        Err(UnknownLayout::Objects(Version::new(3, 14)))
    );

    /// Words from 0x10000 on.
    struct Words(Vec<u64>);

    impl Memory for Words {
        fn read(&self, address: u64, buffer: &mut [u8]) -> Result<(), Unreadable> {
            for (at, byte) in (address..).zip(buffer) {
                let word = (at.wrapping_sub(0x10000) / 8) as usize;
                let word = self.0.get(word).ok_or(Unreadable { address })?;
                *byte = word.to_le_bytes()[(at % 8) as usize];
            }
            Ok(())
        }
    }
}

#[test]
fn metadata_that_lacks_something_is_refused_by_name() {
    let (version, text) = BUILDS[2];
    let lacking: Metadata = metadata(text)
        .iter()
        .filter(|(name, _)| !name.starts_with("class_Code__relocation_info"))
        .collect();
    let error = Layout::new(version, &lacking).unwrap_err();
    assert_eq!(
        error.to_string(),
        "V8 4.5 does not tell Code.relocation_info"
    );
}

/// A heap made by hand: bytes by address.
#[derive(Default)]
struct Bytes(HashMap<u64, u8>);

impl Bytes {
    fn put(&mut self, address: u64, bytes: &[u8]) {
        for (index, &byte) in bytes.iter().enumerate() {
            self.0.insert(address + index as u64, byte);
        }
    }

    /// An object of this type. Of the word that its map has the type in, the
    /// upper byte is something else.
    fn object(&mut self, address: u64, instance_type: u16) -> Tagged {
        let map = address + 0x800;
        self.put(map + 12, &(instance_type | 0x4500).to_le_bytes());
        self.put(address, &(map + 1).to_le_bytes());
        Tagged(address + 1)
    }

    fn word(&mut self, address: u64, word: u64) {
        self.put(address, &word.to_le_bytes());
    }

    fn one_byte_string(&mut self, address: u64, layout: &Layout, text: &str) -> Tagged {
        let string = self.object(address, layout.strings.one_byte);
        self.word(
            address + u64::from(layout.strings.length) - 4,
            (text.len() as u64) << 32,
        );
        self.put(address + u64::from(layout.strings.chars), text.as_bytes());
        string
    }
}

impl Memory for Bytes {
    fn read(&self, address: u64, into: &mut [u8]) -> Result<(), Unreadable> {
        for (index, byte) in into.iter_mut().enumerate() {
            let at = address + index as u64;
            *byte = *self.0.get(&at).ok_or(Unreadable { address: at })?;
        }
        Ok(())
    }
}

#[test]
fn a_function_has_its_own_name_or_the_inferred_one() {
    for layout in layouts() {
        let mut bytes = Bytes::default();
        let names = layout.shared.own_names.clone().expect("they have");
        let shared = bytes.object(0x1_0000, layout.types.shared_function_info);
        let script = bytes.object(0x2_0000, layout.types.script);
        let empty = bytes.one_byte_string(0x3_0000, &layout, "");
        let own = bytes.one_byte_string(0x4_0000, &layout, "own");
        let inferred = bytes.one_byte_string(0x5_0000, &layout, "object.method");
        bytes.word(0x2_0000 + u64::from(layout.script.id), 7 << 32);
        bytes.word(0x1_0000 + u64::from(layout.shared.script), script.0);
        bytes.word(0x1_0000 + u64::from(names.inferred_name), inferred.0);
        let start = 0x1_0000 + u64::from(names.start_position_and_type);
        bytes.put(start, &(1234_u32 << 2 | 1).to_le_bytes());
        let end = 0x1_0000 + u64::from(names.end_position);
        bytes.put(end, &(5678_u32 << names.end_position_shift).to_le_bytes());
        for (name, expected) in [(own, "own"), (empty, "object.method")] {
            bytes.word(
                0x1_0000 + u64::from(layout.shared.name_or_scope_info),
                name.0,
            );
            let heap = Heap::new(&bytes, &layout);
            let function = heap.function(shared).expect("a function");
            assert_eq!(function.name, expected, "V8 {}", layout.version);
            assert_eq!(function.start_position, Some(1234));
            assert_eq!(function.end_position, Some(5678));
            assert_eq!(function.script, Some(script));
            let id = heap
                .function_id(shared)
                .expect("a function")
                .expect("of a script");
            assert_eq!((id.script, id.literal), (7, 1234 << 2 | 1));
        }
        let heap = Heap::new(&bytes, &layout);
        assert!(matches!(heap.function(script), Err(Error::Type { .. })));
    }
}

#[test]
fn code_says_what_compiled_it() {
    for layout in layouts() {
        let mut bytes = Bytes::default();
        let code = bytes.object(0x1_0000, layout.types.code);
        for offset in (8..96).step_by(8) {
            bytes.word(0x1_0000 + offset, 0);
        }
        let size = 0x1_0000 + u64::from(layout.code.instruction_size);
        let shift = layout.code.kinds.kind_shift;
        let cases = [
            (0, CodeKind::Unoptimized),
            (1, CodeKind::Crankshaft),
            (
                layout.code.kinds.stubs.len() as u32 - 1,
                CodeKind::Stub("ToBooleanIC"),
            ),
            (31 & layout.code.kind_mask >> shift, CodeKind::Other),
        ];
        for (kind, expected) in cases {
            bytes.put(size, &640_u32.to_le_bytes());
            // The other bits of the flags are other things.
            let flags = kind << shift | !layout.code.kind_mask;
            bytes.put(
                0x1_0000 + u64::from(layout.code.flags),
                &flags.to_le_bytes(),
            );
            let read = Heap::new(&bytes, &layout).code(code).expect("code");
            assert_eq!(read.kind, expected, "V8 {}", layout.version);
            assert_eq!((read.start, read.size), (0x1_0060, 640));
        }
    }
}
