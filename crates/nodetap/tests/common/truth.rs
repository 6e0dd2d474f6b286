//! The true stack, by the call sites that a program collected of itself, and whether a
//! sample is it.

use std::fmt;

use serde::Deserialize;

use super::accuracy::Truth;
use super::cpu_profile::CallFrame;
use super::matrix::Node;
use super::recording::Frame;

/// One frame of the true stack.
#[derive(Clone, Debug, PartialEq)]
pub struct TrueFrame {
    pub function: String,
    pub file: Option<String>,
    pub line: u32,
    pub column: u32,
    /// Where its function starts, if V8 has a line for that.
    pub start: Option<(u32, u32)>,
}

impl fmt::Display for TrueFrame {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} {}:{}:{} (function at {:?})",
            self.function,
            self.file.as_deref().unwrap_or("-"),
            self.line,
            self.column,
            self.start
        )
    }
}

/// What must be said of where a frame was executing.
#[derive(Clone, Copy, PartialEq)]
pub enum Place {
    /// Line and column: it waits for a call.
    Exact,
    /// The line: where on it the innermost function is when a tick falls, nobody knows.
    Line,
    /// The line, or nothing. While a function is entered or left, its pc may be nowhere.
    LineOrSilent,
}

impl TrueFrame {
    /// As it is counted.
    pub fn truth(&self) -> Truth<'_> {
        Truth {
            function: &self.function,
            file: self.file.as_deref(),
            line: self.line,
            column: self.column,
        }
    }

    /// Whether `frame` says of this one all that is true of it.
    pub fn is(&self, frame: &Frame, place: Place) -> bool {
        frame.function == self.function
            && frame.file == self.file
            && frame.function_line == self.start.map(|(line, _)| line)
            && frame.function_column == self.start.map(|(_, column)| column)
            && match place {
                Place::Exact => (frame.line, frame.column) == (Some(self.line), Some(self.column)),
                Place::Line => frame.line == Some(self.line),
                Place::LineOrSilent => frame.line.is_none_or(|line| line == self.line),
            }
    }
}

/// A call site as the fixture reports it, and where V8's profiler says its function is.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq, PartialOrd, Ord)]
pub struct CallSite {
    pub file: Option<String>,
    pub line: u32,
    pub column: u32,
}

/// The true stack, outermost first: `sites` are innermost first. The profiler may have
/// met functions that are called from the innermost one.
pub fn true_stack(
    node: &Node,
    mut sites: Vec<CallSite>,
    functions: &[CallFrame],
) -> Vec<TrueFrame> {
    sites.reverse();
    assert!(
        sites.len() <= functions.len(),
        "V8's profiler does not know all of its call sites"
    );
    sites
        .into_iter()
        .zip(functions)
        .map(|(site, function)| {
            let start = function.start();
            TrueFrame {
                function: function.name(),
                start: (!starts_before_its_lines(node, &site, start)).then_some(start),
                file: site.file,
                line: site.line,
                column: site.column,
            }
        })
        .collect()
}

/// Whether it is the function of a `new Function` whose lines are counted from its body
/// on, so that it starts before the first. V8 7.8 does so, and moves the lines only when
/// its profiler has been told of the function.
fn starts_before_its_lines(node: &Node, site: &CallSite, start: (u32, u32)) -> bool {
    let is_head = |head: &str| start == (1, head.len() as u32 + 1);
    let heads = ["(function anonymous", "(function* anonymous"];
    let is_7_8 = node.major() == 12 && node.is_since(12, 16);
    is_7_8 && site.file.is_none() && heads.into_iter().any(is_head)
}

/// How many frames, from the outermost on, are true; those of the innermost function
/// are if `innermost` of its place is.
pub fn count_true(js: &[&Frame], truth: &[TrueFrame], innermost: Place) -> usize {
    let is_true = |(i, (frame, true_frame)): &(usize, (&&Frame, &TrueFrame))| {
        let place = match (i + 1 == truth.len(), js.len() == truth.len()) {
            (true, true) => innermost,
            // The spinner, at its call: it reported from another column.
            (true, false) => Place::Line,
            (false, _) => Place::Exact,
        };
        true_frame.is(frame, place)
    };
    js.iter().zip(truth).enumerate().take_while(is_true).count()
}

/// Whether the JavaScript frames of a sample are the true stack. The function that the
/// spinner calls may be on top of it: all of that one is on the line where it starts.
pub fn is_true(
    stack: &[&Frame],
    truth: &[TrueFrame],
    callee: Option<&str>,
    innermost: Place,
) -> bool {
    let js: Vec<&Frame> = stack.iter().copied().filter(|f| f.is_js()).collect();
    let right = count_true(&js, truth, innermost) == truth.len();
    match js[truth.len().min(js.len())..] {
        [] => right,
        [top] if callee == Some(top.function.as_str()) => {
            let silent = top.line.is_none() && innermost == Place::LineOrSilent;
            right && (silent || top.line.is_some() && top.line == top.function_line)
        }
        _ => false,
    }
}

pub fn list<'a>(frames: impl IntoIterator<Item = &'a Frame>) -> String {
    frames.into_iter().map(|f| format!("    {f}\n")).collect()
}

/// The frames of a wrong stack beside the true ones, from the first that is wrong on.
pub fn difference(stack: &[&Frame], truth: &[TrueFrame]) -> String {
    let js: Vec<&Frame> = stack.iter().copied().filter(|f| f.is_js()).collect();
    let same = count_true(&js, truth, Place::LineOrSilent);
    let wanted: String = truth[same..]
        .iter()
        .take(6)
        .map(|frame| format!("    {frame}\n"))
        .collect();
    format!(
        "  the outermost {same} of {} JavaScript frames are right ({} in the sample); then\n  true:\n{wanted}  recorded:\n{}  the whole top of the stack:\n{}",
        truth.len(),
        js.len(),
        list(js[same..].iter().take(6).copied()),
        list(stack.iter().rev().take(4).copied()),
    )
}
