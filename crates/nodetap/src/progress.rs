//! How far a recording is, shown where stderr is a terminal.

use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::terminal;

/// A bar, or where no end is known, a spinner; nothing where nobody looks.
#[derive(Debug)]
pub struct Progress {
    bar: ProgressBar,
    total: Option<Duration>,
    drawn: Instant,
}

/// How often it is drawn anew.
const INTERVAL: Duration = Duration::from_millis(100);

impl Progress {
    /// Shows the beginning of a recording of this length, if it has one.
    pub fn start(total: Option<Duration>) -> Progress {
        // Draws nothing where stderr is no terminal.
        let bar = ProgressBar::with_draw_target(total.map(millis), ProgressDrawTarget::stderr());
        let colours = terminal::colours(&std::io::stderr());
        bar.set_style(style(total.is_some(), colours));
        let mut progress = Progress {
            bar,
            total,
            drawn: Instant::now(),
        };
        progress.draw(Duration::ZERO, 0);
        progress
    }

    /// Shows where it stands, unless it did so a moment ago.
    pub fn update(&mut self, elapsed: Duration, samples: u64) {
        if self.drawn.elapsed() >= INTERVAL {
            self.draw(elapsed, samples);
        }
    }

    fn draw(&mut self, elapsed: Duration, samples: u64) {
        self.drawn = Instant::now();
        let shown = self.total.map_or(elapsed, |total| elapsed.min(total));
        self.bar.update(|state| state.set_pos(millis(shown)));
        self.bar.set_message(match self.total {
            Some(total) => format!("{} left  {samples} samples", time(total - shown)),
            None => format!(
                "{}  {samples} samples  (Ctrl-C ends the recording)",
                time(shown)
            ),
        });
    }

    /// Takes it off the screen while `write` writes a line.
    pub fn suspend(&self, write: impl FnOnce()) {
        self.bar.suspend(write);
    }

    /// Takes it off the screen.
    pub fn finish(&self) {
        self.bar.finish_and_clear();
    }
}

/// `9.5 s`, and from a minute on `1:30` or `2:01:30`.
fn time(duration: Duration) -> String {
    let seconds = duration.as_secs();
    match seconds {
        0..60 => format!("{:.1} s", duration.as_secs_f64()),
        60..3600 => format!("{}:{:02}", seconds / 60, seconds % 60),
        _ => format!(
            "{}:{:02}:{:02}",
            seconds / 3600,
            seconds / 60 % 60,
            seconds % 60
        ),
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

fn style(has_end: bool, colours: bool) -> ProgressStyle {
    let template = match (has_end, colours) {
        (true, true) => "Recording {bar:30.green} {msg}",
        (true, false) => "Recording {bar:30} {msg}",
        (false, true) => "{spinner:.green} Recording {msg}",
        (false, false) => "{spinner} Recording {msg}",
    };
    ProgressStyle::with_template(template)
        .unwrap_or_else(|_| ProgressStyle::default_bar())
        .progress_chars("━╸─")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_is_as_exact_as_it_matters() {
        let texts = [0, 9_540, 59_990, 60_000, 61_900, 3_599_000, 7_290_000]
            .map(|milliseconds| time(Duration::from_millis(milliseconds)));
        assert_eq!(
            texts,
            [
                "0.0 s", "9.5 s", "60.0 s", "1:00", "1:01", "59:59", "2:01:30"
            ]
        );
    }

    #[test]
    fn every_template_is_one() {
        for has_end in [false, true] {
            for colours in [false, true] {
                let _ = style(has_end, colours);
            }
        }
        let _ = ProgressStyle::with_template("Recording {bar:30.green} {msg}").unwrap();
        let _ = ProgressStyle::with_template("{spinner:.green} Recording {msg}").unwrap();
    }
}
