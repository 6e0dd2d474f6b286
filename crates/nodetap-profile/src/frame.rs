//! One frame of a stack: what ran, where, and how.

use std::num::NonZeroU32;
use std::sync::Arc;

use serde::{Deserialize, Serialize, Serializer};

use crate::Package;

/// What sort of code a frame runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// A JavaScript function.
    Js,
    /// A function that V8 itself brings along, such as `Array.prototype.map`.
    Builtin,
    /// WebAssembly.
    Wasm,
    /// C or C++: Node.js, V8, a shared library, an addon.
    Native,
    /// The operating system's kernel.
    Kernel,
    /// No function at all but a statement of what went on: `(garbage collector)`.
    Pseudo,
}

/// Which of V8's execution tiers ran a JavaScript frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Tier {
    /// Bytecode, run by Ignition.
    Interpreted,
    /// Sparkplug's code.
    Baseline,
    /// Maglev's code.
    Maglev,
    /// TurboFan's code (Crankshaft's, in old versions).
    Optimized,
    /// Full-codegen's code, in V8 before 5.9.
    Unoptimized,
}

/// A place in a script. Lines and columns count from 1; what is not known is absent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Position {
    /// The line, the first one being 1.
    pub line: NonZeroU32,
    /// The column, the first one being 1.
    pub column: Option<NonZeroU32>,
}

impl Position {
    /// The position at a line and, where it is known, a column, both counted from 1.
    ///
    /// `None` where `line` is 0, which is no line; a `column` of 0 counts as unknown.
    pub fn new(line: u32, column: u32) -> Option<Self> {
        Some(Self {
            line: NonZeroU32::new(line)?,
            column: NonZeroU32::new(column),
        })
    }
}

/// One frame of a stack. Two frames are equal if all they say is.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Frame {
    /// What sort of code this is.
    pub kind: Kind,
    /// The function's name, exactly as it was found: it may hold any character.
    pub function: Arc<str>,
    /// The script's path or URL; for native and kernel code the module's path or name.
    pub file: Option<Arc<str>>,
    /// Where in `file` it was executing.
    pub position: Option<Position>,
    /// Where in `file` the function starts.
    pub function_position: Option<Position>,
    /// The tier that ran it; JavaScript only.
    pub tier: Option<Tier>,
    /// Whether the compiler had put this function into its caller's code.
    pub inlined: bool,
    /// The package that `file` is of; JavaScript and WebAssembly only.
    pub package: Option<Arc<Package>>,
    /// What stands on the line where it was executing, exactly as it was found but for
    /// blanks at its ends; of a long line a part around the column.
    pub source: Option<Arc<str>>,
}

impl Frame {
    /// A frame of which nothing but its kind and name is known.
    ///
    /// ```
    /// use nodetap_profile::{Frame, Kind, Position};
    ///
    /// let frame = Frame {
    ///     file: Some("/srv/app.js".into()),
    ///     function_position: Position::new(3, 1),
    ///     ..Frame::new(Kind::Js, "handle")
    /// };
    /// assert_eq!(frame.tier, None);
    /// ```
    pub fn new(kind: Kind, function: impl Into<Arc<str>>) -> Self {
        Self {
            kind,
            function: function.into(),
            file: None,
            position: None,
            function_position: None,
            tier: None,
            inlined: false,
            package: None,
            source: None,
        }
    }
}

/// A frame as the JSON formats spell it: one flat object, what is unknown left out.
#[derive(Serialize, Deserialize)]
struct FrameFields<S> {
    kind: Kind,
    function: S,
    #[serde(default = "none", skip_serializing_if = "Option::is_none")]
    file: Option<S>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    line: Option<NonZeroU32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    column: Option<NonZeroU32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    function_line: Option<NonZeroU32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    function_column: Option<NonZeroU32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    tier: Option<Tier>,
    #[serde(default)]
    inlined: bool,
    #[serde(default = "none", skip_serializing_if = "Option::is_none")]
    package: Option<PackageFields<S>>,
    #[serde(default = "none", skip_serializing_if = "Option::is_none")]
    source: Option<S>,
}

/// A package as the JSON formats spell it.
#[derive(Serialize, Deserialize)]
struct PackageFields<S> {
    name: S,
    #[serde(default = "none", skip_serializing_if = "Option::is_none")]
    version: Option<S>,
    #[serde(default)]
    dependency: bool,
}

/// `Option::default` without the bound on `S` that serde's `default` would add.
fn none<S>() -> Option<S> {
    None
}

impl Serialize for Frame {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        FrameFields::<&str> {
            kind: self.kind,
            function: &self.function,
            file: self.file.as_deref(),
            line: self.position.map(|p| p.line),
            column: self.position.and_then(|p| p.column),
            function_line: self.function_position.map(|p| p.line),
            function_column: self.function_position.and_then(|p| p.column),
            tier: self.tier,
            inlined: self.inlined,
            package: self.package.as_deref().map(|package| PackageFields {
                name: &*package.name,
                version: package.version.as_deref(),
                dependency: package.is_dependency,
            }),
            source: self.source.as_deref(),
        }
        .serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Frame {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let fields = FrameFields::<String>::deserialize(deserializer)?;
        // A column without its line says nothing and is dropped.
        let position =
            |line: Option<NonZeroU32>, column| line.map(|line| Position { line, column });
        Ok(Self {
            kind: fields.kind,
            function: fields.function.into(),
            file: fields.file.map(Into::into),
            position: position(fields.line, fields.column),
            function_position: position(fields.function_line, fields.function_column),
            tier: fields.tier,
            inlined: fields.inlined,
            package: fields.package.map(|package| {
                Arc::new(Package {
                    name: package.name.into(),
                    version: package.version.map(Into::into),
                    is_dependency: package.dependency,
                })
            }),
            source: fields.source.map(Into::into),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_fields_are_spelled_as_the_contract_says() {
        let frame = Frame {
            file: Some("/a/b.js".into()),
            position: Position::new(3, 5),
            function_position: Position::new(1, 1),
            tier: Some(Tier::Optimized),
            inlined: true,
            ..Frame::new(Kind::Js, "foo")
        };
        let json = serde_json::to_string(&frame).unwrap();
        assert_eq!(
            json,
            r#"{"kind":"js","function":"foo","file":"/a/b.js","line":3,"column":5,"function_line":1,"function_column":1,"tier":"optimized","inlined":true}"#
        );
        assert_eq!(serde_json::from_str::<Frame>(&json).unwrap(), frame);
    }

    #[test]
    fn a_package_is_spelled_out() {
        let frame = Frame {
            package: Some(Arc::new(Package {
                name: "@a/b".into(),
                version: Some("1.2.3".into()),
                is_dependency: true,
            })),
            ..Frame::new(Kind::Js, "foo")
        };
        let json = serde_json::to_string(&frame).unwrap();
        assert_eq!(
            json,
            r#"{"kind":"js","function":"foo","inlined":false,"package":{"name":"@a/b","version":"1.2.3","dependency":true}}"#
        );
        assert_eq!(serde_json::from_str::<Frame>(&json).unwrap(), frame);
    }

    #[test]
    fn the_line_s_text_is_told_as_it_is() {
        let frame = Frame {
            source: Some("if (a < \"b\")\t{".into()),
            ..Frame::new(Kind::Js, "foo")
        };
        let json = serde_json::to_string(&frame).unwrap();
        assert_eq!(
            json,
            r#"{"kind":"js","function":"foo","inlined":false,"source":"if (a < \"b\")\t{"}"#
        );
        assert_eq!(serde_json::from_str::<Frame>(&json).unwrap(), frame);
    }

    #[test]
    fn what_is_unknown_is_absent() {
        let frame = Frame {
            position: Position::new(7, 0),
            ..Frame::new(Kind::Pseudo, "(program)")
        };
        let json = serde_json::to_string(&frame).unwrap();
        assert_eq!(
            json,
            r#"{"kind":"pseudo","function":"(program)","line":7,"inlined":false}"#
        );
        assert_eq!(serde_json::from_str::<Frame>(&json).unwrap(), frame);
    }

    #[test]
    fn line_zero_is_no_position() {
        assert_eq!(Position::new(0, 4), None);
        assert!(serde_json::from_str::<Frame>(r#"{"kind":"js","function":"f","line":0}"#).is_err());
    }

    #[test]
    fn kinds_and_tiers_have_their_contract_names() {
        let kinds = [
            Kind::Js,
            Kind::Builtin,
            Kind::Wasm,
            Kind::Native,
            Kind::Kernel,
            Kind::Pseudo,
        ];
        assert_eq!(
            serde_json::to_string(&kinds).unwrap(),
            r#"["js","builtin","wasm","native","kernel","pseudo"]"#
        );
        let tiers = [
            Tier::Interpreted,
            Tier::Baseline,
            Tier::Maglev,
            Tier::Optimized,
            Tier::Unoptimized,
        ];
        assert_eq!(
            serde_json::to_string(&tiers).unwrap(),
            r#"["interpreted","baseline","maglev","optimized","unoptimized"]"#
        );
    }
}
