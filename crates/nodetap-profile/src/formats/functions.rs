//! The functions of a profile, for the formats that list them and have stacks name them.
//!
//! A frame is a function at a place, in a tier. Here all frames of one function are one:
//! those of the same kind, name, file and start. Names are safe to show
//! ([`function_name`], [`file_name`]).

use std::collections::HashMap;

use crate::label::{file_name, function_name};
use crate::prefixes::Prefixes;
use crate::{FrameId, Kind, Position, Profile, StackId};

/// What stands for a stack without frames.
pub(super) const NO_FRAMES: &str = "(no frames)";

/// A function, or a statement of what went on.
#[derive(Debug)]
pub(super) struct Function {
    pub kind: Kind,
    /// Never empty; safe to show.
    pub name: String,
    /// The script's path or URL, or the module's path; safe to show.
    pub file: Option<String>,
    /// Where in the file it starts.
    pub position: Option<Position>,
}

/// The distinct functions, numbered in the order of their first frames.
pub(super) struct Functions {
    functions: Vec<Function>,
    of_frame: Vec<u32>,
}

impl Functions {
    /// Those of all frames.
    pub fn new(profile: &Profile) -> Self {
        let mut functions = Vec::new();
        // Names come from the target, hence the keyed hash.
        let mut ids = HashMap::new();
        let mut of_frame = Vec::with_capacity(profile.frames().len());
        for frame in profile.frames() {
            let file = frame.file.as_deref().filter(|file| !file.is_empty());
            let position = frame.function_position;
            let key = (frame.kind, &*frame.function, file, position);
            let next = number(functions.len());
            let id = *ids.entry(key).or_insert(next);
            if id == next {
                functions.push(Function {
                    kind: frame.kind,
                    name: function_name(frame),
                    file: file.map(file_name),
                    position,
                });
            }
            of_frame.push(id);
        }
        Self {
            functions,
            of_frame,
        }
    }

    /// The number of a frame's function.
    pub fn of(&self, frame: FrameId) -> u32 {
        self.of_frame[frame.index()]
    }

    /// The number of a statement, which is added if no frame makes it.
    pub fn statement(&mut self, statement: &str) -> u32 {
        let is_it =
            |it: &Function| it.kind == Kind::Pseudo && it.file.is_none() && it.name == statement;
        let known = self.functions.iter().position(is_it);
        number(known.unwrap_or_else(|| {
            self.functions.push(Function {
                kind: Kind::Pseudo,
                name: statement.into(),
                file: None,
                position: None,
            });
            self.functions.len() - 1
        }))
    }

    /// All of them.
    pub fn as_slice(&self) -> &[Function] {
        &self.functions
    }

    /// The one with this number.
    pub fn get(&self, function: u32) -> &Function {
        &self.functions[function as usize]
    }
}

/// The stacks as a tree of functions: what called what, wherever in a function and in
/// whatever tier. A parent's number is below its children's.
pub(super) struct FunctionTree {
    /// Of functions.
    nodes: Prefixes,
    of_stack: Vec<u32>,
}

impl FunctionTree {
    /// The node above all others, which stands for no function.
    pub const ROOT: u32 = Prefixes::ROOT;

    /// That of the stacks of which `is_wanted` is true. If one is, those that it goes on
    /// from have to be.
    pub fn new(
        profile: &Profile,
        functions: &mut Functions,
        is_wanted: impl Fn(StackId) -> bool,
    ) -> Self {
        let mut tree = Self {
            nodes: Prefixes::default(),
            of_stack: vec![Self::ROOT; profile.stack_count()],
        };
        for stack in profile.stack_ids().filter(|&stack| is_wanted(stack)) {
            if let Some((caller, frame)) = profile.caller_and_frame(stack) {
                let parent = tree.of_stack[caller.index()];
                let node = tree.child(parent, functions.of(frame));
                tree.of_stack[stack.index()] = node;
            }
        }
        if is_wanted(StackId::EMPTY) && profile.counts().any(|(it, _)| it.stack == StackId::EMPTY) {
            let statement = functions.statement(NO_FRAMES);
            tree.of_stack[StackId::EMPTY.index()] = tree.child(Self::ROOT, statement);
        }
        tree
    }

    /// The node for a function called by another node, which is added if it is not there.
    pub fn child(&mut self, parent: u32, function: u32) -> u32 {
        self.nodes.child(parent, function)
    }

    /// The node of a stack.
    pub fn of(&self, stack: StackId) -> u32 {
        self.of_stack[stack.index()]
    }

    /// How many nodes there are, the root included.
    pub fn len(&self) -> usize {
        self.nodes.len()
    }

    /// Its parent and its function; none of the root.
    pub fn get(&self, node: u32) -> Option<(u32, u32)> {
        self.nodes.get(node)
    }
}

fn number(index: usize) -> u32 {
    u32::try_from(index).expect("no more than frames or stacks, which have ids of 32 bits")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{add, empty, hostile, js, small};
    use crate::{Frame, Tier};

    #[test]
    fn frames_of_one_function_are_one() {
        let profile = small();
        let functions = Functions::new(&profile);
        let names: Vec<(&str, u32)> = functions
            .as_slice()
            .iter()
            .map(|it| (it.name.as_str(), it.position.map_or(0, |at| at.line.get())))
            .collect();
        assert_eq!(
            names,
            [
                ("main", 1),
                ("work", 3),
                ("malloc", 0),
                ("f", 1),
                ("f", 10),
                ("(garbage collector)", 0)
            ]
        );
        let work = profile.frames().iter().zip(0..);
        let work: Vec<u32> = work
            .filter(|(frame, _)| &*frame.function == "work")
            .map(|(_, id)| functions.of(profile.frame_id(id).unwrap()))
            .collect();
        assert_eq!(work, [1, 1]);
    }

    #[test]
    fn a_statement_is_there_once() {
        let mut functions = Functions::new(&small());
        assert_eq!(functions.statement("(garbage collector)"), 5);
        assert_eq!(functions.statement("(idle)"), 6);
        assert_eq!(functions.statement("(idle)"), 6);
        // A function of that name is another matter.
        assert_eq!(functions.statement("main"), 7);
    }

    #[test]
    fn stacks_that_differ_in_positions_alone_are_one_node() {
        let profile = small();
        let mut functions = Functions::new(&profile);
        let tree = FunctionTree::new(&profile, &mut functions, |_| true);
        let mut path_of = |stack| {
            let mut names = Vec::new();
            let mut node = tree.of(stack);
            while let Some((parent, function)) = tree.get(node) {
                names.push(functions.get(function).name.clone());
                node = parent;
            }
            names.join(" < ")
        };
        let paths: Vec<String> = profile.stack_ids().map(&mut path_of).collect();
        assert_eq!(
            paths,
            [
                "(no frames)",
                "main",
                "work < main",
                "work < main",
                "malloc < work < main",
                "f",
                "f",
                "(garbage collector) < f"
            ]
        );
        assert_eq!(tree.len(), 8);
    }

    #[test]
    fn recursion_is_a_chain() {
        let (mut profile, thread) = empty();
        let frames = vec![js("f", 1, Tier::Optimized); 3];
        add(&mut profile, thread, &frames, 1);
        let mut functions = Functions::new(&profile);
        let tree = FunctionTree::new(&profile, &mut functions, |_| true);
        assert_eq!(functions.as_slice().len(), 1);
        assert_eq!(tree.len(), 4);
    }

    #[test]
    fn names_are_safe_to_show() {
        for function in Functions::new(&hostile()).as_slice() {
            let file = function.file.as_deref().unwrap_or("-");
            for name in [function.name.as_str(), file] {
                assert!(!name.is_empty());
                assert!(!name.chars().any(char::is_control), "{name:?}");
            }
            assert!(function.name.chars().count() <= 500);
            assert!(file.chars().count() <= 4096);
        }
        let (mut profile, thread) = empty();
        add(&mut profile, thread, &[Frame::new(Kind::Js, "")], 1);
        assert_eq!(Functions::new(&profile).as_slice()[0].name, "(anonymous)");
    }
}
