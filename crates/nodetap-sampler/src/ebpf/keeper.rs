//! The thread that keeps the program in the kernel informed of the code of processes.
//!
//! Changing a map that has maps in it takes until no program runs on any CPU that may
//! still see what was there before: some ten milliseconds. Samples are not to wait so
//! long for being named.

use std::collections::hash_map::Entry;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, SyncSender, channel, sync_channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use aya::maps::{HashMap, MapData, MapError};
use rustc_hash::{FxHashMap, FxHashSet};
use tracing::debug;

use super::code::{KnownCode, Told};
use super::error::Error;
use super::shared::ProcessConfig;

/// How often it is looked for new code, and for tables that are just being made.
const INTERVAL: Duration = Duration::from_millis(20);
const INTERVAL_OF_TABLES: Duration = Duration::from_millis(3);

/// What the program in the kernel knows of processes.
pub(super) struct Processes {
    map: HashMap<MapData, u32, ProcessConfig>,
    /// What is in there, but for what is told of code.
    configs: FxHashMap<u32, ProcessConfig>,
}

impl Processes {
    fn tell(&mut self, pid: u32, told: Told) -> Result<(), Error> {
        let Some(config) = self.configs.get(&pid) else {
            return Ok(());
        };
        let config = ProcessConfig {
            code_mappings: told.mappings,
            code_generation: told.generation,
            ..*config
        };
        Ok(self.map.insert(pid, config, 0)?)
    }
}

/// The processes that are sampled, and the thread that finds out where their code is.
pub(super) struct Keeper {
    processes: Arc<Mutex<Processes>>,
    /// None: there is no such thread.
    orders: Option<Sender<Order>>,
    /// Those of which it has been ordered to look since the last sample was read.
    met: FxHashSet<u32>,
}

enum Order {
    Add(u32),
    Remove(u32),
    MetNewCode(u32),
    /// To be answered when all that is known by then has been told.
    Answer(SyncSender<()>),
}

impl Keeper {
    /// Starts the thread. `map` is the program's `processes`.
    pub fn start(map: HashMap<MapData, u32, ProcessConfig>, code: KnownCode) -> Keeper {
        let processes = Arc::new(Mutex::new(Processes {
            map,
            configs: FxHashMap::default(),
        }));
        let (orders, received) = channel();
        let thread = Thread {
            processes: processes.clone(),
            code,
            waiting: Vec::new(),
        };
        let builder = thread::Builder::new().name("unwind-code".to_owned());
        Keeper {
            processes,
            orders: builder
                .spawn(move || thread.run(&received))
                .is_ok()
                .then_some(orders),
            met: FxHashSet::default(),
        }
    }

    /// Samples one process more, or changes what is known of one: at once, and by frame
    /// pointers until it is known where its code is.
    pub fn add(&mut self, pid: u32, config: &ProcessConfig) -> Result<(), Error> {
        let mut processes = lock(&self.processes);
        processes.configs.insert(pid, *config);
        processes.tell(pid, Told::default())?;
        drop(processes);
        self.order(Order::Add(pid));
        Ok(())
    }

    /// Ends the sampling of a process; of one that is not sampled: nothing.
    pub fn remove(&mut self, pid: u32) -> Result<(), Error> {
        let mut processes = lock(&self.processes);
        if let Entry::Occupied(entry) = processes.configs.entry(pid) {
            entry.remove();
            absent_is_fine(processes.map.remove(&pid))?;
        }
        drop(processes);
        self.order(Order::Remove(pid));
        Ok(())
    }

    /// A sample of this process has met code that was not there before.
    pub fn met_new_code(&mut self, pid: u32) {
        if self.met.insert(pid) {
            self.order(Order::MetNewCode(pid));
        }
    }

    /// All samples that there were have been read.
    pub fn end_batch(&mut self) {
        self.met.clear();
    }

    /// Waits until all that can be known now has been told, but no longer than this.
    pub fn wait(&self, at_most: Duration) {
        let (answer, answered) = sync_channel(1);
        self.order(Order::Answer(answer));
        // Else it comes later.
        let _ = answered.recv_timeout(at_most);
    }

    fn order(&self, order: Order) {
        if let Some(orders) = &self.orders {
            // It ends only after this.
            let _ = orders.send(order);
        }
    }
}

struct Thread {
    processes: Arc<Mutex<Processes>>,
    code: KnownCode,
    /// Those to be answered.
    waiting: Vec<SyncSender<()>>,
}

impl Thread {
    fn run(mut self, orders: &Receiver<Order>) {
        loop {
            let order = match self.code.is_settled() {
                true => orders.recv().map_err(|_| RecvTimeoutError::Disconnected),
                false => orders.recv_timeout(match self.code.has_all_tables() {
                    true => INTERVAL,
                    false => INTERVAL_OF_TABLES,
                }),
            };
            match order {
                Err(RecvTimeoutError::Disconnected) => return,
                Err(RecvTimeoutError::Timeout) => {}
                Ok(order) => {
                    let others = std::iter::from_fn(|| orders.try_recv().ok());
                    for order in std::iter::once(order).chain(others) {
                        self.follow(order);
                    }
                }
            }
            // Without it, walks go by frame pointers.
            if let Err(error) = self.look() {
                debug!(%error, "code not told");
            }
            if self.code.has_all_tables() {
                for answer in self.waiting.drain(..) {
                    let _ = answer.try_send(());
                }
            }
        }
    }

    fn follow(&mut self, order: Order) {
        match order {
            Order::Add(pid) => self.code.add(pid),
            Order::Remove(pid) => self.code.remove(pid),
            Order::MetNewCode(pid) => self.code.met_new_code(pid),
            Order::Answer(answer) => self.waiting.push(answer),
        }
    }

    fn look(&mut self) -> Result<(), Error> {
        for (pid, told) in self.code.refresh()? {
            lock(&self.processes).tell(pid, told)?;
        }
        self.code.tidy()
    }
}

/// Whoever had it has not left it half changed: each of its methods makes one change.
fn lock(processes: &Mutex<Processes>) -> MutexGuard<'_, Processes> {
    processes.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Removing what is not there.
pub(super) fn absent_is_fine(result: Result<(), MapError>) -> Result<(), Error> {
    match result {
        Err(MapError::SyscallError(error))
            if error.io_error.kind() == std::io::ErrorKind::NotFound =>
        {
            Ok(())
        }
        result => Ok(result?),
    }
}
