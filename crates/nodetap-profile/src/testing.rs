//! Profiles for the tests of several modules.

use std::time::Duration;

use crate::{
    Frame, FrameId, Kind, Metadata, Mode, Position, Process, Profile, Sample, Thread, ThreadId,
    Tier,
};

/// A profile of no samples, with metadata that never changes.
pub(crate) fn bare() -> Profile {
    Profile::new(Metadata {
        start: "2024-05-06T07:08:09.25Z".parse().unwrap(),
        duration: Duration::from_micros(5_000_499),
        lost: 1,
        truncated: 2,
        incomplete: 3,
        ..Metadata::new("ebpf", 999)
    })
}

/// [`bare`] with one process of one thread.
pub(crate) fn empty() -> (Profile, ThreadId) {
    let mut profile = bare();
    profile.add_process(Process {
        pid: 32642,
        command: vec!["node".into(), "/srv/app.js".into()],
        node: Some("v24.21.0".into()),
        v8: Some("13.6.233.17-node.53".into()),
    });
    let thread = add_thread(&mut profile, 32642, 32642, "node");
    (profile, thread)
}

pub(crate) fn add_thread(profile: &mut Profile, pid: u32, tid: u32, name: &str) -> ThreadId {
    profile.add_thread(Thread {
        pid,
        tid,
        name: name.into(),
    })
}

/// A JavaScript frame of `/srv/app.js` whose function starts at `line`, column 1.
pub(crate) fn js(function: &str, line: u32, tier: Tier) -> Frame {
    Frame {
        file: Some("/srv/app.js".into()),
        position: Position::new(line + 1, 5),
        function_position: Position::new(line, 1),
        tier: Some(tier),
        ..Frame::new(Kind::Js, function)
    }
}

/// Adds `count` samples of a stack of frames, outermost first, one a millisecond.
pub(crate) fn add(profile: &mut Profile, thread: ThreadId, frames: &[Frame], count: u64) {
    let ids: Vec<FrameId> = frames
        .iter()
        .map(|frame| profile.intern_frame(frame.clone()))
        .collect();
    let stack = profile.intern_stack(ids);
    for _ in 0..count {
        let time = 1000 * profile.sample_count();
        profile.add_sample(Sample::new(time, thread, stack, Mode::Unknown));
    }
}

/// Ten samples of one process on two threads. `work` was seen at two positions and in two
/// tiers, and `f` on line 1 has a name that starts that of `f` on line 10.
pub(crate) fn small() -> Profile {
    let (mut profile, main) = empty();
    let worker = add_thread(&mut profile, 32642, 32650, "node");
    let outer = js("main", 1, Tier::Interpreted);
    let work = js("work", 3, Tier::Optimized);
    let elsewhere = Frame {
        position: Position::new(7, 3),
        tier: Some(Tier::Interpreted),
        ..work.clone()
    };
    let malloc = Frame {
        file: Some("/lib/x86_64-linux-gnu/libc.so.6".into()),
        ..Frame::new(Kind::Native, "malloc")
    };
    let gc = Frame::new(Kind::Pseudo, "(garbage collector)");
    let f1 = js("f", 1, Tier::Baseline);
    let f10 = js("f", 10, Tier::Baseline);
    add(&mut profile, main, &[outer.clone(), work.clone()], 3);
    add(&mut profile, worker, &[outer.clone(), elsewhere], 1);
    add(&mut profile, main, &[outer.clone(), work, malloc], 1);
    add(&mut profile, main, &[outer], 1);
    add(&mut profile, main, std::slice::from_ref(&f1), 1);
    add(&mut profile, main, &[f10], 1);
    add(&mut profile, main, &[f1, gc], 1);
    add(&mut profile, main, &[], 1);
    profile
}

/// Ten samples of three processes, of which one did nothing.
pub(crate) fn several_processes() -> Profile {
    let (mut profile, first) = empty();
    for pid in [7, 8] {
        profile.add_process(Process {
            pid,
            command: vec!["node".into(), "b.js".into()],
            ..Process::default()
        });
    }
    let second = add_thread(&mut profile, 7, 7, "node");
    let outer = js("main", 1, Tier::Interpreted);
    let work = js("work", 3, Tier::Optimized);
    add(&mut profile, first, std::slice::from_ref(&outer), 2);
    add(&mut profile, second, &[outer.clone(), work.clone()], 5);
    add(&mut profile, first, &[outer, work], 2);
    add(&mut profile, second, &[], 1);
    profile
}

/// Names that were chosen to do harm, in one sample each.
pub(crate) fn hostile() -> Profile {
    let (mut profile, thread) = empty();
    let named = |function: &str, file: &str| Frame {
        file: Some(file.into()),
        ..Frame::new(Kind::Js, function)
    };
    for frames in [
        vec![
            named("a\nb 5\n", "x;y.js"),
            named("\x1b[2J\0", "\r\u{202e}z"),
        ],
        vec![named("<b onclick=\"x\">&amp;'", "]]>--><!--\u{ffff}\u{85}")],
        vec![named("42", ""), named("f 42", ""), named("f", "13.5")],
        vec![named("# note", ""), named("", ""), named(" ", " ")],
        vec![named("--", "-"), named("f_[k]", "")],
        vec![named(&"long".repeat(1 << 18), &"p/".repeat(1 << 19))],
    ] {
        add(&mut profile, thread, &frames, 1);
    }
    profile
}

/// One sample of a stack of this many frames, and one of its outer half.
pub(crate) fn deep(frames: usize) -> Profile {
    let (mut profile, thread) = empty();
    let stack: Vec<Frame> = (0..frames)
        .map(|i| Frame::new(Kind::Js, format!("f{i}")))
        .collect();
    add(&mut profile, thread, &stack, 1);
    add(&mut profile, thread, &stack[..frames / 2], 1);
    profile
}

/// The profile in a format, as text.
pub(crate) fn written(profile: &Profile, format: crate::Format) -> String {
    String::from_utf8(written_bytes(profile, format)).unwrap()
}

/// The profile in a format.
pub(crate) fn written_bytes(profile: &Profile, format: crate::Format) -> Vec<u8> {
    let mut out = Vec::new();
    crate::formats::write(profile, format, &mut out).unwrap();
    out
}
