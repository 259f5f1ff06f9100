//! Security contexts of pods and containers.

use serde_json::Value;

use super::{
    super::{
        access::{flag, get, int, list, text},
        check::optional_one_of,
        field::{Faults, Path},
        names,
    },
    windows,
};

const MOST_ID: i64 = 0xffff_ffff;

/// The pod's security context.
pub fn pod(faults: &mut Faults, path: &Path<'_>, spec: &Value) {
    let Some(context) = get(spec, "securityContext") else { return };
    for field in ["fsGroup", "runAsUser", "runAsGroup"] {
        id(faults, &path.field(field), int(context, field));
    }
    for (i, group) in list(context, "supplementalGroups").iter().enumerate() {
        id(faults, &path.field("supplementalGroups").index(i), group.as_i64());
    }
    if flag(spec, "shareProcessNamespace") && flag(spec, "hostPID") {
        faults.invalid(
            &path.field("shareProcessNamespace"),
            true,
            "ShareProcessNamespace and HostPID cannot both be enabled",
        );
    }
    sysctls(faults, &path.field("sysctls"), spec, list(context, "sysctls"));
    optional_one_of(faults, path, context, "fsGroupChangePolicy", &["Always", "OnRootMismatch"]);
    seccomp(faults, &path.field("seccompProfile"), get(context, "seccompProfile"));
    windows::options(faults, &path.field("windowsOptions"), get(context, "windowsOptions"));
    app_armor(faults, &path.field("appArmorProfile"), get(context, "appArmorProfile"));
    optional_one_of(faults, path, context, "supplementalGroupsPolicy", &["Merge", "Strict"]);
    optional_one_of(faults, path, context, "seLinuxChangePolicy", &["MountOption", "Recursive"]);
}

/// A container's security context.
pub fn container(faults: &mut Faults, path: &Path<'_>, container: &Value, host_users: bool) {
    let Some(context) = get(container, "securityContext") else { return };
    for field in ["runAsUser", "runAsGroup"] {
        id(faults, &path.field(field), int(context, field));
    }
    if let Some(mount) = get(context, "procMount").and_then(Value::as_str) {
        optional_one_of(faults, path, context, "procMount", &["Default", "Unmasked"]);
        if host_users && mount == "Unmasked" {
            faults.invalid(&path.field("procMount"), mount, "`hostUsers` must be false to use `Unmasked`");
        }
    }
    seccomp(faults, &path.field("seccompProfile"), get(context, "seccompProfile"));
    if get(context, "allowPrivilegeEscalation") == Some(&Value::Bool(false)) {
        if flag(context, "privileged") {
            faults.invalid(path, context, "cannot set `allowPrivilegeEscalation` to false and `privileged` to true");
        }
        let added = get(context, "capabilities").map_or(&[][..], |capabilities| list(capabilities, "add"));
        if added.iter().any(|capability| capability == "CAP_SYS_ADMIN") {
            faults.invalid(
                path,
                context,
                "cannot set `allowPrivilegeEscalation` to false and `capabilities.Add` CAP_SYS_ADMIN",
            );
        }
    }
    windows::options(faults, &path.field("windowsOptions"), get(context, "windowsOptions"));
    app_armor(faults, &path.field("appArmorProfile"), get(context, "appArmorProfile"));
}

fn id(faults: &mut Faults, path: &Path<'_>, id: Option<i64>) {
    if let Some(id) = id {
        for fault in names::in_range(id, 0, MOST_ID) {
            faults.invalid(path, id, fault);
        }
    }
}

fn seccomp(faults: &mut Faults, path: &Path<'_>, profile: Option<&Value>) {
    let Some(profile) = profile else { return };
    match text(profile, "type") {
        "" => faults.required(&path.field("type"), "type is required when seccompProfile is set"),
        "Localhost" | "RuntimeDefault" | "Unconfined" => {}
        other => faults.not_supported(&path.field("type"), other, &["Localhost", "RuntimeDefault", "Unconfined"]),
    }
    let local = get(profile, "localhostProfile").and_then(Value::as_str);
    match (text(profile, "type") == "Localhost", local) {
        (true, None) => {
            faults.required(&path.field("localhostProfile"), "must be set when seccomp type is Localhost");
        }
        (true, Some(file)) => super::volume::local_descending_path(faults, &path.field("localhostProfile"), file),
        (false, Some(_)) => {
            faults.invalid(&path.field("localhostProfile"), profile, "can only be set when seccomp type is Localhost")
        }
        (false, None) => {}
    }
}

fn app_armor(faults: &mut Faults, path: &Path<'_>, profile: Option<&Value>) {
    let Some(profile) = profile else { return };
    let local = get(profile, "localhostProfile").and_then(Value::as_str);
    let at = path.field("localhostProfile");
    match text(profile, "type") {
        "Localhost" => match local {
            None => faults.required(&at, "must be set when AppArmor type is Localhost"),
            Some(name) => {
                if name.trim() != name {
                    faults.invalid(&at, name, "must not be padded with whitespace");
                } else if name.is_empty() {
                    faults.required(&at, "must be set when AppArmor type is Localhost");
                }
                if name.len() > 4095 {
                    faults.too_long(&at, 4095);
                }
            }
        },
        "RuntimeDefault" | "Unconfined" => {
            if let Some(name) = local {
                faults.invalid(&at, name, "can only be set when AppArmor type is Localhost");
            }
        }
        "" => faults.required(&path.field("type"), "type is required when appArmorProfile is set"),
        other => faults.not_supported(&path.field("type"), other, &["Localhost", "RuntimeDefault", "Unconfined"]),
    }
}

const SYSCTL: &str = r"^([a-z0-9]([-_a-z0-9]*[a-z0-9])?[\./])*[a-z0-9]([-_a-z0-9]*[a-z0-9])?$";

fn sysctls(faults: &mut Faults, path: &Path<'_>, spec: &Value, sysctls: &[Value]) {
    for (i, sysctl) in sysctls.iter().enumerate() {
        let name = text(sysctl, "name");
        let path = path.index(i);
        let at = path.field("name");
        if name.is_empty() {
            faults.required(&at, "");
        } else if name.len() > 253 || !name.split(['.', '/']).all(is_sysctl_segment) {
            faults.invalid(&at, name, format!("must have at most 253 characters and match regex {SYSCTL}"));
        } else if sysctls[..i].iter().any(|before| text(before, "name") == name) {
            faults.duplicate(&at, name);
        }
        let dotted = name.replace('/', ".");
        if flag(spec, "hostNetwork") && dotted.starts_with("net.") {
            faults.invalid(&at, name, "may not be specified when 'hostNetwork' is true");
        } else if flag(spec, "hostIPC") && is_ipc_sysctl(&dotted) {
            faults.invalid(&at, name, "may not be specified when 'hostIPC' is true");
        }
    }
}

fn is_sysctl_segment(segment: &str) -> bool {
    let plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    match segment.as_bytes() {
        [] => false,
        [one] => plain(*one),
        [first, middle @ .., last] => {
            plain(*first) && plain(*last) && middle.iter().all(|b| plain(*b) || matches!(b, b'-' | b'_'))
        }
    }
}

fn is_ipc_sysctl(name: &str) -> bool {
    name == "kernel.sem" || ["kernel.shm", "kernel.msg", "fs.mqueue."].iter().any(|prefix| name.starts_with(prefix))
}
