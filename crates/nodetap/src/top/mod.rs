//! The live view: what a recording would take, shown while it is taken.
//!
//! The samples come the same way as those of a recording ([`Targets`]). Once a second they
//! are added up in a [`tally::Tally`], which is all that is kept of them. What is shown of
//! that and how is the [`state::State`], which keys change; [`draw`] draws both and changes
//! nothing.

mod cpu;
mod delay;
mod draw;
mod facts;
mod flame;
pub mod screen;
mod state;
mod table;
mod tally;
#[cfg(test)]
mod testing;

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::sleep;
use std::time::{Duration, Instant};

use nodetap_profile::visible;
use nodetap_sampler::priority::Preferred;
use nodetap_sampler::sampler::Sampler;
use nodetap_symbols::Options;
use nodetap_symbols::summary::Summary;
use ratatui::crossterm::event::{self, Event, KeyEventKind};
use rustix::process::{Signal, kill_current_process_group};
use signal_hook::consts::SIGCONT;

use crate::failure::{Failure, Result, reason};
use crate::interrupt::{self, Interrupts};
use crate::job_control::HeldStops;
use crate::permissions::remedy::Task;
use crate::recording::sampling::{self, Sampling};
use crate::recording::targets::{Taken, Targets};
use crate::recording::{closing_line, failure_of_sampler};
use crate::terminal;
use crate::watch::End;
use cpu::Meter;
use delay::EventLoops;
use draw::Colours;
use facts::{Facts, Process, Snapshot};
use screen::Screen;
use state::{Action, State};
use tally::Tally;

/// How often what is shown is brought up to date.
const SECOND: Duration = Duration::from_secs(1);
/// For how long nothing is sampled where there is nothing any more: until keys are looked at.
const PAUSE: Duration = Duration::from_millis(20);
/// How long a sampler may take until we stop.
const PATIENCE: Duration = Duration::from_secs(2);

/// What to look at, and how.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The processes, each once.
    pub pids: Vec<u32>,
    /// How samples are to be taken.
    pub sampling: Sampling,
    /// What of them is shown.
    pub shown: Options,
}

/// Shows it until the user has seen enough.
pub fn run(settings: &Settings) -> Result<()> {
    let prepared = settings.sampling.prepare(&settings.pids);
    let mut targets = Targets::attached(&settings.pids, settings.shown)?;
    targets.keep_counts_only();
    let event_loops = EventLoops::watch(targets.iter());
    let interrupts = Interrupts::listen(true)?;
    let continued = Arc::new(AtomicBool::new(false));
    signal_hook::flag::register(SIGCONT, continued.clone())
        .map_err(|error| interrupt::failure(&error))?;
    let (sampler, better) =
        sampling::start(&settings.sampling, prepared, &mut targets, Task::Attach)?;
    let screen = Screen::enter().map_err(|error| {
        let reason = reason(&error);
        Failure::new(format_args!("cannot use this terminal: {reason}"))
    })?;
    // What reads keys would look for more of them for ever, and heed no signal.
    terminal::end_when_closed();
    let mut view = View {
        targets,
        sampler,
        screen,
        interrupts,
        continued,
        // Not before: who is started in the background is stopped when it takes the terminal.
        stops: HeldStops::hold()?,
        event_loops,
        meter: Meter::default(),
        live: Snapshot::default(),
        held: None,
        state: State::default(),
        colours: match terminal::colours(&io::stdout()) {
            true => Colours::Sixteen,
            false => Colours::None,
        },
        begun: Duration::ZERO,
        summaries: [Summary::default(); 2],
        ends: Vec::new(),
    };
    // Samples are taken meanwhile.
    view.targets.warm_up();
    let preferred = Preferred::start();
    let ran = view.run();
    drop(preferred);
    let View {
        targets,
        sampler,
        screen,
        stops,
        live,
        ..
    } = view;
    drop(screen);
    ran?;
    let Taken { profile, stops, .. } = targets.stop(sampler, stops)?;
    let samples = live.facts.samples.all + profile.sample_count();
    terminal::line(closing_line(&profile.metadata, samples, stops));
    if let Some(better) = better {
        terminal::hint(better);
    }
    Ok(())
}

/// A view while it is shown.
struct View {
    targets: Targets,
    sampler: Sampler,
    screen: Screen,
    interrupts: Interrupts,
    /// Whether we have been stopped, and go on.
    continued: Arc<AtomicBool>,
    stops: HeldStops,
    event_loops: EventLoops,
    meter: Meter,
    live: Snapshot,
    /// What is shown instead, while it is held.
    held: Option<Box<Snapshot>>,
    state: State,
    colours: Colours,
    /// When counting began, since the sampling did.
    begun: Duration,
    /// What threads had done by the last second, and when counting began.
    summaries: [Summary; 2],
    /// The processes that have ended.
    ends: Vec<(u32, End)>,
}

impl View {
    /// Takes samples and shows them until somebody has seen enough.
    fn run(&mut self) -> Result<()> {
        self.update();
        self.draw()?;
        let mut updated = Instant::now();
        loop {
            if self.interrupts.received() > 0 {
                return Ok(());
            }
            if self.stops.take() {
                self.suspend()?;
            }
            self.sample()?;
            let mut is_to_draw = false;
            if updated.elapsed() >= SECOND {
                updated = Instant::now();
                self.update();
                is_to_draw = true;
            }
            while event::poll(Duration::ZERO).map_err(|error| of_terminal(&error))? {
                let event = event::read().map_err(|error| of_terminal(&error))?;
                if !self.handle(&event)? {
                    return Ok(());
                }
                is_to_draw = true;
            }
            if is_to_draw {
                self.draw()?;
            }
        }
    }

    /// Takes what samples there are, and names them.
    fn sample(&mut self) -> Result<()> {
        if !self.targets.are_alive() {
            sleep(PAUSE);
            return Ok(());
        }
        let wait = self.targets.patience();
        let batch = self.targets.batch();
        self.sampler
            .poll(wait, &mut |sample| batch.push(sample.to_owned()))
            .map_err(failure_of_sampler)?;
        for (pid, end) in self.targets.new_ends(false) {
            self.sampler
                .remove_process(pid)
                .map_err(failure_of_sampler)?;
            self.ends.push((pid, end));
        }
        self.targets.name_batch();
        Ok(())
    }

    /// Does what an event asks for; whether it is to go on.
    fn handle(&mut self, event: &Event) -> Result<bool> {
        let Event::Key(key) = event else {
            return Ok(true);
        };
        if key.kind == KeyEventKind::Release {
            return Ok(true);
        }
        let shown = self.held.as_deref().unwrap_or(&self.live);
        match self.state.on_key(*key, shown) {
            Action::Draw => {}
            Action::Quit => return Ok(false),
            Action::Pause => {
                self.held = match self.held.take() {
                    Some(_) => None,
                    None => Some(Box::new(self.live.clone())),
                };
                self.state.paused = self.held.is_some();
            }
            Action::Reset => self.reset(),
            // All that the terminal would stop: who started us as well.
            Action::Suspend => {
                let _ = kill_current_process_group(Signal::TSTP);
            }
        }
        Ok(true)
    }

    /// Stops until somebody has us go on, with the terminal as it was.
    fn suspend(&mut self) -> Result<()> {
        screen::leave();
        loop {
            self.continued.store(false, Ordering::SeqCst);
            self.sampler.suspend();
            let asked = Instant::now();
            while !self.continued.load(Ordering::SeqCst) && asked.elapsed() < PATIENCE {
                sleep(Duration::from_millis(5));
            }
            // In the background the terminal is not ours.
            if terminal::is_in_foreground() || self.interrupts.received() > 0 {
                break;
            }
        }
        // What asked us to stop again meanwhile has been done.
        let _ = self.stops.take();
        self.screen
            .enter_again()
            .map_err(|error| of_terminal(&error))?;
        self.draw()
    }

    fn draw(&mut self) -> Result<()> {
        let shown = self.held.as_deref().unwrap_or(&self.live);
        let (state, colours) = (&mut self.state, self.colours);
        self.screen
            .draw(|frame| draw::draw(frame, shown, state, colours))
            .map_err(|error| of_terminal(&error))
    }

    /// Adds up what was taken in the last second.
    fn update(&mut self) {
        let profile = self.targets.taken();
        let recent = profile.sample_count();
        self.live.tally.add(profile);
        let samples = tally::Count {
            recent,
            all: self.live.facts.samples.all + recent,
        };
        self.targets.forget_samples();
        let summary = self.targets.summary();
        let [before, begun] = self.summaries;
        self.summaries[0] = summary;
        let lines = [before, begun].map(|earlier| summary.since(&earlier).lines(false));
        self.live.facts = self.facts(samples, lines);
    }

    fn facts(&mut self, samples: tally::Count, summary: [Vec<String>; 2]) -> Facts {
        let profile = self.targets.taken();
        let pids: Vec<u32> = profile.processes().iter().map(|it| it.pid).collect();
        self.meter.read(&pids);
        let event_loops = self.event_loops.take();
        let process = |process: &nodetap_profile::Process| {
            let pid = process.pid;
            let end = self.ends.iter().find(|(ended, _)| *ended == pid);
            let busy = event_loops.iter().find(|(of, _)| *of == pid);
            Process {
                pid,
                command: command(&process.command),
                node: process.node.clone(),
                cpu: self.meter.of_process(pid),
                event_loop: busy.map(|(_, busy)| *busy),
                end: end.map(|(_, end)| match end {
                    End::Exited => "has ended",
                    End::Execed => "runs another program now",
                }),
            }
        };
        let metadata = &profile.metadata;
        Facts {
            processes: profile.processes().iter().map(process).collect(),
            sampler: metadata.sampler.clone(),
            rate_hz: metadata.rate_hz,
            elapsed: match self.targets.are_alive() {
                true => self.targets.elapsed().saturating_sub(self.begun),
                false => self.live.facts.elapsed,
            },
            samples,
            lost: self.sampler.lost() + metadata.lost + self.targets.dropped(),
            truncated: metadata.truncated,
            summary,
            cpu: self.meter.threads(),
        }
    }

    /// Begins to count anew.
    fn reset(&mut self) {
        self.live.tally = Tally::default();
        self.live.facts.samples = tally::Count::default();
        self.targets.forget_samples();
        self.begun = self.targets.elapsed();
        self.summaries = [self.targets.summary(); 2];
        self.event_loops.reset();
        self.held = None;
        self.state.paused = false;
        self.update();
    }
}

/// A command line, as much of it as there is room for in any window, safe to print.
fn command(words: &[String]) -> String {
    let characters = words.iter().flat_map(|word| word.chars().chain([' ']));
    let text: String = characters.take(400).collect();
    visible(text.trim_end())
}

/// A terminal that is gone took whoever looked at it with it.
fn of_terminal(error: &io::Error) -> Failure {
    /// What a terminal that was closed says.
    const GONE: i32 = 5;
    match error.raw_os_error() {
        Some(GONE) => Failure::silent(0),
        _ => Failure::new(format_args!("cannot use the terminal: {}", reason(error))),
    }
}
