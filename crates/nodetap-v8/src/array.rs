//! Arrays of tagged words and of bytes, trusted ones included.

use crate::heap::{Error, Heap, Tagged};

/// Bytes of the largest array that is read. Line ends, source positions and
/// deoptimization data of real programs stay far below.
const MAX_BYTES: i32 = 64 << 20;

// `src/objects/fixed-array.h`: after the map an array has its length, a Smi,
// then its elements; the same for ordinary, trusted and protected ones.
const LENGTH: u32 = 8;
const ELEMENTS: u32 = 16;

impl Heap<'_> {
    /// The elements of a `FixedArray` or `TrustedFixedArray` (which
    /// `DeoptimizationData` is).
    ///
    /// # Errors
    /// Where `array` is none, is too large or cannot be read.
    pub fn fixed_array(&self, array: Tagged) -> Result<Vec<Tagged>, Error> {
        let types = &self.layout.types;
        let found = self.instance_type(array)?;
        let known = [
            Some(types.fixed_array),
            types.trusted_fixed_array,
            types.protected_fixed_array,
        ];
        if !known.contains(&Some(found)) {
            return Err(Error::Type {
                expected: "a FixedArray",
                found,
            });
        }
        let length = self.array_length(array, 8)?;
        let words = self.memory.words(array.field(ELEMENTS)?, length)?;
        Ok(words.into_iter().map(Tagged).collect())
    }

    /// The bytes of a `ByteArray` or `TrustedByteArray`.
    ///
    /// # Errors
    /// Where `array` is none, is too large or cannot be read.
    pub fn byte_array(&self, array: Tagged) -> Result<Vec<u8>, Error> {
        let types = &self.layout.types;
        let found = self.instance_type(array)?;
        if found != types.byte_array && Some(found) != types.trusted_byte_array {
            return Err(Error::Type {
                expected: "a ByteArray",
                found,
            });
        }
        let length = self.array_length(array, 1)?;
        Ok(self.memory.bytes(array.field(ELEMENTS)?, length)?)
    }

    fn array_length(&self, array: Tagged, element_size: i32) -> Result<usize, Error> {
        let length = self.smi(array.field(LENGTH)?)?;
        if !(0..=MAX_BYTES / element_size).contains(&length) {
            return Err(Error::Unbelievable("an array of impossible length"));
        }
        Ok(length as usize)
    }
}
