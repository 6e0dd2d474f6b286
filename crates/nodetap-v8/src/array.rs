//! Arrays of tagged words and of bytes, trusted ones included.

use crate::heap::{Error, Heap, Tagged};

/// Bytes of the largest array that is read. Line ends, source positions and
/// deoptimization data of real programs stay far below.
const MAX_BYTES: i32 = 64 << 20;

// `src/objects/fixed-array.h`: after the map an array has its length, a Smi,
// then its elements; the same for ordinary, trusted and protected ones.
const LENGTH: u32 = 8;
const ELEMENTS: u32 = 16;

/// `kWeakHeapObjectTag` in `include/v8-internal.h`.
const WEAK_TAG: u64 = 3;

impl Heap<'_> {
    /// The elements of a `FixedArray`.
    ///
    /// # Errors
    /// Where `array` is none, is too large or cannot be read.
    pub fn fixed_array(&self, array: Tagged) -> Result<Vec<Tagged>, Error> {
        self.expect(array, self.layout.types.fixed_array, "a FixedArray")?;
        self.elements(array)
    }

    /// The elements of an array of tagged words whose own type the metadata
    /// does not always tell (`ProtectedFixedArray`, `WeakFixedArray`): the
    /// caller checks what is in it. Weak references are made strong.
    ///
    /// # Errors
    /// Where it is too large for an array, or cannot be read.
    pub fn elements(&self, array: Tagged) -> Result<Vec<Tagged>, Error> {
        let length = self.array_length(array, 8)?;
        let words = self.memory.words(array.field(ELEMENTS)?, length)?;
        Ok(words.into_iter().map(strong).collect())
    }

    /// One element of such an array.
    ///
    /// # Errors
    /// Where the array has no such element, or it cannot be read.
    pub fn element(&self, array: Tagged, index: u32) -> Result<Tagged, Error> {
        let length = self.array_length(array, 8)?;
        if index as usize >= length {
            return Err(Error::Unbelievable("an element that there is not"));
        }
        let first = array.field(ELEMENTS)?;
        let element = self.tagged(first.wrapping_add(8 * u64::from(index)))?;
        Ok(strong(element.0))
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

    /// The bytes of a source position table, wherever `table` keeps them.
    ///
    /// # Errors
    /// Where `table` is none, is too large or cannot be read.
    pub fn position_table(&self, table: Tagged) -> Result<Vec<u8>, Error> {
        let holder = self.layout.types.position_table_holder;
        if holder.is_some() && holder == self.instance_type(table).ok() {
            // `SourcePositionTableWithFrameCache`
            return self.byte_array(self.tagged(table.field(8)?)?);
        }
        self.byte_array(table)
    }

    fn array_length(&self, array: Tagged, element_size: i32) -> Result<usize, Error> {
        let length = self.smi(array.field(LENGTH)?)?;
        if !(0..=MAX_BYTES / element_size).contains(&length) {
            return Err(Error::Unbelievable("an array of impossible length"));
        }
        Ok(length as usize)
    }
}

/// The word as a strong reference if it is a weak one.
fn strong(word: u64) -> Tagged {
    Tagged(if word & 3 == WEAK_TAG {
        word & !2
    } else {
        word
    })
}
