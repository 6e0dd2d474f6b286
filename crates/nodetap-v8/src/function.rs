//! `JSFunction` and `SharedFunctionInfo`: which function it is, what it is
//! called, where it starts.

use crate::heap::{Error, Heap, Tagged};
use crate::layout::OwnNames;

/// What identifies a function for as long as the process lives: the script it
/// is in and the number of its literal there. Its address is none: the garbage
/// collector moves and reuses memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct FunctionId {
    /// `Script.id`, counted up from 1 in each isolate.
    pub script: i32,
    /// `SharedFunctionInfo.function_literal_id`, unique in its script; before
    /// Ignition `.start_position_and_type`; in V8 7.0 to 7.6, which has neither,
    /// the start and the kind that its `ScopeInfo` tells.
    pub literal: i32,
}

/// What a function has in place of a name and a scope that tells it
/// (`SharedFunctionInfo::kNoSharedNameSentinel`).
const NO_SHARED_NAME: Tagged = Tagged(0);

/// What a `SharedFunctionInfo` tells.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Function {
    /// Its name as V8's CPU profiler gives it (`SharedFunctionInfo::DebugName`):
    /// its own, else the inferred one; empty where there is none.
    pub name: String,
    /// Its script; `None` for V8's builtins and for API functions.
    pub script: Option<Tagged>,
    /// Where it starts in the script's source, in UTF-16 units: at its
    /// parameter list, as in V8's CPU profiles.
    pub start_position: Option<u32>,
    /// Where it ends there: no position in it is behind.
    pub end_position: Option<u32>,
}

/// What `UncompiledData` tells: inferred name, start and end.
type Uncompiled = (Option<Tagged>, (u32, u32));

impl Heap<'_> {
    /// The `SharedFunctionInfo` of a `JSFunction`.
    ///
    /// # Errors
    /// Where `function` is none.
    pub fn shared_of(&self, function: Tagged) -> Result<Tagged, Error> {
        let types = &self.layout.types;
        let found = self.instance_type(function)?;
        if !(types.js_function_first..=types.js_function_last).contains(&found) {
            return Err(Error::Type {
                expected: "a JSFunction",
                found,
            });
        }
        let shared = self.tagged(function.field(self.layout.function_shared)?)?;
        self.expect_shared(shared)?;
        Ok(shared)
    }

    fn expect_shared(&self, shared: Tagged) -> Result<(), Error> {
        self.expect(
            shared,
            self.layout.types.shared_function_info,
            "a SharedFunctionInfo",
        )
    }

    /// What identifies the function of `shared`; `None` for builtins and API
    /// functions, which have no script.
    ///
    /// # Errors
    /// Where `shared` is no `SharedFunctionInfo`.
    pub fn function_id(&self, shared: Tagged) -> Result<Option<FunctionId>, Error> {
        self.expect_shared(shared)?;
        let Some(script) = self.script_of(shared)? else {
            return Ok(None);
        };
        let literal = match self.layout.shared.function_literal_id {
            Some(offset) => self.memory.u32(shared.field(offset)?)?,
            None => {
                let info = self.tagged(shared.field(self.layout.shared.name_or_scope_info)?)?;
                let literal = self.scope_info(info)?.literal();
                literal.ok_or(Error::Unbelievable("a function without a place"))?
            }
        };
        Ok(Some(FunctionId {
            script: self.script_id(script)?,
            literal: literal as i32,
        }))
    }

    /// The number of the builtin (`src/builtins/builtins-definitions.h`) that
    /// the function of `shared` is; `None` where it is none.
    ///
    /// # Errors
    /// Where `shared` is no `SharedFunctionInfo`.
    pub fn builtin_id(&self, shared: Tagged) -> Result<Option<u32>, Error> {
        self.expect_shared(shared)?;
        let id = self.tagged(shared.field(self.layout.shared.builtin_id)?)?;
        Ok(id.to_smi().and_then(|id| u32::try_from(id).ok()))
    }

    /// The script of `shared`; `None` where it is undefined.
    ///
    /// # Errors
    /// Where it cannot be read.
    pub fn script_of(&self, shared: Tagged) -> Result<Option<Tagged>, Error> {
        let types = &self.layout.types;
        let mut script = self.tagged(shared.field(self.layout.shared.script)?)?;
        let mut found = self.instance_type(script)?;
        // Before V8 12 a DebugInfo stands there while a debugger has a break
        // point in the function, or counts how often its parts run.
        if found == types.debug_info
            && let Some(of_debug_info) = self.layout.debug_info_script
        {
            script = self.tagged(script.field(of_debug_info)?)?;
            found = self.instance_type(script)?;
        }
        if found == types.script {
            Ok(Some(script))
        } else if found == types.oddball {
            Ok(None)
        } else {
            Err(Error::Type {
                expected: "a Script",
                found,
            })
        }
    }

    /// Reads the `SharedFunctionInfo` at `shared`.
    ///
    /// # Errors
    /// Where it is none, or cannot be read.
    pub fn function(&self, shared: Tagged) -> Result<Function, Error> {
        self.expect_shared(shared)?;
        let script = self.script_of(shared)?;
        if let Some(names) = &self.layout.shared.own_names {
            return self.function_with_names(shared, script, names);
        }
        let name_or_info = self.tagged(shared.field(self.layout.shared.name_or_scope_info)?)?;
        let mut name = None;
        let mut inferred_name = None;
        let mut positions = None;
        if self.is_string(name_or_info) {
            name = Some(name_or_info);
        } else if name_or_info.is_heap_object() {
            let info = self.scope_info(name_or_info)?;
            name = info.name;
            inferred_name = info.inferred_name;
            positions = info.start_position.zip(info.end_position);
        } else if name_or_info != NO_SHARED_NAME {
            return Err(Error::Unbelievable(
                "a function with neither name nor scope",
            ));
        }
        // A function that isn't compiled, or whose bytecode was flushed, keeps
        // these in its UncompiledData (`SharedFunctionInfo::StartPosition`,
        // `::inferred_name` in src/objects/shared-function-info.cc).
        if (positions.is_none() || inferred_name.is_none())
            && let Some((inferred, of_data)) = self.uncompiled_data(shared)?
        {
            inferred_name = inferred_name.or(inferred);
            positions = positions.or(Some(of_data));
        }
        if script.is_some() && positions.is_none() {
            return Err(Error::Unbelievable("a script's function without a place"));
        }
        let mut text = match name {
            Some(name) => self.name(name)?,
            None => String::new(),
        };
        if text.is_empty()
            && let Some(inferred) = inferred_name
        {
            text = self.name(inferred)?;
        }
        Ok(Function {
            name: text,
            script,
            start_position: positions.map(|(start, _)| start),
            end_position: positions.map(|(_, end)| end),
        })
    }

    /// Before V8 7 (`SharedFunctionInfo::DebugName` and `start_position` in
    /// `src/objects-inl.h`).
    fn function_with_names(
        &self,
        shared: Tagged,
        script: Option<Tagged>,
        names: &OwnNames,
    ) -> Result<Function, Error> {
        let text = |offset: u32| -> Result<String, Error> {
            let name = self.tagged(shared.field(offset)?)?;
            if self.is_string(name) {
                return self.name(name);
            }
            if name.is_heap_object() && self.instance_type(name)? == self.layout.types.scope_info {
                let name = self.scope_info(name)?.name;
                return name.map_or(Ok(String::new()), |name| self.name(name));
            }
            Ok(String::new())
        };
        let mut name = text(self.layout.shared.name_or_scope_info)?;
        if name.is_empty() {
            name = text(names.inferred_name)?;
        }
        let start = self
            .memory
            .u32(shared.field(names.start_position_and_type)?)?;
        let end = self.memory.u32(shared.field(names.end_position)?)?;
        Ok(Function {
            name,
            script,
            start_position: Some(start >> 2),
            end_position: Some(end >> names.end_position_shift),
        })
    }

    /// The inferred name of a function without bytecode, and where it starts and
    /// ends.
    fn uncompiled_data(&self, shared: Tagged) -> Result<Option<Uncompiled>, Error> {
        let layout = &self.layout.shared;
        let types = &self.layout.types;
        let data = self.tagged(shared.field(layout.function_data)?)?;
        if !data.is_heap_object() {
            return Ok(None);
        }
        let found = self.instance_type(data)?;
        if !(types.uncompiled_data_first..=types.uncompiled_data_last).contains(&found) {
            return Ok(None);
        }
        let inferred = self.tagged(data.field(layout.uncompiled_inferred_name)?)?;
        // `start_position`, `end_position` (src/objects/shared-function-info.tq)
        let positions = data.field(layout.uncompiled_start_position)?;
        let positions = (
            self.memory.u32(positions)?,
            self.memory.u32(positions.wrapping_add(4))?,
        );
        Ok(Some((
            self.is_string(inferred).then_some(inferred),
            positions,
        )))
    }
}
