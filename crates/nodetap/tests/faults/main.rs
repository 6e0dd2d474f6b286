//! Faults: nodetap is killed, its target is killed, and the target does meanwhile what
//! processes do: it is stopped and goes on, gets signals, makes threads and processes,
//! runs another program.
//!
//! Each round is cut at a moment of chance. `make test` has few rounds, `make test-all`
//! 200 of each kind. `NODETAP_TEST_SEED` has the same moments again.

#[path = "../common/mod.rs"]
mod common;
mod ended;
mod killed;
mod moments;
mod storms;
mod worker;

use common::matrix::{self, Node, Test};

fn main() -> std::process::ExitCode {
    let mut tests = Vec::new();
    let mut add = |name: String, check: fn(&Node, &str), sampler: &'static str| {
        let test = Test::new(&name, 0, move |node| check(node, sampler));
        tests.push(test.only_on(|node| {
            moments::has_most(node)
                || matrix::is_for_all_nodes() && [0, 6, 12, 18, 26].contains(&node.major())
        }));
    };
    for sampler in ["ebpf", "ptrace"] {
        let name = |what: &str| format!("{what}_{sampler}");
        add(name("record_is_killed"), killed::record, sampler);
        add(name("record_command_is_killed"), killed::launch, sampler);
        add(name("the_target_is_killed"), ended::record, sampler);
        add(name("the_command_is_killed"), ended::launch, sampler);
        add(name("job_control"), storms::job_control, sampler);
        add(name("storms"), storms::storms, sampler);
        add(name("execs"), storms::execs, sampler);
    }
    // The other one stops nothing: the signal does to it what it does to any program.
    add("ctrl_z".to_owned(), storms::ctrl_z, "ptrace");
    add("dump_is_killed".to_owned(), killed::dump, "");
    add("the_target_of_dump_is_killed".to_owned(), ended::dump, "");
    matrix::main(tests)
}
