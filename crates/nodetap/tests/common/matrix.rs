//! The Node.js versions that are tested on, and tests that run on each of them.
//!
//! `scripts/nodes.sha256` lists the versions of the matrix, the last of each line; a
//! new release joins it by one line. `NODETAP_TEST_NODES=all` (`make test-all`) takes
//! those of `scripts/nodes-all.sha256` too, the first of each line and one of each V8 between,
//! and runs every test on every version.

use std::process::ExitCode;
use std::sync::Arc;

use libtest_mimic::{Arguments, Trial};

/// A Node.js release.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Node {
    /// `24.21.0`
    pub version: String,
}

impl Node {
    /// The first number of its version.
    pub fn major(&self) -> u32 {
        self.number(0)
    }

    /// Whether it is this release, or came after it in its line or in another.
    pub fn is_since(&self, major: u32, minor: u32) -> bool {
        (self.major(), self.number(1)) >= (major, minor)
    }

    fn number(&self, index: usize) -> u32 {
        let number = self.version.split('.').nth(index);
        number.and_then(|it| it.parse().ok()).expect("a version")
    }

    /// Whether most functions have code of full-codegen's: until Node.js 8.3.
    pub fn has_full_codegen(&self) -> bool {
        self.major() < 8
            || ["8.0.", "8.1.", "8.2."]
                .into_iter()
                .any(|line| self.is_of(line))
    }

    /// Whether it is one of `line`: `10.0.`.
    pub fn is_of(&self, line: &str) -> bool {
        self.version.starts_with(line)
    }
}

/// A test that runs on every version since some major one, or on those before another.
pub struct Test {
    name: String,
    since: u32,
    before: u32,
    filter: Arc<dyn Fn(&Node) -> bool + Send + Sync>,
    when: When,
    check: Arc<dyn Fn(&Node) + Send + Sync>,
}

impl Test {
    /// The test called `name`, on every version from `since` on.
    pub fn new(name: &str, since: u32, check: impl Fn(&Node) + Send + Sync + 'static) -> Test {
        Test {
            name: name.to_owned(),
            since,
            before: u32::MAX,
            filter: Arc::new(|_| true),
            when: When::Always,
            check: Arc::new(check),
        }
    }

    /// What it is called, without the version.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The same, on versions before `major` only.
    pub fn before(self, major: u32) -> Test {
        Test {
            before: major,
            ..self
        }
    }

    /// The same, only on versions that pass `filter`.
    pub fn only_on(self, filter: impl Fn(&Node) -> bool + Send + Sync + 'static) -> Test {
        Test {
            filter: Arc::new(filter),
            ..self
        }
    }

    /// The same, with `make test` on few versions only if it is called so.
    pub fn seldom_if(self, is_called_so: impl Fn(&str) -> bool) -> Test {
        Test {
            when: match is_called_so(&self.name) {
                true => When::Seldom,
                false => self.when,
            },
            ..self
        }
    }

    /// The same, with `make test-all` only.
    pub fn long(self) -> Test {
        Test {
            when: When::Long,
            ..self
        }
    }
}

/// When a test runs on a version.
#[derive(Clone, Copy, PartialEq)]
enum When {
    Always,
    /// With `make test` on few versions only.
    Seldom,
    /// With `make test-all` only.
    Long,
}

/// Where tests run that do not run on every version each time: on one or two of each
/// generation of V8's compilers.
const FEW: [&str; 4] = ["0.10.", "6.", "20.", "24."];

/// Whether this is `make test-all`.
pub fn is_for_all_nodes() -> bool {
    std::env::var("NODETAP_TEST_NODES").is_ok_and(|which| which == "all")
}

/// The versions to test on.
pub fn nodes() -> Vec<Node> {
    let mut lists = vec![include_str!("../../../../scripts/nodes.sha256")];
    if is_for_all_nodes() {
        lists.push(include_str!("../../../../scripts/nodes-all.sha256"));
    }
    let version = |line: &str| {
        let path = line.split_whitespace().nth(1)?;
        let version = path.strip_suffix("/bin/node")?.to_owned();
        Some(Node { version })
    };
    lists
        .iter()
        .flat_map(|list| list.lines())
        .filter(|line| !line.is_empty())
        .map(|line| version(line).unwrap_or_else(|| panic!("{line:?} names no version")))
        .collect()
}

/// The `main` of a test file: runs the tests on all the versions. They are called
/// `node_VERSION::NAME`.
pub fn main(tests: impl IntoIterator<Item = Test>) -> ExitCode {
    let arguments = Arguments::from_args();
    let nodes = nodes();
    let mut trials = Vec::new();
    for Test {
        name,
        since,
        before,
        filter,
        when,
        check,
    } in tests
    {
        let runs_on = |node: &&Node| {
            let few = || FEW.iter().any(|few| node.version.starts_with(few));
            (since..before).contains(&node.major())
                && filter(node)
                && (is_for_all_nodes() || when == When::Always || when == When::Seldom && few())
        };
        for node in nodes.iter().filter(runs_on) {
            let (node, check) = (node.clone(), check.clone());
            let name = format!("node_{}::{name}", node.version);
            trials.push(Trial::test(name, move || {
                check(&node);
                Ok(())
            }));
        }
    }
    trials.sort_by(|a, b| a.name().cmp(b.name()));
    libtest_mimic::run(&arguments, trials).exit_code()
}
