//! Where a source map is, and where its sources are: URLs, as Node.js resolves them.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use url::Url;

/// Where a source map is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Location {
    /// In the URL itself: this is its text.
    Inline(Vec<u8>),
    /// In a file.
    File(PathBuf),
    /// Elsewhere: it is not fetched.
    Elsewhere,
}

impl Location {
    /// That which `url` names in something that is at `base`. `None` where it is no URL.
    pub fn of(url: &str, base: Option<&Url>) -> Option<Location> {
        if let Some(data) = strip_scheme(url, "data:") {
            return decode_data(data).map(Location::Inline);
        }
        let url = match Url::parse(url) {
            Err(url::ParseError::RelativeUrlWithoutBase) => base?.join(url).ok()?,
            url => url.ok()?,
        };
        Some(match path_of(&url) {
            Some(path) => Location::File(path),
            None => Location::Elsewhere,
        })
    }
}

/// The URL of a script or file that is called `file` by V8.
pub fn base_of(file: &str) -> Option<Url> {
    match file.starts_with('/') {
        true => Url::from_file_path(file).ok(),
        false => Url::parse(file).ok(),
    }
}

/// The path that a `file:` URL names.
pub fn path_of(url: &Url) -> Option<PathBuf> {
    (url.scheme() == "file").then(|| url.to_file_path().ok())?
}

/// What the source that a map at `base` calls `source` is called: a path where it is a
/// file, else its URL. So does Node.js write it in stack traces.
pub fn source_name(source: &str, base: Option<&Url>) -> Arc<str> {
    let url = match base {
        Some(base) => base.join(source).ok(),
        None => Url::parse(source).ok(),
    };
    match url {
        Some(url) => match path_of(&url) {
            Some(path) => path.to_string_lossy().into(),
            None => url.as_str().into(),
        },
        None => source.into(),
    }
}

/// Whether a file of this name may be JavaScript that was made of something else.
pub fn may_be_generated(path: &Path) -> bool {
    let extension = path.extension().and_then(|extension| extension.to_str());
    matches!(extension, Some("js" | "cjs" | "mjs" | "jsx"))
}

fn strip_scheme<'a>(url: &'a str, scheme: &str) -> Option<&'a str> {
    let (start, rest) = url.split_at_checked(scheme.len())?;
    start.eq_ignore_ascii_case(scheme).then_some(rest)
}

/// The content of a `data:` URL (RFC 2397), which is `url` behind the scheme.
fn decode_data(url: &str) -> Option<Vec<u8>> {
    let (kind, data) = url.split_once(',')?;
    let is_base64 = kind
        .rsplit(';')
        .next()
        .is_some_and(|last| last.trim().eq_ignore_ascii_case("base64"));
    match is_base64 {
        true => decode_base64(data.as_bytes()),
        false => Some(percent_encoding::percent_decode_str(data).collect()),
    }
}

/// Both alphabets, as Node.js reads them; what is not in them ends it.
fn decode_base64(text: &[u8]) -> Option<Vec<u8>> {
    let mut bytes = Vec::with_capacity(text.len() / 4 * 3 + 3);
    let (mut bits, mut count) = (0_u32, 0);
    for &byte in text {
        let digit = match byte {
            b'A'..=b'Z' => byte - b'A',
            b'a'..=b'z' => byte - b'a' + 26,
            b'0'..=b'9' => byte - b'0' + 52,
            b'+' | b'-' => 62,
            b'/' | b'_' => 63,
            b'=' => break,
            _ => return None,
        };
        bits = bits << 6 | u32::from(digit);
        count += 6;
        if count >= 8 {
            count -= 8;
            bytes.push((bits >> count) as u8);
        }
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn location(url: &str, file: &str) -> Option<Location> {
        Location::of(url, base_of(file).as_ref())
    }

    fn file(path: &str) -> Option<Location> {
        Some(Location::File(path.into()))
    }

    fn inline(text: &str) -> Option<Location> {
        Some(Location::Inline(text.into()))
    }

    #[test]
    fn files_are_beside_the_script_or_elsewhere() {
        assert_eq!(location("a.js.map", "/x/a.js"), file("/x/a.js.map"));
        assert_eq!(location("../m/a%20b.map", "/x/a.js"), file("/m/a b.map"));
        assert_eq!(location("/m/a.map?v=1", "/x/a.js"), file("/m/a.map"));
        assert_eq!(location("file:///m/a.map", "/x/a.js"), file("/m/a.map"));
        assert_eq!(location("a.map", "/x y/a#1.js"), file("/x y/a.map"));
        assert_eq!(location("../../../a.map", "/x/a.js"), file("/a.map"));
        assert_eq!(
            location("http://h/a.map", "/x/a.js"),
            Some(Location::Elsewhere)
        );
        assert_eq!(
            location("a.map", "webpack-internal:///./a"),
            Some(Location::Elsewhere)
        );
        assert_eq!(location("a.map", "evalmachine.<anonymous>"), None);
        assert_eq!(location("http://[", "/x/a.js"), None);
    }

    #[test]
    fn data_urls_are_decoded() {
        let data = |url: &str| location(url, "/x/a.js");
        assert_eq!(
            data("data:application/json;charset=utf-8;base64,eyJhIjoxfQ=="),
            inline("{\"a\":1}")
        );
        assert_eq!(
            data("DATA:;BASE64,_-8"),
            Some(Location::Inline(vec![0xff, 0xef]))
        );
        assert_eq!(
            data("data:application/json,%7B%22a%22:1,\"b\":2}"),
            inline("{\"a\":1,\"b\":2}")
        );
        assert_eq!(data("data:,"), inline(""));
        assert_eq!(data("data:application/json;base64,a!"), None);
        assert_eq!(data("data:application/json"), None);
    }

    #[test]
    fn sources_have_the_names_that_node_prints() {
        let name = |source: &str, map: &str| source_name(source, base_of(map).as_ref()).to_string();
        assert_eq!(name("../src/a.ts", "/app/dist/a.js.map"), "/app/src/a.ts");
        assert_eq!(name("/src/a.ts", "/app/dist/a.js.map"), "/src/a.ts");
        assert_eq!(name("file:///s/a%20b.ts", "/app/a.js.map"), "/s/a b.ts");
        assert_eq!(name("a b%20c.ts", "/app/a.js.map"), "/app/a b c.ts");
        assert_eq!(
            name("webpack://app/./src/a.ts", "/app/a.js.map"),
            "webpack://app/src/a.ts"
        );
        assert_eq!(
            name("webpack:///./src/a.ts?1f", "/app/a.js.map"),
            "webpack:///src/a.ts?1f"
        );
        assert_eq!(
            name("a.ts", "webpack-internal:///./x/y"),
            "webpack-internal:///x/a.ts"
        );
        assert_eq!(source_name("a.ts", None).as_ref(), "a.ts");
    }
}
