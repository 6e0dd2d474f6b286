//! What of one recording is what of another, where it is called otherwise.
//!
//! What has the same label is the same, but for functions of a file that was changed: their
//! lines have moved. Those that have a name of their own in their file, in both recordings,
//! tell how far. The others (`(anonymous)` most of all) are the same where their lines are,
//! moved as far as those of the next such function before or after them. What that does not
//! tell is not the same: it is gone in one and new in the other.
//!
//! A file of a package is known by its path in the package, and a package by its name:
//! another version of it may lie elsewhere.

use std::collections::{BTreeMap, HashMap};

use crate::by::By;
use crate::{Frame, Profile, frame_label};

/// For the labels of the first recording that stand for something that is called otherwise
/// in the second one: what it is there.
pub(super) fn counterparts(before: &Profile, after: &Profile, by: By) -> HashMap<String, Frame> {
    let (before, after) = (rows(before, by), rows(after, by));
    match by {
        By::Function => of_functions(&before, &after),
        // A line's text may be another one now.
        By::Line => HashMap::new(),
        By::File => alone(&before, &after, |frame| in_package(frame, &frame.function)),
        By::Package => alone(&before, &after, |frame| {
            let package = frame.package.as_ref()?;
            Some(package.name.to_string())
        }),
    }
}

/// The rows of a recording, by their labels.
fn rows(profile: &Profile, by: By) -> BTreeMap<String, Frame> {
    let rows = profile.frames().iter().map(|frame| by.row(frame));
    rows.map(|row| (frame_label(&row), row)).collect()
}

/// Pairs what has the same key, and no other has it.
fn alone(
    before: &BTreeMap<String, Frame>,
    after: &BTreeMap<String, Frame>,
    key: impl Fn(&Frame) -> Option<String>,
) -> HashMap<String, Frame> {
    let keyed = |rows: &BTreeMap<String, Frame>| {
        let mut keyed: HashMap<String, Vec<(String, Frame)>> = HashMap::new();
        for (label, frame) in rows {
            if let Some(key) = key(frame) {
                keyed
                    .entry(key)
                    .or_default()
                    .push((label.clone(), frame.clone()));
            }
        }
        keyed
    };
    let after = keyed(after);
    let mut counterparts = HashMap::new();
    for (key, befores) in keyed(before) {
        if let ([(old, _)], Some([(new, frame)])) =
            (&befores[..], after.get(&key).map(|it| &it[..]))
            && old != new
        {
            counterparts.insert(old.clone(), frame.clone());
        }
    }
    counterparts
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
) -> HashMap<String, Frame> {
    let mut files: HashMap<String, HashMap<&str, Namesakes<'_>>> = HashMap::new();
    let line = |frame: &Frame| frame.function_position.map(|position| position.line.get());
    let file = |frame: &Frame| {
        let path = frame.file.as_deref()?;
        Some(in_package(frame, path).unwrap_or_else(|| path.to_owned()))
    };
    for (label, frame) in before {
        if let Some(file) = file(frame) {
            let namesakes = files.entry(file).or_default();
            let namesakes = namesakes.entry(&frame.function).or_default();
            namesakes.before.insert(line(frame), (label, frame));
        }
    }
    for frame in after.values() {
        if let Some(file) = file(frame)
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
