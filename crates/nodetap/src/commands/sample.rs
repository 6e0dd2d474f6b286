//! `nodetap sample PID FORMAT SECONDS`: the one-liner.

use std::time::Duration;

use clap::Args;
use nodetap_profile::{By, Format};

use crate::arguments;
use crate::failure::Result;
use crate::recording::{self, Settings};
use crate::taking::Taking;

/// Sample a process for some seconds and print the result.
///
/// Every thread of the process is sampled 999 times a second of the CPU time
/// that it uses. The process is neither stopped nor changed. (Who is not root gets
/// 99 samples a second, for each of which a thread is stopped for a moment.)
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct Arguments {
    /// The process to sample
    #[arg(value_parser = arguments::pid, allow_negative_numbers = true)]
    pid: u32,

    /// What to print: text (a tree of calls), flame (a flame graph, SVG) or
    /// raw (stacks, as DTrace prints them)
    #[arg(value_parser = arguments::sample_formats(), hide_possible_values = true)]
    format: Format,

    /// For how long; fractions are fine
    #[arg(value_parser = arguments::duration, allow_negative_numbers = true)]
    seconds: Duration,
}

const EXAMPLES: &str = "\
Examples:
  A tree of calls after ten seconds
    sudo nodetap sample 4711 text 10
  A flame graph
    sudo nodetap sample 4711 flame 10 > out.svg
  With the scripts that read DTrace's stacks
    sudo nodetap sample 4711 raw 10 | stackcollapse.pl | flamegraph.pl > out.svg";

/// Does it.
pub fn run(arguments: &Arguments) -> Result<()> {
    let Arguments {
        pid,
        format,
        seconds,
    } = arguments;
    let taking = Taking::default();
    recording::record(&Settings {
        pids: vec![*pid],
        command: None,
        subprocesses: false,
        duration: Some(*seconds),
        sampling: taking.sampling(false),
        shown: taking.shown(false),
        format: *format,
        by: By::Function,
        output: None,
        open: false,
        announcement: Some(announcement(*pid, *format, *seconds)),
    })
}

fn announcement(pid: u32, format: Format, duration: Duration) -> String {
    let seconds = duration.as_secs_f64();
    format!("Sampling {pid} for {seconds}s, outputting {format}.")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_announcement_is_that_of_the_contract() {
        assert_eq!(
            announcement(32642, Format::Text, Duration::from_secs(10)),
            "Sampling 32642 for 10s, outputting text."
        );
        assert_eq!(
            announcement(1, Format::Flame, Duration::from_millis(500)),
            "Sampling 1 for 0.5s, outputting flame."
        );
    }
}
