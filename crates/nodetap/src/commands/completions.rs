//! `nodetap completions SHELL`: what a shell completes after `nodetap`.

use std::io::{self, Write};

use clap::{Args, CommandFactory, ValueEnum};
use clap_complete::Shell;

use crate::failure::{Failure, Result};

/// Print what a shell needs to complete nodetap's commands and options.
///
/// `make install` has put them where bash, zsh and fish look for them; this is for
/// who has only the binary.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct Arguments {
    /// The shell
    shell: Known,
}

/// The shells that are known.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum Known {
    Bash,
    Zsh,
    Fish,
}

const EXAMPLES: &str = "\
Examples:
  For this bash, or in ~/.bashrc for every one
    source <(nodetap completions bash)
  For zsh: into a folder of $fpath
    nodetap completions zsh > ~/.zfunc/_nodetap
  For fish
    nodetap completions fish > ~/.config/fish/completions/nodetap.fish";

/// Prints them.
pub fn run(arguments: &Arguments) -> Result<()> {
    let shell = match arguments.shell {
        Known::Bash => Shell::Bash,
        Known::Zsh => Shell::Zsh,
        Known::Fish => Shell::Fish,
    };
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut crate::Cli::command(), "nodetap", &mut script);
    let mut stdout = io::stdout().lock();
    stdout
        .write_all(&script)
        .and_then(|()| stdout.flush())
        .map_err(|error| Failure::of_stdout(&error))
}
