//! All samples so far, added up: a tree of calls for each thread, each node of which knows
//! how often it was on top since the start and in the last second.
//!
//! Its memory grows with what is distinct, up to a limit: then what was seen least is put
//! together.

mod calls;

use std::collections::HashMap;

use nodetap_profile::{Frame, Origin, Profile, frame_label, visible};
use rustc_hash::FxHashMap;

pub use calls::{Call, Calls};

/// How many nodes there may be.
const MAX_NODES: usize = 200_000;
/// What stands for calls that were seen so seldom that they are not told apart.
const RARE: &str = "(rarely seen)";
/// The function of a thread's root, and the parent of that.
const NONE: u32 = u32::MAX;

/// How often something was met.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Count {
    /// In the last second.
    pub recent: u64,
    /// Since the start.
    pub all: u64,
}

impl std::ops::AddAssign for Count {
    fn add_assign(&mut self, other: Count) {
        self.recent += other.recent;
        self.all += other.all;
    }
}

/// A function, or what else frames stand for that read alike.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Function {
    /// Its name, safe to print.
    pub name: String,
    /// Its script and line, or its module; empty where neither is known.
    pub place: String,
    /// Whose code it is.
    pub origin: Origin,
    /// The number of its package.
    pub package: u32,
}

/// What functions are of: a package, Node.js, the garbage collector.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Package {
    /// `name@version`, or what else it is called.
    pub name: String,
    /// Whose code that is.
    pub origin: Origin,
}

/// A thread.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Thread {
    /// Its process.
    pub pid: u32,
    /// Its number.
    pub tid: u32,
    /// Its name, safe to print.
    pub name: String,
    root: u32,
}

/// How often a function or package was on top, and how often it was anywhere on a stack.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// On top.
    pub own: Count,
    /// Anywhere, once a stack.
    pub total: Count,
}

#[derive(Clone, Copy, Debug)]
struct Node {
    parent: u32,
    function: u32,
    /// No caller is the same function.
    outermost: bool,
    /// No caller is of the same package.
    outermost_of_package: bool,
    /// When `recent` was counted.
    tick: u32,
    recent: u64,
    all: u64,
}

/// All of it.
#[derive(Clone, Debug, Default)]
pub struct Tally {
    functions: Vec<Function>,
    function_ids: HashMap<(String, String), u32>,
    packages: Vec<Package>,
    package_ids: HashMap<String, u32>,
    /// The function of each of the profile's frames, as far as it was asked for.
    of_frames: Vec<Option<u32>>,
    /// Callers stand before those they call.
    nodes: Vec<Node>,
    node_ids: FxHashMap<(u32, u32), u32>,
    threads: Vec<Thread>,
    tick: u32,
    /// How often functions have been numbered anew.
    generation: u32,
    max_nodes: Option<usize>,
}

impl Tally {
    /// Adds the samples of `profile`, which are those of the last second.
    pub fn add(&mut self, profile: &Profile) {
        self.tick += 1;
        for thread in &profile.threads()[self.threads.len()..] {
            let root = self.push_node(NONE, NONE);
            self.threads.push(Thread {
                pid: thread.pid,
                tid: thread.tid,
                name: visible(&thread.name),
                root,
            });
        }
        let mut functions = Vec::new();
        for (key, count) in profile.counts() {
            functions.clear();
            for frame in profile.stack_frames(key.stack) {
                functions.push(self.of_frame(profile, frame.index()));
            }
            if functions.is_empty() {
                functions.push(self.pseudo("(no frames)"));
            }
            let mut node = self.threads[key.thread.index()].root;
            for &function in functions.iter().rev() {
                node = self.child(node, function);
            }
            self.count(node, count, count);
        }
        if self.nodes.len() > self.max_nodes.unwrap_or(MAX_NODES) {
            self.put_rare_together();
        }
    }

    fn count(&mut self, node: u32, recent: u64, all: u64) {
        let node = &mut self.nodes[node as usize];
        if node.tick != self.tick {
            node.tick = self.tick;
            node.recent = 0;
        }
        node.recent += recent;
        node.all += all;
    }

    /// The function of the frame with this number.
    fn of_frame(&mut self, profile: &Profile, frame: usize) -> u32 {
        if self.of_frames.len() <= frame {
            self.of_frames.resize(profile.frames().len(), None);
        }
        if let Some(function) = self.of_frames[frame] {
            return function;
        }
        let function = self.function(&profile.frames()[frame]);
        self.of_frames[frame] = Some(function);
        function
    }

    fn function(&mut self, frame: &Frame) -> u32 {
        let label = frame_label(frame);
        let nowhere = Frame {
            file: None,
            ..frame.clone()
        };
        let name = frame_label(&nowhere);
        let place = label.get(name.len() + 1..).unwrap_or_default().to_owned();
        let origin = Origin::of(frame);
        let package = match (&frame.package, origin) {
            (Some(package), Origin::Dependency) => visible(&package.label()),
            _ => origin.name().to_owned(),
        };
        self.intern(name, place, origin, package)
    }

    fn pseudo(&mut self, name: &str) -> u32 {
        let package = Origin::Unknown.name().to_owned();
        self.intern(name.to_owned(), String::new(), Origin::Unknown, package)
    }

    fn intern(&mut self, name: String, place: String, origin: Origin, package: String) -> u32 {
        let key = (name, place);
        if let Some(&known) = self.function_ids.get(&key) {
            return known;
        }
        let package = match self.package_ids.get(&package) {
            Some(&known) => known,
            None => {
                let id = self.packages.len() as u32;
                self.package_ids.insert(package.clone(), id);
                self.packages.push(Package {
                    name: package,
                    origin,
                });
                id
            }
        };
        let id = self.functions.len() as u32;
        self.functions.push(Function {
            name: key.0.clone(),
            place: key.1.clone(),
            origin,
            package,
        });
        self.function_ids.insert(key, id);
        id
    }

    fn child(&mut self, parent: u32, function: u32) -> u32 {
        match self.node_ids.get(&(parent, function)) {
            Some(&known) => known,
            None => self.push_node(parent, function),
        }
    }

    fn push_node(&mut self, parent: u32, function: u32) -> u32 {
        let (mut outermost, mut outermost_of_package) = (true, true);
        let mut caller = parent;
        while function != NONE && caller != NONE && (outermost || outermost_of_package) {
            let node = &self.nodes[caller as usize];
            if let Some(above) = self.functions.get(node.function as usize) {
                outermost &= node.function != function;
                let package = self.functions[function as usize].package;
                outermost_of_package &= above.package != package;
            }
            caller = node.parent;
        }
        let id = self.nodes.len() as u32;
        self.nodes.push(Node {
            parent,
            function,
            outermost,
            outermost_of_package,
            tick: 0,
            recent: 0,
            all: 0,
        });
        if function != NONE {
            self.node_ids.insert((parent, function), id);
        }
        id
    }

    /// Numbers everything anew, with half as many nodes at most: calls that were seen least
    /// become one below their caller.
    fn put_rare_together(&mut self) {
        let totals = self.totals();
        let room = self.max_nodes.unwrap_or(MAX_NODES) / 2;
        let mut least = 1;
        while totals.iter().filter(|total| total.all > least).count() > room {
            least *= 2;
        }
        let old = std::mem::take(self);
        self.tick = old.tick;
        self.generation = old.generation + 1;
        self.max_nodes = old.max_nodes;
        let rare = self.pseudo(RARE);
        // What each node is now.
        let mut places: Vec<u32> = Vec::with_capacity(old.nodes.len());
        for (node, total) in old.nodes.iter().zip(&totals) {
            let place = if node.function == NONE {
                self.push_node(NONE, NONE)
            } else {
                let parent = places[node.parent as usize];
                let is_below_rare = self.nodes[parent as usize].function == rare;
                if is_below_rare {
                    parent
                } else if total.all <= least {
                    self.child(parent, rare)
                } else {
                    let Function {
                        name,
                        place,
                        origin,
                        package,
                    } = old.functions[node.function as usize].clone();
                    let package = old.packages[package as usize].name.clone();
                    let function = self.intern(name, place, origin, package);
                    self.child(parent, function)
                }
            };
            places.push(place);
            self.count(place, old.recent(node), node.all);
        }
        self.threads = old.threads;
        for thread in &mut self.threads {
            thread.root = places[thread.root as usize];
        }
    }

    fn recent(&self, node: &Node) -> u64 {
        match node.tick == self.tick {
            true => node.recent,
            false => 0,
        }
    }

    /// How often each node was on top or called what was.
    fn totals(&self) -> Vec<Count> {
        let mut totals: Vec<Count> = self
            .nodes
            .iter()
            .map(|node| Count {
                recent: self.recent(node),
                all: node.all,
            })
            .collect();
        for index in (0..self.nodes.len()).rev() {
            let parent = self.nodes[index].parent;
            if parent != NONE {
                let count = totals[index];
                totals[parent as usize] += count;
            }
        }
        totals
    }

    /// All functions, by their numbers.
    pub fn functions(&self) -> &[Function] {
        &self.functions
    }

    /// All packages, by their numbers.
    pub fn packages(&self) -> &[Package] {
        &self.packages
    }

    /// A number that changes when functions are numbered anew.
    pub fn generation(&self) -> u32 {
        self.generation
    }

    /// The use of each function.
    pub fn by_function(&self) -> Vec<Usage> {
        let number_of = |node: &Node| node.function;
        self.by(self.functions.len(), number_of, |node| node.outermost)
    }

    /// The use of each package.
    pub fn by_package(&self) -> Vec<Usage> {
        let number_of = |node: &Node| self.functions[node.function as usize].package;
        let is_outermost = |node: &Node| node.outermost_of_package;
        self.by(self.packages.len(), number_of, is_outermost)
    }

    fn by(
        &self,
        length: usize,
        number_of: impl Fn(&Node) -> u32,
        is_outermost: impl Fn(&Node) -> bool,
    ) -> Vec<Usage> {
        let mut usage = vec![Usage::default(); length];
        for (node, total) in self.nodes.iter().zip(self.totals()) {
            if node.function == NONE {
                continue;
            }
            let usage = &mut usage[number_of(node) as usize];
            usage.own += Count {
                recent: self.recent(node),
                all: node.all,
            };
            if is_outermost(node) {
                usage.total += total;
            }
        }
        usage
    }

    /// The threads, each with how many samples it has and the function that was on top of
    /// most of the last ones (else of all).
    pub fn by_thread(&self) -> Vec<(&Thread, Count, Option<u32>)> {
        let totals = self.totals();
        let mut threads: FxHashMap<u32, FxHashMap<u32, Count>> = FxHashMap::default();
        let mut roots: Vec<u32> = Vec::with_capacity(self.nodes.len());
        for (index, node) in self.nodes.iter().enumerate() {
            let root = match node.parent {
                NONE => index as u32,
                parent => roots[parent as usize],
            };
            roots.push(root);
            if node.function != NONE {
                let functions = threads.entry(root).or_default();
                *functions.entry(node.function).or_default() += Count {
                    recent: self.recent(node),
                    all: node.all,
                };
            }
        }
        let hottest = |thread: &Thread| {
            let functions = threads.get(&thread.root)?.iter();
            let most = functions.max_by_key(|(function, count)| {
                (count.recent, count.all, std::cmp::Reverse(**function))
            });
            most.map(|(&function, _)| function)
        };
        self.threads
            .iter()
            .map(|thread| (thread, totals[thread.root as usize], hottest(thread)))
            .collect()
    }
}

#[cfg(test)]
mod tests;
