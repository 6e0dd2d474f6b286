//! What is in the SVG, as an XML parser sees it.

use roxmltree::{Document, Node, ParsingOptions};

use super::lines::Lines;
use crate::testing::{add, bare, deep, empty, hostile, js, several_processes, small, written};
use crate::{CallTree, Format, Frame, Kind, Metadata, Profile, Tier};

fn parse(svg: &str) -> Document<'_> {
    let options = ParsingOptions {
        allow_dtd: true,
        ..ParsingOptions::default()
    };
    Document::parse_with_options(svg, options).unwrap()
}

/// The element with this id.
fn by_id<'a>(document: &'a Document<'_>, id: &str) -> Node<'a, 'a> {
    document
        .descendants()
        .find(|node| node.attribute("id") == Some(id))
        .unwrap_or_else(|| panic!("no element {id}"))
}

/// The tooltip of each box, and the sample at which it starts: boxes as inferno orders them.
fn boxes<'a>(document: &'a Document<'_>) -> Vec<(u64, &'a str)> {
    by_id(document, "frames")
        .children()
        .map(|group| {
            let child = |name| group.children().find(|it| it.has_tag_name(name)).unwrap();
            let start = child(("http://www.w3.org/2000/svg", "rect"))
                .attributes()
                .find(|it| it.name() == "x" && it.namespace().is_some())
                .unwrap()
                .value();
            let title = child(("http://www.w3.org/2000/svg", "title"));
            (start.parse().unwrap(), title.text().unwrap())
        })
        .collect()
}

fn legend(svg: &str) -> Vec<String> {
    by_id(&parse(svg), "legend")
        .descendants()
        .filter_map(|node| node.text().filter(|_| node.is_text()))
        .map(Into::into)
        .collect()
}

#[test]
fn every_call_is_one_box() {
    let svg = written(&small(), Format::Flame);
    let document = parse(&svg);
    let mut boxes = boxes(&document);
    boxes.sort_unstable();
    assert_eq!(
        boxes,
        [
            (0, "all (10 samples, 100%)"),
            (0, "main /srv/app.js:1 (6 samples, 60.00%)"),
            (0, "malloc libc.so.6 (1 samples, 10.00%)"),
            (0, "work /srv/app.js:3 (5 samples, 50.00%)"),
            (6, "(garbage collector) (1 samples, 10.00%)"),
            (6, "f /srv/app.js:1 (2 samples, 20.00%)"),
            (8, "(no frames) (1 samples, 10.00%)"),
            (9, "f /srv/app.js:10 (1 samples, 10.00%)"),
        ]
    );
}

#[test]
fn title_subtitle_and_legend_say_what_it_is() {
    let svg = written(&small(), Format::Flame);
    let document = parse(&svg);
    assert_eq!(
        by_id(&document, "title").text(),
        Some("node /srv/app.js (pid 32642)")
    );
    assert_eq!(
        by_id(&document, "subtitle").text(),
        Some("Node v24.21.0 · V8 13.6.233.17-node.53 · 10 samples in 5.0 s at 999 Hz (ebpf)")
    );
    assert_eq!(
        legend(&svg),
        ["optimized", "baseline", "interpreted", "native", "other"]
    );
    assert!(svg.contains("var truncate_text_right = true;"));
    assert!(svg.ends_with("</svg></svg>\n"));
}

#[test]
fn a_graph_is_always_the_same() {
    assert_eq!(
        written(&small(), Format::Flame),
        written(&small(), Format::Flame)
    );
}

#[test]
fn several_processes_stand_side_by_side() {
    let svg = written(&several_processes(), Format::Flame);
    let document = parse(&svg);
    let boxes = boxes(&document);
    assert!(boxes.contains(&(0, "node b.js (pid 7) (6 samples, 60.00%)")));
    assert!(boxes.contains(&(6, "node /srv/app.js (pid 32642) (4 samples, 40.00%)")));
    assert_eq!(by_id(&document, "title").text(), Some("3 processes"));
    assert_eq!(
        by_id(&document, "subtitle").text(),
        Some("10 samples in 5.0 s at 999 Hz (ebpf)")
    );
}

#[test]
fn without_samples_the_picture_says_so() {
    for profile in [bare(), empty().0] {
        let svg = written(&profile, Format::Flame);
        let document = parse(&svg);
        assert_eq!(document.root_element().tag_name().name(), "svg");
        let texts: Vec<&str> = document
            .descendants()
            .filter(|node| node.has_tag_name(("http://www.w3.org/2000/svg", "text")))
            .map(|node| node.text().unwrap())
            .collect();
        assert_eq!(texts.len(), 3);
        assert_eq!(texts[2], "no samples");
        assert!(texts[1].ends_with("0 samples in 5.0 s at 999 Hz (ebpf)"));
    }
    let mut profile = Profile::new(Metadata::new("<&>\0", 1));
    profile.metadata.duration = std::time::Duration::ZERO;
    let svg = written(&profile, Format::Flame);
    assert!(
        parse(&svg)
            .descendants()
            .any(|node| node.text() == Some(r"0 samples in 0.0 s at 1 Hz (<&>\u{0})"))
    );
}

#[test]
fn hostile_names_leave_the_xml_whole() {
    let svg = written(&hostile(), Format::Flame);
    let document = parse(&svg);
    let boxes: Vec<&str> = boxes(&document).into_iter().map(|it| it.1).collect();
    for title in [
        r"a\nb 5\n x,y.js (1 samples, 16.67%)",
        r"\u{1b}[2J\u{0} \r\u{202e}z (1 samples, 16.67%)",
        r#"<b onclick="x">&amp,' ]]>--><!--\u{ffff}\u{85} (1 samples, 16.67%)"#,
        "42 (1 samples, 16.67%)",
        "f\u{a0}42 (1 samples, 16.67%)",
        "f\u{a0}13.5 (1 samples, 16.67%)",
        "#\u{a0}note (1 samples, 16.67%)",
    ] {
        assert!(boxes.contains(&title), "{title}");
    }
    assert_eq!(boxes.len(), 13);
    let elements: Vec<&str> = document
        .descendants()
        .filter(|node| node.is_element())
        .map(|node| node.tag_name().name())
        .collect();
    assert!(!elements.contains(&"b"));
}

#[test]
fn a_hostile_command_leaves_the_xml_whole() {
    let mut profile = bare();
    let thread = crate::testing::add_thread(&mut profile, 1, 1, "node");
    profile.add_process(crate::Process {
        pid: 1,
        command: vec!["<script>\x1b".into(), "\0&\"'".into()],
        node: Some("<v\n>".into()),
        v8: Some("]]>".into()),
    });
    add(&mut profile, thread, &[js("f", 1, Tier::Maglev)], 1);
    let svg = written(&profile, Format::Flame);
    let document = parse(&svg);
    assert_eq!(
        by_id(&document, "title").text(),
        Some(r#"<script>\u{1b} \u{0}&"' (pid 1)"#)
    );
    assert_eq!(
        by_id(&document, "subtitle").text(),
        Some(r"Node <v\n> · V8 ]]> · 1 samples in 5.0 s at 999 Hz (ebpf)")
    );
}

#[test]
fn a_box_has_the_colour_of_what_was_seen_most() {
    let (mut profile, thread) = empty();
    add(&mut profile, thread, &[js("f", 1, Tier::Interpreted)], 1);
    add(&mut profile, thread, &[js("f", 1, Tier::Optimized)], 2);
    assert_eq!(legend(&written(&profile, Format::Flame)), ["optimized"]);
}

#[test]
fn a_deep_stack_is_drawn_whole() {
    let svg = written(&deep(8192), Format::Flame);
    let document = parse(&svg);
    let boxes = boxes(&document);
    assert_eq!(boxes.len(), 8193);
    assert!(boxes.contains(&(0, "f8191 (1 samples, 50.00%)")));
}

#[test]
fn thin_frames_count_for_their_callers() {
    let (mut profile, thread) = empty();
    let frame = |name: &str| Frame::new(Kind::Js, name);
    add(
        &mut profile,
        thread,
        &[frame("a"), frame("thin"), frame("x")],
        1,
    );
    add(&mut profile, thread, &[frame("a"), frame("wide")], 2);
    add(&mut profile, thread, &[frame("b")], 1);
    let tree = CallTree::new(&profile);
    let lines = Lines::new(&tree, 2.0, usize::MAX);
    assert_eq!(lines.iter().collect::<Vec<_>>(), ["a 1", "a;wide 2"]);
    let lines = Lines::new(&tree, 0.0, usize::MAX);
    assert_eq!(
        lines.iter().collect::<Vec<_>>(),
        ["b 1", "a;thin;x 1", "a;wide 2"]
    );
    assert_eq!(lines.cut_to(), None);
}

#[test]
fn lines_that_would_be_too_many_are_cut_at_a_level() {
    let (mut profile, thread) = empty();
    let frames: Vec<Frame> = (0..100).map(|_| Frame::new(Kind::Js, "f")).collect();
    for depth in 1..=100 {
        add(&mut profile, thread, &frames[..depth], 1);
    }
    let tree = CallTree::new(&profile);
    // A line of n levels counts for 2 n bytes: 2 + 4 + 6 + 8 + 10 = 30.
    let lines = Lines::new(&tree, 0.0, 30);
    assert_eq!(lines.cut_to(), Some(5));
    assert_eq!(
        lines.iter().collect::<Vec<_>>(),
        ["f 1", "f;f 1", "f;f;f 1", "f;f;f;f 1", "f;f;f;f;f 96"]
    );
    assert_eq!(Lines::new(&tree, 0.0, 0).cut_to(), Some(1));
    assert_eq!(Lines::new(&tree, 0.0, 10_100).cut_to(), None);
}
