use std::collections::BTreeMap;
use std::io::Read;
use std::sync::Arc;

use flate2::read::GzDecoder;
use prost::Message;

use super::proto;
use crate::testing::{add, bare, deep, empty, hostile, js, several_processes, small};
use crate::{Format, Frame, Kind, Mode, Package, Profile, Sample, Tier};

/// The message, with texts in the places of their numbers.
struct File(proto::Profile);

fn read(profile: &Profile) -> File {
    let mut compressed = Vec::new();
    crate::formats::write(profile, Format::Pprof, &mut compressed).unwrap();
    let mut bytes = Vec::new();
    GzDecoder::new(compressed.as_slice())
        .read_to_end(&mut bytes)
        .unwrap();
    let file = File(proto::Profile::decode(bytes.as_slice()).unwrap());
    assert_eq!(file.text(0), "");
    file
}

impl File {
    fn text(&self, number: i64) -> &str {
        &self.0.string_table[usize::try_from(number).unwrap()]
    }

    fn types(&self) -> Vec<(&str, &str)> {
        let types = self.0.sample_type.iter();
        types
            .map(|it| (self.text(it.r#type), self.text(it.unit)))
            .collect()
    }

    fn function(&self, line: &proto::Line) -> String {
        let mut functions = self.0.function.iter();
        let function = functions.find(|it| it.id == line.function_id).unwrap();
        format!(
            "{} {}:{}@{}:{}",
            self.text(function.name),
            self.text(function.filename),
            function.start_line,
            line.line,
            line.column
        )
    }

    /// Of each sample the lines, outermost first, those of one place joined by `+`; then the
    /// values.
    fn samples(&self) -> Vec<(Vec<String>, Vec<i64>)> {
        let place = |id: &u64| {
            let mut places = self.0.location.iter();
            let place = places.find(|it| it.id == *id).unwrap();
            let lines = place.line.iter().rev().map(|line| self.function(line));
            lines.collect::<Vec<_>>().join(" + ")
        };
        let samples = self.0.sample.iter();
        samples
            .map(|it| {
                let places = it.location_id.iter().rev().map(place).collect();
                (places, it.value.clone())
            })
            .collect()
    }

    fn labels(&self, sample: usize) -> BTreeMap<&str, &str> {
        let labels = self.0.sample[sample].label.iter();
        labels
            .map(|it| (self.text(it.key), self.text(it.str)))
            .collect()
    }
}

#[test]
fn stacks_are_counted_and_timed() {
    let file = read(&small());
    assert_eq!(file.types(), [("samples", "count"), ("cpu", "nanoseconds")]);
    assert_eq!(file.0.period, 1_001_001);
    assert_eq!(file.0.time_nanos, 1_714_979_289_250_000_000);
    assert_eq!(file.0.duration_nanos, 5_000_499_000);
    let comments: Vec<&str> = file.0.comment.iter().map(|&it| file.text(it)).collect();
    assert_eq!(
        comments,
        [
            concat!(
                "nodetap ",
                env!("CARGO_PKG_VERSION"),
                ": 10 samples at 999 Hz (ebpf), 1 lost, 2 truncated, 3 incomplete"
            ),
            "node /srv/app.js (pid 32642), Node.js v24.21.0, V8 13.6.233.17-node.53",
        ]
    );
    let main = "main /srv/app.js:1@2:5";
    let work = "work /srv/app.js:3@4:5";
    let expected: [(&[&str], i64); 8] = [
        (&["(no frames) :0@0:0"], 1),
        (&[main], 1),
        (&[main, work], 3),
        (
            &[main, work, "malloc /lib/x86_64-linux-gnu/libc.so.6:0@0:0"],
            1,
        ),
        (&["f /srv/app.js:1@2:5"], 1),
        (&["f /srv/app.js:10@11:5"], 1),
        (&["f /srv/app.js:1@2:5", "(garbage collector) :0@0:0"], 1),
        (&[main, "work /srv/app.js:3@7:3"], 1),
    ];
    let expected = expected.map(|(frames, count)| {
        let frames: Vec<String> = frames.iter().map(|&it| it.into()).collect();
        (frames, vec![count, count * 1_001_001])
    });
    let mut samples = file.samples();
    let mut expected = expected.to_vec();
    samples.sort();
    expected.sort();
    assert_eq!(samples, expected);
}

#[test]
fn labels_say_of_what_a_sample_is() {
    let (mut profile, main) = empty();
    let package = Arc::new(Package {
        name: "@a/b".into(),
        version: Some("1.2.3".into()),
        is_dependency: true,
    });
    let frame = profile.intern_frame(Frame {
        package: Some(package),
        ..js("f", 1, Tier::Optimized)
    });
    let stack = profile.intern_stack([frame]);
    profile.add_sample(Sample::new(0, main, stack, Mode::JavaScript));
    let file = read(&profile);
    assert_eq!(
        file.labels(0).into_iter().collect::<Vec<_>>(),
        [
            ("mode", "javascript"),
            ("origin", "dependencies"),
            ("package", "@a/b@1.2.3"),
            ("pid", "32642"),
            ("thread", "32642"),
            ("thread_name", "node"),
        ]
    );
}

#[test]
fn what_was_inlined_shares_the_place_of_its_caller() {
    let (mut profile, main) = empty();
    let inlined = |name: &str, line| Frame {
        inlined: true,
        ..js(name, line, Tier::Optimized)
    };
    let outer = js("outer", 1, Tier::Optimized);
    let stack = [
        outer.clone(),
        inlined("a", 3),
        inlined("b", 5),
        js("called", 7, Tier::Optimized),
        inlined("c", 9),
    ];
    add(&mut profile, main, &stack, 2);
    add(&mut profile, main, &stack[..2], 1);
    // What it was inlined into was cut off.
    add(&mut profile, main, &stack[1..2], 1);
    let mut samples = read(&profile).samples();
    samples.sort();
    let o = "outer /srv/app.js:1@2:5";
    let a = "a /srv/app.js:3@4:5";
    assert_eq!(
        samples,
        [
            (vec![a.to_owned()], vec![1, 1_001_001]),
            (vec![format!("{o} + {a}")], vec![1, 1_001_001]),
            (
                vec![
                    format!("{o} + {a} + b /srv/app.js:5@6:5"),
                    "called /srv/app.js:7@8:5 + c /srv/app.js:9@10:5".to_owned()
                ],
                vec![2, 2_002_002]
            ),
        ]
    );
}

#[test]
fn waits_take_time_but_not_the_cpu() {
    let (mut profile, main) = empty();
    let frame = profile.intern_frame(Frame::new(Kind::Pseudo, "(idle)"));
    let stack = profile.intern_stack([frame]);
    for (mode, count) in [(Mode::Waiting, 500), (Mode::Native, 2)] {
        let sample = Sample::new(0, main, stack, mode);
        profile.add_sample(Sample { count, ..sample });
    }
    let file = read(&profile);
    assert_eq!(file.types()[2], ("wall", "nanoseconds"));
    assert_eq!(file.text(file.0.default_sample_type), "wall");
    let values: Vec<_> = file
        .samples()
        .into_iter()
        .map(|(_, values)| values)
        .collect();
    assert_eq!(values, [[2, 2_002_002, 2_002_002], [500, 0, 500_500_500]]);
}

#[test]
fn functions_without_a_name_can_be_told_apart() {
    let (mut profile, main) = empty();
    for line in [3, 8] {
        add(&mut profile, main, &[js("", line, Tier::Optimized)], 1);
    }
    let mut samples = read(&profile).samples();
    samples.sort();
    assert_eq!(samples[0].0, ["(anonymous) app.js:3 /srv/app.js:3@4:5"]);
    assert_eq!(samples[1].0, ["(anonymous) app.js:8 /srv/app.js:8@9:5"]);
}

#[test]
fn modules_of_native_code_are_mappings() {
    let file = read(&small());
    let names = file.0.mapping.iter().map(|it| file.text(it.filename));
    assert_eq!(
        names.collect::<Vec<_>>(),
        ["node", "/lib/x86_64-linux-gnu/libc.so.6"]
    );
    for location in &file.0.location {
        let is_native = file.function(&location.line[0]).starts_with("malloc");
        assert_eq!(location.mapping_id, if is_native { 2 } else { 1 });
    }
}

#[test]
fn it_is_whole_whatever_there_is() {
    for profile in [
        bare(),
        empty().0,
        several_processes(),
        hostile(),
        deep(10_000),
    ] {
        let file = read(&profile);
        let counted: i64 = file.0.sample.iter().map(|it| it.value[0]).sum();
        assert_eq!(counted as u64, profile.sample_count());
        for text in &file.0.string_table {
            assert!(!text.chars().any(char::is_control), "{text:?}");
            assert!(text.chars().count() <= 4096);
        }
        // Every place and function that is named is there.
        let known = |ids: Vec<u64>| -> std::collections::HashSet<u64> { ids.into_iter().collect() };
        let places = known(file.0.location.iter().map(|it| it.id).collect());
        let functions = known(file.0.function.iter().map(|it| it.id).collect());
        for sample in &file.0.sample {
            assert!(sample.location_id.iter().all(|id| places.contains(id)));
        }
        for line in file.0.location.iter().flat_map(|it| &it.line) {
            assert!(functions.contains(&line.function_id));
        }
    }
}
