//! What a V8 build says of itself: its `v8dbg_*` symbols.
//!
//! They are written by V8's `tools/gen-postmortem-metadata.py` for debuggers
//! that look at a core file, and are 32-bit values in the binary's data.

use rustc_hash::FxHashMap;

/// The values of a build's `v8dbg_*` symbols, by name without that prefix.
#[derive(Clone, Debug, Default)]
pub struct Metadata {
    values: FxHashMap<String, i32>,
}

impl Metadata {
    /// What every such symbol's name begins with.
    pub const PREFIX: &'static str = "v8dbg_";

    /// The value of the symbol `v8dbg_NAME`.
    pub fn get(&self, name: &str) -> Option<i32> {
        self.values.get(name).copied()
    }

    /// The offset, in bytes from the untagged object, of `class.field`.
    ///
    /// A symbol's name ends in the field's type, which changed its spelling
    /// from version to version (`…__Object`, `…__Tagged_Object_`), so the
    /// name is matched up to there. Where several types are given for one
    /// field, their offsets must agree.
    pub fn offset(&self, class: &str, field: &str) -> Option<u32> {
        let prefix = format!("class_{class}__{field}__");
        let mut found = None;
        for (name, &value) in &self.values {
            if name.starts_with(&prefix) {
                let value = u32::try_from(value).ok()?;
                if found.is_some_and(|other| other != value) {
                    return None;
                }
                found = Some(value);
            }
        }
        found
    }

    /// The instance type of `class` (`type_Class__CLASS_TYPE`).
    pub fn instance_type(&self, class: &str) -> Option<u16> {
        let prefix = format!("type_{class}__");
        self.values
            .iter()
            .find(|(name, _)| name.starts_with(&prefix))
            .and_then(|(_, &value)| u16::try_from(value).ok())
    }

    /// Whether there are any.
    pub fn is_empty(&self) -> bool {
        self.values.is_empty()
    }

    /// All of them, in no order.
    pub fn iter(&self) -> impl Iterator<Item = (&str, i32)> {
        self.values
            .iter()
            .map(|(name, &value)| (name.as_str(), value))
    }
}

impl<S: Into<String>> FromIterator<(S, i32)> for Metadata {
    /// From names without the prefix `v8dbg_`, and values.
    fn from_iter<I: IntoIterator<Item = (S, i32)>>(values: I) -> Self {
        Metadata {
            values: values
                .into_iter()
                .map(|(name, value)| (name.into(), value))
                .collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_offset_is_found_whatever_the_spelling_of_its_type() {
        let metadata: Metadata = [
            ("class_JSFunction__context__Context", 40),
            ("class_JSFunction__context__Tagged_Context_", 40),
            ("class_JSFunction__shared__SharedFunctionInfo", 32),
            ("class_Torn__field__Object", 8),
            ("class_Torn__field__Tagged_Object_", 16),
            ("type_Script__SCRIPT_TYPE", 167),
            ("type_ScriptOrModule__SCRIPT_OR_MODULE_TYPE", 168),
        ]
        .into_iter()
        .collect();
        assert_eq!(metadata.offset("JSFunction", "context"), Some(40));
        assert_eq!(metadata.offset("JSFunction", "shared"), Some(32));
        assert_eq!(metadata.offset("JSFunction", "code"), None);
        assert_eq!(metadata.offset("Torn", "field"), None);
        assert_eq!(metadata.instance_type("Script"), Some(167));
        assert_eq!(metadata.instance_type("Scrip"), None);
    }
}
