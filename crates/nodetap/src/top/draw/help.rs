//! What the keys do.

use ratatui::layout::Rect;

use super::Canvas;

const KEYS: [(&str, &str); 17] = [
    ("q, Esc, Ctrl-C", "quit"),
    ("p", "packages, or back to functions"),
    ("t", "threads"),
    ("f", "flame graph: what called what"),
    (
        "/",
        "only what has a text in its name or file; Esc: everything",
    ),
    (
        "space",
        "hold what is shown, or go on (samples are taken all the time)",
    ),
    ("< >", "sort by the column to the left or right"),
    ("i", "the smallest first"),
    ("Tab", "by the last second, or since the start"),
    (
        "n",
        "numbers of samples instead of percent, in a narrow window",
    ),
    ("r", "begin to count anew"),
    (
        "arrows, PgUp, PgDn",
        "through the lines; in the flame graph: select",
    ),
    (
        "Enter",
        "flame graph: give the selected call the whole width",
    ),
    (
        "u, Backspace",
        "flame graph: one call back towards the start",
    ),
    ("self", "samples with the function on top of the stack"),
    ("total", "samples with it anywhere on the stack"),
    (
        "event loop delay",
        "how long an event waits until the main thread takes it",
    ),
];

/// Draws them.
pub fn draw(canvas: &mut Canvas<'_>, area: Rect) {
    let colours = canvas.colours;
    let width = KEYS.iter().map(|(key, _)| key.len()).max().unwrap_or(0) as u16;
    for (y, (key, what)) in (0..area.height).zip(KEYS) {
        canvas.put(area, 1, y, width, key, colours.key());
        canvas.put(
            area,
            width + 3,
            y,
            area.width,
            what,
            ratatui::style::Style::new(),
        );
    }
}
