//! The engine itself: ping, version, info, events, disk usage, login, and what is out of scope.

mod auth;
mod disk;
mod events;
mod info;
mod machine;
mod scope;

pub(crate) use auth::{AuthConfig, auth, logins};
pub(crate) use disk::{disk_usage, size_of_tree};
pub(crate) use events::events;
pub(crate) use info::{info, options, ping, version};
pub(crate) use machine::{architecture, boot_time, hostname, memory_total, processors};
pub(crate) use scope::{no_checkpoints, no_plugins, no_swarm, not_in_swarm, plugins};
