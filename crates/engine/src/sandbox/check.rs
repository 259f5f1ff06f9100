//! What a specification must be.

use crate::engine::check_id;
use crate::{ContainerSpec, Error, Result};

/// Refuses what could not be served, or would be served otherwise than meant.
pub(super) fn check(spec: &ContainerSpec) -> Result<()> {
    let invalid = |field, reason: &str| Err(Error::Invalid { field, reason: reason.to_owned() });
    check_id("id", &spec.id)?;
    check_env(&spec.env)?;
    if spec.args.first().is_none_or(String::is_empty) {
        return invalid("args", "must name a program");
    }
    if !(spec.cwd.is_empty() || spec.cwd.starts_with('/')) {
        return invalid("cwd", "must be absolute");
    }
    if spec.mounts.iter().any(|mount| !mount.destination.starts_with('/')) {
        return invalid("mounts", "destinations must be absolute");
    }
    if spec.log.as_ref().is_some_and(|log| !log.path.is_absolute()) {
        return invalid("log", "path must be absolute");
    }
    match &spec.rootfs {
        crate::Rootfs::Path(path) if !path.is_absolute() => invalid("rootfs", "must be absolute"),
        crate::Rootfs::Overlay { lower, .. } if lower.is_empty() => invalid("rootfs", "needs at least one layer"),
        _ => Ok(()),
    }
}

/// `NAME=value` with a name and without NUL.
pub(super) fn check_env(env: &[String]) -> Result<()> {
    let bad = |entry: &&String| entry.contains('\0') || entry.split_once('=').is_none_or(|(name, _)| name.is_empty());
    match env.iter().find(bad) {
        Some(entry) => Err(Error::Invalid { field: "env", reason: format!("{entry:?} is not NAME=value") }),
        None => Ok(()),
    }
}
