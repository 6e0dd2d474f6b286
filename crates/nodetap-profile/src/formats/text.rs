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
//! where there are several processes, each has a line of its own above its functions.

use std::io::{self, Write};

use crate::{CallTree, Profile};

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

#[cfg(test)]
mod tests {
    use crate::Format;
    use crate::testing::{bare, deep, empty, hostile, several_processes, small, written};

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
