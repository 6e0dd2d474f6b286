//! Wrong usage, told in our form: `error:` on one line, `hint:` on the next.

use std::error::Error as _;
use std::io::{self, Write};
use std::process::ExitCode;

use clap::CommandFactory;
use clap::error::{ContextKind, ContextValue, ErrorKind};

use crate::arguments::Invalid;
use crate::failure::Failure;

/// Ends a run whose command line was a question (`--help`) or a mistake.
pub fn end(error: &clap::Error) -> ExitCode {
    match error.kind() {
        ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => match print(error) {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => Failure::of_stdout(&error).report(),
        },
        // Nothing was asked: stderr says what could be. Where that is closed, nobody.
        ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand => {
            let _ = error.print();
            ExitCode::from(2)
        }
        _ => failure(error).report(),
    }
}

fn print(error: &clap::Error) -> io::Result<()> {
    error.print()?;
    io::stdout().flush()
}

/// The mistake, and what would be right.
fn failure(error: &clap::Error) -> Failure {
    let context = |kind| error.get(kind).map(text).filter(|text| !text.is_empty());
    let argument = context(ContextKind::InvalidArg);
    let value = context(ContextKind::InvalidValue);
    let help = format!("see '{} --help'", command());

    let message = match (error.kind(), argument, value) {
        (ErrorKind::ValueValidation, Some(argument), value) => {
            let value = value.unwrap_or_default();
            let source = error.source();
            let reason = source.map_or_else(|| "invalid".to_owned(), ToString::to_string);
            let invalid = source.and_then(|source| source.downcast_ref::<Invalid>());
            let hint = invalid.and_then(|invalid| invalid.hint.clone());
            return Failure::usage(format_args!(
                "invalid value '{value}' for '{argument}': {reason}"
            ))
            .hint(hint.unwrap_or(help));
        }
        (ErrorKind::InvalidValue, Some(argument), None) => {
            format!("'{argument}' needs a value")
        }
        (ErrorKind::InvalidValue, Some(argument), Some(value)) => {
            let known = context(ContextKind::ValidValue).unwrap_or_default();
            return Failure::usage(format_args!("invalid value '{value}' for '{argument}'"))
                .hint(format_args!("one of: {known}"));
        }
        (ErrorKind::UnknownArgument, Some(argument), _) => {
            let message = format!("unexpected argument '{argument}'");
            let similar = context(ContextKind::SuggestedArg);
            let hint = similar.map(|similar| format!("did you mean '{similar}'?"));
            return Failure::usage(message).hint(hint.unwrap_or(help));
        }
        (ErrorKind::MissingRequiredArgument, Some(arguments), _) => {
            format!("missing: {arguments}")
        }
        (ErrorKind::ArgumentConflict, Some(argument), _) => {
            match context(ContextKind::PriorArg).filter(|prior| *prior != argument) {
                Some(prior) => format!("'{argument}' and '{prior}' exclude each other"),
                None => format!("'{argument}' is given twice"),
            }
        }
        (ErrorKind::InvalidSubcommand, ..) => {
            let name = context(ContextKind::InvalidSubcommand).unwrap_or_default();
            let message = format!("no such command: '{name}'");
            let similar = context(ContextKind::SuggestedSubcommand);
            // The nearest is the last.
            let nearest = similar.as_deref().and_then(|it| it.rsplit(", ").next());
            let hint = nearest.map(|similar| format!("did you mean '{similar}'?"));
            return Failure::usage(message).hint(hint.unwrap_or_else(commands));
        }
        (ErrorKind::MissingSubcommand, ..) => {
            return Failure::usage("no command given").hint(commands());
        }
        // What is left of clap's kinds: its own first line, which says it.
        _ => {
            let rendered = error.render().to_string();
            let line = rendered.lines().next().unwrap_or("wrong usage");
            line.trim_start_matches("error: ").to_owned()
        }
    };
    Failure::usage(message).hint(help)
}

/// `nodetap record`, or whichever command's arguments these are.
fn command() -> String {
    let names = command_names();
    let mut words = std::env::args_os().skip(1);
    match words.find_map(|word| names.iter().find(|name| word == name.as_str())) {
        Some(name) => format!("nodetap {name}"),
        None => "nodetap".to_owned(),
    }
}

fn commands() -> String {
    let names = command_names().join(", ");
    format!("the commands are {names}; see 'nodetap --help'")
}

fn command_names() -> Vec<String> {
    crate::Cli::command()
        .get_subcommands()
        .filter(|command| !command.is_hide_set())
        .map(|command| command.get_name().to_owned())
        .collect()
}

fn text(value: &ContextValue) -> String {
    match value {
        ContextValue::String(text) => text.clone(),
        ContextValue::Strings(texts) => texts.join(", "),
        ContextValue::StyledStr(text) => text.to_string(),
        ContextValue::Number(number) => number.to_string(),
        _ => String::new(),
    }
}
