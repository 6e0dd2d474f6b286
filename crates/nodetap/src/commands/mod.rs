//! The commands, one a file.

pub mod completions;
pub mod diff;
pub mod doctor;
pub mod dump;
pub mod man;
pub mod ps;
pub mod record;
pub mod report;
pub mod sample;
pub mod top;
