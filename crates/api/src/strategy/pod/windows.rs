//! What is Windows' own in a pod, and what a pod that says for which system it is may not have. No node here runs
//! Windows; the API judges such pods all the same.

use serde_json::Value;

use super::super::{
    access::{flag, get, is_empty, list, text},
    field::{Faults, Path},
    names,
};

const LONGEST_CREDENTIALS: usize = 64 << 10;
const LONGEST_DOMAIN: usize = 256;
const LONGEST_USER: usize = 104;

/// `windowsOptions`, of a pod or a container.
pub fn options(faults: &mut Faults, path: &Path<'_>, options: Option<&Value>) {
    let Some(options) = options else { return };
    let given = |field: &str| get(options, field).and_then(Value::as_str);
    if let Some(name) = given("gmsaCredentialSpecName") {
        faults.invalid_each(&path.field("gmsaCredentialSpecName"), name, names::dns1123_subdomain(name));
    }
    if let Some(credentials) = given("gmsaCredentialSpec") {
        let at = path.field("gmsaCredentialSpec");
        if credentials.is_empty() {
            faults.invalid(&at, credentials, "gmsaCredentialSpec cannot be an empty string");
        } else if credentials.len() > LONGEST_CREDENTIALS {
            faults.invalid(&at, credentials, "gmsaCredentialSpec size must be under 64 KiB");
        }
    }
    if let Some(name) = given("runAsUserName") {
        for fault in user_name(name) {
            faults.invalid(&path.field("runAsUserName"), name, format!("runAsUserName{fault}"));
        }
    }
}

fn user_name(name: &str) -> Vec<&'static str> {
    if name.is_empty() {
        return vec![" cannot be an empty string"];
    }
    if name.chars().any(|c| c.is_ascii_control()) {
        return vec![" cannot contain control characters"];
    }
    let parts: Vec<&str> = name.split('\\').collect();
    let (domain, user) = match parts.as_slice() {
        [user] => (None, *user),
        [domain, user] => (Some(*domain), *user),
        _ => return vec![" cannot contain more than one backslash"],
    };
    let mut faults = Vec::new();
    if domain.is_some_and(|domain| domain.len() >= LONGEST_DOMAIN) {
        faults.push("'s Domain length must be under 256 characters");
    }
    if domain.is_some_and(|domain| !is_net_bios(domain) && !is_dns(domain)) {
        faults.push("'s Domain doesn't match the NetBios nor the DNS format");
    }
    if user.is_empty() {
        faults.push("'s User cannot be empty");
    } else if user.len() > LONGEST_USER {
        faults.push("'s User length must not be longer than 104 characters");
    }
    if !user.is_empty() && user.chars().all(|c| matches!(c, '.' | ' ')) {
        faults.push("'s User cannot contain only periods or spaces");
    }
    if user.contains(['"', '/', '\\', ':', ';', '|', '=', ',', '+', '*', '?', '<', '>', '@', '[', ']']) {
        faults.push("'s User cannot contain the following characters: \"/\\:;|=,+*?<>@[]");
    }
    faults
}

fn is_net_bios(domain: &str) -> bool {
    (1..=15).contains(&domain.chars().count())
        && !domain.starts_with('.')
        && !domain.contains(['\\', '/', ':', '*', '?', '"', '<', '>', '|'])
}

fn is_dns(domain: &str) -> bool {
    domain.split('.').all(|label| {
        let ends = |c: Option<char>| c.is_some_and(|c| c.is_ascii_alphanumeric());
        (1..=63).contains(&label.len())
            && label.chars().all(|c| c.is_ascii_alphanumeric() || c == '-')
            && ends(label.chars().next())
            && ends(label.chars().last())
    })
}

/// Containers that are processes of the host: all of a pod are, or none.
pub fn host_process(faults: &mut Faults, path: &Path<'_>, spec: &Value) {
    let told = |of: &Value| {
        let options = get(of, "securityContext").and_then(|c| get(c, "windowsOptions"));
        options.and_then(|o| get(o, "hostProcess")).and_then(Value::as_bool)
    };
    let of_pod = told(spec);
    let (mut all, mut inside) = (0, 0);
    each_container(path, spec, |at, container| {
        all += 1;
        let own = told(container);
        if let (Some(pod), Some(own)) = (of_pod, own)
            && pod != own
        {
            faults.invalid(
                &at.field("securityContext").field("windowsOptions").field("hostProcess"),
                own,
                format!("pod hostProcess value must be identical if both are specified, was {pod}"),
            );
        }
        inside += usize::from(own.or(of_pod) == Some(true));
    });
    if inside == 0 {
        return;
    }
    if inside != all {
        let why = "If pod contains any hostProcess containers then all containers must be HostProcess containers";
        faults.invalid(path, "", why);
    }
    if !flag(spec, "hostNetwork") {
        let why = "hostNetwork must be true if pod contains any hostProcess containers";
        faults.invalid(&path.field("hostNetwork"), false, why);
    }
}

/// What a pod for Linux may not have.
pub fn not_for_linux(faults: &mut Faults, path: &Path<'_>, spec: &Value) {
    let mut check = |at: &Path<'_>, of: &Value| {
        if get(of, "securityContext").is_some_and(|c| get(c, "windowsOptions").is_some()) {
            let at = at.field("securityContext");
            faults.forbidden(&at.field("windowsOptions"), "windows options cannot be set for a linux pod");
        }
    };
    check(path, spec);
    each_container(path, spec, check);
}

/// What a pod for Windows may not have.
pub fn not_for_windows(faults: &mut Faults, path: &Path<'_>, spec: &Value) {
    const WHY: &str = "cannot be set for a windows pod";
    let none = Value::Null;
    let context = get(spec, "securityContext").unwrap_or(&none);
    let within = path.field("securityContext");
    for field in ["appArmorProfile", "seLinuxOptions"] {
        if get(context, field).is_some() {
            faults.forbidden(&within.field(field), WHY);
        }
    }
    if get(spec, "hostUsers").is_some() {
        faults.forbidden(&path.field("hostUsers"), WHY);
    }
    for field in ["hostPID", "hostIPC"] {
        if flag(spec, field) {
            faults.forbidden(&path.field(field), WHY);
        }
    }
    for field in ["seccompProfile", "fsGroup", "fsGroupChangePolicy", "sysctls"] {
        if !is_empty(context, field) {
            faults.forbidden(&within.field(field), WHY);
        }
    }
    if get(spec, "shareProcessNamespace").is_some() {
        faults.forbidden(&path.field("shareProcessNamespace"), WHY);
    }
    for field in ["runAsUser", "runAsGroup", "supplementalGroups", "supplementalGroupsPolicy"] {
        if get(context, field).is_some() {
            faults.forbidden(&within.field(field), WHY);
        }
    }
    each_container(path, spec, |at, container| {
        let Some(context) = get(container, "securityContext") else { return };
        for field in [
            "appArmorProfile",
            "seLinuxOptions",
            "seccompProfile",
            "capabilities",
            "readOnlyRootFilesystem",
            "privileged",
            "allowPrivilegeEscalation",
            "procMount",
            "runAsUser",
            "runAsGroup",
        ] {
            if get(context, field).is_some() {
                faults.forbidden(&at.field("securityContext").field(field), WHY);
            }
        }
    });
}

/// All containers of a pod, in upstream's order.
fn each_container(path: &Path<'_>, spec: &Value, mut each: impl FnMut(&Path<'_>, &Value)) {
    for field in ["initContainers", "containers", "ephemeralContainers"] {
        for (i, container) in list(spec, field).iter().enumerate() {
            each(&path.field(field).index(i), container);
        }
    }
}

/// The system that a pod says it is for.
pub fn system(spec: &Value) -> &str {
    get(spec, "os").map_or("", |os| text(os, "name"))
}
