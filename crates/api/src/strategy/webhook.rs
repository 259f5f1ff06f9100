//! Validating and mutating admission webhooks.

use serde_json::Value;

use super::{
    access::{get, int, is_empty, list, text},
    check::{label_selector, optional_one_of, port},
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
    let versions = list(hook, "admissionReviewVersions");
    let at = path.field("admissionReviewVersions");
    if versions.is_empty() {
        faults.required(&at, "must specify one of v1, v1beta1");
    } else if !versions.iter().any(|version| version == "v1" || version == "v1beta1") {
        faults.invalid(
            &at,
            get(hook, "admissionReviewVersions").unwrap_or(&Value::Null),
            "must include at least one of v1, v1beta1",
        );
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
    for (field, one) in [("apiGroups", true), ("apiVersions", true), ("resources", true), ("operations", false)] {
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
            port(faults, &at, service, "port");
        }
    }
}
