//! `nodetap doctor`: what this machine and user allow.

mod diagnose;

use std::io::{self, Write};

use clap::Args;
use nodetap_sampler::ebpf::EbpfSampler;
use nodetap_sampler::ptrace;

use crate::failure::{Failure, Result};
use crate::permissions;
use crate::permissions::observer::Observer;
use crate::permissions::remedy::Task;
use crate::terminal::{Style, colours, one_line};
use diagnose::{Facts, Report, State, diagnose};

/// Tell what this machine and user allow.
///
/// What matters for recording: the kernel, its settings, the capabilities of
/// this user, the container, if it is one; which sampler would be used and why;
/// and the one command that would improve it. The exit status is 0 if a
/// recording would work, else 1.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct Arguments {}

const EXAMPLES: &str = "\
Examples:
  What may this user do here, and what would help?
    nodetap doctor
  Would root have it better?
    sudo nodetap doctor
  In a script: record only where that is possible
    nodetap doctor > /dev/null && nodetap record -o out.svg -- node app.js";

/// Tells it; fails (without more words) where nothing could be recorded.
pub fn run(_: &Arguments) -> Result<()> {
    let us = Observer::gather();
    let ebpf = EbpfSampler::probe();
    let ebpf = ebpf.map_err(|error| permissions::advice_of_ebpf(&error, &us, Task::Attach));
    let ptrace = ptrace::probe().map_err(|error| permissions::advice_of_start(&error, &us));
    let report = diagnose(&Facts { us, ebpf, ptrace });
    let stdout = io::stdout();
    let text = render(&report, colours(&stdout));
    stdout
        .lock()
        .write_all(text.as_bytes())
        .map_err(|error| Failure::of_stdout(&error))?;
    match report.sampler {
        Some(_) => Ok(()),
        None => Err(Failure::silent(1)),
    }
}

fn render(report: &Report, colours: bool) -> String {
    let mut text = String::new();
    for finding in &report.findings {
        let (mark, style) = match finding.state {
            State::Good => ("ok", Style::Green),
            State::Limited => ("!", Style::Yellow),
            State::Bad => ("no", Style::Red),
            State::Neutral => ("-", Style::Dim),
        };
        let mark = style.paint(format_args!("{mark:<2}"), colours);
        let words = one_line(&finding.text);
        text += &format!("{mark}  {:<13}  {words}\n", finding.subject);
    }
    let (sampler, style) = match report.sampler {
        Some(sampler) => (sampler, Style::Green),
        None => ("none", Style::Red),
    };
    let sampler = style.paint(sampler, colours);
    text += &format!("\nsampler: {sampler}: {}\n", one_line(&report.why));
    if let Some(improve) = &report.improve {
        text += &format!("to improve it: {}\n", one_line(improve));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use diagnose::Finding;

    #[test]
    fn a_report_in_plain_text() {
        let report = Report {
            findings: vec![
                Finding {
                    state: State::Good,
                    subject: "kernel",
                    text: "Linux 6.1.0".to_owned(),
                },
                Finding {
                    state: State::Bad,
                    subject: "BPF",
                    text: "needs CAP_BPF".to_owned(),
                },
            ],
            sampler: None,
            why: "CAP_BPF is missing".to_owned(),
            improve: Some("sudo nodetap".to_owned()),
        };
        assert_eq!(
            render(&report, false),
            "ok  kernel         Linux 6.1.0\n\
             no  BPF            needs CAP_BPF\n\
             \n\
             sampler: none: CAP_BPF is missing\n\
             to improve it: sudo nodetap\n"
        );
    }
}
