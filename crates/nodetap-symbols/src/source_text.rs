//! What stands on the lines that were executing.
//!
//! Of a script it is what V8 has in the process's memory, which is read with the script; of
//! what a script was made of, what its source map says. No file is opened for it: that could
//! be another by now.
//!
//! A line is kept without the blanks at its ends. Of a long one, as of a bundle, it is a part
//! around the column.

use std::collections::{HashMap, HashSet};
use std::hash::BuildHasher;
use std::ops::Range;
use std::sync::Arc;

use nodetap_profile::Position;
use nodetap_v8::Lines;
use rustc_hash::FxBuildHasher;

/// How long a line may be, in bytes or UTF-16 units, and how long the part of a longer one
/// is.
const MAX_LINE: usize = 200;

/// How much of that precedes the column.
const BEFORE: usize = 60;

/// The bytes of all scripts' texts that are kept.
const MAX_SCRIPTS: usize = 64 << 20;

/// The bytes of all lines that are kept.
const MAX_LINES: usize = 8 << 20;

/// A script's text, as V8 has it.
#[derive(Debug, PartialEq, Eq)]
pub struct ScriptText {
    units: Units,
    lines: Arc<Lines>,
}

/// UTF-16 units, in as few bytes as they take.
#[derive(Debug, PartialEq, Eq, Hash)]
enum Units {
    One(Box<[u8]>),
    Two(Box<[u16]>),
}

impl ScriptText {
    /// The text of a script with these UTF-16 units and lines.
    pub fn new(units: Vec<u16>, lines: Arc<Lines>) -> ScriptText {
        let narrow: Option<Box<[u8]>> = units.iter().map(|&it| u8::try_from(it).ok()).collect();
        let units = narrow.map_or_else(|| Units::Two(units.into()), Units::One);
        ScriptText { units, lines }
    }

    /// What stands on the line of `position`, around its column.
    pub fn line(&self, position: Position) -> Option<String> {
        let column = position.column?.get();
        let (line, at) = self.lines.find(position.line.get(), column)?;
        let at = at - line.start;
        match &self.units {
            Units::One(units) => excerpt(units.get(line)?, at, |part| {
                part.iter().map(|&unit| char::from(unit)).collect()
            }),
            Units::Two(units) => excerpt(units.get(line)?, at, String::from_utf16_lossy),
        }
    }

    fn size(&self) -> usize {
        match &self.units {
            Units::One(units) => units.len(),
            Units::Two(units) => 2 * units.len(),
        }
    }
}

/// The distinct texts of scripts, up to a limit.
#[derive(Debug, Default)]
pub struct Texts {
    known: HashMap<u64, Arc<ScriptText>>,
    kept: usize,
}

impl Texts {
    /// `text`, kept once; `None` where there is no room for it.
    pub fn keep(&mut self, text: ScriptText) -> Option<Arc<ScriptText>> {
        let hash = FxBuildHasher.hash_one(&text.units);
        if let Some(known) = self.known.get(&hash) {
            return (**known == text).then(|| known.clone());
        }
        let kept = self.kept + text.size();
        if kept > MAX_SCRIPTS {
            return None;
        }
        self.kept = kept;
        let text = Arc::new(text);
        self.known.insert(hash, text.clone());
        Some(text)
    }
}

/// Where the lines of an original begin.
#[derive(Debug)]
pub struct LineStarts(Vec<u32>);

impl LineStarts {
    /// Those of `text`. `None` where not all agree on what ends a line in it.
    pub fn of(text: &str) -> Option<LineStarts> {
        let bytes = text.as_bytes();
        let is_told_apart = memchr::memchr_iter(b'\r', bytes)
            .all(|at| bytes.get(at + 1) == Some(&b'\n'))
            && !text.contains(['\u{2028}', '\u{2029}']);
        let ends = memchr::memchr_iter(b'\n', bytes);
        let starts = ends.map(|end| u32::try_from(end + 1).ok());
        let starts: Option<Vec<u32>> = [Some(0)].into_iter().chain(starts).collect();
        starts.filter(|_| is_told_apart).map(LineStarts)
    }

    /// What stands on a line of `text` around a column, in UTF-16 units; both count from 0.
    pub fn line(&self, text: &str, line: u32, column: u32) -> Option<String> {
        let start = *self.0.get(line as usize)? as usize;
        let end = self.0.get(line as usize + 1);
        let end = end.map_or(text.len(), |&next| next as usize - 1);
        let line = text.get(start..end)?;
        let at = offset(line, column as usize)?;
        excerpt(line.as_bytes(), at, |part| {
            // Of a character that was cut nothing is left.
            let part = String::from_utf8_lossy(part);
            part.trim_matches('\u{fffd}').to_owned()
        })
    }
}

/// The byte of `line` that is so many UTF-16 units from its start.
fn offset(line: &str, units: usize) -> Option<usize> {
    if line.is_ascii() {
        return (units <= line.len()).then_some(units);
    }
    let mut before = 0;
    for (at, c) in line.char_indices() {
        if before >= units {
            return (before == units).then_some(at);
        }
        before += c.len_utf16();
    }
    (before == units).then_some(line.len())
}

/// The line, or what is around `at` of a long one, as text.
fn excerpt<T: Copy + Into<u32>>(
    line: &[T],
    at: usize,
    text: impl FnOnce(&[T]) -> String,
) -> Option<String> {
    let is_blank = |it: &T| matches!((*it).into(), 0x09..=0x0d | 0x20 | 0xfeff);
    let start = line.iter().position(|it| !is_blank(it))?;
    let end = 1 + line.iter().rposition(|it| !is_blank(it))?;
    let Range { start, end } = part(start..end, at);
    let mut part = text(&line[start..end]);
    if line[..start].iter().any(|it| !is_blank(it)) {
        part.insert(0, '…');
    }
    if line[end..].iter().any(|it| !is_blank(it)) {
        part.push('…');
    }
    Some(part)
}

/// The part of a line that is kept.
fn part(line: Range<usize>, at: usize) -> Range<usize> {
    if line.len() <= MAX_LINE {
        return line;
    }
    let last = line.end - MAX_LINE;
    let start = at.saturating_sub(BEFORE).clamp(line.start, last);
    start..start + MAX_LINE
}

/// The lines of a recording, each kept once, up to a limit.
#[derive(Debug, Default)]
pub struct SourceLines {
    /// They come from the program: with a keyed hash it cannot choose slow ones.
    known: HashSet<Arc<str>>,
    kept: usize,
}

impl SourceLines {
    /// `line`, kept once; `None` where there is no room for it.
    pub fn keep(&mut self, line: String) -> Option<Arc<str>> {
        if let Some(known) = self.known.get(line.as_str()) {
            return Some(known.clone());
        }
        let kept = self.kept + line.len();
        if kept > MAX_LINES {
            return None;
        }
        self.kept = kept;
        let line: Arc<str> = line.into();
        self.known.insert(line.clone());
        Some(line)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn original(text: &str, line: u32, column: u32) -> Option<String> {
        LineStarts::of(text)?.line(text, line, column)
    }

    #[test]
    fn a_line_of_an_original() {
        let text = "a();\n\n\tgrüße(); // 🦀 x\r\n  }";
        assert_eq!(original(text, 0, 0).as_deref(), Some("a();"));
        assert_eq!(original(text, 0, 4).as_deref(), Some("a();"));
        assert_eq!(original(text, 1, 0), None);
        assert_eq!(original(text, 2, 17).as_deref(), Some("grüße(); // 🦀 x"));
        assert_eq!(original(text, 3, 2).as_deref(), Some("}"));
        // There is no such place, or it is within a character.
        for (line, column) in [(0, 5), (2, 14), (4, 0), (3, 4)] {
            assert_eq!(original(text, line, column), None, "{line}:{column}");
        }
        assert_eq!(original("", 0, 0), None);
    }

    #[test]
    fn where_lines_are_not_told_apart_there_is_none() {
        for text in ["a\rb\nc", "a\nb\r", "a\u{2028}b\nc"] {
            assert_eq!(original(text, 0, 0), None, "{text:?}");
        }
        assert_eq!(original("a\r\nb", 1, 0).as_deref(), Some("b"));
    }

    #[test]
    fn of_a_long_line_a_part_around_the_column() {
        let words: Vec<String> = (0..100_000).map(|it| format!("f{it}();")).collect();
        let line = words.concat();
        let at = line.find("f5000();").unwrap();
        let found = original(&line, 0, at as u32).unwrap();
        assert_eq!(found.chars().count(), MAX_LINE + 2);
        assert!(found.starts_with('…') && found.ends_with('…'), "{found}");
        assert!(found.contains("f4999();f5000();f5001();"), "{found}");
        let first = original(&line, 0, 0).unwrap();
        assert!(first.starts_with("f0();f1();") && first.ends_with('…'));
        let last = original(&line, 0, line.len() as u32).unwrap();
        assert!(last.starts_with('…') && last.ends_with("f99999();"));
        // Blanks at the ends are nothing that was left out.
        let short = format!("{}x();{}", " ".repeat(1000), "\t".repeat(1000));
        assert_eq!(original(&short, 0, 1000).as_deref(), Some("x();"));
        // Characters stay whole.
        let wide = "🦀é".repeat(1000);
        for column in 0..3000 {
            if let Some(found) = original(&wide, 0, column) {
                let is_whole = |c| matches!(c, '🦀' | 'é' | '…');
                assert!(found.chars().all(is_whole), "{found}");
            }
        }
    }

    #[test]
    fn texts_and_lines_are_kept_up_to_a_limit() {
        let mut lines = SourceLines::default();
        let one = lines.keep("a".to_owned()).unwrap();
        assert!(Arc::ptr_eq(&one, &lines.keep("a".to_owned()).unwrap()));
        assert_eq!(lines.keep("b".repeat(MAX_LINES)), None);
        assert!(lines.keep("b".repeat(MAX_LINES - 1)).is_some());
        assert_eq!(lines.keep("c".to_owned()), None);
        assert!(lines.keep("a".to_owned()).is_some());
    }
}
