//! The smallest strategic merge patch that turns the reported status into the wanted one. Pure.

use k8s_openapi::api::core::v1::PodStatus;
use serde_json::{Map, Value, json};

/// The patch for `/status`, or `None` if nothing differs. `reported` and `wanted` are `PodStatus` objects; fields
/// that the agent never writes are left alone. The UID in it makes the API refuse it for another pod of that name.
pub fn between(uid: &str, reported: &Value, wanted: &Value) -> Option<Value> {
    let empty = Map::new();
    let old = reported.as_object().unwrap_or(&empty);
    let new = wanted.as_object().unwrap_or(&empty);
    let mut status = Map::new();
    for (field, value) in new {
        let before = old.get(field).unwrap_or(&Value::Null);
        match field.as_str() {
            "conditions" => {
                let changed = changed_conditions(before, value);
                if !changed.is_empty() {
                    status.insert(field.clone(), Value::Array(changed));
                }
            }
            // A list with a merge key: what is not named would stay.
            "podIPs" | "hostIPs" if before != value => {
                let mut list = value.as_array().cloned().unwrap_or_default();
                if before.as_array().is_some_and(|b| !b.is_empty()) {
                    list.insert(0, json!({"$patch": "replace"}));
                }
                status.insert(field.clone(), Value::Array(list));
            }
            _ if before != value => {
                status.insert(field.clone(), value.clone());
            }
            _ => {}
        }
    }
    for field in OWNED {
        if old.contains_key(*field) && !new.contains_key(*field) {
            status.insert((*field).to_owned(), Value::Null);
        }
    }
    if status.is_empty() {
        return None;
    }
    Some(json!({"metadata": {"uid": uid}, "status": status}))
}

/// Whether the reported status says all of the wanted one, told without taking either apart. Where it is not sure, it
/// says no: then [`between`] decides.
pub fn is_said(reported: &PodStatus, wanted: &PodStatus) -> bool {
    // What the agent states, or has stated, is there; what it never states may be anything.
    macro_rules! same {
        ($($field:ident),*) => { $(reported.$field == wanted.$field)&&* };
    }
    macro_rules! stated {
        ($($field:ident),*) => { $((wanted.$field.is_none() || reported.$field == wanted.$field))&&* };
    }
    let [said, asked] = [reported, wanted].map(|status| status.conditions.as_deref().unwrap_or_default());
    let all_there = asked.iter().all(|c| said.contains(c));
    let none_passed =
        said.iter().all(|r| !PASSING.contains(&r.type_.as_str()) || asked.iter().any(|c| c.type_ == r.type_));
    all_there
        && none_passed
        && same!(
            reason,
            message,
            pod_ip,
            pod_ips,
            container_statuses,
            init_container_statuses,
            ephemeral_container_statuses
        )
        && stated!(
            allocated_resources,
            extended_resource_claim_status,
            host_ip,
            host_ips,
            node_allocatable_resource_claim_statuses,
            nominated_node_name,
            observed_generation,
            phase,
            qos_class,
            resize,
            resource_claim_statuses,
            resources,
            start_time
        )
}

/// Fields that vanish from the report when the agent no longer states them.
const OWNED: &[&str] = &[
    "reason",
    "message",
    "podIP",
    "podIPs",
    "containerStatuses",
    "initContainerStatuses",
    "ephemeralContainerStatuses",
];

/// Conditions that vanish when the agent no longer states them.
const PASSING: &[&str] = &["PodResizePending", "PodResizeInProgress"];

fn changed_conditions(before: &Value, after: &Value) -> Vec<Value> {
    let old = before.as_array().map(Vec::as_slice).unwrap_or_default();
    let mut changed = Vec::new();
    for condition in after.as_array().into_iter().flatten() {
        let previous = old.iter().find(|c| c["type"] == condition["type"]);
        if previous == Some(condition) {
            continue;
        }
        let mut condition = condition.clone();
        // A merged entry keeps what is not named.
        if let (Some(previous), Some(map)) = (previous.and_then(Value::as_object), condition.as_object_mut()) {
            for field in ["reason", "message"] {
                if previous.contains_key(field) && !map.contains_key(field) {
                    map.insert(field.to_owned(), Value::Null);
                }
            }
        }
        changed.push(condition);
    }
    let after = after.as_array().map(Vec::as_slice).unwrap_or_default();
    for condition in old {
        let kind = condition["type"].as_str().unwrap_or_default();
        if PASSING.contains(&kind) && !after.iter().any(|c| c["type"] == kind) {
            changed.push(json!({"$patch": "delete", "type": kind}));
        }
    }
    changed
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_differs_is_sent() {
        let old = json!({"phase": "Pending", "podIPs": [{"ip": "1.1.1.1"}], "qosClass": "BestEffort", "reason": "x",
            "conditions": [{"type": "Ready", "status": "False", "reason": "no"}, {"type": "A", "status": "True"}]});
        let new = json!({"phase": "Running", "podIPs": [{"ip": "2.2.2.2"}], "qosClass": "BestEffort",
            "conditions": [{"type": "Ready", "status": "True"}, {"type": "A", "status": "True"}]});
        let patch = between("u", &old, &new).expect("a patch");
        assert_eq!(
            patch,
            json!({"metadata": {"uid": "u"}, "status": {
                "phase": "Running",
                "podIPs": [{"$patch": "replace"}, {"ip": "2.2.2.2"}],
                "conditions": [{"type": "Ready", "status": "True", "reason": null}],
                "reason": null
            }})
        );
        assert_eq!(between("u", &new, &new), None);
    }

    #[test]
    fn what_is_said_already_needs_no_patch_and_what_differs_is_never_taken_for_said() {
        let running = json!({"phase": "Running", "podIPs": [{"ip": "1.1.1.1"}], "startTime": "2026-01-01T00:00:00Z",
            "conditions": [{"type": "Ready", "status": "True"}],
            "containerStatuses": [{"name": "c", "ready": true, "restartCount": 0, "image": "i", "imageID": "j",
                "state": {"running": {"startedAt": "2026-01-01T00:00:00Z"}}}]});
        let edited = |edit: &dyn Fn(&mut Value)| {
            let mut status = running.clone();
            edit(&mut status);
            status
        };
        let theirs = edited(&|s| s["conditions"] = json!([{"type": "x/y", "status": "False"}, s["conditions"][0]]));
        let cases = [
            (running.clone(), true),
            (theirs, true),
            (edited(&|s| s["nominatedNodeName"] = "n".into()), true),
            (edited(&|s| s["resize"] = "Proposed".into()), true),
            (edited(&|s| s["phase"] = "Pending".into()), false),
            (edited(&|s| s["reason"] = "x".into()), false),
            (edited(&|s| s["podIPs"] = json!([{"ip": "1.1.1.1"}, {"ip": "::1"}])), false),
            (edited(&|s| s["startTime"] = Value::Null), false),
            (edited(&|s| s["conditions"][0]["status"] = "False".into()), false),
            (
                edited(&|s| {
                    s["conditions"] = json!([{"type": "PodResizePending", "status": "True"}, s["conditions"][0]])
                }),
                false,
            ),
            (edited(&|s| s["containerStatuses"][0]["restartCount"] = 1.into()), false),
            (edited(&|s| s["ephemeralContainerStatuses"] = s["containerStatuses"].clone()), false),
        ];
        let status = |value: &Value| serde_json::from_value::<PodStatus>(value.clone()).expect("a status");
        for (reported, said) in cases {
            assert_eq!(is_said(&status(&reported), &status(&running)), said, "{reported}");
            let shown = |value: &Value| serde_json::to_value(status(value)).expect("a status");
            assert_eq!(between("u", &shown(&reported), &shown(&running)).is_none(), said, "{reported}");
        }
    }

    #[test]
    fn a_condition_that_has_passed_is_taken_back_and_others_conditions_are_not() {
        let old = json!({"conditions": [{"type": "PodResizePending", "status": "True"}, {"type": "theirs", "status": "True"}]});
        let patch = between("u", &old, &json!({"conditions": []})).expect("a patch");
        assert_eq!(patch["status"]["conditions"], json!([{"$patch": "delete", "type": "PodResizePending"}]));
    }
}
