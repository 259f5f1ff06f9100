//! Whose ids a container has: `--userns-remap` of the daemon and `--userns` of the container.

use engine::IdRange;

use super::options::HostOptions;
use super::record::Record;
use crate::daemon::Daemon;
use crate::error::{ApiError, Result};

/// The ids of a container; `None`: the host's.
pub(crate) fn ids(daemon: &Daemon, record: &Record) -> Option<IdRange> {
    daemon.config.user_ids.filter(|_| record.host.userns_mode != "host")
}

/// Refuses what dockerd refuses where ids are remapped.
pub(super) fn check(daemon: &Daemon, host: &HostOptions) -> Result<()> {
    if daemon.config.user_ids.is_none() || host.userns_mode == "host" {
        return Ok(());
    }
    let refuse = |text: &str| Err(ApiError::bad(text));
    if host.privileged {
        return refuse(
            "privileged mode is incompatible with user namespaces.  You must run the container in the host namespace when \
             running privileged mode",
        );
    }
    if host.network_mode == "host" {
        return refuse("cannot share the host's network namespace when user namespaces are enabled");
    }
    if host.pid_mode == "host" {
        return refuse("cannot share the host PID namespace when user namespaces are enabled");
    }
    Ok(())
}
