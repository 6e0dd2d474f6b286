//! What of it is shown, and how: changed by keys, drawn by [`super::draw`].

use ratatui::crossterm::event::{KeyCode, KeyEvent, KeyModifiers};

use super::facts::Snapshot;
use super::flame;
use super::table::{self, Column};

/// What is looked at.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Tab {
    /// A table of functions.
    #[default]
    Functions,
    /// A table of packages.
    Packages,
    /// A table of threads.
    Threads,
    /// A flame graph.
    Flame,
}

/// Which samples.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Range {
    /// Those of the last second.
    #[default]
    Recent,
    /// All of them.
    All,
}

/// What a key asks the others to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Nothing but to draw anew.
    Draw,
    /// To end.
    Quit,
    /// To hold what is shown, or to let it go on.
    Pause,
    /// To forget what was counted.
    Reset,
    /// To stop as Ctrl-Z does.
    Suspend,
}

/// All of it.
#[derive(Clone, Debug)]
pub struct State {
    /// What is looked at.
    pub tab: Tab,
    /// Which samples a flame graph is of, and the line that sums up.
    pub range: Range,
    /// By what functions and packages are sorted.
    pub sort: Column,
    /// By what threads are.
    pub thread_sort: Column,
    /// Whether the smallest comes first.
    pub reversed: bool,
    /// Only what has this in its name or place.
    pub filter: String,
    /// Whether keys go to the filter.
    pub typing: bool,
    /// Whether the keys are explained.
    pub help: bool,
    /// Whether what is shown is held.
    pub paused: bool,
    /// Whether numbers of samples are shown where there is no room for them beside
    /// percentages.
    pub samples: bool,
    /// Which line of a table is selected.
    pub line: usize,
    /// What the flame graph shows.
    pub flame: flame::Place,
    /// How many lines of a table there is room for.
    pub page: usize,
}

impl Default for State {
    fn default() -> State {
        State {
            tab: Tab::default(),
            range: Range::default(),
            sort: Column::OwnRecent,
            thread_sort: Column::Cpu,
            reversed: false,
            filter: String::new(),
            typing: false,
            help: false,
            paused: false,
            samples: false,
            line: 0,
            flame: flame::Place::default(),
            page: 1,
        }
    }
}

impl State {
    /// Does what a key asks for.
    pub fn on_key(&mut self, key: KeyEvent, shown: &Snapshot) -> Action {
        if key.modifiers.contains(KeyModifiers::CONTROL) {
            return match key.code {
                KeyCode::Char('c' | 'd') => Action::Quit,
                KeyCode::Char('z') => Action::Suspend,
                _ => Action::Draw,
            };
        }
        if self.help {
            self.help = false;
            return Action::Draw;
        }
        if self.typing {
            self.type_filter(key.code);
            return Action::Draw;
        }
        match key.code {
            KeyCode::Char('q') => return Action::Quit,
            KeyCode::Esc if self.filter.is_empty() && self.flame.is_whole() => {
                return Action::Quit;
            }
            KeyCode::Esc => self.step_back(),
            KeyCode::Char('?' | 'h') | KeyCode::F(1) => self.help = true,
            KeyCode::Char(' ') => return Action::Pause,
            KeyCode::Char('r') => return Action::Reset,
            KeyCode::Char('/') => {
                self.typing = true;
                self.filter.clear();
            }
            KeyCode::Char('p') => self.look_at(Tab::Packages),
            KeyCode::Char('t') => self.look_at(Tab::Threads),
            KeyCode::Char('f') => self.look_at(Tab::Flame),
            KeyCode::Char('n') => self.samples = !self.samples,
            KeyCode::Char('i') => self.reversed = !self.reversed,
            KeyCode::Char('<' | ',') => self.sort_by(-1),
            KeyCode::Char('>' | '.' | 's') => self.sort_by(1),
            KeyCode::Char('S') => self.sort_by(-1),
            KeyCode::Tab => self.change_range(),
            code if self.tab == Tab::Flame => self.flame.on_key(code, &shown.tally, self.range),
            code => self.move_line(code, shown),
        }
        Action::Draw
    }

    /// Back from what a filter or a part of the flame graph shows, to everything.
    fn step_back(&mut self) {
        if self.filter.is_empty() {
            self.flame = flame::Place::default();
        }
        self.filter.clear();
    }

    fn look_at(&mut self, tab: Tab) {
        // The same key leads back.
        self.tab = match self.tab == tab {
            true => Tab::Functions,
            false => tab,
        };
        self.line = 0;
    }

    fn type_filter(&mut self, code: KeyCode) {
        match code {
            KeyCode::Enter => self.typing = false,
            KeyCode::Esc => {
                self.typing = false;
                self.filter.clear();
            }
            KeyCode::Backspace => {
                self.filter.pop();
            }
            // No name is longer.
            KeyCode::Char(character) if self.filter.len() < 200 => self.filter.push(character),
            _ => {}
        }
        self.line = 0;
    }

    /// By what the table that is shown is sorted.
    pub fn sorted_by(&self) -> Column {
        match self.tab {
            Tab::Threads => self.thread_sort,
            _ => self.sort,
        }
    }

    fn sort_by(&mut self, step: isize) {
        let columns = table::columns(self.tab);
        let at = columns.iter().position(|&it| it == self.sorted_by());
        let length = columns.len() as isize;
        let next = (at.unwrap_or(0) as isize + step).rem_euclid(length.max(1)) as usize;
        let Some(&column) = columns.get(next) else {
            return;
        };
        match self.tab {
            Tab::Threads => self.thread_sort = column,
            _ => self.sort = column,
        }
        if let Some(range) = column.range() {
            self.range = range;
        }
        self.reversed = false;
        self.line = 0;
    }

    fn change_range(&mut self) {
        self.range = match self.range {
            Range::Recent => Range::All,
            Range::All => Range::Recent,
        };
        self.sort = self.sort.in_range(self.range);
        self.thread_sort = self.thread_sort.in_range(self.range);
    }

    fn move_line(&mut self, code: KeyCode, shown: &Snapshot) {
        let last = table::length(shown, self).saturating_sub(1);
        let line = match code {
            KeyCode::Down | KeyCode::Char('j') => self.line + 1,
            KeyCode::Up | KeyCode::Char('k') => self.line.saturating_sub(1),
            KeyCode::PageDown => self.line + self.page,
            KeyCode::PageUp => self.line.saturating_sub(self.page),
            KeyCode::Home | KeyCode::Char('g') => 0,
            KeyCode::End | KeyCode::Char('G') => last,
            KeyCode::Right => return self.sort_by(1),
            KeyCode::Left => return self.sort_by(-1),
            _ => return,
        };
        self.line = line.min(last);
    }

    /// Whether a name or a place passes the filter.
    pub fn passes(&self, name: &str, place: &str) -> bool {
        if self.filter.is_empty() {
            return true;
        }
        let wanted = self.filter.to_lowercase();
        name.to_lowercase().contains(&wanted) || place.to_lowercase().contains(&wanted)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::top::testing::server;

    fn press(state: &mut State, code: KeyCode) -> Action {
        state.on_key(KeyEvent::new(code, KeyModifiers::NONE), &server())
    }

    fn names(state: &State) -> Vec<String> {
        let shown = server();
        let lines = table::lines(&shown, state);
        lines.iter().map(|line| line.name.to_owned()).collect()
    }

    #[test]
    fn keys_sort() {
        let mut state = State::default();
        assert_eq!(names(&state)[..2], ["render", "handle"]);
        press(&mut state, KeyCode::Char('>'));
        assert_eq!(state.sort, Column::TotalRecent);
        assert_eq!(names(&state)[..2], ["handle", "emit"]);
        press(&mut state, KeyCode::Tab);
        assert_eq!((state.sort, state.range), (Column::TotalAll, Range::All));
        assert_eq!(names(&state).last().unwrap(), "(v8 worker)");
        press(&mut state, KeyCode::Char('i'));
        assert_eq!(names(&state)[0], "(v8 worker)");
        press(&mut state, KeyCode::Right);
        assert_eq!((state.sort, state.reversed), (Column::Name, false));
        assert_eq!(names(&state)[0], "(garbage collector)");
        for _ in 0..2 {
            press(&mut state, KeyCode::Char('>'));
        }
        assert_eq!(
            (state.sort, state.range),
            (Column::OwnRecent, Range::Recent)
        );
        press(&mut state, KeyCode::Left);
        assert_eq!(state.sort, Column::Place);
    }

    #[test]
    fn a_filter_is_typed() {
        let mut state = State::default();
        press(&mut state, KeyCode::Char('/'));
        for character in "EJSq".chars() {
            assert_eq!(press(&mut state, KeyCode::Char(character)), Action::Draw);
        }
        assert!(names(&state).is_empty());
        press(&mut state, KeyCode::Backspace);
        assert_eq!(names(&state), ["render"]);
        press(&mut state, KeyCode::Enter);
        assert!(!state.typing);
        assert_eq!(press(&mut state, KeyCode::Esc), Action::Draw);
        assert_eq!(names(&state).len(), 6);
        assert_eq!(press(&mut state, KeyCode::Esc), Action::Quit);
    }

    #[test]
    fn every_way_out_and_aside() {
        let control = |state: &mut State, character| {
            let key = KeyEvent::new(KeyCode::Char(character), KeyModifiers::CONTROL);
            state.on_key(key, &server())
        };
        let mut state = State::default();
        assert_eq!(press(&mut state, KeyCode::Char('q')), Action::Quit);
        assert_eq!(press(&mut state, KeyCode::Char(' ')), Action::Pause);
        assert_eq!(press(&mut state, KeyCode::Char('r')), Action::Reset);
        // In whatever it is.
        press(&mut state, KeyCode::Char('/'));
        assert_eq!(control(&mut state, 'c'), Action::Quit);
        assert_eq!(control(&mut state, 'z'), Action::Suspend);
        press(&mut state, KeyCode::Esc);
        press(&mut state, KeyCode::Char('?'));
        assert!(state.help);
        assert_eq!(press(&mut state, KeyCode::Char('q')), Action::Draw);
        assert!(!state.help);
    }

    #[test]
    fn lines_are_gone_through_to_their_ends() {
        let mut state = State {
            page: 2,
            ..State::default()
        };
        press(&mut state, KeyCode::Up);
        assert_eq!(state.line, 0);
        press(&mut state, KeyCode::PageDown);
        press(&mut state, KeyCode::Down);
        assert_eq!(state.line, 3);
        press(&mut state, KeyCode::End);
        press(&mut state, KeyCode::PageDown);
        assert_eq!(state.line, names(&state).len() - 1);
        press(&mut state, KeyCode::Home);
        assert_eq!(state.line, 0);
    }

    #[test]
    fn a_key_leads_there_and_back() {
        let mut state = State::default();
        for (key, tab) in [('p', Tab::Packages), ('t', Tab::Threads), ('f', Tab::Flame)] {
            press(&mut state, KeyCode::Char(key));
            assert_eq!(state.tab, tab);
        }
        press(&mut state, KeyCode::Char('f'));
        assert_eq!(state.tab, Tab::Functions);
        press(&mut state, KeyCode::Char('t'));
        press(&mut state, KeyCode::Char('>'));
        assert_eq!(
            (state.thread_sort, state.sort),
            (Column::Recent, Column::OwnRecent)
        );
        // A flame graph has nothing to sort by.
        press(&mut state, KeyCode::Char('f'));
        press(&mut state, KeyCode::Char('>'));
        assert_eq!(state.sort, Column::OwnRecent);
    }
}
