//! The program on its way into the kernel.
//!
//! That takes some 40 ms, half of it for reading what the kernel tells of its own types and
//! half for its verifier, and making the tables by which native code is unwound takes as
//! long. Neither needs to know more of a process than its number, so that both go on while
//! it is found out what else has to be known.

use std::io;
use std::thread;

use super::code::Files;
use super::error::Error;
use super::sampler::{EbpfSampler, Options};

/// A sampler that is being loaded. Dropping it gives it up.
#[derive(Debug)]
pub struct Loading {
    options: Options,
    thread: io::Result<thread::JoinHandle<Result<EbpfSampler, Error>>>,
}

impl Loading {
    /// Begins to load the program, with room for the deepest stacks that `options` allow,
    /// and to find out how the code of `processes` is unwound, by threads of their own.
    pub fn begin(options: &Options, processes: &[u32]) -> Loading {
        let options = options.with_processes(processes.len());
        let processes = processes.to_owned();
        let work = move || {
            let mut files = Files::new();
            for &pid in &processes {
                files.look(pid);
            }
            EbpfSampler::load(&options, options.max_depth, files)
        };
        let thread = thread::Builder::new().name("ebpf-load".to_owned());
        Loading {
            options,
            thread: thread.spawn(work),
        }
    }

    /// The most frames of a stack.
    pub fn max_depth(&self) -> u32 {
        self.options.max_depth
    }

    /// What was asked for.
    pub(super) fn options(&self) -> &Options {
        &self.options
    }

    /// Waits until it is loaded.
    pub(super) fn finish(self) -> Result<EbpfSampler, Error> {
        let thread = self.thread.map_err(|source| Error::System {
            call: "clone".to_owned(),
            source,
        })?;
        match thread.join() {
            Ok(loaded) => loaded,
            Err(panic) => std::panic::resume_unwind(panic),
        }
    }
}
