//! Telling others that something has changed: a webhook or a command, repeated until it succeeds; a signal to a process.

mod hook;
mod signal;

pub use hook::{Context, Hook, Kind, once};
pub use signal::{SignalError, Target, main_process, parse_signal, send};
