//! Events, of the core group (lenient) and of `events.k8s.io/v1` (strict).

use serde_json::Value;

use super::{
    access::{get, int, same_field, text, text_at},
    check::IMMUTABLE,
    field::{Faults, Path},
    names,
};
use crate::status::Cause;

/// An event's fields by what both groups call them; the older name is the one in messages.
const RENAMED: [(&str, &str); 6] = [
    ("involvedObject", "regarding"),
    ("message", "note"),
    ("source", "deprecatedSource"),
    ("firstTimestamp", "deprecatedFirstTimestamp"),
    ("lastTimestamp", "deprecatedLastTimestamp"),
    ("count", "deprecatedCount"),
];

/// All faults of a new event.
pub fn validate(event: &Value) -> Vec<Cause> {
    let mut faults = Faults::new();
    lenient(&mut faults, event);
    if is_strict(event) {
        series(&mut faults, event);
        if get(event, "eventTime").is_none() {
            faults.required(&Path::root("eventTime"), "");
        }
        let kind = text(event, "type");
        if !matches!(kind, "Normal" | "Warning") {
            faults.invalid(&Path::root("type"), "", format!("has invalid value: {kind}"));
        }
        for name in ["firstTimestamp", "lastTimestamp", "count", "source"] {
            let set = match field(event, name) {
                None => false,
                Some(Value::Number(number)) => number.as_i64() != Some(0),
                Some(Value::Object(source)) => source.values().any(|value| value != ""),
                Some(_) => true,
            };
            if set {
                faults.invalid(&Path::root(name), "", "needs to be unset");
            }
        }
    }
    faults.into_causes()
}

/// All faults of a change: the newer group's events only count on.
pub fn validate_update(new: &Value, old: &Value) -> Vec<Cause> {
    let mut faults = Faults::new();
    lenient(&mut faults, new);
    if is_strict(new) {
        if !same_field(new, old, "series") {
            series(&mut faults, new);
        }
        for name in [
            "involvedObject",
            "reason",
            "message",
            "source",
            "firstTimestamp",
            "lastTimestamp",
            "count",
            "type",
            "eventTime",
            "action",
            "related",
            "reportingController",
            "reportingInstance",
        ] {
            // An empty source is as good as none.
            let value = |event| field(event, name).filter(|value| !value.as_object().is_some_and(|map| map.is_empty()));
            if value(new) != value(old) {
                faults.invalid(&Path::root(name), field(new, name).unwrap_or(&Value::Null), IMMUTABLE);
            }
        }
    }
    faults.into_causes()
}

fn is_strict(event: &Value) -> bool {
    text(event, "apiVersion") == "events.k8s.io/v1"
}

fn field<'a>(event: &'a Value, name: &str) -> Option<&'a Value> {
    get(event, name).or_else(|| {
        let (_, other) = RENAMED.iter().find(|(older, _)| *older == name)?;
        get(event, other)
    })
}

fn series(faults: &mut Faults, event: &Value) {
    if let Some(series) = get(event, "series") {
        if int(series, "count").unwrap_or(0) < 2 {
            faults.invalid(&Path::root("series.count"), "", "should be at least 2");
        }
        if get(series, "lastObservedTime").is_none() {
            faults.required(&Path::root("series.lastObservedTime"), "");
        }
    }
}

fn lenient(faults: &mut Faults, event: &Value) {
    let namespace = text_at(event, &["metadata", "namespace"]);
    let about = field(event, "involvedObject").map_or("", |about| text(about, "namespace"));
    let timed = get(event, "eventTime").is_some();
    let fits = match (timed, about) {
        (false, "") => matches!(namespace, "" | "default"),
        (false, about) => namespace == about,
        (true, "") => matches!(namespace, "default" | "kube-system"),
        (true, _) => true,
    };
    if !fits {
        faults.invalid(&Path::root("involvedObject.namespace"), about, "does not match event.namespace");
    }
    if timed {
        for (name, most) in [("reportingController", 0), ("reportingInstance", 128), ("action", 128), ("reason", 128)] {
            let value = match (name, text(event, name)) {
                ("reportingController", "") => text(event, "reportingComponent"),
                (_, value) => value,
            };
            let path = Path::root(name);
            if value.is_empty() {
                faults.required(&path, "");
            }
            if name == "reportingController" {
                faults.invalid_each(&path, value, names::qualified_name(value));
            } else if value.len() > most {
                faults.invalid(&path, "", format!("can have at most {most} characters"));
            }
        }
        if field(event, "message").and_then(Value::as_str).unwrap_or("").len() > 1024 {
            faults.invalid(&Path::root("message"), "", "can have at most 1024 characters");
        }
    }
    faults.invalid_each(&Path::root("namespace"), namespace, names::dns1123_subdomain(namespace));
}
