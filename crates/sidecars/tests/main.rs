//! The sidecars against real processes, real git and hostile servers.

mod config;
mod git_hostile;
mod git_server;
mod git_sync;
mod topz;
