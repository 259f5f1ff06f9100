//! Validating and mutating admission webhooks.

use serde_json::Value;

use super::{
    access::{get, int, is_empty, list, text},
    check::{label_selector, optional_one_of},
    field::{Faults, Path},
    names,
};
use crate::status::Cause;

/// All faults of a webhook configuration.
pub fn validate(object: &Value) -> Vec<Cause> {
    let mut faults = Faults::new();
    let path = Path::root("webhooks");
    let webhooks = list(object, "webhooks");
    for (i, hook) in webhooks.iter().enumerate() {
        let at = path.index(i);
        webhook(&mut faults, &at, hook);
        let name = text(hook, "name");
        if webhooks[..i].iter().any(|before| text(before, "name") == name) {
            faults.duplicate(&at.field("name"), name);
        }
    }
    faults.into_causes()
}

fn webhook(faults: &mut Faults, path: &Path<'_>, hook: &Value) {
    qualified(faults, &path.field("name"), text(hook, "name"));
    for (i, rule) in list(hook, "rules").iter().enumerate() {
        let at = path.field("rules");
        operations(faults, &at.index(i), rule);
    }
    optional_one_of(faults, path, hook, "failurePolicy", &["Fail", "Ignore"]);
    optional_one_of(faults, path, hook, "matchPolicy", &["Equivalent", "Exact"]);
    optional_one_of(faults, path, hook, "reinvocationPolicy", &["IfNeeded", "Never"]);
    match get(hook, "sideEffects").and_then(Value::as_str) {
        None => faults.required(&path.field("sideEffects"), "must specify one of None, NoneOnDryRun"),
        Some("None" | "NoneOnDryRun") => {}
        Some(other) => faults.not_supported(&path.field("sideEffects"), other, &["None", "NoneOnDryRun"]),
    }
    if let Some(seconds) = int(hook, "timeoutSeconds").filter(|seconds| !(1..=30).contains(seconds)) {
        faults.invalid(&path.field("timeoutSeconds"), seconds, "the timeout value must be between 1 and 30 seconds");
    }
    for field in ["namespaceSelector", "objectSelector"] {
        if let Some(selector) = get(hook, field) {
            label_selector(faults, &path.field(field), selector);
        }
    }
    client(faults, &path.field("clientConfig"), get(hook, "clientConfig").unwrap_or(&Value::Null));
    review_versions(faults, &path.field("admissionReviewVersions"), list(hook, "admissionReviewVersions"));
}

fn review_versions(faults: &mut Faults, path: &Path<'_>, versions: &[Value]) {
    if versions.is_empty() {
        faults.required(path, "must specify one of v1, v1beta1");
        return;
    }
    for (i, version) in versions.iter().enumerate() {
        let text = version.as_str().unwrap_or("");
        if versions[..i].contains(version) {
            faults.invalid(&path.index(i), text, "duplicate version");
        } else {
            faults.invalid_each(&path.index(i), text, names::dns1035_label(text));
        }
    }
    if !versions.iter().any(|version| version == "v1" || version == "v1beta1") {
        faults.invalid(path, &Value::from(versions), "must include at least one of v1, v1beta1");
    }
}

/// A name of at least three labels (`IsFullyQualifiedName`).
fn qualified(faults: &mut Faults, path: &Path<'_>, name: &str) {
    if name.is_empty() {
        faults.required(path, "");
        return;
    }
    let messages = names::dns1123_subdomain(name);
    if !messages.is_empty() {
        faults.invalid(path, name, messages.join(","));
    } else if name.split('.').count() < 3 {
        faults.invalid(path, name, "should be a domain with at least three segments separated by dots");
    }
}

const OPERATIONS: [&str; 5] = ["*", "CONNECT", "CREATE", "DELETE", "UPDATE"];

fn operations(faults: &mut Faults, path: &Path<'_>, rule: &Value) {
    for (field, one) in [("operations", false), ("apiGroups", true), ("apiVersions", true), ("resources", true)] {
        let at = path.field(field);
        let values = list(rule, field);
        if values.is_empty() {
            faults.required(&at, "");
        }
        let star = values.iter().any(|value| value == "*");
        if star && values.len() > 1 && field != "resources" {
            faults.invalid(
                &at,
                get(rule, field).unwrap_or(&Value::Null),
                "if '*' is present, must not specify other ".to_owned()
                    + match field {
                        "apiGroups" => "API groups",
                        "apiVersions" => "API versions",
                        _ => "operations",
                    },
            );
        }
        for (i, value) in values.iter().filter_map(Value::as_str).enumerate() {
            if value.is_empty() && one && field != "apiGroups" {
                faults.required(&at.index(i), "");
            }
            if field == "operations" && !OPERATIONS.contains(&value) {
                faults.not_supported(&at.index(i), value, &OPERATIONS);
            }
        }
    }
    optional_one_of(faults, path, rule, "scope", &["*", "Cluster", "Namespaced"]);
}

fn client(faults: &mut Faults, path: &Path<'_>, config: &Value) {
    match (get(config, "url").and_then(Value::as_str), get(config, "service")) {
        (Some(_), Some(_)) | (None, None) => faults.required(path, "exactly one of url or service is required"),
        (Some(url), None) => {
            let at = path.field("url");
            match url.split_once("://") {
                Some(("https", rest)) if !rest.is_empty() && !rest.starts_with('/') => {}
                Some(("https", _)) => {
                    faults.invalid(&at, "", "host must be specified; desired format: https://host[/path]");
                }
                other => faults.invalid(
                    &at,
                    other.map_or("", |(scheme, _)| scheme),
                    "'https' is the only allowed URL scheme; desired format: https://host[/path]",
                ),
            }
        }
        (None, Some(service)) => {
            let at = path.field("service");
            for (field, detail) in
                [("name", "service name is required"), ("namespace", "service namespace is required")]
            {
                if is_empty(service, field) {
                    faults.required(&at.field(field), detail);
                }
            }
            let number = int(service, "port").unwrap_or(0);
            for fault in names::port_number(number) {
                faults.invalid(&at.field("port"), number, format!("port is not valid: {fault}"));
            }
            service_path(faults, &at.field("path"), text(service, "path"));
        }
    }
}

/// The path at a service: `/`, or names between slashes.
fn service_path(faults: &mut Faults, at: &Path<'_>, path: &str) {
    match path {
        "" | "/" => return,
        "//" => return faults.invalid(at, path, "segment[0] may not be empty"),
        _ => {}
    }
    if !path.starts_with('/') {
        faults.invalid(at, path, "must start with a '/'");
    }
    // Upstream drops the first character, whatever it is.
    let mut rest = path.chars();
    rest.next();
    let rest = rest.as_str();
    let rest = rest.strip_suffix('/').unwrap_or(rest);
    for (i, step) in rest.split('/').enumerate() {
        if step.is_empty() {
            faults.invalid(at, path, format!("segment[{i}] may not be empty"));
            continue;
        }
        for fault in names::dns1123_subdomain(step) {
            faults.invalid(at, path, format!("segment[{i}]: {fault}"));
        }
    }
}
