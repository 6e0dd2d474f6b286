//! Oddballs: `undefined`, `null`, `true` and `false`, which know what they are called.
//!
//! They are strings in the target whose text is known: the proof that strings lie in its
//! memory as the layout says.

use crate::heap::{Error, Heap, Tagged};

/// `Oddball::to_string` is the first field, or since V8 5.2 the second, after the number
/// that it is (`src/objects/oddball.tq`; `src/objects.h` before V8 7).
const TO_STRING: [u32; 2] = [8, 16];

/// Words of a `Script` that may point to an oddball: it has some 14 fields, and those
/// that nobody uses are undefined.
const FIELDS: usize = 16;

impl Heap<'_> {
    /// Whether strings lie in memory as the layout says: by the names of the oddballs
    /// that the fields of `script` point to. `None` where there are none.
    ///
    /// # Errors
    /// Where `script` is none, or cannot be read.
    pub fn knows_strings(&self, script: Tagged) -> Result<Option<bool>, Error> {
        self.script_id(script)?;
        let fields = self.memory.words(script.field(8)?, FIELDS)?;
        let is_oddball = |it: &Tagged| self.instance_type(*it) == Ok(self.layout.types.oddball);
        let Some(oddball) = fields.into_iter().map(Tagged).find(is_oddball) else {
            return Ok(None);
        };
        for offset in TO_STRING {
            let name = self.tagged(oddball.field(offset)?)?;
            if self.is_string(name) {
                let known = ["undefined", "null", "true", "false"];
                return Ok(Some(known.contains(&self.name(name)?.as_str())));
            }
        }
        Ok(None)
    }
}
