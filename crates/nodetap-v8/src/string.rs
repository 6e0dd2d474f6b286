//! Strings, of every representation.

use crate::heap::{Error, Heap, Tagged};

/// Names and paths longer than this are cut: nobody reads them, and a
/// hostile program must not fill our memory.
const MAX_NAME: usize = 64 << 10;

/// How deep the tree of a cons string may be followed.
const MAX_PIECES: usize = 1 << 16;

impl Heap<'_> {
    /// The text of a string that names something, at most 64 Ki characters;
    /// a lone surrogate reads as U+FFFD.
    ///
    /// # Errors
    /// Where `string` is not a string, or cannot be read.
    pub fn name(&self, string: Tagged) -> Result<String, Error> {
        let units = self.units(string, MAX_NAME)?;
        Ok(String::from_utf16_lossy(&units))
    }

    /// The length of a string in UTF-16 units.
    pub fn string_length(&self, string: Tagged) -> Result<usize, Error> {
        self.string_type(string)?;
        let length = self.memory.u32(string.field(self.layout.strings.length)?)?;
        Ok(length as usize)
    }

    /// The UTF-16 units of a string, at most the first `limit`.
    ///
    /// # Errors
    /// Where `string` is not a string, or cannot be read.
    pub fn units(&self, string: Tagged, limit: usize) -> Result<Vec<u16>, Error> {
        let length = self.string_length(string)?.min(limit);
        self.units_from(string, 0, length)
    }

    /// The `length` UTF-16 units of a string from unit `from` on.
    ///
    /// # Errors
    /// Where `string` is not a string, is shorter, or cannot be read.
    pub fn units_from(
        &self,
        string: Tagged,
        from: usize,
        length: usize,
    ) -> Result<Vec<u16>, Error> {
        let mut units = Vec::new();
        // What is still to be read, the next one last: (string, from, length).
        let mut pending = vec![(string, from, length)];
        let mut pieces = 0;
        while let Some((string, from, length)) = pending.pop() {
            if length == 0 {
                continue;
            }
            pieces += 1;
            if pieces > MAX_PIECES {
                return Err(Error::Unbelievable("a string of too many pieces"));
            }
            self.piece(string, from, length, &mut units, &mut pending)?;
        }
        Ok(units)
    }

    /// Reads `length` units of `string` from unit `from` on into `units`, or
    /// pushes the strings that it is made of on `pending`.
    fn piece(
        &self,
        string: Tagged,
        from: usize,
        length: usize,
        units: &mut Vec<u16>,
        pending: &mut Vec<(Tagged, usize, usize)>,
    ) -> Result<(), Error> {
        let tags = &self.layout.strings;
        let kind = self.string_type(string)?;
        let own_length = self.memory.u32(string.field(tags.length)?)? as usize;
        if from.checked_add(length).is_none_or(|end| end > own_length) {
            return Err(Error::Unbelievable("a string shorter than its use"));
        }
        let one_byte = kind & tags.encoding_mask == tags.one_byte;
        let representation = kind & tags.representation_mask;
        if representation == 0 {
            let chars = string.field(tags.chars)?;
            return self.characters(chars, one_byte, from, length, units);
        }
        if representation == tags.external {
            if kind & tags.uncached_external != 0 {
                return Err(Error::Unbelievable("an external string without data"));
            }
            let chars = self.memory.u64(string.field(tags.resource_data)?)?;
            let before = units.len();
            self.characters(chars, one_byte, from, length, units)?;
            // Nothing but this pointer says that there are characters. Such strings are
            // sources and other text; what is not has zeros.
            if units[before..].contains(&0) {
                return Err(Error::Unbelievable("an external string with zeros"));
            }
            return Ok(());
        }
        let first = self.tagged(string.field(tags.chars)?)?;
        if representation == tags.thin {
            pending.push((first, from, length));
        } else if representation == tags.sliced {
            let offset = self.smi(string.field(tags.sliced_offset)?)?;
            let offset = usize::try_from(offset)
                .map_err(|_| Error::Unbelievable("a slice with a negative offset"))?;
            pending.push((first, from + offset, length));
        } else if representation == tags.cons {
            let second = self.tagged(string.field(tags.second)?)?;
            let first_length = self.string_length(first)?;
            let of_first = first_length.saturating_sub(from).min(length);
            let of_second = length - of_first;
            let from_second = from.saturating_sub(first_length);
            pending.push((second, from_second, of_second));
            pending.push((first, from, of_first));
        } else {
            return Err(Error::Unbelievable("a string of unknown representation"));
        }
        Ok(())
    }

    fn characters(
        &self,
        address: u64,
        one_byte: bool,
        from: usize,
        length: usize,
        units: &mut Vec<u16>,
    ) -> Result<(), Error> {
        let width = if one_byte { 1 } else { 2 };
        let start = address.wrapping_add((from * width) as u64);
        let bytes = self.memory.bytes(start, length * width)?;
        if one_byte {
            units.extend(bytes.iter().map(|&byte| u16::from(byte)));
        } else {
            units.extend(
                bytes
                    .chunks_exact(2)
                    .map(|unit| u16::from_le_bytes([unit[0], unit[1]])),
            );
        }
        Ok(())
    }

    fn string_type(&self, string: Tagged) -> Result<u16, Error> {
        let kind = self.instance_type(string)?;
        if kind >= self.layout.types.first_nonstring {
            return Err(Error::Type {
                expected: "a string",
                found: kind,
            });
        }
        Ok(kind)
    }

    /// Whether `object` is a string.
    pub fn is_string(&self, object: Tagged) -> bool {
        object.is_heap_object() && self.string_type(object).is_ok()
    }
}
