//! The verbs, a file each; all kinds go through the same ones.

pub(crate) mod create;
pub(crate) mod delete;
pub(crate) mod get;
pub(crate) mod list;
pub(crate) mod modify;
pub(crate) mod patch;
pub(crate) mod update;
pub(crate) mod watch;
