//! The adapters against the software itself, and against servers that mean harm.

mod health;
mod hostile;
mod logs;
mod metrics;
mod software;
