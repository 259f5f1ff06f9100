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
    /// Whether the container may change its own groups; a privileged one may unless this says otherwise.
    pub writable_cgroups: Option<bool>,
}

impl Security {
    pub fn parse(host: &HostOptions) -> Result<Self> {
        let mut security = Self {
            seccomp: Seccomp::RuntimeDefault,
            no_new_privileges: false,
            unmasked: false,
            writable_cgroups: None,
        };
        if host.privileged {
            security.seccomp = Seccomp::Unconfined;
        }
        for option in host.security_opt.iter().flatten() {
            let separator = if option.contains('=') { '=' } else { ':' };
            let invalid = |place: u8| ApiError::bad(format!("invalid --security-opt {place}: {option:?}"));
            let (name, value) = match option.split_once(separator) {
                Some(parts) => parts,
                None if ["no-new-privileges", "writable-cgroups"].contains(&option.as_str()) => {
                    (option.as_str(), "true")
                }
                // What SELinux is told, where there is one.
                None if option == "disable" => continue,
                None => return Err(invalid(1)),
            };
            match (name, value) {
                ("no-new-privileges", _) => security.no_new_privileges = boolean(value).ok_or_else(|| invalid(2))?,
                ("writable-cgroups", _) => {
                    security.writable_cgroups = Some(boolean(value).ok_or_else(|| invalid(2))?);
                }
                ("seccomp", "unconfined") => security.seccomp = Seccomp::Unconfined,
                ("seccomp", "builtin") => security.seccomp = Seccomp::RuntimeDefault,
                ("seccomp", profile) => {
                    let profile: Value = serde_json::from_str(profile)
                        .map_err(|error| ApiError::bad(format!("Decoding seccomp profile failed: {error}")))?;
                    security.seccomp = Seccomp::Profile(profile);
                }
                ("systempaths", "unconfined") => security.unmasked = true,
                // This kernel's concern, and absent from it as often as not.
                ("apparmor" | "label", _) => {}
                _ => return Err(invalid(2)),
            }
        }
        Ok(security)
    }
}

/// A boolean as Go's `strconv.ParseBool` reads it.
fn boolean(text: &str) -> Option<bool> {
    match text {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Some(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Some(false),
        _ => None,
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

    #[test]
    fn security_options_are_a_name_and_a_value_or_one_of_two_names() {
        let parse = |option: &str| {
            Security::parse(&HostOptions { security_opt: Some(vec![option.to_owned()]), ..HostOptions::default() })
        };
        for (option, writable) in [
            ("writable-cgroups", Some(true)),
            ("writable-cgroups=1", Some(true)),
            ("writable-cgroups=false", Some(false)),
            ("no-new-privileges", None),
            ("label:disable", None),
        ] {
            assert_eq!(parse(option).map(|security| security.writable_cgroups).ok(), Some(writable), "{option}");
        }
        for (option, place) in [("writable-cgroups=potato", 2), ("no-new-privileges=x", 2), ("fast=1", 2), ("fast", 1)]
        {
            let refused = parse(option).err().map(|error| error.message.to_string());
            assert_eq!(refused, Some(format!("invalid --security-opt {place}: {option:?}")));
        }
    }
}
