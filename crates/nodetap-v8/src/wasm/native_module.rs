//! `NativeModule`: what owns the code of a module
//! (`src/wasm/wasm-code-manager.h`).
//!
//! Two of its fields matter. `owned_code_` is a `std::map` from where
//! instructions start to the `WasmCode` that they are of. In GNU's C++ library
//! a map is a tree whose head points to its root, which points back; the value
//! of the root is a `WasmCode` that names this very module. `wire_bytes_` leads
//! to the module as it was loaded, which begins with its magic number. So both
//! are found by looking at each word of the object.

use std::collections::BTreeMap;

use crate::heap::{Error, Heap};
use crate::wasm::{WasmCode, is_pointer};

/// Bytes of a `NativeModule` that are looked at; it has about 700.
const EXTENT: usize = 1024;

/// Where the parts of a map's node are (`stl_tree.h`): its colour, its parent,
/// both its children, key and value. The head is one without a value, which
/// has the number of nodes in place of the key.
const NODE_WORDS: usize = 6;

/// In bytes, from the head of the map: where the pointers to the first and
/// past the last of `new_owned_code_` are, the field that follows. It has
/// the code that is not in the map yet. (Before 8.7 another field is there.)
const RECENT: u64 = 40;

/// How many pieces of code of a map are read.
const MAX_MAPPED: u64 = 1 << 17;

/// How many pieces of code that are not in the map yet are looked at.
const MAX_RECENT: u64 = 1 << 17;

/// The longest module that is read (`kV8MaxWasmModuleSize` is 1 GB).
pub(super) const MAX_WIRE_BYTES: u64 = 256 << 20;

/// What a module begins with: its magic number and version.
const MAGIC: [u8; 8] = *b"\0asm\x01\0\0\0";

/// A `NativeModule`, and where in it the map of its code is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct NativeModule {
    /// The object.
    pub address: u64,
    /// The head of the map's tree; see [`NativeModule::vector`].
    head: u64,
    /// Whether its code is in a vector alone, and `head` is that.
    is_vector: bool,
}

impl NativeModule {
    /// Where the pointers to the first and past the last of the code are that
    /// is in no map.
    fn vector(&self) -> u64 {
        match self.is_vector {
            true => self.head,
            false => self.head + RECENT,
        }
    }
}

/// What code there is in a module: it changes whenever that does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Inventory {
    /// The number of pieces in the map.
    pub mapped: u64,
    /// The nodes of the tree's root, first and last.
    nodes: [u64; 3],
    /// The pointers to code that is not in the map yet.
    recent: (u64, u64),
}

/// A node of the tree, or its head.
struct Node {
    parent: u64,
    left: u64,
    right: u64,
    /// In the head: the number of nodes.
    key: u64,
    value: u64,
}

impl Node {
    fn of(words: &[u64]) -> Node {
        Node {
            parent: words[1],
            left: words[2],
            right: words[3],
            key: words[4],
            value: words.get(5).copied().unwrap_or_default(),
        }
    }
}

impl Heap<'_> {
    /// The `NativeModule` at `address`.
    ///
    /// # Errors
    /// Where there is none.
    pub fn native_module(&self, address: u64) -> Result<NativeModule, Error> {
        let layout = self.layout.wasm.as_ref();
        let is_vector = layout.is_some_and(|layout| layout.module.code_is_vector);
        let words = self.native_words(address)?;
        for (index, window) in words.windows(NODE_WORDS).enumerate() {
            let native = NativeModule {
                address,
                head: address + index as u64 * 8,
                is_vector,
            };
            let may_be = is_vector || may_be_head(window, native.head);
            if may_be && self.owns_code(&native) {
                return Ok(native);
            }
        }
        Err(Error::Unbelievable("no module that owns code"))
    }

    fn native_words(&self, address: u64) -> Result<Vec<u64>, Error> {
        if !is_pointer(address) {
            return Err(Error::Unbelievable("no pointer to a module"));
        }
        Ok(self.memory.words(address, EXTENT / 8)?)
    }

    fn node(&self, address: u64) -> Result<Node, Error> {
        if !is_pointer(address) {
            return Err(Error::Unbelievable("no node of a tree"));
        }
        Ok(Node::of(&self.memory.words(address, NODE_WORDS)?))
    }

    /// Whether the head is that of a map of the module's code.
    fn owns_code(&self, native: &NativeModule) -> bool {
        let owns = || -> Result<bool, Error> {
            let head = self.node(native.head)?;
            if native.is_vector || head.parent == 0 {
                let (first, _) = self.recent(native)?;
                return Ok(self
                    .wasm_code(self.memory.u64(first)?, native.address)
                    .is_ok());
            }
            let root = self.node(head.parent)?;
            let code = self.wasm_code(root.value, native.address)?;
            Ok(root.parent == native.head && code.start == root.key)
        };
        owns().unwrap_or(false)
    }

    /// Where the pointers to the code begin and end that is not in the map.
    fn recent(&self, native: &NativeModule) -> Result<(u64, u64), Error> {
        let words = self.memory.words(native.vector(), 3)?;
        let (first, last, room) = (words[0], words[1], words[2]);
        let is_vector =
            is_pointer(first) && last.is_multiple_of(8) && first <= last && last <= room;
        if !is_vector || (last - first) / 8 > MAX_RECENT {
            return Ok((0, 0));
        }
        Ok((first, last))
    }

    /// What code there is in the module now.
    ///
    /// # Errors
    /// Where the module is gone.
    pub fn wasm_inventory(&self, native: &NativeModule) -> Result<Inventory, Error> {
        if !self.owns_code(native) {
            return Err(Error::Unbelievable("a module that is no more"));
        }
        let recent = self.recent(native)?;
        if native.is_vector {
            return Ok(Inventory {
                mapped: 0,
                nodes: [0; 3],
                recent,
            });
        }
        let head = self.node(native.head)?;
        Ok(Inventory {
            mapped: head.key,
            nodes: [head.parent, head.left, head.right],
            recent,
        })
    }

    /// All code of the module by where it starts, that in the map as that in
    /// none yet.
    ///
    /// # Errors
    /// Where it cannot be read, or V8 is just changing the map.
    pub fn wasm_codes(
        &self,
        native: &NativeModule,
        inventory: &Inventory,
    ) -> Result<BTreeMap<u64, WasmCode>, Error> {
        let mut codes = BTreeMap::new();
        let recent = self.wasm_recent_code(native, inventory)?;
        codes.extend(recent.into_iter().map(|code| (code.start, code)));
        let mut nodes = 0;
        let mut next = vec![inventory.nodes[0]];
        while let Some(address) = next.pop() {
            if address == 0 {
                continue;
            }
            nodes += 1;
            if nodes > inventory.mapped.min(MAX_MAPPED) {
                return Err(Error::Unbelievable("a map of more than it has"));
            }
            let node = self.node(address)?;
            next.extend([node.left, node.right]);
            let code = self.wasm_code(node.value, native.address)?;
            if code.start != node.key {
                return Err(Error::Unbelievable("code that is not where it is mapped"));
            }
            codes.insert(code.start, code);
        }
        if nodes == inventory.mapped {
            Ok(codes)
        } else {
            Err(Error::Unbelievable("a map of less than it has"))
        }
    }

    fn wasm_recent_code(
        &self,
        native: &NativeModule,
        inventory: &Inventory,
    ) -> Result<Vec<WasmCode>, Error> {
        let (first, last) = inventory.recent;
        if first == last {
            return Ok(Vec::new());
        }
        let pointers = self.memory.words(first, ((last - first) / 8) as usize)?;
        let codes = pointers
            .into_iter()
            .filter_map(|pointer| self.wasm_code(pointer, native.address).ok());
        Ok(codes.collect())
    }

    /// The module as it was loaded: its bytes.
    ///
    /// # Errors
    /// Where they are not found, as long as they are still loaded.
    pub fn wasm_wire_bytes(&self, native: &NativeModule) -> Result<Vec<u8>, Error> {
        let words = self.native_words(native.address)?;
        // `OwnedVector`: a pointer and a length. In 7.0 it is a part of the module itself.
        let own = words.windows(2).map(|pair| (pair[0], pair[1]));
        let pointers = words.iter().copied().filter(|&word| is_pointer(word));
        let shared = pointers.filter_map(|pointer| {
            let vector = self.memory.words(pointer, 2).ok()?;
            Some((vector[0], vector[1]))
        });
        for (start, length) in shared.chain(own) {
            if start < 0x1000 || !(8..=MAX_WIRE_BYTES).contains(&length) {
                continue;
            }
            let mut magic = [0; 8];
            if self.memory.read(start, &mut magic).is_ok() && magic == MAGIC {
                return Ok(self.memory.bytes(start, length as usize)?);
            }
        }
        Err(Error::Unbelievable("a module without its bytes"))
    }
}

/// Whether `words` at `address` look like the head of a tree, of one without
/// nodes too.
fn may_be_head(words: &[u64], address: u64) -> bool {
    let head = Node::of(words);
    // The head is red, which is 0; a byte of padding may be anything.
    let is_red = words[0] as u32 == 0;
    let is_empty = head.parent == 0 && head.key == 0;
    is_red
        && if is_empty {
            head.left == address && head.right == address
        } else {
            [head.parent, head.left, head.right]
                .into_iter()
                .all(is_pointer)
                && (1..1 << 32).contains(&head.key)
        }
}
