//! What a frame or a process is called where people read it: one line, made safe to print.
//!
//! Names come from the profiled program, which may have chosen them to break a terminal, a
//! line-based format or the patience of whoever reads it. The model keeps them as they are; a label is what
//! all formats but JSON show.

use std::borrow::Cow;
use std::fmt::Write as _;

use crate::{Frame, Kind, Position, Process};

/// How many characters of a function's name are shown.
const MAX_FUNCTION: usize = 500;
/// How many characters of a script's path or URL are shown.
const MAX_FILE: usize = 500;
/// How many characters of a path are kept where it can be opened: as many as Linux allows.
const MAX_PATH: usize = 4096;
/// How many characters of a line of source are shown.
const MAX_SOURCE: usize = 300;
/// How many characters of a command line are shown.
const MAX_COMMAND: usize = 100;

/// The label of a frame: `function script:line`, with the line where the function starts.
///
/// Where the line is unknown it is `function script`, where the file is, `function` alone.
/// Native and kernel frames show their module's name without its folder:
/// `malloc libc.so.6`. The label is never empty and has no line break, control character or
/// blank at its ends; what is too long is cut with `…` (a name at its end, a path in its
/// middle, because its end tells most).
pub fn frame_label(frame: &Frame) -> String {
    label(
        frame,
        frame.function_position.map(|position| Position {
            column: None,
            ..position
        }),
    )
}

/// The same with the line and column where the frame was executing, as far as they are
/// known: `function script:line:column`.
pub fn executing_label(frame: &Frame) -> String {
    label(frame, frame.position)
}

fn label(frame: &Frame, position: Option<Position>) -> String {
    let mut label = function_name(frame);
    let file = trim(frame.file.as_deref().unwrap_or_default());
    let file = match frame.kind {
        Kind::Native | Kind::Kernel => file.rsplit('/').next().unwrap_or_default(),
        Kind::Js | Kind::Builtin | Kind::Wasm | Kind::Pseudo => file,
    };
    if !file.is_empty() {
        label.push(' ');
        push_visible(&mut label, &cut_middle(file, MAX_FILE));
        if let Some(position) = position {
            let _ = write!(label, ":{}", position.line);
            if let Some(column) = position.column {
                let _ = write!(label, ":{column}");
            }
        }
    }
    label
}

/// The function's name alone, as it is in a label: for formats that keep the file apart.
pub(crate) fn function_name(frame: &Frame) -> String {
    let function = trim(&frame.function);
    match (function.is_empty(), frame.kind) {
        (false, _) => visible(&cut_end(function, MAX_FUNCTION)),
        (true, Kind::Js) => "(anonymous)".into(),
        (true, _) => "(unknown)".into(),
    }
}

/// A file's whole path or URL, made safe to show, for formats that keep it apart. It is cut
/// only where it is longer than a path can be.
pub(crate) fn file_name(file: &str) -> String {
    visible(&cut_middle(file, MAX_PATH))
}

/// The text of the line where a frame was executing, made safe to show; `None` where that is
/// not known, or nothing stands there.
pub fn source_label(frame: &Frame) -> Option<String> {
    let text = frame.source.as_deref()?.trim();
    let text = cut_end(text, MAX_SOURCE).replace('\t', " ");
    (!text.is_empty()).then(|| visible(&text))
}

/// The label of a process: `node /srv/app.js (pid 32642)`, or `pid 32642` where its command
/// isn't known.
pub fn process_label(pid: u32, process: Option<&Process>) -> String {
    let command = process.map(|process| process_command(process, MAX_COMMAND));
    match command.filter(|command| !command.is_empty()) {
        Some(command) => format!("{command} (pid {pid})"),
        None => format!("pid {pid}"),
    }
}

/// The command line of a process, or as much of it as `max` characters are, made safe to
/// show; empty where it isn't known.
pub(crate) fn process_command(process: &Process, max: usize) -> String {
    visible(&cut_end(trim(&process.command.join(" ")), max))
}

/// The text with each character that can't safely be shown replaced by its escape, such as
/// `\n` or `\u{1b}`.
pub fn visible(text: &str) -> String {
    let mut out = String::new();
    push_visible(&mut out, text);
    out
}

fn push_visible(out: &mut String, text: &str) {
    for c in text.chars() {
        match c {
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            c if is_unsafe(c) => out.extend(c.escape_unicode()),
            c => out.push(c),
        }
    }
}

/// Whether a character can do harm where a label is shown: control characters (terminal
/// escapes among them), line and paragraph separators, marks that turn the direction of the
/// text around them, and the two that XML 1.0 forbids beside most control characters.
fn is_unsafe(c: char) -> bool {
    c.is_control()
        || matches!(
            c,
            '\u{61c}'
                | '\u{200e}'
                | '\u{200f}'
                | '\u{2028}'..='\u{202e}'
                | '\u{2066}'..='\u{2069}'
                | '\u{feff}'
                | '\u{fffe}'
                | '\u{ffff}'
        )
}

/// The text without the blanks at its ends, but with those that are shown escaped.
fn trim(text: &str) -> &str {
    text.trim_matches(|c: char| c.is_whitespace() && !is_unsafe(c))
}

/// At most `max` characters of `text`; where there are more, the last one is `…`.
fn cut_end(text: &str, max: usize) -> Cow<'_, str> {
    match text.char_indices().nth(max) {
        None => Cow::Borrowed(text),
        Some(_) => {
            let end = nth_char(text, max - 1);
            Cow::Owned(format!("{}…", &text[..end]))
        }
    }
}

/// At most `max` characters of `text`; where there are more, a `…` stands for the middle.
fn cut_middle(text: &str, max: usize) -> Cow<'_, str> {
    if text.char_indices().nth(max).is_none() {
        return Cow::Borrowed(text);
    }
    let head = nth_char(text, (max - 1) / 2);
    let tail_chars = max - 1 - (max - 1) / 2;
    let tail = text
        .char_indices()
        .rev()
        .nth(tail_chars - 1)
        .map_or(0, |(index, _)| index);
    Cow::Owned(format!("{}…{}", &text[..head], &text[tail..]))
}

/// The byte index of the character number `n` of `text`, which has at least that many.
fn nth_char(text: &str, n: usize) -> usize {
    text.char_indices()
        .nth(n)
        .map_or(text.len(), |(index, _)| index)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn js(function: &str, file: Option<&str>, line: u32) -> Frame {
        Frame {
            file: file.map(Into::into),
            position: Position::new(99, 9),
            function_position: Position::new(line, 1),
            ..Frame::new(Kind::Js, function)
        }
    }

    #[test]
    fn a_label_says_what_is_known() {
        assert_eq!(frame_label(&js("f", Some("/a/b.js"), 3)), "f /a/b.js:3");
        assert_eq!(
            executing_label(&js("f", Some("/a/b.js"), 3)),
            "f /a/b.js:99:9"
        );
        assert_eq!(frame_label(&js("f", Some("/a/b.js"), 0)), "f /a/b.js");
        assert_eq!(frame_label(&js("f", None, 3)), "f");
        assert_eq!(frame_label(&js("f", Some(""), 3)), "f");
        assert_eq!(frame_label(&js("", Some("x.js"), 1)), "(anonymous) x.js:1");
        assert_eq!(frame_label(&Frame::new(Kind::Native, " ")), "(unknown)");
    }

    #[test]
    fn a_module_is_shown_without_its_folder() {
        let frame = |kind, file: &str| Frame {
            file: Some(file.into()),
            ..Frame::new(kind, "f")
        };
        let libc = frame(Kind::Native, "/usr/lib/x86_64-linux-gnu/libc.so.6");
        assert_eq!(frame_label(&libc), "f libc.so.6");
        assert_eq!(
            frame_label(&frame(Kind::Kernel, "[nf_tables]")),
            "f [nf_tables]"
        );
        assert_eq!(frame_label(&frame(Kind::Native, "/tmp/")), "f");
        assert_eq!(frame_label(&frame(Kind::Builtin, "node:fs")), "f node:fs");
    }

    #[test]
    fn what_could_do_harm_is_shown_escaped() {
        let frame = js(
            "a\nb\x1b[2J\0\u{9b}\u{202e}c\u{2028}\u{ffff}",
            Some("x\r\t\x7f.js"),
            1,
        );
        assert_eq!(
            frame_label(&frame),
            r"a\nb\u{1b}[2J\u{0}\u{9b}\u{202e}c\u{2028}\u{ffff} x\r\t\u{7f}.js:1"
        );
        assert_eq!(frame_label(&js("\n f \n", None, 0)), r"\n f \n");
        assert_eq!(frame_label(&js(" \u{3000}f ", None, 0)), "f");
        assert_eq!(frame_label(&js("größe\\n 🦀", None, 0)), "größe\\n 🦀");
    }

    #[test]
    fn a_line_of_source_is_one_line() {
        let label = |text: &str| {
            source_label(&Frame {
                source: Some(text.into()),
                ..js("f", None, 1)
            })
        };
        assert_eq!(label("\ta(\tb\t)\r\n").as_deref(), Some("a( b )"));
        assert_eq!(label("x\x1b[2J\ny").as_deref(), Some(r"x\u{1b}[2J\ny"));
        assert_eq!(label(" \t "), None);
        assert_eq!(source_label(&js("f", None, 1)), None);
        let long = label(&"é".repeat(1 << 20)).unwrap();
        assert_eq!(long, format!("{}…", "é".repeat(299)));
    }

    #[test]
    fn what_is_too_long_is_cut() {
        let name = "é".repeat(1 << 20);
        let path = format!("/start/{}/end.js", "d".repeat(1 << 20));
        assert_eq!(
            frame_label(&js(&name, Some(&path), 7)),
            format!(
                "{}… /start/{}…{}/end.js:7",
                "é".repeat(499),
                "d".repeat(242),
                "d".repeat(243)
            )
        );
        let fits = "x".repeat(500);
        assert_eq!(
            frame_label(&js(&fits, Some(&fits), 0)),
            format!("{fits} {fits}")
        );
    }

    #[test]
    fn a_process_is_its_command_and_id() {
        let process = |command: &[&str]| Process {
            pid: 7,
            command: command.iter().map(|&arg| arg.into()).collect(),
            ..Process::default()
        };
        assert_eq!(
            process_label(7, Some(&process(&["node", "a\nb.js"]))),
            r"node a\nb.js (pid 7)"
        );
        assert_eq!(process_label(7, Some(&process(&[]))), "pid 7");
        assert_eq!(process_label(7, None), "pid 7");
        assert_eq!(
            process_label(7, Some(&process(&["node", &"x".repeat(200)]))),
            format!("node {}… (pid 7)", "x".repeat(94))
        );
    }
}
