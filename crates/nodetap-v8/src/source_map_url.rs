//! Where a script says that its source map is: `//# sourceMappingURL=`.

use crate::heap::{Error, Heap, Tagged};

/// The longest URL that is read; a map that is all in its URL may be long.
const MAX_URL: usize = 256 << 20;

/// How many lines from a script's end on are looked at for the comment, where V8 does
/// not keep what it says.
const LAST_LINES: usize = 5;

/// What Node.js before 12 puts around a CommonJS module's text (`Module.wrapper`).
pub const WRAPPER: [&str; 2] = [
    "(function (exports, require, module, __filename, __dirname) { ",
    "\n});",
];

/// Where a script says that its source map is, and what tells whether a file still is
/// the script's text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SourceMapUrl {
    /// The URL, as it stands in the script.
    pub url: String,
    /// Whether the script's text begins with [`WRAPPER`], which its file has not.
    pub is_wrapped: bool,
    /// The [`digest`] of the script's text, without the wrapper.
    pub digest: u64,
}

/// What hardly any two texts have in common, of their UTF-16 units (FNV-1a).
pub fn digest(units: impl Iterator<Item = u16>) -> u64 {
    units.fold(0xcbf2_9ce4_8422_2325, |digest, unit| {
        (digest ^ u64::from(unit)).wrapping_mul(0x0000_0100_0000_01b3)
    })
}

/// The URL of the last comment among the last lines of `text`, where nothing but
/// comments and blank lines follows it.
pub fn trailing_comment(text: &str) -> Option<&str> {
    let lines = text.trim_end().rsplit('\n').map(str::trim);
    for line in lines.take(LAST_LINES) {
        if line.is_empty() {
            continue;
        }
        let comment = line.strip_prefix("//")?;
        // The older sign is read too, as V8 does.
        let comment = comment.strip_prefix(['#', '@']).unwrap_or_default();
        if let Some(url) = comment.trim_start().strip_prefix("sourceMappingURL=")
            && comment.starts_with([' ', '\t'])
        {
            let url = url.split_whitespace().next()?;
            return (!url.contains(['"', '\''])).then_some(url);
        }
    }
    None
}

impl SourceMapUrl {
    /// Of a script with this text and what V8 keeps of its comment, where it does.
    pub(crate) fn of(source: &[u16], url: Option<String>) -> Option<SourceMapUrl> {
        let text = unwrapped(source);
        Some(SourceMapUrl {
            url: match url {
                Some(url) => url,
                None => trailing_comment(&tail(text.unwrap_or(source)))?.to_owned(),
            },
            is_wrapped: text.is_some(),
            digest: digest(text.unwrap_or(source).iter().copied()),
        })
    }
}

/// `source` without what Node.js has put around it; `None` where it has not.
fn unwrapped(source: &[u16]) -> Option<&[u16]> {
    let [head, tail] = WRAPPER.map(|text| text.encode_utf16().collect::<Vec<u16>>());
    source.strip_prefix(&head[..])?.strip_suffix(&tail[..])
}

/// The last lines of `source`.
fn tail(source: &[u16]) -> String {
    let mut newlines = source.iter().rev().enumerate();
    let newlines = newlines.by_ref().filter(|&(_, &unit)| unit == 0x0a);
    let length = newlines.map(|(index, _)| index).nth(LAST_LINES);
    let length = length.unwrap_or(source.len()).min(MAX_URL);
    String::from_utf16_lossy(&source[source.len() - length..])
}

impl Heap<'_> {
    /// What V8 keeps of the comment; `None` where it keeps none, or there was none.
    pub(crate) fn source_mapping_url(&self, script: Tagged) -> Result<Option<String>, Error> {
        let Some(field) = self.layout.script.source_mapping_url else {
            return Ok(None);
        };
        let url = self.tagged(script.field(field)?)?;
        if !self.is_string(url) || self.string_length(url)? > MAX_URL {
            return Ok(None);
        }
        let units = self.units(url, MAX_URL)?;
        // Nearly all of them; and this is quick.
        let ascii: Option<Vec<u8>> = match units.iter().all(|&unit| unit < 0x80) {
            true => Some(units.iter().map(|&unit| unit as u8).collect()),
            false => None,
        };
        let url = ascii.and_then(|ascii| String::from_utf8(ascii).ok());
        let url = url.unwrap_or_else(|| String::from_utf16_lossy(&units));
        Ok((!url.is_empty()).then_some(url))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(source: &str, kept: Option<&str>) -> Option<SourceMapUrl> {
        let units: Vec<u16> = source.encode_utf16().collect();
        SourceMapUrl::of(&units, kept.map(str::to_owned))
    }

    #[test]
    fn the_comment_is_the_last_line() {
        let url = |source: &str| of(source, None).map(|it| it.url);
        assert_eq!(
            url("f();\n//# sourceMappingURL=a.js.map"),
            Some("a.js.map".into())
        );
        assert_eq!(
            url("f();\r\n//@ sourceMappingURL=a.js.map \r\n\r\n"),
            Some("a.js.map".into())
        );
        assert_eq!(
            url("f();\n//# sourceMappingURL=data:,{}\n//# sourceURL=x.js\n"),
            Some("data:,{}".into())
        );
        for none in [
            "",
            "f()",
            "//# sourceMappingURL=a.js.map\nf()",
            "f() //# sourceMappingURL=a.js.map",
            "//#sourceMappingURL=a.js.map",
            "//# sourceMappingURL=\"a\"",
            "//# sourceMappingURL=",
            "//# sourceMappingURL=a\n\n\n\n\n\n//",
        ] {
            assert_eq!(url(none), None, "{none}");
        }
    }

    #[test]
    fn what_v8_keeps_goes_before() {
        let found = of("//# sourceMappingURL=a.js.map", Some("b.js.map"));
        assert_eq!(found.map(|it| it.url), Some("b.js.map".into()));
    }

    #[test]
    fn the_wrapper_is_not_the_files() {
        let text = "f();\n//# sourceMappingURL=a.js.map";
        let [head, tail] = WRAPPER;
        let wrapped = of(&format!("{head}{text}{tail}"), None).expect("a comment");
        let plain = of(text, None).expect("a comment");
        assert!(wrapped.is_wrapped && !plain.is_wrapped);
        assert_eq!((wrapped.url, wrapped.digest), (plain.url, plain.digest));
        let other = of("g();\n//# sourceMappingURL=a.js.map", None).expect("a comment");
        assert_ne!(other.digest, plain.digest);
    }
}
