//! The layout of a build, from its metadata and what the metadata leaves out.

mod code;
mod crankshaft;
mod early;
mod objects;
mod transition;
mod untold;
mod wasm;

use crate::layout::{FrameLayout, InterpreterRegisters, Layout, UnknownLayout};
use crate::metadata::Metadata;
use crate::source_position::{PositionFormat, TableFormat};
use crate::version::Version;

/// The versions that the rules here were read for, and tried on: those of the
/// releases of Node.js from 12 on. What is between them has layouts of its own.
const KNOWN: [Version; 29] = [
    Version::new(7, 0),
    Version::new(7, 4),
    Version::new(7, 5),
    Version::new(7, 6),
    Version::new(7, 7),
    Version::new(7, 8),
    Version::new(7, 9),
    Version::new(8, 1),
    Version::new(8, 3),
    Version::new(8, 4),
    Version::new(8, 6),
    Version::new(9, 0),
    Version::new(9, 1),
    Version::new(9, 2),
    Version::new(9, 3),
    Version::new(9, 4),
    Version::new(9, 5),
    Version::new(9, 6),
    Version::new(10, 1),
    Version::new(10, 2),
    Version::new(10, 7),
    Version::new(10, 8),
    Version::new(11, 3),
    Version::new(11, 8),
    Version::new(12, 4),
    Version::new(12, 9),
    Version::new(13, 6),
    Version::new(14, 1),
    Version::new(14, 6),
];

/// Since then objects that the sandbox trusts are apart: `BytecodeArray` is
/// re-ordered, arrays of code are trusted ones (`src/objects/bytecode-array.tq`,
/// `src/objects/code.h`).
const TRUSTED_OBJECTS: Version = Version::new(12, 3);
/// Since then `Code` and its instructions are two objects.
const SPLIT_CODE: Version = Version::new(11, 2);
/// Since then the kinds of code are in the order of the tiers
/// (`src/objects/code-kind.h`).
const OPTIMIZED_LAST: Version = Version::new(8, 9);

impl Layout {
    /// Whether the layout of `version` is known though some of its builds have no
    /// metadata; of these, live objects tell whether it is true
    /// ([`check_objects`](Self::check_objects)).
    pub fn needs_no_metadata(version: Version) -> bool {
        untold::metadata(version).is_some()
    }

    /// Works out the layout of the build that says `metadata` of itself.
    ///
    /// # Errors
    /// Where no rules are known for `version`, or the metadata lacks what
    /// every known version has.
    pub fn new(version: Version, metadata: &Metadata) -> Result<Layout, UnknownLayout> {
        if metadata.is_empty()
            && let Some(metadata) = untold::metadata(version)
        {
            let mut layout = Layout::new(version, &metadata)?;
            layout.frame.entry_caller = Some(untold::ENTRY_CALLER);
            return Ok(layout);
        }
        let ask = Ask { version, metadata };
        if crankshaft::KNOWN.contains(&version) {
            return crankshaft::layout(&ask);
        }
        if transition::KNOWN == version {
            return transition::layout(&ask);
        }
        if early::KNOWN.contains(&version) {
            return early::layout(&ask);
        }
        if !KNOWN.contains(&version) {
            return Err(UnknownLayout::Version(version));
        }
        Ok(Layout {
            version,
            types: objects::instance_types(&ask)?,
            strings: objects::string_tags(&ask)?,
            map_instance_type: ask.offset("Map", "instance_type")?,
            instance_type_mask: u16::MAX,
            function_shared: ask.offset("JSFunction", "shared")?,
            shared: objects::shared(&ask)?,
            scope_info: objects::scope_info(&ask)?,
            script: objects::script(&ask)?,
            debug_info_script: objects::debug_info_script(&ask),
            bytecode: code::bytecode(&ask)?,
            code: code::code(&ask)?,
            frame: frame(&ask)?,
            position_format: position_format(version),
            interpreter: interpreter(&ask),
            wasm: wasm::wasm(&ask),
        })
    }
}

fn frame(ask: &Ask<'_>) -> Result<FrameLayout, UnknownLayout> {
    let function = ask.value("off_fp_function")?;
    // The metadata tells these since 10; the number of arguments precedes
    // them since 8.9 (`InterpreterFrameConstants` in
    // src/execution/frame-constants.h).
    let above = match ask.version >= Version::new(8, 9) {
        true => function - 8,
        false => function,
    };
    let told = |name| ask.metadata.get(name);
    Ok(FrameLayout {
        context: ask.value("off_fp_context")?,
        function,
        bytecode_array: told("off_fp_bytecode_array").unwrap_or(above - 8),
        bytecode_offset: told("off_fp_bytecode_offset").unwrap_or(above - 16),
        entry_caller: None,
    })
}

/// `src/codegen/source-position-table.cc` and `source-position.h`, before 7.1
/// in `src`.
fn position_format(version: Version) -> PositionFormat {
    PositionFormat {
        // `DecodeEntry`: 13.6 has the one, 14.6 the other.
        table: if version >= Version::new(14, 0) {
            TableFormat::Flags
        } else {
            TableFormat::Signed
        },
        // `PositionTableEntry`: since 8.2 a function's entry has an offset of
        // its own, before the first bytecode's.
        start: if version >= Version::new(8, 2) { -1 } else { 0 },
        // `SourcePosition::IsExternalField`: not yet in 7.0.
        external_bit: version >= Version::new(7, 4),
    }
}

fn interpreter(ask: &Ask<'_>) -> InterpreterRegisters {
    // The metadata tells these since 9. Before, the array was in r14; 6.2 had
    // the offset in r12, 6.7 in r9.
    InterpreterRegisters {
        bytecode_array: ask
            .unsigned("InterpreterBytecodeArrayRegister")
            .unwrap_or(14),
        bytecode_offset: ask.unsigned("InterpreterBytecodeOffsetRegister").unwrap_or(
            if ask.version >= Version::new(6, 7) {
                9
            } else {
                12
            },
        ),
    }
}

/// Asks the metadata, and says what is missing.
struct Ask<'a> {
    version: Version,
    metadata: &'a Metadata,
}

impl Ask<'_> {
    fn missing(&self, what: String) -> UnknownLayout {
        UnknownLayout::Missing {
            version: self.version,
            what,
        }
    }

    fn value(&self, name: &str) -> Result<i32, UnknownLayout> {
        self.metadata
            .get(name)
            .ok_or_else(|| self.missing(name.to_owned()))
    }

    fn unsigned<T: TryFrom<i32>>(&self, name: &str) -> Result<T, UnknownLayout> {
        T::try_from(self.value(name)?).map_err(|_| self.missing(name.to_owned()))
    }

    fn offset(&self, class: &str, field: &str) -> Result<u32, UnknownLayout> {
        self.metadata
            .offset(class, field)
            .ok_or_else(|| self.missing(format!("{class}.{field}")))
    }

    fn instance_type(&self, class: &str) -> Result<u16, UnknownLayout> {
        self.metadata
            .instance_type(class)
            .ok_or_else(|| self.missing(format!("the type of {class}")))
    }
}
