//! What people read on stderr and stdout: colours, and lines that never spill.

use std::borrow::Cow;
use std::env;
use std::fmt::{Display, Write as _};
use std::io::{self, IsTerminal, Write};
use std::process::exit;
use std::thread;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, poll};

/// A colour or weight of the terminal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Style {
    /// What failed.
    Red,
    /// What is well.
    Green,
    /// What deserves a look.
    Yellow,
    /// What leads on.
    Cyan,
    /// A heading.
    Bold,
    /// What matters less.
    Dim,
}

impl Style {
    /// `text` in this style where `colours` is set, else as it is.
    pub fn paint(self, text: impl Display, colours: bool) -> String {
        if !colours {
            return text.to_string();
        }
        let code = match self {
            Style::Red => "1;31",
            Style::Green => "32",
            Style::Yellow => "33",
            Style::Cyan => "36",
            Style::Bold => "1",
            Style::Dim => "2",
        };
        format!("\x1b[{code}m{text}\x1b[0m")
    }
}

/// Whether to colour what goes to `stream`.
pub fn colours(stream: &impl IsTerminal) -> bool {
    let set = |name| env::var_os(name).filter(|value| !value.is_empty());
    let dumb = set("TERM").is_none_or(|term| term == "dumb");
    choose_colours(
        set("NO_COLOR").is_some(),
        set("CLICOLOR_FORCE").is_some_and(|value| value != "0"),
        stream.is_terminal() && !dumb,
    )
}

/// Whether this process belongs to those that the terminal sends its signals to.
pub fn is_in_foreground() -> bool {
    let Ok(terminal) = std::fs::File::open("/dev/tty") else {
        return false;
    };
    let group = rustix::termios::tcgetpgrp(terminal);
    group.is_ok_and(|group| group == rustix::process::getpgrp())
}

/// From now on we end when the terminal that we read from is closed, if we have not done
/// so by ourselves a moment later.
pub fn end_when_closed() {
    const MOMENT: Duration = Duration::from_millis(500);
    thread::spawn(|| {
        let stdin = io::stdin();
        loop {
            let mut watched = [PollFd::new(&stdin, PollFlags::empty())];
            // That it has gone is reported unasked.
            if poll(&mut watched, None).is_ok()
                && watched[0]
                    .revents()
                    .intersects(PollFlags::HUP | PollFlags::ERR)
            {
                thread::sleep(MOMENT);
                exit(0);
            }
        }
    });
}

/// `NO_COLOR` (no-color.org) wins over `CLICOLOR_FORCE`, and that over what the
/// stream is.
fn choose_colours(no_color: bool, force: bool, terminal: bool) -> bool {
    !no_color && (force || terminal)
}

/// Writes one line to stderr.
///
/// Unlike `eprintln!`, it does not panic where stderr is closed or full: there
/// is nobody left to tell.
pub fn line(text: impl Display) {
    let _ = writeln!(io::stderr().lock(), "{}", one_line(&text.to_string()));
}

/// Writes `label: text` to stderr as one line.
pub fn labelled(label: &str, text: impl Display) {
    let colours = colours(&io::stderr());
    let style = match label {
        "error" => Style::Red,
        "hint" => Style::Cyan,
        _ => Style::Yellow,
    };
    let text = text.to_string();
    let _ = writeln!(
        io::stderr().lock(),
        "{} {}",
        style.paint(format_args!("{label}:"), colours),
        one_line(&text)
    );
}

/// Something the user should know that is no error.
pub fn note(text: impl Display) {
    labelled("note", text);
}

/// What the user may do, where nothing failed.
pub fn hint(text: impl Display) {
    labelled("hint", text);
}

/// `text` with every control character escaped: paths, arguments and process
/// names may hold newlines and terminal commands.
pub fn one_line(text: &str) -> Cow<'_, str> {
    if !text.contains(char::is_control) {
        return Cow::Borrowed(text);
    }
    let mut escaped = String::with_capacity(text.len() + 8);
    for character in text.chars() {
        if character.is_control() {
            let _ = write!(escaped, "{}", character.escape_default());
        } else {
            escaped.push(character);
        }
    }
    Cow::Owned(escaped)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn control_characters_cannot_leave_their_line() {
        assert_eq!(one_line("plain é"), "plain é");
        assert_eq!(one_line("a\nb\x1b[2Jc\u{85}"), "a\\nb\\u{1b}[2Jc\\u{85}");
    }

    #[test]
    fn no_color_wins_over_force_and_force_over_a_pipe() {
        assert!(choose_colours(false, false, true));
        assert!(!choose_colours(false, false, false));
        assert!(choose_colours(false, true, false));
        assert!(!choose_colours(true, true, true));
    }

    #[test]
    fn without_colours_a_style_adds_nothing() {
        assert_eq!(Style::Red.paint("error:", false), "error:");
        assert_eq!(Style::Red.paint("error:", true), "\x1b[1;31merror:\x1b[0m");
    }
}
