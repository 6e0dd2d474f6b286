//! `nodetap record -p PID`: a recording with all options.

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, ValueHint};
use nodetap_profile::{By, Format};

use crate::arguments;
use crate::choose;
use crate::failure::Result;
use crate::recording::{self, Settings};
use crate::taking::Taking;

/// Sample processes, with all options.
///
/// Every thread of the processes, those born meanwhile included, is sampled at
/// the same rate of the CPU time that it uses. The processes are neither stopped
/// nor changed. (Who is not root gets another sampler, which stops a thread for a
/// moment for each sample; and with --wall threads that wait are, once.) Ctrl-C ends a
/// recording early; what was taken is written.
///
/// A command that is started here has nodetap's own input, output and terminal. It
/// gets the signals that nodetap gets, and nodetap ends with its exit status.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct Arguments {
    /// The process to sample; give it again for more than one [default: asks]
    #[arg(short, long = "pid", value_name = "PID")]
    #[arg(value_parser = arguments::pid, allow_negative_numbers = true)]
    pids: Vec<u32>,

    /// Start this command and sample it from its first instruction until it ends
    #[arg(last = true, value_name = "COMMAND", conflicts_with = "pids")]
    #[arg(value_hint = ValueHint::CommandWithArguments)]
    command: Vec<OsString>,

    /// Sample the processes that it starts too: what a shell, npm or cluster runs
    #[arg(long)]
    subprocesses: bool,

    /// For how long; fractions are fine [default: until Ctrl-C, or the end of
    /// the process]
    #[arg(short, long, value_name = "SECS", hide_default_value = true)]
    #[arg(value_parser = arguments::duration, allow_negative_numbers = true)]
    duration: Option<Duration>,

    #[arg(short, long, value_parser = arguments::formats(), hide_possible_values = true)]
    #[arg(help = arguments::FORMAT_HELP)]
    format: Option<Format>,

    /// Where to write the result [default: -, which is stdout]
    #[arg(short, long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    output: Option<PathBuf>,

    /// Show the result in a browser when it is there; without --output it is a web
    /// page in a temporary file
    #[arg(long)]
    open: bool,

    /// What a row of text, raw, folded or flame is: function, line (that was
    /// executing), file or package
    #[arg(long, value_name = "WHAT", default_value = "function")]
    #[arg(value_parser = arguments::by)]
    by: By,

    /// Where threads wait, too: blocked, idle, or without a CPU
    #[arg(long)]
    wall: bool,

    /// Do not keep the text of the lines that were executing
    #[arg(long)]
    no_source_text: bool,

    #[command(flatten)]
    taking: Taking,
}

const EXAMPLES: &str = "\
Examples:
  A flame graph of ten seconds, for a browser
    sudo nodetap record -p 4711 -d 10 -o out.svg
  A page with graphs, a time line and tables
    sudo nodetap record -p 4711 -d 10 -o out.html
  For Chrome's DevTools or VS Code
    sudo nodetap record -p 4711 -d 10 -o out.cpuprofile
  Until Ctrl-C; then a tree of calls
    sudo nodetap record -p 4711
  The same, shown in the browser
    sudo nodetap record -p 4711 -d 10 --open
  A program from its first instruction to its end; it need not be root
    nodetap record -o out.svg -- node app.js
  With all processes that it starts
    nodetap record --subprocesses -o out.svg -- npm start
  All there is to know, to look at later ('nodetap report')
    sudo nodetap record -p 4711 -d 60 -o out.nodetap
  What it waits for, besides what it computes
    sudo nodetap record -p 4711 -d 10 --wall -o out.svg
  Two processes, C++ frames too, more often
    sudo nodetap record -p 4711 -p 4712 -d 5 -r 4999 --native -o out.svg
  The same for a program
    sudo nodetap record -p 4711 -d 10 -f json | jq '.threads'";

/// Does it.
pub fn run(arguments: &Arguments) -> Result<()> {
    // Wrong usage is told before anybody is asked.
    let format = match (arguments.format, &arguments.output) {
        (None, None) if arguments.open => Format::Html,
        (format, output) => arguments::output_format(format, output.as_deref())?,
    };
    arguments::check_rows(format, arguments.by)?;
    let pids = match arguments.command.is_empty() {
        true => choose::or_ask(&arguments.pids, "record")?,
        false => Vec::new(),
    };
    let sources = !arguments.no_source_text && format.shows_sources(arguments.by);
    recording::record(&Settings {
        pids,
        command: (!arguments.command.is_empty()).then(|| arguments.command.clone()),
        subprocesses: arguments.subprocesses,
        duration: arguments.duration,
        sampling: arguments.taking.sampling(arguments.wall),
        shown: arguments.taking.shown(sources),
        format,
        by: arguments.by,
        output: arguments.output.clone(),
        open: arguments.open,
        announcement: None,
    })
}
