//! The commands, one a file.

pub mod diff;
pub mod doctor;
pub mod dump;
pub mod ps;
pub mod record;
pub mod report;
pub mod sample;
