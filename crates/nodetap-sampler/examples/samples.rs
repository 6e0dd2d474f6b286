//! Prints raw samples of a process: `samples PID [SECONDS [RATE]]`.
//!
//! With `--kernel` kernel frames too; with `--count` only the closing line.
//! Of a process that is not Node, only what its frame pointers tell.

use std::error::Error;
use std::time::{Duration, Instant};

use nodetap_sampler::ebpf::{EbpfSampler, Options, ProcessConfig, shared};
use nodetap_sampler::raw::RawSampleRef;
use nodetap_sampler::target::Target;

fn main() -> Result<(), Box<dyn Error>> {
    let mut kernel = false;
    let mut quiet = false;
    let mut numbers = Vec::new();
    for argument in std::env::args().skip(1) {
        match argument.as_str() {
            "--kernel" => kernel = true,
            "--count" => quiet = true,
            number => numbers.push(number.parse::<u32>()?),
        }
    }
    let usage = "usage: samples PID [SECONDS [RATE]]";
    let pid = *numbers.first().ok_or(usage)?;
    let seconds = numbers.get(1).copied().unwrap_or(1);
    let options = Options {
        kernel,
        ..Options::with_rate(numbers.get(2).copied().unwrap_or(999))
    };
    let config = match Target::attach(pid) {
        Ok(target) => target.config(shared::MAX_FRAMES),
        Err(error) => {
            eprintln!("{error}");
            ProcessConfig {
                max_depth: shared::MAX_FRAMES,
                ..Default::default()
            }
        }
    };

    let begin = Instant::now();
    let mut sampler = EbpfSampler::start(&options, &[(pid, config)])?;
    let started = begin.elapsed();
    let (mut samples, mut frames) = (0_u64, 0_u64);
    let mut show = |sample: RawSampleRef<'_>| {
        samples += 1;
        frames += sample.frames.len() as u64;
        if !quiet {
            print_sample(&sample);
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

fn print_sample(sample: &RawSampleRef<'_>) {
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
}
