//! The tables that all threads share: stacks, frames, functions, what they are grouped by.

use serde::{Serialize, Serializer};

use super::categories::{self, Categories};
use crate::formats::functions::{Function, Functions, NO_FRAMES};
use crate::formats::strings::Strings;
use crate::{Frame, Kind, Origin, Position, Profile, StackId};

/// Marks a place that is not there in a column of places.
const NONE: i32 = -1;

/// `profile.shared`, and the stacks that samples name.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Shared<'a> {
    stack_table: StackTable<'a>,
    frame_table: FrameTable<'a>,
    func_table: FuncTable,
    resource_table: ResourceTable,
    native_symbols: NativeSymbols,
    sources: Sources,
    string_array: Vec<String>,
}

impl<'a> Shared<'a> {
    pub fn new(profile: &'a Profile, categories: &mut Categories) -> Self {
        let mut functions = Functions::new(profile);
        let mut strings = Strings::default();
        let mut frames = FrameTable {
            profile,
            func: Vec::new(),
            category: Vec::new(),
            subcategory: Vec::new(),
        };
        let mut resources = ResourceTable::default();
        // Functions are in the order of their first frames.
        let mut resource_of = Vec::new();
        for (frame, number) in profile.frames().iter().zip(0..) {
            let function = profile.frame_id(number).map_or(0, |id| functions.of(id));
            if function as usize == resource_of.len() {
                resource_of.push(resources.of(frame, &mut strings));
            }
            let (category, subcategory) = categories.of(frame);
            frames.push(function, category, subcategory);
        }
        // What no frame says: two that come after all others.
        for (statement, origin) in [(NO_FRAMES, Origin::Unknown), ("(idle)", Origin::Waiting)] {
            let function = functions.statement(statement);
            if function as usize == resource_of.len() {
                resource_of.push(NONE);
            }
            frames.push(function, categories::number(origin), 0);
        }
        let mut sources = Sources::default();
        let func_table = FuncTable::new(
            functions.as_slice(),
            resource_of,
            &mut sources,
            &mut strings,
        );
        sources.finish();
        Self {
            stack_table: StackTable { profile },
            frame_table: frames,
            func_table,
            resource_table: resources,
            native_symbols: NativeSymbols::default(),
            sources,
            string_array: strings.into_all(),
        }
    }

    /// The place of a stack in the table.
    pub fn stack(&self, stack: StackId) -> usize {
        // The empty one's place is that of one with a frame that says so.
        stack.index()
    }

    /// The place of the stack that says that the thread did not run.
    pub fn idle(&self) -> usize {
        self.stack_table.profile.stack_count()
    }
}

/// The stacks in their order; the empty one is a statement, and the last one says `(idle)`.
struct StackTable<'a> {
    profile: &'a Profile,
}

#[derive(Serialize)]
struct StackColumns<F, P> {
    frame: F,
    prefix: P,
    length: usize,
}

impl StackTable<'_> {
    fn frames(&self) -> impl Iterator<Item = usize> {
        let no_frames = self.profile.frames().len();
        let stacks = self.profile.stack_ids().map(move |stack| {
            let top = self.profile.caller_and_frame(stack);
            top.map_or(no_frames, |(_, frame)| frame.index())
        });
        stacks.chain([no_frames + 1])
    }

    fn prefixes(&self) -> impl Iterator<Item = Option<usize>> {
        let stacks = self.profile.stack_ids().map(|stack| {
            let (caller, _) = self.profile.caller_and_frame(stack)?;
            (caller != StackId::EMPTY).then(|| caller.index())
        });
        stacks.chain([None])
    }
}

impl Serialize for StackTable<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        StackColumns {
            frame: Column(|| self.frames()),
            prefix: Column(|| self.prefixes()),
            length: self.profile.stack_count() + 1,
        }
        .serialize(serializer)
    }
}

/// The frames in their order, and then those that say what no frame does.
struct FrameTable<'a> {
    profile: &'a Profile,
    func: Vec<u32>,
    category: Vec<u16>,
    subcategory: Vec<u32>,
}

impl FrameTable<'_> {
    fn push(&mut self, function: u32, category: usize, subcategory: u32) {
        self.func.push(function);
        self.category.push(category as u16);
        self.subcategory.push(subcategory);
    }

    fn positions(&self) -> impl Iterator<Item = Option<Position>> {
        let frames = self.profile.frames().iter();
        frames.map(|frame| frame.position).chain([None, None])
    }
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct FrameColumns<'a, A, I, N, W, L, C> {
    address: A,
    inline_depth: I,
    category: &'a [u16],
    subcategory: &'a [u32],
    func: &'a [u32],
    native_symbol: N,
    #[serde(rename = "innerWindowID")]
    inner_window_id: W,
    line: L,
    column: C,
    length: usize,
}

impl Serialize for FrameTable<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let length = self.func.len();
        FrameColumns {
            address: Column(|| std::iter::repeat_n(NONE, length)),
            inline_depth: Column(|| std::iter::repeat_n(0, length)),
            category: &self.category,
            subcategory: &self.subcategory,
            func: &self.func,
            native_symbol: Column(|| std::iter::repeat_n((), length)),
            inner_window_id: Column(|| std::iter::repeat_n((), length)),
            line: Column(|| self.positions().map(line)),
            column: Column(|| self.positions().map(column)),
            length,
        }
        .serialize(serializer)
    }
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct FuncTable {
    name: Vec<u32>,
    #[serde(rename = "isJS")]
    is_js: Vec<bool>,
    /// Whether it is shown where only JavaScript is.
    #[serde(rename = "relevantForJS")]
    relevant_for_js: Vec<bool>,
    resource: Vec<i32>,
    source: Vec<Option<u32>>,
    line_number: Vec<Option<u32>>,
    column_number: Vec<Option<u32>>,
    length: usize,
}

impl FuncTable {
    fn new(
        functions: &[Function],
        resource: Vec<i32>,
        sources: &mut Sources,
        strings: &mut Strings,
    ) -> Self {
        let all = || functions.iter();
        let is_js = |it: &Function| matches!(it.kind, Kind::Js | Kind::Wasm);
        let is_said = |it: &Function| matches!(it.kind, Kind::Builtin | Kind::Pseudo);
        Self {
            name: all().map(|it| strings.number(&it.name)).collect(),
            is_js: all().map(is_js).collect(),
            relevant_for_js: all().map(is_said).collect(),
            resource,
            source: all()
                .map(|it| Some(sources.number(it.file.as_deref()?, strings)))
                .collect(),
            line_number: all().map(|it| line(it.position)).collect(),
            column_number: all().map(|it| column(it.position)).collect(),
            length: functions.len(),
        }
    }
}

/// What functions are grouped by: the package they are of.
#[derive(Default, Serialize)]
struct ResourceTable {
    lib: Vec<()>,
    name: Vec<u32>,
    host: Vec<()>,
    r#type: Vec<u32>,
    length: usize,
    #[serde(skip)]
    numbers: rustc_hash::FxHashMap<u32, i32>,
}

impl ResourceTable {
    /// Of a kind that the profiler has no word for.
    const UNKNOWN: u32 = 0;

    /// The place of what a frame's function is grouped by.
    fn of(&mut self, frame: &Frame, strings: &mut Strings) -> i32 {
        let Some(package) = frame.package.as_ref().filter(|it| it.is_dependency) else {
            return NONE;
        };
        let name = strings.number(&crate::visible(&package.label()));
        *self.numbers.entry(name).or_insert_with(|| {
            self.lib.push(());
            self.name.push(name);
            self.host.push(());
            self.r#type.push(Self::UNKNOWN);
            self.length += 1;
            i32::try_from(self.length - 1).unwrap_or(NONE)
        })
    }
}

/// No addresses, no symbols.
#[derive(Default, Serialize)]
#[serde(rename_all = "camelCase")]
struct NativeSymbols {
    lib_index: [(); 0],
    address: [(); 0],
    name: [(); 0],
    function_size: [(); 0],
    length: usize,
}

/// The files.
#[derive(Default, Serialize)]
#[serde(rename_all = "camelCase")]
struct Sources {
    filename: Vec<u32>,
    id: Vec<()>,
    start_line: Vec<u32>,
    start_column: Vec<u32>,
    #[serde(rename = "sourceMapURL")]
    source_map_url: Vec<()>,
    length: usize,
    #[serde(skip)]
    numbers: rustc_hash::FxHashMap<u32, u32>,
}

impl Sources {
    fn number(&mut self, file: &str, strings: &mut Strings) -> u32 {
        let filename = strings.number(file);
        let next = u32::try_from(self.filename.len()).expect("no more than frames");
        *self.numbers.entry(filename).or_insert_with(|| {
            self.filename.push(filename);
            next
        })
    }

    /// Fills the columns that are the same for all.
    fn finish(&mut self) {
        self.length = self.filename.len();
        self.id = vec![(); self.length];
        self.start_line = vec![1; self.length];
        self.start_column = vec![1; self.length];
        self.source_map_url = vec![(); self.length];
    }
}

/// A column that is made while it is written.
pub(super) struct Column<F>(pub F);

impl<I, F> Serialize for Column<F>
where
    I: Iterator,
    I::Item: Serialize,
    F: Fn() -> I,
{
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq((self.0)())
    }
}

fn line(position: Option<Position>) -> Option<u32> {
    position.map(|position| position.line.get())
}

fn column(position: Option<Position>) -> Option<u32> {
    position.and_then(|position| Some(position.column?.get()))
}
