//! What the bytes of a module say of its functions: their names, and where
//! their bodies are.

use std::ops::ControlFlow;
use std::sync::Arc;

use rustc_hash::FxHashMap;
use wasmparser::{ExternalKind, KnownCustom, Name, Parser, Payload, TypeRef};

/// The functions of a module by their index.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct ModuleFunctions {
    names: FxHashMap<u32, Arc<str>>,
    /// How many functions are imported; these come first.
    imported: u32,
    /// Where the bodies of the others begin, in bytes from the module's start.
    bodies: Vec<u32>,
}

impl ModuleFunctions {
    /// Reads a module as far as it makes sense: V8 has compiled it, but may
    /// know more of the format than is known here.
    pub fn read(module: &[u8], exports_are_names: bool) -> ModuleFunctions {
        let mut functions = ModuleFunctions::default();
        let mut exports = Vec::new();
        let mut parser = Parser::new(0).parse_all(module);
        let stopped = parser.try_for_each(|payload| match payload {
            Ok(payload) => functions.add(payload, &mut exports),
            Err(_) => ControlFlow::Break(()),
        });
        if stopped.is_break() {
            tracing::debug!("a module that is not read to its end");
        }
        if exports_are_names {
            for (index, name) in exports {
                functions.names.entry(index).or_insert(name);
            }
        }
        functions
    }

    fn add(&mut self, payload: Payload<'_>, exports: &mut Vec<(u32, Arc<str>)>) -> ControlFlow<()> {
        match payload {
            Payload::ImportSection(imports) => {
                for import in imports.into_imports() {
                    // Without their number the others' indices are not known.
                    let Ok(import) = import else {
                        return ControlFlow::Break(());
                    };
                    if let TypeRef::Func(_) | TypeRef::FuncExact(_) = import.ty {
                        self.imported += 1;
                    }
                }
            }
            Payload::ExportSection(section) => {
                for export in section.into_iter().map_while(Result::ok) {
                    if let ExternalKind::Func | ExternalKind::FuncExact = export.kind {
                        exports.push((export.index, export.name.into()));
                    }
                }
            }
            Payload::CodeSectionEntry(body) => {
                let Ok(start) = u32::try_from(body.range().start) else {
                    return ControlFlow::Break(());
                };
                self.bodies.push(start);
            }
            Payload::CustomSection(section) => {
                if let KnownCustom::Name(section) = section.as_known() {
                    self.add_names(section);
                }
            }
            _ => {}
        }
        ControlFlow::Continue(())
    }

    fn add_names(&mut self, section: wasmparser::NameSectionReader<'_>) {
        for subsection in section.into_iter().map_while(Result::ok) {
            let Name::Function(names) = subsection else {
                continue;
            };
            for naming in names.into_iter().map_while(Result::ok) {
                if !naming.name.is_empty() {
                    self.names.insert(naming.index, naming.name.into());
                }
            }
        }
    }

    /// What V8's CPU profiler calls the function at `index`
    /// (`WasmCode::DebugName` in `src/wasm/wasm-code-manager.cc`).
    pub fn name(&self, index: u32) -> Arc<str> {
        match self.names.get(&index) {
            Some(name) => name.clone(),
            None => format!("wasm-function[{index}]").into(),
        }
    }

    /// Where the body of the function at `index` begins.
    pub fn body(&self, index: u32) -> Option<u32> {
        let defined = index.checked_sub(self.imported)?;
        self.bodies.get(defined as usize).copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A section with its id and size before it.
    fn section(id: u8, content: &[u8]) -> Vec<u8> {
        let size = u8::try_from(content.len()).expect("a short section");
        [&[id, size], content].concat()
    }

    /// A module that imports a function, defines two, names the one and
    /// exports the other.
    fn module() -> Vec<u8> {
        [
            b"\0asm\x01\0\0\0".to_vec(),
            section(1, &[1, 0x60, 0, 0]),
            section(2, b"\x01\x01m\x01f\0\0"),
            section(3, &[2, 0, 0]),
            section(7, b"\x01\x03out\0\x02"),
            section(10, &[2, 2, 0, 0x0b, 3, 0, 1, 0x0b]),
            section(0, b"\x04name\x01\x07\x02\x01\x02in\x02\0"),
        ]
        .concat()
    }

    #[test]
    fn functions_have_the_names_and_places_that_the_module_says() {
        let bytes = module();
        let functions = ModuleFunctions::read(&bytes, false);
        assert_eq!(&*functions.name(1), "in");
        assert_eq!(&*functions.name(2), "wasm-function[2]");
        assert_eq!(&*functions.name(9), "wasm-function[9]");
        assert_eq!(functions.body(0), None);
        let bodies = [1, 2].map(|index| functions.body(index).expect("a body") as usize);
        assert_eq!(bytes[bodies[0]..][..2], [0, 0x0b]);
        assert_eq!(bytes[bodies[1]..][..3], [0, 1, 0x0b]);
        assert_eq!(functions.body(3), None);
        assert_eq!(&*ModuleFunctions::read(&bytes, true).name(2), "out");
    }

    #[test]
    fn a_module_that_is_cut_off_or_torn_is_read_as_far_as_it_goes() {
        let bytes = module();
        for length in 0..bytes.len() {
            let functions = ModuleFunctions::read(&bytes[..length], true);
            let name = functions.name(1);
            assert!(["in", "wasm-function[1]"].contains(&&*name), "{name}");
        }
        for at in 8..bytes.len() {
            for value in [0, 0x7f, 0x80, 0xff] {
                let mut torn = bytes.clone();
                torn[at] = value;
                ModuleFunctions::read(&torn, true);
            }
        }
    }
}
