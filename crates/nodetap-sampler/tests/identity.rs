//! What identifies JavaScript functions, on the official Node.js binaries.

mod support;

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use nodetap_sampler::ebpf::Options;
use nodetap_sampler::raw::RawSample;
use nodetap_sampler::target::Target as V8Target;
use support::{Target, node, one_at_a_time, record};

/// Each line's last version, and the options that keep its optimizers from
/// inlining one function into another.
const NODES: [(&str, &[&str]); 5] = [
    ("18.20.8", &["--no-opt"]),
    ("20.20.2", &["--no-opt"]),
    ("22.23.3", &["--no-opt", "--no-maglev"]),
    ("24.21.0", &["--no-opt", "--no-maglev"]),
    ("26.10.0", &["--no-opt", "--no-maglev"]),
];

#[test]
fn functions_have_their_script_and_literal_ids() {
    let _alone = one_at_a_time();
    for (version, options) in NODES {
        for options in [options, &[], &["--always-sparkplug"]] {
            identified(version, options);
        }
    }
}

fn identified(version: &str, options: &[&str]) {
    let program = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/programs/identity.js");
    let mut command = Command::new(node(version));
    let (target, id) = Target::start(command.args(options).arg(program));
    let id: u32 = id.parse().expect("a script id");
    let config = V8Target::attach(target.pid())
        .expect("a known V8")
        .config(512);
    let recording = record(
        &Options::with_rate(999),
        &target,
        config,
        Duration::from_secs(1),
    );

    let may_inline = !options.contains(&"--no-opt");
    let right = |sample: &&RawSample| {
        let own = sample.frames.iter().filter(|frame| frame.script_id == id);
        let literals: Vec<u32> = own.clone().map(|frame| frame.literal_id).collect();
        let mut shareds: Vec<u64> = own.clone().map(|frame| frame.shared).collect();
        shareds.sort_unstable();
        shareds.dedup();
        // Ids count from the script's own code, 0, in the order of the source.
        let whole = if may_inline {
            literals.is_sorted_by(|a, b| a < b) && literals.last() == Some(&10)
        } else {
            literals == [1, 2, 3, 4, 5, 6, 7, 8, 9, 10]
        };
        let addresses = own
            .clone()
            .flat_map(|frame| [frame.function, frame.context, frame.shared, frame.script]);
        whole
            && sample.tid == sample.pid
            && shareds.len() == literals.len()
            && addresses.into_iter().all(|address| address & 3 == 1)
            && own
                .clone()
                .all(|frame| Some(frame.script) == own.clone().next().map(|it| it.script))
    };
    let count = recording.samples.iter().filter(right).count() as f64;
    assert!(
        count >= recording.enough(),
        "Node {version} {options:?}: {count} right of {} expected",
        recording.expected
    );
    assert_eq!(recording.lost, 0);
}
