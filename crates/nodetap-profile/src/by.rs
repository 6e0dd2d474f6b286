//! What a row of a table, tree or graph stands for: frames that are one there.

use std::sync::Arc;

use crate::{Frame, FrameId, Kind, Origin, Profile, SampleKey, StackId, Thread};

/// By what frames are merged where people read them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum By {
    /// A function, by the line where it starts.
    #[default]
    Function,
    /// The line of a function that was executing.
    Line,
    /// A file.
    File,
    /// An npm package; what is of none, by whose it is.
    Package,
}

impl By {
    /// All of them.
    pub const ALL: [By; 4] = [By::Function, By::Line, By::File, By::Package];

    /// The name by which users ask for it.
    pub fn name(self) -> &'static str {
        match self {
            By::Function => "function",
            By::Line => "line",
            By::File => "file",
            By::Package => "package",
        }
    }

    /// A profile in which a [label](crate::frame_label) is what frames are merged by; of
    /// samples it has only how many there are of each kind. Where calls stay within a file
    /// or a package they are one frame.
    pub fn merged(self, profile: &Profile) -> Profile {
        let merges_calls = matches!(self, By::File | By::Package);
        relabelled(profile, merges_calls, false, |frame| self.row(frame))
    }

    /// The frame that stands for all that are merged with this one.
    pub(crate) fn row(self, frame: &Frame) -> Frame {
        let whole = |name: Arc<str>| Frame {
            package: frame.package.clone(),
            ..Frame::new(frame.kind, name)
        };
        match self {
            By::Function => frame.clone(),
            // A line that is not known is not that where the function starts.
            By::Line => Frame {
                function_position: frame.position,
                ..frame.clone()
            },
            By::File => match (&frame.file, frame.kind) {
                (Some(file), Kind::Native | Kind::Kernel) => {
                    whole(file.rsplit('/').next().unwrap_or_default().into())
                }
                (Some(file), _) => whole(Arc::clone(file)),
                (None, Kind::Pseudo) => frame.clone(),
                (None, Kind::Builtin) => whole("(builtins)".into()),
                (None, _) => whole("(no file)".into()),
            },
            By::Package => Frame {
                kind: kind_of(Origin::of(frame)),
                ..whole(package_row(frame).into())
            },
        }
    }
}

/// What a frame is called by package: `express@4.18.2`, `own code (shop)`, `Node.js`,
/// `garbage collector`.
pub(crate) fn package_row(frame: &Frame) -> String {
    match (Origin::of(frame), &frame.package) {
        (Origin::Dependency, Some(package)) => package.label(),
        (Origin::Own, Some(package)) => format!("{} ({})", Origin::Own.name(), package.name),
        (origin, _) => origin.name().to_owned(),
    }
}

/// The kind that most frames of an origin have.
fn kind_of(origin: Origin) -> Kind {
    match origin {
        Origin::Own | Origin::Dependency | Origin::Node => Kind::Js,
        Origin::V8 => Kind::Builtin,
        Origin::Native => Kind::Native,
        Origin::Kernel => Kind::Kernel,
        Origin::GarbageCollector | Origin::Waiting | Origin::Unknown => Kind::Pseudo,
    }
}

/// The profile with a frame put in the place of each, and of samples only how many there
/// are of each kind. With `merges_calls` a frame that is called by an equal one is that.
/// With `merges_processes` nobody tells any more whose the threads are.
pub(crate) fn relabelled(
    profile: &Profile,
    merges_calls: bool,
    merges_processes: bool,
    mut frame_for: impl FnMut(&Frame) -> Frame,
) -> Profile {
    let mut new = Profile::new(profile.metadata.clone());
    new.keep_no_sequence();
    for process in profile.processes().iter().filter(|_| !merges_processes) {
        new.add_process(process.clone());
    }
    for thread in profile.threads() {
        new.add_thread(match merges_processes {
            true => Thread::default(),
            false => thread.clone(),
        });
    }
    let frames: Vec<FrameId> = profile
        .frames()
        .iter()
        .map(|frame| new.intern_frame(frame_for(frame)))
        .collect();
    // The outer parts of a stack come before it.
    let mut stacks = vec![StackId::EMPTY; profile.stack_count()];
    for stack in profile.stack_ids() {
        if let Some((caller, frame)) = profile.caller_and_frame(stack) {
            let (caller, frame) = (stacks[caller.index()], frames[frame.index()]);
            let called_by = new.caller_and_frame(caller).map(|it| it.1);
            stacks[stack.index()] = match merges_calls && called_by == Some(frame) {
                true => caller,
                false => new.push_frame(caller, frame),
            };
        }
    }
    for (key, count) in profile.counts() {
        let stack = stacks[key.stack.index()];
        new.add_count(SampleKey { stack, ..key }, count);
    }
    new
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{add, empty, hostile, js, several_processes, small};
    use crate::{Format, Tier, formats};

    fn text(profile: &Profile, by: By) -> String {
        let mut out = Vec::new();
        formats::write_by(profile, Format::Text, by, None, &mut out).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn by_function_is_what_it_is_without() {
        for profile in [small(), several_processes(), hostile()] {
            let plain = crate::testing::written(&profile, Format::Text);
            assert_eq!(text(&profile, By::Function), plain);
        }
    }

    #[test]
    fn by_line_a_function_is_where_it_was() {
        assert_eq!(
            text(&small(), By::Line),
            "\
Total samples: 10
  6 main /srv/app.js:2
    4 work /srv/app.js:4
      1 malloc libc.so.6
    1 work /srv/app.js:7
  2 f /srv/app.js:2
    1 (garbage collector)
  1 (no frames)
  1 f /srv/app.js:11
"
        );
    }

    #[test]
    fn by_file_calls_within_one_are_one_row() {
        let mut profile = small();
        let thread = profile.last_sample().unwrap().thread;
        let unknown = Frame::new(Kind::Js, "f");
        let builtin = Frame::new(Kind::Builtin, "Array.prototype.map");
        let here = js("f", 1, Tier::Baseline);
        let stack = [here.clone(), builtin, here, unknown];
        add(&mut profile, thread, &stack, 2);
        assert_eq!(
            text(&profile, By::File),
            "\
Total samples: 12
  11 /srv/app.js
    2 (builtins)
      2 /srv/app.js
        2 (no file)
    1 (garbage collector)
    1 libc.so.6
  1 (no frames)
"
        );
    }

    #[test]
    fn processes_stay_apart() {
        let text = text(&several_processes(), By::File);
        assert!(
            text.contains("  6 node b.js (pid 7)\n    5 /srv/app.js\n"),
            "{text}"
        );
        let (empty, _) = empty();
        assert_eq!(self::text(&empty, By::File), "Total samples: 0\n");
    }
}
