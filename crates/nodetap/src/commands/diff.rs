//! `nodetap diff BEFORE AFTER`: what got slower and faster between two recordings.

use std::path::PathBuf;

use clap::{Args, ValueHint};
use nodetap_profile::{Diff, DiffFormat, Format};

use crate::arguments;
use crate::commands::report::{shown, without_samples};
use crate::failure::{Failure, Result};
use crate::open::Place;
use crate::output::Output;
use crate::saved;
use crate::selection::{Selection, filtered};
use crate::terminal;

/// Compare two recordings: what got slower, and what faster.
///
/// Shares of all samples are compared, so the recordings need not be of the same length.
/// Functions are the same if they have the same name and file; where several have, their
/// lines decide, moved as far as the functions around them have. What changed most comes
/// first.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct Arguments {
    /// The recording of before (.nodetap or JSON)
    #[arg(value_hint = ValueHint::FilePath)]
    before: PathBuf,

    /// The recording of after
    #[arg(value_hint = ValueHint::FilePath)]
    after: PathBuf,

    /// text (a table), json or flame [default: what the output's extension says, .svg or
    /// .json; else text]
    #[arg(short, long, value_parser = arguments::diff_formats(), hide_possible_values = true)]
    format: Option<Format>,

    /// Where to write the result [default: -, which is stdout]
    #[arg(short, long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    output: Option<PathBuf>,

    /// Show the result in a browser; without --output it is a flame graph in a
    /// temporary file
    #[arg(long)]
    open: bool,

    #[command(flatten)]
    selection: Selection,
}

const EXAMPLES: &str = "\
Examples:
  What got slower with the new version?
    nodetap diff old.nodetap new.nodetap
  As a flame graph of the new one: red is more than before, blue is less
    nodetap diff old.nodetap new.nodetap -o diff.svg
  By npm package, of the main thread
    nodetap diff old.nodetap new.nodetap --by package --thread main";

/// Does it.
pub fn run(arguments: &Arguments) -> Result<()> {
    let format = match (arguments.format, &arguments.output) {
        (None, None) if arguments.open => Format::Flame,
        (format, output) => arguments::output_format(format, output.as_deref())?,
    };
    let written_as = match format {
        Format::Text => DiffFormat::Text,
        Format::Json => DiffFormat::Json,
        Format::Flame => DiffFormat::Flame,
        other => {
            return Err(Failure::usage(format_args!("diff does not write {other}"))
                .hint("name a format that it does with --format: text, json, flame"));
        }
    };
    let filter = arguments.selection.filter()?;
    let place = Place::if_asked(arguments.open, arguments.output.as_deref(), format)?;
    let path = place.as_ref().map(Place::path);
    let output = Output::open_for(path.or(arguments.output.as_deref()), format)?;
    let read = |file: &PathBuf| {
        let shown = shown(file);
        let profile = saved::read(file, filter.needs_sequence())?;
        let all = profile.sample_count();
        match filtered(profile, &filter, &shown)? {
            none if none.sample_count() == 0 => Err(without_samples(&shown)),
            part => Ok((part, all)),
        }
    };
    let (before, before_all) = read(&arguments.before)?;
    let (after, after_all) = read(&arguments.after)?;
    let diff = Diff::new(&before, &after, arguments.selection.by);
    output.write(|to| diff.write(written_as, to))?;
    if filter.is_any() {
        terminal::line(format_args!(
            "{} of {before_all} samples before, {} of {after_all} after",
            before.sample_count(),
            after.sample_count()
        ));
    }
    if let Some(place) = place {
        place.open();
    }
    Ok(())
}
