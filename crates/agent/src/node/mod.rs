//! The Node object: what this machine is, that it lives, and how it fares.

mod conditions;
mod lease;
mod machine;
mod registration;

pub use lease::renew;
pub use machine::{Machine, cpu_nanoseconds, memory_available, storage};
pub use registration::{keep, register};
