//! Sidecars: topz, configuration manager, git-sync.
