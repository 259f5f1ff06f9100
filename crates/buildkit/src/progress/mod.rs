//! What clients are shown: the builder's events as BuildKit's vertices, kept for whoever asks, from the start.

mod board;
mod journal;
mod names;

pub(crate) use board::{Board, Task};
pub(crate) use journal::{Journal, Watch};
pub(crate) use names::StepNames;
