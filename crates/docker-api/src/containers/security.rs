//! Capabilities and `--security-opt`.

use engine::{Capabilities, Seccomp, default_capabilities};
use serde_json::Value;

use super::options::HostOptions;
use crate::error::{ApiError, Result};

/// Docker's set, with what was added and dropped.
pub(super) fn capabilities(host: &HostOptions) -> Result<Capabilities> {
    let all = || Capabilities::uniform(engine::all_capabilities().iter().copied());
    if host.privileged {
        return Ok(all());
    }
    let known = engine::all_capabilities();
    let normalize = |name: &String| -> Result<String> {
        let upper = name.to_ascii_uppercase();
        let full = if upper == "ALL" || upper.starts_with("CAP_") { upper } else { format!("CAP_{upper}") };
        match full == "ALL" || known.contains(&full.as_str()) {
            true => Ok(full),
            false => Err(ApiError::bad(format!("invalid CapAdd: unknown capability: \"{full}\""))),
        }
    };
    let add: Vec<String> = host.cap_add.iter().flatten().map(normalize).collect::<Result<_>>()?;
    let drop: Vec<String> = host.cap_drop.iter().flatten().map(normalize).collect::<Result<_>>()?;
    let everything = add.iter().any(|name| name == "ALL");
    let mut names = match (everything, drop.iter().any(|name| name == "ALL")) {
        (true, _) => all().bounding,
        (false, true) => Vec::new(),
        (false, false) => default_capabilities().bounding,
    };
    names.retain(|name| !drop.contains(name));
    for name in add.into_iter().filter(|name| name != "ALL") {
        if !names.contains(&name) {
            names.push(name);
        }
    }
    Ok(Capabilities::uniform(names))
}

/// What `--security-opt` comes to.
pub(super) struct Security {
    pub seccomp: Seccomp,
    pub no_new_privileges: bool,
    /// Nothing of `/proc` and `/sys` is hidden.
    pub unmasked: bool,
}

impl Security {
    pub fn parse(host: &HostOptions) -> Result<Self> {
        let mut security = Self { seccomp: Seccomp::RuntimeDefault, no_new_privileges: false, unmasked: false };
        if host.privileged {
            security.seccomp = Seccomp::Unconfined;
        }
        for option in host.security_opt.iter().flatten() {
            let (name, value) = option.split_once(['=', ':']).unwrap_or((option, ""));
            match (name, value) {
                ("no-new-privileges", "" | "true") => security.no_new_privileges = true,
                ("no-new-privileges", "false") => security.no_new_privileges = false,
                ("seccomp", "unconfined") => security.seccomp = Seccomp::Unconfined,
                ("seccomp", "builtin") => security.seccomp = Seccomp::RuntimeDefault,
                ("seccomp", profile) => {
                    let profile: Value = serde_json::from_str(profile)
                        .map_err(|error| ApiError::bad(format!("Decoding seccomp profile failed: {error}")))?;
                    security.seccomp = Seccomp::Profile(profile);
                }
                ("systempaths", "unconfined") => security.unmasked = true,
                // This kernel's concern, and absent from it as often as not.
                ("apparmor" | "label" | "writable-cgroups", _) => {}
                _ => return Err(ApiError::bad(format!("invalid --security-opt 2: {option:?}"))),
            }
        }
        Ok(security)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn capabilities_are_added_and_dropped_from_dockers_set() {
        let host = |add: &[&str], drop: &[&str]| HostOptions {
            cap_add: Some(add.iter().map(|name| (*name).to_owned()).collect()),
            cap_drop: Some(drop.iter().map(|name| (*name).to_owned()).collect()),
            ..HostOptions::default()
        };
        let bounding = |add, drop| capabilities(&host(add, drop)).unwrap().bounding;
        assert_eq!(bounding(&[], &[]).len(), 14);
        assert_eq!(bounding(&["net_admin"], &["ALL"]), ["CAP_NET_ADMIN"]);
        assert!(!bounding(&["ALL"], &["CAP_MKNOD"]).contains(&"CAP_MKNOD".to_owned()));
        assert!(capabilities(&host(&["fly"], &[])).unwrap_err().message.contains("CAP_FLY"));
    }
}
