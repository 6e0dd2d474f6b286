//! What naming native code costs: `native_cost PID [COUNT]`.
//!
//! Names COUNT (2,000) addresses, spread over all executable mappings of files of
//! process PID, and prints processor time, memory and how many have a function.

use std::collections::HashSet;
use std::error::Error;
use std::fs;
use std::time::Duration;

use nodetap_symbols::maps::Maps;
use nodetap_symbols::native::{NativeNames, Pc};
use rustix::time::{ClockId, clock_gettime};

fn main() -> Result<(), Box<dyn Error>> {
    let numbers = std::env::args()
        .skip(1)
        .map(|argument| argument.parse())
        .collect::<Result<Vec<u32>, _>>()?;
    let pid = *numbers.first().ok_or("usage: native_cost PID [COUNT]")?;
    let count = u64::from(numbers.get(1).copied().unwrap_or(2000).max(1));

    let maps = Maps::read(&pid.into())?;
    let code: Vec<_> = maps.files().collect();
    let bytes: u64 = code.iter().map(|mapping| mapping.end - mapping.start).sum();
    let step = (bytes / count).max(1) as usize;
    let addresses: Vec<u64> = code
        .iter()
        .flat_map(|mapping| (mapping.start..mapping.end).step_by(step))
        .collect();

    let mut begin = Begin::now()?;
    let mut names = NativeNames::new();
    names.attach(pid)?;
    begin.lap("attached")?;
    let first = names.name(pid, Pc::Own(addresses[0]));
    begin.lap("first name")?;
    println!("  {first:?}");
    let mut functions = HashSet::new();
    let mut modules = 0;
    for &address in &addresses {
        match names.name(pid, Pc::Own(address)) {
            Some(frame) => match frame.function {
                Some(function) => drop(functions.insert(function)),
                None => modules += 1,
            },
            None => println!("  nothing at {address:x}"),
        }
    }
    begin.lap(&format!("{} names", addresses.len()))?;
    println!(
        "  {} different functions, {modules} addresses known by their module only",
        functions.len()
    );
    for &address in &addresses {
        names.name(pid, Pc::Own(address));
    }
    begin.lap("the same again")?;
    Ok(())
}

/// Processor time and memory since the last lap.
struct Begin(Duration);

impl Begin {
    fn now() -> Result<Self, Box<dyn Error>> {
        Ok(Self(Duration::try_from(clock_gettime(
            ClockId::ProcessCPUTime,
        ))?))
    }

    fn lap(&mut self, what: &str) -> Result<(), Box<dyn Error>> {
        let now = Self::now()?.0;
        let status = fs::read_to_string("/proc/self/status")?;
        let memory = |name: &str| {
            status
                .lines()
                .find_map(|line| line.strip_prefix(name))
                .map_or("?", str::trim)
        };
        println!(
            "{what}: {:.2} ms of processor time, resident {} (highest {})",
            (now - self.0).as_secs_f64() * 1e3,
            memory("VmRSS:"),
            memory("VmHWM:"),
        );
        self.0 = Self::now()?.0;
        Ok(())
    }
}
