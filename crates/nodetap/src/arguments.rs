//! What may stand for each argument: parsers that say what is wrong with it.

use std::ffi::OsStr;
use std::fmt;
use std::path::Path;
use std::time::Duration;

use clap::builder::{PossibleValue, TypedValueParser};
use clap::{Arg, Command};
use nodetap_profile::{By, Format, Regex};

use crate::failure::Failure;

/// Samples a second, where nobody says. Not 1000, which would fall in step with
/// timers that many programs have.
pub const DEFAULT_RATE: u32 = 999;
/// The same where each sample stops a thread.
pub const DEFAULT_RATE_OF_PTRACE: u32 = 99;
/// The most frames of a stack, where nobody says.
pub const DEFAULT_MAX_DEPTH: u32 = 512;

/// What the option says that names a format of all there are.
pub const FORMAT_HELP: &str = "\
text, raw, folded, json, flame, html (a page), cpuprofile (DevTools, VS Code), speedscope, \
pprof, firefox or nodetap (all of it, for 'nodetap report') [default: what the output's \
extension says, such as .html, .svg, .cpuprofile, .pb.gz or .nodetap; else text]";

/// The highest rate that `--rate` takes, in samples a second.
///
/// The kernel's timer could go higher; the samples would then mostly show the
/// sampling.
pub const MAX_RATE: u32 = 10_000;

/// Why a value is not one, and what would be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Invalid {
    /// One clause: `not a number`.
    pub reason: String,
    /// What to write instead.
    pub hint: Option<String>,
}

impl Invalid {
    fn new(reason: impl Into<String>, hint: impl Into<String>) -> Invalid {
        Invalid {
            reason: reason.into(),
            hint: Some(hint.into()),
        }
    }
}

impl fmt::Display for Invalid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.reason)
    }
}

impl std::error::Error for Invalid {}

/// A process id: a whole number from 1 up.
pub fn pid(text: &str) -> Result<u32, Invalid> {
    // The kernel's pid_t is signed: what does not fit in it is no process.
    match text.parse::<i32>() {
        Ok(pid) if pid > 0 => Ok(pid.unsigned_abs()),
        _ => Err(Invalid::new(
            "not a process id",
            "'nodetap ps' lists the Node.js processes with their ids",
        )),
    }
}

/// A time in seconds, fractions allowed, more than none.
pub fn duration(text: &str) -> Result<Duration, Invalid> {
    const HINT: &str = "give a number of seconds, such as 10 or 0.5";
    let invalid = |reason: &str| Err(Invalid::new(reason, HINT));
    let Ok(seconds) = text.parse::<f64>() else {
        return invalid("not a number");
    };
    if seconds.is_nan() {
        return invalid("not a number");
    }
    if seconds <= 0.0 {
        return invalid("must be more than 0");
    }
    match Duration::try_from_secs_f64(seconds) {
        Ok(Duration::ZERO) => invalid("must be more than 0"),
        Ok(duration) => Ok(duration),
        Err(_) => Err(Invalid::new(
            "too long",
            "to record until Ctrl-C, use 'nodetap record' without --duration",
        )),
    }
}

/// A moment of a recording: seconds after its start.
pub fn moment(text: &str) -> Result<Duration, Invalid> {
    const HINT: &str = "give seconds after the recording's start, such as 10 or 0.5";
    let seconds = text.parse::<f64>().ok().filter(|it| !it.is_nan());
    let seconds = seconds.ok_or_else(|| Invalid::new("not a number", HINT))?;
    let too = if seconds < 0.0 {
        "before the start"
    } else {
        "too late"
    };
    Duration::try_from_secs_f64(seconds).map_err(|_| Invalid::new(too, HINT))
}

/// A regular expression.
pub fn regex(text: &str) -> Result<Regex, Invalid> {
    Regex::new(text).map_err(|error| {
        // Lines that show where it is, then what.
        let error = error.to_string();
        let last = error.lines().last().unwrap_or_default();
        Invalid::new(
            format!(
                "not a regular expression: {}",
                last.trim_start_matches("error: ")
            ),
            r"what is meant literally has a \ before it, as in 'a\(b\)'",
        )
    })
}

/// What a row is.
pub fn by(text: &str) -> Result<By, Invalid> {
    let found = By::ALL.into_iter().find(|by| by.name() == text);
    found.ok_or_else(|| {
        let known = By::ALL.map(By::name).join(", ");
        Invalid::new("unknown", format!("one of: {known}"))
    })
}

/// Whether `by` has a meaning in `format`.
pub fn check_rows(format: Format, by: By) -> crate::failure::Result<()> {
    if by == By::Function || format.has_rows() {
        return Ok(());
    }
    let with_rows = Format::ALL.into_iter().filter(|format| format.has_rows());
    let known: Vec<&str> = with_rows.map(Format::name).collect();
    Err(Failure::usage(format_args!(
        "--by {} is not for {format}, which has every frame",
        by.name()
    ))
    .hint(format_args!(
        "name another with --format: {}",
        known.join(", ")
    )))
}

/// The format that is asked for, in words or by the output's name.
pub fn output_format(
    format: Option<Format>,
    output: Option<&Path>,
) -> crate::failure::Result<Format> {
    match (format, output) {
        (Some(format), _) => Ok(format),
        (None, None) => Ok(Format::Text),
        (None, Some(path)) => Format::from_path(path).map_err(|error| {
            Failure::usage(format_args!(
                "cannot tell a format from '{}': {error}",
                path.display()
            ))
            .hint("name one with --format")
        }),
    }
}

/// A number of samples a second.
pub fn rate(text: &str) -> Result<u32, Invalid> {
    whole(text, 1, MAX_RATE, "999 samples a second is a good rate")
}

/// A number of frames.
pub fn max_depth(text: &str) -> Result<u32, Invalid> {
    let max = nodetap_sampler::ebpf::shared::MAX_FRAMES;
    whole(text, 1, max, "512 frames are enough for most programs")
}

/// A format, by its name.
pub fn formats() -> Formats {
    Formats(&Format::ALL)
}

/// A format of `nodetap diff`.
pub fn diff_formats() -> Formats {
    Formats(&[Format::Text, Format::Json, Format::Flame])
}

/// A format of `nodetap sample`.
pub fn sample_formats() -> Formats {
    Formats(&[Format::Text, Format::Flame, Format::Raw])
}

/// One of these formats, by its name; a shell can complete it.
#[derive(Clone, Copy, Debug)]
pub struct Formats(&'static [Format]);

impl Formats {
    fn find(self, text: &str) -> Result<Format, Invalid> {
        let found = self.0.iter().find(|format| format.name() == text);
        found.copied().ok_or_else(|| {
            let known: Vec<&str> = self.0.iter().map(|format| format.name()).collect();
            Invalid::new("unknown format", format!("one of: {}", known.join(", ")))
        })
    }
}

impl TypedValueParser for Formats {
    type Value = Format;

    fn parse_ref(
        &self,
        command: &Command,
        argument: Option<&Arg>,
        value: &OsStr,
    ) -> Result<Format, clap::Error> {
        let formats = *self;
        let find = move |text: &str| formats.find(text);
        TypedValueParser::parse_ref(&find, command, argument, value)
    }

    fn possible_values(&self) -> Option<Box<dyn Iterator<Item = PossibleValue> + '_>> {
        let names = self
            .0
            .iter()
            .map(|format| PossibleValue::new(format.name()));
        Some(Box::new(names))
    }
}

fn whole(text: &str, min: u32, max: u32, hint: &str) -> Result<u32, Invalid> {
    let reason = match text.parse::<i128>() {
        Ok(number) => match u32::try_from(number) {
            Ok(number) if (min..=max).contains(&number) => return Ok(number),
            _ => format!("must be from {min} to {max}"),
        },
        Err(_) => "not a whole number".to_owned(),
    };
    Err(Invalid::new(reason, hint))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reason<T: fmt::Debug>(result: Result<T, Invalid>) -> String {
        result.unwrap_err().reason
    }

    #[test]
    fn a_duration_is_a_positive_number_of_seconds() {
        assert_eq!(duration("10"), Ok(Duration::from_secs(10)));
        assert_eq!(duration("0.25"), Ok(Duration::from_millis(250)));
        for zero in ["0", "-0", "0.0", "-1", "-inf", "1e-12"] {
            assert_eq!(reason(duration(zero)), "must be more than 0", "{zero}");
        }
        for odd in ["", "x", "10s", "nan", "NaN", "1,5"] {
            assert_eq!(reason(duration(odd)), "not a number", "{odd}");
        }
        for long in ["inf", "1e300", "infinity"] {
            assert_eq!(reason(duration(long)), "too long", "{long}");
        }
    }

    #[test]
    fn a_rate_has_bounds() {
        assert_eq!(rate("1"), Ok(1));
        assert_eq!(rate("10000"), Ok(10_000));
        for off in ["0", "10001", "-5", "99999999999999999999"] {
            assert_eq!(reason(rate(off)), "must be from 1 to 10000", "{off}");
        }
        assert_eq!(reason(rate("9.5")), "not a whole number");
        assert_eq!(reason(max_depth("16385")), "must be from 1 to 16384");
    }

    #[test]
    fn an_unknown_format_is_told_which_are_known() {
        assert_eq!(formats().find("json"), Ok(Format::Json));
        assert_eq!(
            formats().find("xml"),
            Err(Invalid::new(
                "unknown format",
                "one of: text, raw, folded, json, flame, html, cpuprofile, speedscope, pprof, firefox, nodetap"
            ))
        );
        assert_eq!(
            sample_formats().find("json"),
            Err(Invalid::new("unknown format", "one of: text, flame, raw"))
        );
    }

    #[test]
    fn a_pid_is_a_positive_number() {
        assert_eq!(pid("1"), Ok(1));
        for odd in ["0", "-1", "node", "", "4294967297", "2147483648", "1.5"] {
            assert_eq!(reason(pid(odd)), "not a process id", "{odd}");
        }
    }
}
