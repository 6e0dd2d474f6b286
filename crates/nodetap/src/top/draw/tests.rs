use ratatui::Terminal;
use ratatui::backend::TestBackend;
use ratatui::crossterm::event::KeyCode::{self, Char, Down, Tab as TabKey};
use ratatui::crossterm::event::{KeyEvent, KeyModifiers};
use ratatui::style::{Color, Modifier};

use super::*;
use crate::top::testing::server;

/// What is on a screen of this size.
fn screen(
    width: u16,
    height: u16,
    shown: &Snapshot,
    state: &mut State,
    colours: Colours,
) -> Vec<String> {
    let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
    terminal
        .draw(|frame| draw(frame, shown, state, colours))
        .unwrap();
    let buffer = terminal.backend().buffer();
    let line = |y| {
        let cells = (0..width).map(|x| buffer[(x, y)].symbol());
        cells.collect::<String>().trim_end().to_owned()
    };
    (0..height).map(line).collect()
}

fn press(state: &mut State, keys: &[KeyCode]) {
    for &code in keys {
        state.on_key(KeyEvent::new(code, KeyModifiers::NONE), &server());
    }
}

/// Fails unless the server's screen has these lines after these keys.
#[track_caller]
fn assert_screen(keys: &[KeyCode], width: u16, lines: &[&str]) {
    let mut state = State::default();
    press(&mut state, keys);
    let height = lines.len() as u16;
    assert_eq!(
        screen(width, height, &server(), &mut state, Colours::None),
        lines
    );
}

#[test]
fn eighty_columns() {
    assert_screen(
        &[],
        80,
        &[
            "pid 4711, Node.js v24.21.0: node /srv/app/server.js                      1:02:03",
            "CPU 104 %, main thread 99 %; 1990 samples at 999 Hz (ebpf), 0 lost",
            "main thread: 89 % JavaScript, 11 % garbage collector",
            "event loop delay: 3 ms now, 42 ms at most in the last second, 217 ms ever",
            " functions   p  packages   t  threads   f  flame graph",
            "  last second    since start",
            " self% total%   self% total%  function               file:line",
            "  60.0   70.0    45.2   50.3  render                 …modules/ejs/lib/ejs.js:420",
            "  25.0   95.0    22.1   72.4  handle                 /srv/app/server.js:12",
            "  10.0   10.0     5.0    5.0  (garbage collector)",
            "   5.0    5.0     2.5    2.5  (v8 worker)",
            "   0.0    0.0    25.1   25.1  main                   /srv/app/server.js:1",
            "   0.0   95.0     0.0   72.4  emit                   node:events:489",
            "",
            "",
            "? help  q quit  space pause  / filter  < > sort  n numbers  r reset  Tab range",
        ],
    );
}

#[test]
fn two_hundred_columns() {
    assert_screen(
        &[],
        200,
        &[
            "pid 4711, Node.js v24.21.0: node /srv/app/server.js                                                                                                                                              1:02:03",
            "CPU 104 %, main thread 99 %; 1990 samples at 999 Hz (ebpf), 0 lost",
            "main thread: 89 % JavaScript, 11 % garbage collector",
            "event loop delay: 3 ms now, 42 ms at most in the last second, 217 ms ever",
            " functions   p  packages   t  threads   f  flame graph",
            "               last second                      since start",
            " self% total%  self  total   self% total%     self    total  function                                                       file:line",
            "  60.0   70.0   600    700    45.2   50.3      900     1000  render                                                         /srv/app/node_modules/ejs/lib/ejs.js:420",
            "  25.0   95.0   250    950    22.1   72.4      440     1440  handle                                                         /srv/app/server.js:12",
            "  10.0   10.0   100    100     5.0    5.0      100      100  (garbage collector)",
            "   5.0    5.0    50     50     2.5    2.5       50       50  (v8 worker)",
            "   0.0    0.0     0      0    25.1   25.1      500      500  main                                                           /srv/app/server.js:1",
            "   0.0   95.0     0    950     0.0   72.4        0     1440  emit                                                           node:events:489",
            "",
            "",
            "? help  q quit  space pause  / filter  < > sort  n numbers  r reset  Tab range",
        ],
    );
}

#[test]
fn packages() {
    assert_screen(
        &[Char('p')],
        80,
        &[
            "pid 4711, Node.js v24.21.0: node /srv/app/server.js                      1:02:03",
            "CPU 104 %, main thread 99 %; 1990 samples at 999 Hz (ebpf), 0 lost",
            "main thread: 89 % JavaScript, 11 % garbage collector",
            "event loop delay: 3 ms now, 42 ms at most in the last second, 217 ms ever",
            " functions   p  packages   t  threads   f  flame graph",
            "  last second    since start",
            " self% total%   self% total%  package",
            "  60.0   70.0    45.2   50.3  ejs@3.1.10",
            "  25.0   95.0    47.2   97.5  own code",
            "  10.0   10.0     5.0    5.0  garbage collector",
            "   5.0    5.0     2.5    2.5  V8",
            "   0.0   95.0     0.0   72.4  Node.js",
            "",
            "",
            "",
            "? help  q quit  space pause  / filter  < > sort  n numbers  r reset  Tab range",
        ],
    );
}

#[test]
fn threads() {
    assert_screen(
        &[Char('t')],
        80,
        &[
            "pid 4711, Node.js v24.21.0: node /srv/app/server.js                      1:02:03",
            "CPU 104 %, main thread 99 %; 1990 samples at 999 Hz (ebpf), 0 lost",
            "main thread: 89 % JavaScript, 11 % garbage collector",
            "event loop delay: 3 ms now, 42 ms at most in the last second, 217 ms ever",
            " functions   p  packages   t  threads   f  flame graph",
            "  CPU% last s   samples      TID  thread            most on top",
            "  99.2    950      1940     4711  main thread       render …s/ejs/lib/ejs.js:420",
            "   5.2     50        50     4715  V8\\nWorker        (v8 worker)",
            "",
            "",
            "",
            "",
            "",
            "",
            "",
            "? help  q quit  space pause  / filter  < > sort  n numbers  r reset  Tab range",
        ],
    );
}

#[test]
fn a_flame_graph() {
    assert_screen(
        &[Char('f')],
        80,
        &[
            "pid 4711, Node.js v24.21.0: node /srv/app/server.js                      1:02:03",
            "CPU 104 %, main thread 99 %; 1990 samples at 999 Hz (ebpf), 0 lost",
            "main thread: 89 % JavaScript, 11 % garbage collector",
            "event loop delay: 3 ms now, 42 ms at most in the last second, 217 ms ever",
            " functions   p  packages   t  threads   f  flame graph",
            "last second: 100.0 % in all threads, 0.0 % itself",
            "|all",
            "|emit                                                                       |(v…",
            "|handle",
            "|render",
            "|(garba…",
            "",
            "",
            "",
            "",
            "? help  q quit  space pause  arrows select  Enter zoom  u up  Tab range",
        ],
    );
}

#[test]
fn a_call_of_a_flame_graph_is_selected() {
    assert_screen(
        &[Char('f'), TabKey, Down, Down],
        80,
        &[
            "pid 4711, Node.js v24.21.0: node /srv/app/server.js                      1:02:03",
            "CPU 104 %, main thread 99 %; 1990 samples at 999 Hz (ebpf), 0 lost",
            "main thread: 95 % JavaScript, 5 % garbage collector",
            "event loop delay: 3 ms now, 42 ms at most in the last second, 217 ms ever",
            " functions   p  packages   t  threads   f  flame graph",
            "since start: 72.4 % in handle /srv/app/server.js:12, 22.1 % itself",
            "|all",
            "|emit                                                     |main               |",
            "|handle",
            "|render",
            "|(g…",
            "",
            "",
            "",
            "",
            "? help  q quit  space pause  arrows select  Enter zoom  u up  Tab range",
        ],
    );
}

#[test]
fn help() {
    assert_screen(
        &[Char('?')],
        80,
        &[
            "pid 4711, Node.js v24.21.0: node /srv/app/server.js                      1:02:03",
            "CPU 104 %, main thread 99 %; 1990 samples at 999 Hz (ebpf), 0 lost",
            "main thread: 89 % JavaScript, 11 % garbage collector",
            "event loop delay: 3 ms now, 42 ms at most in the last second, 217 ms ever",
            " functions   p  packages   t  threads   f  flame graph",
            " q, Esc, Ctrl-C      quit",
            " p                   packages, or back to functions",
            " t                   threads",
            " f                   flame graph: what called what",
            " /                   only what has a text in its name or file; Esc: everything",
            " space               hold what is shown, or go on (samples are taken all the ti…",
            " < >                 sort by the column to the left or right",
            " i                   the smallest first",
            " Tab                 by the last second, or since the start",
            " n                   numbers of samples instead of percent, in a narrow window",
            " r                   begin to count anew",
            " arrows, PgUp, PgDn  through the lines; in the flame graph: select",
            " Enter               flame graph: give the selected call the whole width",
            " u, Backspace        flame graph: one call back towards the start",
            " self                samples with the function on top of the stack",
            " total               samples with it anywhere on the stack",
            " event loop delay    how long an event waits until the main thread takes it",
            "",
            "any key back",
        ],
    );
}

#[test]
fn forty_columns() {
    assert_screen(
        &[],
        40,
        &[
            "pid 4711, Node.js v24.21.0: nod… 1:02:03",
            " functions   p  packages   t  threads",
            "last second",
            " self%  function       file:line",
            "  60.0  render         …s/lib/ejs.js:420",
            "  25.0  handle         …app/server.js:12",
            "  10.0  (garbage coll…",
            "   5.0  (v8 worker)",
            "   0.0  main           …/app/server.js:1",
            "? help  q quit  space pause  / filter",
        ],
    );
}

#[test]
fn a_small_window() {
    assert_screen(
        &[],
        24,
        &[
            "pid 4711, Node.… 1:02:03",
            " self%  function",
            "  60.0  render",
            "  25.0  handle",
            "  10.0  (garbage collec…",
            "? help  q quit",
        ],
    );
}

#[test]
fn a_tiny_window() {
    assert_screen(&[], 10, &[" self%  f…", "  60.0  r…", "? help"]);
}

#[test]
fn a_filter_that_is_typed() {
    assert_screen(
        &[Char('/'), Char('e'), Char('j')],
        80,
        &[
            "pid 4711, Node.js v24.21.0: node /srv/app/server.js                      1:02:03",
            "CPU 104 %, main thread 99 %; 1990 samples at 999 Hz (ebpf), 0 lost",
            "main thread: 89 % JavaScript, 11 % garbage collector",
            "event loop delay: 3 ms now, 42 ms at most in the last second, 217 ms ever",
            " functions   p  packages   t  threads   f  flame graph                  only: ej",
            "  last second    since start",
            " self% total%   self% total%  function               file:line",
            "  60.0   70.0    45.2   50.3  render                 …modules/ejs/lib/ejs.js:420",
            "",
            "",
            "",
            "",
            "",
            "",
            "",
            "filter: ej▏",
        ],
    );
}

#[test]
fn no_window_is_too_small() {
    let keys = ['x', 'p', 't', 'f', '?', '/'].map(Char);
    for key in keys {
        for width in (0..24).chain([50, 119, 120, 121]) {
            for height in 0..16 {
                let mut state = State::default();
                press(&mut state, &[key]);
                screen(width, height, &server(), &mut state, Colours::Sixteen);
                screen(
                    width,
                    height,
                    &Snapshot::default(),
                    &mut state,
                    Colours::None,
                );
            }
        }
    }
}

#[test]
fn the_selected_line_stays_in_sight() {
    let mut state = State::default();
    press(&mut state, &[Down; 5]);
    let lines = screen(80, 6, &server(), &mut state, Colours::None);
    assert_eq!(lines[2], "   5.0    5.0     2.5    2.5  (v8 worker)");
    assert!(
        lines[4].starts_with("   0.0   95.0     0.0   72.4  emit"),
        "{lines:?}"
    );
    assert_eq!(state.page, 3);
}

#[test]
fn an_end_is_told_and_what_was_seen_stays() {
    let mut shown = server();
    shown.facts.processes[0].end = Some("has ended");
    let mut state = State::default();
    let lines = screen(80, 24, &shown, &mut state, Colours::None);
    assert!(
        lines[23].starts_with("process 4711 has ended  ? help  q quit"),
        "{lines:?}"
    );
    assert!(lines[7].contains("render"), "{lines:?}");
}

#[test]
fn a_process_without_samples_says_so() {
    let mut shown = server();
    shown.tally = crate::top::tally::Tally::default();
    shown.facts.samples = crate::top::tally::Count::default();
    shown.facts.summary = [vec![], vec![]];
    shown.facts.processes[0].event_loop = None;
    let mut state = State::default();
    let lines = screen(80, 24, &shown, &mut state, Colours::None);
    assert_eq!(lines[2], "main thread: no CPU time");
    assert_eq!(lines[3], "");
    assert_eq!(
        lines[7],
        " no samples yet: the process has used no CPU time"
    );
    press(&mut state, &[Char('f')]);
    let lines = screen(80, 24, &shown, &mut state, Colours::None);
    assert_eq!(lines[5], "last second: no samples");
}

#[test]
fn several_processes_are_one() {
    let mut shown = server();
    let mut other = shown.facts.processes[0].clone();
    other.pid = 4712;
    shown.facts.processes.push(other);
    let lines = screen(80, 24, &shown, &mut State::default(), Colours::None);
    assert!(
        lines[0].starts_with("2 processes: 4711, 4712 "),
        "{lines:?}"
    );
    assert!(
        lines[1].starts_with("CPU 209 %, main thread 99 %"),
        "{lines:?}"
    );
}

/// The colours that are on a screen.
fn colours_of(state: &mut State, colours: Colours) -> Vec<(Color, Color)> {
    let mut terminal = Terminal::new(TestBackend::new(80, 24)).unwrap();
    terminal
        .draw(|frame| draw(frame, &server(), state, colours))
        .unwrap();
    let cells = terminal.backend().buffer().content();
    let mut colours: Vec<_> = cells.iter().map(|cell| (cell.fg, cell.bg)).collect();
    colours.dedup();
    colours
}

#[test]
fn without_colours_there_are_none() {
    for keys in [&[][..], &[Char('f')], &[Char('?')], &[Char('t')]] {
        let mut state = State::default();
        press(&mut state, keys);
        let plain = (Color::Reset, Color::Reset);
        assert_eq!(colours_of(&mut state, Colours::None), [plain], "{keys:?}");
        assert!(
            colours_of(&mut state, Colours::Sixteen).len() > 2,
            "{keys:?}"
        );
    }
}

#[test]
fn the_column_that_sorts_is_marked() {
    let mut state = State::default();
    let mut marked = |keys: &[KeyCode]| {
        press(&mut state, keys);
        let mut terminal = Terminal::new(TestBackend::new(80, 24)).unwrap();
        let draw = |frame: &mut Frame<'_>| draw(frame, &server(), &mut state, Colours::None);
        terminal.draw(draw).unwrap();
        let buffer = terminal.backend().buffer();
        let is_marked = |x: &u16| buffer[(*x, 6)].modifier.contains(Modifier::REVERSED);
        let cells = (0..80).filter(is_marked);
        cells.map(|x| buffer[(x, 6)].symbol()).collect::<String>()
    };
    assert_eq!(marked(&[]), "self%");
    assert_eq!(marked(&[Char('>')]), "total%");
    assert_eq!(marked(&[Char('<'), Char('<'), Char('<')]), "function");
}

#[test]
fn what_is_too_long_is_cut_where_it_tells_least() {
    assert_eq!(cut_end("function", 8), "function");
    assert_eq!(cut_end("function", 7), "functi…");
    assert_eq!(cut_begin("/srv/a.js:1", 8), "…/a.js:1");
    // A character may take two columns.
    assert_eq!(cut_end("日本語", 5), "日本…");
    assert_eq!(cut_begin("日本語", 4), "…語");
    for width in 0..3 {
        assert!(cut_end("日本語", width).width() <= width);
        assert!(cut_begin("日本語", width).width() <= width);
    }
}

/// Names come from the program that is looked at.
#[test]
fn no_name_writes_to_the_terminal_what_it_likes() {
    let mut program = crate::top::testing::Program::new();
    let name = format!("a\x1b[2J\nb\0\u{202e}{}", "日".repeat(1 << 20));
    let file = format!("/tmp/\x07\r{}", "x".repeat(1 << 20));
    let frame = crate::top::testing::js(&name, &file, 1);
    program.sample(0, &[(&[frame.clone(), frame], 10)]);
    program.end_second();
    let mut shown = server();
    shown.tally = program.tally;
    for key in ['x', 'p', 't', 'f'] {
        let mut state = State::default();
        press(&mut state, &[Char(key)]);
        for width in [80, 200] {
            for line in screen(width, 24, &shown, &mut state, Colours::None) {
                assert!(
                    !line.contains(|it: char| it.is_control() || it == '\u{202e}'),
                    "{line:?}"
                );
            }
        }
    }
    let lines = screen(200, 24, &shown, &mut State::default(), Colours::None);
    assert!(
        lines[7].contains(r"a\u{1b}[2J\nb\u{0}\u{202e}日"),
        "{lines:?}"
    );
}
