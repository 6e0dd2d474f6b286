//! Where a file is, as V8's inspector tells it.

use crate::Kind;

/// The URL of a script that has this path or URL: a path is a `file:` URL, and what is a URL
/// or a name stays what it is. Other files have no URL, and their path stands for it.
pub(super) fn url(file: &str, kind: Kind) -> String {
    if !matches!(kind, Kind::Js | Kind::Wasm) || !file.starts_with('/') {
        return file.into();
    }
    let mut url = String::with_capacity("file://".len() + file.len());
    url.push_str("file://");
    // An ES module has a URL, of which the model has the rest: encoded already, and perhaps
    // with a query. What has anything left to encode is a path, in which a `%` is one.
    let is_part_of_url = |byte| is_plain(byte) || b"%?#".contains(&byte);
    let is_url = file.bytes().all(is_part_of_url);
    for byte in file.bytes() {
        match byte {
            byte if is_plain(byte) || is_url => url.push(byte.into()),
            byte => {
                let digit = |digit: u8| char::from(b"0123456789ABCDEF"[usize::from(digit)]);
                url.extend(['%', digit(byte >> 4), digit(byte & 0xf)]);
            }
        }
    }
    url
}

/// Whether a byte stands for itself in the path of a URL, as browsers and Node.js have it.
fn is_plain(byte: u8) -> bool {
    byte.is_ascii_graphic() && !b"%\"#<>?`{}^\\".contains(&byte)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_a_file_url() {
        for (file, expected) in [
            ("/srv/app.js", "file:///srv/app.js"),
            ("/a b/ö#?.js", "file:///a%20b/%C3%B6%23%3F.js"),
            ("/50 %/x.js", "file:///50%20%25/x.js"),
            // These have been URLs.
            ("/a%20b/x.mjs?v=1", "file:///a%20b/x.mjs?v=1"),
            ("/a%20b/x.mjs", "file:///a%20b/x.mjs"),
            ("node:fs", "node:fs"),
            ("internal/timers.js", "internal/timers.js"),
            ("https://a.b/c d.js", "https://a.b/c d.js"),
            ("evalmachine.<anonymous>", "evalmachine.<anonymous>"),
            ("wasm://wasm/1234", "wasm://wasm/1234"),
        ] {
            assert_eq!(url(file, Kind::Js), expected);
        }
        assert_eq!(url("/lib/libc.so.6", Kind::Native), "/lib/libc.so.6");
    }
}
