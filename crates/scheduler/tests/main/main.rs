//! What the scheduler decides, and how it tells.

mod decisions;
mod fake_api;
mod looping;
mod preemption;
mod volumes;
