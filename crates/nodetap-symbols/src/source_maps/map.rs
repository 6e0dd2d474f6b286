//! A source map, decoded (ECMA-426).
//!
//! What the format leaves open is decided as Node.js does it: `sourceRoot` is put before
//! each source as it is, and a place belongs to the last mapping at or before it, on
//! whatever line that is. Mappings that make no sense have no source.
//!
//! A map comes from the profiled program: there is a limit to all that is kept. The text
//! of the sources, which is most of it, is kept only where it is needed to tell names, or
//! somebody wants to see lines of it.

use std::fmt;
use std::marker::PhantomData;

use serde::de::{self, Deserialize, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};

/// The most mappings of a map; a bundle of 20 MB has some four millions.
const MAX_MAPPINGS: usize = if cfg!(test) { 1 << 12 } else { 1 << 24 };

/// The bytes of sources' texts that are kept of one map for being looked at.
const MAX_TEXTS: usize = 64 << 20;

/// The most sources, names, or sections.
const MAX_ITEMS: usize = if cfg!(test) { 1 << 12 } else { 1 << 22 };

/// Stands for no source, or no name.
const NONE: u32 = u32::MAX;

/// What stands where functions and classes begin, and is no name.
const KEYWORDS: [&str; 18] = [
    "abstract",
    "async",
    "await",
    "class",
    "const",
    "constructor",
    "default",
    "export",
    "function",
    "get",
    "let",
    "new",
    "return",
    "set",
    "static",
    "this",
    "var",
    "yield",
];

/// A decoded map.
#[derive(Debug, Default)]
pub struct SourceMap {
    /// In the order of their places; those at the same place as they stand in the map.
    mappings: Vec<Mapping>,
    sources: Vec<Option<Box<str>>>,
    names: Vec<Option<Box<str>>>,
    /// The text of each source, as far as the map has it and it is wanted.
    contents: Vec<Option<Content>>,
    /// Whether lines of the texts are wanted.
    with_lines: bool,
}

/// The text of a source.
#[derive(Debug)]
struct Content {
    text: Box<str>,
    /// Whether it tells what things are called: the map has no names.
    tells_names: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Mapping {
    line: u32,
    column: u32,
    source: u32,
    original_line: u32,
    original_column: u32,
    name: u32,
}

impl Mapping {
    fn place(&self) -> (u32, u32) {
        (self.line, self.column)
    }
}

/// A place in a source. Lines and columns count from 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct Original {
    /// Which source: see [`SourceMap::source`].
    pub source: u32,
    pub line: u32,
    pub column: u32,
}

/// Why something is no source map that can be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Broken {
    /// It is no JSON, or not that of a source map.
    #[error("it is not a source map")]
    Json,
    /// Its mappings are not what they should be.
    #[error("its mappings are damaged")]
    Mappings,
    /// It has more than fits.
    #[error("it is too large")]
    TooLarge,
}

impl SourceMap {
    /// Decodes a map, or an index map, from its JSON; `with_lines` so that it has the lines
    /// of its sources' [texts](Self::text).
    ///
    /// # Errors
    /// What is wrong with it; nothing of its text is told.
    pub fn decode(json: &[u8], with_lines: bool) -> Result<SourceMap, Broken> {
        // Some have it, so that a browser does not run them.
        let json = match json.strip_prefix(b")]}'") {
            Some(rest) => rest,
            None => json.strip_prefix(b"\xef\xbb\xbf").unwrap_or(json),
        };
        let raw: Raw = serde_json::from_slice(json).map_err(|_| Broken::Json)?;
        let mut map = SourceMap {
            with_lines,
            ..SourceMap::default()
        };
        map.add(raw, Offset::default(), 0)?;
        if !map.mappings.is_sorted_by_key(Mapping::place) {
            map.mappings.sort_by_key(Mapping::place);
        }
        map.mappings.shrink_to_fit();
        Ok(map)
    }

    fn add(&mut self, raw: Raw, offset: Offset, depth: u32) -> Result<(), Broken> {
        if let Some(sections) = raw.sections {
            // Index maps of index maps are not allowed.
            if depth > 0 {
                return Err(Broken::Mappings);
            }
            for section in sections.0 {
                // One that is elsewhere is not looked for.
                if let Some(map) = section.map {
                    self.add(map, section.offset, depth + 1)?;
                }
            }
            return Ok(());
        }
        let (first_source, first_name) = (self.sources.len(), self.names.len());
        let root = raw.source_root.0.unwrap_or_default();
        let sources = raw.sources.0.into_iter();
        let sources = sources.map(|Text(source)| Some(format!("{root}{}", source?).into()));
        self.sources.extend(sources);
        let tells_names = raw.names.0.is_empty();
        let texts = raw.contents.0.iter().filter_map(|Text(text)| text.as_ref());
        let size = self.texts_size() + texts.map(|text| text.len()).sum::<usize>();
        if tells_names || self.with_lines && size <= MAX_TEXTS {
            let content = |text| Content { text, tells_names };
            let contents = raw.contents.0.into_iter();
            self.contents
                .extend(contents.map(|Text(text)| text.map(content)));
        }
        self.contents.resize_with(self.sources.len(), || None);
        let names = raw.names.0.into_iter();
        self.names.extend(names.map(|Text(name)| name));
        if self.sources.len().max(self.names.len()) > MAX_ITEMS {
            return Err(Broken::TooLarge);
        }
        let mappings = raw.mappings.0.ok_or(Broken::Json)?;
        let first = (first_source as i64, first_name as i64);
        self.decode_mappings(mappings.as_bytes(), offset, first)
    }

    fn decode_mappings(
        &mut self,
        text: &[u8],
        offset: Offset,
        (first_source, first_name): (i64, i64),
    ) -> Result<(), Broken> {
        let (sources, names) = (self.sources.len() as i64, self.names.len() as i64);
        let valid = |number: i64| u32::try_from(number).ok().filter(|&it| it != NONE);
        let mut line = i64::from(offset.line);
        let mut column = i64::from(offset.column);
        let (mut source, mut original_line, mut original_column) = (first_source, 0_i64, 0_i64);
        let mut name = first_name;
        for (index, segments) in text.split(|&byte| byte == b';').enumerate() {
            if index > 0 {
                line += 1;
                column = 0;
            }
            for segment in segments.split(|&byte| byte == b',') {
                let (fields, count) = decode_vlqs(segment).ok_or(Broken::Mappings)?;
                if count == 0 {
                    continue;
                }
                // A field that is not there is 0.
                let sums = [
                    &mut column,
                    &mut source,
                    &mut original_line,
                    &mut original_column,
                    &mut name,
                ];
                for (sum, field) in sums.into_iter().zip(fields) {
                    *sum = sum.saturating_add(field);
                }
                let (Some(at_line), Some(at_column)) = (valid(line), valid(column)) else {
                    continue;
                };
                if self.mappings.len() >= MAX_MAPPINGS {
                    return Err(Broken::TooLarge);
                }
                let is_source = count >= 4 && (first_source..sources).contains(&source);
                let original = valid(source)
                    .filter(|_| is_source)
                    .zip(valid(original_line))
                    .zip(valid(original_column));
                let is_name = count >= 5 && (first_name..names).contains(&name);
                let ((source, original_line), original_column) = original.unwrap_or(((NONE, 0), 0));
                self.mappings.push(Mapping {
                    line: at_line,
                    column: at_column,
                    source,
                    original_line,
                    original_column,
                    name: valid(name).filter(|_| is_name).unwrap_or(NONE),
                });
            }
        }
        Ok(())
    }

    /// The bytes that it keeps allocated, but for names.
    pub fn size(&self) -> usize {
        size_of_val(&self.mappings[..]) + self.texts_size()
    }

    fn texts_size(&self) -> usize {
        let texts = self.contents.iter().flatten();
        texts.map(|it| it.text.len()).sum()
    }

    /// The text of a source, if the map has it and lines of it are wanted.
    pub fn text(&self, source: u32) -> Option<&str> {
        let content = self.contents.get(source as usize)?.as_ref()?;
        self.with_lines.then_some(&content.text)
    }

    /// A source as the map names it, `sourceRoot` before it.
    pub fn source(&self, source: u32) -> Option<&str> {
        self.sources.get(source as usize)?.as_deref()
    }

    /// Where the generated text at this place, counted from 0, is from.
    pub fn find(&self, line: u32, column: u32) -> Option<Original> {
        self.mapping(line, column)
            .and_then(|mapping| self.original(mapping))
    }

    /// The same, where the mapping is on that line too.
    pub fn find_on_line(&self, line: u32, column: u32) -> Option<Original> {
        let mapping = self.mapping(line, column)?;
        self.original(mapping).filter(|_| mapping.line == line)
    }

    fn mapping(&self, line: u32, column: u32) -> Option<&Mapping> {
        let after = self
            .mappings
            .partition_point(|mapping| mapping.place() <= (line, column));
        self.mappings.get(after.checked_sub(1)?)
    }

    /// What a name was called that begins at this very place: as the map says, or as it
    /// stands in the source.
    pub fn name_at(&self, line: u32, column: u32) -> Option<&str> {
        let first = self
            .mappings
            .partition_point(|mapping| mapping.place() < (line, column));
        let there = self.mappings[first..].iter();
        let mut there = there.take_while(|mapping| mapping.place() == (line, column));
        there.find_map(|mapping| self.name(mapping).or_else(|| self.word(mapping)))
    }

    /// The name that stands in the source where `mapping` leads to.
    fn word(&self, mapping: &Mapping) -> Option<&str> {
        let content = self.contents.get(mapping.source as usize)?.as_ref()?;
        let text = content.tells_names.then_some(&content.text)?;
        let line = text.split('\n').nth(mapping.original_line as usize)?;
        word_at(line, mapping.original_column)
    }

    fn original(&self, mapping: &Mapping) -> Option<Original> {
        self.source(mapping.source)?;
        Some(Original {
            source: mapping.source,
            line: mapping.original_line,
            column: mapping.original_column,
        })
    }

    fn name(&self, mapping: &Mapping) -> Option<&str> {
        let name = self.names.get(mapping.name as usize)?.as_deref();
        name.filter(|name| !name.is_empty())
    }
}

/// The name that begins at this column, in UTF-16 units, of a line of JavaScript.
fn word_at(line: &str, column: u32) -> Option<&str> {
    let is_part = |c: char| c.is_alphanumeric() || matches!(c, '_' | '$' | '#');
    let mut units = 0;
    let mut before = None;
    let start = line.char_indices().find_map(|(index, c)| {
        let found = units >= column;
        units += c.len_utf16() as u32;
        if !found {
            before = Some(c);
        }
        found.then_some((index, units - c.len_utf16() as u32))
    });
    let (start, at) = start?;
    if at != column || before.is_some_and(is_part) {
        return None;
    }
    let word = line[start..].split(|c: char| !is_part(c)).next()?;
    let is_name = word.starts_with(|c: char| !c.is_numeric()) && !KEYWORDS.contains(&word);
    is_name.then_some(word)
}

/// The numbers of a segment, five at most, and how many there are. `None` where they are
/// none.
fn decode_vlqs(segment: &[u8]) -> Option<([i64; 5], usize)> {
    let mut fields = [0; 5];
    let mut count = 0;
    let (mut number, mut shift) = (0_i64, 0);
    for &byte in segment {
        let digit = match byte {
            b'A'..=b'Z' => byte - b'A',
            b'a'..=b'z' => byte - b'a' + 26,
            b'0'..=b'9' => byte - b'0' + 52,
            b'+' => 62,
            b'/' => 63,
            b' ' | b'\t' | b'\r' | b'\n' => continue,
            _ => return None,
        };
        // More than any 32-bit number takes.
        if shift > 35 {
            return None;
        }
        number |= i64::from(digit & 31) << shift;
        shift += 5;
        if digit & 32 == 0 {
            *fields.get_mut(count)? = match number & 1 {
                0 => number >> 1,
                _ => -(number >> 1),
            };
            count += 1;
            (number, shift) = (0, 0);
        }
    }
    (shift == 0).then_some((fields, count))
}

/// A map's JSON. What is not read is skipped without being kept.
#[derive(Default, serde::Deserialize)]
struct Raw {
    #[serde(default)]
    mappings: Text,
    #[serde(default)]
    sources: List<Text>,
    #[serde(default)]
    names: List<Text>,
    #[serde(default, rename = "sourcesContent")]
    contents: List<Text>,
    #[serde(default, rename = "sourceRoot")]
    source_root: Text,
    sections: Option<List<Section>>,
}

#[derive(serde::Deserialize)]
struct Section {
    offset: Offset,
    map: Option<Raw>,
}

#[derive(Clone, Copy, Default, serde::Deserialize)]
struct Offset {
    line: u32,
    column: u32,
}

/// A string, or something that should be one and is not.
#[derive(Default)]
struct Text(Option<Box<str>>);

impl<'de> Deserialize<'de> for Text {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Text, D::Error> {
        deserializer.deserialize_any(TextVisitor)
    }
}

struct TextVisitor;

impl<'de> Visitor<'de> for TextVisitor {
    type Value = Text;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a string")
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<Text, E> {
        Ok(Text(Some(text.into())))
    }

    fn visit_unit<E: de::Error>(self) -> Result<Text, E> {
        Ok(Text(None))
    }

    fn visit_bool<E: de::Error>(self, _: bool) -> Result<Text, E> {
        Ok(Text(None))
    }

    fn visit_i64<E: de::Error>(self, _: i64) -> Result<Text, E> {
        Ok(Text(None))
    }

    fn visit_u64<E: de::Error>(self, _: u64) -> Result<Text, E> {
        Ok(Text(None))
    }

    fn visit_f64<E: de::Error>(self, _: f64) -> Result<Text, E> {
        Ok(Text(None))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Text, A::Error> {
        while items.next_element::<IgnoredAny>()?.is_some() {}
        Ok(Text(None))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Text, A::Error> {
        while entries.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
        Ok(Text(None))
    }
}

/// Some items, not too many.
struct List<T>(Vec<T>);

impl<T> Default for List<T> {
    fn default() -> Self {
        List(Vec::new())
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for List<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<List<T>, D::Error> {
        deserializer.deserialize_any(ListVisitor(PhantomData))
    }
}

struct ListVisitor<T>(PhantomData<T>);

impl<'de, T: Deserialize<'de>> Visitor<'de> for ListVisitor<T> {
    type Value = List<T>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list")
    }

    fn visit_unit<E: de::Error>(self) -> Result<List<T>, E> {
        Ok(List::default())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<List<T>, A::Error> {
        let mut list = Vec::new();
        while let Some(item) = items.next_element()? {
            if list.len() >= MAX_ITEMS {
                return Err(de::Error::custom("too many items"));
            }
            list.push(item);
        }
        Ok(List(list))
    }
}

#[cfg(test)]
mod tests;
