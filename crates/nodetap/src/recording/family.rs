//! The processes that become Node.js, or are born, while a recording runs: the
//! command that was started for it, and what its processes start.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io;
use std::os::unix::process::ExitStatusExt;
use std::process::{Command, ExitStatus};
use std::time::{Duration, Instant};

use nodetap_sampler::discover;
use nodetap_sampler::launch::{Fate, Launch};
use nodetap_sampler::ptrace;
use nodetap_sampler::sampler::{self, Sampler};
use nodetap_sampler::target::TargetError;
use tracing::debug;

use super::failure_of_sampler;
use super::targets::{Cannot, Targets};
use crate::failure::{Failure, Result};
use crate::permissions;
use crate::watch::{End, Watch};

/// How soon a program that is not Node.js is looked at again; then half as often each
/// time: V8 may be in a library that the loader has not mapped yet.
const FIRST_PAUSE: Duration = Duration::from_millis(2);
/// Where there was no V8 by then, there is none.
const LAST_PAUSE: Duration = Duration::from_millis(256);
/// How often new children are looked for.
const CHILDREN_INTERVAL: Duration = Duration::from_millis(10);

/// The processes that may be, or become, Node.js.
pub struct Family {
    launch: Option<Launch>,
    /// What was started, as the user wrote it.
    command: String,
    /// Whether children belong to it.
    follow: bool,
    members: BTreeMap<u32, Member>,
    /// Why the command could not be recorded, if it is Node.js.
    failure: Option<Failure>,
    looked_for_children: Instant,
}

/// One process.
struct Member {
    /// `None` while it runs its parent's program.
    watch: Option<Watch>,
    is_recorded: bool,
    /// When to look at its program again, and how long to wait then.
    again: Option<(Instant, Duration)>,
}

impl Family {
    /// That of `pids`, which are recorded already. If `follow` is set, what they start
    /// and what else they run belong to it; else nothing does.
    pub fn of_processes(pids: &[u32], follow: bool) -> Family {
        let recorded = |&pid: &u32| {
            let member = Member {
                watch: Watch::open(pid).ok(),
                is_recorded: true,
                again: None,
            };
            (pid, member)
        };
        Family {
            launch: None,
            command: String::new(),
            follow,
            members: match follow {
                true => pids.iter().map(recorded).collect(),
                false => BTreeMap::new(),
            },
            failure: None,
            looked_for_children: Instant::now(),
        }
    }

    /// Starts `command`, and holds it before its first instruction: the first
    /// [`look`](Self::look) lets it go.
    pub fn start(command: &[OsString], follow: bool) -> Result<Family> {
        let mut words = command.iter();
        let program = words
            .next()
            .ok_or_else(|| Failure::usage("no command to start"))?;
        let shown = program.to_string_lossy().into_owned();
        let mut start = Command::new(program);
        start.args(words);
        let launch = Launch::start(start).map_err(|error| not_started(&shown, &error))?;
        debug!(pid = launch.pid(), "started");
        let member = Member {
            watch: Watch::open(launch.pid()).ok(),
            is_recorded: false,
            again: None,
        };
        Ok(Family {
            members: BTreeMap::from([(launch.pid(), member)]),
            launch: Some(launch),
            command: shown,
            follow,
            failure: None,
            looked_for_children: Instant::now(),
        })
    }

    /// The process that was started.
    pub fn started(&self) -> Option<u32> {
        self.launch.as_ref().map(Launch::pid)
    }

    /// How the command has ended, if it has.
    pub fn status(&mut self) -> Option<ExitStatus> {
        self.launch.as_mut()?.status()
    }

    /// Has the command go on without being looked at any more.
    pub fn release(&mut self) {
        if let Some(launch) = &mut self.launch {
            launch.release();
        }
    }

    /// Whether nothing more is to come.
    pub fn is_over(&mut self) -> bool {
        let ended = match &mut self.launch {
            Some(launch) => launch.status().is_some(),
            None => true,
        };
        ended && (self.members.is_empty() || !self.follow)
    }

    /// Why nothing was recorded.
    pub fn why_nothing(&mut self) -> Option<Failure> {
        if let Some(failure) = self.failure.take() {
            return Some(failure);
        }
        let status = self.launch.as_mut()?.status();
        if let Some(signal) = status.and_then(|status| status.signal()) {
            return Some(Failure::new(format_args!(
                "{} was killed by signal {signal} before it ran Node.js",
                self.command
            )));
        }
        let failure = Failure::new(format_args!("{} did not run Node.js", self.command));
        Some(match self.follow {
            true => failure,
            false => failure.hint("--subprocesses records the processes that it starts too"),
        })
    }

    /// Looks what has become of every process, and has those sampled that are
    /// Node.js now.
    pub fn look(&mut self, targets: &mut Targets, sampler: &mut Sampler, depth: u32) -> Result<()> {
        self.look_at_command(targets, sampler, depth)?;
        for member in self.members.values_mut() {
            member.look();
        }
        self.members.retain(|_, member| {
            !matches!(
                member.watch.as_ref().map(Watch::end),
                Some(Some(End::Exited))
            )
        });
        let now = Instant::now();
        let is_due = |member: &Member| member.again.is_some_and(|(when, _)| when <= now);
        let due = self.members.iter().filter(|(_, member)| is_due(member));
        let due: Vec<u32> = due.map(|(&pid, _)| pid).collect();
        for pid in due {
            self.try_to_record(pid, targets, sampler, depth)?;
        }
        if self.follow && self.looked_for_children.elapsed() >= CHILDREN_INTERVAL {
            self.looked_for_children = Instant::now();
            self.look_for_children();
        }
        Ok(())
    }

    /// The command is held at the beginning of each program up to the one that is
    /// Node.js, so that nothing of that is missed.
    fn look_at_command(
        &mut self,
        targets: &mut Targets,
        sampler: &mut Sampler,
        depth: u32,
    ) -> Result<()> {
        let Some(launch) = &mut self.launch else {
            return Ok(());
        };
        if launch.look() != Fate::Begins {
            return Ok(());
        }
        let pid = launch.pid();
        if let Some(member) = self.members.get_mut(&pid) {
            member.watch = Watch::open(pid).ok();
        }
        let recorded = self.try_to_record(pid, targets, sampler, depth);
        let member = self.members.get(&pid);
        if let Some(launch) = &mut self.launch {
            match member {
                Some(Member {
                    is_recorded: false,
                    again: Some(_),
                    ..
                }) => launch.proceed(),
                _ => launch.release(),
            }
        }
        recorded
    }

    fn try_to_record(
        &mut self,
        pid: u32,
        targets: &mut Targets,
        sampler: &mut Sampler,
        depth: u32,
    ) -> Result<()> {
        let Some(member) = self.members.get_mut(&pid) else {
            return Ok(());
        };
        let pause = member.again.map_or(FIRST_PAUSE, |(_, pause)| pause * 2);
        member.again = None;
        match targets.attach(pid) {
            Ok(target) => {
                let launch = self.launch.as_mut();
                let launch = launch.filter(|launch| launch.pid() == pid);
                match sampler.add_process(target, depth) {
                    Ok(()) => debug!(pid, "recorded"),
                    // That will be seen.
                    Err(sampler::Error::Ptrace(ptrace::Error::Ended { .. })) => {}
                    Err(error) if launch.is_some() => return Err(failure_of_sampler(error)),
                    // One of many: the others are recorded.
                    Err(error) => {
                        debug!(pid, %error, "not recorded");
                        self.failure = Some(failure_of_sampler(error));
                    }
                }
                member.is_recorded = true;
                if let Some(launch) = launch {
                    targets.warm_up();
                    launch.release();
                }
            }
            Err(Cannot::Attach(TargetError::NotNode { .. })) if pause <= LAST_PAUSE => {
                member.again = Some((Instant::now() + pause, pause));
            }
            // It is the shell, or whatever else there is.
            Err(Cannot::Attach(TargetError::NotNode { .. } | TargetError::NoSuchProcess(_))) => {}
            Err(cannot) => {
                debug!(pid, ?cannot, "not recorded");
                self.failure = Some(cannot.into());
            }
        }
        Ok(())
    }

    fn look_for_children(&mut self) {
        let parents: Vec<u32> = self.members.keys().copied().collect();
        for child in parents.into_iter().flat_map(discover::children) {
            self.members.entry(child).or_insert(Member {
                watch: None,
                is_recorded: false,
                again: None,
            });
        }
        // What was never watched is not known to have ended.
        self.members.retain(|&pid, member| {
            member.watch.is_some() || {
                if discover::has_own_program(pid) == Some(true) {
                    member.watch = Watch::open(pid).ok();
                    member.again = Some((Instant::now(), FIRST_PAUSE / 2));
                }
                discover::has_own_program(pid).is_some()
            }
        });
    }
}

impl Member {
    /// Looks whether it runs another program now, which is to be looked at.
    fn look(&mut self) {
        let Some(watch) = &self.watch else { return };
        if watch.end() == Some(End::Execed) {
            self.watch = Watch::open(watch.pid()).ok();
            self.is_recorded = false;
            self.again = Some((Instant::now(), FIRST_PAUSE / 2));
        }
    }
}

fn not_started(program: &str, error: &io::Error) -> Failure {
    let failure = permissions::failure_of_start(program, error);
    match error.kind() {
        io::ErrorKind::NotFound => failure.hint("is it installed, and in the PATH?"),
        _ => failure,
    }
}
