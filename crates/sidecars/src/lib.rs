//! Sidecars: topz, configuration manager, git-sync.

pub mod config_sync;
pub mod git;
pub mod git_sync;
pub mod notice;
pub mod topz;
