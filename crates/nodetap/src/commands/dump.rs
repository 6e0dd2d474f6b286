//! `nodetap dump -p PID`: every thread's stack, once, now; or, with `--core`, when the
//! process crashed.

use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use clap::Args;
use nodetap_profile::{Dump, Metadata, Profile, ThreadDump};
use nodetap_sampler::core::{self, Core};
use nodetap_sampler::ptrace::{self, Snapshot};
use nodetap_sampler::target::{Target, TargetError, is_node_library};
use nodetap_symbols::{Options, Symbolizer};
use tracing::debug;

use crate::arguments;
use crate::failure::{Failure, Result};
use crate::job_control::HeldStops;
use crate::permissions;
use crate::terminal;

/// Print the stack of every thread, once, now.
///
/// Threads that wait are there too: what does a process wait for that does
/// nothing? All threads stand still for a moment, some milliseconds, while their
/// stacks are copied; nothing in the process is changed. Every frame is shown,
/// the innermost first, with the line and column where it executes and what ran
/// it: V8's interpreter, one of its compilers, or native code.
///
/// A process that crashed, or that somebody ran gcore on, may have left a core file:
/// --core prints the same of that. Threads have no names there. The program must be
/// here too, the very same build.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct Arguments {
    /// The process
    #[arg(short, long, value_name = "PID", required_unless_present_any = ["core", "exe"])]
    #[arg(value_parser = arguments::pid, allow_negative_numbers = true)]
    pid: Option<u32>,

    /// The core file of a process, instead of one that runs
    #[arg(long, value_name = "FILE", conflicts_with = "pid")]
    core: Option<PathBuf>,

    /// The program that left the core file [default: where it was then]
    #[arg(long, value_name = "PATH", requires = "core")]
    exe: Option<PathBuf>,

    /// Print JSON, for programs
    #[arg(long)]
    json: bool,

    /// Show TypeScript and bundles as the JavaScript that runs, not by their source maps
    #[arg(long)]
    no_source_maps: bool,
}

const EXAMPLES: &str = "\
Examples:
  What is it doing, or waiting for?
    sudo nodetap dump -p 4711
  The same as JSON: the functions of the main thread
    sudo nodetap dump -p 4711 --json | jq -r '.threads[0].frames[].function'
  Where was it when it crashed?
    nodetap dump --core core.4711
  The same, with its program copied from the server
    nodetap dump --core core.4711 --exe ./node";

/// Does it.
pub fn run(arguments: &Arguments) -> Result<()> {
    let options = Options {
        source_maps: !arguments.no_source_maps,
        ..Options::default()
    };
    let dump = match (&arguments.core, arguments.pid) {
        (Some(core), _) => dump_core(core, arguments.exe.as_deref(), options)?,
        (None, Some(pid)) => dump(pid, options)?,
        (None, None) => return Err(Failure::usage("a process or a core file is needed")),
    };
    let mut out = BufWriter::new(io::stdout().lock());
    let written = match arguments.json {
        true => dump.write_json(&mut out),
        false => dump.write_text(&mut out),
    };
    written
        .and_then(|()| out.flush())
        .map_err(|error| Failure::of_stdout(&error))
}

fn dump(pid: u32, options: Options) -> Result<Dump> {
    let target = Target::attach(pid).map_err(|error| permissions::failure_of_target(&error))?;
    let symbolizer = symbolizer(&target, options)?;
    let held = HeldStops::hold()?;
    let Snapshot { threads, stopped } =
        ptrace::snapshot(&target).map_err(|error| permissions::failure_of_ptrace(&error))?;
    debug!(threads = threads.len(), ?stopped, "taken");
    drop(held);
    // The threads run again; what their frames are called is looked up now.
    Ok(name(&target, symbolizer, threads, "ptrace"))
}

/// The same of a process that left a core file.
fn dump_core(path: &Path, executable: Option<&Path>, options: Options) -> Result<Dump> {
    let core = Core::open(path, executable)
        .map_err(|error| Failure::new(&error).hint_maybe(error.hint()))?;
    let core = Arc::new(core);
    let missing = core.missing_files();
    let target = Target::of_core(&core).map_err(|error| {
        let failure = Failure::new(format_args!("{}: {error}", path.display()));
        match missing.iter().find(|path| is_node_library(path)) {
            Some(library) => failure.hint(format_args!(
                "{} is not here, or is another build",
                library.display()
            )),
            None => failure,
        }
    })?;
    if let Some((signal, tid)) = core.ended_by() {
        terminal::note(format_args!("thread {tid} got {}", signal_name(signal)));
    }
    if !missing.is_empty() {
        let missing: Vec<String> = missing.iter().map(|it| it.display().to_string()).collect();
        terminal::note(format_args!(
            "not here, or other builds, so that what is in them has no name: {}",
            missing.join(", ")
        ));
    }
    let symbolizer = symbolizer(&target, options)?;
    let Snapshot { threads, .. } = core::snapshot(&core, &target)
        .map_err(|error| Failure::new(format_args!("cannot read {}: {error}", path.display())))?;
    Ok(name(&target, symbolizer, threads, "core"))
}

fn symbolizer(target: &Target, options: Options) -> Result<Symbolizer> {
    let mut symbolizer = Symbolizer::new(options);
    symbolizer.attach(target).map_err(|error| {
        permissions::failure_of_target(&TargetError::io(target.pid, &target.command, error))
    })?;
    Ok(symbolizer)
}

/// Gives every frame its name.
fn name(
    target: &Target,
    mut symbolizer: Symbolizer,
    threads: Vec<ptrace::ThreadStack>,
    sampler: &str,
) -> Dump {
    symbolizer.begin_batch(target);
    let mut frames = Profile::new(Metadata::new(sampler, 0));
    let samples = threads.iter().filter_map(|thread| thread.sample.as_ref());
    let samples: Vec<_> = samples.map(|sample| sample.as_ref()).collect();
    let mut stacks = symbolizer.stacks(target, samples, &mut frames).into_iter();
    symbolizer.take_notes().iter().for_each(terminal::note);
    let mut name = |thread: &ptrace::ThreadStack| {
        // They are in the threads' order.
        let stack = thread.sample.as_ref().and_then(|_| stacks.next()?);
        let dump = ThreadDump {
            tid: thread.tid,
            name: thread.name.clone(),
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
    let threads = threads.iter().map(&mut name).collect();
    Dump {
        pid: target.pid,
        node: target.node_version.clone(),
        v8: Some(target.v8_version.clone()),
        command: target.command.clone(),
        sampler: sampler.to_owned(),
        threads,
    }
}

/// `SIGSEGV`, for those that end a process with a core file.
fn signal_name(signal: i32) -> String {
    let name = signal_hook::low_level::signal_name(signal);
    name.map_or_else(|| format!("signal {signal}"), str::to_owned)
}
