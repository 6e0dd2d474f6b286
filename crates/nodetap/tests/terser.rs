//! A real program, terser minifying a large file: everything has a name.

mod common;

use std::collections::BTreeMap;

use common::matrix::{self, Node, Test};
use common::recording::{Frame, Recording, record};
use common::target::Target;

/// How often each frame that `chosen` picks was seen, over all samples.
fn occurrences(recording: &Recording, chosen: impl Fn(&Frame) -> bool) -> BTreeMap<&Frame, u64> {
    let mut seen = BTreeMap::new();
    for &(_, _, stack) in &recording.samples {
        let frames = recording.stacks[stack].iter();
        for frame in frames.map(|&frame| &recording.frames[frame]) {
            if chosen(frame) {
                *seen.entry(frame).or_insert(0) += 1;
            }
        }
    }
    seen
}

fn check(node: &Node) {
    common::measure(|| check_once(node));
}

fn check_once(node: &Node) {
    let _alone = common::one_at_a_time();
    let modules = common::programs();
    let arguments = [modules.to_str().expect("UTF-8")];
    let target = Target::start(&node.version, &[], "minify.js", &arguments).wait_until_ready();
    let recording = record(&target, 6.0, &["--native"]);

    assert_eq!(recording.lost, 0, "{}", recording.notes);
    recording.assert_sampled(&target);
    // The recording is of what it is meant to be of.
    let of_terser = recording.count(target.pid(), |stack| {
        let mut files = stack.iter().filter_map(|frame| frame.file.as_deref());
        files.any(|file| file.contains("/terser/"))
    });
    let all = recording.samples_of(target.pid());
    assert!(of_terser * 10 > all * 9, "{of_terser} of {all} in terser");

    let unknown = occurrences(&recording, |frame| {
        frame.is_js() && (!frame.has_name() || frame.file.is_none())
    });
    let js = occurrences(&recording, Frame::is_js);
    let (all, without) = (js.values().sum::<u64>(), unknown.values().sum::<u64>());
    // Code may be dropped before what a tick saw of it has been read: that is not told.
    assert!(
        without * 10_000 < all,
        "{without} of {all} JavaScript functions are not known:\n{unknown:#?}"
    );
    let placeless = occurrences(&recording, |frame| frame.is_js() && frame.line.is_none());
    let (all, without) = (js.values().sum::<u64>(), placeless.values().sum::<u64>());
    // Node.js 10.0 keeps positions of calls only of what is optimized.
    let silent = if node.is_of("10.0.") { 3 } else { 1 };
    assert!(
        without * 100 < all * silent,
        "{without} of {all} JavaScript frames have no line"
    );

    let others = occurrences(&recording, |frame| !frame.is_js());
    let nameless = occurrences(&recording, |frame| !frame.is_js() && !frame.has_name());
    let (all, without) = (others.values().sum::<u64>(), nameless.values().sum::<u64>());
    assert!(
        without * 100 < all,
        "{without} of {all} other frames have no name:\n{nameless:#?}"
    );
}

fn main() -> std::process::ExitCode {
    matrix::main([
        Test::new("terser", 18, check),
        // Node.js 8.0 does not know all of the language that it is written in.
        Test::new("terser", 8, check)
            .before(18)
            .only_on(|node| !node.has_full_codegen())
            .seldom_if(|_| true),
    ])
}
