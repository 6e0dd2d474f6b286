//! Whether a walk reached the thread's first frame.
//!
//! A frame-pointer walk ends somewhere; that alone says nothing. It was complete
//! if it ended where threads begin. The function in the C library from which
//! threads are started is known by its name in few installations, since most have
//! a stripped C library. But it calls the thread's first function from one place:
//! where that returns to is learnt from every stack whose first function is known
//! by name, and holds for all threads, whatever their first function is.
//!
//! So an addon's thread, in a process with a stripped C library, counts as
//! incomplete until a thread of Node's own was seen.

use nodetap_sampler::raw::FrameRecord;
use rustc_hash::FxHashSet;

use crate::native::{NativeFrame, NativeNames, Pc};
use crate::roles::{Role, ThreadRole};

/// How many of the outermost frames are looked at: the C library's own (two where
/// it has frame pointers) and the first ones of the program.
const OUTERMOST: usize = 4;

/// Where the threads of one process begin.
#[derive(Clone, Debug, Default)]
pub struct Starts {
    /// Return addresses into the code that starts a thread or the program.
    known: FxHashSet<u64>,
}

impl Starts {
    /// Nothing learnt yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Whether the walk that gave `frames` (innermost first) of process `pid`
    /// reached the thread's first frame. Learns of `thread`'s role on the way.
    pub fn reached(
        &mut self,
        names: &mut NativeNames,
        pid: u32,
        frames: &[FrameRecord],
        thread: &mut ThreadRole,
    ) -> bool {
        if !thread.wants_first_function()
            && frames
                .iter()
                .rev()
                .take(OUTERMOST)
                .any(|frame| self.known.contains(&frame.pc))
        {
            return true;
        }
        let outermost: Vec<Outer> = frames
            .iter()
            .enumerate()
            .rev()
            .take(OUTERMOST)
            .map(|(index, frame)| Outer {
                pc: frame.pc,
                is_leaf: index == 0,
                code: match index {
                    0 => names.name(pid, Pc::Own(frame.pc)),
                    _ => names.name(pid, Pc::Return(frame.pc)),
                },
            })
            .collect();
        self.judge(&outermost, thread)
    }

    /// `outermost`: frames, outermost first.
    fn judge(&mut self, outermost: &[Outer], thread: &mut ThreadRole) -> bool {
        let mut complete = false;
        for (index, outer) in outermost.iter().enumerate() {
            complete |= self.known.contains(&outer.pc);
            let Some(code) = &outer.code else {
                continue;
            };
            let Some(function) = &code.function else {
                continue;
            };
            complete |= starts_threads(function, outer.is_leaf);
            thread.learn(function, &code.module);
            if Role::of_first_function(function, &code.module).is_some() {
                complete = true;
                // What called it is where threads begin, if it isn't the program
                // itself (`main` calls `node::Start`).
                if let Some(Outer {
                    pc,
                    code: Some(caller),
                    ..
                }) = index.checked_sub(1).map(|index| &outermost[index])
                    && caller.module != code.module
                    && is_c_library(&caller.module)
                {
                    self.known.insert(*pc);
                }
            }
        }
        complete
    }
}

/// One of the outermost frames.
struct Outer {
    pc: u64,
    is_leaf: bool,
    code: Option<NativeFrame>,
}

/// The functions of C libraries that threads and programs begin in, where they
/// have names.
fn starts_threads(function: &str, is_leaf: bool) -> bool {
    match function {
        "start_thread"
        | "_start"
        | "__libc_start_main"
        | "__libc_start_call_main"
        | "libc_start_main_stage2" => true,
        // On top, they start another thread instead of this one.
        "clone" | "__clone" | "clone3" | "__clone3" => !is_leaf,
        _ => false,
    }
}

/// Whether a module is the C library, by its path (glibc's, before 2.34 in two
/// parts, or musl's).
pub(crate) fn is_c_library(module: &str) -> bool {
    let file = module.rsplit('/').next().unwrap_or(module);
    [
        "libc.so",
        "libc-2.",
        "libpthread.so",
        "libpthread-2.",
        "ld-musl-",
    ]
    .iter()
    .any(|name| file.starts_with(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIBC: &str = "/usr/lib/x86_64-linux-gnu/libc.so.6";
    const NODE: &str = "/usr/bin/node";

    /// A stack, outermost first: pc, function, module.
    fn outermost(frames: &[(u64, Option<&str>, &str)]) -> Vec<Outer> {
        frames
            .iter()
            .map(|&(pc, function, module)| Outer {
                pc,
                is_leaf: false,
                code: (!module.is_empty()).then(|| NativeFrame::new(function, module)),
            })
            .collect()
    }

    fn thread() -> ThreadRole {
        ThreadRole::new(false, "node", "node")
    }

    #[test]
    fn a_known_first_function_teaches_where_threads_begin() {
        let mut starts = Starts::new();
        let mut addon = thread();
        let of_addon = outermost(&[(0x711f5, None, LIBC), (0x9000, Some("run"), "/a.node")]);
        assert!(!starts.judge(&of_addon, &mut addon), "not known yet");

        let mut worker = thread();
        let of_worker = outermost(&[
            (0x711f5, None, LIBC),
            (0x1000, Some("worker"), NODE),
            (0x2000, Some("uv_cond_wait"), NODE),
        ]);
        assert!(starts.judge(&of_worker, &mut worker));
        assert_eq!(worker.role(), Some(Role::LibuvWorker));

        assert!(starts.judge(&of_addon, &mut addon));
        assert_eq!(addon.role(), None);
        let mut elsewhere = of_addon;
        elsewhere[0].pc = 0x711f9;
        assert!(!starts.judge(&elsewhere, &mut addon));
    }

    #[test]
    fn a_named_c_library_needs_no_teaching() {
        let mut starts = Starts::new();
        for start in [
            &[(1, Some("start_thread"), LIBC), (2, Some("f"), "/a.node")][..],
            &[
                (3, Some("clone3"), LIBC),
                (1, Some("start_thread"), LIBC),
                (2, None, "/a.node"),
            ],
            &[(3, Some("__libc_start_call_main"), LIBC)],
        ] {
            assert!(starts.judge(&outermost(start), &mut thread()));
        }
    }

    #[test]
    fn a_walk_that_ended_midway_is_not_complete() {
        let mut starts = Starts::new();
        for end in [
            // OpenSSL uses the frame pointer for something else.
            &[(1, Some("sha512_block_data_order_avx2"), NODE)][..],
            &[(1, Some("malloc"), LIBC)],
            &[(1, None, LIBC)],
            // Such a walk goes on where it should not, at times.
            &[(1, Some("__vfprintf_internal"), LIBC), (2, None, "")],
            &[(1, Some("node::worker::Worker::Run"), NODE)],
            &[(1, None, "")],
            &[],
        ] {
            assert!(!starts.judge(&outermost(end), &mut thread()), "{:?}", end);
        }
        // This thread is about to start another.
        let mut top = outermost(&[(1, Some("clone3"), LIBC)]);
        top[0].is_leaf = true;
        assert!(!starts.judge(&top, &mut thread()));
    }

    #[test]
    fn the_programs_own_calls_are_no_beginnings() {
        let mut starts = Starts::new();
        let stack = outermost(&[
            (0x100, None, LIBC),
            (0x200, Some("main"), "/usr/bin/electron"),
            (0x300, Some("node::Start"), "/usr/lib/libnode.so.108"),
        ]);
        assert!(starts.judge(&stack, &mut thread()));
        assert_eq!(starts.known.iter().copied().collect::<Vec<_>>(), [0x100]);
    }

    #[test]
    fn c_libraries_are_known_by_their_files() {
        for module in [
            LIBC,
            "/lib/libpthread.so.0",
            "/lib/x86_64-linux-gnu/libc-2.31.so",
            "/lib/ld-musl-x86_64.so.1",
        ] {
            assert!(is_c_library(module), "{module}");
        }
        for module in [
            NODE,
            "/usr/lib/libcrypto.so.3",
            "/usr/lib/libcap.so.2",
            "[vdso]",
        ] {
            assert!(!is_c_library(module), "{module}");
        }
    }
}
