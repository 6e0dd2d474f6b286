//! `nodetap ps`: the Node.js processes of this machine.

use std::io::{self, IsTerminal, Write};

use clap::Args;
use rustix::termios::tcgetwinsize;

use crate::failure::{Failure, Result};
use crate::processes::{NONE_SEEN, Processes};
use crate::terminal::{self, colours};

/// List the Node.js processes of this machine.
///
/// For each: its id, the versions of Node.js and V8, how many threads it has,
/// how much of a CPU it uses now, whether it can be profiled by this user (and
/// if not, why), and its command line.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct Arguments {}

const EXAMPLES: &str = "\
Examples:
  Those of this user; as root, those of everybody
    nodetap ps
    sudo nodetap ps
  The one that uses the most CPU: the process to look at first
    sudo nodetap ps | sort -rnk5 | head -n 1";

/// Lists them.
pub fn run(_: &Arguments) -> Result<()> {
    let processes = Processes::look()?;
    if processes.are_none() {
        terminal::note(NONE_SEEN);
        terminal::hint("processes of other PID namespaces (containers, the host) stay unseen");
        return Ok(());
    }
    let stdout = io::stdout();
    let width = match stdout.is_terminal() {
        true => tcgetwinsize(&stdout).ok().map(|size| size.ws_col.into()),
        false => None,
    };
    let table = processes.table(false, width, colours(&stdout));
    stdout
        .lock()
        .write_all(table.as_bytes())
        .map_err(|error| Failure::of_stdout(&error))?;
    for hint in processes.hints() {
        terminal::hint(hint);
    }
    Ok(())
}
