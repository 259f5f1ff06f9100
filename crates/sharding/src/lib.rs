//! The sharding ambassador for Redis and memcached: `hythe proxy shard --config nutcracker.yaml`.
//!
//! It reads twemproxy's configuration file as it is and puts every key where twemproxy puts it.
#![forbid(unsafe_code)]

pub mod config;
