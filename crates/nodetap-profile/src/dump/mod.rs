//! Every thread's stack at one moment, and the two forms it is printed in.

mod json;
mod text;

use std::io::{self, Write};

use serde::Serialize;

use crate::Frame;

/// All threads of one process at one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Dump {
    /// The process's id.
    pub pid: u32,
    /// Node's version as Node writes it, `v24.21.0`; absent where unknown.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub node: Option<String>,
    /// V8's version, `13.6.233.17-node.53`; absent where unknown.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub v8: Option<String>,
    /// Its command line, one argument an entry.
    pub command: Vec<String>,
    /// What took the stacks: `ptrace`.
    pub sampler: String,
    /// Its threads.
    pub threads: Vec<ThreadDump>,
}

/// One thread.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct ThreadDump {
    /// Its id.
    pub tid: u32,
    /// Its name, which a program may choose; empty where it has none.
    pub name: String,
    /// What it is for, where that is known: `(v8 worker)`.
    #[serde(skip)]
    pub role: Option<String>,
    /// Whether its stack could be taken at all.
    #[serde(skip)]
    pub taken: bool,
    /// Whether `frames` has the thread's first function.
    pub complete: bool,
    /// Innermost first.
    pub frames: Vec<Frame>,
}

impl Dump {
    /// Writes it for people.
    ///
    /// # Errors
    /// Those of writing to `out`.
    pub fn write_text(&self, out: &mut dyn Write) -> io::Result<()> {
        text::write(self, out)
    }

    /// Writes it for programs.
    ///
    /// # Errors
    /// Those of writing to `out`.
    pub fn write_json(&self, out: &mut dyn Write) -> io::Result<()> {
        json::write(self, out)
    }
}

#[cfg(test)]
mod testing {
    use super::*;
    use crate::{Kind, Position, Tier};

    /// A process with a thread of every kind.
    pub fn dump() -> Dump {
        let inner = Frame {
            file: Some("/srv/app.js".into()),
            position: Position::new(12, 7),
            function_position: Position::new(10, 1),
            tier: Some(Tier::Optimized),
            inlined: true,
            ..Frame::new(Kind::Js, "inner")
        };
        let unplaced = Frame {
            position: None,
            tier: Some(Tier::Interpreted),
            inlined: false,
            ..inner.clone()
        };
        let native = Frame {
            file: Some("/usr/bin/node".into()),
            ..Frame::new(Kind::Native, "node::Start")
        };
        let thread = |tid, name: &str, frames: &[&Frame]| ThreadDump {
            tid,
            name: name.to_owned(),
            taken: true,
            complete: true,
            frames: frames.iter().map(|&frame| frame.clone()).collect(),
            ..ThreadDump::default()
        };
        let map = Frame::new(Kind::Builtin, "Array.prototype.map");
        Dump {
            pid: 7,
            node: Some("v24.21.0".to_owned()),
            v8: Some("13.6.233.17-node.53".to_owned()),
            command: vec!["node".to_owned(), "a\nb.js".to_owned()],
            sampler: "ptrace".to_owned(),
            threads: vec![
                ThreadDump {
                    role: Some("(main thread)".to_owned()),
                    ..thread(7, "node", &[&inner, &map, &unplaced, &native])
                },
                ThreadDump {
                    complete: false,
                    ..thread(8, "say \"\x1b", &[&native])
                },
                ThreadDump {
                    complete: false,
                    taken: false,
                    ..thread(9, "", &[])
                },
            ],
        }
    }
}
