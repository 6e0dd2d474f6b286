//! The formats a profile is written in, one module each.

pub mod flame;
pub mod folded;
pub mod json;
pub mod raw;
pub mod text;

use std::fmt;
use std::io::{self, BufWriter, Write};
use std::path::Path;
use std::str::FromStr;

use crate::Profile;
use crate::label::visible;

/// A format that a profile can be written in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Format {
    /// An indented call tree, for reading: [`text`].
    Text,
    /// A block for each distinct stack, as DTrace prints them: [`raw`].
    Raw,
    /// A line for each distinct stack: [`folded`].
    Folded,
    /// All that was recorded, for programs: [`json`].
    Json,
    /// A flame graph for a browser: [`flame`].
    Flame,
}

impl Format {
    /// Every format.
    pub const ALL: [Self; 5] = [Self::Text, Self::Raw, Self::Folded, Self::Json, Self::Flame];

    /// The name by which users ask for it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Text => "text",
            Self::Raw => "raw",
            Self::Folded => "folded",
            Self::Json => "json",
            Self::Flame => "flame",
        }
    }

    /// The format that the extension of an output's path asks for: `out.svg` is a flame
    /// graph, `out.json` is JSON, `out.folded` and `out.raw` are what they say.
    ///
    /// Any other path gets text, unless its extension is that of a format that profilers
    /// are known to write and this crate doesn't: then it is an error, because text is not
    /// what was meant.
    pub fn from_path(path: &Path) -> Result<Self, UnknownFormat> {
        let Some(extension) = path.extension() else {
            return Ok(Self::Text);
        };
        let extension = extension.to_string_lossy().to_lowercase();
        match extension.as_str() {
            "svg" => Ok(Self::Flame),
            "json" => Ok(Self::Json),
            "folded" | "collapsed" => Ok(Self::Folded),
            "raw" => Ok(Self::Raw),
            "cpuprofile" | "gz" | "html" | "pb" | "pdf" | "perf" | "png" | "pprof" | "zst" => {
                Err(UnknownFormat { name: extension })
            }
            _ => Ok(Self::Text),
        }
    }

    /// Whether it tells of the samples one by one, and not only how many of a kind there
    /// are.
    pub fn needs_sequence(self) -> bool {
        match self {
            Self::Json => true,
            Self::Text | Self::Raw | Self::Folded | Self::Flame => false,
        }
    }

    /// Whether the output is binary and so no use on a terminal.
    pub fn is_binary(self) -> bool {
        match self {
            Self::Text | Self::Raw | Self::Folded | Self::Json | Self::Flame => false,
        }
    }
}

impl fmt::Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl FromStr for Format {
    type Err = UnknownFormat;

    fn from_str(name: &str) -> Result<Self, UnknownFormat> {
        Self::ALL
            .into_iter()
            .find(|format| format.name() == name)
            .ok_or_else(|| UnknownFormat { name: name.into() })
    }
}

/// No format has this name. The message lists those that there are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnknownFormat {
    /// The name that was asked for.
    pub name: String,
}

impl fmt::Display for UnknownFormat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let known = Format::ALL.map(Format::name).join(", ");
        write!(
            f,
            "unknown format '{}' (known are {known})",
            visible(&self.name)
        )
    }
}

impl std::error::Error for UnknownFormat {}

/// Writes the profile in a format. The output is buffered here and flushed at the end.
pub fn write(profile: &Profile, format: Format, out: &mut dyn Write) -> io::Result<()> {
    let mut out = BufWriter::with_capacity(64 * 1024, out);
    match format {
        Format::Text => text::write(profile, &mut out)?,
        Format::Raw => raw::write(profile, &mut out)?,
        Format::Folded => folded::write(profile, &mut out)?,
        Format::Json => json::write(profile, &mut out)?,
        Format::Flame => flame::write(profile, &mut out)?,
    }
    out.flush()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_format_is_found_by_its_name() {
        for format in Format::ALL {
            assert_eq!(format.to_string().parse(), Ok(format));
        }
        let error = "pprof\x1b".parse::<Format>().unwrap_err();
        assert_eq!(
            error.to_string(),
            r"unknown format 'pprof\u{1b}' (known are text, raw, folded, json, flame)"
        );
        assert!("Text".parse::<Format>().is_err());
        assert!("".parse::<Format>().is_err());
    }

    #[test]
    fn a_path_tells_the_format() {
        for (path, format) in [
            ("out.svg", Format::Flame),
            ("/tmp/OUT.SVG", Format::Flame),
            ("a.b.json", Format::Json),
            ("out.txt", Format::Text),
            ("out.folded", Format::Folded),
            ("out.raw", Format::Raw),
            ("out", Format::Text),
            (".svg", Format::Text),
            ("-", Format::Text),
            ("notes.log", Format::Text),
        ] {
            assert_eq!(Format::from_path(Path::new(path)), Ok(format), "{path}");
        }
        for (path, name) in [("out.pb.gz", "gz"), ("out.cpuprofile", "cpuprofile")] {
            assert_eq!(
                Format::from_path(Path::new(path)),
                Err(UnknownFormat { name: name.into() })
            );
        }
    }

    /// Takes this many bytes, then fails as a closed pipe does.
    struct Closing(usize);

    impl Write for Closing {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let taken = bytes.len().min(self.0);
            self.0 -= taken;
            match taken {
                0 => Err(io::ErrorKind::BrokenPipe.into()),
                taken => Ok(taken),
            }
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_failing_output_is_told() {
        let (unsampled, _) = crate::testing::empty();
        for profile in [crate::testing::small(), unsampled] {
            for format in Format::ALL {
                let whole = crate::testing::written(&profile, format).len();
                for room in [0, whole / 2, whole.saturating_sub(1)] {
                    let result = write(&profile, format, &mut Closing(room));
                    match result {
                        Err(error) => assert_eq!(error.kind(), io::ErrorKind::BrokenPipe),
                        Ok(()) => assert_eq!(whole, 0, "{format} with room for {room}"),
                    }
                }
                write(&profile, format, &mut Closing(whole)).unwrap();
            }
        }
    }
}
