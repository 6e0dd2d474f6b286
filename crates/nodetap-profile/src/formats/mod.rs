//! The formats a profile is written in, one module each.

pub mod cpuprofile;
pub mod firefox;
pub mod flame;
pub mod folded;
mod functions;
pub mod html;
pub mod json;
pub mod packages;
pub mod pprof;
pub mod raw;
pub mod speedscope;
mod strings;
pub mod text;
mod threads;
mod timeline;

use std::fmt;
use std::io::{self, BufWriter, Write};
use std::path::Path;
use std::str::FromStr;

use crate::label::visible;
use crate::{By, Profile, recording};

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
    /// A page for a browser, with graphs, a time line and tables: [`html`].
    Html,
    /// One thread, for Chrome's DevTools and VS Code: [`cpuprofile`].
    CpuProfile,
    /// For [speedscope](https://www.speedscope.app): [`speedscope`].
    Speedscope,
    /// For `go tool pprof`, Grafana and others: [`pprof`].
    Pprof,
    /// For the Firefox Profiler: [`firefox`].
    Firefox,
    /// All that was recorded, in few bytes: [`recording`].
    Nodetap,
}

impl Format {
    /// Every format.
    pub const ALL: [Self; 11] = [
        Self::Text,
        Self::Raw,
        Self::Folded,
        Self::Json,
        Self::Flame,
        Self::Html,
        Self::CpuProfile,
        Self::Speedscope,
        Self::Pprof,
        Self::Firefox,
        Self::Nodetap,
    ];

    /// The name by which users ask for it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Text => "text",
            Self::Raw => "raw",
            Self::Folded => "folded",
            Self::Json => "json",
            Self::Flame => "flame",
            Self::Html => "html",
            Self::CpuProfile => "cpuprofile",
            Self::Speedscope => "speedscope",
            Self::Pprof => "pprof",
            Self::Firefox => "firefox",
            Self::Nodetap => "nodetap",
        }
    }

    /// The format that the extension of an output's path asks for: `out.svg` is a flame
    /// graph, `out.html` a page, `out.json` is JSON, `out.folded`, `out.raw` and
    /// `out.cpuprofile` are what they say. `out.pb.gz` and `out.pprof` are `pprof`, `out.speedscope.json` is `speedscope`,
    /// and `out.firefox.json` and `out.profile.json` are `firefox`.
    ///
    /// Any other path gets text, unless its extension is that of a format that profilers
    /// are known to write and this crate doesn't: then it is an error, because text is not
    /// what was meant.
    pub fn from_path(path: &Path) -> Result<Self, UnknownFormat> {
        let Some(extension) = path.extension() else {
            return Ok(Self::Text);
        };
        let extension = extension.to_string_lossy().to_lowercase();
        // What stands before it: `out.pb.gz` has `pb`.
        let before = path.file_stem().map(Path::new).and_then(Path::extension);
        let before = before.map(|it| it.to_string_lossy().to_lowercase());
        match extension.as_str() {
            "svg" => Ok(Self::Flame),
            "html" | "htm" => Ok(Self::Html),
            "json" => match before.as_deref() {
                Some("speedscope") => Ok(Self::Speedscope),
                Some("firefox" | "profile") => Ok(Self::Firefox),
                _ => Ok(Self::Json),
            },
            "cpuprofile" => Ok(Self::CpuProfile),
            "pb" | "pprof" => Ok(Self::Pprof),
            "gz" if matches!(before.as_deref(), Some("pb" | "pprof")) => Ok(Self::Pprof),
            "folded" | "collapsed" => Ok(Self::Folded),
            "raw" => Ok(Self::Raw),
            "nodetap" => Ok(Self::Nodetap),
            "gz" | "pdf" | "perf" | "png" | "zst" => Err(UnknownFormat { name: extension }),
            _ => Ok(Self::Text),
        }
    }

    /// Whether it tells of the samples one by one, and not only how many of a kind there
    /// are.
    pub fn needs_sequence(self) -> bool {
        match self {
            Self::Json
            | Self::Html
            | Self::CpuProfile
            | Self::Speedscope
            | Self::Firefox
            | Self::Nodetap => true,
            Self::Text | Self::Raw | Self::Folded | Self::Flame | Self::Pprof => false,
        }
    }

    /// Whether it shows what stands on the lines that were executing, with rows by this.
    pub fn shows_sources(self, by: By) -> bool {
        match self {
            Self::Json | Self::Html | Self::Nodetap => true,
            Self::Text => by == By::Line,
            _ => false,
        }
    }

    /// Whether the output is binary and so no use on a terminal.
    pub fn is_binary(self) -> bool {
        matches!(self, Self::Pprof | Self::Nodetap)
    }

    /// Whether it shows [rows](By) that frames are merged into, and not each frame.
    pub fn has_rows(self) -> bool {
        matches!(self, Self::Text | Self::Raw | Self::Folded | Self::Flame)
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

/// What of the profile a format has no place for, as a sentence for whoever asked for it;
/// `None` where it has all of it.
pub fn left_out(profile: &Profile, format: Format) -> Option<String> {
    match format {
        Format::CpuProfile => cpuprofile::left_out(profile),
        _ => None,
    }
}

/// Writes the profile in a format. The output is buffered here and flushed at the end.
pub fn write(profile: &Profile, format: Format, out: &mut dyn Write) -> io::Result<()> {
    let mut out = BufWriter::with_capacity(64 * 1024, out);
    match format {
        Format::Text => text::write(profile, &mut out)?,
        Format::Raw => raw::write(profile, &mut out)?,
        Format::Folded => folded::write(profile, &mut out)?,
        Format::Json => json::write(profile, &mut out)?,
        Format::Flame => flame::write(profile, &mut out)?,
        Format::Html => html::write(profile, &mut out)?,
        Format::CpuProfile => cpuprofile::write(profile, &mut out)?,
        Format::Speedscope => speedscope::write(profile, &mut out)?,
        Format::Pprof => pprof::write(profile, &mut out)?,
        Format::Firefox => firefox::write(profile, &mut out)?,
        Format::Nodetap => recording::write(profile, &mut out)?,
    }
    out.flush()
}

/// The same with frames merged by something, in a format that
/// [has rows](Format::has_rows); the others have all frames in any case. By package, text is
/// a table: [`packages`]. Text by line is no wider than `width` columns where it need not be.
pub fn write_by(
    profile: &Profile,
    format: Format,
    by: By,
    width: Option<usize>,
    out: &mut dyn Write,
) -> io::Result<()> {
    match (format, by) {
        (_, By::Function) => write(profile, format, out),
        (Format::Text, By::Line) => {
            let mut out = BufWriter::with_capacity(64 * 1024, out);
            text::write_lines(profile, width, &mut out)?;
            out.flush()
        }
        (Format::Text, By::Package) => {
            let mut out = BufWriter::with_capacity(64 * 1024, out);
            packages::write(profile, &mut out)?;
            out.flush()
        }
        _ if format.has_rows() => write(&by.merged(profile), format, out),
        _ => write(profile, format, out),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_format_is_found_by_its_name() {
        for format in Format::ALL {
            assert_eq!(format.to_string().parse(), Ok(format));
        }
        let error = "perf\x1b".parse::<Format>().unwrap_err();
        assert_eq!(
            error.to_string(),
            r"unknown format 'perf\u{1b}' (known are text, raw, folded, json, flame, html, cpuprofile, speedscope, pprof, firefox, nodetap)"
        );
        assert!("Text".parse::<Format>().is_err());
        assert!("".parse::<Format>().is_err());
    }

    #[test]
    fn a_path_tells_the_format() {
        for (path, format) in [
            ("out.svg", Format::Flame),
            ("out.html", Format::Html),
            ("OUT.HTM", Format::Html),
            ("/tmp/OUT.SVG", Format::Flame),
            ("a.b.json", Format::Json),
            ("out.txt", Format::Text),
            ("out.folded", Format::Folded),
            ("out.raw", Format::Raw),
            ("out.cpuprofile", Format::CpuProfile),
            ("out.speedscope.json", Format::Speedscope),
            ("/a.b/OUT.Firefox.json", Format::Firefox),
            ("out.profile.json", Format::Firefox),
            ("out.pb.gz", Format::Pprof),
            ("out.pprof.gz", Format::Pprof),
            ("out.pprof", Format::Pprof),
            ("out.pb", Format::Pprof),
            ("speedscope.json", Format::Json),
            (".speedscope.json", Format::Json),
            ("out.nodetap", Format::Nodetap),
            ("out", Format::Text),
            (".svg", Format::Text),
            ("-", Format::Text),
            ("notes.log", Format::Text),
        ] {
            assert_eq!(Format::from_path(Path::new(path)), Ok(format), "{path}");
        }
        for (path, name) in [("out.json.gz", "gz"), ("out.PNG", "png"), ("pb.gz", "gz")] {
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
                let whole = crate::testing::written_bytes(&profile, format).len();
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
