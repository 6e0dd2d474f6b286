//! A dump for people: a paragraph for each thread, a line for each frame.
//!
//! ```text
//! Process 4711: node /srv/app.js (Node.js v24.21.0, V8 13.6.233.17-node.53)
//!
//! Thread 4711 "node" (main thread)
//!   compute /srv/app.js:12:7 [optimized, inlined]
//!   handle /srv/app.js:30:3 [optimized]
//!   node::Start node [native]
//! ```

use std::io::{self, Write};

use super::{Dump, ThreadDump};
use crate::label::{executing_label, visible};
use crate::{Frame, Kind, Tier};

/// Writes all of the dump.
pub fn write(dump: &Dump, out: &mut dyn Write) -> io::Result<()> {
    write!(
        out,
        "Process {}: {}",
        dump.pid,
        visible(&dump.command.join(" "))
    )?;
    let node = dump.node.as_ref().map(|node| format!("Node.js {node}"));
    let v8 = dump.v8.as_ref().map(|v8| format!("V8 {v8}"));
    let versions: Vec<String> = node.into_iter().chain(v8).collect();
    if !versions.is_empty() {
        write!(out, " ({})", visible(&versions.join(", ")))?;
    }
    writeln!(out)?;
    for thread in &dump.threads {
        writeln!(out)?;
        write_thread(thread, out)?;
    }
    Ok(())
}

fn write_thread(thread: &ThreadDump, out: &mut dyn Write) -> io::Result<()> {
    write!(out, "Thread {} \"{}\"", thread.tid, visible(&thread.name))?;
    match &thread.role {
        Some(role) => writeln!(out, " {}", visible(role))?,
        None => writeln!(out)?,
    }
    for frame in &thread.frames {
        writeln!(out, "  {}{}", executing_label(frame), marks(frame))?;
    }
    if !thread.taken {
        writeln!(out, "  (stack not taken: the kernel did not let it stop)")?;
    } else if !thread.complete {
        writeln!(out, "  (stack not complete)")?;
    }
    Ok(())
}

/// What sort of code ran the frame, where that is known.
fn marks(frame: &Frame) -> String {
    let kind = match (frame.kind, frame.tier) {
        (_, Some(Tier::Interpreted)) => "interpreted",
        (_, Some(Tier::Baseline)) => "baseline",
        (_, Some(Tier::Maglev)) => "maglev",
        (_, Some(Tier::Optimized)) => "optimized",
        (_, Some(Tier::Unoptimized)) => "unoptimized",
        (Kind::Builtin, None) => "builtin",
        (Kind::Wasm, None) => "wasm",
        (Kind::Native, None) => "native",
        (Kind::Kernel, None) => "kernel",
        (Kind::Js | Kind::Pseudo, None) => "",
    };
    match (kind, frame.inlined) {
        ("", false) => String::new(),
        ("", true) => " [inlined]".to_owned(),
        (kind, false) => format!(" [{kind}]"),
        (kind, true) => format!(" [{kind}, inlined]"),
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::dump;
    use super::*;

    #[test]
    fn a_paragraph_for_each_thread() {
        let mut text = Vec::new();
        write(&dump(), &mut text).unwrap();
        assert_eq!(
            String::from_utf8(text).unwrap(),
            r#"Process 7: node a\nb.js (Node.js v24.21.0, V8 13.6.233.17-node.53)

Thread 7 "node" (main thread)
  inner /srv/app.js:12:7 [optimized, inlined]
  Array.prototype.map [builtin]
  inner /srv/app.js [interpreted]
  node::Start node [native]

Thread 8 "say "\u{1b}"
  node::Start node [native]
  (stack not complete)

Thread 9 ""
  (stack not taken: the kernel did not let it stop)
"#
        );
    }

    #[test]
    fn versions_that_are_not_known_are_left_out() {
        let dump = Dump {
            node: None,
            v8: None,
            threads: Vec::new(),
            ..dump()
        };
        let mut text = Vec::new();
        write(&dump, &mut text).unwrap();
        assert_eq!(
            String::from_utf8(text).unwrap(),
            "Process 7: node a\\nb.js\n"
        );
    }
}
