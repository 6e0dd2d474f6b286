//! `text`: the call tree, indented, for reading.
//!
//! ```text
//! Total samples: 1000
//!   1000 Module._compile node:internal/modules/cjs/loader:1554
//!     979 log node:internal/console/constructor:384
//! ```
//!
//! Two spaces a level; the samples in which the function was running or had called what
//! was; children most samples first, then by name. The threads of a process are one tree;
//! where there are several processes, each has a line of its own above its functions. Where
//! rows are lines, a line's text follows it, as far as it is known.

use std::io::{self, Write};

use unicode_width::{UnicodeWidthChar, UnicodeWidthStr};

use crate::{By, CallTree, Profile, source_label};

/// What stands between a place and the text of its line.
const SEPARATOR: &str = " | ";
/// A text that has room for no more columns is left out.
const LEAST_TEXT: usize = 8;

/// Writes the profile as an indented tree.
pub fn write(profile: &Profile, out: &mut dyn Write) -> io::Result<()> {
    let tree = CallTree::new(profile);
    writeln!(out, "Total samples: {}", tree.total_samples())?;
    for (depth, node) in tree.walk() {
        let label = &tree.label(node).text;
        let indent = 2 * (depth + 1);
        writeln!(out, "{:indent$}{} {label}", "", node.total_samples)?;
    }
    Ok(())
}

/// The same where rows are the lines that were executing, with what stands on them. A line's
/// text is cut where there are more than `width` columns; what precedes it is not.
pub fn write_lines(profile: &Profile, width: Option<usize>, out: &mut dyn Write) -> io::Result<()> {
    let profile = By::Line.merged(profile);
    let tree = CallTree::new(&profile);
    writeln!(out, "Total samples: {}", tree.total_samples())?;
    for (depth, node) in tree.walk() {
        let label = tree.label(node);
        let indent = 2 * (depth + 1);
        let row = format!("{:indent$}{} {}", "", node.total_samples, label.text);
        let text = label.frame.and_then(|it| source_label(profile.frame(it)));
        let taken = row.width() + SEPARATOR.len();
        let room = width.map_or(usize::MAX, |width| width.saturating_sub(taken));
        match text.map(|text| cut(text, room)) {
            Some(text) if room >= LEAST_TEXT => writeln!(out, "{row}{SEPARATOR}{text}")?,
            _ => writeln!(out, "{row}")?,
        }
    }
    Ok(())
}

/// As much of `text` as takes at most `room` columns; where that is not all, it ends with
/// `…`.
fn cut(mut text: String, room: usize) -> String {
    if text.width() <= room {
        return text;
    }
    let mut taken = "…".width();
    let rest = text.char_indices().find(|(_, c)| {
        taken += c.width().unwrap_or_default();
        taken > room
    });
    if let Some((end, _)) = rest {
        text.truncate(end);
        text.push('…');
    }
    text
}

#[cfg(test)]
mod tests {
    use crate::testing::{bare, deep, empty, hostile, several_processes, small, written};
    use crate::{Format, Frame, Profile, by};

    #[test]
    fn a_tree_merges_threads_positions_and_tiers() {
        assert_eq!(
            written(&small(), Format::Text),
            "\
Total samples: 10
  6 main /srv/app.js:1
    5 work /srv/app.js:3
      1 malloc libc.so.6
  2 f /srv/app.js:1
    1 (garbage collector)
  1 (no frames)
  1 f /srv/app.js:10
"
        );
    }

    #[test]
    fn each_process_of_several_has_its_own_tree() {
        assert_eq!(
            written(&several_processes(), Format::Text),
            "\
Total samples: 10
  6 node b.js (pid 7)
    5 main /srv/app.js:1
      5 work /srv/app.js:3
    1 (no frames)
  4 node /srv/app.js (pid 32642)
    4 main /srv/app.js:1
      2 work /srv/app.js:3
"
        );
    }

    /// The lines by which `width` columns are filled.
    fn lines(profile: &Profile, width: Option<usize>) -> String {
        let mut out = Vec::new();
        super::write_lines(profile, width, &mut out).unwrap();
        String::from_utf8(out).unwrap()
    }

    /// [`small`], in which `work` knows what stands on its lines.
    fn with_sources(text: &str) -> Profile {
        let whole = small();
        by::relabelled(&whole, false, false, |frame| Frame {
            source: (&*frame.function == "work").then(|| text.into()),
            ..frame.clone()
        })
    }

    #[test]
    fn by_line_the_text_of_a_line_follows_it() {
        let profile = with_sources("\treturn add(a,\tb);");
        assert_eq!(
            lines(&profile, None),
            "\
Total samples: 10
  6 main /srv/app.js:2
    4 work /srv/app.js:4 | return add(a, b);
      1 malloc libc.so.6
    1 work /srv/app.js:7 | return add(a, b);
  2 f /srv/app.js:2
    1 (garbage collector)
  1 (no frames)
  1 f /srv/app.js:11
"
        );
        // By function it is no function's.
        assert!(!written(&profile, Format::Text).contains("return"));
    }

    #[test]
    fn a_text_is_cut_where_a_line_would_spill() {
        let third = |text: &str, width| {
            let all = lines(&with_sources(text), Some(width));
            all.lines().nth(2).unwrap().to_owned()
        };
        assert_eq!(
            third("return add(a, b);", 44),
            "    4 work /srv/app.js:4 | return add(a, b);"
        );
        assert_eq!(
            third("return add(a, b);", 43),
            "    4 work /srv/app.js:4 | return add(a, b…"
        );
        assert_eq!(third("return add(a, b);", 34), "    4 work /srv/app.js:4");
        assert_eq!(
            third("a = '漢字漢字漢字'", 40),
            "    4 work /srv/app.js:4 | a = '漢字漢…"
        );
        assert_eq!(
            third("\x1b[2J\n", 80),
            r"    4 work /srv/app.js:4 | \u{1b}[2J"
        );
    }

    #[test]
    fn without_samples_only_the_total_is_left() {
        assert_eq!(written(&empty().0, Format::Text), "Total samples: 0\n");
        assert_eq!(written(&bare(), Format::Text), "Total samples: 0\n");
    }

    #[test]
    fn hostile_names_stay_on_their_line() {
        let text = written(&hostile(), Format::Text);
        let long = format!(
            "{}… {}…{}",
            "long".repeat(124) + "lon",
            "p/".repeat(124) + "p",
            "p/".repeat(125)
        );
        let expected = format!(
            r#"Total samples: 6
  1 # note
    1 (anonymous)
      1 (anonymous)
  1 -- -
    1 f_[k]
  1 42
    1 f 42
      1 f 13.5
  1 <b onclick="x">&amp;' ]]>--><!--\u{{ffff}}\u{{85}}
  1 a\nb 5\n x;y.js
    1 \u{{1b}}[2J\u{{0}} \r\u{{202e}}z
  1 {long}
"#
        );
        assert_eq!(text, expected);
    }

    #[test]
    fn a_deep_stack_is_written_whole() {
        let text = written(&deep(8192), Format::Text);
        let last = text.lines().last().unwrap();
        assert_eq!(last, format!("{:16384}1 f8191", ""));
        assert_eq!(text.lines().count(), 8193);
    }
}
