//! `nodetap ps`: the Node.js processes of this machine.

use std::collections::{BTreeSet, HashMap};
use std::io::{self, IsTerminal, Write};
use std::thread::sleep;
use std::time::{Duration, Instant};

use clap::Args;
use nodetap_sampler::discover::{NodeProcess, Obstacle, cpu_time, node_processes};
use nodetap_sampler::ebpf::EbpfSampler;
use nodetap_sampler::ptrace;
use rustix::termios::tcgetwinsize;

use crate::failure::{Failure, Result, reason};
use crate::permissions;
use crate::permissions::observer::Observer;
use crate::permissions::remedy::{Task, remedy};
use crate::permissions::rules::{Access, Obstacle as Refusal};
use crate::terminal::{self, Style, colours, one_line};

/// List the Node.js processes of this machine.
///
/// For each: its id, the versions of Node.js and V8, how many threads it has,
/// how much of a CPU it uses now, whether it can be profiled by this user (and
/// if not, why), and its command line.
#[derive(Debug, Args)]
pub struct Arguments {}

/// Over how long the CPU use is measured.
const WINDOW: Duration = Duration::from_millis(200);

/// Lists them.
pub fn run(_: &Arguments) -> Result<()> {
    if let Some(failure) = permissions::pids::failure_of_foreign_proc() {
        return Err(failure);
    }
    let processes = node_processes()
        .map_err(|error| Failure::new(format_args!("cannot read /proc: {}", reason(&error))))?;
    if processes.is_empty() {
        terminal::note("no Node.js process is running that can be seen from here");
        terminal::hint("processes of other PID namespaces (containers, the host) stay unseen");
        return Ok(());
    }
    let usage = measure_cpu(&processes);
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
    let rows: Vec<Row> = processes
        .iter()
        .map(|process| {
            let usage = usage.get(&process.pid).copied();
            Row::of(process, usage, sampler, refused.get(&process.pid))
        })
        .collect();

    let stdout = io::stdout();
    let width = match stdout.is_terminal() {
        true => tcgetwinsize(&stdout).ok().map(|size| size.ws_col.into()),
        false => None,
    };
    let table = render(&rows, width, colours(&stdout));
    stdout
        .lock()
        .write_all(table.as_bytes())
        .map_err(|error| Failure::of_stdout(&error))?;
    if !sampler {
        terminal::hint("'nodetap doctor' says why nothing can be profiled by this user");
    } else {
        // Each once, though it may be in the way of many.
        let hints = refused
            .values()
            .filter_map(|it| remedy(it, &us, Task::Attach));
        for hint in hints.collect::<BTreeSet<_>>() {
            terminal::hint(hint);
        }
    }
    Ok(())
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

/// The table, cut to `width` columns where that is given.
fn render(rows: &[Row], width: Option<usize>, colours: bool) -> String {
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
    let before: usize = widths.iter().map(|width| width + 2).sum();
    // However narrow the terminal, something of the command is to be seen.
    let for_command = width.map(|width| width.saturating_sub(before).max(16));
    let mut table = String::new();
    for (index, row) in all().enumerate() {
        let mut line = String::new();
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
            render(&rows(), None, false),
            "  PID  NODE      V8                   THREADS  CPU %  PROFILE                                 COMMAND\n\
             \x20   7  v24.21.0  13.6.233.17-node.53       11  100.0  yes                                     node a long\\nscript.js\n\
             32642  v24.21.0  13.6.233.17-node.53       11      -  no: belongs to root                     node a long\\nscript.js\n\
             \x20  12  v24.21.0  13.6.233.17-node.53       11    0.0  no: neither eBPF nor ptrace works here  node a long\\nscript.js\n"
        );
    }

    #[test]
    fn a_terminal_gets_what_fits_but_something_of_the_command() {
        let table = render(&rows()[..1], Some(40), false);
        let line = table.lines().nth(1).unwrap();
        assert!(line.ends_with("yes      node a long\\nsc…"), "{line}");
        let coloured = render(&rows()[..1], None, true);
        assert!(coloured.contains("\x1b[32myes    \x1b[0m"), "{coloured}");
    }
}
