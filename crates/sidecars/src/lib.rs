//! Sidecars: topz, configuration manager, git-sync.

pub mod config_sync;
pub mod git_sync;
mod look;
pub mod notice;
pub mod topz;
