//! The Node.js processes that can be seen from here, as a table for people.

use std::collections::{BTreeSet, HashMap};
use std::thread::sleep;
use std::time::{Duration, Instant};

use nodetap_sampler::discover::{NodeProcess, Obstacle, cpu_time, node_processes};
use nodetap_sampler::ebpf::EbpfSampler;
use nodetap_sampler::ptrace;

use crate::failure::{Failure, Result, reason};
use crate::permissions;
use crate::permissions::observer::Observer;
use crate::permissions::remedy::{Task, remedy};
use crate::permissions::rules::{Access, Obstacle as Refusal};
use crate::terminal::{Style, one_line};

/// What is said where there are none.
pub const NONE_SEEN: &str = "no Node.js process is running that can be seen from here";

/// Over how long the CPU use is measured.
const WINDOW: Duration = Duration::from_millis(200);

/// Those that there were when this was made.
pub struct Processes {
    pids: Vec<u32>,
    rows: Vec<Row>,
    hints: BTreeSet<String>,
}

impl Processes {
    /// Looks for them, and at what they do for a moment.
    ///
    /// # Errors
    /// Where `/proc` is not readable, or tells of other processes than ours.
    pub fn look() -> Result<Processes> {
        if let Some(failure) = permissions::pids::failure_of_foreign_proc() {
            return Err(failure);
        }
        let processes = node_processes()
            .map_err(|error| Failure::new(format_args!("cannot read /proc: {}", reason(&error))))?;
        let usage = match processes.is_empty() {
            true => HashMap::new(),
            false => measure_cpu(&processes),
        };
        let sampler = EbpfSampler::probe().is_ok() || ptrace::probe().is_ok();
        let us = Observer::gather();
        let refused: HashMap<u32, Refusal> = processes
            .iter()
            .filter(|process| process.obstacle == Some(Obstacle::Permission))
            .filter_map(|process| {
                let obstacle = permissions::obstacle(&us, process.pid, Access::Read)?;
                Some((process.pid, obstacle))
            })
            .collect();
        let row = |process: &NodeProcess| {
            let usage = usage.get(&process.pid).copied();
            Row::of(process, usage, sampler, refused.get(&process.pid))
        };
        let hints = match sampler {
            false => BTreeSet::from([
                "'nodetap doctor' says why nothing can be profiled by this user".to_owned(),
            ]),
            // Each once, though it may be in the way of many.
            true => refused
                .values()
                .filter_map(|it| remedy(it, &us, Task::Attach))
                .collect(),
        };
        Ok(Processes {
            pids: processes.iter().map(|process| process.pid).collect(),
            rows: processes.iter().map(row).collect(),
            hints,
        })
    }

    /// Whether there are none.
    pub fn are_none(&self) -> bool {
        self.pids.is_empty()
    }

    /// Their ids, in the order of the table.
    pub fn pids(&self) -> &[u32] {
        &self.pids
    }

    /// What would help with those that cannot be profiled.
    pub fn hints(&self) -> &BTreeSet<String> {
        &self.hints
    }

    /// The table, cut to `width` columns where that is given; its rows begin with their
    /// numbers, if that is asked for.
    pub fn table(&self, numbered: bool, width: Option<usize>, colours: bool) -> String {
        render(&self.rows, numbered, width, colours)
    }
}

/// How many percent of one CPU each process uses now.
fn measure_cpu(processes: &[NodeProcess]) -> HashMap<u32, f64> {
    let measure = || -> HashMap<u32, (Instant, Duration)> {
        processes
            .iter()
            .filter_map(|process| Some((process.pid, (Instant::now(), cpu_time(process.pid)?))))
            .collect()
    };
    let before = measure();
    sleep(WINDOW);
    let after = measure();
    after
        .into_iter()
        .filter_map(|(pid, (end, used))| {
            let (start, used_before) = before.get(&pid)?;
            // Threads that ended took their time with them.
            let used = used.saturating_sub(*used_before);
            let time = end.duration_since(*start);
            Some((pid, 100.0 * used.as_secs_f64() / time.as_secs_f64()))
        })
        .collect()
}

/// One line, as text.
#[derive(Debug, PartialEq, Eq)]
struct Row {
    pid: String,
    node: String,
    v8: String,
    threads: String,
    cpu: String,
    /// `yes`, or why not.
    profile: String,
    command: String,
}

impl Row {
    fn of(
        process: &NodeProcess,
        cpu: Option<f64>,
        sampler: bool,
        refused: Option<&Refusal>,
    ) -> Row {
        let known = |text: &Option<String>| text.clone().unwrap_or_else(|| "-".to_owned());
        let profile = match (&process.obstacle, refused) {
            (Some(_), Some(refused)) => format!("no: {}", refused.in_short()),
            (Some(obstacle), None) => format!("no: {obstacle}"),
            (None, _) if !sampler => "no: neither eBPF nor ptrace works here".to_owned(),
            (None, _) => "yes".to_owned(),
        };
        Row {
            pid: process.pid.to_string(),
            node: known(&process.node),
            v8: known(&process.v8),
            threads: process.threads.to_string(),
            cpu: cpu.map_or_else(|| "-".to_owned(), |percent| format!("{percent:.1}")),
            profile,
            command: one_line(&process.command.join(" ")).into_owned(),
        }
    }

    /// All cells but the command, with whether they are aligned to the right.
    fn cells(&self) -> [(&str, bool); 6] {
        [
            (&self.pid, true),
            (&self.node, false),
            (&self.v8, false),
            (&self.threads, true),
            (&self.cpu, true),
            (&self.profile, false),
        ]
    }
}

/// The table, cut to `width` columns where that is given; its rows begin with their
/// numbers from 1 on, if that is asked for.
fn render(rows: &[Row], numbered: bool, width: Option<usize>, colours: bool) -> String {
    let heading = Row {
        pid: "PID".to_owned(),
        node: "NODE".to_owned(),
        v8: "V8".to_owned(),
        threads: "THREADS".to_owned(),
        cpu: "CPU %".to_owned(),
        profile: "PROFILE".to_owned(),
        command: "COMMAND".to_owned(),
    };
    let all = || std::iter::once(&heading).chain(rows);
    let mut widths = [0; 6];
    for row in all() {
        for (widest, (text, _)) in widths.iter_mut().zip(row.cells()) {
            *widest = text.chars().count().max(*widest);
        }
    }
    let for_numbers = match numbered {
        true => rows.len().to_string().len() + 2,
        false => 0,
    };
    let before: usize = for_numbers + widths.iter().map(|width| width + 2).sum::<usize>();
    // However narrow the terminal, something of the command is to be seen.
    let for_command = width.map(|width| width.saturating_sub(before).max(16));
    let mut table = String::new();
    for (index, row) in all().enumerate() {
        let mut line = match (numbered, index) {
            (false, _) => String::new(),
            (true, 0) => format!("{:1$}", "", for_numbers),
            (true, number) => format!("{number:>0$}  ", for_numbers - 2),
        };
        for (column, (text, right)) in row.cells().into_iter().enumerate() {
            let width = widths[column];
            let cell = match right {
                true => format!("{text:>width$}"),
                false => format!("{text:<width$}"),
            };
            let style = match (index, column) {
                (0, _) => Some(Style::Bold),
                (_, 5) if text == "yes" => Some(Style::Green),
                (_, 5) => Some(Style::Yellow),
                _ => None,
            };
            line += &style.map_or(cell.clone(), |style| style.paint(cell, colours));
            line += "  ";
        }
        let command = cut(&row.command, for_command);
        line += &match index {
            0 => Style::Bold.paint(command, colours),
            _ => command,
        };
        table += line.trim_end();
        table.push('\n');
    }
    table
}

fn cut(text: &str, width: Option<usize>) -> String {
    match width {
        Some(width) if text.chars().count() > width => {
            text.chars().take(width - 1).chain(['…']).collect()
        }
        _ => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn process(pid: u32, obstacle: Option<Obstacle>) -> NodeProcess {
        NodeProcess {
            pid,
            command: vec!["node".to_owned(), "a long\nscript.js".to_owned()],
            threads: 11,
            node: Some("v24.21.0".to_owned()),
            v8: Some("13.6.233.17-node.53".to_owned()),
            obstacle,
        }
    }

    fn rows() -> [Row; 3] {
        let denied = process(32642, Some(Obstacle::Permission));
        let not_ours = Refusal::OtherUser {
            owner: "root".to_owned(),
        };
        [
            Row::of(&process(7, None), Some(99.96), true, None),
            Row::of(&denied, None, true, Some(&not_ours)),
            Row::of(&process(12, None), Some(0.0), false, None),
        ]
    }

    #[test]
    fn a_table_in_a_pipe_is_whole_and_plain() {
        assert_eq!(
            render(&rows(), false, None, false),
            "  PID  NODE      V8                   THREADS  CPU %  PROFILE                                 COMMAND\n\
             \x20   7  v24.21.0  13.6.233.17-node.53       11  100.0  yes                                     node a long\\nscript.js\n\
             32642  v24.21.0  13.6.233.17-node.53       11      -  no: belongs to root                     node a long\\nscript.js\n\
             \x20  12  v24.21.0  13.6.233.17-node.53       11    0.0  no: neither eBPF nor ptrace works here  node a long\\nscript.js\n"
        );
    }

    #[test]
    fn a_terminal_gets_what_fits_but_something_of_the_command() {
        let table = render(&rows()[..1], false, Some(40), false);
        let line = table.lines().nth(1).unwrap();
        assert!(line.ends_with("yes      node a long\\nsc…"), "{line}");
        let coloured = render(&rows()[..1], false, None, true);
        assert!(coloured.contains("\x1b[32myes    \x1b[0m"), "{coloured}");
    }

    #[test]
    fn rows_that_are_to_be_chosen_from_have_numbers() {
        let table = render(&rows(), true, None, false);
        let starts: Vec<&str> = table.lines().map(|line| &line[..8]).collect();
        assert_eq!(starts, ["     PID", "1      7", "2  32642", "3     12"]);
    }
}
