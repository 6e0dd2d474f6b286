//! Layouts of real builds, and strings in a heap made by hand.
//!
//! `metadata/VERSION.txt` has the names and values of all `v8dbg_*` symbols of
//! the official Linux x64 binary of that Node.js release.

use std::collections::HashMap;

use nodetap_v8::layout::{StringTags, UnknownLayout};
use nodetap_v8::{Error, Heap, Layout, Memory, Metadata, Tagged, Unreadable, Version};

fn metadata(text: &str) -> Metadata {
    text.lines()
        .filter_map(|line| {
            let (name, value) = line.split_once(' ')?;
            Some((name, value.parse().ok()?))
        })
        .collect()
}

const BUILDS: [(Version, &str); 7] = [
    (Version::new(10, 2), include_str!("metadata/18.20.8.txt")),
    (Version::new(11, 3), include_str!("metadata/20.20.2.txt")),
    (Version::new(12, 4), include_str!("metadata/22.23.3.txt")),
    (Version::new(13, 6), include_str!("metadata/24.21.0.txt")),
    (Version::new(14, 6), include_str!("metadata/26.10.0.txt")),
    (Version::new(6, 2), include_str!("metadata/8.17.0.txt")),
    (Version::new(6, 8), include_str!("metadata/10.24.1.txt")),
];

fn layout(build: usize) -> Layout {
    let (version, text) = BUILDS[build];
    Layout::new(version, &metadata(text)).expect("a known build")
}

#[test]
fn every_build_has_the_offsets_that_its_live_objects_have() {
    // Read off objects of running processes, field by field.
    let expected = [
        // function.shared, shared.script, .literal id, script.id, .source_url,
        // bytecode positions, bytecodes, code flags, code size, kind turbofan
        [24, 32, 52, 64, 104, 32, 56, 48, 40, 13],
        [24, 32, 52, 64, 112, 32, 54, 48, 56, 13],
        [32, 32, 52, 64, 112, 24, 64, 48, 52, 12],
        [32, 40, 60, 64, 112, 24, 64, 52, 56, 12],
        [32, 40, 60, 64, 112, 24, 64, 52, 56, 13],
        [32, 64, 104, 72, 112, 32, 58, 60, 56, 2],
        [24, 32, 56, 72, 112, 32, 58, 44, 40, 0],
    ];
    for (build, expected) in expected.into_iter().enumerate() {
        let layout = layout(build);
        let found = [
            layout.function_shared,
            layout.shared.script,
            layout.shared.function_literal_id.unwrap_or(0),
            layout.script.id,
            layout.script.source_url.unwrap_or(0),
            layout.bytecode.source_position_table,
            layout.bytecode.data,
            layout.code.flags,
            layout.code.instruction_size,
            layout.code.kinds.turbofan,
        ];
        assert_eq!(found, expected, "V8 {}", layout.version);
    }
}

#[test]
fn class_constructors_are_functions() {
    let last = [2081, 2082, 2082, 2081, 2082, 254, 1091];
    let first = [2065, 2066, 2066, 2065, 2066, 254, 1091];
    for build in 0..BUILDS.len() {
        let types = layout(build).types;
        assert_eq!(
            (types.js_function_first, types.js_function_last),
            (first[build], last[build])
        );
    }
}

#[test]
fn a_version_without_rules_is_refused() {
    let text = metadata(BUILDS[3].1);
    // One that no release has, those between others that are known, later ones.
    for version in [(7, 3), (8, 2), (12, 8), (13, 0), (14, 7), (15, 0)] {
        let version = Version::new(version.0, version.1);
        assert_eq!(
            Layout::new(version, &text),
            Err(UnknownLayout::Version(version))
        );
    }
}

#[test]
fn metadata_that_lacks_something_is_refused_by_name() {
    let (version, text) = BUILDS[3];
    let lacking: Metadata = metadata(text)
        .iter()
        .filter(|(name, _)| !name.starts_with("class_Script__line_ends"))
        .collect();
    let error = Layout::new(version, &lacking).unwrap_err();
    assert_eq!(error.to_string(), "V8 13.6 does not tell Script.line_ends");
}

/// A heap made by hand: words by address.
#[derive(Default)]
struct Words(HashMap<u64, u8>);

impl Words {
    fn put(&mut self, address: u64, bytes: &[u8]) {
        for (index, &byte) in bytes.iter().enumerate() {
            self.0.insert(address + index as u64, byte);
        }
    }

    /// A string object at `address` of this instance type, with these words
    /// after its length.
    fn string(
        &mut self,
        tags: &StringTags,
        address: u64,
        kind: u16,
        length: u32,
        rest: &[u64],
    ) -> Tagged {
        let map = address + 0x800;
        self.put(map + 12, &kind.to_le_bytes());
        self.put(address, &(map + 1).to_le_bytes());
        self.put(address + u64::from(tags.length), &length.to_le_bytes());
        let first = address + u64::from(tags.chars);
        for (index, word) in rest.iter().enumerate() {
            self.put(first + 8 * index as u64, &word.to_le_bytes());
        }
        Tagged(address + 1)
    }

    fn characters(&mut self, tags: &StringTags, address: u64, kind: u16, text: &str) -> Tagged {
        let units: Vec<u16> = text.encode_utf16().collect();
        let string = self.string(tags, address, kind, units.len() as u32, &[]);
        let bytes: Vec<u8> = match kind & 8 {
            8 => units.iter().map(|&unit| unit as u8).collect(),
            _ => units.iter().flat_map(|unit| unit.to_le_bytes()).collect(),
        };
        self.put(address + u64::from(tags.chars), &bytes);
        string
    }
}

impl Memory for Words {
    fn read(&self, address: u64, buffer: &mut [u8]) -> Result<(), Unreadable> {
        for (index, byte) in buffer.iter_mut().enumerate() {
            *byte = *self
                .0
                .get(&(address + index as u64))
                .ok_or(Unreadable { address })?;
        }
        Ok(())
    }
}

const ONE_BYTE: u16 = 8;
const CONS: u16 = 1;
const EXTERNAL: u16 = 2;
const SLICED: u16 = 3;
const THIN: u16 = 5;
const UNCACHED: u16 = 16;

fn smi(value: u32) -> u64 {
    u64::from(value) << 32
}

#[test]
fn strings_of_every_representation_are_read() {
    for build in 0..BUILDS.len() {
        let layout = layout(build);
        let tags = &layout.strings;
        let mut words = Words::default();
        let one = words.characters(tags, 0x10000, ONE_BYTE, "caf\u{e9}");
        let two = words.characters(tags, 0x20000, 0, "naïve 😀 日本");
        let cons = words.string(tags, 0x30000, CONS, 16, &[one.0, two.0]);
        let sliced = words.string(tags, 0x40000, SLICED, 7, &[cons.0, smi(2)]);
        let thin = words.string(tags, 0x50000, THIN, 7, &[sliced.0]);
        words.put(0x70000, b"external");
        let external = words.string(tags, 0x60000, EXTERNAL | ONE_BYTE, 8, &[0x999, 0x70000]);
        let heap = Heap::new(&words, &layout);
        assert_eq!(heap.name(one).unwrap(), "café");
        assert_eq!(heap.name(two).unwrap(), "naïve 😀 日本");
        let units = "naïve 😀 日本".encode_utf16().count() as u32;
        assert_eq!(units + 4, 15);
        assert!(heap.name(cons).is_err(), "it says 16 units and has 15");
        assert_eq!(heap.name(external).unwrap(), "external");

        let cons = words.string(tags, 0x30000, CONS, 15, &[one.0, two.0]);
        let heap = Heap::new(&words, &layout);
        assert_eq!(heap.name(cons).unwrap(), "cafénaïve 😀 日本");
        assert_eq!(heap.name(sliced).unwrap(), "fénaïve");
        assert_eq!(heap.name(thin).unwrap(), "fénaïve");
        assert_eq!(heap.units(thin, 3).unwrap().len(), 3);
    }
}

#[test]
fn what_is_no_string_is_no_string() {
    let layout = layout(3);
    let mut words = Words::default();
    let symbol = words.string(&layout.strings, 0x10000, 128, 4, &[]);
    let uncached = words.string(&layout.strings, 0x20000, EXTERNAL | UNCACHED, 4, &[0x999]);
    let unknown = words.string(&layout.strings, 0x30000, 7, 4, &[]);
    let own_tail = words.string(&layout.strings, 0x40000, THIN, 4, &[0x40001]);
    let heap = Heap::new(&words, &layout);
    assert!(matches!(heap.name(symbol), Err(Error::Type { .. })));
    assert!(heap.name(uncached).is_err());
    assert!(heap.name(unknown).is_err());
    assert!(heap.name(own_tail).is_err(), "a thin string of itself ends");
    assert_eq!(heap.name(Tagged(smi(5))), Err(Error::NotAnObject(smi(5))));
    assert!(matches!(
        heap.name(Tagged(0x90001)),
        Err(Error::Unreadable(_))
    ));
    assert!(!heap.is_string(symbol) && heap.is_string(uncached));
}

#[test]
fn a_string_without_end_is_cut_or_refused() {
    let layout = layout(4);
    let mut words = Words::default();
    // Both halves of it are itself.
    let endless = words.string(&layout.strings, 0x10000, CONS, 1 << 29, &[0x10001, 0x10001]);
    let heap = Heap::new(&words, &layout);
    assert!(heap.name(endless).is_err());
}
