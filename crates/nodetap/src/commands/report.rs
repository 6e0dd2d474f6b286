//! `nodetap report FILE`: any format, and any part, of a recording that was kept.

use std::path::{Path, PathBuf};

use clap::{Args, ValueHint};
use nodetap_profile::{Format, Profile, formats, visible};

use crate::arguments;
use crate::failure::{Failure, Result};
use crate::open::Place;
use crate::output::Output;
use crate::recording::closing_line;
use crate::saved;
use crate::selection::{Selection, filtered};
use crate::terminal;

/// Make any format of a recording that was kept.
///
/// FILE is what 'nodetap record -o FILE.nodetap' wrote, or -f json. A recording that was
/// cut short, for nodetap was killed or the disk was full, is shown as far as it goes; so is
/// one that is still being made.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct Arguments {
    /// The recording; - is stdin
    #[arg(value_name = "FILE", value_hint = ValueHint::FilePath)]
    file: PathBuf,

    #[arg(short, long, value_parser = arguments::formats(), hide_possible_values = true)]
    #[arg(help = arguments::FORMAT_HELP)]
    format: Option<Format>,

    /// Where to write the result [default: -, which is stdout]
    #[arg(short, long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    output: Option<PathBuf>,

    /// Show the result in a browser; without --output it is a web page in a temporary file
    #[arg(long)]
    open: bool,

    /// List its processes and threads, and how many samples each has
    #[arg(long, conflicts_with_all = ["format", "output", "open"])]
    list: bool,

    /// Leave out the text of the lines that were executing
    #[arg(long)]
    no_source_text: bool,

    #[command(flatten)]
    selection: Selection,
}

const EXAMPLES: &str = "\
Examples:
  The tree of calls of a recording
    nodetap report out.nodetap
  A flame graph of its main thread, from the third second to the fifth
    nodetap report out.nodetap --thread main --from 3 --to 5 -o out.svg
  Which npm packages take the time?
    nodetap report out.nodetap --by package
  Only what parses, but not in tests
    nodetap report out.nodetap --focus 'parse' --ignore '/test/'
  A page of all that it has, in the browser
    nodetap report out.nodetap --open
  The same recording for somebody who is not to see any source
    nodetap report out.nodetap --no-source-text -o theirs.nodetap
  Which threads are there?
    nodetap report out.nodetap --list";

/// Does it.
pub fn run(arguments: &Arguments) -> Result<()> {
    let format = match (arguments.format, &arguments.output) {
        (None, None) if arguments.open => Format::Html,
        (format, output) => arguments::output_format(format, output.as_deref())?,
    };
    let Selection { by, .. } = arguments.selection;
    arguments::check_rows(format, by)?;
    let mut filter = arguments.selection.filter()?;
    filter.without_sources = arguments.no_source_text;
    let place = match arguments.open {
        true => Some(Place::choose(arguments.output.as_deref(), format)?),
        false => None,
    };
    let path = place.as_ref().map(Place::path);
    let output = Output::open_for(path.or(arguments.output.as_deref()), format)?;

    let one_by_one = filter.needs_sequence() || (format.needs_sequence() && !arguments.list);
    let profile = saved::read(&arguments.file, one_by_one)?;
    let (metadata, all) = (profile.metadata.clone(), profile.sample_count());
    let profile = filtered(profile, &filter, &shown(&arguments.file))?;
    if arguments.list {
        return output.write(|to| to.write_all(list(&profile).as_bytes()));
    }
    if all == 0 {
        terminal::note("no samples in the recording");
    }
    if let Some(left_out) = formats::left_out(&profile, format) {
        terminal::note(left_out);
    }
    let width = output.width();
    output.write(|to| formats::write_by(&profile, format, by, width, to))?;
    match filter.is_any() {
        true => {
            let left = profile.sample_count();
            let share = 100.0 * left as f64 / all as f64;
            terminal::line(format_args!("{left} of {all} samples ({share:.1} %)"));
        }
        false => terminal::line(closing_line(&metadata, all, None)),
    }
    if let Some(place) = place {
        place.open();
    }
    Ok(())
}

/// A recording as people may name it in a command.
pub fn shown(file: &Path) -> String {
    file.display().to_string()
}

/// A line for each process, and one for each of its threads that was sampled.
fn list(profile: &Profile) -> String {
    let mut samples = vec![0_u64; profile.threads().len()];
    for (key, count) in profile.counts() {
        samples[key.thread.index()] += count;
    }
    let all = profile.sample_count().max(1) as f64;
    let mut lines = format!("{:>9} {:>8}  {:>9}  name\n", "samples", "", "thread");
    let mut pids: Vec<u32> = profile.processes().iter().map(|it| it.pid).collect();
    pids.extend(profile.threads().iter().map(|it| it.pid));
    let mut seen = std::collections::HashSet::new();
    pids.retain(|pid| seen.insert(*pid));
    for pid in pids {
        let process = profile.processes().iter().find(|it| it.pid == pid);
        lines += &format!("{}\n", nodetap_profile::process_label(pid, process));
        let threads = profile.threads().iter().zip(&samples);
        let mut threads: Vec<_> = threads.filter(|(it, _)| it.pid == pid).collect();
        threads.sort_by_key(|(thread, samples)| (std::cmp::Reverse(**samples), thread.tid));
        for (thread, samples) in threads {
            let share = 100.0 * *samples as f64 / all;
            let main = if thread.tid == pid { " (main)" } else { "" };
            lines += &format!(
                "{samples:>9} {share:>6.1} %  {:>9}  {}{main}\n",
                thread.tid,
                visible(&thread.name)
            );
        }
    }
    lines
}

/// Where there is nothing to compare or draw.
pub fn without_samples(shown: &str) -> Failure {
    Failure::new(format_args!("there are no samples in {shown}"))
}
