//! `nodetap top -p PID`: a live view in the terminal.

use std::io::{self, IsTerminal};

use clap::Args;

use crate::arguments;
use crate::choose;
use crate::failure::{Failure, Result};
use crate::taking::Taking;
use crate::top::{self, Settings};

/// Look at what processes do while they do it.
///
/// A table of functions, by how much of the last second and of the time since the start
/// they took, themselves and with what they called; by package, by thread, or as a flame
/// graph. Above it stands what the main thread does, and how long its event loop is kept
/// from taking the next event. '?' shows what the keys do.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct Arguments {
    /// The process to look at; give it again for more than one [default: asks]
    #[arg(short, long = "pid", value_name = "PID")]
    #[arg(value_parser = arguments::pid, allow_negative_numbers = true)]
    pids: Vec<u32>,

    #[command(flatten)]
    taking: Taking,
}

const EXAMPLES: &str = "\
Examples:
  What does process 4711 do?
    sudo nodetap top -p 4711
  A process of your own; it need not be root
    nodetap top -p 4711
  Two processes as one, with C++ frames
    sudo nodetap top -p 4711 -p 4712 --native
  The one that runs as 'node server.js'
    sudo nodetap top -p $(pgrep -f 'node server.js')";

/// Does it.
pub fn run(arguments: &Arguments) -> Result<()> {
    let is_dumb = std::env::var_os("TERM").is_none_or(|term| term == "dumb" || term.is_empty());
    if !io::stdout().is_terminal() || is_dumb {
        return Err(Failure::usage("'nodetap top' needs a terminal to draw on")
            .hint("for a pipe or a file: nodetap record -p PID -d 10"));
    }
    top::run(&Settings {
        pids: choose::or_ask(&arguments.pids, "look at")?,
        sampling: arguments.taking.sampling(false),
        shown: arguments.taking.shown(false),
    })
}
