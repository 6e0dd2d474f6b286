use std::slice::from_ref;
use std::sync::Arc;

use nodetap_profile::{Kind, Position};

use super::*;
use crate::top::testing::{self, Program};

fn js(name: &str, line: u32) -> Frame {
    testing::js(name, "/srv/app.js", line)
}

fn of_package(name: &str) -> Frame {
    let package = nodetap_profile::Package {
        name: "left-pad".into(),
        version: Some("1.3.0".into()),
        is_dependency: true,
    };
    Frame {
        file: Some("/srv/node_modules/left-pad/index.js".into()),
        function_position: Position::new(1, 1),
        package: Some(Arc::new(package)),
        ..Frame::new(Kind::Js, name)
    }
}

impl Program {
    /// A second in which a thread had these stacks, outermost first, so often.
    fn second(&mut self, thread: usize, stacks: &[(&[Frame], u32)]) {
        self.sample(thread, stacks);
        self.end_second();
    }

    /// Name, place, own and total of each function, as (last second, since start).
    fn functions(&self) -> Vec<(String, [u64; 4])> {
        let usage = self.tally.by_function();
        let named = self.tally.functions().iter().zip(usage);
        let mut rows: Vec<_> = named
            .map(|(function, Usage { own, total })| {
                let name = format!("{} {}", function.name, function.place);
                (name, [own.recent, total.recent, own.all, total.all])
            })
            .collect();
        rows.sort();
        rows
    }
}

#[test]
fn functions_are_counted_once_a_stack() {
    let mut program = Program::new();
    let (main, work) = (js("main", 1), js("work", 3));
    program.second(
        0,
        &[
            (&[main.clone(), work.clone(), work.clone()], 5),
            (from_ref(&main), 2),
        ],
    );
    program.second(1, &[(from_ref(&work), 3), (&[], 1)]);
    assert_eq!(
        program.functions(),
        [
            ("(no frames) ".to_owned(), [1, 1, 1, 1]),
            ("main /srv/app.js:1".to_owned(), [0, 0, 2, 7]),
            ("work /srv/app.js:3".to_owned(), [3, 3, 8, 8]),
        ]
    );
}

#[test]
fn packages_are_counted_once_a_stack() {
    let mut program = Program::new();
    let gc = Frame::new(Kind::Pseudo, "(garbage collector)");
    let (pad, inner) = (of_package("pad"), of_package("inner"));
    program.second(
        0,
        &[
            (&[js("main", 1), pad.clone(), inner.clone()], 4),
            (&[js("main", 1), pad, gc], 2),
        ],
    );
    let packages = program
        .tally
        .packages()
        .iter()
        .zip(program.tally.by_package());
    let mut rows: Vec<_> = packages
        .map(|(package, usage)| (package.name.as_str(), usage.own.all, usage.total.all))
        .collect();
    rows.sort_unstable();
    assert_eq!(
        rows,
        [
            ("garbage collector", 2, 2),
            ("left-pad@1.3.0", 4, 6),
            ("own code", 0, 6)
        ]
    );
}

#[test]
fn threads_know_their_hottest_function() {
    let mut program = Program::new();
    let (main, work) = (js("main", 1), js("work", 3));
    program.second(
        0,
        &[(&[main.clone(), work.clone()], 90), (from_ref(&main), 9)],
    );
    program.second(0, &[(&[main.clone(), work], 1), (&[main], 9)]);
    let threads = program.tally.by_thread();
    let hottest = |at: usize| {
        threads[at]
            .2
            .map(|it| &*program.tally.functions()[it as usize].name)
    };
    assert_eq!(threads[1].0.name, "V8\\nWorker");
    assert_eq!(
        threads[0].1,
        Count {
            recent: 10,
            all: 109
        }
    );
    assert_eq!(hottest(0), Some("main"));
    assert_eq!((threads[1].1, hottest(1)), (Count::default(), None));
}

#[test]
fn the_calls_of_all_threads_are_one_tree() {
    let mut program = Program::new();
    let (main, work, idle) = (js("main", 1), js("work", 3), js("idle", 9));
    program.second(
        0,
        &[(&[main.clone(), work.clone()], 5), (from_ref(&main), 2)],
    );
    program.second(1, &[(&[main.clone(), work], 1), (&[main, idle], 7)]);
    let calls = program.tally.calls();
    let root = calls.root();
    assert_eq!(root.total, Count { recent: 8, all: 15 });
    let [main] = &calls.of(&root)[..] else {
        panic!("one root");
    };
    assert_eq!((main.own.all, main.total.all), (2, 15));
    let below: Vec<_> = calls
        .of(main)
        .into_iter()
        .map(|call| {
            let function = &program.tally.functions()[call.function.unwrap() as usize];
            (function.name.as_str(), call.total.recent, call.total.all)
        })
        .collect();
    assert_eq!(below, [("idle", 7, 7), ("work", 1, 6)]);
}

#[test]
fn memory_has_a_limit_and_no_sample_is_lost_by_it() {
    let mut program = Program::new();
    program.tally.max_nodes = Some(100);
    let main = js("main", 1);
    for line in 10..1000 {
        let stack = [main.clone(), js("once", line), js("leaf", line)];
        program.second(0, &[(&stack, 1), (&[main.clone(), js("often", 2)], 50)]);
        assert!(program.tally.nodes.len() <= 104);
        assert!(program.tally.functions().len() <= 104);
    }
    assert!(program.tally.generation() > 0);
    let calls = program.tally.calls();
    assert_eq!(
        calls.root().total,
        Count {
            recent: 51,
            all: 990 * 51
        }
    );
    let functions = program.functions();
    let often = functions
        .iter()
        .find(|it| it.0.starts_with("often"))
        .unwrap();
    assert_eq!(often.1, [50, 50, 990 * 50, 990 * 50]);
    let rare = functions.iter().find(|it| it.0.starts_with(RARE)).unwrap();
    assert!(rare.1[2] > 900, "{rare:?}");
    assert_eq!(program.tally.by_thread()[0].1.all, 990 * 51);
}
