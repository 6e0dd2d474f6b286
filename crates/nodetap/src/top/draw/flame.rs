//! The flame graph, in characters.

use nodetap_profile::Origin;
use ratatui::layout::Rect;
use ratatui::style::Modifier;
use unicode_width::UnicodeWidthStr;

use super::{Canvas, Colours, percent};
use crate::top::facts::Snapshot;
use crate::top::flame::Cell;
use crate::top::state::{Range, State};

/// Draws it, with a line about the selected call above and one about the colours below.
pub fn draw(canvas: &mut Canvas<'_>, area: Rect, shown: &Snapshot, state: &State) {
    let (above, below) = match area.height {
        0..=2 => (0, 0),
        3..=7 => (1, 0),
        _ => (1, 1),
    };
    let field = Rect {
        y: area.y + above,
        height: area.height - above - below,
        ..area
    };
    let tally = &shown.tally;
    let picture = state
        .flame
        .picture(tally, state.range, field.width, field.height);
    let colours = canvas.colours;
    let cells = picture.rows.iter().flatten();
    let selected = cells.clone().find(|cell| cell.selected);
    if above > 0 {
        let line = about(selected, shown, picture.samples, state);
        canvas.put(area, 0, 0, area.width, &line, colours.bold());
    }
    for (y, row) in (0..field.height).zip(&picture.rows) {
        for (index, cell) in row.iter().enumerate() {
            draw_cell(canvas, field, y, index, cell, shown, state);
        }
    }
    if below > 0 {
        let y = area.height - 1;
        let mut x = 0;
        for origin in Origin::ALL {
            let is_met = picture.rows.iter().flatten().any(|cell| {
                let function = cell
                    .function
                    .and_then(|it| tally.functions().get(it as usize));
                function.is_some_and(|function| function.origin == origin)
            });
            if is_met && colours == Colours::Sixteen {
                let name = format!(" {} ", origin.name());
                if x + name.len() as u16 > area.width {
                    break;
                }
                x = canvas.put(area, x, y, area.width, &name, colours.cell(origin, true)) + 1;
            }
        }
    }
}

/// What the selected call is.
fn about(selected: Option<&Cell>, shown: &Snapshot, samples: u64, state: &State) -> String {
    let range = match state.range {
        Range::Recent => "last second",
        Range::All => "since start",
    };
    let Some(cell) = selected.filter(|_| samples > 0) else {
        return format!("{range}: no samples");
    };
    let name = match cell
        .function
        .and_then(|it| shown.tally.functions().get(it as usize))
    {
        Some(function) => format!("{} {}", function.name, function.place),
        None => "all threads".to_owned(),
    };
    format!(
        "{range}: {} % in {}, {} % itself",
        percent(cell.total, samples),
        name.trim_end(),
        percent(cell.own, samples)
    )
}

fn draw_cell(
    canvas: &mut Canvas<'_>,
    field: Rect,
    y: u16,
    index: usize,
    cell: &Cell,
    shown: &Snapshot,
    state: &State,
) {
    let colours = canvas.colours;
    let function = cell
        .function
        .and_then(|it| shown.tally.functions().get(it as usize));
    let (name, place, origin) = match function {
        Some(function) => (&*function.name, &*function.place, function.origin),
        None => ("all", "", Origin::Unknown),
    };
    let mut style = colours.cell(origin, index % 2 == 1);
    if !state.filter.is_empty() && !state.passes(name, place) {
        style = colours.dim();
    }
    if cell.selected {
        style = style.add_modifier(Modifier::REVERSED | Modifier::BOLD);
    }
    // Without colours a line divides neighbours.
    let text = match colours {
        Colours::None => format!("|{name}"),
        Colours::Sixteen => name.to_owned(),
    };
    let width = cell.width;
    let text = match (width, text.width() <= width.into()) {
        // A letter or two say nothing.
        (..=3, false) => text.chars().filter(|&it| it == '|').take(1).collect(),
        _ => text,
    };
    let blank = " ".repeat(width.into());
    canvas.put(field, cell.x, y, width, &blank, style);
    canvas.put(field, cell.x, y, width, &text, style);
}
