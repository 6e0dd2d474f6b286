//! Whether live objects are as a layout says: for builds that do not say themselves
//! where things are.

use std::ops::Range;

use rustc_hash::FxHashMap;

use crate::heap::{Error, Heap, Tagged};
use crate::layout::{Layout, UnknownLayout};
use crate::memory::Memory;

/// So many functions of scripts that are as they should be are no accident.
const ENOUGH_FUNCTIONS: u32 = 64;
/// A heap with so many objects has more functions than that.
const MANY_OBJECTS: u32 = 20_000;
/// Bytes of memory that are looked at.
const MAX_BYTES: u64 = 64 << 20;
/// Bytes read at once.
const PIECE: u64 = 64 << 10;

impl Layout {
    /// Looks for functions in `places`, memory that may be V8's heap, and checks that
    /// they lead to their code, scripts, names and places. A program that has just begun
    /// has no heap yet, and nothing to be checked.
    ///
    /// # Errors
    /// Where objects are not as the layout says.
    pub fn check_objects(
        &self,
        memory: &dyn Memory,
        places: impl IntoIterator<Item = Range<u64>>,
    ) -> Result<(), UnknownLayout> {
        let heap = Heap::new(memory, self);
        let mut types: FxHashMap<u64, Option<u16>> = FxHashMap::default();
        let (mut objects, mut functions) = (0, 0);
        let pieces = places.into_iter().flat_map(|place| {
            let starts = (place.start..place.end).step_by(PIECE as usize);
            starts.map(move |start| start..place.end.min(start + PIECE))
        });
        for piece in pieces.take((MAX_BYTES / PIECE) as usize) {
            let count = (piece.end - piece.start) as usize / 8;
            let Ok(words) = memory.words(piece.start, count) else {
                continue;
            };
            for (word, address) in words.into_iter().zip((piece.start..).step_by(8)) {
                let map = Tagged(word);
                if !map.is_heap_object() {
                    continue;
                }
                // What points to a map may be an object of it.
                let object = Tagged(address + 1);
                let found = *types.entry(word).or_insert_with(|| {
                    let is_map = heap.is_map(map);
                    is_map.then(|| heap.instance_type(object).ok()).flatten()
                });
                objects += u32::from(found.is_some());
                let types = self.types.js_function_first..=self.types.js_function_last;
                // What is no object, and what is free, leads nowhere.
                if found.is_some_and(|found| types.contains(&found))
                    && heap.is_function_of_script(object) == Ok(true)
                {
                    functions += 1;
                }
                if functions == ENOUGH_FUNCTIONS {
                    return Ok(());
                }
            }
        }
        match objects < MANY_OBJECTS {
            true => Ok(()),
            false => Err(UnknownLayout::Objects(self.version)),
        }
    }
}

impl Heap<'_> {
    /// Whether a function is of a script, and all is there that names and places it.
    fn is_function_of_script(&self, function: Tagged) -> Result<bool, Error> {
        let shared = self.shared_of(function)?;
        let found = self.function(shared)?;
        let Some(script) = found.script else {
            return Ok(false);
        };
        let script = self.script(script, false)?;
        self.function_id(shared)?;
        // What of V8 is written in JavaScript may have no source.
        let end = script.end().unwrap_or(u32::MAX);
        let (from, to) = (found.start_position, found.end_position);
        if !from
            .zip(to)
            .is_some_and(|(from, to)| from <= to && to <= end)
        {
            return Err(Error::Unbelievable("a function that is not in its script"));
        }
        if let Some(code) = self.layout.shared.code {
            let code = self.tagged(shared.field(code)?)?;
            self.expect(code, self.layout.types.code, "a Code")?;
            let relocation = self.layout.code.position_table;
            let relocation = self.tagged(code.field(relocation)?)?;
            self.expect(relocation, self.layout.types.byte_array, "a ByteArray")?;
        }
        Ok(true)
    }
}
