//! Source maps: from a place in the code that V8 runs to the source that it was made of.
//!
//! A script names its map in its last comment ([`nodetap_v8::source_map_url`]). The map
//! is in that comment itself, or in a file beside the script, which is read as the
//! process would ([`Root`]); nothing is fetched from elsewhere. Where the original is
//! JavaScript with a map of its own, as what a bundler puts together may be, that one is
//! followed as well.
//!
//! Whether a file still is what the process has loaded, its own text in the process's
//! memory tells. Where a map cannot be used, frames keep the places that V8 has.

mod location;
mod map;
mod names;

use std::cell::RefCell;
use std::collections::HashMap;
use std::io;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::Arc;

use nodetap_profile::{Frame, Position};
use nodetap_sampler::root::{Root, RootIdentity};
use nodetap_v8::source_map_url::{WRAPPER, digest, trailing_comment};
use tracing::debug;
use url::Url;

use crate::generated::{GeneratedCode, GeneratedScript, MapReference};
use crate::source_text::LineStarts;
use location::Location;
use location::base_of;
pub use location::path_of;
use map::{Broken, SourceMap};

/// The largest file that is read for a map, and the largest script.
const MAX_FILE: u64 = 256 << 20;

/// The bytes of maps that are kept in all.
const MAX_KEPT: usize = 1 << 30;

/// How many maps lead from one to the next at most.
const MAX_CHAIN: usize = 8;

/// The maps that have been asked for.
#[derive(Debug, Default)]
pub struct SourceMaps {
    /// Whether it is wanted what stands on the lines of originals.
    with_sources: bool,
    /// By the scripts' addresses; each is kept, so that no other gets its address.
    scripts: HashMap<*const GeneratedScript, (Arc<GeneratedScript>, Option<Rc<Loaded>>)>,
    /// The same, as they are one for several processes.
    same: HashMap<ScriptIdentity, Option<Rc<Loaded>>>,
    /// By the original that has it.
    chained: HashMap<FileIdentity, Option<Rc<Loaded>>>,
    /// The bytes that they take.
    kept: usize,
    /// What somebody should know.
    notes: Vec<String>,
}

type FileIdentity = (Option<RootIdentity>, PathBuf);
type ScriptIdentity = (Option<RootIdentity>, Option<Arc<str>>, (u64, u64));

/// A map that was found.
#[derive(Debug)]
struct Loaded {
    map: SourceMap,
    /// Where it is, for the names of its sources.
    base: Option<Url>,
    /// What its sources are called, as far as anybody has asked.
    sources: RefCell<HashMap<u32, Arc<str>>>,
    /// Where the lines of their texts begin, likewise.
    line_starts: RefCell<HashMap<u32, Option<LineStarts>>>,
}

/// What is known of the original of a frame besides its place.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct OriginalLine {
    /// What stands on the line where it was executing, if that is wanted and the map has it.
    pub line: Option<String>,
}

/// A place in a source, counted from 0.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Place {
    file: Arc<str>,
    line: u32,
    column: u32,
    /// What stands on that line, as far as it was asked for.
    text: Option<String>,
}

impl Place {
    fn position(&self) -> Option<Position> {
        Position::new(self.line.checked_add(1)?, self.column.checked_add(1)?)
    }
}

/// Why a map is not used.
#[derive(Debug, thiserror::Error)]
enum Unusable {
    #[error("its source map is not there: {0}")]
    Missing(io::Error),
    #[error("its source map is no file")]
    Elsewhere,
    #[error("its source map has no valid URL")]
    Url,
    #[error("it is not what the process has loaded")]
    Changed,
    #[error("its source map cannot be used: {0}")]
    Broken(#[from] Broken),
}

impl SourceMaps {
    /// None yet. With `with_sources` it is told what stands on the lines of originals.
    pub fn new(with_sources: bool) -> SourceMaps {
        SourceMaps {
            with_sources,
            ..SourceMaps::default()
        }
    }

    /// Puts `frame`, which runs `code`, where its original is. Where that is not known it
    /// stays as it is, and there is nothing to tell.
    pub fn map(&mut self, frame: &mut Frame, code: &GeneratedCode) -> Option<OriginalLine> {
        let reference = code.script.map.as_ref()?;
        let loaded = self.of_script(&code.script, reference)?;
        let place = |position: Position| generated_place(position, reference.is_wrapped);
        let start = frame.function_position.and_then(place);
        let at = match frame.position {
            // As Node.js does it: what is not mapped keeps its place, name and all.
            Some(position) if position.column.is_some() => {
                let (line, column) = place(position)?;
                let found = loaded.find(line, column)?;
                Some(self.follow(&code.script, found))
            }
            // Without a column it is not known where on a line of many functions it is.
            Some(_) | None => None,
        };
        let started = start.and_then(|(line, column)| loaded.find_on_line(line, column));
        let started = started.map(|found| self.follow(&code.script, found));
        let file = at.as_ref().or(started.as_ref())?.file.clone();
        let is_all = frame.function_position.is_some_and(|position| {
            generated_place(position, reference.is_wrapped) == Some((0, 0))
        });
        frame.position = at.as_ref().and_then(Place::position);
        frame.function_position = match started {
            // What stands outside of functions begins with its file, whatever else is in
            // the same script.
            _ if is_all => Position::new(1, 1),
            Some(started) if started.file == file => started.position(),
            _ => None,
        };
        if let (Some(text), Some(start)) = (&code.text, start)
            && let Some(name) = names::original_name(&loaded.map, text, &frame.function, start)
        {
            frame.function = name.into();
        }
        frame.file = Some(file);
        Some(OriginalLine {
            line: at.and_then(|place| place.text),
        })
    }

    /// What somebody should know, since this was asked for the last time.
    pub fn take_notes(&mut self) -> Vec<String> {
        std::mem::take(&mut self.notes)
    }

    /// The map of a script, loaded when it is first asked for.
    fn of_script(
        &mut self,
        script: &Arc<GeneratedScript>,
        reference: &MapReference,
    ) -> Option<Rc<Loaded>> {
        if let Some((_, known)) = self.scripts.get(&Arc::as_ptr(script)) {
            return known.clone();
        }
        let root = script.root.as_deref();
        let identity = (
            root.map(Root::identity),
            script.place.clone(),
            reference.identity(),
        );
        let loaded = match self.same.get(&identity) {
            Some(known) => known.clone(),
            None => {
                let loaded = self.load(script, reference);
                let loaded = self.kept_or_noted(script.file.as_deref(), loaded);
                self.same.insert(identity, loaded.clone());
                loaded
            }
        };
        let entry = (script.clone(), loaded.clone());
        self.scripts.insert(Arc::as_ptr(script), entry);
        loaded
    }

    fn load(&self, script: &GeneratedScript, reference: &MapReference) -> Result<Loaded, Unusable> {
        let url = reference.take_url().ok_or(Unusable::Url)?;
        let base = script.place.as_deref().and_then(base_of);
        let location = Location::of(&url, base.as_ref()).ok_or(Unusable::Url)?;
        drop(url);
        let root = script.root.as_deref();
        if let Location::File(_) = location
            && let Some((root, path)) = root.zip(base.as_ref().and_then(path_of))
            && let Ok(text) = root.read(&path, MAX_FILE)
            && !is_text_of(&text, reference.digest)
        {
            return Err(Unusable::Changed);
        }
        load(root, location, base, self.with_sources)
    }

    fn kept_or_noted(
        &mut self,
        file: Option<&str>,
        loaded: Result<Loaded, Unusable>,
    ) -> Option<Rc<Loaded>> {
        let loaded = loaded.and_then(|loaded| {
            match self.kept.saturating_add(loaded.map.size()) > MAX_KEPT {
                true => Err(Broken::TooLarge.into()),
                false => Ok(loaded),
            }
        });
        let file = file.unwrap_or("a script without a name");
        match loaded {
            Ok(loaded) => {
                debug!(file, bytes = loaded.map.size(), "source map");
                self.kept += loaded.map.size();
                Some(Rc::new(loaded))
            }
            Err(error) => {
                debug!(file, %error, "no source map");
                // Packages often come without the maps that their files name.
                if matches!(error, Unusable::Changed | Unusable::Broken(_)) {
                    self.notes.push(format!("{file}: {error}"));
                }
                None
            }
        }
    }

    /// `place`, or where that is from in turn, of code of `script`.
    fn follow(&mut self, script: &GeneratedScript, place: Place) -> Place {
        let mut place = place;
        let mut seen: Vec<Arc<str>> = script.place.iter().cloned().collect();
        while seen.len() <= MAX_CHAIN && !seen.contains(&place.file) {
            seen.push(place.file.clone());
            let next = self.of_original(script.root.as_deref(), &place.file);
            let found = next.and_then(|next| next.find(place.line, place.column));
            match found {
                Some(found) if !seen.contains(&found.file) => place = found,
                _ => break,
            }
        }
        place
    }

    /// The map of an original that is JavaScript itself.
    fn of_original(&mut self, root: Option<&Root>, file: &str) -> Option<Rc<Loaded>> {
        let (root, path) = (root?, Path::new(file));
        if !path.is_absolute() || !location::may_be_generated(path) {
            return None;
        }
        let identity = (Some(root.identity()), path.to_owned());
        if let Some(known) = self.chained.get(&identity) {
            return known.clone();
        }
        // None of the file's text gets any further than this.
        let text = root.read(path, MAX_FILE).unwrap_or_default();
        let text = String::from_utf8_lossy(&text);
        let base = base_of(file);
        let location = trailing_comment(&text).and_then(|url| Location::of(url, base.as_ref()));
        let loaded = location.and_then(|location| {
            let loaded = load(Some(root), location, base, self.with_sources);
            self.kept_or_noted(Some(file), loaded)
        });
        self.chained.insert(identity, loaded.clone());
        loaded
    }
}

fn load(
    root: Option<&Root>,
    location: Location,
    base: Option<Url>,
    with_sources: bool,
) -> Result<Loaded, Unusable> {
    let (json, base) = match location {
        Location::Inline(json) => (json, base),
        Location::Elsewhere => return Err(Unusable::Elsewhere),
        Location::File(path) => {
            let missing = || Unusable::Missing(io::ErrorKind::NotFound.into());
            let json = root.ok_or_else(missing)?.read(&path, MAX_FILE);
            let json = json.map_err(|error| match error.kind() {
                io::ErrorKind::FileTooLarge => Broken::TooLarge.into(),
                _ => Unusable::Missing(error),
            })?;
            (json, Url::from_file_path(&path).ok())
        }
    };
    Ok(Loaded {
        map: SourceMap::decode(&json, with_sources)?,
        base,
        sources: RefCell::default(),
        line_starts: RefCell::default(),
    })
}

/// Whether a file with these bytes is the text with this digest, as Node.js reads it.
fn is_text_of(bytes: &[u8], of_script: u64) -> bool {
    let text = String::from_utf8_lossy(bytes);
    let text = text.strip_prefix('\u{feff}').unwrap_or(&text);
    let is_it = |text: &str| digest(text.encode_utf16()) == of_script;
    // Until Node.js 12 the first line is left out if it is for a shell.
    let without_first = || text.strip_prefix("#!").and_then(|text| text.find('\n'));
    is_it(text) || without_first().is_some_and(|end| is_it(&text[2 + end..]))
}

/// A place as maps count it, from 0.
fn generated_place(position: Position, is_wrapped: bool) -> Option<(u32, u32)> {
    let line = position.line.get() - 1;
    let column = position.column?.get() - 1;
    match is_wrapped && line == 0 {
        true => Some((line, column.checked_sub(WRAPPER[0].len() as u32)?)),
        false => Some((line, column)),
    }
}

impl Loaded {
    fn find(&self, line: u32, column: u32) -> Option<Place> {
        let original = self.map.find(line, column)?;
        Some(Place {
            text: self.text(original),
            ..self.place(original)?
        })
    }

    fn find_on_line(&self, line: u32, column: u32) -> Option<Place> {
        self.place(self.map.find_on_line(line, column)?)
    }

    fn place(&self, original: map::Original) -> Option<Place> {
        let source = self.map.source(original.source)?;
        let mut sources = self.sources.borrow_mut();
        let file = sources
            .entry(original.source)
            .or_insert_with(|| location::source_name(source, self.base.as_ref()));
        Some(Place {
            file: file.clone(),
            line: original.line,
            column: original.column,
            text: None,
        })
    }

    /// What stands on the line of a place, if the map has been kept with that.
    fn text(&self, original: map::Original) -> Option<String> {
        let text = self.map.text(original.source)?;
        let mut starts = self.line_starts.borrow_mut();
        let starts = starts.entry(original.source);
        let starts = starts.or_insert_with(|| LineStarts::of(text)).as_ref()?;
        starts.line(text, original.line, original.column)
    }
}

#[cfg(test)]
mod tests;
