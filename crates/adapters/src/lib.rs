//! Adapters: one interface for metrics, logs and health over software that has its own.

mod asked;
pub mod health;
pub mod logs;
pub mod metrics;
pub mod wire;
