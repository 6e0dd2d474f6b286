//! Why the eBPF sampler could not start.

use std::io;

/// Why the eBPF sampler could not start or go on.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The compiled-in object lacks something the loader expects.
    #[error("the eBPF object has no `{0}`")]
    Object(&'static str),
    /// A file of the kernel's could not be read.
    #[error("cannot read {path}: {error}")]
    File {
        #[allow(missing_docs)]
        path: &'static str,
        #[allow(missing_docs)]
        error: io::Error,
    },
    /// Waiting for samples failed.
    #[error("cannot wait for samples: {0}")]
    Poll(io::Error),
    /// The loader.
    #[error(transparent)]
    Loader(#[from] aya::EbpfError),
    /// A program.
    #[error(transparent)]
    Program(#[from] aya::programs::ProgramError),
    /// A map.
    #[error(transparent)]
    Map(#[from] aya::maps::MapError),
}

impl Error {
    pub(super) fn from_file(path: &'static str, error: io::Error) -> Self {
        Error::File { path, error }
    }
}
