//! How samples are taken, and what of them is shown: options that `record` and `top` share.

use clap::Args;
use nodetap_symbols::Options;

use crate::arguments::{self, DEFAULT_MAX_DEPTH};
use crate::recording::SamplerChoice;
use crate::recording::sampling::Sampling;

/// The options.
#[derive(Clone, Debug, Args)]
pub struct Taking {
    /// Samples a second of CPU time [default: 999; with the ptrace sampler 99]
    #[arg(short, long, value_name = "HZ", hide_default_value = true)]
    #[arg(value_parser = arguments::rate, allow_negative_numbers = true)]
    rate: Option<u32>,

    /// Show C++ frames too: Node's, V8's, libraries', addons'
    #[arg(long)]
    native: bool,

    /// Show the kernel's frames too
    #[arg(long)]
    kernel: bool,

    /// Show TypeScript and bundles as the JavaScript that runs, not by their source maps
    #[arg(long)]
    no_source_maps: bool,

    /// What takes the stacks
    #[arg(long, value_enum, default_value_t)]
    sampler: SamplerChoice,

    /// The most frames of a stack that are kept, the innermost
    #[arg(long, value_name = "N", default_value_t = DEFAULT_MAX_DEPTH)]
    #[arg(value_parser = arguments::max_depth, allow_negative_numbers = true)]
    max_depth: u32,
}

impl Default for Taking {
    /// What they are where nobody says anything.
    fn default() -> Taking {
        Taking {
            rate: None,
            native: false,
            kernel: false,
            no_source_maps: false,
            sampler: SamplerChoice::default(),
            max_depth: DEFAULT_MAX_DEPTH,
        }
    }
}

impl Taking {
    /// How samples are to be taken; with `wall` of threads that wait, too.
    pub fn sampling(&self, wall: bool) -> Sampling {
        Sampling {
            sampler: self.sampler,
            rate_hz: self.rate,
            max_depth: self.max_depth,
            kernel: self.kernel,
            wall,
        }
    }

    /// What is to be shown; with `sources` the text of lines, too.
    pub fn shown(&self, sources: bool) -> Options {
        Options {
            native: self.native,
            kernel: self.kernel,
            source_maps: !self.no_source_maps,
            sources,
        }
    }
}
