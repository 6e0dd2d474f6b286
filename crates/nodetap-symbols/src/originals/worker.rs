//! The thread that looks up where frames are from.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender};

use nodetap_profile::{Frame, Position};

use crate::generated::{GeneratedCode, NamedId};
use crate::packages::Packages;
use crate::source_maps::SourceMaps;
use crate::source_text::SourceLines;

/// A frame to look up.
pub struct Question {
    /// Which one.
    pub id: NamedId,
    /// As V8 has it.
    pub frame: Frame,
    /// What it runs.
    pub code: GeneratedCode,
}

/// What comes back.
pub enum Answer {
    /// The frame as it is shown.
    Frame(NamedId, Frame),
    /// Something that somebody should know.
    Note(String),
}

/// Answers questions until nobody asks any more. With `sources` frames get what stands on
/// their lines.
pub fn run(questions: &Receiver<Vec<Question>>, answers: &Sender<Answer>, sources: bool) {
    let mut maps = SourceMaps::new(sources);
    let mut lines = SourceLines::default();
    let mut packages = Packages::default();
    for question in questions.iter().flatten() {
        let Question {
            id,
            mut frame,
            code,
        } = question;
        let line = match maps.map(&mut frame, &code) {
            Some(original) => original.line,
            // It is shown where V8 has it.
            None => script_line(&code, frame.position),
        };
        frame.source = line.and_then(|line| lines.keep(line));
        let root = code.script.root.as_deref();
        // A script that was not mapped is called as V8 has it.
        let is_mapped = frame.file != code.script.file;
        let source = match is_mapped {
            true => frame.file.as_ref(),
            false => code.script.place.as_ref(),
        };
        frame.package = packages.of(root, source, code.script.place.as_ref());
        let notes = maps.take_notes().into_iter().map(Answer::Note);
        for answer in notes.chain([Answer::Frame(id, frame)]) {
            if answers.send(answer).is_err() {
                return;
            }
        }
    }
}

/// What stands on a line of the script itself.
fn script_line(code: &GeneratedCode, position: Option<Position>) -> Option<String> {
    code.script.text.as_ref()?.line(position?)
}

/// What a thread of ours is called.
pub const NAME: &str = "nodetap-maps";

const _: fn() = || {
    fn crosses_threads<T: Send>() {}
    crosses_threads::<Question>();
    crosses_threads::<Arc<Answer>>();
};
