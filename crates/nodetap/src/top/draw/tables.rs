//! The tables of functions, packages and threads.

use ratatui::layout::Rect;
use ratatui::style::Style;

use super::{Canvas, cut_begin, percent};
use crate::top::facts::Snapshot;
use crate::top::state::{Range, State, Tab};
use crate::top::table::{self, Column};
use crate::top::tally::{Count, Usage};

/// From this width on there is room for percentages and numbers.
const WIDE: u16 = 120;
/// From this width on there is room for both the last second and all.
const BOTH: u16 = 50;

/// A column of numbers.
struct Numbers {
    title: &'static str,
    width: u16,
    sort: Column,
    text: fn(&Usage, &Count) -> String,
}

const OWN_RECENT: Numbers = Numbers {
    title: "self%",
    width: 6,
    sort: Column::OwnRecent,
    text: |usage, all| percent(usage.own.recent, all.recent),
};
const TOTAL_RECENT: Numbers = Numbers {
    title: "total%",
    width: 7,
    sort: Column::TotalRecent,
    text: |usage, all| percent(usage.total.recent, all.recent),
};
const OWN_ALL: Numbers = Numbers {
    title: "self%",
    width: 8,
    sort: Column::OwnAll,
    text: |usage, all| percent(usage.own.all, all.all),
};
const TOTAL_ALL: Numbers = Numbers {
    title: "total%",
    width: 7,
    sort: Column::TotalAll,
    text: |usage, all| percent(usage.total.all, all.all),
};
const OWN_RECENT_N: Numbers = Numbers {
    title: "self",
    width: 6,
    sort: Column::OwnRecent,
    text: |usage, _| usage.own.recent.to_string(),
};
const TOTAL_RECENT_N: Numbers = Numbers {
    title: "total",
    width: 7,
    sort: Column::TotalRecent,
    text: |usage, _| usage.total.recent.to_string(),
};
const OWN_ALL_N: Numbers = Numbers {
    title: "self",
    width: 9,
    sort: Column::OwnAll,
    text: |usage, _| usage.own.all.to_string(),
};
const TOTAL_ALL_N: Numbers = Numbers {
    title: "total",
    width: 9,
    sort: Column::TotalAll,
    text: |usage, _| usage.total.all.to_string(),
};

/// The columns of numbers that there is room for: those of the last second, and those
/// since the start.
fn columns(width: u16, state: &State) -> [Vec<Numbers>; 2] {
    match (width, state.samples, state.range) {
        (WIDE.., ..) => [
            vec![OWN_RECENT, TOTAL_RECENT, OWN_RECENT_N, TOTAL_RECENT_N],
            vec![OWN_ALL, TOTAL_ALL, OWN_ALL_N, TOTAL_ALL_N],
        ],
        (BOTH.., false, _) => [vec![OWN_RECENT, TOTAL_RECENT], vec![OWN_ALL, TOTAL_ALL]],
        (BOTH.., true, _) => [
            vec![OWN_RECENT_N, TOTAL_RECENT_N],
            vec![OWN_ALL_N, TOTAL_ALL_N],
        ],
        (..BOTH, false, Range::Recent) => [vec![OWN_RECENT], vec![]],
        (..BOTH, false, Range::All) => [vec![], vec![OWN_ALL]],
        (..BOTH, true, Range::Recent) => [vec![OWN_RECENT_N], vec![]],
        (..BOTH, true, Range::All) => [vec![], vec![OWN_ALL_N]],
    }
}

/// Draws the table of functions or of packages.
pub fn draw(canvas: &mut Canvas<'_>, area: Rect, shown: &Snapshot, state: &mut State) {
    let colours = canvas.colours;
    let groups = columns(area.width, state);
    let numbers: u16 = groups.iter().flatten().map(|it| it.width).sum();
    let names = numbers + 2;
    let room = area.width.saturating_sub(names);
    let (name_width, place_width) = match (state.tab, room) {
        (Tab::Functions, 24..) => (room * 9 / 20, room - room * 9 / 20 - 1),
        _ => (room, 0),
    };
    let place_at = names + name_width + 1;

    let head = heading_height(area.height);
    let (group_y, title_y) = (head.checked_sub(2), head.checked_sub(1));
    if let Some(y) = group_y {
        let mut x = 0;
        for (title, group) in ["last second", "since start"].into_iter().zip(&groups) {
            x += group.iter().map(|it| it.width).sum::<u16>();
            if !group.is_empty() {
                // Where its columns are too narrow for it, it goes beyond them.
                let end = x.max(title.len() as u16);
                canvas.put_right(area, end, y, area.width, title, colours.dim());
            }
        }
    }
    if let Some(y) = title_y {
        let title_style = |column| match column == state.sort {
            true => colours.inverse(),
            false => colours.dim(),
        };
        let mut x = 0;
        for column in groups.iter().flatten() {
            x += column.width;
            canvas.put_right(
                area,
                x,
                y,
                column.width,
                column.title,
                title_style(column.sort),
            );
        }
        let name = match state.tab {
            Tab::Packages => "package",
            _ => "function",
        };
        canvas.put(area, names, y, name_width, name, title_style(Column::Name));
        if place_width > 0 {
            let style = title_style(Column::Place);
            canvas.put(area, place_at, y, place_width, "file:line", style);
        }
    }

    let lines = table::lines(shown, state);
    let body = below(area, head);
    let first = scroll(body, lines.len(), state);
    let samples = shown.facts.samples;
    for (y, (index, line)) in (0..body.height).zip(lines.iter().enumerate().skip(first)) {
        let mut x = 0;
        for column in groups.iter().flatten() {
            x += column.width;
            let text = (column.text)(&line.usage, &samples);
            let style = match text.trim_start_matches(['0', '.']).is_empty() {
                true => colours.dim(),
                false => Style::new(),
            };
            canvas.put_right(body, x, y, column.width, &text, style);
        }
        canvas.put(
            body,
            names,
            y,
            name_width,
            line.name,
            colours.name(line.origin),
        );
        let place = cut_begin(line.place, place_width.into());
        canvas.put(body, place_at, y, place_width, &place, colours.dim());
        mark(canvas, body, y, index, state);
    }
    if lines.is_empty() {
        canvas.put(body, 0, 0, body.width, nothing(shown, state), colours.dim());
    }
}

/// Draws the table of threads.
pub fn draw_threads(canvas: &mut Canvas<'_>, area: Rect, shown: &Snapshot, state: &mut State) {
    const NUMBERS: [(&str, u16, Column); 4] = [
        ("CPU%", 6, Column::Cpu),
        ("last s", 7, Column::Recent),
        ("samples", 10, Column::All),
        ("TID", 9, Column::Tid),
    ];
    let colours = canvas.colours;
    let numbers: &[(&str, u16, Column)] = match area.width {
        BOTH.. => &NUMBERS,
        _ => &NUMBERS[..1],
    };
    let names = numbers.iter().map(|it| it.1).sum::<u16>() + 2;
    let room = area.width.saturating_sub(names);
    let name_width = room.min(17);
    let (hot_at, hot_width) = (names + name_width + 1, room.saturating_sub(name_width + 1));

    let head = heading_height(area.height).min(1);
    if let Some(y) = head.checked_sub(1) {
        let title_style = |column| match column == state.thread_sort {
            true => colours.inverse(),
            false => colours.dim(),
        };
        let mut x = 0;
        for &(title, width, column) in numbers {
            x += width;
            canvas.put_right(area, x, y, width, title, title_style(column));
        }
        canvas.put(
            area,
            names,
            y,
            name_width,
            "thread",
            title_style(Column::Name),
        );
        canvas.put(area, hot_at, y, hot_width, "most on top", colours.dim());
    }
    let lines = table::threads(shown, state);
    let body = below(area, head);
    let first = scroll(body, lines.len(), state);
    for (y, (index, line)) in (0..body.height).zip(lines.iter().enumerate().skip(first)) {
        let texts = [
            line.cpu
                .map_or_else(|| "-".to_owned(), |cpu| format!("{cpu:.1}")),
            line.samples.recent.to_string(),
            line.samples.all.to_string(),
            line.tid.to_string(),
        ];
        let mut x = 0;
        for ((_, width, _), text) in numbers.iter().zip(&texts) {
            x += width;
            canvas.put_right(body, x, y, *width, text, Style::new());
        }
        let name = match line.tid == line.pid {
            true => "main thread",
            false => line.name,
        };
        canvas.put(body, names, y, name_width, name, colours.bold());
        if let Some((name, place, origin)) = line.hottest {
            let x = canvas.put(body, hot_at, y, hot_width, name, colours.name(origin)) + 1;
            let rest = body.width.saturating_sub(x);
            canvas.put(
                body,
                x,
                y,
                rest,
                &cut_begin(place, rest.into()),
                colours.dim(),
            );
        }
        mark(canvas, body, y, index, state);
    }
    if lines.is_empty() {
        canvas.put(body, 0, 0, body.width, nothing(shown, state), colours.dim());
    }
}

fn heading_height(height: u16) -> u16 {
    match height {
        0..=1 => 0,
        2..=4 => 1,
        _ => 2,
    }
}

fn below(area: Rect, head: u16) -> Rect {
    Rect {
        y: area.y + head,
        height: area.height - head,
        ..area
    }
}

/// The first line that is drawn, so that the selected one is.
fn scroll(body: Rect, lines: usize, state: &mut State) -> usize {
    state.page = usize::from(body.height).max(1);
    state.line = state.line.min(lines.saturating_sub(1));
    (state.line + 1).saturating_sub(state.page)
}

/// Marks the selected line, once somebody has moved away from the first one.
fn mark(canvas: &mut Canvas<'_>, body: Rect, y: u16, index: usize, state: &State) {
    if index == state.line && state.line > 0 {
        let style = canvas.colours.inverse();
        canvas.line(body, y, style);
    }
}

/// Why a table has no lines.
fn nothing(shown: &Snapshot, state: &State) -> &'static str {
    match (state.filter.is_empty(), shown.facts.samples.all) {
        (_, 0) => " no samples yet: the process has used no CPU time",
        (false, _) => " nothing passes the filter",
        (true, _) => "",
    }
}
