//! Probes and lifecycle hooks.

use serde_json::Value;

use super::super::{
    access::{get, int, is_empty, list, text},
    check::{nonnegative, port_number_or_name},
    field::{Faults, Path},
    names,
};

/// The three probes and the hooks of a container that may have them.
pub fn probes_and_hooks(faults: &mut Faults, path: &Path<'_>, container: &Value, grace: Option<i64>) {
    if let Some(lifecycle) = get(container, "lifecycle") {
        let path = path.field("lifecycle");
        for hook in ["postStart", "preStop"] {
            if let Some(action) = get(lifecycle, hook) {
                handler(faults, &path.field(hook), action, grace, true);
            }
        }
    }
    for name in ["livenessProbe", "readinessProbe", "startupProbe"] {
        let Some(probe) = get(container, name) else { continue };
        let path = path.field(name);
        handler(faults, &path, probe, grace, false);
        for field in ["initialDelaySeconds", "timeoutSeconds", "periodSeconds", "successThreshold", "failureThreshold"]
        {
            nonnegative(faults, &path, probe, field);
        }
        let own_grace = int(probe, "terminationGracePeriodSeconds");
        if let Some(seconds) = own_grace
            && seconds <= 0
        {
            faults.invalid(&path.field("terminationGracePeriodSeconds"), seconds, "must be greater than 0");
        }
        if name == "readinessProbe" {
            if let Some(seconds) = own_grace {
                faults.invalid(
                    &path.field("terminationGracePeriodSeconds"),
                    seconds,
                    "must not be set for readinessProbes",
                );
            }
        } else {
            let threshold = int(probe, "successThreshold").unwrap_or(0);
            if threshold != 1 {
                faults.invalid(&path.field("successThreshold"), threshold, "must be 1");
            }
        }
    }
}

fn handler(faults: &mut Faults, path: &Path<'_>, action: &Value, grace: Option<i64>, hook: bool) {
    let mut count = 0;
    let kinds: &[&str] =
        if hook { &["exec", "httpGet", "tcpSocket", "sleep"] } else { &["exec", "httpGet", "tcpSocket", "grpc"] };
    for kind in kinds {
        let Some(action) = get(action, kind) else { continue };
        let path = path.field(kind);
        count += 1;
        if count > 1 {
            faults.forbidden(&path, "may not specify more than 1 handler type");
            continue;
        }
        match *kind {
            "exec" => {
                if is_empty(action, "command") {
                    faults.required(&path.field("command"), "");
                }
            }
            "httpGet" => http_get(faults, &path, action),
            "sleep" => {
                let seconds = int(action, "seconds").unwrap_or(0);
                if let Some(grace) = grace.filter(|grace| seconds < 0 || seconds > *grace) {
                    faults.invalid(
                        &path,
                        seconds,
                        format!("must be non-negative and less than terminationGracePeriodSeconds ({grace})"),
                    );
                }
            }
            _ => port_number_or_name(faults, &path.field("port"), get(action, "port")),
        }
    }
    if count == 0 {
        faults.required(path, "must specify a handler type");
    }
}

fn http_get(faults: &mut Faults, path: &Path<'_>, action: &Value) {
    if text(action, "path").is_empty() {
        faults.required(&path.field("path"), "");
    }
    port_number_or_name(faults, &path.field("port"), get(action, "port"));
    let scheme = text(action, "scheme");
    if !matches!(scheme, "HTTP" | "HTTPS") {
        faults.not_supported(&path.field("scheme"), scheme, &["HTTP", "HTTPS"]);
    }
    for header in list(action, "httpHeaders") {
        let name = text(header, "name");
        faults.invalid_each(&path.field("httpHeaders"), name, names::http_header_name(name));
    }
}
