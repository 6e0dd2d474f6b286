//! Whose code a frame is.

use std::sync::Arc;

use crate::{Frame, Kind};

/// An npm package.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Package {
    /// Its name, `@scope/name` where it has a scope.
    pub name: Arc<str>,
    /// Its version; absent where its `package.json` says none.
    pub version: Option<Arc<str>>,
    /// Whether it was installed, and is not of the program that was recorded itself.
    pub is_dependency: bool,
}

impl Package {
    /// `name@version`, or the name alone.
    pub fn label(&self) -> String {
        match &self.version {
            Some(version) => format!("{}@{version}", self.name),
            None => self.name.to_string(),
        }
    }
}

/// Whose code a frame is, or what went on there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Origin {
    /// The program's own JavaScript, or WebAssembly of its own.
    Own,
    /// JavaScript or WebAssembly of a package that was installed.
    Dependency,
    /// Node's own JavaScript.
    Node,
    /// V8: its builtins, compilers, regular expressions.
    V8,
    /// V8's garbage collector.
    GarbageCollector,
    /// C and C++.
    Native,
    /// The kernel.
    Kernel,
    /// Nothing ran: the thread waited.
    Waiting,
    /// It is not known.
    Unknown,
}

impl Origin {
    /// All of them, in their order.
    pub const ALL: [Origin; 9] = [
        Origin::Own,
        Origin::Dependency,
        Origin::Node,
        Origin::V8,
        Origin::GarbageCollector,
        Origin::Native,
        Origin::Kernel,
        Origin::Waiting,
        Origin::Unknown,
    ];

    /// What people read.
    pub fn name(self) -> &'static str {
        match self {
            Origin::Own => "own code",
            Origin::Dependency => "dependencies",
            Origin::Node => "Node.js",
            Origin::V8 => "V8",
            Origin::GarbageCollector => "garbage collector",
            Origin::Native => "native",
            Origin::Kernel => "kernel",
            Origin::Waiting => "waiting",
            Origin::Unknown => "unknown",
        }
    }

    /// That of a frame.
    pub fn of(frame: &Frame) -> Origin {
        match frame.kind {
            Kind::Js | Kind::Wasm => of_script(frame),
            Kind::Builtin => Origin::V8,
            Kind::Native => Origin::Native,
            Kind::Kernel => Origin::Kernel,
            Kind::Pseudo => of_pseudo(&frame.function),
        }
    }
}

fn of_script(frame: &Frame) -> Origin {
    match (&frame.package, frame.file.as_deref()) {
        (Some(package), _) if package.is_dependency => Origin::Dependency,
        (None, Some(file)) if is_of_node(file) => Origin::Node,
        (None, None) if frame.function.as_ref() == "(unknown)" => Origin::Unknown,
        _ => Origin::Own,
    }
}

/// By what pseudo frames are called: a statement stands in parentheses.
fn of_pseudo(statement: &str) -> Origin {
    const COLLECTOR: [&str; 11] = [
        "(garbage collector",
        "(scavenge",
        "(mark-compact",
        "(minor mark",
        "(incremental marking",
        "(concurrent marking",
        "(parallel ",
        "(concurrent sweeping",
        "(sweeping",
        "(weak callbacks",
        "(freeing memory",
    ];
    const WAITING: [&str; 3] = ["(idle)", "(blocked", "(waiting"];
    const V8: [&str; 16] = [
        "(compiler",
        "(parser",
        "(Ignition",
        "(Sparkplug",
        "(Maglev",
        "(TurboFan",
        "(Crankshaft",
        "(full-codegen",
        "(regexp",
        "(JSON",
        "(inline cache",
        "(deoptimizer",
        "(v8 ",
        "(miss",
        "(megamorphic",
        "(wasm compiler",
    ];
    let begins = |with: &[&str]| with.iter().any(|it| statement.starts_with(it));
    if begins(&COLLECTOR) || statement.starts_with("(caused by") {
        Origin::GarbageCollector
    } else if begins(&WAITING) {
        Origin::Waiting
    } else if begins(&V8) {
        Origin::V8
    } else if statement.starts_with("(unknown") {
        Origin::Unknown
    } else {
        Origin::Native
    }
}

/// Whether a script is Node's own. Since Node 16 all of them begin with `node:`; before
/// that they have the names of files in Node's `lib`, without a folder before them.
fn is_of_node(file: &str) -> bool {
    const IN_LIB: [&str; 66] = [
        "_debug_agent",
        "_debugger",
        "_http_agent",
        "_http_client",
        "_http_common",
        "_http_incoming",
        "_http_outgoing",
        "_http_server",
        "_linklist",
        "_stream_duplex",
        "_stream_passthrough",
        "_stream_readable",
        "_stream_transform",
        "_stream_wrap",
        "_stream_writable",
        "_tls_common",
        "_tls_legacy",
        "_tls_wrap",
        "assert",
        "async_hooks",
        "bootstrap_node",
        "buffer",
        "child_process",
        "cluster",
        "console",
        "constants",
        "crypto",
        "dgram",
        "dns",
        "domain",
        "events",
        "freelist",
        "fs",
        "http",
        "http2",
        "https",
        "inspector",
        "module",
        "net",
        "node",
        "os",
        "path",
        "perf_hooks",
        "policy",
        "process",
        "punycode",
        "querystring",
        "readline",
        "repl",
        "smalloc",
        "stream",
        "string_decoder",
        "sys",
        "timers",
        "tls",
        "trace_events",
        "tracing",
        "tty",
        "url",
        "util",
        "v8",
        "vm",
        "wasi",
        "worker_threads",
        "zlib",
        "diagnostics_channel",
    ];
    if file.starts_with("node:") || file.starts_with("internal/") {
        return true;
    }
    let stem = file.strip_suffix(".js").unwrap_or_default();
    IN_LIB.contains(&stem) || stem.starts_with("fs/") || stem.starts_with("dns/")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn script(file: &str, package: Option<(&str, bool)>) -> Origin {
        Origin::of(&Frame {
            file: Some(file.into()),
            package: package.map(|(name, is_dependency)| {
                Arc::new(Package {
                    name: name.into(),
                    version: None,
                    is_dependency,
                })
            }),
            ..Frame::new(Kind::Js, "f")
        })
    }

    #[test]
    fn a_script_is_of_its_package() {
        assert_eq!(
            script("/a/node_modules/x/y.js", Some(("x", true))),
            Origin::Dependency
        );
        assert_eq!(script("/a/y.js", Some(("app", false))), Origin::Own);
        assert_eq!(script("/a/y.js", None), Origin::Own);
        assert_eq!(script("evalmachine.<anonymous>", None), Origin::Own);
    }

    #[test]
    fn node_names_its_own_scripts() {
        for file in [
            "node:fs",
            "node:internal/timers",
            "internal/timers.js",
            "module.js",
            "fs.js",
        ] {
            assert_eq!(script(file, None), Origin::Node, "{file}");
        }
        for file in ["/srv/fs.js", "app.js", "node_modules/x.js", ".js", ""] {
            assert_eq!(script(file, None), Origin::Own, "{file}");
        }
    }

    #[test]
    fn a_pseudo_frame_says_what_went_on() {
        for (statement, origin) in [
            ("(garbage collector)", Origin::GarbageCollector),
            ("(scavenge)", Origin::GarbageCollector),
            ("(mark-compact)", Origin::GarbageCollector),
            ("(TurboFan)", Origin::V8),
            ("(v8 worker)", Origin::V8),
            ("(program)", Origin::Native),
            ("(libuv worker)", Origin::Native),
            ("(blocked in read)", Origin::Waiting),
            ("(idle)", Origin::Waiting),
            ("(unknown)", Origin::Unknown),
        ] {
            assert_eq!(
                Origin::of(&Frame::new(Kind::Pseudo, statement)),
                origin,
                "{statement}"
            );
        }
        assert_eq!(Origin::of(&Frame::new(Kind::Builtin, "f")), Origin::V8);
    }
}
