//! Which part of a recording is wanted, and what a row of it stands for: options that
//! commands share.

use std::time::Duration;

use clap::Args;
use nodetap_profile::{By, Filter, Profile, Regex, ThreadChoice};

use crate::arguments;
use crate::failure::{Failure, Result, reason};

/// The options. Samples that all of them hold for are left.
#[derive(Clone, Debug, Args)]
pub struct Selection {
    /// Only this thread: its id, its name, or `main`; give it again for more than one
    #[arg(long = "thread", value_name = "TID|NAME|main", help_heading = HEADING)]
    threads: Vec<String>,

    /// Only this process; give it again for more than one
    #[arg(short, long = "pid", value_name = "PID", help_heading = HEADING)]
    #[arg(value_parser = arguments::pid, allow_negative_numbers = true)]
    pids: Vec<u32>,

    /// Only from here on, in seconds after the recording's start
    #[arg(long, value_name = "SECS", help_heading = HEADING)]
    #[arg(value_parser = arguments::moment, allow_negative_numbers = true)]
    from: Option<Duration>,

    /// Only until here
    #[arg(long, value_name = "SECS", help_heading = HEADING)]
    #[arg(value_parser = arguments::moment, allow_negative_numbers = true)]
    to: Option<Duration>,

    /// Only stacks with a frame that matches; a frame reads `function file:line`
    #[arg(long, value_name = "REGEX", help_heading = HEADING)]
    #[arg(value_parser = arguments::regex, allow_hyphen_values = true)]
    focus: Option<Regex>,

    /// Only stacks without a frame that matches
    #[arg(long, value_name = "REGEX", help_heading = HEADING)]
    #[arg(value_parser = arguments::regex, allow_hyphen_values = true)]
    ignore: Option<Regex>,

    /// What a row is: function, line (that was executing), file or package
    #[arg(long, value_name = "WHAT", default_value = "function", help_heading = HEADING)]
    #[arg(value_parser = arguments::by)]
    pub by: By,
}

const HEADING: &str = "What to show";

impl Selection {
    /// The part that is wanted.
    ///
    /// # Errors
    /// Where it can only be empty.
    pub fn filter(&self) -> Result<Filter> {
        if let (Some(from), Some(to)) = (self.from, self.to)
            && from >= to
        {
            return Err(Failure::usage("--from must be before --to"));
        }
        Ok(Filter {
            threads: self
                .threads
                .iter()
                .map(|it| ThreadChoice::new(it))
                .collect(),
            pids: self.pids.clone(),
            from: self.from,
            to: self.to,
            focus: self.focus.clone(),
            ignore: self.ignore.clone(),
            without_sources: false,
        })
    }
}

/// The part of a recording, called `shown`, that `filter` leaves.
///
/// # Errors
/// Where that is nothing, though there was something.
pub fn filtered(profile: Profile, filter: &Filter, shown: &str) -> Result<Profile> {
    if !filter.is_any() && !filter.without_sources {
        return Ok(profile);
    }
    let is_there = |choice: &&ThreadChoice| profile.threads().iter().any(|it| choice.is(it));
    if let Some(choice) = filter.threads.iter().find(|choice| !is_there(choice)) {
        let choice = match choice {
            ThreadChoice::Main => "main thread".to_owned(),
            ThreadChoice::Tid(tid) => format!("thread {tid}"),
            ThreadChoice::Named(name) => format!("thread '{name}'"),
        };
        return Err(
            Failure::new(format_args!("there is no {choice} in {shown}")).hint(format_args!(
                "'nodetap report --list {shown}' lists its threads"
            )),
        );
    }
    let is_there = |pid: &&u32| {
        let threads = profile.threads().iter().map(|it| it.pid);
        let mut all = profile.processes().iter().map(|it| it.pid).chain(threads);
        all.any(|it| it == **pid)
    };
    if let Some(pid) = filter.pids.iter().find(|pid| !is_there(pid)) {
        return Err(
            Failure::new(format_args!("there is no process {pid} in {shown}")).hint(format_args!(
                "'nodetap report --list {shown}' lists its processes"
            )),
        );
    }
    let part = filter.apply(&profile).map_err(|error| {
        Failure::new(format_args!(
            "cannot read the samples again: {}",
            reason(&error)
        ))
    })?;
    if part.sample_count() == 0 && profile.sample_count() > 0 {
        return Err(Failure::new(format_args!(
            "none of the {} samples in {shown} is left",
            profile.sample_count()
        ))
        .hint(format_args!(
            "it has {:.1} s; 'nodetap report {shown}' shows all that --focus may match",
            profile.metadata.duration.as_secs_f64()
        )));
    }
    Ok(part)
}
