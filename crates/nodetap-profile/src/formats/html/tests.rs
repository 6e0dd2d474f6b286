use std::io::Read;

use crate::Format;
use crate::testing::{bare, deep, empty, hostile, several_processes, small, written};

/// What stands between the two parts of the page around the recording.
fn base64_of(page: &str) -> &str {
    let (_, rest) = page
        .split_once(r#"<script id="recording" type="application/octet-stream">"#)
        .unwrap();
    rest.split_once("</script>").unwrap().0
}

/// The recording in a page, unpacked.
fn unpacked(page: &str) -> Vec<u8> {
    let mut bits = 0_u32;
    let mut held = 0;
    let mut packed = Vec::new();
    for c in base64_of(page).bytes().filter(|&c| c != b'=') {
        let value = match c {
            b'A'..=b'Z' => c - b'A',
            b'a'..=b'z' => c - b'a' + 26,
            b'0'..=b'9' => c - b'0' + 52,
            b'+' => 62,
            b'/' => 63,
            other => panic!("{other} is not of base64"),
        };
        bits = bits << 6 | u32::from(value);
        held += 6;
        if held >= 8 {
            held -= 8;
            packed.push((bits >> held) as u8);
        }
    }
    let mut bytes = Vec::new();
    flate2::read::ZlibDecoder::new(packed.as_slice())
        .read_to_end(&mut bytes)
        .unwrap();
    bytes
}

#[test]
fn nothing_of_the_recording_stands_in_the_page_as_text() {
    let (unsampled, _) = empty();
    let around = |page: &str| page.replace(base64_of(page), "");
    let expected = around(&written(&small(), Format::Html));
    for profile in [
        bare(),
        unsampled,
        hostile(),
        several_processes(),
        deep(10_000),
    ] {
        let page = written(&profile, Format::Html);
        assert_eq!(around(&page), expected);
        assert!(!unpacked(&page).is_empty());
    }
}

#[test]
fn the_page_is_whole_and_asks_for_nothing() {
    let page = written(&small(), Format::Html);
    assert!(page.starts_with("<!doctype html>"));
    assert!(page.ends_with("</html>\n"));
    assert!(!page.contains("{{"), "a place was not filled");
    // One end for each beginning: nothing ends a script or a style early.
    for tag in ["script", "style", "body"] {
        let begins = page.matches(&format!("<{tag}")).count();
        assert_eq!(page.matches(&format!("</{tag}>")).count(), begins, "{tag}");
    }
    for word in [
        "http:",
        "https:",
        "//cdn",
        "@import",
        "innerHTML",
        "eval(",
        " src=",
    ] {
        assert!(!page.contains(word), "{word}");
    }
    assert!(page.contains("default-src 'none'; script-src 'nonce-page'; style-src 'nonce-page'"));
}

#[test]
fn names_are_packed_as_labels() {
    let bytes = unpacked(&written(&hostile(), Format::Html));
    let text = String::from_utf8_lossy(&bytes);
    assert!(text.contains(r"\u{1b}[2J\u{0}"));
    assert!(!text.contains('\x1b') && !text.contains('\u{202e}'));
    assert!(bytes.len() < 20_000, "{} bytes", bytes.len());
}

#[test]
fn long_recordings_are_small_pages() {
    let mut profile = small();
    let sample = profile.samples().next().unwrap().unwrap();
    for time in 0..1_000_000 {
        profile.add_sample(crate::Sample {
            time_us: 1001 * time,
            ..sample
        });
    }
    let page = written(&profile, Format::Html);
    assert!(page.len() < 200_000, "{} bytes", page.len());
}
