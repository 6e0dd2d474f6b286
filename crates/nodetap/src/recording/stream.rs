//! `.nodetap`: written while it is recorded, so that what was taken is there however the
//! recording ends.

use std::fs::File;
use std::time::{Duration, Instant};

use nodetap_profile::Profile;
use nodetap_profile::recording::Writer;

use super::targets::Targets;
use crate::failure::{Failure, Result};
use crate::output::{self, Begun, Output};

/// How often what is new is written: whoever kills nodetap loses less than a second.
const INTERVAL: Duration = Duration::from_millis(500);

/// A file that grows with the recording.
#[derive(Debug)]
pub struct Stream {
    writer: Writer<File>,
    place: Begun,
    written: Instant,
    /// Whether there is anything in it that could be read.
    has_any: bool,
}

impl Stream {
    /// Opens the output and writes what is known at the start.
    pub fn begin(output: &Output, targets: &mut Targets) -> Result<Stream> {
        let place = output.begin()?;
        let file = place.file.try_clone();
        let file = file.map_err(|error| output::failure(&place.shown, &error))?;
        let mut stream = Stream {
            writer: Writer::new(file),
            place,
            written: Instant::now(),
            has_any: false,
        };
        stream.write(targets)?;
        Ok(stream)
    }

    /// Writes what is new, if some time has gone by since it was done last.
    pub fn write_new(&mut self, targets: &mut Targets) -> Result<()> {
        if self.written.elapsed() < INTERVAL {
            return Ok(());
        }
        self.write(targets)
    }

    fn write(&mut self, targets: &mut Targets) -> Result<()> {
        self.written = Instant::now();
        let elapsed = targets.elapsed();
        let mut waiting = targets.waiting();
        let profile = targets.profile();
        let written = self.writer.write_new(profile, Some(&mut waiting), elapsed);
        written.map_err(|error| self.failure(&error))?;
        self.has_any = true;
        Ok(())
    }

    /// Writes the rest and the end.
    pub fn finish(self, profile: &mut Profile) -> Result<()> {
        let Stream {
            writer,
            place,
            has_any,
            ..
        } = self;
        match writer.finish(profile) {
            Ok(_) => Ok(()),
            Err(error) => Err(failure(&place.shown, has_any, &error)),
        }
    }

    /// Nothing was recorded: what was there before is put back.
    pub fn undo(self) {
        self.place.undo();
    }

    fn failure(&self, error: &std::io::Error) -> Failure {
        failure(&self.place.shown, self.has_any, error)
    }
}

/// A write failed. What was written before can be read, where it is a file.
fn failure(shown: &str, has_any: bool, error: &std::io::Error) -> Failure {
    let hint = format!("what was recorded until then is kept: nodetap report '{shown}'");
    let is_kept = has_any && std::path::Path::new(shown).is_file();
    output::failure(shown, error).hint_maybe(is_kept.then_some(hint))
}
