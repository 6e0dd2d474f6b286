//! Where bytecodes stand in the source, kept from one frame to the next.

use std::hash::{Hash, Hasher};
use std::ops::Range;
use std::rc::Rc;

use nodetap_v8::bytecode::BytecodeSizes;
use nodetap_v8::source_position::{self, Entry};
use nodetap_v8::{Error, Heap, Tagged};
use rustc_hash::FxHashMap;

use crate::recent::Recent;

use super::code_cache::Now;
use super::functions::{FunctionInfo, FunctionKey};

/// For how many batches bytecode without positions is not looked at again.
const RETRY_EPOCHS: u64 = 1;

/// The source position tables of bytecode, by where it is and whose it is.
#[derive(Default)]
pub struct BytecodePositions {
    /// How long bytecodes are, where that is known.
    sizes: Option<BytecodeSizes>,
    tables: Recent<(Tagged, FunctionKey), Table>,
    /// What was read last of each function: of one that the collector has moved
    /// since the tick, the table is the same wherever its bytecode is.
    last: FxHashMap<ByAddress, Table>,
}

/// A function, by where what is known of it is.
struct ByAddress(Rc<FunctionInfo>);

impl PartialEq for ByAddress {
    fn eq(&self, other: &ByAddress) -> bool {
        Rc::ptr_eq(&self.0, &other.0)
    }
}

impl Eq for ByAddress {}

impl Hash for ByAddress {
    fn hash<H: Hasher>(&self, state: &mut H) {
        Rc::as_ptr(&self.0).hash(state);
    }
}

#[derive(Clone)]
struct Table {
    entries: Option<Rc<Vec<Entry>>>,
    length: u32,
    read_at: u64,
}

/// The table of the bytecode that the function of `key` has.
fn read(
    heap: &Heap<'_>,
    now: Now,
    key: FunctionKey,
    sizes: Option<&BytecodeSizes>,
) -> Result<Table, Error> {
    // What is at the frame's array now may be another function's bytecode; the
    // function itself knows where its own is, if it still is the same.
    let array = heap.bytecode_of(key.shared())?;
    let length = heap.bytecode_length(array)?;
    let entries = heap.bytecode_positions(array)?;
    let agree = match (sizes, &entries) {
        (Some(sizes), Some(entries)) => sizes.agree_with(&heap.bytecodes(array)?, entries),
        _ => true,
    };
    let is_same = heap.function_id(key.shared())? == Some(key.id())
        && heap.bytecode_of(key.shared())? == array
        && heap.bytecode_length(array)? == length;
    if !is_same {
        return Err(Error::Unbelievable("another function by now"));
    }
    if !agree {
        return Err(Error::Unbelievable("positions between bytecodes"));
    }
    Ok(Table {
        entries: entries.map(Rc::new),
        length,
        read_at: now.epoch,
    })
}

impl BytecodePositions {
    /// Those of a V8 whose bytecodes are so long.
    pub fn of_sizes(&mut self, sizes: Option<&BytecodeSizes>) {
        if self.sizes.is_none() {
            self.sizes = sizes.cloned();
        }
    }

    /// Where the bytecode at `offset` in `array`, the bytecode of `function`,
    /// stands in its script, in UTF-16 units; -1 is the function's entry. `key` is
    /// where the function was at the tick. `None` where V8 does not tell (yet).
    pub fn position(
        &mut self,
        heap: &Heap<'_>,
        now: Now,
        array: Tagged,
        (key, function): (FunctionKey, &Rc<FunctionInfo>),
        offset: i64,
    ) -> Option<u32> {
        let place = (array, key);
        let fresh = self.tables.get(&place).is_some_and(|table| {
            // V8 may collect the positions later than it made the bytecode.
            table.entries.is_some() || now.epoch < table.read_at + RETRY_EPOCHS
        });
        if !fresh {
            let last = ByAddress(function.clone());
            let found = match now.late {
                true => Err(Error::Unbelievable("too late")),
                false => read(heap, now, key, self.sizes.as_ref()),
            };
            let table = match found {
                Ok(table) => {
                    if table.entries.is_some() {
                        self.last.insert(last, table.clone());
                    }
                    table
                }
                Err(error) => {
                    tracing::debug!(?key, %error, "positions not read");
                    self.last.get(&last)?.clone()
                }
            };
            self.tables.insert(place, table);
        }
        let table = self.tables.peek(&place)?;
        if offset >= i64::from(table.length) {
            return None;
        }
        source_position::lookup(table.entries.as_ref()?, offset)?.script_offset
    }

    /// All places in the script that the bytecodes in `range` stand at, where the
    /// table has been read by [`BytecodePositions::position`].
    pub fn positions_in(
        &self,
        array: Tagged,
        key: FunctionKey,
        range: Range<u32>,
    ) -> Option<Vec<u32>> {
        let entries = self.tables.peek(&(array, key))?.entries.as_ref()?;
        let first = source_position::lookup(entries, i64::from(range.start))?;
        let range = i64::from(range.start)..i64::from(range.end);
        let inside = entries
            .iter()
            .filter(|entry| range.contains(&entry.code_offset));
        let positions = std::iter::once(first).chain(inside.map(|entry| entry.position));
        positions.map(|position| position.script_offset).collect()
    }

    /// The functions whose bytecode was met at `array`.
    pub fn functions_of(&self, array: Tagged) -> Vec<FunctionKey> {
        let of_array = |&&(at, _): &&(Tagged, FunctionKey)| at == array;
        self.tables
            .keys()
            .filter(of_array)
            .map(|&(_, key)| key)
            .collect()
    }

    /// Whether the table of `array`, where it is known, begins after `offset`:
    /// the function has only just been entered then.
    pub fn is_before_first(&self, array: Tagged, key: FunctionKey, offset: i64) -> bool {
        self.tables
            .peek(&(array, key))
            .and_then(|table| table.entries.as_ref()?.first())
            .is_some_and(|first| offset < first.code_offset)
    }
}
