//! Prints raw samples of a process: `samples PID [SECONDS [RATE]]`.
//!
//! With `--v8 SHARED,SCRIPT,LITERAL_ID,SCRIPT_ID` (offsets in bytes from the
//! start of `JSFunction`, `SharedFunctionInfo` twice and `Script`) the identity
//! of JavaScript functions too; with `--kernel` kernel frames; with `--count`
//! only the closing line.

use std::error::Error;
use std::time::{Duration, Instant};

use nodetap_sampler::ebpf::{EbpfSampler, Options, ProcessConfig, shared};

fn main() -> Result<(), Box<dyn Error>> {
    let mut options = Options::default();
    let mut config = ProcessConfig {
        max_depth: shared::MAX_FRAMES,
        ..Default::default()
    };
    let mut quiet = false;
    let mut numbers = Vec::new();
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        match argument.as_str() {
            "--kernel" => options.kernel = true,
            "--count" => quiet = true,
            "--v8" => {
                let offsets = arguments.next().ok_or("--v8 needs four offsets")?;
                let offsets = offsets
                    .split(',')
                    .map(str::parse)
                    .collect::<Result<Vec<u32>, _>>()?;
                let [shared, script, literal_id, script_id] = offsets[..] else {
                    return Err("--v8 needs four offsets".into());
                };
                config.has_v8 = 1;
                config.function_shared = shared;
                config.shared_script = script;
                config.shared_literal_id = literal_id;
                config.script_id = script_id;
            }
            number => numbers.push(number.parse::<u32>()?),
        }
    }
    let pid = *numbers
        .first()
        .ok_or("usage: samples PID [SECONDS [RATE]]")?;
    let seconds = numbers.get(1).copied().unwrap_or(1);
    options.rate_hz = numbers.get(2).copied().unwrap_or(options.rate_hz);

    let begin = Instant::now();
    let mut sampler = EbpfSampler::start(&options, &[(pid, config)])?;
    let started = begin.elapsed();
    let (mut samples, mut frames) = (0_u64, 0_u64);
    let mut show = |sample: nodetap_sampler::raw::RawSampleRef<'_>| {
        samples += 1;
        frames += sample.frames.len() as u64;
        if quiet {
            return;
        }
        println!(
            "{} {}/{}{}{}{} rip {:x} rsp {:x} rbp {:x} stack {}",
            sample.time_ns,
            sample.pid,
            sample.tid,
            if sample.in_kernel { " kernel" } else { "" },
            if sample.truncated { " truncated" } else { "" },
            if sample.broken { " broken" } else { "" },
            sample.registers.rip,
            sample.registers.rsp,
            sample.registers.rbp,
            sample.stack.len(),
        );
        for pc in sample.kernel {
            println!("  kernel {pc:x}");
        }
        for frame in sample.frames {
            println!("  {frame:x?}");
        }
    };
    let end = Instant::now() + Duration::from_secs(seconds.into());
    while let Some(left) = end.checked_duration_since(Instant::now()) {
        sampler.poll(left.min(Duration::from_millis(100)), &mut show)?;
    }
    let lost = sampler.stop(&mut show)?;
    eprintln!("{samples} samples, {frames} frames, {lost} lost; started in {started:?}");
    Ok(())
}
