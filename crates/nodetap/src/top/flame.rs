//! The flame graph: what of it is shown, and where in a field of characters.

use ratatui::crossterm::event::KeyCode;

use super::state::Range;
use super::tally::{Call, Calls, Count, Tally};

/// What is looked at of a tree of calls.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Place {
    /// The chain of functions to the call that takes the whole width, outermost first.
    zoom: Vec<u32>,
    /// The chain from there to the selected call.
    selected: Vec<u32>,
    /// The numbers that functions have belong to this.
    generation: u32,
}

/// A call as it is drawn.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cell {
    /// Its first column.
    pub x: u16,
    /// How many columns it has, at least 1.
    pub width: u16,
    /// `None` for the root.
    pub function: Option<u32>,
    /// How often it was on top.
    pub own: u64,
    /// How often it was on a stack.
    pub total: u64,
    /// Whether it is selected.
    pub selected: bool,
}

/// A flame graph that hangs from its root.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Picture {
    /// The rows, callers above those they call.
    pub rows: Vec<Vec<Cell>>,
    /// How many samples the whole profile has.
    pub samples: u64,
    /// How many rows above the first one belong to it.
    pub above: usize,
}

fn in_range(count: Count, range: Range) -> u64 {
    match range {
        Range::Recent => count.recent,
        Range::All => count.all,
    }
}

impl Place {
    /// Whether all is shown and nothing is selected.
    pub fn is_whole(&self) -> bool {
        self.zoom.is_empty() && self.selected.is_empty()
    }

    /// Follows functions that were numbered anew: to the whole.
    fn of(&self, tally: &Tally) -> Place {
        match self.generation == tally.generation() {
            true => self.clone(),
            false => Place {
                generation: tally.generation(),
                ..Place::default()
            },
        }
    }

    /// Does what a key asks for.
    pub fn on_key(&mut self, code: KeyCode, tally: &Tally, range: Range) {
        *self = self.of(tally);
        let calls = tally.calls();
        match code {
            KeyCode::Down | KeyCode::Char('j') => {
                let below = children(&calls, &self.call(&calls), range);
                self.selected
                    .extend(below.first().and_then(|it| it.function));
            }
            KeyCode::Up | KeyCode::Char('k') => {
                let _ = self.selected.pop().or_else(|| self.zoom.pop());
            }
            KeyCode::Left | KeyCode::Right => {
                let Some(selected) = self.selected.pop() else {
                    return;
                };
                let siblings = children(&calls, &self.call(&calls), range);
                let at = siblings.iter().position(|it| it.function == Some(selected));
                let next = match (code, at) {
                    (KeyCode::Right, Some(at)) => siblings.get(at + 1),
                    (_, Some(at)) => at.checked_sub(1).and_then(|it| siblings.get(it)),
                    (_, None) => siblings.first(),
                };
                self.selected
                    .push(next.and_then(|it| it.function).unwrap_or(selected));
            }
            KeyCode::Enter => self.zoom.append(&mut self.selected),
            KeyCode::Backspace | KeyCode::Char('u') => {
                let up = self.zoom.pop();
                if let Some(function) = up {
                    self.selected.insert(0, function);
                }
            }
            KeyCode::Home => *self = Place::default().of(tally),
            _ => {}
        }
    }

    /// The selected call, or the outermost one on the way to it that is there.
    fn call(&self, calls: &Calls<'_>) -> Call {
        let path = self.zoom.iter().chain(&self.selected);
        follow(calls, calls.root(), path.copied()).0
    }

    /// Draws it into a field of this size.
    pub fn picture(&self, tally: &Tally, range: Range, width: u16, height: u16) -> Picture {
        let place = self.of(tally);
        let calls = tally.calls();
        let whole = calls.root();
        let samples = in_range(whole.total, range);
        let (root, zoomed) = follow(&calls, whole, place.zoom.iter().copied());
        let total = in_range(root.total, range);
        let mut picture = Picture {
            samples,
            above: zoomed,
            ..Picture::default()
        };
        if total == 0 || width == 0 || height == 0 {
            return picture;
        }
        // Where it begins, in samples; whether the selected chain leads here.
        let mut row = vec![(root, 0, zoomed == place.zoom.len())];
        for depth in 0..usize::from(height) {
            let mut cells = Vec::new();
            let mut below = Vec::new();
            for (call, begin, is_on_path) in row {
                let count = in_range(call.total, range);
                let (width, total) = (u128::from(width), u128::from(total));
                // Rounded: what is nearest to a whole column gets one.
                let column = |at: u64| ((2 * u128::from(at) * width + total) / (2 * total)) as u16;
                let (x, end) = (column(begin), column(begin + count));
                if x == end {
                    continue;
                }
                cells.push(Cell {
                    x,
                    width: end - x,
                    function: call.function,
                    own: in_range(call.own, range),
                    total: count,
                    selected: is_on_path && depth == place.selected.len(),
                });
                let mut at = begin;
                for child in children(&calls, &call, range) {
                    let count = in_range(child.total, range);
                    let is_on_path =
                        is_on_path && child.function == place.selected.get(depth).copied();
                    below.push((child, at, is_on_path));
                    at += count;
                }
            }
            if cells.is_empty() {
                break;
            }
            picture.rows.push(cells);
            row = below;
        }
        picture
    }
}

/// What `call` has called in this range.
fn children(calls: &Calls<'_>, call: &Call, range: Range) -> Vec<Call> {
    let mut children = calls.of(call);
    children.retain(|child| in_range(child.total, range) > 0);
    children
}

/// The call at the end of a chain of functions, as far as it goes, and how far that is.
fn follow(calls: &Calls<'_>, from: Call, path: impl Iterator<Item = u32>) -> (Call, usize) {
    let mut call = from;
    let mut length = 0;
    for function in path {
        let below = calls.of(&call);
        let Some(next) = below.into_iter().find(|it| it.function == Some(function)) else {
            break;
        };
        call = next;
        length += 1;
    }
    (call, length)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::top::testing::server;

    /// Name, first column and width of each cell of each row; the selected one has a star.
    fn rows(place: &Place, range: Range, width: u16, height: u16) -> Vec<Vec<String>> {
        let tally = server().tally;
        let name = |cell: &Cell| {
            let function = cell.function.map(|it| &tally.functions()[it as usize]);
            let name = function.map_or("all", |it| it.name.as_str());
            let star = if cell.selected { "*" } else { "" };
            format!("{name}{star} {}+{}", cell.x, cell.width)
        };
        let picture = place.picture(&tally, range, width, height);
        let row = |row: &Vec<Cell>| row.iter().map(name).collect();
        picture.rows.iter().map(row).collect()
    }

    #[test]
    fn a_call_has_its_share_of_the_width() {
        let place = Place::default();
        assert_eq!(
            rows(&place, Range::Recent, 100, 9),
            [
                vec!["all* 0+100"],
                vec!["emit 0+95", "(v8 worker) 95+5"],
                vec!["handle 0+95"],
                vec!["render 0+70"],
                vec!["(garbage collector) 0+10"],
            ]
        );
        assert_eq!(rows(&place, Range::Recent, 100, 2).len(), 2);
        let [_, row, ..] = &rows(&place, Range::All, 199, 9)[..] else {
            panic!("two rows");
        };
        assert_eq!(*row, ["emit 0+144", "main 144+50", "(v8 worker) 194+5"]);
    }

    #[test]
    fn what_has_no_column_is_left_out() {
        let place = Place::default();
        let narrow = rows(&place, Range::All, 1, 9);
        assert_eq!(
            narrow,
            [["all* 0+1"], ["emit 0+1"], ["handle 0+1"], ["render 0+1"]]
        );
        for size in 0..4 {
            let picture = place.picture(&server().tally, Range::All, size, size);
            assert!(picture.rows.len() <= size.into());
        }
        let nothing = place.picture(&Tally::default(), Range::All, 80, 24);
        assert_eq!(nothing, Picture::default());
    }

    #[test]
    fn keys_go_through_the_calls() {
        let tally = server().tally;
        let mut place = Place::default();
        let mut after = |codes: &[KeyCode]| {
            for &code in codes {
                place.on_key(code, &tally, Range::All);
            }
            rows(&place, Range::All, 100, 2)
        };
        use KeyCode::{Backspace, Down, Enter, Home, Left, Right, Up};
        assert_eq!(
            after(&[Down, Right])[1],
            ["emit 0+72", "main* 72+25", "(v8 worker) 97+3"]
        );
        assert_eq!(after(&[Right, Right])[1][2], "(v8 worker)* 97+3");
        assert_eq!(after(&[Left, Left, Left])[1][0], "emit* 0+72");
        assert_eq!(after(&[Enter]), [["emit* 0+100"], ["handle 0+100"]]);
        assert_eq!(after(&[Down, Enter])[1], ["render 0+69"]);
        assert_eq!(after(&[Down]), [["handle 0+100"], ["render* 0+69"]]);
        // Below the innermost there is nothing.
        assert_eq!(
            after(&[Down, Down, Up, Up]),
            [["handle* 0+100"], ["render 0+69"]]
        );
        assert_eq!(after(&[Backspace]), [["emit 0+100"], ["handle* 0+100"]]);
        assert_eq!(after(&[Up, Up])[0], ["all* 0+100"]);
        assert_eq!(after(&[Down, Enter, Home])[0], ["all* 0+100"]);
    }
}
