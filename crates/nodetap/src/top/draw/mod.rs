//! Draws what is shown into however much room there is.

mod flame;
mod header;
mod help;
mod style;
mod tables;

use ratatui::Frame;
use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use ratatui::style::Style;
use unicode_width::{UnicodeWidthChar, UnicodeWidthStr};

use super::facts::Snapshot;
use super::state::{State, Tab};
pub use style::Colours;

/// Draws all of it. Notes in `state` how many lines of a table there is room for.
pub fn draw(frame: &mut Frame<'_>, shown: &Snapshot, state: &mut State, colours: Colours) {
    let whole = frame.area();
    let mut canvas = Canvas {
        buffer: frame.buffer_mut(),
        colours,
    };
    let [head, tabs, body, foot] = areas(whole);
    header::draw(&mut canvas, head, &shown.facts, state);
    header::draw_tabs(&mut canvas, tabs, state);
    if state.help {
        help::draw(&mut canvas, body);
    } else {
        match state.tab {
            Tab::Functions | Tab::Packages => tables::draw(&mut canvas, body, shown, state),
            Tab::Threads => tables::draw_threads(&mut canvas, body, shown, state),
            Tab::Flame => flame::draw(&mut canvas, body, shown, state),
        }
    }
    header::draw_foot(&mut canvas, foot, &shown.facts, state);
}

/// The header, the line of tabs, the rest, and the last line. What matters least is left
/// out first.
fn areas(whole: Rect) -> [Rect; 4] {
    let (head, tabs, foot) = match whole.height {
        0..=2 => (0, 0, 0),
        3..=4 => (0, 0, 1),
        5..=7 => (1, 0, 1),
        8..=10 => (1, 1, 1),
        11..=13 => (3, 1, 1),
        _ => (4, 1, 1),
    };
    let rest = whole.height - head - tabs - foot;
    let mut y = whole.y;
    [head, tabs, rest, foot].map(|height| {
        let area = Rect { y, height, ..whole };
        y += height;
        area
    })
}

/// Where it is drawn.
struct Canvas<'a> {
    buffer: &'a mut Buffer,
    colours: Colours,
}

impl Canvas<'_> {
    /// Writes `text` into at most `width` columns of a line of `area`, cut with `…`.
    /// Returns the column after it.
    fn put(&mut self, area: Rect, x: u16, y: u16, width: u16, text: &str, style: Style) -> u16 {
        if x >= area.width || y >= area.height {
            return x;
        }
        let width = width.min(area.width - x);
        let text = cut_end(text, width.into());
        let (x, y) = (area.x + x, area.y + y);
        let (end, _) = self.buffer.set_stringn(x, y, &text, width.into(), style);
        end - area.x
    }

    /// The same, with its end at the column before `end`.
    fn put_right(&mut self, area: Rect, end: u16, y: u16, width: u16, text: &str, style: Style) {
        let length = (text.width() as u16).min(width).min(end);
        self.put(area, end - length, y, length, text, style);
    }

    /// Gives a whole line of `area` a style.
    fn line(&mut self, area: Rect, y: u16, style: Style) {
        if y < area.height {
            let line = Rect {
                y: area.y + y,
                height: 1,
                ..area
            };
            self.buffer.set_style(line, style);
        }
    }
}

/// `text`, if it fits, else its begin with `…` at the end.
fn cut_end(text: &str, width: usize) -> String {
    if text.width() <= width {
        return text.to_owned();
    }
    let mut cut = String::new();
    let mut used = 0;
    for character in text.chars() {
        used += character.width().unwrap_or(0);
        if used >= width {
            break;
        }
        cut.push(character);
    }
    if width > 0 {
        cut.push('…');
    }
    cut
}

/// `text`, if it fits, else its end with `…` before it: the end of a path tells most.
fn cut_begin(text: &str, width: usize) -> String {
    if text.width() <= width {
        return text.to_owned();
    }
    let mut kept = Vec::new();
    let mut used = 0;
    for character in text.chars().rev() {
        used += character.width().unwrap_or(0);
        if used >= width {
            break;
        }
        kept.push(character);
    }
    let begin = if width > 0 { "…" } else { "" };
    begin.chars().chain(kept.into_iter().rev()).collect()
}

/// A share in percent, as in `12.5`; nothing where there is nothing to have a share of.
fn percent(part: u64, whole: u64) -> String {
    match whole {
        0 => String::new(),
        _ => format!("{:.1}", 100.0 * part as f64 / whole as f64),
    }
}

#[cfg(test)]
mod tests;
