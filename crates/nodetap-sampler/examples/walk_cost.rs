//! What the walk costs the sampled thread: `walk_cost NODE…`, where NODE is a
//! Node executable, which is made to run a busy loop 30 JavaScript frames
//! deep, or the process id of one that runs already.
//!
//! Prints nanoseconds a sample and a frame, at two rates, from the kernel's own
//! account of the program's run time (`BPF_ENABLE_STATS`).

use std::error::Error;
use std::process::{Child, Command};
use std::thread::sleep;
use std::time::{Duration, Instant};

use aya::programs::loaded_programs;
use aya::sys::{Stats, enable_stats};
use nodetap_sampler::ebpf::{EbpfSampler, Options, PROGRAM_NAME, ProcessConfig};
use nodetap_sampler::target::Target;

const DEEP: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/examples/deep.js");
const MEASURED: Duration = Duration::from_secs(5);

fn main() -> Result<(), Box<dyn Error>> {
    let nodes: Vec<String> = std::env::args().skip(1).collect();
    if nodes.is_empty() {
        return Err("usage: walk_cost (NODE | PID)...".into());
    }
    for node in nodes {
        let (started, pid) = match node.parse() {
            Ok(pid) => (None, pid),
            Err(_) => {
                let child = Ended(Command::new(&node).args([DEEP, "30"]).spawn()?);
                // Until the loop runs, and its functions are optimized.
                sleep(Duration::from_secs(2));
                let pid = child.0.id();
                (Some(child), pid)
            }
        };
        let target = Target::attach(pid)?;
        println!("{node} (V8 {}):", target.v8_version);
        for rate_hz in [999, 9999] {
            measure(pid, target.config(512), rate_hz)?;
        }
        drop(started);
    }
    Ok(())
}

/// A child that does not outlive us.
struct Ended(Child);

impl Drop for Ended {
    fn drop(&mut self) {
        // It is gone already, or it is ours to end: nothing else can fail.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn measure(pid: u32, config: ProcessConfig, rate_hz: u32) -> Result<(), Box<dyn Error>> {
    let options = Options::with_rate(rate_hz);
    // The kernel keeps the account while this file descriptor is open.
    let _stats = enable_stats(Stats::RunTime)?;
    // Ticks that hit another process cost a little too; that is measured first.
    let others = {
        let _sampler = EbpfSampler::start(&options, &[])?;
        sleep(Duration::from_secs(1));
        cost()?
    };
    let mut sampler = EbpfSampler::start(&options, &[(pid, config)])?;
    let (mut samples, mut frames) = (0_u64, 0_u64);
    let mut count = |sample: nodetap_sampler::raw::RawSampleRef<'_>| {
        samples += 1;
        frames += sample.frames.len() as u64;
    };
    let end = Instant::now() + MEASURED;
    while let Some(left) = end.checked_duration_since(Instant::now()) {
        sampler.poll(left.min(Duration::from_millis(100)), &mut count)?;
    }
    let total = cost()?;
    let lost = sampler.stop(&mut count)?;
    if samples == 0 {
        return Err("the process was not seen running".into());
    }
    let elsewhere = total.runs.saturating_sub(samples) as f64 * others.per_run();
    let walks = total.nanoseconds as f64 - elsewhere;
    println!(
        "  {rate_hz:>5} Hz: {:.2} µs a sample, {:.0} ns a frame \
         ({samples} samples of {:.1} frames, {lost} lost; \
         a tick of another process: {:.2} µs)",
        walks / samples as f64 / 1000.0,
        walks / frames as f64,
        frames as f64 / samples as f64,
        others.per_run() / 1000.0,
    );
    Ok(())
}

struct Cost {
    nanoseconds: u64,
    runs: u64,
}

impl Cost {
    fn per_run(&self) -> f64 {
        self.nanoseconds as f64 / self.runs.max(1) as f64
    }
}

/// What the program that was loaded last has cost since then.
fn cost() -> Result<Cost, Box<dyn Error>> {
    let program = loaded_programs()
        .filter_map(Result::ok)
        .filter(|program| program.name_as_str() == Some(PROGRAM_NAME))
        .last()
        .ok_or("the program is not loaded")?;
    Ok(Cost {
        nanoseconds: u64::try_from(program.run_time().as_nanos())?,
        runs: program.run_count(),
    })
}
