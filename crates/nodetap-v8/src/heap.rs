//! Tagged values and heap objects: the checked ground everything else stands on.

use crate::layout::Layout;
use crate::memory::{Memory, Unreadable};

/// A tagged value: a Smi or a pointer to a heap object.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Tagged(pub u64);

impl Tagged {
    /// Whether it has the tag of a strong pointer to a heap object
    /// (`v8dbg_HeapObjectTag`, `…TagMask`).
    pub fn is_heap_object(self) -> bool {
        self.0 & 3 == 1
    }

    /// The integer, if it is a Smi. Without pointer compression a Smi has 32
    /// bits, in the upper half of the word (`v8dbg_SmiShiftSize` 31).
    pub fn to_smi(self) -> Option<i32> {
        (self.0 & 0xffff_ffff == 0).then_some((self.0 >> 32) as i32)
    }

    /// The address of the field at `offset`.
    ///
    /// # Errors
    /// Where this is no pointer to a heap object.
    pub fn field(self, offset: u32) -> Result<u64, Error> {
        if !self.is_heap_object() {
            return Err(Error::NotAnObject(self.0));
        }
        Ok((self.0 - 1).wrapping_add(u64::from(offset)))
    }

    /// The object's untagged address.
    pub fn address(self) -> Result<u64, Error> {
        self.field(0)
    }
}

/// Why something in the target's heap was not believed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// It is not mapped, or the process is gone.
    #[error(transparent)]
    Unreadable(#[from] Unreadable),
    /// A word that should point to a heap object does not.
    #[error("{0:#x} is no pointer to a heap object")]
    NotAnObject(u64),
    /// A word that should be a Smi is none.
    #[error("{0:#x} is no Smi")]
    NotASmi(u64),
    /// The object is of another type.
    #[error("instance type {found} where {expected} should be")]
    Type {
        /// What should be there.
        expected: &'static str,
        /// The instance type found.
        found: u16,
    },
    /// A value that no object of V8's has.
    #[error("{0}")]
    Unbelievable(&'static str),
}

/// A V8 heap, read through a [`Memory`] by a [`Layout`].
#[derive(Clone, Copy)]
pub struct Heap<'a> {
    /// The address space.
    pub memory: &'a dyn Memory,
    /// Where things are in it.
    pub layout: &'a Layout,
}

impl<'a> Heap<'a> {
    /// Looks at `memory` by `layout`.
    pub fn new(memory: &'a dyn Memory, layout: &'a Layout) -> Heap<'a> {
        Heap { memory, layout }
    }

    /// The tagged word at `address`.
    pub fn tagged(&self, address: u64) -> Result<Tagged, Error> {
        Ok(Tagged(self.memory.u64(address)?))
    }

    /// The Smi at `address`.
    pub fn smi(&self, address: u64) -> Result<i32, Error> {
        let word = self.tagged(address)?;
        word.to_smi().ok_or(Error::NotASmi(word.0))
    }

    /// Where the garbage collector has moved `object` to: it leaves the new
    /// address, without a tag, in place of the map (`MapWord` in
    /// `src/objects/objects.h`). `None` where there is a map, or nothing.
    pub fn forwarded(&self, object: Tagged) -> Option<Tagged> {
        let word = self.memory.u64(object.address().ok()?).ok()?;
        (word != 0 && word & 7 == 0).then_some(Tagged(word + 1))
    }

    /// The instance type of a heap object.
    pub fn instance_type(&self, object: Tagged) -> Result<u16, Error> {
        let map = self.tagged(object.address()?)?;
        let word = self.memory.u16(map.field(self.layout.map_instance_type)?)?;
        Ok(word & self.layout.instance_type_mask)
    }

    /// Whether `object` is a map: all have the same map, which has itself.
    pub fn is_map(&self, object: Tagged) -> bool {
        let map_of = |object: Tagged| self.tagged(object.address()?);
        map_of(object).is_ok_and(|meta| meta.is_heap_object() && map_of(meta) == Ok(meta))
    }

    /// Checks that `object` is of instance type `wanted`.
    pub fn expect(&self, object: Tagged, wanted: u16, expected: &'static str) -> Result<(), Error> {
        let found = self.instance_type(object)?;
        if found == wanted {
            Ok(())
        } else {
            Err(Error::Type { expected, found })
        }
    }
}
