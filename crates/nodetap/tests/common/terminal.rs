//! A terminal, with nodetap on it.

use std::fs::{File, OpenOptions};
use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::process::{Child, Command, ExitStatus};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{Termios, Winsize, tcgetattr, tcsetwinsize};

/// How long something may take to be seen.
const PATIENCE: Duration = Duration::from_secs(30);

/// A pseudo terminal, what is on its screen, and the program that has it.
pub struct Terminal {
    master: File,
    slave: File,
    screen: Arc<Mutex<vt100::Parser>>,
    child: Child,
    before: Termios,
}

/// Starts `nodetap ARGUMENTS` as the first program of a new terminal: its two ends, its modes
/// before, and the program.
pub fn spawn(columns: u16, rows: u16, arguments: &[&str]) -> (File, File, Termios, Child) {
    let master: OwnedFd =
        openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC).expect("openpt");
    grantpt(&master).expect("grantpt");
    unlockpt(&master).expect("unlockpt");
    let name = ptsname(&master, Vec::new()).expect("ptsname");
    let name = name.to_str().expect("UTF-8");
    // Not the terminal of this process: `setsid` makes it that of the program.
    let open = || {
        let mut options = OpenOptions::new();
        options.read(true).write(true);
        std::os::unix::fs::OpenOptionsExt::custom_flags(&mut options, libc::O_NOCTTY);
        options.open(name).expect("a terminal")
    };
    let slave = open();
    tcsetwinsize(&master, size(columns, rows)).expect("its size");
    let before = tcgetattr(&slave).expect("its modes");
    let child = Command::new("setsid")
        .args(["--ctty", env!("CARGO_BIN_EXE_nodetap")])
        .args(arguments)
        .env("TERM", "xterm-256color")
        .env_remove("NO_COLOR")
        .stdin(open())
        .stdout(open())
        .stderr(open())
        .spawn()
        .expect("cannot run it");
    (File::from(master), slave, before, child)
}

impl Terminal {
    /// Starts `nodetap ARGUMENTS` as the first program of a new terminal.
    pub fn start(columns: u16, rows: u16, arguments: &[&str]) -> Terminal {
        let (master, slave, before, child) = spawn(columns, rows, arguments);
        let screen = Arc::new(Mutex::new(vt100::Parser::new(rows, columns, 0)));
        let (mut output, shown) = (master.try_clone().expect("dup"), Arc::clone(&screen));
        thread::spawn(move || {
            let mut bytes = [0; 4096];
            while let Ok(length) = output.read(&mut bytes) {
                if length == 0 {
                    break;
                }
                shown.lock().expect("it goes on").process(&bytes[..length]);
            }
        });
        Terminal {
            master,
            slave,
            screen,
            child,
            before,
        }
    }

    /// Presses keys.
    pub fn press(&mut self, keys: &str) {
        self.master.write_all(keys.as_bytes()).expect("write");
    }

    /// Changes the size of the window.
    pub fn resize(&self, columns: u16, rows: u16) {
        let mut screen = self.screen.lock().expect("it goes on");
        // `vt100` itself does not get along with the smallest ones.
        if columns.min(rows) >= 10 {
            screen.screen_mut().set_size(rows, columns);
        }
        drop(screen);
        tcsetwinsize(&self.master, size(columns, rows)).expect("its size");
    }

    /// The lines that are on the screen.
    pub fn lines(&self) -> Vec<String> {
        let screen = self.screen.lock().expect("it goes on");
        let text = screen.screen().contents();
        text.lines()
            .map(|line| line.trim_end().to_owned())
            .collect()
    }

    /// Waits until the lines are such that `holds`.
    #[track_caller]
    pub fn wait_for(&self, what: &str, holds: impl Fn(&[String]) -> bool) -> Vec<String> {
        let begun = Instant::now();
        loop {
            let lines = self.lines();
            if holds(&lines) {
                return lines;
            }
            let text = lines.join("\n");
            assert!(
                begun.elapsed() < PATIENCE,
                "no {what} on the screen:\n{text}"
            );
            thread::sleep(Duration::from_millis(20));
        }
    }

    /// Waits until a line has `text`.
    #[track_caller]
    pub fn wait_for_text(&self, text: &str) -> Vec<String> {
        self.wait_for(text, |lines| lines.iter().any(|line| line.contains(text)))
    }

    /// The process that runs in it.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    pub fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).expect("kill");
    }

    /// Waits until the program has ended.
    #[track_caller]
    pub fn wait(&mut self) -> ExitStatus {
        let begun = Instant::now();
        while begun.elapsed() < PATIENCE {
            if let Some(status) = self.child.try_wait().expect("wait") {
                return status;
            }
            thread::sleep(Duration::from_millis(20));
        }
        panic!("it does not end:\n{}", self.lines().join("\n"));
    }

    /// Whether the terminal's own screen is shown, with a cursor, and its modes are those
    /// of the beginning.
    pub fn is_as_before(&self) -> bool {
        let now = tcgetattr(&self.slave).expect("its modes");
        let modes = |it: &Termios| {
            (
                it.input_modes,
                it.output_modes,
                it.control_modes,
                it.local_modes,
            )
        };
        let screen = self.screen.lock().expect("it goes on");
        let screen = screen.screen();
        modes(&now) == modes(&self.before) && !screen.alternate_screen() && !screen.hide_cursor()
    }

    /// Waits until the terminal is as it was.
    #[track_caller]
    pub fn wait_until_as_before(&self) {
        self.wait_for("terminal as it was", |_| self.is_as_before());
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn size(columns: u16, rows: u16) -> Winsize {
    Winsize {
        ws_row: rows,
        ws_col: columns,
        ws_xpixel: 0,
        ws_ypixel: 0,
    }
}
