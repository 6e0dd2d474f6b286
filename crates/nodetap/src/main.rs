//! `nodetap`, the command line: what it is asked, whom it asks, how it ends.
//!
//! `commands` has a file for each command; `failure` and `usage` are the two
//! ways to end without a result.

mod arguments;
mod choose;
mod commands;
mod failure;
mod interrupt;
mod job_control;
mod open;
mod output;
mod permissions;
mod processes;
mod progress;
mod recording;
mod saved;
mod selection;
mod taking;
mod terminal;
mod top;
mod usage;
mod watch;

use std::panic;
use std::process::{ExitCode, exit};

use clap::{Parser, Subcommand};
use tracing_subscriber::EnvFilter;

use commands::top as top_command;
use commands::{completions, diff, doctor, dump, man, ps, record, report, sample};

/// A profiler for running Node.js processes: nothing to install in them, no
/// flag to start them with, no restart.
#[derive(Debug, Parser)]
#[command(version, max_term_width = 100, after_help = EXAMPLES)]
#[command(subcommand_required = true, arg_required_else_help = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

const EXAMPLES: &str = "\
Examples:
  Which Node.js processes are there?
    nodetap ps
  Where does process 4711 spend its time? A tree, after ten seconds
    sudo nodetap sample 4711 text 10
  The same while it goes on
    sudo nodetap top -p 4711
  A flame graph of it, for a browser
    sudo nodetap record -p 4711 -d 10 -o out.svg
  Keep all that was recorded, and look at it later
    sudo nodetap record -p 4711 -d 10 -o out.nodetap
    nodetap report out.nodetap --by package
  What does it do at this moment, or wait for?
    sudo nodetap dump -p 4711
  Why does it not work here?
    nodetap doctor

What is in a command: nodetap COMMAND --help";

#[derive(Debug, Subcommand)]
enum Command {
    // What each does is told by its arguments.
    Sample(sample::Arguments),
    Record(record::Arguments),
    Report(report::Arguments),
    Diff(diff::Arguments),
    Dump(dump::Arguments),
    Top(top_command::Arguments),
    Ps(ps::Arguments),
    Doctor(doctor::Arguments),
    Completions(completions::Arguments),
    Man(man::Arguments),
}

fn main() -> ExitCode {
    tell_bugs_in_two_lines();
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => return usage::end(&error),
    };
    log_to_stderr_if_asked();
    let result = match cli.command {
        Command::Sample(arguments) => sample::run(&arguments),
        Command::Record(arguments) => record::run(&arguments),
        Command::Report(arguments) => report::run(&arguments),
        Command::Diff(arguments) => diff::run(&arguments),
        Command::Dump(arguments) => dump::run(&arguments),
        Command::Ps(arguments) => ps::run(&arguments),
        Command::Top(arguments) => top_command::run(&arguments),
        Command::Doctor(arguments) => doctor::run(&arguments),
        Command::Completions(arguments) => completions::run(&arguments),
        Command::Man(arguments) => man::run(&arguments),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => failure.report(),
    }
}

/// `RUST_LOG=debug nodetap …` shows what happens and how long it takes.
fn log_to_stderr_if_asked() {
    if std::env::var_os(EnvFilter::DEFAULT_ENV).is_none_or(|filter| filter.is_empty()) {
        return;
    }
    let stderr = std::io::stderr;
    tracing_subscriber::fmt()
        .with_env_filter(EnvFilter::from_default_env())
        .with_writer(stderr)
        .with_ansi(terminal::colours(&stderr()))
        .log_internal_errors(false)
        .init();
}

/// A panic is a mistake of ours: it is told as any failure is.
fn tell_bugs_in_two_lines() {
    panic::set_hook(Box::new(|panic| {
        top::screen::leave();
        let place = panic.location().map(ToString::to_string);
        let payload = panic.payload();
        let text = payload.downcast_ref::<&str>().copied();
        let message = text.or_else(|| payload.downcast_ref::<String>().map(String::as_str));
        let message = message.unwrap_or("no message");
        terminal::labelled(
            "error",
            format_args!(
                "nodetap has a bug: {message} ({})",
                place.unwrap_or_default()
            ),
        );
        terminal::hint(concat!(
            "please report it with these lines at ",
            env!("CARGO_PKG_REPOSITORY"),
            "/issues"
        ));
        exit(1);
    }));
}
