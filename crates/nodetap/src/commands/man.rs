//! `nodetap man FOLDER`: the manual, a page for each command, as packagers want it.

use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use clap::{Args, CommandFactory};
use clap_mangen::Man;
use clap_mangen::roff::{Roff, roman};

use crate::failure::{Failure, Result, reason};

/// Write the manual, a page for each command, into a folder.
///
/// `make install` has done that; this is for who has only the binary, and for packages.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct Arguments {
    /// The folder; it is created where it is missing
    folder: PathBuf,
}

const EXAMPLES: &str = "\
Examples:
  For everybody on this machine; then: man nodetap-record
    sudo nodetap man /usr/local/share/man/man1
  To look at one page
    nodetap man /tmp/man && man /tmp/man/nodetap-top.1";

/// Writes it.
pub fn run(arguments: &Arguments) -> Result<()> {
    let folder = &arguments.folder;
    write(folder).map_err(|error| {
        Failure::new(format_args!(
            "cannot write to '{}': {}",
            folder.display(),
            reason(&error)
        ))
    })
}

const SOURCE: &str = concat!("nodetap ", env!("CARGO_PKG_VERSION"));

fn write(folder: &Path) -> io::Result<()> {
    fs::create_dir_all(folder)?;
    let mut program = crate::Cli::command().disable_help_subcommand(true);
    program.build();
    let commands = program.get_subcommands().filter(|it| !it.is_hide_set());
    for command in commands.chain([&program]) {
        let man = Man::new(command.clone()).source(SOURCE);
        fs::write(folder.join(man.get_filename()), page(command, &man)?)?;
    }
    Ok(())
}

/// The page of a command, in `roff`.
fn page(command: &clap::Command, man: &Man) -> io::Result<Vec<u8>> {
    let mut page = Vec::new();
    man.render_title(&mut page)?;
    man.render_name_section(&mut page)?;
    man.render_synopsis_section(&mut page)?;
    man.render_description_section(&mut page)?;
    if command
        .get_arguments()
        .any(|argument| !argument.is_hide_set())
    {
        man.render_options_section(&mut page)?;
    }
    if command.has_subcommands() {
        man.render_subcommands_section(&mut page)?;
    }
    if let Some(examples) = command.get_after_help() {
        render_examples(&examples.to_string(), &mut page)?;
    }
    Ok(page)
}

/// The examples as they stand in the help, line by line.
fn render_examples(text: &str, page: &mut dyn Write) -> io::Result<()> {
    let text = text.strip_prefix("Examples:\n").unwrap_or(text);
    let mut roff = Roff::default();
    roff.control("SH", ["EXAMPLES"]);
    roff.control("nf", []);
    for line in text.lines() {
        roff.text([roman(line.strip_prefix("  ").unwrap_or(line))]);
    }
    roff.control("fi", []);
    roff.to_writer(page)
}
