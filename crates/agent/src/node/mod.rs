//! The Node object: what this machine is, that it lives, and how it fares.

mod allocatable;
mod conditions;
pub mod eviction;
mod extended;
pub mod image_gc;
mod lease;
mod machine;
mod registration;
pub mod shutdown;

pub use allocatable::enforce;
pub use conditions::Health;
pub use lease::renew;
pub use machine::{
    Machine, anonymous_memory, booted_at, cpu_nanoseconds, memory_available, memory_total, page_faults, processes,
    storage, swap,
};
pub use registration::{keep, register};
pub use shutdown::{LastShutdown, SHUTTING_DOWN, shut_down};
