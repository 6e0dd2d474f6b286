//! `nodetap dump -p PID`: every thread's stack, once, now.

use std::io::{self, BufWriter, Write};

use clap::Args;
use nodetap_profile::{Dump, Metadata, Profile, ThreadDump};
use nodetap_sampler::ptrace::{self, Snapshot};
use nodetap_sampler::target::Target;
use nodetap_symbols::{Options, Symbolizer};
use tracing::debug;

use crate::arguments;
use crate::failure::{Failure, Result, reason};
use crate::permissions;

/// Print the stack of every thread, once, now.
///
/// Threads that wait are there too: what does a process wait for that does
/// nothing? All threads stand still for a moment, some milliseconds, while their
/// stacks are copied; nothing in the process is changed. Every frame is shown,
/// the innermost first, with the line and column where it executes and what ran
/// it: V8's interpreter, one of its compilers, or native code.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct Arguments {
    /// The process
    #[arg(short, long, value_name = "PID")]
    #[arg(value_parser = arguments::pid, allow_negative_numbers = true)]
    pid: u32,

    /// Print JSON, for programs
    #[arg(long)]
    json: bool,
}

const EXAMPLES: &str = "\
Examples:
  What is it doing, or waiting for?
    sudo nodetap dump -p 4711
  The same as JSON: the functions of the main thread
    sudo nodetap dump -p 4711 --json | jq -r '.threads[0].frames[].function'";

/// Does it.
pub fn run(arguments: &Arguments) -> Result<()> {
    let dump = dump(arguments.pid)?;
    let mut out = BufWriter::new(io::stdout().lock());
    let written = match arguments.json {
        true => dump.write_json(&mut out),
        false => dump.write_text(&mut out),
    };
    written
        .and_then(|()| out.flush())
        .map_err(|error| Failure::of_stdout(&error))
}

fn dump(pid: u32) -> Result<Dump> {
    let target = Target::attach(pid).map_err(|error| permissions::failure_of_target(&error))?;
    let mut symbolizer = Symbolizer::new(Options::default());
    symbolizer.attach(&target).map_err(|error| {
        Failure::new(format_args!(
            "cannot read the mappings of process {pid}: {}",
            reason(&error)
        ))
    })?;
    let Snapshot { threads, stopped } =
        ptrace::snapshot(&target).map_err(|error| permissions::failure_of_ptrace(&error))?;
    debug!(threads = threads.len(), ?stopped, "taken");

    // The threads run again; what their frames are called is looked up now.
    symbolizer.begin_batch(&target);
    let mut frames = Profile::new(Metadata::new("ptrace", 0));
    let mut name = |thread: ptrace::ThreadStack| {
        let stack = thread
            .sample
            .and_then(|sample| symbolizer.stack(&target, &sample.as_ref(), &mut frames));
        let dump = ThreadDump {
            tid: thread.tid,
            name: thread.name,
            ..ThreadDump::default()
        };
        match stack {
            Some(stack) => ThreadDump {
                role: stack.role.map(str::to_owned),
                taken: true,
                complete: stack.complete,
                frames: stack.frames,
                ..dump
            },
            None => dump,
        }
    };
    let threads = threads.into_iter().map(&mut name).collect();
    Ok(Dump {
        pid,
        node: target.node_version.clone(),
        v8: Some(target.v8_version.clone()),
        command: target.command.clone(),
        sampler: "ptrace".to_owned(),
        threads,
    })
}
