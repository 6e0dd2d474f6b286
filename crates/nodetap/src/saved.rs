//! Recordings that were kept, read again.

use std::fs::File;
use std::io::{self, Cursor, Read};
use std::path::Path;

use nodetap_profile::recording::{self, Ending, ReadError};
use nodetap_profile::{Profile, formats};

use crate::failure::{Failure, Result, reason};
use crate::terminal;

const HINT: &str = "'nodetap record -o FILE.nodetap' writes one; what -f json writes is one, too";

/// Reads a recording from `path` (`-`: stdin), and tells where it is not whole. With
/// `one_by_one` its samples are told so.
pub fn read(path: &Path, one_by_one: bool) -> Result<Profile> {
    let shown = match path.as_os_str() == "-" {
        true => "stdin".to_owned(),
        false => format!("'{}'", path.display()),
    };
    let cannot = |error: &io::Error| {
        let failure = Failure::new(format_args!("cannot read {shown}: {}", reason(error)));
        failure.hint_maybe((error.kind() == io::ErrorKind::NotFound).then_some(HINT))
    };
    let input: Box<dyn Read> = match path.as_os_str() == "-" {
        true => Box::new(io::stdin().lock()),
        false => Box::new(File::open(path).map_err(|error| cannot(&error))?),
    };
    let profile = read_from(input, &shown, one_by_one).map_err(|error| match error {
        Unreadable::Io(error) => cannot(&error),
        Unreadable::Other(reason, hint) => {
            Failure::new(format_args!("cannot read {shown}: {reason}")).hint_maybe(hint)
        }
    })?;
    if let Some((directory, error)) = profile.sequence_error() {
        terminal::note(format_args!(
            "not all samples could be written to '{}' meanwhile: {}",
            directory.display(),
            reason(error)
        ));
    }
    Ok(profile)
}

enum Unreadable {
    Io(io::Error),
    /// For this reason, and what may help.
    Other(String, Option<&'static str>),
}

impl From<io::Error> for Unreadable {
    fn from(error: io::Error) -> Unreadable {
        Unreadable::Io(error)
    }
}

fn read_from(
    mut input: Box<dyn Read>,
    shown: &str,
    one_by_one: bool,
) -> std::result::Result<Profile, Unreadable> {
    let mut start = Vec::new();
    let magic = recording::MAGIC;
    input
        .by_ref()
        .take(magic.len() as u64)
        .read_to_end(&mut start)?;
    let is_json = start.trim_ascii_start().first() == Some(&b'{');
    let is_ours = start == magic;
    let input = Cursor::new(start).chain(input);
    if is_json {
        return formats::json::read(input).map_err(|error| match error {
            formats::json::ReadError::Io(error) => Unreadable::Io(error),
            error => Unreadable::Other(error.to_string(), Some(HINT)),
        });
    }
    if !is_ours {
        return Err(Unreadable::Other(ReadError::Form.to_string(), Some(HINT)));
    }
    let recording = recording::read(input, one_by_one).map_err(|error| {
        let hint = match error {
            ReadError::Version(_) => Some("a newer nodetap has written it, and reads it"),
            ReadError::Form => Some(HINT),
            _ => None,
        };
        match error {
            ReadError::Io(error) => Unreadable::Io(error),
            error => Unreadable::Other(error.to_string(), hint),
        }
    })?;
    let profile = recording.profile;
    let there = format!(
        "{} samples of {:.1} s are there",
        profile.sample_count(),
        profile.metadata.duration.as_secs_f64()
    );
    match recording.ending {
        Ending::Whole => {}
        Ending::CutShort => terminal::note(format_args!(
            "{shown} was cut short, or is still being written: {there}"
        )),
        Ending::Damaged { at } => terminal::note(format_args!(
            "{shown} is damaged from byte {at} on: {there}"
        )),
    }
    Ok(profile)
}
