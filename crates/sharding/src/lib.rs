//! The sharding ambassador for Redis and memcached: `hythe proxy shard --config nutcracker.yaml`.
//!
//! It reads twemproxy's configuration file as it is and puts every key where twemproxy puts it.
#![forbid(unsafe_code)]

mod admin;
pub mod config;
mod container;
mod hot_keys;
mod listen;
mod plan;
pub mod protocol;
mod resolve;
mod statistics_port;
mod stats;
mod worker;

pub use container::{Arguments, Failure, MANUAL, main, serve};
