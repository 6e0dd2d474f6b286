//! The commands, one a file.

pub mod doctor;
pub mod dump;
pub mod ps;
pub mod record;
pub mod sample;
