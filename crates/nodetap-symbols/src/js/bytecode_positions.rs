//! Where bytecodes stand in the source, kept from one frame to the next.

use std::ops::Range;
use std::rc::Rc;

use nodetap_v8::source_position::{self, Entry};
use nodetap_v8::{Heap, Tagged};
use rustc_hash::FxHashMap;

use super::code_cache::Now;
use super::functions::FunctionKey;

/// For how many batches bytecode without positions is not looked at again.
const RETRY_EPOCHS: u64 = 20;

/// The source position tables of bytecode, by where it is and whose it is.
#[derive(Default)]
pub struct BytecodePositions {
    tables: FxHashMap<(Tagged, FunctionKey), Table>,
}

struct Table {
    entries: Option<Rc<Vec<Entry>>>,
    length: u32,
    read_at: u64,
}

impl BytecodePositions {
    /// Where the bytecode at `offset` in `array`, the bytecode of the function
    /// of `key`, stands in its script, in UTF-16 units; -1 is the function's
    /// entry. `None` where V8 does not tell (yet).
    pub fn position(
        &mut self,
        heap: &Heap<'_>,
        now: Now,
        array: Tagged,
        key: FunctionKey,
        offset: i64,
    ) -> Option<u32> {
        let table = match self.tables.get(&(array, key)) {
            // V8 may collect the positions later than it made the bytecode.
            Some(table) if table.entries.is_some() || now.epoch < table.read_at + RETRY_EPOCHS => {
                table
            }
            _ => {
                // What is at `array` now may be another function's bytecode; the
                // function itself knows where its own is.
                let read = heap.bytecode_of(key.shared()).and_then(|array| {
                    let length = heap.bytecode_length(array)?;
                    Ok((length, heap.bytecode_positions(array)?))
                });
                let (length, entries) = read.ok()?;
                let table = Table {
                    entries: entries.map(Rc::new),
                    length,
                    read_at: now.epoch,
                };
                self.tables
                    .entry((array, key))
                    .insert_entry(table)
                    .into_mut()
            }
        };
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
        let entries = self.tables.get(&(array, key))?.entries.as_ref()?;
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
            .get(&(array, key))
            .and_then(|table| table.entries.as_ref()?.first())
            .is_some_and(|first| offset < first.code_offset)
    }
}
