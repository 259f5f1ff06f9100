//! Adapters: one interface for metrics, logs and health over software that has its own.
