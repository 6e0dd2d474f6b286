//! `folded`: a line for each distinct stack, outermost frame first, for flame graph tools.
//!
//! ```text
//! Module._compile node:internal/modules/cjs/loader:1554;log node:internal/console/constructor:384 979
//! ```
//!
//! Frames are called as in [`raw`](super::raw), but for what the form can't hold. A `;`
//! would end the frame and is written `,`. A last word that is a number would be taken for
//! a count, and a `# ` at the start for a comment: there the space becomes a no-break space,
//! which looks the same. Where there are several processes, each stack starts with its
//! process.

use std::borrow::Cow;
use std::io::{self, Write};

use crate::{CallTree, Profile};

/// Writes the profile as folded stacks.
pub fn write(profile: &Profile, out: &mut dyn Write) -> io::Result<()> {
    let tree = CallTree::new(profile);
    let mut path = Path::default();
    for (depth, node) in tree.walk() {
        path.enter(depth, &frame_name(&tree.label(node).text));
        if node.self_samples > 0 {
            writeln!(out, "{} {}", path.as_str(), node.self_samples)?;
        }
    }
    Ok(())
}

/// A label as a frame of a folded stack, with what the form can't hold replaced.
pub(crate) fn frame_name(label: &str) -> Cow<'_, str> {
    let comment = label.starts_with("# ").then_some(1);
    let number = label.rfind(' ').filter(|&space| {
        label[space + 1..]
            .bytes()
            .all(|b| b.is_ascii_digit() || b == b'.')
    });
    if comment.or(number).is_none() && !label.contains(';') {
        return Cow::Borrowed(label);
    }
    let name = label
        .char_indices()
        .map(|(index, c)| match c {
            ';' => ',',
            ' ' if Some(index) == comment || Some(index) == number => '\u{a0}',
            c => c,
        })
        .collect();
    Cow::Owned(name)
}

/// The names from the outermost frame to the one a walk stands at, joined by `;`.
#[derive(Default)]
pub(crate) struct Path {
    joined: String,
    /// Where in `joined` the name of each level ends.
    ends: Vec<usize>,
}

impl Path {
    /// Moves to a frame at a depth, which is at most one more than that of the last one.
    pub(crate) fn enter(&mut self, depth: usize, name: &str) {
        self.ends.truncate(depth);
        match self.ends.last() {
            Some(&end) => {
                self.joined.truncate(end);
                self.joined.push(';');
            }
            None => self.joined.clear(),
        }
        self.joined.push_str(name);
        self.ends.push(self.joined.len());
    }

    pub(crate) fn as_str(&self) -> &str {
        &self.joined
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Format;
    use crate::testing::{deep, empty, hostile, several_processes, small, written};

    #[test]
    fn a_stack_is_a_line() {
        assert_eq!(
            written(&small(), Format::Folded),
            "\
main /srv/app.js:1 1
main /srv/app.js:1;work /srv/app.js:3 4
main /srv/app.js:1;work /srv/app.js:3;malloc libc.so.6 1
f /srv/app.js:1 1
f /srv/app.js:1;(garbage collector) 1
(no frames) 1
f /srv/app.js:10 1
"
        );
        assert_eq!(written(&empty().0, Format::Folded), "");
    }

    #[test]
    fn a_stack_starts_with_its_process_where_there_are_several() {
        assert_eq!(
            written(&several_processes(), Format::Folded),
            "\
node b.js (pid 7);main /srv/app.js:1;work /srv/app.js:3 5
node b.js (pid 7);(no frames) 1
node /srv/app.js (pid 32642);main /srv/app.js:1 2
node /srv/app.js (pid 32642);main /srv/app.js:1;work /srv/app.js:3 2
"
        );
    }

    #[test]
    fn hostile_names_break_no_line() {
        let folded = written(&hostile(), Format::Folded);
        let lines: Vec<&str> = folded.lines().collect();
        assert_eq!(
            lines[..5],
            [
                "#\u{a0}note;(anonymous);(anonymous) 1",
                "-- -;f_[k] 1",
                "42;f\u{a0}42;f\u{a0}13.5 1",
                r#"<b onclick="x">&amp,' ]]>--><!--\u{ffff}\u{85} 1"#,
                r"a\nb 5\n x,y.js;\u{1b}[2J\u{0} \r\u{202e}z 1",
            ]
        );
        assert_eq!(lines[5].chars().count(), 500 + 1 + 500 + 2);
        assert_eq!(lines.len(), 6);
        assert!(!folded.chars().any(|c| c.is_control() && c != '\n'));
    }

    #[test]
    fn only_what_a_reader_would_mistake_is_changed() {
        for (label, name) in [
            ("f /a b/c.js:1", "f /a b/c.js:1"),
            ("f 1x", "f 1x"),
            ("42", "42"),
            ("#f x", "#f x"),
            ("a;b 7", "a,b\u{a0}7"),
            ("# 7", "#\u{a0}7"),
        ] {
            assert_eq!(frame_name(label), name);
        }
    }

    #[test]
    fn a_deep_stack_is_written_whole() {
        let folded = written(&deep(10_000), Format::Folded);
        let depths: Vec<usize> = folded.lines().map(|it| it.split(';').count()).collect();
        assert_eq!(depths, [5_000, 10_000]);
        assert!(folded.ends_with(";f9998;f9999 1\n"));
    }
}
