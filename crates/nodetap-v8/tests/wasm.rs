//! The code of a WebAssembly module, in a memory made by hand: as V8 13.6 lays it out.

use std::collections::BTreeMap;

use nodetap_v8::{Heap, Layout, Memory, Metadata, Unreadable, Version};

fn layout() -> Layout {
    let lines = include_str!("metadata/24.21.0.txt").lines();
    let metadata: Metadata = lines
        .filter_map(|line| {
            let (name, value) = line.split_once(' ')?;
            Some((name, value.parse().ok()?))
        })
        .collect();
    Layout::new(Version::new(13, 6), &metadata).expect("a known build")
}

/// Memory a word at a time; what was not written is not mapped.
#[derive(Default)]
struct Words(BTreeMap<u64, u64>);

impl Words {
    fn put(&mut self, address: u64, words: &[u64]) {
        let addresses = (address..).step_by(8);
        self.0.extend(addresses.zip(words.iter().copied()));
    }

    fn put_bytes(&mut self, address: u64, bytes: &[u8]) {
        for (index, chunk) in bytes.chunks(8).enumerate() {
            let mut word = [0; 8];
            word[..chunk.len()].copy_from_slice(chunk);
            self.put(address + index as u64 * 8, &[u64::from_le_bytes(word)]);
        }
    }
}

impl Memory for Words {
    fn read(&self, address: u64, buffer: &mut [u8]) -> Result<(), Unreadable> {
        let mut known = None;
        for (index, byte) in buffer.iter_mut().enumerate() {
            let at = address.wrapping_add(index as u64);
            if at.is_multiple_of(8) || known.is_none() {
                known = self.0.get(&(at & !7)).copied();
            }
            let word = known.ok_or(Unreadable { address })?;
            *byte = word.to_le_bytes()[(at & 7) as usize];
        }
        Ok(())
    }
}

const NATIVE: u64 = 0x10_0000;
/// Where in it the head of the map's tree is.
const HEAD: u64 = NATIVE + 0x138;
const NODES: u64 = 0x20_0000;
const CODES: u64 = 0x30_0000;
const RECENT: u64 = 0x40_0000;
const WIRE_BYTES: u64 = 0x50_0000;
/// Where the instructions are: code that is 0x80 long, every 0x100 bytes.
const INSTRUCTIONS: u64 = 0x7f00_0000_0000;

fn instructions(number: u64) -> u64 {
    INSTRUCTIONS + number * 0x100
}

fn node(number: u64) -> u64 {
    NODES + number * 0x40
}

/// Writes the `WasmCode` of the instructions of a number, which is also its index.
fn put_code(memory: &mut Words, number: u64, kind: u64) -> u64 {
    let address = CODES + number * 0x100;
    memory.put(address, &[0; 16]);
    memory.put(address, &[NATIVE, instructions(number)]);
    memory.put(address + 32, &[0x80]);
    // Its size in the lower half belongs to another table.
    memory.put(address + 56, &[number]);
    memory.put(address + 96, &[0x40 | kind]);
    address
}

/// A module with the codes 0 to 6 in its map and 7 beside it. 0 is no function.
fn module() -> Words {
    let mut memory = Words::default();
    // Words that are nothing, one that points to itself, an empty tree of
    // something else.
    memory.put(NATIVE, &[0; 128]);
    memory.put(NATIVE + 16, &[NATIVE + 16, 7, u64::MAX]);
    let other = NATIVE + 0x80;
    memory.put(other, &[0, 0, other, other, 0]);
    memory.put(NATIVE + 0x60, &[WIRE_BYTES]);
    memory.put(WIRE_BYTES, &[WIRE_BYTES + 0x100, 12]);
    memory.put_bytes(WIRE_BYTES + 0x100, b"\0asm\x01\0\0\0\0\x02\x01x");

    memory.put(HEAD, &[0, node(3), node(0), node(6), 7]);
    // Parent, left and right of each.
    let tree = [
        (HEAD, 3, [1, 5]),
        (node(3), 1, [0, 2]),
        (node(3), 5, [4, 6]),
        (node(1), 0, [9, 9]),
        (node(1), 2, [9, 9]),
        (node(5), 4, [9, 9]),
        (node(5), 6, [9, 9]),
    ];
    for (parent, number, children) in tree {
        let [left, right] = children.map(|child| if child == 9 { 0 } else { node(child) });
        let code = put_code(&mut memory, number, if number == 0 { 3 } else { 0 });
        let words = [1, parent, left, right, instructions(number), code];
        memory.put(node(number), &words);
    }
    let recent = put_code(&mut memory, 7, 0);
    memory.put(RECENT, &[recent]);
    memory.put(HEAD + 40, &[RECENT, RECENT + 8, RECENT + 64]);
    memory
}

#[test]
fn a_module_tells_all_its_code() {
    let (memory, layout) = (module(), layout());
    let heap = Heap::new(&memory, &layout);
    let native = heap.native_module(NATIVE).expect("a module");
    let inventory = heap.wasm_inventory(&native).expect("an inventory");
    assert_eq!(inventory.mapped, 7);
    let codes = heap.wasm_codes(&native, &inventory).expect("code");
    assert_eq!(codes.len(), 8);
    for (number, (&start, code)) in (0..).zip(&codes) {
        assert_eq!((start, code.start), (instructions(number), start));
        let function = (number != 0).then_some(number as u32);
        assert_eq!(code.function, function);
        assert!(code.contains(start) && code.contains(start + 0x7f));
        assert!(!code.contains(start - 1) && !code.contains(start + 0x80));
    }
    let bytes = heap.wasm_wire_bytes(&native).expect("the module's bytes");
    assert_eq!(bytes, b"\0asm\x01\0\0\0\0\x02\x01x");
}

#[test]
fn code_that_is_in_no_map_yet_makes_a_module_too() {
    let (mut memory, layout) = (module(), layout());
    memory.put(HEAD, &[0, 0, HEAD, HEAD, 0]);
    let heap = Heap::new(&memory, &layout);
    let native = heap.native_module(NATIVE).expect("a module");
    let inventory = heap.wasm_inventory(&native).expect("an inventory");
    let codes = heap.wasm_codes(&native, &inventory).expect("code");
    let functions: Vec<_> = codes.values().map(|code| code.function).collect();
    assert_eq!(functions, [Some(7)]);
}

#[test]
fn a_map_that_is_being_changed_is_not_believed() {
    let (mut memory, layout) = (module(), layout());
    // A node has its parent as child; the map has more nodes than the tree.
    memory.put(node(6) + 16, &[node(5)]);
    let heap = Heap::new(&memory, &layout);
    let native = heap.native_module(NATIVE).expect("a module");
    let inventory = heap.wasm_inventory(&native).expect("an inventory");
    assert!(heap.wasm_codes(&native, &inventory).is_err());
    memory.put(node(6) + 16, &[0]);
    memory.put(HEAD + 32, &[8]);
    let heap = Heap::new(&memory, &layout);
    let inventory = heap.wasm_inventory(&native).expect("an inventory");
    assert!(heap.wasm_codes(&native, &inventory).is_err());
}

#[test]
fn what_is_another_modules_is_not_believed() {
    let (mut memory, layout) = (module(), layout());
    // The root's code.
    memory.put(CODES + 3 * 0x100, &[NATIVE + 8]);
    let heap = Heap::new(&memory, &layout);
    assert!(heap.native_module(NATIVE).is_err());
    assert!(heap.native_module(NATIVE + 1).is_err());
    assert!(heap.native_module(0).is_err());
}

#[test]
fn whatever_is_in_memory_ends_in_an_answer() {
    let layout = layout();
    let whole = module();
    let addresses: Vec<u64> = whole.0.keys().copied().collect();
    for &address in &addresses {
        for value in [0, 1, u64::MAX, HEAD, node(3), node(0), instructions(3)] {
            let mut memory = module();
            memory.put(address, &[value]);
            let heap = Heap::new(&memory, &layout);
            let Ok(native) = heap.native_module(NATIVE) else {
                continue;
            };
            if let Ok(inventory) = heap.wasm_inventory(&native)
                && let Ok(codes) = heap.wasm_codes(&native, &inventory)
            {
                assert!(codes.len() <= 9);
            }
            let _ = heap.wasm_wire_bytes(&native);
        }
    }
}
