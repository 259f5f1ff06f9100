//! Adapters: one interface for metrics, logs and health over software that has its own.

pub mod health;
pub mod logs;
pub mod metrics;
pub mod wire;
