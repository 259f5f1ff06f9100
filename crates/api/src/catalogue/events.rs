//! `events.k8s.io`: the core group's events under other field names.

use serde_json::{Value, json};

use super::entry::{Entry, namespaced};
use crate::schema::types::events_v1_Event;

pub fn entries() -> Vec<Entry> {
    vec![
        namespaced("events.k8s.io", "v1", "Event", "events", &events_v1_Event)
            .short(&["ev"])
            .stored_as("events", ("", "v1"), to_core, from_core)
            .selectable(&[
                ("regarding.kind", "/regarding/kind"),
                ("regarding.namespace", "/regarding/namespace"),
                ("regarding.name", "/regarding/name"),
                ("regarding.uid", "/regarding/uid"),
                ("regarding.apiVersion", "/regarding/apiVersion"),
                ("regarding.resourceVersion", "/regarding/resourceVersion"),
                ("regarding.fieldPath", "/regarding/fieldPath"),
                ("reason", "/reason"),
                ("reportingController", "/reportingController"),
                ("type", "/type"),
            ]),
    ]
}

/// (in events.k8s.io, in the core group)
const FIELDS: [(&str, &str); 7] = [
    ("regarding", "involvedObject"),
    ("note", "message"),
    ("reportingController", "reportingComponent"),
    ("deprecatedSource", "source"),
    ("deprecatedFirstTimestamp", "firstTimestamp"),
    ("deprecatedLastTimestamp", "lastTimestamp"),
    ("deprecatedCount", "count"),
];

fn to_core(event: &mut Value) {
    event["apiVersion"] = "v1".into();
    rename(event, |(new, core)| (new, core));
    // In the core group there always is a source, if an empty one; clients look into it unasked.
    if event["source"].is_null() {
        event["source"] = json!({});
    }
}

fn from_core(event: &mut Value) {
    event["apiVersion"] = "events.k8s.io/v1".into();
    rename(event, |(new, core)| (core, new));
    if event["deprecatedSource"].as_object().is_some_and(|source| source.is_empty())
        && let Some(event) = event.as_object_mut()
    {
        event.remove("deprecatedSource");
    }
}

fn rename(event: &mut Value, from_to: fn((&'static str, &'static str)) -> (&'static str, &'static str)) {
    let Some(event) = event.as_object_mut() else { return };
    for pair in FIELDS {
        let (from, to) = from_to(pair);
        if let Some(value) = event.remove(from) {
            event.insert(to.into(), value);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_survives_the_way_into_the_core_group_and_back() {
        let event = json!({
            "apiVersion": "events.k8s.io/v1", "kind": "Event", "metadata": {"name": "a"},
            "regarding": {"kind": "Pod"}, "note": "n", "reportingController": "c", "deprecatedCount": 2,
            "reason": "R", "eventTime": "2026-01-01T00:00:00.000000Z",
        });
        let mut converted = event.clone();
        to_core(&mut converted);
        assert_eq!(converted["involvedObject"]["kind"], "Pod");
        assert_eq!(converted["message"], "n");
        assert_eq!(converted["reportingComponent"], "c");
        assert_eq!(converted["count"], 2);
        assert_eq!(converted["apiVersion"], "v1");
        assert_eq!(converted["source"], json!({}));
        assert!(converted.get("regarding").is_none());
        from_core(&mut converted);
        assert_eq!(converted, event);
    }
}
