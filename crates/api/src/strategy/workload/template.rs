//! What the workloads' checks share: the selector, and the template that it must select.

use serde_json::Value;

use super::super::{
    access::{at, get, text_at},
    check::{IMMUTABLE, label_selector, selects, selects_all},
    field::{Faults, Path},
    pod::spec,
};

/// A selector that must be there and select something; `what` is the kind in the message.
pub fn selector(faults: &mut Faults, path: &Path<'_>, spec: &Value, what: &str) {
    match get(spec, "selector") {
        None => faults.required(&path.field("selector"), ""),
        Some(selector) => {
            label_selector(faults, &path.field("selector"), selector);
            if selects_all(selector) {
                faults.invalid(&path.field("selector"), selector, format!("empty selector is invalid for {what}"));
            }
        }
    }
}

/// The selector must match the template's labels.
pub fn selector_matches(faults: &mut Faults, path: &Path<'_>, spec: &Value) {
    let labels = at(spec, &["template", "metadata", "labels"]);
    // No selector selects nothing, an empty one everything.
    let matches = get(spec, "selector").is_some_and(|selector| selects(selector, labels));
    if !matches {
        faults.invalid(
            &path.field("template").field("metadata").field("labels"),
            labels.unwrap_or(&Value::Null),
            "`selector` does not match template `labels`",
        );
    }
}

/// The template of pods that run forever; `what` is the kind in the message.
pub fn endless_template(faults: &mut Faults, path: &Path<'_>, object_spec: &Value, what: &str) {
    let path = path.field("template");
    spec::template(faults, &path, get(object_spec, "template").unwrap_or(&Value::Null));
    endless(faults, &path, object_spec, what);
}

/// Pods that run forever restart always and have no deadline.
pub fn endless(faults: &mut Faults, path: &Path<'_>, object_spec: &Value, what: &str) {
    let path = path.field("spec");
    let restart = text_at(object_spec, &["template", "spec", "restartPolicy"]);
    if restart != "Always" {
        faults.not_supported(&path.field("restartPolicy"), restart, &["Always"]);
    }
    if at(object_spec, &["template", "spec", "activeDeadlineSeconds"]).is_some() {
        faults.forbidden(
            &path.field("activeDeadlineSeconds"),
            &format!("activeDeadlineSeconds in {what} is not Supported"),
        );
    }
}

/// A selector never changes.
pub fn immutable_selector(faults: &mut Faults, new: &Value, old: &Value) {
    let (new, old) = (at(new, &["spec", "selector"]), at(old, &["spec", "selector"]));
    let alike = match (new, old) {
        (Some(new), Some(old)) => super::super::access::same(new, old),
        (None, None) => true,
        _ => false,
    };
    if !alike {
        faults.invalid(&Path::root("spec.selector"), new.unwrap_or(&Value::Null), IMMUTABLE);
    }
}

/// Counts in a status are never negative; each of `bounded` is at most `replicas`.
pub fn status_counts(faults: &mut Faults, status: &Value, counts: &[&str], bounded: &[&str]) {
    use super::super::{access::int, check::nonnegative};
    let path = Path::root("status");
    for count in counts {
        nonnegative(faults, &path, status, count);
    }
    let replicas = int(status, "replicas").unwrap_or(0);
    for count in bounded {
        let number = int(status, count).unwrap_or(0);
        if number > replicas {
            faults.invalid(&path.field(count), number, "cannot be greater than status.replicas");
        }
    }
}

/// A collision count never falls.
pub fn collision_count(faults: &mut Faults, new: &Value, old: &Value) {
    let count = |object: &Value| at(object, &["status", "collisionCount"]).and_then(Value::as_i64);
    let (new, old) = (count(new), count(old));
    if old.is_some_and(|old| new.unwrap_or(0) < old || new.is_none()) {
        faults.invalid(&Path::root("status.collisionCount"), new.unwrap_or(0), "cannot be decremented");
    }
}
