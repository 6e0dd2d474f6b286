//! Which process? Asked where nobody said, and somebody is there to answer.

use std::io::{self, BufRead, IsTerminal, Write};

use rustix::termios::tcgetwinsize;

use crate::failure::{Failure, Result, reason};
use crate::processes::{NONE_SEEN, Processes};
use crate::terminal::{self, Style, colours};

/// The processes in `pids`, each once; if there are none, that which the user chooses of
/// those that there are. `verb` is what is to be done with it: `record`.
///
/// # Errors
/// Where there is nothing to choose from, nobody to ask, or no answer.
pub fn or_ask(pids: &[u32], verb: &str) -> Result<Vec<u32>> {
    if pids.is_empty() {
        return Ok(vec![ask(verb)?]);
    }
    let mut each_once = Vec::with_capacity(pids.len());
    for pid in pids {
        if !each_once.contains(pid) {
            each_once.push(*pid);
        }
    }
    Ok(each_once)
}

fn ask(verb: &str) -> Result<u32> {
    let stderr = io::stderr();
    if !io::stdin().is_terminal() || !stderr.is_terminal() {
        let start = match verb {
            "record" => ", or start a program: nodetap record -- COMMAND",
            _ => "",
        };
        return Err(
            Failure::usage(format_args!("nothing to {verb}: no process is named")).hint(
                format_args!("name one with --pid, 'nodetap ps' lists them{start}"),
            ),
        );
    }
    let processes = Processes::look()?;
    if processes.are_none() {
        return Err(Failure::new(NONE_SEEN).hint("start one: nodetap record -- node app.js"));
    }
    let choice = Choice::of(processes.pids());
    let width = tcgetwinsize(&stderr).ok().map(|size| size.ws_col.into());
    let table = processes.table(choice.numbered, width, colours(&stderr));
    // Where it cannot be written, the answer will be none.
    let _ = stderr.lock().write_all(table.as_bytes());
    for hint in processes.hints() {
        terminal::hint(hint);
    }
    let stdin = io::stdin();
    loop {
        let question = format!("Which one to {verb}? ({}) ", choice.answers());
        let question = Style::Bold.paint(question, colours(&stderr));
        let _ = write!(stderr.lock(), "{question}").and_then(|()| stderr.lock().flush());
        let mut line = String::new();
        let read = stdin.lock().read_line(&mut line).map_err(|error| {
            Failure::new(format_args!("cannot read an answer: {}", reason(&error)))
        })?;
        if read == 0 {
            let _ = writeln!(stderr.lock());
            return Err(Failure::new("no process was chosen"));
        }
        match choice.of_answer(&line) {
            Some(pid) => return Ok(pid),
            None => terminal::line(format_args!("'{}' is none of these", line.trim())),
        }
    }
}

/// What there is to choose from.
struct Choice<'a> {
    pids: &'a [u32],
    /// Whether their numbers in the list will do; not where those could be meant as ids.
    numbered: bool,
}

impl Choice<'_> {
    fn of(pids: &[u32]) -> Choice<'_> {
        let is_number = |pid: &u32| *pid as usize <= pids.len();
        Choice {
            pids,
            numbered: pids.len() > 1 && !pids.iter().any(is_number),
        }
    }

    fn answers(&self) -> String {
        match (self.pids, self.numbered) {
            ([pid], _) => format!("Enter: {pid}"),
            (pids, true) => format!("1 to {}, or a PID", pids.len()),
            (_, false) => "a PID".to_owned(),
        }
    }

    /// The process that is meant by what was typed.
    fn of_answer(&self, line: &str) -> Option<u32> {
        let number = match (line.trim(), self.pids) {
            ("", [only]) => return Some(*only),
            (text, _) => text.parse::<u32>().ok()?,
        };
        if self.pids.contains(&number) {
            return Some(number);
        }
        let index = (number as usize).checked_sub(1).filter(|_| self.numbered)?;
        self.pids.get(index).copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_is_chosen_by_its_number_in_the_list_or_its_id() {
        let choice = Choice::of(&[4711, 4712, 90_000]);
        assert!(choice.numbered);
        assert_eq!(choice.answers(), "1 to 3, or a PID");
        assert_eq!(choice.of_answer("1\n"), Some(4711));
        assert_eq!(choice.of_answer(" 3 \n"), Some(90_000));
        assert_eq!(choice.of_answer("4712\n"), Some(4712));
        for odd in ["", "\n", "0", "4", "-1", "q", "4713", "99999999999"] {
            assert_eq!(choice.of_answer(odd), None, "{odd:?}");
        }
    }

    #[test]
    fn enter_takes_the_only_one() {
        let choice = Choice::of(&[4711]);
        assert!(!choice.numbered);
        assert_eq!(choice.answers(), "Enter: 4711");
        assert_eq!(choice.of_answer("\n"), Some(4711));
        assert_eq!(choice.of_answer("4711\n"), Some(4711));
        assert_eq!(choice.of_answer("1\n"), None);
    }

    /// In a container Node.js is often process 1.
    #[test]
    fn no_number_has_two_meanings() {
        let choice = Choice::of(&[1, 35]);
        assert!(!choice.numbered);
        assert_eq!(choice.answers(), "a PID");
        assert_eq!(choice.of_answer("1\n"), Some(1));
        assert_eq!(choice.of_answer("2\n"), None);
    }
}
