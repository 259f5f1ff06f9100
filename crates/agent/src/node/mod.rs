//! The Node object: what this machine is, that it lives, and how it fares.

mod conditions;
pub mod eviction;
mod extended;
pub mod image_gc;
mod lease;
mod machine;
mod registration;
mod shutdown;

pub use conditions::Health;
pub use lease::renew;
pub use machine::{
    Machine, anonymous_memory, booted_at, cpu_nanoseconds, memory_available, memory_total, page_faults, processes,
    storage, swap,
};
pub use registration::{keep, register};
pub use shutdown::{SHUTTING_DOWN, shut_down};
