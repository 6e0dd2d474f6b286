//! With files, in a folder as a process would see it.

use std::fs;
use std::os::unix::fs::symlink;

use nodetap_profile::Kind;
use nodetap_sampler::source::Source;
use nodetap_v8::source_map_url::SourceMapUrl;
use serde_json::{Value, json};
use tempfile::TempDir;

use super::*;
use crate::generated::{FunctionText, Scripts};

const TEXT: &str = "function a(b){return b}";

struct Files {
    folder: TempDir,
    scripts: Scripts,
    maps: SourceMaps,
}

impl Files {
    fn new() -> Files {
        let own = Root::of(&Source::from(std::process::id())).expect("our own files");
        Files {
            folder: tempfile::tempdir().expect("a folder"),
            scripts: Scripts::new(Some(Arc::new(own)), true),
            maps: SourceMaps::default(),
        }
    }

    fn path(&self, name: &str) -> String {
        let path = self.folder.path().join(name);
        path.to_str().expect("UTF-8").to_owned()
    }

    fn write(&self, name: &str, text: impl AsRef<[u8]>) {
        let path = self.folder.path().join(name);
        fs::create_dir_all(path.parent().expect("a folder")).expect("a folder");
        fs::write(path, text).expect("written");
    }

    /// The function `a` at 1:11, called at 1:15, of a script with this text that names
    /// its map so.
    fn frame(&mut self, script: &str, text: &str, url: &str) -> Frame {
        self.frame_and_line(script, text, url).0
    }

    /// The same, and what is known of its original.
    fn frame_and_line(
        &mut self,
        script: &str,
        text: &str,
        url: &str,
    ) -> (Frame, Option<OriginalLine>) {
        let name = self.path(script);
        let map = SourceMapUrl {
            url: url.to_owned(),
            is_wrapped: false,
            digest: digest(text.encode_utf16()),
        };
        let script = self.scripts.get(&name, Some(map), None);
        let mut frame = Frame {
            file: script.file.clone(),
            position: Position::new(1, 15),
            function_position: Position::new(1, 11),
            ..Frame::new(Kind::Js, "a")
        };
        let text = FunctionText {
            before: TEXT[..10].encode_utf16().collect(),
            after: TEXT[10..].encode_utf16().collect(),
        };
        let text = Some(Arc::new(text));
        let code = GeneratedCode { script, text };
        let original = self.maps.map(&mut frame, &code);
        (frame, original)
    }
}

/// `a` at column 9 is first at 4:9, what is at column 14 is at 5:2 (counted from 0).
fn map(source: &str) -> Value {
    json!({
        "version": 3, "sources": [source], "names": ["first"], "mappings": "SAISA,KACP",
    })
}

fn told(frame: &Frame) -> (String, String, [Option<(u32, u32)>; 2]) {
    let place = |position: Option<Position>| {
        let position = position?;
        Some((position.line.get(), position.column?.get()))
    };
    (
        frame.function.to_string(),
        frame.file.as_deref().unwrap_or_default().to_owned(),
        [place(frame.position), place(frame.function_position)],
    )
}

fn at_original(file: String) -> (String, String, [Option<(u32, u32)>; 2]) {
    ("first".to_owned(), file, [Some((6, 3)), Some((5, 10))])
}

fn generated(file: String) -> (String, String, [Option<(u32, u32)>; 2]) {
    ("a".to_owned(), file, [Some((1, 15)), Some((1, 11))])
}

#[test]
fn a_map_beside_the_script() {
    let mut files = Files::new();
    files.write("dist/a.js", TEXT);
    files.write("dist/a.js.map", map("../src/a.ts").to_string());
    let frame = files.frame("dist/a.js", TEXT, "a.js.map");
    assert_eq!(told(&frame), at_original(files.path("src/a.ts")));
    assert_eq!(files.maps.take_notes(), [""; 0]);
}

#[test]
fn a_map_in_the_script() {
    let mut files = Files::new();
    let url = format!("data:application/json,{}", map("a.ts"));
    let frame = files.frame("dist/a.js", TEXT, &url);
    assert_eq!(told(&frame), at_original(files.path("dist/a.ts")));
    // Its file may be any other: a loader has made the script.
    files.write("dist/b.js", "something else");
    let frame = files.frame("dist/b.js", TEXT, &url);
    assert_eq!(told(&frame), at_original(files.path("dist/a.ts")));
}

#[test]
fn a_script_that_has_changed_since_is_left_as_it_is() {
    let mut files = Files::new();
    files.write("a.js", "function other(b){return b}");
    files.write("a.js.map", map("a.ts").to_string());
    let frame = files.frame("a.js", TEXT, "a.js.map");
    assert_eq!(told(&frame), generated(files.path("a.js")));
    let notes = files.maps.take_notes();
    assert_eq!(
        notes,
        [format!(
            "{}: it is not what the process has loaded",
            files.path("a.js")
        )]
    );
    // A mark of the encoding and a line for a shell are not in what V8 has.
    files.write("b.js", format!("\u{feff}{TEXT}"));
    files.write(
        "c.js",
        format!("#!/usr/bin/env node{TEXT}").replace("node", "node\n"),
    );
    for (name, text) in [("b.js", TEXT.to_owned()), ("c.js", format!("\n{TEXT}"))] {
        let frame = files.frame(name, &text, "a.js.map");
        assert_eq!(told(&frame), at_original(files.path("a.ts")), "{name}");
    }
}

#[test]
fn the_original_of_an_original() {
    let mut files = Files::new();
    // bundle.js was made of mid.js, and that of a.ts: its line 6 is line 8 there.
    files.write("bundle.js.map", map("lib/mid.js").to_string());
    files.write("bundle.js", TEXT);
    files.write("lib/mid.js", "…\n//# sourceMappingURL=mid.js.map\n");
    let mid = json!({"sources": ["../src/a.ts"], "names": [], "mappings": ";;;;AAMA;AACA"});
    files.write("lib/mid.js.map", mid.to_string());
    let frame = files.frame("bundle.js", TEXT, "bundle.js.map");
    let (name, file, places) = told(&frame);
    assert_eq!((name.as_str(), file), ("first", files.path("src/a.ts")));
    assert_eq!(places, [Some((8, 1)), Some((7, 1))]);
}

#[test]
fn maps_that_lead_to_each_other_or_themselves_come_to_an_end() {
    let mut files = Files::new();
    for (script, next) in [
        ("a.js", "b.js"),
        ("b.js", "c.js"),
        ("c.js", "a.js"),
        ("s.js", "s.js"),
    ] {
        files.write(script, format!("{TEXT}\n//# sourceMappingURL={script}.map"));
        let everywhere = json!({"sources": [next], "names": [], "mappings": "AAAA;AACA;AACA"});
        files.write(&format!("{script}.map"), everywhere.to_string());
    }
    let text = |script: &str| format!("{TEXT}\n//# sourceMappingURL={script}.map");
    let frame = files.frame("a.js", &text("a.js"), "a.js.map");
    assert_eq!(frame.file.as_deref(), Some(&*files.path("c.js")));
    let frame = files.frame("s.js", &text("s.js"), "s.js.map");
    assert_eq!(frame.file.as_deref(), Some(&*files.path("s.js")));
    // One after the other, without an end.
    for index in 0..50 {
        files.write(
            &format!("n{index}.js"),
            format!("//# sourceMappingURL=n{index}.map"),
        );
        let next = json!({"sources": [format!("n{}.js", index + 1)], "mappings": "AAAA"});
        files.write(&format!("n{index}.map"), next.to_string());
    }
    let frame = files.frame("n0.js", "//# sourceMappingURL=n0.map", "n0.map");
    let last = files.path(&format!("n{}.js", MAX_CHAIN + 1));
    assert_eq!(frame.file.as_deref(), Some(&*last));
}

#[test]
fn what_is_no_map_leaves_the_frame_as_it_is() {
    let mut files = Files::new();
    files.write("bad.map", "{\"version\":3,\"secret\":");
    files.write("other.map", "[1, 2]");
    files.write(
        "broken.map",
        json!({"sources": ["a"], "mappings": "!"}).to_string(),
    );
    files.write(
        "empty.map",
        json!({"sources": [], "names": [], "mappings": ""}).to_string(),
    );
    symlink("/dev/zero", files.path("zero.map")).expect("a link");
    symlink("loop.map", files.path("loop.map")).expect("a link");
    let urls = [
        "bad.map",
        "other.map",
        "broken.map",
        "empty.map",
        "missing.map",
        "zero.map",
        "loop.map",
        "/etc/shadow",
        "/etc/passwd",
        "/dev/zero",
        "/dev/tty",
        "/proc/self/environ",
        "../../../../../../etc/passwd",
        "file:///dev/random",
        "file://host/a.map",
        "http://127.0.0.1:1/a.map",
        "https://127.0.0.1:1/a.map",
        "data:application/json;base64,!",
        "data:",
        "http://[",
        "",
        "\0",
    ];
    for (index, url) in urls.into_iter().enumerate() {
        let script = format!("{index}.js");
        let frame = files.frame(&script, TEXT, url);
        assert_eq!(told(&frame), generated(files.path(&script)), "{url}");
    }
    let notes = files.maps.take_notes().join("\n");
    assert_eq!(notes.lines().count(), 6, "{notes}");
    assert!(
        !notes.contains("secret") && !notes.contains("root"),
        "{notes}"
    );
}

#[test]
fn nothing_of_a_file_that_a_map_names_as_its_source_is_told() {
    let mut files = Files::new();
    files.write("secret.js", "//# sourceMappingURL=data:,top%20secret");
    for source in [
        "/etc/shadow",
        "/dev/zero",
        "/proc/self/environ",
        "secret.js",
    ] {
        let script = format!("{}.js", source.len());
        let url = format!("data:application/json,{}", map(source));
        let frame = files.frame(&script, TEXT, &url);
        let expected = match source.starts_with('/') {
            true => source.to_owned(),
            false => files.path(source),
        };
        assert_eq!(told(&frame), at_original(expected));
    }
    let notes = files.maps.take_notes();
    let secret = files.path("secret.js");
    assert_eq!(
        notes,
        [format!(
            "{secret}: its source map cannot be used: it is not a source map"
        )]
    );
}

#[test]
fn all_of_a_bundle_begins_where_its_files_do() {
    let mut files = Files::new();
    let map = json!({
        "sources": ["a.ts", "b.ts"], "names": [], "mappings": "OAAA;OAOA;OCEA",
    });
    let url = format!("data:application/json,{map}");
    let map = SourceMapUrl {
        url,
        is_wrapped: false,
        digest: 0,
    };
    let script = files.scripts.get("/x/bundle.js", Some(map), None);
    let code = GeneratedCode { script, text: None };
    let mut at = |line, column| {
        let mut frame = Frame {
            file: code.script.file.clone(),
            position: Position::new(line, column),
            function_position: Position::new(1, 1),
            ..Frame::new(Kind::Js, "(anonymous)")
        };
        files.maps.map(&mut frame, &code);
        told(&frame)
    };
    let place = |file: &str, line| {
        (
            "(anonymous)".to_owned(),
            file.to_owned(),
            [Some((line, 1)), Some((1, 1))],
        )
    };
    assert_eq!(at(2, 9), place("/x/a.ts", 8));
    assert_eq!(at(3, 9), place("/x/b.ts", 10));
    // As in Node.js's own traces: on no line of its own, and before all.
    assert_eq!(at(3, 1), place("/x/a.ts", 8));
    assert_eq!(at(1, 1).1, "/x/bundle.js");
}

#[test]
fn the_first_line_of_old_modules_begins_behind_the_wrapper() {
    let place = |line, column, is_wrapped| {
        generated_place(Position::new(line, column).expect("a place"), is_wrapped)
    };
    assert_eq!(place(1, 63, true), Some((0, 0)));
    assert_eq!(place(1, 62, true), None);
    assert_eq!(place(2, 63, true), Some((1, 62)));
    assert_eq!(place(1, 63, false), Some((0, 62)));
}

#[test]
fn a_map_is_loaded_once_for_all_who_run_the_script() {
    let mut files = Files::new();
    files.write("a.js", TEXT);
    files.write("a.js.map", map("a.ts").to_string());
    files.frame("a.js", TEXT, "a.js.map");
    // Another process has its own scripts.
    let root = Root::of(&Source::from(std::process::id())).expect("our own files");
    files.scripts = Scripts::new(Some(Arc::new(root)), true);
    fs::remove_file(files.path("a.js.map")).expect("removed");
    let frame = files.frame("a.js", TEXT, "a.js.map");
    assert_eq!(told(&frame), at_original(files.path("a.ts")));
}

/// A map of a source with this text, whose sixth line is the one that executes.
fn map_with(content: &str) -> Value {
    let mut map = map("../src/a.ts");
    map["sourcesContent"] = json!([content]);
    map
}

const CONTENT: &str = "1\n2\n3\n4\nfunction first() {\n  return 6;\n}\n";

#[test]
fn what_stands_on_the_line_is_told_where_it_is_wanted() {
    for (with_sources, expected) in [(false, None), (true, Some("return 6;"))] {
        let mut files = Files::new();
        files.maps = SourceMaps::new(with_sources);
        files.write("dist/a.js", TEXT);
        files.write("dist/a.js.map", map_with(CONTENT).to_string());
        // What is there now need not be what it was made of.
        files.write("src/a.ts", CONTENT.replace('6', "7"));
        let (frame, original) = files.frame_and_line("dist/a.js", TEXT, "a.js.map");
        assert_eq!(told(&frame), at_original(files.path("src/a.ts")));
        let line = original.expect("an original").line;
        assert_eq!(line.as_deref(), expected);
        // Without a map there is nothing to tell, and the frame is where V8 has it.
        let (frame, original) = files.frame_and_line("dist/b.js", TEXT, "b.js.map");
        assert_eq!(told(&frame), generated(files.path("dist/b.js")));
        assert_eq!(original, None);
    }
}

#[test]
fn a_text_that_cannot_be_that_of_the_source_is_not_told() {
    let others = [
        "1\n2\n3\n4\n5".to_owned(),
        "1\n2\n3\n4\n5\n6".to_owned(),
        "1\r2\r3\n4\n5\n  return 6;\n7".to_owned(),
        "1\n2\n3\n4\n5\n \t \n7".to_owned(),
    ];
    for content in others {
        let mut files = Files::new();
        files.maps = SourceMaps::new(true);
        let url = format!("data:application/json,{}", map_with(&content));
        let url = url.replace('\n', "%0A");
        let (frame, original) = files.frame_and_line("dist/a.js", TEXT, &url);
        assert_eq!(told(&frame), at_original(files.path("src/a.ts")));
        assert_eq!(original, Some(OriginalLine { line: None }), "{content:?}");
    }
}

#[test]
fn along_a_chain_the_last_map_tells() {
    let mut files = Files::new();
    files.maps = SourceMaps::new(true);
    let chained = json!({
        "version": 3, "sources": ["../src/a.ts"], "names": [],
        // Its line 6 is line 3 there.
        "mappings": ";;;;;AAEA", "sourcesContent": ["one\ntwo\nthree();\n"],
    });
    let middle = format!("{CONTENT}//# sourceMappingURL=a.js.map\n");
    files.write("lib/a.js", &middle);
    files.write("lib/a.js.map", chained.to_string());
    let mut outer = map_with(&middle);
    outer["sources"] = json!(["../lib/a.js"]);
    let url = format!(
        "data:application/json,{}",
        outer.to_string().replace('#', "%23")
    );
    let (frame, original) = files.frame_and_line("dist/a.js", TEXT, &url);
    assert_eq!(frame.file.as_deref(), Some(&*files.path("src/a.ts")));
    assert_eq!(original.and_then(|it| it.line).as_deref(), Some("three();"));
}
