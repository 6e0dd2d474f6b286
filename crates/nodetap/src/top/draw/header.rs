//! The lines above and below: what is looked at, and how it is.

use std::time::Duration;

use ratatui::layout::Rect;

use super::Canvas;
use crate::top::facts::Facts;
use crate::top::state::{Range, State, Tab};

/// Draws the lines about the processes: as many as there is room for.
pub fn draw(canvas: &mut Canvas<'_>, area: Rect, facts: &Facts, state: &State) {
    let colours = canvas.colours;
    let clock = clock(facts.elapsed);
    let clock_at = area.width.saturating_sub(clock.len() as u16);
    let name_width = clock_at.saturating_sub(1);
    canvas.put(area, 0, 0, name_width, &processes(facts), colours.bold());
    canvas.put(area, clock_at, 0, area.width, &clock, colours.dim());
    let lines = [sampling(facts), summary(facts, state), event_loop(facts)];
    for (y, (line, is_warning)) in (1..).zip(lines) {
        let style = match is_warning {
            true => colours.warning(),
            false => ratatui::style::Style::new(),
        };
        canvas.put(area, 0, y, area.width, &line, style);
    }
}

fn processes(facts: &Facts) -> String {
    match &facts.processes[..] {
        [process] => {
            let node = process
                .node
                .as_deref()
                .map_or_else(String::new, |version| format!(", Node.js {version}"));
            let command = match process.command.as_str() {
                "" => String::new(),
                command => format!(": {command}"),
            };
            format!("pid {}{node}{command}", process.pid)
        }
        several => {
            let pids: Vec<String> = several.iter().map(|it| it.pid.to_string()).collect();
            format!("{} processes: {}", several.len(), pids.join(", "))
        }
    }
}

/// Hours, minutes and seconds.
fn clock(elapsed: Duration) -> String {
    let seconds = elapsed.as_secs();
    let (hours, minutes, seconds) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    match hours {
        0 => format!("{minutes}:{seconds:02}"),
        _ => format!("{hours}:{minutes:02}:{seconds:02}"),
    }
}

fn sampling(facts: &Facts) -> (String, bool) {
    let mut line = match facts.cpu_use() {
        Some((all, main)) => format!("CPU {all:.0} %, main thread {main:.0} %; "),
        None => String::new(),
    };
    line += &format!(
        "{} samples at {} Hz ({}), {} lost",
        facts.samples.all, facts.rate_hz, facts.sampler, facts.lost
    );
    if facts.truncated > 0 {
        line += &format!(", {} truncated", facts.truncated);
    }
    (line, facts.lost > 0)
}

fn summary(facts: &Facts, state: &State) -> (String, bool) {
    let [recent, all] = &facts.summary;
    let lines = match state.range {
        Range::Recent => recent,
        Range::All => all,
    };
    let line = match lines.is_empty() {
        true => "main thread: no CPU time".to_owned(),
        false => lines.join("; "),
    };
    (line, false)
}

fn event_loop(facts: &Facts) -> (String, bool) {
    /// What people notice.
    const LATE: Duration = Duration::from_millis(100);
    let Some(busy) = facts.event_loop() else {
        return (String::new(), false);
    };
    let [now, recent, all] = [busy.now, busy.recent, busy.all].map(|it| it.as_millis());
    let line = format!(
        "event loop delay: {now} ms now, {recent} ms at most in the last second, {all} ms ever"
    );
    (line, busy.recent >= LATE)
}

/// Draws the names of what can be looked at.
pub fn draw_tabs(canvas: &mut Canvas<'_>, area: Rect, state: &State) {
    let colours = canvas.colours;
    let tabs = [
        (Tab::Functions, "functions", ""),
        (Tab::Packages, "packages", "p"),
        (Tab::Threads, "threads", "t"),
        (Tab::Flame, "flame graph", "f"),
    ];
    let mut x = 0;
    for (tab, name, key) in tabs {
        let style = match tab == state.tab {
            true => colours.inverse(),
            false => ratatui::style::Style::new(),
        };
        if !key.is_empty() {
            x = canvas.put(area, x, 0, 2, key, colours.key()) + 1;
        }
        x = canvas.put(area, x, 0, area.width, &format!(" {name} "), style) + 2;
    }
    let note = match (state.paused, state.filter.is_empty() && !state.typing) {
        (true, _) => "paused".to_owned(),
        (false, false) => format!("only: {}", state.filter),
        (false, true) => String::new(),
    };
    let room = area.width.saturating_sub(x);
    if !note.is_empty() {
        canvas.put_right(area, area.width, 0, room, &note, colours.warning());
    }
}

/// Draws the last line: what keys do, or what is typed, or that it is over.
pub fn draw_foot(canvas: &mut Canvas<'_>, area: Rect, facts: &Facts, state: &State) {
    let colours = canvas.colours;
    if state.typing {
        let line = format!("filter: {}▏", state.filter);
        canvas.put(area, 0, 0, area.width, &line, colours.bold());
        return;
    }
    let mut x = 0;
    if facts.are_final() {
        let end = match &facts.processes[..] {
            [process] => format!(
                "process {} {}",
                process.pid,
                process.end.unwrap_or_default()
            ),
            _ => "all processes have ended".to_owned(),
        };
        x = canvas.put(area, 0, 0, area.width, &end, colours.warning()) + 2;
    }
    let of_tab: &[(&str, &str)] = match (state.help, state.tab) {
        (true, _) => &[("any key", "back")],
        (false, Tab::Flame) => &[
            ("?", "help"),
            ("q", "quit"),
            ("space", "pause"),
            ("arrows", "select"),
            ("Enter", "zoom"),
            ("u", "up"),
            ("Tab", "range"),
            ("/", "filter"),
        ],
        (false, _) => &[
            ("?", "help"),
            ("q", "quit"),
            ("space", "pause"),
            ("/", "filter"),
            ("< >", "sort"),
            ("n", "numbers"),
            ("r", "reset"),
            ("Tab", "range"),
        ],
    };
    for (key, what) in of_tab {
        let length = (key.len() + what.len() + 1) as u16;
        if x + length > area.width {
            break;
        }
        x = canvas.put(area, x, 0, area.width, key, colours.key()) + 1;
        x = canvas.put(area, x, 0, area.width, what, colours.dim()) + 2;
    }
}
