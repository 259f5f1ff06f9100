//! The L4 and L7 data plane: edge, balancing, splitting, caching, rate limits, TLS.

pub mod address;
pub mod config;
