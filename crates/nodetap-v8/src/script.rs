//! `Script`: its id, its name, and where its lines end.

use std::ops::Range;
use std::sync::Arc;

use crate::heap::{Error, Heap, Tagged};
use crate::source_map_url::SourceMapUrl;

/// The longest source that is read: V8's strings have at most 2^29 units.
const MAX_SOURCE: usize = 1 << 29;

/// The collector moves it: a forwarding address stands in place of its map.
const MOVING: Error = Error::Unbelievable("a script's source that is no string");

/// Words of a string that tell what it is: its map, hash and length, and what it is
/// made of where it is made of others.
const SOURCE_HEAD: usize = 5;

/// A place in a script, 1-based.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[allow(missing_docs)]
pub struct LineColumn {
    pub line: u32,
    pub column: u32,
}

/// What of a script is needed to name places in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Script {
    /// `Script.id`
    pub id: i32,
    /// Its path or URL; the name of its `//# sourceURL` where it has no name
    /// of its own (`Script::GetNameOrSourceURL`). Empty where it has neither.
    pub name: String,
    /// Whether it is V8's own: its builtins written in JavaScript, before
    /// Ignition.
    pub is_native: bool,
    /// Where it says that its source map is.
    pub source_map: Option<SourceMapUrl>,
    /// The UTF-16 units of its source, if it has one and they were asked for.
    pub source: Option<Vec<u16>>,
    /// Where its lines are.
    pub lines: Arc<Lines>,
}

/// Where the lines of a script are.
#[derive(Debug, PartialEq, Eq)]
pub struct Lines {
    /// The line of its first line, 0-based, in what it was taken from.
    line_offset: i32,
    /// The column of its first character, 0-based, on that line.
    column_offset: i32,
    /// The position of the end of each line, in UTF-16 units.
    ends: Vec<u32>,
}

impl Script {
    /// Where its source ends, in UTF-16 units; `None` where it has none.
    pub fn end(&self) -> Option<u32> {
        self.lines.ends.last().copied()
    }

    /// The line and column of the UTF-16 unit at `position`: see [`Lines::locate`].
    pub fn locate(&self, position: u32) -> Option<LineColumn> {
        self.lines.locate(position)
    }

    /// Bytes that this keeps allocated.
    pub fn size(&self) -> usize {
        self.name.len() + self.lines.ends.len() * 4
    }
}

impl Lines {
    /// The line and column of the UTF-16 unit at `position`, as
    /// `Script::GetPositionInfo` (`src/objects/script.cc`) computes them.
    /// `None` where the script has no such position.
    pub fn locate(&self, position: u32) -> Option<LineColumn> {
        let line = self.ends.partition_point(|&end| end < position);
        if line >= self.ends.len() {
            return None;
        }
        let mut column = i64::from(position) - i64::from(self.start(line));
        if line == 0 {
            column += i64::from(self.column_offset);
        }
        let line = line as i64 + i64::from(self.line_offset);
        Some(LineColumn {
            line: u32::try_from(line + 1).ok().filter(|&line| line > 0)?,
            column: u32::try_from(column + 1)
                .ok()
                .filter(|&column| column > 0)?,
        })
    }

    /// Where the line `line` is, in UTF-16 units, without what ends it, and which of them is
    /// at `column`; both count from 1. `None` where there is no such line, or no such column
    /// on it.
    pub fn find(&self, line: u32, column: u32) -> Option<(Range<usize>, usize)> {
        let index = i64::from(line) - 1 - i64::from(self.line_offset);
        let index = usize::try_from(index).ok()?;
        let (start, end) = (self.start(index), *self.ends.get(index)?);
        let before = match index {
            0 => i64::from(self.column_offset),
            _ => 0,
        };
        let at = i64::from(start) + i64::from(column) - 1 - before;
        let at = u32::try_from(at)
            .ok()
            .filter(|at| (start..=end).contains(at))?;
        Some((start as usize..end as usize, at as usize))
    }

    /// The position of the start of the line `index`, 0-based.
    fn start(&self, index: usize) -> u32 {
        let before = index.checked_sub(1).and_then(|it| self.ends.get(it));
        before.map_or(0, |end| end.saturating_add(1))
    }
}

impl Heap<'_> {
    /// `Script.id`.
    ///
    /// # Errors
    /// Where `script` is no `Script`.
    pub fn script_id(&self, script: Tagged) -> Result<i32, Error> {
        self.expect(script, self.layout.types.script, "a Script")?;
        self.smi(script.field(self.layout.script.id)?)
    }

    /// Reads the `Script` at `script`, and its whole source to find where the
    /// lines end unless V8 has done so already. `with_source` it is kept, too.
    ///
    /// # Errors
    /// Where it is none, or cannot be read.
    pub fn script(&self, script: Tagged, with_source: bool) -> Result<Script, Error> {
        let layout = &self.layout.script;
        let id = self.script_id(script)?;
        let parts = self.script_parts(script)?;
        let mut name = self.string_or_empty(script.field(layout.name)?)?;
        if name.is_empty()
            && let Some(source_url) = layout.source_url
        {
            name = self.string_or_empty(script.field(source_url)?)?;
        }
        let is_native = match layout.kind {
            // `Script::TYPE_NATIVE` in src/objects.h
            Some(kind) => self.smi(script.field(kind)?)? == 0,
            None => false,
        };
        let cached = match self.cached_line_ends(script)? {
            // Nobody is shown a place in it, and its source may be a string whose
            // characters it does not tell.
            None if is_native => Some(Vec::new()),
            cached => cached,
        };
        let url = self.source_mapping_url(script)?;
        let may_have_url = url.is_some() || layout.source_mapping_url.is_none() && !is_native;
        let with_source = with_source && !is_native;
        let source = match &cached {
            None => self.source(script)?,
            // It is needed for nothing else. While it is being moved, there is more to it.
            Some(_) if may_have_url || with_source => match self.source(script) {
                Err(error) if error == MOVING => return Err(error),
                source => source.unwrap_or_default(),
            },
            Some(_) => None,
        };
        let line_ends = cached.unwrap_or_else(|| match &source {
            Some(source) => line_ends(source, layout.only_newlines_end_lines),
            None => Vec::new(),
        });
        let source_map = match &source {
            Some(source) if may_have_url => SourceMapUrl::of(source, url),
            _ => None,
        };
        // Read again: the memory may have been given to another script between
        // the reads above, and what it points to may have been moved.
        if self.script_id(script)? != id || self.script_parts(script)? != parts {
            return Err(Error::Unbelievable("a script that changed while read"));
        }
        Ok(Script {
            id,
            name,
            is_native,
            source_map,
            source: source.filter(|_| with_source),
            lines: Arc::new(Lines {
                line_offset: self.smi(script.field(layout.line_offset)?)?,
                column_offset: self.smi(script.field(layout.column_offset)?)?,
                ends: line_ends,
            }),
        })
    }

    /// The UTF-16 units of its source, if it has one.
    fn source(&self, script: Tagged) -> Result<Option<Vec<u16>>, Error> {
        let source = self.tagged(script.field(self.layout.script.source)?)?;
        if self.is_string(source) {
            Ok(Some(self.units(source, MAX_SOURCE)?))
        } else if self.instance_type(source) == Ok(self.layout.types.oddball) {
            Ok(None)
        } else {
            Err(MOVING)
        }
    }

    /// Where its strings and its line ends are, and the first words of its source.
    fn script_parts(&self, script: Tagged) -> Result<Vec<u64>, Error> {
        let layout = &self.layout.script;
        let fields = [
            Some(layout.name),
            layout.source_url,
            layout.source_mapping_url,
            Some(layout.line_ends),
            Some(layout.source),
        ];
        let mut parts = Vec::with_capacity(fields.len() + SOURCE_HEAD);
        for field in fields.into_iter().flatten() {
            parts.push(self.memory.u64(script.field(field)?)?);
        }
        if let Some(source) = parts.last().map(|&source| Tagged(source))
            && self.is_string(source)
        {
            parts.extend(self.memory.words(source.address()?, SOURCE_HEAD)?);
        }
        Ok(parts)
    }

    /// The `length` UTF-16 units of the source of `script` before `end`, fewer at
    /// its start. `None` where the source does not tell its characters.
    pub fn source_before(&self, script: Tagged, end: u32, length: u32) -> Option<Vec<u16>> {
        let source = script.field(self.layout.script.source).ok()?;
        let source = self.tagged(source).ok()?;
        let start = end.saturating_sub(length);
        self.units_from(source, start as usize, (end - start) as usize)
            .ok()
    }

    fn string_or_empty(&self, address: u64) -> Result<String, Error> {
        let value = self.tagged(address)?;
        if self.is_string(value) {
            self.name(value)
        } else if self.instance_type(value) == Ok(self.layout.types.oddball) {
            Ok(String::new())
        } else {
            Err(Error::Unbelievable("a script's name that is no string"))
        }
    }

    /// The line ends as V8 keeps them once a stack trace has asked for them:
    /// a `FixedArray` of Smis. `None` where it does not yet.
    fn cached_line_ends(&self, script: Tagged) -> Result<Option<Vec<u32>>, Error> {
        let ends = self.tagged(script.field(self.layout.script.line_ends)?)?;
        if !ends.is_heap_object() || self.instance_type(ends)? != self.layout.types.fixed_array {
            return Ok(None);
        }
        let ends = self.fixed_array(ends)?;
        if ends.is_empty() {
            return Ok(None);
        }
        let ends: Option<Vec<u32>> = ends
            .into_iter()
            .map(|end| u32::try_from(end.to_smi()?).ok())
            .collect();
        Ok(ends.filter(|ends| ends.is_sorted()))
    }
}

/// The position of the end of each line: of its line terminator, or of the
/// source's end (`String::CalculateLineEnds` in `src/objects/string.cc`).
fn line_ends(source: &[u16], only_newlines: bool) -> Vec<u32> {
    let mut ends = Vec::new();
    for (position, &unit) in source.iter().enumerate() {
        let ends_line = match unit {
            0x0a => true,
            _ if only_newlines => false,
            0x2028 | 0x2029 => true,
            // The pair \r\n ends a line once, at the \n.
            0x0d => source.get(position + 1) != Some(&0x0a),
            _ => false,
        };
        if ends_line {
            ends.push(position as u32);
        }
    }
    ends.push(source.len() as u32);
    ends
}

#[cfg(test)]
mod tests {
    use super::*;

    fn script(source: &str, line_offset: i32, column_offset: i32) -> Script {
        let units: Vec<u16> = source.encode_utf16().collect();
        Script {
            id: 1,
            name: String::new(),
            is_native: false,
            source_map: None,
            source: None,
            lines: Arc::new(Lines {
                line_offset,
                column_offset,
                ends: line_ends(&units, false),
            }),
        }
    }

    fn at(script: &Script, position: u32) -> Option<(u32, u32)> {
        script
            .locate(position)
            .map(|place| (place.line, place.column))
    }

    #[test]
    fn every_line_terminator_ends_a_line_once() {
        let script = script("a\nbb\r\nc\rd\u{2028}e\u{2029}f", 0, 0);
        assert_eq!(script.lines.ends, [1, 5, 7, 9, 11, 13]);
        assert_eq!(at(&script, 0), Some((1, 1)));
        assert_eq!(at(&script, 1), Some((1, 2)));
        assert_eq!(at(&script, 2), Some((2, 1)));
        assert_eq!(at(&script, 3), Some((2, 2)));
        assert_eq!(at(&script, 6), Some((3, 1)));
        assert_eq!(at(&script, 8), Some((4, 1)));
        assert_eq!(at(&script, 12), Some((6, 1)));
        assert_eq!(at(&script, 13), Some((6, 2)));
        assert_eq!(at(&script, 14), None);
    }

    #[test]
    fn old_versions_know_newlines_only() {
        let units: Vec<u16> = "a\nbb\r\nc\rd\u{2028}e".encode_utf16().collect();
        assert_eq!(line_ends(&units, true), [1, 5, 11]);
    }

    #[test]
    fn offsets_move_the_first_line_only() {
        let script = script("ab\ncd", 9, 62);
        assert_eq!(at(&script, 1), Some((10, 64)));
        assert_eq!(at(&script, 4), Some((11, 2)));
    }

    #[test]
    fn a_script_without_source_has_no_places() {
        assert_eq!(at(&script("", 0, 0), 0), Some((1, 1)));
        let none = Lines {
            line_offset: 0,
            column_offset: 0,
            ends: Vec::new(),
        };
        assert_eq!(none.locate(0), None);
        assert_eq!(none.find(1, 1), None);
    }

    #[test]
    fn what_was_located_is_found_again() {
        let source = "ab\r\n\ncd\re";
        let units: Vec<u16> = source.encode_utf16().collect();
        for (line_offset, column_offset) in [(0, 0), (9, 62), (-1, 0)] {
            let script = script(source, line_offset, column_offset);
            for position in 0..=units.len() as u32 {
                let Some((line, column)) = at(&script, position) else {
                    // Before the first line of what it was taken from.
                    assert!(line_offset < 0 && position < 4);
                    continue;
                };
                let (range, found) = script.lines.find(line, column).unwrap();
                assert_eq!(found, position as usize);
                let text = String::from_utf16_lossy(&units[range]);
                assert!(["ab\r", "", "cd", "e"].contains(&&*text), "{text:?}");
            }
        }
        let script = script(source, 9, 62);
        for (line, column) in [
            (9, 1),
            (10, 62),
            (10, 67),
            (11, 2),
            (14, 1),
            (0, 0),
            (10, 0),
        ] {
            assert_eq!(script.lines.find(line, column), None, "{line}:{column}");
        }
        let last = script.lines.find(13, u32::MAX);
        assert_eq!(last, None);
    }
}
