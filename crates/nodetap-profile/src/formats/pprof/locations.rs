//! The places of the program that stacks consist of. Functions that the compiler inlined
//! share a place with the one they were inlined into.

use std::collections::HashMap;

use crate::formats::functions::Functions;
use crate::{FrameId, Profile, StackId};

/// A function at a place, and the one it was inlined into there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Line {
    /// The line around it at the same place, if it was inlined.
    pub outer: Option<u32>,
    /// The number of its function.
    pub function: u32,
    /// Line and column where it was executing, counted from 1; 0: not known.
    pub position: (u32, u32),
}

/// The distinct places. One is known by its innermost line.
pub(super) struct Locations {
    lines: Vec<Line>,
    /// For each line a frame of it.
    frames: Vec<FrameId>,
    /// For each stack its innermost place, and the stack around it. Those of the empty one
    /// are not looked at.
    of_stack: Vec<(u32, StackId)>,
}

impl Locations {
    /// Those of all stacks.
    pub fn new(profile: &Profile, functions: &Functions) -> Self {
        let mut lines = Vec::new();
        let mut frames = Vec::new();
        let mut ids: HashMap<Line, u32> = HashMap::new();
        let mut of_stack: Vec<(u32, StackId)> = Vec::with_capacity(profile.stack_count());
        // The outer parts of a stack come before it.
        for stack in profile.stack_ids() {
            let Some((caller, frame)) = profile.caller_and_frame(stack) else {
                of_stack.push((u32::MAX, StackId::EMPTY));
                continue;
            };
            let at = profile.frame(frame);
            let is_inlined = at.inlined && caller != StackId::EMPTY;
            let (outer, rest) = match (is_inlined, of_stack[caller.index()]) {
                (true, (place, rest)) => (Some(place), rest),
                (false, _) => (None, caller),
            };
            let position = at.position.map_or((0, 0), |position| {
                let column = position.column.map_or(0, |column| column.get());
                (position.line.get(), column)
            });
            let line = Line {
                outer,
                function: functions.of(frame),
                position,
            };
            let next = u32::try_from(lines.len()).expect("no more places than stacks");
            let id = *ids.entry(line).or_insert(next);
            if id == next {
                lines.push(line);
                frames.push(frame);
            }
            of_stack.push((id, rest));
        }
        Self {
            lines,
            frames,
            of_stack,
        }
    }

    /// The places of a stack, innermost first.
    pub fn of(&self, stack: StackId) -> impl Iterator<Item = u32> {
        let mut rest = stack;
        std::iter::from_fn(move || {
            (rest != StackId::EMPTY).then(|| {
                let (place, around) = self.of_stack[rest.index()];
                rest = around;
                place
            })
        })
    }

    /// How many there are, the outer parts of others included.
    pub fn len(&self) -> usize {
        self.lines.len()
    }

    /// The lines of a place, innermost first.
    pub fn lines(&self, place: u32) -> impl Iterator<Item = Line> {
        let mut next = Some(place);
        std::iter::from_fn(move || {
            let line = self.lines[next? as usize];
            next = line.outer;
            Some(line)
        })
    }

    /// The frame of the function that a place is in, whatever was inlined there.
    pub fn frame(&self, place: u32) -> FrameId {
        let mut place = place;
        while let Some(outer) = self.lines[place as usize].outer {
            place = outer;
        }
        self.frames[place as usize]
    }
}
