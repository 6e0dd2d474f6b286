use std::slice::from_ref;
use std::sync::Arc;

use super::*;
use crate::testing::{add, bare, empty, hostile, js, several_processes, small};
use crate::{Frame, Kind, Package, Position, Tier};

fn written(diff: &Diff, format: DiffFormat) -> String {
    let mut out = Vec::new();
    diff.write(format, &mut out).unwrap();
    String::from_utf8(out).unwrap()
}

fn table(before: &Profile, after: &Profile, by: By) -> String {
    written(&Diff::new(before, after, by), DiffFormat::Text)
}

/// Stacks, outermost frame first, with their samples.
fn profile(stacks: &[(&[Frame], u64)]) -> Profile {
    let (mut profile, thread) = empty();
    for (frames, count) in stacks {
        add(&mut profile, thread, frames, *count);
    }
    profile
}

fn at(function: &str, line: u32) -> Frame {
    js(function, line, Tier::Optimized)
}

/// The labels of the rows, with self samples before and after, by label.
fn pairs(before: &[Frame], after: &[Frame]) -> Vec<(String, Option<u64>, Option<u64>)> {
    let of = |frames: &[Frame]| {
        let (mut profile, thread) = empty();
        for (frame, count) in frames.iter().zip(1..) {
            add(&mut profile, thread, from_ref(frame), count);
        }
        profile
    };
    let diff = Diff::new(&of(before), &of(after), By::Function);
    let mut rows: Vec<_> = diff
        .rows()
        .iter()
        .map(|row| {
            let on_top = |weight: Option<Weight>| weight.map(|it| it.self_samples);
            (row.label.clone(), on_top(row.before), on_top(row.after))
        })
        .collect();
    rows.sort_unstable();
    rows
}

#[test]
fn shares_are_compared_and_what_changed_most_is_first() {
    let [main, work, old, new] = [at("main", 1), at("work", 3), at("old", 9), at("new", 20)];
    let before = profile(&[
        (from_ref(&main), 100),
        (&[main.clone(), work.clone()], 80),
        (&[main.clone(), old], 20),
    ]);
    // Twice as many samples.
    let after = profile(&[
        (from_ref(&main), 200),
        (&[main.clone(), work.clone()], 100),
        (&[main.clone(), work.clone(), work], 20),
        (&[main.clone(), new], 80),
    ]);
    assert_eq!(
        table(&before, &after, By::Function),
        "\
Before: 200 samples in 5.0 s at 999 Hz
After:  400 samples in 5.0 s at 999 Hz

           self                       total
   before    after     diff    before    after     diff
        -   20.0 %    +20.0         -   20.0 %    +20.0  new /srv/app.js:20 (new)
   10.0 %        -    -10.0    10.0 %        -    -10.0  old /srv/app.js:9 (gone)
   40.0 %   30.0 %    -10.0    40.0 %   30.0 %    -10.0  work /srv/app.js:3

1 more changed by less than 0.05 points: not shown
"
    );
}

#[test]
fn the_same_has_no_rows() {
    for profile in [small(), several_processes(), hostile()] {
        for by in By::ALL {
            let diff = Diff::new(&profile, &profile, by);
            assert!(diff.rows().iter().all(|row| row.before == row.after));
            let text = written(&diff, DiffFormat::Text);
            assert_eq!(text.lines().count(), 4, "{text}");
            assert!(!text.contains('%'));
        }
    }
    let text = table(&bare(), &bare(), By::Function);
    assert_eq!(text.lines().count(), 2, "{text}");
}

#[test]
fn a_function_that_moved_is_the_same() {
    assert_eq!(
        pairs(&[at("f", 1), at("g", 10)], &[at("g", 14), at("f", 1)]),
        [
            ("f /srv/app.js:1".into(), Some(1), Some(2)),
            ("g /srv/app.js:14".into(), Some(2), Some(1)),
        ]
    );
}

#[test]
fn functions_of_one_name_are_told_apart_by_their_lines() {
    let name = "(anonymous)";
    // Nothing moved: one is gone, one is new.
    assert_eq!(
        pairs(&[at(name, 10), at(name, 20)], &[at(name, 20), at(name, 30)]),
        [
            ("(anonymous) /srv/app.js:10".into(), Some(1), None),
            ("(anonymous) /srv/app.js:20".into(), Some(2), Some(1)),
            ("(anonymous) /srv/app.js:30".into(), None, Some(2)),
        ]
    );
    // All moved by ten lines, as others tell.
    assert_eq!(
        pairs(
            &[at("f", 1), at(name, 10), at(name, 20)],
            &[at("f", 11), at(name, 20), at(name, 30)]
        ),
        [
            ("(anonymous) /srv/app.js:20".into(), Some(2), Some(2)),
            ("(anonymous) /srv/app.js:30".into(), Some(3), Some(3)),
            ("f /srv/app.js:11".into(), Some(1), Some(1)),
        ]
    );
    // Those before the change did not move, those after it did.
    assert_eq!(
        pairs(
            &[at("f", 1), at(name, 10), at(name, 20), at("g", 30)],
            &[at("f", 1), at(name, 10), at(name, 25), at("g", 35)]
        ),
        [
            ("(anonymous) /srv/app.js:10".into(), Some(2), Some(2)),
            ("(anonymous) /srv/app.js:25".into(), Some(3), Some(3)),
            ("f /srv/app.js:1".into(), Some(1), Some(1)),
            ("g /srv/app.js:35".into(), Some(4), Some(4)),
        ]
    );
    // What stands where another one stood is not that.
    assert_eq!(
        pairs(&[at("f", 1), at(name, 30)], &[at("f", 11), at(name, 30)],),
        [
            ("(anonymous) (before) /srv/app.js:30".into(), Some(2), None),
            ("(anonymous) /srv/app.js:30".into(), None, Some(2)),
            ("f /srv/app.js:11".into(), Some(1), Some(1)),
        ]
    );
}

#[test]
fn functions_of_another_file_are_others() {
    let elsewhere = Frame {
        file: Some("/srv/other.js".into()),
        ..at("f", 1)
    };
    assert_eq!(pairs(&[at("f", 1)], &[elsewhere]).len(), 2);
    let native = |file: &str| Frame {
        file: Some(file.into()),
        ..Frame::new(Kind::Native, "malloc")
    };
    assert_eq!(
        pairs(&[native("/lib/libc.so.6")], &[native("/lib64/libc.so.6")]).len(),
        1
    );
}

fn of_package(version: &str, folder: &str) -> Frame {
    Frame {
        file: Some(format!("{folder}/node_modules/lodash/map.js").into()),
        package: Some(Arc::new(Package {
            name: "lodash".into(),
            version: Some(version.into()),
            is_dependency: true,
        })),
        function_position: Position::new(7, 1),
        ..at("map", 7)
    }
}

#[test]
fn another_version_of_a_package_is_the_same_package() {
    let before = [of_package(
        "4.17.20",
        "/srv/node_modules/.pnpm/lodash@4.17.20",
    )];
    let after = [of_package(
        "4.17.21",
        "/srv/node_modules/.pnpm/lodash@4.17.21",
    )];
    let label = "map /srv/node_modules/.pnpm/lodash@4.17.21/node_modules/lodash/map.js:7";
    assert_eq!(pairs(&before, &after), [(label.into(), Some(1), Some(1))]);
    let [before, after] = [before, after].map(|frames| profile(&[(&frames, 3)]));
    for by in [By::File, By::Package] {
        let diff = Diff::new(&before, &after, by);
        let [row] = diff.rows() else {
            panic!("{:?}", diff.rows());
        };
        assert!(row.label.contains("lodash@4.17.21"), "{}", row.label);
        assert_eq!(row.before, row.after);
    }
}

#[test]
fn a_package_that_is_there_twice_stays_two() {
    let [one, two] = ["/srv", "/srv/node_modules/b"].map(|folder| of_package("4.17.20", folder));
    let rows = pairs(&[one.clone(), two], &[one]);
    let [first, second] = &rows[..] else {
        panic!("{rows:?}");
    };
    assert_eq!((first.1, first.2), (Some(2), None));
    assert_eq!((second.1, second.2), (Some(1), Some(1)));
}

#[test]
fn a_program_may_lie_elsewhere_as_a_whole() {
    let of = |folder: &str, file: &str, line: u32| Frame {
        file: Some(format!("{folder}{file}").into()),
        ..at("f", line)
    };
    let [old, new] = ["/srv/releases/1/", "/srv/releases/22/"];
    let before = [
        of(old, "app.js", 1),
        of(old, "lib/app.js", 5),
        of(old, "gone.js", 9),
    ];
    let after = [of(new, "app.js", 1), of(new, "lib/app.js", 7)];
    assert_eq!(
        pairs(&before, &after),
        [
            ("f /srv/releases/1/gone.js:9".into(), Some(3), None),
            ("f /srv/releases/22/app.js:1".into(), Some(1), Some(1)),
            ("f /srv/releases/22/lib/app.js:7".into(), Some(2), Some(2)),
        ]
    );
    let [before, after] = [&before[..2], &after].map(|frames| profile(&[(frames, 3)]));
    for (by, same) in [(By::File, 2), (By::Line, 1)] {
        let diff = Diff::new(&before, &after, by);
        let in_both = diff.rows().iter().filter(|row| row.before == row.after);
        assert_eq!(in_both.count(), same, "{by:?} {:?}", diff.rows());
    }
    // Where a file has stayed, others have not moved.
    let before = [of(old, "app.js", 1), of("/srv/", "main.js", 1)];
    let after = [of(new, "app.js", 1), of("/srv/", "main.js", 1)];
    assert_eq!(pairs(&before, &after).len(), 3);
}

#[test]
fn processes_are_one() {
    let diff = Diff::new(&small(), &several_processes(), By::Function);
    assert_eq!(diff.sample_counts(), [10, 10]);
    let labels: Vec<&str> = diff.rows().iter().map(|it| it.label.as_str()).collect();
    assert!(!labels.iter().any(|it| it.contains("pid")), "{labels:?}");
    let work = diff
        .rows()
        .iter()
        .find(|it| it.label.starts_with("work "))
        .unwrap();
    assert_eq!(work.before.unwrap().total_samples, 5);
    assert_eq!(work.after.unwrap().total_samples, 7);
}

#[test]
fn programs_get_all_rows_in_samples() {
    let diff = Diff::new(&small(), &several_processes(), By::Function);
    let json: serde_json::Value = serde_json::from_str(&written(&diff, DiffFormat::Json)).unwrap();
    assert_eq!(json["nodetap_diff"], 1);
    assert_eq!(json["by"], "function");
    assert_eq!(json["before"]["samples"], 10);
    assert_eq!(json["after"]["rate_hz"], 999);
    let rows = json["rows"].as_array().unwrap();
    let sum = |side: &str| -> u64 {
        let rows = rows.iter().filter_map(|row| row[side]["self"].as_u64());
        rows.sum()
    };
    assert_eq!([sum("before"), sum("after")], [10, 10]);
    let malloc = rows
        .iter()
        .find(|row| row["label"] == "malloc libc.so.6")
        .unwrap();
    assert_eq!(malloc["before"]["self"], 1);
    assert_eq!(malloc.get("after"), None);
}

/// The frames of a graph: what their titles say, and their colours.
fn drawn(svg: &str) -> Vec<(String, String)> {
    let document = roxmltree::Document::parse_with_options(
        svg,
        roxmltree::ParsingOptions {
            allow_dtd: true,
            ..Default::default()
        },
    )
    .unwrap();
    let frames = document.descendants().filter(|it| it.has_tag_name("g"));
    let child = |node: roxmltree::Node<'_, '_>, tag: &str| {
        node.children()
            .find(|it| it.tag_name().name() == tag)
            .map(|it| it.id())
    };
    frames
        .filter_map(|group| {
            let title = document
                .get_node(child(group, "title")?)?
                .text()?
                .to_owned();
            let fill = document
                .get_node(child(group, "rect")?)?
                .attribute("fill")?;
            Some((title, fill.to_owned()))
        })
        .collect()
}

#[test]
fn a_graph_is_red_where_there_is_more_and_blue_where_there_is_less() {
    let [main, work, gone] = [at("main", 1), at("work", 3), at("gone", 9)];
    let before = profile(&[
        (from_ref(&main), 60),
        (&[main.clone(), work.clone()], 20),
        (&[main.clone(), work.clone(), gone], 20),
    ]);
    let after = profile(&[
        (from_ref(&main), 20),
        (&[main.clone(), work], 20),
        (&[main.clone(), at("new", 20)], 10),
    ]);
    let svg = written(&Diff::new(&before, &after, By::Function), DiffFormat::Flame);
    let mut drawn = drawn(&svg);
    drawn.sort_unstable();
    let titles: Vec<&str> = drawn.iter().map(|it| it.0.as_str()).collect();
    assert_eq!(
        titles,
        [
            "all (50 samples, 100%)",
            "main /srv/app.js:1 (50 samples, 100.00%; -20.00%)",
            "new /srv/app.js:20 (10 samples, 20.00%; +20.00%)",
            "work /srv/app.js:3 (20 samples, 40.00%; +20.00%)",
        ]
    );
    let rgb = |at: usize| -> Vec<u32> {
        let numbers = drawn[at].1.trim_start_matches("rgb(").trim_end_matches(')');
        numbers.split(',').map(|it| it.parse().unwrap()).collect()
    };
    let (main, new, work) = (rgb(1), rgb(2), rgb(3));
    assert!(main[2] > main[0], "{main:?}");
    assert!(new[0] > new[2], "{new:?}");
    assert!(work[0] > work[2], "{work:?}");
}

#[test]
fn hostile_names_break_no_graph() {
    let svg = written(
        &Diff::new(&small(), &hostile(), By::Function),
        DiffFormat::Flame,
    );
    assert_eq!(drawn(&svg).len(), 1 + 12);
    let table = table(&small(), &hostile(), By::Function);
    assert!(!table.contains(|c: char| c.is_control() && c != '\n'));
}
