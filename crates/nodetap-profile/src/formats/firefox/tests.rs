use serde_json::{Value, json};

use crate::testing::{
    add, add_thread, bare, deep, empty, hostile, js, several_processes, small, written,
};
use crate::{Format, Frame, Kind, Mode, Package, Profile, Sample, Tier};

fn read(profile: &Profile) -> Value {
    serde_json::from_str(&written(profile, Format::Firefox)).unwrap()
}

fn list(value: &Value) -> &Vec<Value> {
    value.as_array().unwrap_or_else(|| panic!("{value}"))
}

fn index(value: &Value) -> usize {
    usize::try_from(value.as_u64().unwrap_or_else(|| panic!("{value}"))).unwrap()
}

/// Fails unless all columns of a table are as long as it says, but for those that may lack.
fn assert_table(table: &Value) {
    for (name, column) in table.as_object().unwrap() {
        if let Some(column) = column.as_array() {
            assert_eq!(column.len(), index(&table["length"]), "{name}");
        }
    }
}

/// A stack as `function file:line:column@line:column` and category, outermost first.
fn stack(file: &Value, at: usize) -> Vec<String> {
    let shared = &file["shared"];
    let mut next = Some(at);
    let mut frames = Vec::new();
    while let Some(stack) = next {
        let frame = index(&shared["stackTable"]["frame"][stack]);
        let prefix = &shared["stackTable"]["prefix"][stack];
        next = prefix.as_u64().map(|it| it as usize);
        assert!(next.is_none_or(|it| it < stack), "a parent comes first");
        let frames_ = &shared["frameTable"];
        let function = index(&frames_["func"][frame]);
        let functions = &shared["funcTable"];
        let text = |at: &Value| shared["stringArray"][index(at)].as_str().unwrap();
        let source = &functions["source"][function];
        let source = source
            .as_u64()
            .map_or("", |it| text(&shared["sources"]["filename"][it as usize]));
        let category = &file["meta"]["categories"][index(&frames_["category"][frame])];
        let subcategory = &category["subcategories"][index(&frames_["subcategory"][frame])];
        frames.push(format!(
            "{} {}:{}:{}@{}:{} {}/{}",
            text(&functions["name"][function]),
            source,
            functions["lineNumber"][function],
            functions["columnNumber"][function],
            frames_["line"][frame],
            frames_["column"][frame],
            category["name"].as_str().unwrap(),
            subcategory.as_str().unwrap(),
        ));
    }
    frames.reverse();
    frames
}

/// Start in milliseconds, stack, weight and CPU time of each row of a thread.
fn rows(file: &Value, thread: usize) -> Vec<(f64, Vec<String>, u64, u64)> {
    let samples = &file["threads"][thread]["samples"];
    assert_table(samples);
    let mut time = 0.0;
    (0..index(&samples["length"]))
        .map(|row| {
            time += samples["timeDeltas"][row].as_f64().unwrap();
            (
                (time * 1e6).round() / 1e6,
                stack(file, index(&samples["stack"][row])),
                samples["weight"][row].as_u64().unwrap(),
                samples["threadCPUDelta"][row].as_u64().unwrap(),
            )
        })
        .collect()
}

#[test]
fn a_thread_is_a_table_of_samples() {
    let file = read(&small());
    let main = "main /srv/app.js:1:1@2:5 own code/interpreted".to_owned();
    let work = "work /srv/app.js:3:1@4:5 own code/optimized".to_owned();
    let f1 = "f /srv/app.js:1:1@2:5 own code/baseline".to_owned();
    let f10 = "f /srv/app.js:10:1@11:5 own code/baseline".to_owned();
    let malloc = "malloc /lib/x86_64-linux-gnu/libc.so.6:null:null@null:null native/Other";
    let gc = "(garbage collector) :null:null@null:null garbage collector/Other".to_owned();
    let none = "(no frames) :null:null@null:null unknown/Other".to_owned();
    let idle = "(idle) :null:null@null:null waiting/Other".to_owned();
    let expected: [(Vec<String>, u64, u64); 10] = [
        (vec![main.clone(), work.clone()], 1, 0),
        (vec![main.clone(), work.clone()], 1, 1_001_001),
        (vec![main.clone(), work.clone()], 1, 1_001_001),
        (vec![main.clone(), work, malloc.to_owned()], 1, 1_001_001),
        (vec![main.clone()], 1, 1_001_001),
        (vec![f1.clone()], 1, 1_001_001),
        (vec![f10], 1, 1_001_001),
        (vec![f1, gc], 1, 1_001_001),
        (vec![none], 1, 1_001_001),
        (vec![idle.clone()], 0, 1_001_001),
    ];
    let period = 1.001001;
    let expected = expected.into_iter().zip(0..);
    let expected: Vec<_> = expected
        .map(|((stack, weight, cpu), at)| {
            let time = f64::from(at) * period;
            ((time * 1e6).round() / 1e6, stack, weight, cpu)
        })
        .collect();
    assert_eq!(rows(&file, 0), expected);
    let elsewhere = "work /srv/app.js:3:1@7:3 own code/interpreted".to_owned();
    assert_eq!(
        rows(&file, 1),
        [
            (0.0, vec![idle.clone()], 0, 0),
            (3.0, vec![main, elsewhere], 1, 0),
            (4.001001, vec![idle], 0, 1_001_001),
        ]
    );
    let threads = list(&file["threads"]);
    assert_eq!(threads.len(), 2);
    assert_eq!(threads[1]["name"], "node");
    assert_eq!(threads[1]["tid"], 32650);
    assert_eq!(threads[1]["pid"], "32642");
    assert_eq!(threads[1]["isMainThread"], false);
    assert_eq!(threads[0]["isMainThread"], true);
    assert_eq!(threads[0]["processName"], "node /srv/app.js (pid 32642)");
}

#[test]
fn waits_weigh_but_use_no_cpu() {
    let (mut profile, main) = empty();
    let frame = profile.intern_frame(Frame::new(Kind::Pseudo, "(blocked in read)"));
    let stack = profile.intern_stack([frame]);
    for (time, mode, count) in [(0, Mode::Waiting, 500), (500_500, Mode::Native, 1)] {
        let sample = Sample::new(time, main, stack, mode);
        profile.add_sample(Sample { count, ..sample });
    }
    let file = read(&profile);
    let rows: Vec<(u64, u64)> = rows(&file, 0).into_iter().map(|it| (it.2, it.3)).collect();
    assert_eq!(rows, [(500, 0), (1, 0), (0, 1_001_001)]);
}

#[test]
fn categories_are_origins_and_dependencies_are_told_apart() {
    let (mut profile, main) = empty();
    let package = std::sync::Arc::new(Package {
        name: "@a/b".into(),
        version: Some("1.2.3".into()),
        is_dependency: true,
    });
    let frames = [
        Frame {
            package: Some(package),
            ..js("f", 1, Tier::Optimized)
        },
        Frame {
            file: Some("node:fs".into()),
            ..js("readFileSync", 1, Tier::Maglev)
        },
    ];
    add(&mut profile, main, &frames, 1);
    let file = read(&profile);
    assert_eq!(
        rows(&file, 0)[0].1,
        [
            "f /srv/app.js:1:1@2:5 dependencies/@a/b@1.2.3",
            "readFileSync node:fs:1:1@2:5 Node.js/maglev"
        ]
    );
    let shared = &file["shared"];
    assert_eq!(shared["funcTable"]["resource"], json!([0, -1, -1, -1]));
    let name = index(&shared["resourceTable"]["name"][0]);
    assert_eq!(shared["stringArray"][name], "@a/b@1.2.3");
    // The profiler needs a grey category, and a subcategory `Other` in each.
    let categories = list(&file["meta"]["categories"]);
    assert!(categories.iter().any(|it| it["color"] == "grey"));
    assert!(
        categories
            .iter()
            .all(|it| it["subcategories"][0] == "Other")
    );
}

#[test]
fn it_is_whole_whatever_there_is() {
    for profile in [
        bare(),
        empty().0,
        small(),
        several_processes(),
        hostile(),
        deep(10_000),
    ] {
        let file = read(&profile);
        for (name, table) in file["shared"].as_object().unwrap() {
            if name != "stringArray" {
                assert_table(table);
            }
        }
        let threads = list(&file["threads"]);
        assert!(!threads.is_empty());
        let selected = index(&file["meta"]["initialSelectedThreads"][0]);
        assert!(selected < threads.len());
        let mut all = 0;
        for (thread, table) in threads.iter().enumerate() {
            assert_table(&table["markers"]);
            all += rows(&file, thread).iter().map(|row| row.2).sum::<u64>();
        }
        assert_eq!(all, profile.sample_count());
        for text in list(&file["shared"]["stringArray"]) {
            assert!(!text.as_str().unwrap().chars().any(char::is_control));
        }
    }
}

#[test]
fn the_busiest_main_thread_is_shown_first() {
    let (mut profile, main) = empty();
    let other = add_thread(&mut profile, 7, 7, "node");
    let frame = [js("f", 1, Tier::Optimized)];
    add(&mut profile, main, &frame, 1);
    add(&mut profile, other, &frame, 2);
    let file = read(&profile);
    assert_eq!(file["meta"]["initialSelectedThreads"], json!([1]));
}
