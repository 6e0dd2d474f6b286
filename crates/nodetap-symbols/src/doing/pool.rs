//! What a thread of libuv's pool was doing, told from its functions.

use std::sync::Arc;

use nodetap_profile::{Frame, Kind};

/// How the functions begin that say it, and what they say. Those of libuv are in
/// `src/unix/fs.c`, `getaddrinfo.c` and `getnameinfo.c`, those of Node.js in
/// `src/crypto/` and `src/node_zlib.cc` (`src/node_crypto.cc` before Node.js 15).
const WORK: [(&str, &str); 14] = [
    ("getaddrinfo_thread_proc", "(dns)"),
    ("node::(anonymous namespace)::Brotli", "(zlib)"),
    ("node::(anonymous namespace)::CompressionStream<", "(zlib)"),
    ("node::(anonymous namespace)::ZCtx::Process", "(zlib)"),
    ("node::(anonymous namespace)::ZlibContext::", "(zlib)"),
    ("node::(anonymous namespace)::ZlibStream::", "(zlib)"),
    ("node::(anonymous namespace)::Zstd", "(zlib)"),
    ("node::ZCtx::Process", "(zlib)"),
    ("node::crypto::", "(crypto)"),
    ("node::zlib::", "(zlib)"),
    ("uv__fs_work", "(file system)"),
    ("uv__getaddrinfo_work", "(dns)"),
    ("uv__getnameinfo_work", "(dns)"),
    ("uv__random_work", "(crypto)"),
];

/// The work that `frames`, outermost first, belong to: Node.js's own by its kind,
/// an addon's by the addon's file.
pub fn work<'a>(frames: impl IntoIterator<Item = &'a Frame>) -> Option<Arc<str>> {
    let mut native = frames.into_iter().filter(|it| it.kind == Kind::Native);
    native.find_map(|frame| {
        if let Some(addon) = frame.file.as_deref().and_then(addon) {
            return Some(format!("({addon})").into());
        }
        let says = WORK
            .iter()
            .find(|(begin, _)| frame.function.starts_with(begin));
        says.map(|&(_, label)| label.into())
    })
}

/// The file's name, if `module` is an addon's.
fn addon(module: &str) -> Option<&str> {
    let name = module.strip_suffix(" (deleted)").unwrap_or(module);
    let name = name.rsplit('/').next().unwrap_or(name);
    name.ends_with(".node").then_some(name)
}
