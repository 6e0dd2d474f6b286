use serde_json::Value;

use super::left_out;
use crate::testing::{
    add, add_thread, bare, deep, empty, hostile, js, several_processes, small, written,
};
use crate::{Format, Frame, Kind, Mode, Profile, Sample, Tier};

fn read(profile: &Profile) -> Value {
    serde_json::from_str(&written(profile, Format::CpuProfile)).unwrap()
}

/// A number in a list of numbers.
fn numbers(value: &Value) -> Vec<u64> {
    let list = value.as_array().unwrap();
    list.iter().map(|it| it.as_u64().unwrap()).collect()
}

#[test]
fn a_thread_is_written_as_v8_writes_it() {
    let (mut profile, main) = empty();
    let outer = js("main", 1, Tier::Interpreted);
    let work = js("work", 3, Tier::Optimized);
    let gc = Frame::new(Kind::Pseudo, "(garbage collector)");
    for (time_us, frames) in [
        (100, vec![outer.clone(), work.clone()]),
        (1100, vec![outer.clone(), work, gc]),
        (10_000, vec![outer]),
    ] {
        let ids: Vec<_> = frames
            .into_iter()
            .map(|it| profile.intern_frame(it))
            .collect();
        let stack = profile.intern_stack(ids);
        profile.add_sample(Sample::new(time_us, main, stack, Mode::JavaScript));
    }
    profile.metadata.duration = std::time::Duration::from_millis(12);
    let frame = |name: &str, line: u32| {
        format!(
            r#""callFrame":{{"functionName":"{name}","scriptId":"1","url":"file:///srv/app.js","lineNumber":{line},"columnNumber":0}}"#
        )
    };
    let other = |name: &str| {
        format!(
            r#""callFrame":{{"functionName":"{name}","scriptId":"0","url":"","lineNumber":-1,"columnNumber":-1}}"#
        )
    };
    let nodes = [
        format!(
            r#"{{"id":1,{},"hitCount":0,"children":[2,5]}}"#,
            other("(root)")
        ),
        format!(
            r#"{{"id":2,{},"hitCount":1,"children":[3],"positionTicks":[{{"line":2,"ticks":1}}]}}"#,
            frame("main", 0)
        ),
        format!(
            r#"{{"id":3,{},"hitCount":1,"children":[4],"positionTicks":[{{"line":4,"ticks":1}}]}}"#,
            frame("work", 2)
        ),
        format!(
            r#"{{"id":4,{},"hitCount":1}}"#,
            other("(garbage collector)")
        ),
        // 8 ms and 1 ms in which the thread did not run.
        format!(r#"{{"id":5,{},"hitCount":9}}"#, other("(idle)")),
    ];
    assert_eq!(
        written(&profile, Format::CpuProfile),
        format!(
            r#"{{"nodes":[{}],"startTime":1714979289250000,"endTime":1714979289262000,"samples":[3,4,5,2,5],"timeDeltas":[0,1001,1001,7998,1001]}}{}"#,
            nodes.join(","),
            "\n"
        )
    );
}

#[test]
fn positions_in_a_function_are_ticks_of_one_node() {
    let (mut profile, main) = empty();
    let work = js("work", 3, Tier::Optimized);
    let elsewhere = Frame {
        position: crate::Position::new(7, 3),
        tier: Some(Tier::Interpreted),
        ..work.clone()
    };
    add(&mut profile, main, &[work], 3);
    add(&mut profile, main, &[elsewhere], 2);
    let file = read(&profile);
    assert_eq!(file["nodes"][1]["hitCount"], 5);
    assert_eq!(
        file["nodes"][1]["positionTicks"],
        serde_json::json!([{"line": 4, "ticks": 3}, {"line": 7, "ticks": 2}])
    );
    assert_eq!(numbers(&file["samples"]), [2, 2, 2, 2, 2, 3]);
}

#[test]
fn long_waits_are_one_sample() {
    let (mut profile, main) = empty();
    let frame = profile.intern_frame(Frame::new(Kind::Pseudo, "(blocked in read)"));
    let stack = profile.intern_stack([frame]);
    let sample = Sample::new(0, main, stack, Mode::Waiting);
    profile.add_sample(Sample {
        count: 2000,
        ..sample
    });
    let file = read(&profile);
    assert_eq!(file["nodes"][1]["hitCount"], 2000);
    assert_eq!(numbers(&file["samples"]), [2, 3]);
    assert_eq!(numbers(&file["timeDeltas"]), [0, 2_002_002]);
}

#[test]
fn native_code_between_functions_is_not_given_to_one_of_them() {
    let (mut profile, main) = empty();
    let frame = [js("f", 1, Tier::Optimized)];
    let program = [Frame::new(Kind::Pseudo, "(program)")];
    add(&mut profile, main, &frame, 1);
    add(&mut profile, main, &program, 1);
    add(&mut profile, main, &frame, 1);
    // Called by a function it is another node.
    add(&mut profile, main, &[&frame[..], &program[..]].concat(), 1);
    let file = read(&profile);
    assert_eq!(numbers(&file["samples"]), [2, 3, 3, 2, 4, 5]);
    assert_eq!(
        numbers(&file["timeDeltas"]),
        [0, 1001, 501, 500, 1001, 1001]
    );
    assert_eq!(file["nodes"][2]["hitCount"], 1);
}

#[test]
fn it_holds_one_thread_and_says_so() {
    let file = read(&small());
    let hits = |file: &Value| -> Vec<(String, u64)> {
        let nodes = file["nodes"].as_array().unwrap().iter();
        nodes
            .map(|node| {
                let name = node["callFrame"]["functionName"].as_str().unwrap();
                (name.to_owned(), node["hitCount"].as_u64().unwrap())
            })
            .filter(|(name, _)| name != "(idle)")
            .collect()
    };
    let expected = [
        ("(root)", 0),
        ("main", 1),
        ("work", 3),
        ("malloc", 1),
        ("f", 1),
        ("f", 1),
        ("(garbage collector)", 1),
        ("(no frames)", 1),
    ];
    assert_eq!(
        hits(&file),
        expected.map(|(name, hits)| (name.to_owned(), hits))
    );
    assert_eq!(
        left_out(&small()).unwrap(),
        "a cpuprofile holds one thread: node 32642 (main thread), 9 of 10 samples ('nodetap report --thread TID' takes another)"
    );
    assert_eq!(
        left_out(&several_processes()).unwrap(),
        "a cpuprofile holds one thread: node 7 (main thread), 6 of 10 samples ('nodetap report --thread TID' takes another)"
    );
    for profile in [bare(), empty().0, deep(3)] {
        assert_eq!(left_out(&profile), None);
    }
    // Nothing of what only other threads ran.
    let (mut profile, main) = empty();
    let worker = add_thread(&mut profile, 32642, 2, "worker");
    add(
        &mut profile,
        worker,
        &[js("inWorker", 1, Tier::Optimized)],
        5,
    );
    add(&mut profile, main, &[js("inMain", 1, Tier::Optimized)], 1);
    assert!(!written(&profile, Format::CpuProfile).contains("inWorker"));
}

#[test]
fn without_samples_the_thread_was_idle() {
    for profile in [bare(), empty().0] {
        let file = read(&profile);
        assert_eq!(file["nodes"][0]["children"], serde_json::json!([2]));
        assert_eq!(file["nodes"][1]["callFrame"]["functionName"], "(idle)");
        assert_eq!(numbers(&file["samples"]), [2]);
        assert_eq!(numbers(&file["timeDeltas"]), [0]);
    }
}

#[test]
fn hostile_names_are_shown_escaped() {
    let file = read(&hostile());
    let nodes = file["nodes"].as_array().unwrap();
    let name = |node: usize| nodes[node]["callFrame"]["functionName"].as_str().unwrap();
    let url = |node: usize| nodes[node]["callFrame"]["url"].as_str().unwrap();
    assert_eq!(name(1), r"a\nb 5\n");
    assert_eq!(name(2), r"\u{1b}[2J\u{0}");
    assert_eq!(url(1), "x;y.js");
    for node in nodes {
        let frame = &node["callFrame"];
        let name = frame["functionName"].as_str().unwrap();
        assert!(name.chars().count() <= 500);
        assert!(frame["url"].as_str().unwrap().chars().count() <= 4096);
    }
}

#[test]
fn a_deep_stack_is_written_whole() {
    let text = written(&deep(10_000), Format::CpuProfile);
    assert!(text.len() < 3 << 20, "{}", text.len());
    let file: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(file["nodes"].as_array().unwrap().len(), 10_002);
    assert_eq!(numbers(&file["samples"]), [10_001, 5001, 10_002]);
}
