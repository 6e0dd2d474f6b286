//! The live view as users meet it: in a terminal, with keys, resized, and left on every way.

mod common;

use std::fs;
use std::io::Read;
use std::thread::sleep;
use std::time::{Duration, Instant};

use common::target::Target;
use common::terminal::{self, Terminal};
use rustix::process::Signal;

const VERSION: &str = "24.21.0";

/// A target that spins, and the view of it.
fn spinning(columns: u16, rows: u16) -> (Target, Terminal) {
    let target = Target::start(VERSION, &[], "top/spin.js", &[]).wait_until_ready();
    let pid = target.pid().to_string();
    let terminal = Terminal::start(columns, rows, &["top", "-p", &pid]);
    (target, terminal)
}

/// The line below the titles: what is first.
fn first(lines: &[String]) -> Option<&str> {
    let titles = lines
        .iter()
        .position(|line| line.contains("function") && line.contains("file:line"))?;
    lines.get(titles + 1).map(String::as_str)
}

/// Waits until the hottest function is the first one, as it is.
#[track_caller]
fn wait_for_hottest(terminal: &Terminal) -> Vec<String> {
    terminal.wait_for("hottest function first", |lines| {
        first(lines).is_some_and(|line| line.contains(" hottest ") && line.contains("spin.js:3"))
    })
}

#[test]
fn the_hottest_function_is_first_and_keys_lead_elsewhere_and_out() {
    let (target, mut terminal) = spinning(80, 24);
    let lines = wait_for_hottest(&terminal);
    assert!(
        lines[0].starts_with(&format!("pid {}, Node.js v24.21.0: ", target.pid())),
        "{lines:?}"
    );
    assert!(lines[2].starts_with("main thread: "), "{lines:?}");
    assert!(
        lines.iter().any(|line| line.contains(" cooler ")),
        "{lines:?}"
    );

    terminal.press("p");
    terminal.wait_for_text(" own code");
    terminal.press("t");
    terminal.wait_for_text(" main thread       hottest ");
    terminal.press("f");
    let lines = terminal.wait_for_text("last second: 100.0 % in all threads");
    assert!(
        lines.iter().any(|line| line.starts_with("round")),
        "{lines:?}"
    );
    terminal.press("?");
    terminal.wait_for_text("one call back towards the start");
    terminal.press("x");
    terminal.press("f/cooler\r");
    terminal.wait_for("the filter's function alone", |lines| {
        first(lines).is_some_and(|line| line.contains(" cooler "))
            && !lines.iter().any(|line| line.contains(" hottest "))
    });
    // Of a filter the first Escape leads back, the next one out.
    terminal.press("\x1b");
    wait_for_hottest(&terminal);

    terminal.resize(200, 50);
    terminal.wait_for("numbers of samples", |lines| {
        lines.iter().any(|line| line.matches(" self ").count() == 2)
    });
    for (columns, rows) in [(1, 1), (2, 40), (200, 2)] {
        terminal.resize(columns, rows);
        sleep(Duration::from_millis(150));
    }
    terminal.resize(80, 24);
    wait_for_hottest(&terminal);
    assert!(!terminal.is_as_before());

    terminal.press("q");
    assert!(terminal.wait().success());
    terminal.wait_until_as_before();
    let lines = terminal.wait_for_text(" samples in ");
    assert!(
        lines.iter().any(|line| line.contains("at 999 Hz (ebpf): ")),
        "{lines:?}"
    );
}

#[test]
fn the_terminal_is_given_back_on_every_way_out() {
    let target = Target::start(VERSION, &[], "top/spin.js", &[]).wait_until_ready();
    let pid = target.pid().to_string();
    let signals = [
        None,
        Some(Signal::TERM),
        Some(Signal::HUP),
        Some(Signal::INT),
    ];
    // All at the same time: each takes a while to begin.
    let terminals = signals.map(|_| Terminal::start(80, 24, &["top", "-p", &pid]));
    for (signal, mut terminal) in signals.into_iter().zip(terminals) {
        wait_for_hottest(&terminal);
        match signal {
            None => terminal.press("\x03"),
            Some(signal) => terminal.signal(signal),
        }
        assert!(terminal.wait().success(), "{signal:?}");
        terminal.wait_until_as_before();
    }
}

#[test]
fn a_terminal_that_is_closed_ends_it() {
    let target = Target::start(VERSION, &[], "top/spin.js", &[]).wait_until_ready();
    let pid = target.pid().to_string();
    let (mut master, slave, _, mut child) = terminal::spawn(80, 24, &["top", "-p", &pid]);
    drop(slave);
    let mut shown = Vec::new();
    let mut bytes = [0; 4096];
    // The other screen, and what is drawn on it first.
    while !String::from_utf8_lossy(&shown).contains("[?1049h") || shown.len() < 200 {
        let length = master.read(&mut bytes).expect("its screen");
        shown.extend(&bytes[..length]);
    }
    drop(master);
    let begun = Instant::now();
    while child.try_wait().expect("wait").is_none() {
        if begun.elapsed() > Duration::from_secs(30) {
            child.kill().expect("kill");
            panic!("it goes on without a terminal");
        }
        sleep(Duration::from_millis(20));
    }
}

#[test]
fn it_stops_with_the_terminal_as_it_was_and_goes_on() {
    let (_target, mut terminal) = spinning(80, 24);
    wait_for_hottest(&terminal);
    let is_stopped = |pid: u32| {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).expect("it is there");
        stat.rsplit_once(") ")
            .is_some_and(|(_, rest)| rest.starts_with('T'))
    };
    terminal.press("\x1a");
    terminal.wait_for("stop", |_| is_stopped(terminal.pid()));
    terminal.wait_until_as_before();
    terminal.signal(Signal::CONT);
    wait_for_hottest(&terminal);
    assert!(!terminal.is_as_before());
    terminal.press("q");
    assert!(terminal.wait().success());
    terminal.wait_until_as_before();
}

#[test]
fn the_end_of_the_target_is_told_and_its_last_state_stays() {
    let (target, mut terminal) = spinning(80, 24);
    wait_for_hottest(&terminal);
    let end = format!("process {} has ended", target.pid());
    drop(target);
    terminal.wait_for_text(&end);
    // Since the start; in the last second it may have been gone.
    terminal.press("\t");
    wait_for_hottest(&terminal);
    terminal.press("q");
    assert!(terminal.wait().success());
    terminal.wait_until_as_before();
}

/// What is told is what happened, as Node.js itself has measured it.
fn assert_event_loop_delay(version: &str) {
    let mut target = Target::start(version, &[], "top/blocks.js", &[]).wait_until_ready();
    let mut terminal = Terminal::start(80, 24, &["top", "-p", &target.pid().to_string()]);
    let longest = |lines: &[String]| -> Option<u64> {
        let line = lines
            .iter()
            .find(|line| line.starts_with("event loop delay: "))?;
        line.strip_suffix(" ms ever")?
            .rsplit(' ')
            .next()?
            .parse()
            .ok()
    };
    let lines = terminal.wait_for("delay of 150 ms", |lines| {
        longest(lines).is_some_and(|longest| longest >= 150)
    });
    target.tell("?");
    let true_one: u64 = target.line().parse().expect("a number");
    let told = longest(&lines).expect("it was there");
    // Timers are due at whole milliseconds, of which each of the two may miss one.
    assert!(told <= true_one + 25, "{told} ms, and it was {true_one} ms");
    terminal.press("q");
    assert!(terminal.wait().success());
}

#[test]
fn the_event_loop_is_late_by_as_much_as_node_20_says() {
    assert_event_loop_delay("20.20.2");
}

#[test]
fn the_event_loop_is_late_by_as_much_as_node_24_says() {
    assert_event_loop_delay("24.21.0");
}

/// Asked in a terminal: which process?
#[test]
fn without_a_process_it_asks() {
    let target = Target::start(VERSION, &[], "top/spin.js", &[]).wait_until_ready();
    let pid = target.pid().to_string();
    let mut terminal = Terminal::start(160, 100, &["record", "-d", "1"]);
    let lines = terminal.wait_for_text("Which one to record? (");
    let row = lines
        .iter()
        .find(|line| line.split_whitespace().any(|word| word == pid))
        .expect("it is listed");
    assert!(row.contains("v24.21.0") && row.contains(" yes "), "{row}");
    terminal.press("nonsense\r");
    terminal.wait_for_text("'nonsense' is none of these");
    terminal.press(&format!("{pid}\r"));
    // How far it is, for as long as it goes on.
    let lines = terminal.wait_for_text(" s left  ");
    assert!(
        lines
            .iter()
            .any(|line| line.starts_with("Recording ") && line.ends_with(" samples")),
        "{lines:?}"
    );
    let lines = terminal.wait_for_text("hottest ");
    assert!(
        !lines.iter().any(|line| line.starts_with("Recording ")),
        "{lines:?}"
    );
    assert!(terminal.wait().success());
}
