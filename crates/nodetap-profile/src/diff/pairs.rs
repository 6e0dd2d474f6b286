//! What of one recording is what of another, where it is called otherwise.
//!
//! What has the same label is the same, but for functions of a file that was changed: their
//! lines have moved. Those that have a name of their own in their file, in both recordings,
//! tell how far. The others (`(anonymous)` most of all) are the same where their lines are,
//! moved as far as those of the next such function before or after them. What that does not
//! tell is not the same: it is gone in one and new in the other.
//!
//! A file of a package is known by its path in the package, and a package by its name:
//! another version of it may lie elsewhere. Where none of the program's own files is in both
//! recordings, it may be that it lies elsewhere as a whole.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use crate::by::By;
use crate::{Frame, Kind, Origin, Profile, frame_label};

/// For the labels of the first recording that stand for something that is called otherwise
/// in the second one: what it is there.
pub(super) fn counterparts(before: &Profile, after: &Profile, by: By) -> HashMap<String, Frame> {
    let files = Files::new(before, after);
    let (before, after) = (rows(before, by), rows(after, by));
    let mut counterparts = match by {
        By::Function => of_functions(&before, &after, &files),
        // The text of a line that moved may be another one now.
        By::Line => alone(&before, &after, |side, frame| {
            let file = files.key(side, frame, frame.file.as_deref()?);
            let line = frame.function_position.map(|position| position.line);
            Some(format!("{file}\0{}\0{line:?}", frame.function))
        }),
        By::File => alone(&before, &after, |side, frame| {
            Some(files.key(side, frame, &frame.function))
        }),
        By::Package => alone(&before, &after, |_, frame| {
            let package = frame.package.as_ref()?;
            Some(format!("{:?} {}", frame.kind, package.name))
        }),
    };
    // What is called so in both is the same, and nothing else is.
    let taken: Vec<String> = counterparts
        .iter()
        .filter(|(old, frame)| {
            let new = frame_label(frame);
            let stays = |frame: Option<&Frame>| frame.is_none_or(|it| frame_label(it) == new);
            **old != new && before.contains_key(&new) && stays(counterparts.get(&new))
        })
        .map(|(old, _)| old.clone())
        .collect();
    for old in taken {
        counterparts.remove(&old);
    }
    counterparts
}

/// The rows of a recording, by their labels.
fn rows(profile: &Profile, by: By) -> BTreeMap<String, Frame> {
    let rows = profile.frames().iter().map(|frame| by.row(frame));
    rows.map(|row| (frame_label(&row), row)).collect()
}

/// One of the two recordings.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Which {
    Before,
    After,
}

/// Pairs what has the same key, if no other has it.
fn alone(
    before: &BTreeMap<String, Frame>,
    after: &BTreeMap<String, Frame>,
    key: impl Fn(Which, &Frame) -> Option<String>,
) -> HashMap<String, Frame> {
    let keyed = |which, rows: &BTreeMap<String, Frame>| {
        let mut keyed: HashMap<String, Vec<(String, Frame)>> = HashMap::new();
        for (label, frame) in rows {
            if let Some(key) = key(which, frame) {
                let row = (label.clone(), frame.clone());
                keyed.entry(key).or_default().push(row);
            }
        }
        keyed
    };
    let after = keyed(Which::After, after);
    let mut counterparts = HashMap::new();
    for (key, olds) in keyed(Which::Before, before) {
        if let ([(old, _)], Some([(_, new)])) = (&olds[..], after.get(&key).map(|it| &it[..])) {
            counterparts.insert(old.clone(), new.clone());
        }
    }
    counterparts
}

/// Which files are the same.
struct Files {
    /// Where the program itself was, in the first recording and in the second one, if it has
    /// moved: releases often have a folder each.
    moved: Option<[String; 2]>,
}

impl Files {
    fn new(before: &Profile, after: &Profile) -> Self {
        Self {
            moved: moved(&own_files(before), &own_files(after)),
        }
    }

    /// What a file of one of the recordings is known by.
    fn key(&self, which: Which, frame: &Frame, path: &str) -> String {
        if let Some(path) = in_package(frame, path) {
            return path;
        }
        match (&self.moved, which) {
            (Some([from, to]), Which::Before) => match path.strip_prefix(from.as_str()) {
                Some(rest) => format!("{to}{rest}"),
                None => path.to_owned(),
            },
            _ => path.to_owned(),
        }
    }
}

/// The paths of the program's own scripts.
fn own_files(profile: &Profile) -> BTreeSet<&str> {
    let own = profile
        .frames()
        .iter()
        .filter(|frame| matches!(frame.kind, Kind::Js) && Origin::of(frame) == Origin::Own);
    own.filter_map(|frame| frame.file.as_deref())
        .filter(|file| file.starts_with('/'))
        .collect()
}

/// From where to where all has moved: the folders, with a `/` at their ends, below which most
/// files of both are the same. Not where any has stayed.
fn moved(before: &BTreeSet<&str>, after: &BTreeSet<&str>) -> Option<[String; 2]> {
    if before.intersection(after).next().is_some() {
        return None;
    }
    let name = |path: &str| path.rsplit('/').next().map(str::to_owned);
    let mut by_name: HashMap<Option<String>, Vec<&str>> = HashMap::new();
    for path in after {
        by_name.entry(name(path)).or_default().push(path);
    }
    // For each pair of folders the files that speak for it.
    let mut files: BTreeMap<[&str; 2], BTreeSet<&str>> = BTreeMap::new();
    for old in before {
        for new in by_name.get(&name(old)).into_iter().flatten() {
            files.entry(unlike(old, new)).or_default().insert(old);
        }
    }
    let (folders, files) = files.into_iter().max_by_key(|(_, files)| files.len())?;
    (2 * files.len() > before.len()).then(|| folders.map(str::to_owned))
}

/// What comes before the folders and the name that two paths have in common at their ends.
fn unlike<'a>(one: &'a str, other: &'a str) -> [&'a str; 2] {
    let same = one.rsplit('/').zip(other.rsplit('/'));
    let same = same.take_while(|(one, other)| one == other);
    let bytes = same.map(|(part, _)| part.len() + 1).sum::<usize>();
    [one, other].map(|path| &path[..(path.len() + 1).saturating_sub(bytes)])
}

/// A path within its package: `@scope/name/lib/x.js`, where it is of one that was installed.
fn in_package(frame: &Frame, path: &str) -> Option<String> {
    let package = frame.package.as_ref().filter(|it| it.is_dependency)?;
    let folder = format!("node_modules/{}/", package.name);
    let start = path.rfind(&folder)? + folder.len();
    Some(format!("{}/{}", package.name, &path[start..]))
}

/// Functions of one name in one file.
#[derive(Default)]
struct Namesakes<'a> {
    /// The lines where they start, and what they are called; `None`: not known.
    before: BTreeMap<Option<u32>, (&'a str, &'a Frame)>,
    after: BTreeMap<Option<u32>, &'a Frame>,
}

fn of_functions(
    before: &BTreeMap<String, Frame>,
    after: &BTreeMap<String, Frame>,
    known: &Files,
) -> HashMap<String, Frame> {
    let mut files: HashMap<String, HashMap<&str, Namesakes<'_>>> = HashMap::new();
    let line = |frame: &Frame| frame.function_position.map(|position| position.line.get());
    let file = |which, frame: &Frame| {
        let path = frame.file.as_deref()?;
        Some(known.key(which, frame, path))
    };
    for (label, frame) in before {
        if let Some(file) = file(Which::Before, frame) {
            let namesakes = files.entry(file).or_default();
            let namesakes = namesakes.entry(&frame.function).or_default();
            namesakes.before.insert(line(frame), (label, frame));
        }
    }
    for frame in after.values() {
        if let Some(file) = file(Which::After, frame)
            && let Some(namesakes) = files.get_mut(&file)
            && let Some(namesakes) = namesakes.get_mut(&*frame.function)
        {
            namesakes.after.insert(line(frame), frame);
        }
    }
    let mut counterparts = HashMap::new();
    for functions in files.values() {
        // Of those with a name of their own, the lines in both.
        let mut moved: BTreeMap<u32, u32> = BTreeMap::new();
        for (name, namesakes) in functions {
            if let Some([old, new]) = namesakes.of_own_name(name) {
                counterparts.insert(frame_label(old.1), new.1.clone());
                if let (Some(old), Some(new)) = (old.0, new.0) {
                    moved.insert(old, new);
                }
            }
        }
        for (name, namesakes) in functions {
            if namesakes.of_own_name(name).is_none() {
                namesakes.pair_by_lines(&moved, &mut counterparts);
            }
        }
    }
    counterparts
}

impl<'a> Namesakes<'a> {
    /// The function in both, if it is the only one of its name, and has a name.
    fn of_own_name(&self, name: &str) -> Option<[(Option<u32>, &'a Frame); 2]> {
        if self.before.len() != 1 || self.after.len() != 1 || is_anonymous(name) {
            return None;
        }
        let (&line, &(_, frame)) = self.before.first_key_value()?;
        let (&line_after, &frame_after) = self.after.first_key_value()?;
        Some([(line, frame), (line_after, frame_after)])
    }

    /// Pairs those whose lines have moved as far as the lines around them have.
    fn pair_by_lines(&self, moved: &BTreeMap<u32, u32>, counterparts: &mut HashMap<String, Frame>) {
        let mut left = self.after.clone();
        for (&line, &(label, frame)) in &self.before {
            let moved_by = |(&old, &new): (&u32, &u32)| {
                let far = i64::from(new) - i64::from(old);
                line.and_then(|line| u32::try_from(i64::from(line) + far).ok())
            };
            let around = line.map_or([None; 2], |line| {
                let (mut before, mut after) = (moved.range(..=line), moved.range(line..));
                [before.next_back(), after.next()].map(|it| it.map(moved_by))
            });
            let places = match around {
                [None, None] => [Some(line), None],
                around => around,
            };
            let place = places
                .into_iter()
                .flatten()
                .find(|it| left.contains_key(it));
            let counterpart = match place.and_then(|place| left.remove(&place)) {
                Some(frame) => frame.clone(),
                // What is there now is something else.
                None if self.after.contains_key(&line) => Frame {
                    function: format!("{} (before)", frame.function).into(),
                    ..frame.clone()
                },
                None => continue,
            };
            counterparts.insert(label.to_owned(), counterpart);
        }
    }
}

/// Whether a name says nothing of which function it is.
fn is_anonymous(name: &str) -> bool {
    name.is_empty() || name.starts_with('(')
}
