//! Frames as the target's memory tells them: before it is looked up where in their
//! original sources they are, and of which package.

use std::cell::RefCell;
use std::collections::HashMap;
use std::hash::{BuildHasher, Hash, Hasher};
use std::ops::Deref;
use std::rc::Rc;
use std::sync::{Arc, Mutex};

use nodetap_profile::Frame;
use nodetap_sampler::root::Root;
use nodetap_v8::source_map_url::SourceMapUrl;
use rustc_hash::FxBuildHasher;
use url::Url;

use crate::source_maps;
use crate::source_text::{ScriptText, Texts};

/// A frame with what it takes to look up its original place.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct NamedFrame {
    /// What V8 itself says.
    pub frame: Frame,
    /// The code that it runs; none of native code and what V8 brings along.
    pub code: Option<GeneratedCode>,
}

impl From<Frame> for NamedFrame {
    fn from(frame: Frame) -> NamedFrame {
        NamedFrame { frame, code: None }
    }
}

impl Deref for NamedFrame {
    type Target = Frame;

    fn deref(&self) -> &Frame {
        &self.frame
    }
}

/// A function of a script. Two are equal if their scripts are the same one: which
/// function it is, its frame says.
#[derive(Clone, Debug)]
pub struct GeneratedCode {
    /// Its script.
    pub script: Arc<GeneratedScript>,
    /// What stands around its start, where the script has a source map.
    pub text: Option<Arc<FunctionText>>,
}

impl PartialEq for GeneratedCode {
    fn eq(&self, other: &GeneratedCode) -> bool {
        Arc::ptr_eq(&self.script, &other.script)
    }
}

impl Eq for GeneratedCode {}

impl Hash for GeneratedCode {
    fn hash<H: Hasher>(&self, state: &mut H) {
        Arc::as_ptr(&self.script).hash(state);
    }
}

/// Some of a script's text around a function's start, in UTF-16 units.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FunctionText {
    /// What precedes the start.
    pub before: Vec<u16>,
    /// What begins there.
    pub after: Vec<u16>,
}

/// A script as V8 has it, and where it is from.
#[derive(Debug)]
pub struct GeneratedScript {
    /// Its path or URL, as frames show it.
    pub file: Option<Arc<str>>,
    /// Its path, or its URL where it is no file.
    pub place: Option<Arc<str>>,
    /// The file system of its process.
    pub root: Option<Arc<Root>>,
    /// Its source map, if it names one.
    pub map: Option<MapReference>,
    /// Its text, if that is kept.
    pub text: Option<Arc<ScriptText>>,
}

/// What a script says of its source map.
#[derive(Debug)]
pub struct MapReference {
    /// The URL, until somebody takes it: a long one is the map.
    url: Mutex<Option<String>>,
    /// What tells it from others.
    hash: u64,
    /// The text's digest, without `Module.wrapper`.
    pub digest: u64,
    /// Whether the text begins with that.
    pub is_wrapped: bool,
}

impl MapReference {
    /// The URL, for the one who loads the map; later it is gone.
    pub fn take_url(&self) -> Option<String> {
        self.url.lock().ok()?.take()
    }

    /// What tells it from other scripts' ones: hardly any two have it in common.
    pub fn identity(&self) -> (u64, u64) {
        (self.hash, self.digest)
    }
}

/// What V8 calls a script, which map it names, and its text.
type Key = (
    Option<String>,
    Option<(u64, u64)>,
    Option<*const ScriptText>,
);

/// The scripts of a process, each kept once: as often as the collector moves it, and in
/// as many threads as it runs in.
#[derive(Debug, Default)]
pub struct Scripts {
    root: Option<Arc<Root>>,
    /// Whether source maps are wanted.
    with_maps: bool,
    /// Those of all processes, where they are wanted.
    texts: Option<Rc<RefCell<Texts>>>,
    known: HashMap<Key, Arc<GeneratedScript>>,
}

impl Scripts {
    /// None yet, of a process with these files.
    pub fn new(root: Option<Arc<Root>>, with_maps: bool) -> Scripts {
        Scripts {
            root,
            with_maps,
            ..Scripts::default()
        }
    }

    /// The same, with their texts kept among these.
    pub fn with_texts(self, texts: Option<Rc<RefCell<Texts>>>) -> Scripts {
        Scripts { texts, ..self }
    }

    /// Whether anybody wants to see the scripts' texts.
    pub fn keeps_texts(&self) -> bool {
        self.texts.is_some()
    }

    /// The one that V8 calls `name`, if it has one, that names this source map and has this
    /// text.
    pub fn get(
        &mut self,
        name: &str,
        map: Option<SourceMapUrl>,
        text: Option<ScriptText>,
    ) -> Arc<GeneratedScript> {
        let text = self.texts.as_ref().zip(text);
        let text = text.and_then(|(texts, text)| texts.borrow_mut().keep(text));
        let name = Some(name).filter(|name| !name.is_empty());
        let map = map.filter(|_| self.with_maps);
        let map = map.map(|map| MapReference {
            hash: FxBuildHasher.hash_one(&map.url),
            url: Mutex::new(Some(map.url)),
            digest: map.digest,
            is_wrapped: map.is_wrapped,
        });
        let key = (
            name.map(str::to_owned),
            map.as_ref().map(MapReference::identity),
            text.as_ref().map(Arc::as_ptr),
        );
        if let Some(known) = self.known.get(&key) {
            return known.clone();
        }
        let file = name.map(|name| name.strip_prefix("file://").unwrap_or(name).into());
        // An URL has escapes in it.
        let path = name.and_then(|name| source_maps::path_of(&Url::parse(name).ok()?));
        let path = path.map(|path| path.to_string_lossy().into());
        let script = Arc::new(GeneratedScript {
            place: path.or_else(|| file.clone()),
            file,
            root: self.root.clone(),
            map,
            text,
        });
        self.known.insert(key, script.clone());
        script
    }
}

/// A distinct frame of [`NamedFrames`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct NamedId(u32);

impl NamedId {
    /// Its index: they are numbered from 0 on.
    pub fn index(self) -> usize {
        self.0 as usize
    }
}

/// The distinct frames, each kept once.
#[derive(Debug, Default)]
pub struct NamedFrames {
    frames: Vec<Rc<NamedFrame>>,
    /// The names are the target's: with a keyed hash it cannot choose slow ones.
    ids: HashMap<Rc<NamedFrame>, NamedId>,
}

impl NamedFrames {
    /// The id of this frame.
    pub fn intern(&mut self, frame: NamedFrame) -> NamedId {
        if let Some(&id) = self.ids.get(&frame) {
            return id;
        }
        let id = NamedId(u32::try_from(self.frames.len()).expect("fewer frames than 2^32"));
        let frame = Rc::new(frame);
        self.frames.push(frame.clone());
        self.ids.insert(frame, id);
        id
    }

    /// The frame with this id.
    pub fn get(&self, id: NamedId) -> &NamedFrame {
        &self.frames[id.index()]
    }
}

#[cfg(test)]
mod tests {
    use nodetap_profile::Kind;

    use super::*;

    fn url(url: &str, digest: u64) -> Option<SourceMapUrl> {
        Some(SourceMapUrl {
            url: url.to_owned(),
            is_wrapped: false,
            digest,
        })
    }

    #[test]
    fn a_script_is_the_same_wherever_it_was_read() {
        let mut scripts = Scripts::new(None, true);
        let one = scripts.get("/a.js", url("a.js.map", 1), None);
        let map = one.map.as_ref().expect("a map");
        assert_eq!(map.take_url().as_deref(), Some("a.js.map"));
        let again = scripts.get("/a.js", url("a.js.map", 1), None);
        assert!(Arc::ptr_eq(&one, &again));
        assert_eq!(map.take_url(), None);
        for other in [
            scripts.get("/a.js", url("a.js.map", 2), None),
            scripts.get("/a.js", url("b.js.map", 1), None),
            scripts.get("/a.js", None, None),
            scripts.get("", url("a.js.map", 1), None),
        ] {
            assert!(!Arc::ptr_eq(&one, &other));
        }
        let unmapped = Scripts::new(None, false).get("/a.js", url("a.js.map", 1), None);
        assert!(unmapped.map.is_none());
    }

    #[test]
    fn a_module_s_name_is_a_url() {
        let mut scripts = Scripts::new(None, true);
        let place = |name: &str| {
            let script = scripts.get(name, None, None);
            [&script.file, &script.place].map(|it| it.as_deref().map(str::to_owned))
        };
        let mut place = place;
        let both = |file: &str, place: &str| [Some(file.to_owned()), Some(place.to_owned())];
        assert_eq!(place("/a b/c%20.js"), both("/a b/c%20.js", "/a b/c%20.js"));
        assert_eq!(
            place("file:///a%20b/c.js?1"),
            both("/a%20b/c.js?1", "/a b/c.js")
        );
        assert_eq!(place("node:fs"), both("node:fs", "node:fs"));
        assert_eq!(place(""), [None, None]);
    }

    #[test]
    fn frames_of_different_scripts_are_different() {
        let mut scripts = Scripts::new(None, true);
        let mut frames = NamedFrames::default();
        let mut frame = |digest| {
            let script = scripts.get("", url("a.js.map", digest), None);
            let code = Some(GeneratedCode { script, text: None });
            let frame = Frame::new(Kind::Js, "f");
            frames.intern(NamedFrame { frame, code })
        };
        assert_eq!(frame(1), frame(1));
        assert_ne!(frame(1), frame(2));
    }
}
