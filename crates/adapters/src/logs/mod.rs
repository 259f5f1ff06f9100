//! `hythe adapter logs`: logs of all kinds become one JSON line a record on standard output.

pub mod config;
pub mod format;
pub mod lines;
pub mod pattern;
pub mod time;
