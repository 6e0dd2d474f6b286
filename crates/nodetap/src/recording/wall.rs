//! What the main thread did all the time, in one line.

use nodetap_profile::{Kind, Mode, Profile, StackId};
use nodetap_symbols::waits::{IDLE, WAITING_FOR_CPU};

/// `main thread: 38 % on CPU, 40 % blocked, 22 % idle`: of all samples of main threads;
/// `None` where there are none.
pub fn summary(profile: &Profile) -> Option<String> {
    let mut of_each = [0u64; 4];
    for (of, count) in profile.counts() {
        let thread = profile.thread(of.thread);
        if thread.pid == thread.tid {
            of_each[kind(profile, of.stack, of.mode)] += count;
        }
    }
    let all: u64 = of_each.iter().sum();
    let share = |kind: usize| 100.0 * of_each[kind] as f64 / all as f64;
    let mut line = format!(
        "main thread: {:.0} % on CPU, {:.0} % blocked, {:.0} % idle",
        share(ON_CPU),
        share(BLOCKED),
        share(IDLING)
    );
    if share(READY) >= 0.5 {
        line += &format!(", {:.0} % waiting for a CPU", share(READY));
    }
    (all > 0).then_some(line)
}

const ON_CPU: usize = 0;
const BLOCKED: usize = 1;
const IDLING: usize = 2;
const READY: usize = 3;

fn kind(profile: &Profile, stack: StackId, mode: Mode) -> usize {
    if mode != Mode::Waiting {
        return ON_CPU;
    }
    // The kernel's frames are on top of what says it.
    let said = profile.stack_frames(stack).find_map(|frame| {
        let frame = profile.frame(frame);
        match &*frame.function {
            IDLE if frame.kind == Kind::Pseudo => Some(IDLING),
            WAITING_FOR_CPU if frame.kind == Kind::Pseudo => Some(READY),
            _ => None,
        }
    });
    said.unwrap_or(BLOCKED)
}

#[cfg(test)]
mod tests {
    use super::*;
    use nodetap_profile::{Frame, Metadata, Sample, Thread};

    #[test]
    fn the_shares_of_the_main_thread() {
        let mut profile = Profile::new(Metadata::new("ebpf", 999));
        assert_eq!(summary(&profile), None);
        let [main, worker] = [7, 8].map(|tid| {
            profile.add_thread(Thread {
                pid: 7,
                tid,
                name: String::new(),
            })
        });
        let stack = |profile: &mut Profile, names: &[(Kind, &str)]| {
            let frames: Vec<_> = names
                .iter()
                .map(|&(kind, name)| profile.intern_frame(Frame::new(kind, name)))
                .collect();
            profile.intern_stack(frames)
        };
        let work = stack(&mut profile, &[(Kind::Js, "f")]);
        let read = stack(
            &mut profile,
            &[(Kind::Js, "f"), (Kind::Pseudo, "(blocked in read)")],
        );
        let idle = stack(
            &mut profile,
            &[(Kind::Pseudo, IDLE), (Kind::Kernel, "ep_poll")],
        );
        let mut add = |thread, stack, mode, count| {
            profile.add_sample(Sample {
                count,
                ..Sample::new(0, thread, stack, mode)
            });
        };
        add(main, work, Mode::JavaScript, 38);
        add(main, read, Mode::Waiting, 40);
        add(main, idle, Mode::Waiting, 22);
        add(worker, read, Mode::Waiting, 1000);
        assert_eq!(
            summary(&profile).as_deref(),
            Some("main thread: 38 % on CPU, 40 % blocked, 22 % idle")
        );
        let ready = stack(
            &mut profile,
            &[(Kind::Js, "f"), (Kind::Pseudo, WAITING_FOR_CPU)],
        );
        profile.add_sample(Sample {
            count: 100,
            ..Sample::new(0, main, ready, Mode::Waiting)
        });
        assert_eq!(
            summary(&profile).as_deref(),
            Some("main thread: 19 % on CPU, 20 % blocked, 11 % idle, 50 % waiting for a CPU")
        );
    }
}
