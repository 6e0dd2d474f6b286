//! `raw`: a block for each distinct stack, as DTrace prints them and `stackcollapse.pl`
//! reads them.
//!
//! ```text
//! log node:internal/console/constructor:384
//! Module._compile node:internal/modules/cjs/loader:1554
//! 979
//!
//! ```
//!
//! The innermost frame first, a frame a line, then the samples that had this stack, then a
//! blank line. Four blank lines come first: DTrace has its header there, and what reads its
//! output passes over three lines without looking at them. Where there are several
//! processes, each stack ends with its process. A name that is nothing but a number stands
//! in quotes: it would be read as the count.

use std::io::{self, Write};

use crate::{CallTree, Profile};

/// What stands in the place of the four lines before DTrace's first frame.
const HEADER: &str = "\n\n\n\n";

/// Writes the profile as blocks of stacks; nothing at all where there are no samples.
pub fn write(profile: &Profile, out: &mut dyn Write) -> io::Result<()> {
    let tree = CallTree::new(profile);
    if tree.total_samples() > 0 {
        out.write_all(HEADER.as_bytes())?;
    }
    let mut path: Vec<&str> = Vec::new();
    for (depth, node) in tree.walk() {
        path.truncate(depth);
        path.push(&tree.label(node).text);
        if node.self_samples == 0 {
            continue;
        }
        for label in path.iter().rev() {
            if label.bytes().all(|b| b.is_ascii_digit()) {
                writeln!(out, "\"{label}\"")?;
            } else {
                writeln!(out, "{label}")?;
            }
        }
        writeln!(out, "{}\n", node.self_samples)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use inferno::collapse::Collapse;

    use crate::testing::{deep, empty, hostile, several_processes, small, written};
    use crate::{Format, Profile};

    #[test]
    fn a_stack_is_a_block_leaf_first() {
        assert_eq!(
            written(&small(), Format::Raw),
            "\n\n\n\n\
main /srv/app.js:1
1

work /srv/app.js:3
main /srv/app.js:1
4

malloc libc.so.6
work /srv/app.js:3
main /srv/app.js:1
1

f /srv/app.js:1
1

(garbage collector)
f /srv/app.js:1
1

(no frames)
1

f /srv/app.js:10
1

"
        );
        assert_eq!(written(&empty().0, Format::Raw), "");
    }

    #[test]
    fn a_stack_ends_with_its_process_where_there_are_several() {
        let raw = written(&several_processes(), Format::Raw);
        assert_eq!(
            raw.trim_start().split("\n\n").next(),
            Some("work /srv/app.js:3\nmain /srv/app.js:1\nnode b.js (pid 7)\n5")
        );
        assert_eq!(
            raw.matches("node /srv/app.js (pid 32642)\n2\n\n").count(),
            2
        );
    }

    #[test]
    fn hostile_names_break_no_block() {
        let raw = written(&hostile(), Format::Raw);
        let blocks: Vec<&str> = raw.trim_start().split_terminator("\n\n").collect();
        assert_eq!(
            blocks[..5],
            [
                "(anonymous)\n(anonymous)\n# note\n1",
                "f_[k]\n-- -\n1",
                "f 13.5\nf 42\n\"42\"\n1",
                "<b onclick=\"x\">&amp;' ]]>--><!--\\u{ffff}\\u{85}\n1",
                "\\u{1b}[2J\\u{0} \\r\\u{202e}z\na\\nb 5\\n x;y.js\n1",
            ]
        );
        assert_eq!(blocks[5].chars().count(), 500 + 1 + 500 + 2);
        assert_eq!(blocks.len(), 6);
        assert!(!raw.chars().any(|c| c.is_control() && c != '\n'));
    }

    #[test]
    fn a_deep_stack_is_written_whole() {
        let raw = written(&deep(10_000), Format::Raw);
        assert_eq!(raw.lines().count(), 4 + 10_000 + 5_000 + 4);
        assert!(raw.ends_with("f1\nf0\n1\n\n"));
    }

    /// The folded stacks that inferno's reader of DTrace's output makes of a profile.
    fn collapsed(profile: &Profile) -> String {
        let raw = written(profile, Format::Raw);
        let mut folded = Vec::new();
        let mut folder = inferno::collapse::dtrace::Folder::default();
        folder.collapse(raw.as_bytes(), &mut folded).unwrap();
        String::from_utf8(folded).unwrap()
    }

    #[test]
    fn readers_of_dtrace_lose_no_stack() {
        let mut folded: Vec<String> = written(&small(), Format::Folded)
            .lines()
            .map(Into::into)
            .collect();
        folded.sort_unstable();
        assert_eq!(collapsed(&small()).lines().collect::<Vec<_>>(), folded);
        assert_eq!(collapsed(&hostile()).lines().count(), 6);
    }
}
