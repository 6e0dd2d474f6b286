//! `ScopeInfo`: the name, the inferred name and the place of a function that
//! has been compiled (`src/objects/scope-info.tq`).

use crate::heap::{Error, Heap, Tagged};

// Bits of the flags. `scope_type` and `receiver_variable` have kept their places
// from V8 7 to 14 (`bitfield struct ScopeFlags`).
const SCOPE_TYPE: u32 = 0xf;
const RECEIVER_VARIABLE: u32 = 3 << 7;
/// How many bits `FunctionKind` has there.
const FUNCTION_KIND_BITS: u32 = 5;
/// `VariableAllocationInfo`: `STACK`, `CONTEXT` (`src/objects/scope-info.tq`).
const ALLOCATED: [u32; 2] = [1 << 7, 2 << 7];

/// More locals than any function has.
const MAX_LOCALS: i32 = 1 << 20;

/// What a `ScopeInfo` tells of its function.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ScopeInfo {
    /// The function's own name, a string.
    pub name: Option<Tagged>,
    /// The name V8 inferred from where the function is assigned, a string.
    pub inferred_name: Option<Tagged>,
    /// Where the function starts, in UTF-16 units from the script's start.
    pub start_position: Option<u32>,
    /// Where it ends, likewise.
    pub end_position: Option<u32>,
    /// Its `FunctionKind`.
    pub function_kind: u32,
}

impl ScopeInfo {
    /// A number that no other function of its script has: of those that start at
    /// one place (a script and an arrow function at its start; a class, whose
    /// constructor was left out) each is of another kind.
    pub fn literal(&self) -> Option<u32> {
        let start = self.start_position?;
        Some(start.wrapping_shl(FUNCTION_KIND_BITS) | self.function_kind)
    }
}

impl Heap<'_> {
    /// The string at `address`; `None` where there is what V8 has there for none.
    fn string_or(
        &self,
        address: u64,
        is_none: impl FnOnce(Tagged) -> bool,
    ) -> Result<Option<Tagged>, Error> {
        let name = self.tagged(address)?;
        if self.is_string(name) {
            Ok(Some(name))
        } else if is_none(name) {
            Ok(None)
        } else {
            Err(Error::Unbelievable("a name that is no string"))
        }
    }

    /// Reads the `ScopeInfo` at `info`.
    ///
    /// # Errors
    /// Where it is none, or cannot be read.
    pub fn scope_info(&self, info: Tagged) -> Result<ScopeInfo, Error> {
        self.expect(info, self.layout.types.scope_info, "a ScopeInfo")?;
        let layout = &self.layout.scope_info;
        if let Some(length) = layout.length
            && self.smi(info.field(length)?)? == 0
        {
            return Ok(ScopeInfo::default());
        }
        // A Smi before V8 13, a uint32 with padding since.
        let word = self.memory.u64(info.field(layout.flags)?)?;
        let flags = match layout.position_info {
            None => (word >> 32) as u32,
            Some(_) => word as u32,
        };
        let locals = self.smi(info.field(layout.context_local_count)?)?;
        if !(0..=MAX_LOCALS).contains(&locals) {
            return Err(Error::Unbelievable("a ScopeInfo with too many locals"));
        }
        let locals = locals as u64;
        let scope_type = flags & SCOPE_TYPE;

        // The slots of the variable part, in order.
        let mut slot = u64::from(layout.first_vars);
        if layout.module_count_first && scope_type == layout.module_scope {
            slot += 8;
        }
        if let Some(names) = &layout.stack_names {
            let parameters = self.smi(info.field(names.parameter_count)?)?;
            let stack_locals = self.smi(info.field(names.stack_local_count)?)?;
            if !(0..=MAX_LOCALS).contains(&parameters) || !(0..=MAX_LOCALS).contains(&stack_locals)
            {
                return Err(Error::Unbelievable("a ScopeInfo with too many names"));
            }
            slot += 8 * (parameters as u64 + 1 + stack_locals as u64);
        }
        slot += 8 * if locals < layout.max_inlined_names {
            locals
        } else {
            1
        };
        slot += 8 * locals;
        if flags & layout.has_saved_class_variable != 0 {
            slot += 8;
        }
        if layout.receiver && ALLOCATED.contains(&(flags & RECEIVER_VARIABLE)) {
            slot += 8;
        }
        let base = info.address()?;
        let mut found = ScopeInfo {
            function_kind: flags >> layout.function_kind_shift & ((1 << FUNCTION_KIND_BITS) - 1),
            ..ScopeInfo::default()
        };
        if flags & layout.function_variable != 0 {
            found.name = self.string_or(base + slot, |name| name.to_smi() == Some(0))?;
            // Behind it is where its variable is in the context, or -1.
            if self.tagged(base + slot + 8)?.to_smi().is_none() {
                return Err(Error::Unbelievable("a name without its variable"));
            }
            slot += 16;
        }
        if flags & layout.has_inferred_function_name != 0 {
            found.inferred_name = self.string_or(base + slot, |name| {
                self.instance_type(name) == Ok(self.layout.types.oddball)
            })?;
            slot += 8;
        }
        let position = match layout.position_info {
            Some(offset) => Some(base + u64::from(offset)),
            None => self
                .has_position_info(scope_type, flags)
                .then_some(base + slot),
        };
        if let Some(position) = position {
            found.start_position = u32::try_from(self.smi(position)?).ok();
            found.end_position = u32::try_from(self.smi(position + 8)?).ok();
        }
        Ok(found)
    }

    fn has_position_info(&self, scope_type: u32, flags: u32) -> bool {
        let layout = &self.layout.scope_info;
        [
            layout.function_scope,
            layout.script_scope,
            layout.eval_scope,
            layout.module_scope,
        ]
        .contains(&scope_type)
            || layout.shadow_realm_scope == Some(scope_type)
            || (layout.class_scope == Some(scope_type) && flags >> layout.is_empty_bit & 1 == 0)
    }
}
