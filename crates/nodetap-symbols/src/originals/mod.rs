//! Frames as they are shown: where in their original sources they are, and of which
//! package.
//!
//! Both is in files, and in maps that take their time to be decoded; meanwhile the
//! collector would move the functions that are still to be named. So a thread of its own
//! looks it up. Who asks gets the answer later; a sample waits for those of its frames.

mod worker;

use std::mem;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender, TryRecvError};
use std::thread;
use std::time::{Duration, Instant};

use nodetap_profile::Frame;

use crate::generated::{NamedFrame, NamedId};
use worker::{Answer, Question};

/// How many notes are passed on.
const MAX_NOTES: usize = 5;

/// The frames that have been asked for.
pub struct Originals {
    /// Whether it is asked what stands on the lines of frames, too.
    sources: bool,
    worker: Worker,
    /// By the ids of the frames as V8 has them.
    found: Vec<State>,
    /// How many answers are still to come.
    awaited: usize,
    notes: Vec<String>,
    /// How many there were besides.
    more_notes: usize,
}

enum Worker {
    NotYet,
    Runs {
        /// To be asked together: to wake a thread for each takes longer than to answer.
        unasked: Vec<Question>,
        questions: Sender<Vec<Question>>,
        answers: Receiver<Answer>,
    },
    /// It does not answer, or cannot be started.
    None,
}

#[derive(Clone)]
enum State {
    Unknown,
    Asked,
    Found(Frame),
}

impl Default for Originals {
    fn default() -> Self {
        Originals {
            sources: false,
            worker: Worker::NotYet,
            found: Vec::new(),
            awaited: 0,
            notes: Vec::new(),
            more_notes: 0,
        }
    }
}

impl Originals {
    /// Nothing known yet. With `sources` frames are told with what stands on their lines.
    pub fn new(sources: bool) -> Originals {
        Originals {
            sources,
            ..Originals::default()
        }
    }

    /// The frame `id` as it is shown, which V8 calls `named`; `None` where that is not
    /// known yet. It is looked up from the next [`receive`](Self::receive) on.
    pub fn get(&mut self, id: NamedId, named: &NamedFrame) -> Option<Frame> {
        let Some(code) = &named.code else {
            return Some(named.frame.clone());
        };
        if self.found.len() <= id.index() {
            self.found.resize(id.index() + 1, State::Unknown);
        }
        match &self.found[id.index()] {
            State::Found(frame) => return Some(frame.clone()),
            State::Asked if !matches!(self.worker, Worker::None) => return None,
            State::Asked | State::Unknown => {}
        }
        let question = Question {
            id,
            frame: named.frame.clone(),
            code: code.clone(),
        };
        if self.worker.ask(question, self.sources) {
            self.awaited += 1;
            self.found[id.index()] = State::Asked;
            return None;
        }
        self.found[id.index()] = State::Found(named.frame.clone());
        Some(named.frame.clone())
    }

    /// Asks for what was wanted by now, and takes the answers that are there.
    pub fn receive(&mut self) {
        if !self.worker.send() {
            self.give_up();
        }
        while let Worker::Runs { answers, .. } = &self.worker {
            match answers.try_recv() {
                Ok(answer) => self.take(answer),
                Err(TryRecvError::Empty) => break,
                Err(TryRecvError::Disconnected) => self.give_up(),
            }
        }
    }

    /// Waits until all answers are there; gives up if `patience` goes by without one.
    pub fn wait(&mut self, patience: Duration) {
        self.receive();
        let mut heard = Instant::now();
        while self.awaited > 0 {
            let Worker::Runs { answers, .. } = &self.worker else {
                break;
            };
            match answers.recv_timeout(patience.saturating_sub(heard.elapsed())) {
                Ok(answer) => {
                    self.take(answer);
                    heard = Instant::now();
                }
                Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => self.give_up(),
            }
        }
    }

    /// From now on frames are shown as V8 has them, but those that are known.
    pub fn give_up(&mut self) {
        if let Worker::Runs { .. } = self.worker {
            self.note("reading source maps takes too long: some places are those of the code that they are for".to_owned());
        }
        self.worker = Worker::None;
        self.awaited = 0;
    }

    fn take(&mut self, answer: Answer) {
        match answer {
            Answer::Frame(id, frame) => {
                self.awaited = self.awaited.saturating_sub(1);
                self.found[id.index()] = State::Found(frame);
            }
            Answer::Note(note) => self.note(note),
        }
    }

    fn note(&mut self, note: String) {
        if self.notes.len() < MAX_NOTES && !self.notes.contains(&note) {
            self.notes.push(note);
        } else if !self.notes.contains(&note) {
            self.more_notes += 1;
        }
    }

    /// What somebody should know, since this was asked for the last time.
    pub fn take_notes(&mut self) -> Vec<String> {
        let mut notes = mem::take(&mut self.notes);
        match mem::take(&mut self.more_notes) {
            0 => {}
            more => notes.push(format!("{more} more source maps cannot be used")),
        }
        notes
    }
}

impl Worker {
    /// Asks `question`, unless there is nobody to ask.
    fn ask(&mut self, question: Question, sources: bool) -> bool {
        if let Worker::NotYet = self {
            *self = Worker::start(sources);
        }
        match self {
            Worker::Runs { unasked, .. } => {
                unasked.push(question);
                true
            }
            Worker::NotYet | Worker::None => false,
        }
    }

    /// Passes on what is to be asked. Returns whether somebody will answer, if need be.
    fn send(&mut self) -> bool {
        match self {
            Worker::Runs {
                unasked, questions, ..
            } => unasked.is_empty() || questions.send(mem::take(unasked)).is_ok(),
            Worker::NotYet | Worker::None => true,
        }
    }

    fn start(sources: bool) -> Worker {
        let (questions, asked) = mpsc::channel();
        let (answer, answers) = mpsc::channel();
        let thread = thread::Builder::new().name(worker::NAME.to_owned());
        match thread.spawn(move || worker::run(&asked, &answer, sources)) {
            Ok(_) => Worker::Runs {
                unasked: Vec::new(),
                questions,
                answers,
            },
            Err(_) => Worker::None,
        }
    }
}

#[cfg(test)]
mod tests {
    use nodetap_profile::Kind;

    use super::*;
    use crate::generated::{GeneratedCode, NamedFrames, Scripts};

    fn frame(name: &str, file: Option<&str>) -> NamedFrame {
        let script = file.map(|file| Scripts::new(None, true).get(file, None, None));
        NamedFrame {
            frame: Frame {
                file: file.map(Into::into),
                ..Frame::new(Kind::Js, name)
            },
            code: script.map(|script| GeneratedCode { script, text: None }),
        }
    }

    #[test]
    fn what_has_no_script_is_known_at_once_and_all_else_later() {
        let mut frames = NamedFrames::default();
        let mut originals = Originals::default();
        let native = frames.intern(frame("f", None));
        let script = frames.intern(frame("g", Some("/nowhere/node_modules/x/a.js")));
        let name = |found: Option<Frame>| found.map(|frame| frame.function.to_string());
        let get = |originals: &mut Originals, id| name(originals.get(id, frames.get(id)));
        assert_eq!(get(&mut originals, native).as_deref(), Some("f"));
        assert_eq!(get(&mut originals, script), None);
        assert_eq!(get(&mut originals, script), None);
        assert_eq!(originals.awaited, 1);
        originals.wait(Duration::from_secs(60));
        let found = originals.get(script, frames.get(script)).expect("found");
        assert_eq!(found.package.expect("a package").label(), "x");
        assert_eq!(originals.take_notes(), [""; 0]);
    }

    #[test]
    fn who_gives_up_shows_what_v8_has() {
        let mut frames = NamedFrames::default();
        let mut originals = Originals::default();
        let id = frames.intern(frame("g", Some("/nowhere/node_modules/x/a.js")));
        assert_eq!(originals.get(id, frames.get(id)), None);
        originals.give_up();
        assert_eq!(
            originals.get(id, frames.get(id)),
            Some(frames.get(id).frame.clone())
        );
        assert_eq!(originals.take_notes().len(), 1);
        assert_eq!(originals.take_notes().len(), 0);
    }
}
