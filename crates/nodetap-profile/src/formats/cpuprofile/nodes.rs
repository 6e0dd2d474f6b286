//! The tree of functions, as V8's profiler describes them.

use std::collections::HashMap;

use rustc_hash::FxHashMap;
use serde::{Serialize, Serializer};

use super::url::url;
use crate::formats::functions::{Function, FunctionTree, Functions};
use crate::{Kind, Profile, StackId, ThreadId};

/// The nodes of one thread, and how often each was on top.
pub(super) struct Nodes<'a> {
    profile: &'a Profile,
    thread: Option<ThreadId>,
    functions: Functions,
    tree: FunctionTree,
    idle: u32,
    program: Option<u32>,
    idle_ticks: u64,
}

/// The id by which the file names a node.
pub(super) fn id(node: u32) -> u32 {
    // V8's begin at 1, which is the root's.
    node.saturating_add(1)
}

impl<'a> Nodes<'a> {
    /// Those of a thread, or none but `(root)` and `(idle)`.
    pub fn new(profile: &'a Profile, thread: Option<ThreadId>) -> Self {
        let mut is_wanted = vec![false; profile.stack_count()];
        for (key, _) in profile
            .counts()
            .filter(|(key, _)| Some(key.thread) == thread)
        {
            is_wanted[key.stack.index()] = true;
        }
        for stack in profile.stack_ids().rev() {
            if is_wanted[stack.index()]
                && let Some((caller, _)) = profile.caller_and_frame(stack)
                && caller != StackId::EMPTY
            {
                is_wanted[caller.index()] = true;
            }
        }
        let mut functions = Functions::new(profile);
        let is_wanted = |stack: StackId| is_wanted[stack.index()];
        let mut tree = FunctionTree::new(profile, &mut functions, is_wanted);
        let idle = tree.child(FunctionTree::ROOT, functions.statement("(idle)"));
        let program = functions.statement("(program)");
        let mut nodes = (0..).take(tree.len());
        let program = nodes.find(|&node| tree.get(node) == Some((FunctionTree::ROOT, program)));
        Self {
            profile,
            thread,
            functions,
            tree,
            idle,
            program,
            idle_ticks: 0,
        }
    }

    /// The thread did not run for so many ticks.
    pub fn add_idle(&mut self, ticks: u64) {
        self.idle_ticks += ticks;
    }

    /// The node of a stack of the thread's.
    pub fn of(&self, stack: StackId) -> u32 {
        self.tree.of(stack)
    }

    /// The node of the time in which the thread did not run.
    pub fn idle(&self) -> u32 {
        self.idle
    }

    /// The node of native code that nothing called, if there is one.
    pub fn program(&self) -> Option<u32> {
        self.program
    }

    /// How often each node was on top, and of those on which lines, in the order of nodes.
    fn ticks(&self) -> (Vec<u64>, Vec<(u32, u32, u64)>) {
        let mut hits = vec![0_u64; self.tree.len()];
        let mut lines: FxHashMap<(u32, u32), u64> = FxHashMap::default();
        for (key, count) in self.profile.counts() {
            if Some(key.thread) != self.thread {
                continue;
            }
            let node = self.tree.of(key.stack);
            hits[node as usize] += count;
            let top = self.profile.caller_and_frame(key.stack);
            let position = top.and_then(|(_, frame)| self.profile.frame(frame).position);
            if let Some(position) = position {
                *lines.entry((node, position.line.get())).or_default() += count;
            }
        }
        hits[self.idle as usize] += self.idle_ticks;
        let lines = lines.into_iter().map(|((node, line), it)| (node, line, it));
        let mut lines: Vec<(u32, u32, u64)> = lines.collect();
        lines.sort_unstable();
        (hits, lines)
    }

    /// The ids of all children, those of one node side by side, and for each node where its
    /// own begin.
    fn children(&self) -> (Vec<u32>, Vec<usize>) {
        let parent_of = |node| self.tree.get(node).map(|(parent, _)| parent as usize);
        let nodes = || 0..self.tree.len() as u32;
        let mut starts = vec![0; self.tree.len() + 1];
        for parent in nodes().filter_map(parent_of) {
            starts[parent + 1] += 1;
        }
        for node in 0..self.tree.len() {
            starts[node + 1] += starts[node];
        }
        let mut next = starts.clone();
        let mut children = vec![0; self.tree.len() - 1];
        for node in nodes() {
            if let Some(parent) = parent_of(node) {
                children[next[parent]] = id(node);
                next[parent] += 1;
            }
        }
        (children, starts)
    }

    /// For each function the number of its script, which a reader tells functions apart by;
    /// 0: none.
    fn scripts<'s>(&'s self) -> Vec<u32> {
        // Names come from the target, hence the keyed hash.
        let mut numbers: HashMap<&str, u32> = HashMap::new();
        let script = |function: &'s Function| {
            let next = numbers.len() as u32 + 1;
            let file = function.file.as_deref();
            file.map_or(0, |file| *numbers.entry(file).or_insert(next))
        };
        self.functions.as_slice().iter().map(script).collect()
    }
}

impl Serialize for Nodes<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let (hits, lines) = self.ticks();
        let (children, starts) = self.children();
        let scripts = self.scripts();
        let mut lines = lines.as_slice();
        serializer.collect_seq((0..self.tree.len() as u32).map(|node| {
            let index = node as usize;
            let (own, rest) = lines.split_at(lines.partition_point(|it| it.0 <= node));
            lines = rest;
            Node {
                id: id(node),
                call_frame: match self.tree.get(node) {
                    None => CallFrame::ROOT,
                    Some((_, function)) => {
                        CallFrame::of(self.functions.get(function), scripts[function as usize])
                    }
                },
                hit_count: hits[index],
                children: &children[starts[index]..starts[index + 1]],
                position_ticks: own
                    .iter()
                    .map(|&(_, line, ticks)| PositionTicks { line, ticks })
                    .collect(),
            }
        }))
    }
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Node<'a> {
    id: u32,
    call_frame: CallFrame<'a>,
    hit_count: u64,
    #[serde(skip_serializing_if = "<[u32]>::is_empty")]
    children: &'a [u32],
    #[serde(skip_serializing_if = "Vec::is_empty")]
    position_ticks: Vec<PositionTicks>,
}

#[derive(Serialize)]
struct PositionTicks {
    line: u32,
    ticks: u64,
}

/// A function. Lines and columns count from 0; -1 is what is not known.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct CallFrame<'a> {
    function_name: &'a str,
    #[serde(serialize_with = "as_text")]
    script_id: u32,
    url: String,
    line_number: i64,
    column_number: i64,
}

impl<'a> CallFrame<'a> {
    const ROOT: Self = Self {
        function_name: "(root)",
        script_id: 0,
        url: String::new(),
        line_number: -1,
        column_number: -1,
    };

    fn of(function: &'a Function, script: u32) -> Self {
        let number = |number: Option<u32>| number.map_or(-1, |it| i64::from(it) - 1);
        let position = function.position;
        Self {
            function_name: match (function.kind, function.name.as_str()) {
                // As V8 has it; readers have words of their own.
                (Kind::Js, "(anonymous)") => "",
                (_, name) => name,
            },
            script_id: script,
            url: function
                .file
                .as_deref()
                .map_or_else(String::new, |file| url(file, function.kind)),
            line_number: number(position.map(|at| at.line.get())),
            column_number: number(position.and_then(|at| Some(at.column?.get()))),
        }
    }
}

fn as_text<S: Serializer>(number: &u32, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(number)
}
