//! Managed fields of creates, updates and patches.

use api::apply::{Manager, manage_update, manager_name, validate_manager_name};
use jiff::Timestamp;
use serde_json::{Value, json};

use crate::apply_fields::{deployment, deployment_type};

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_second(1_767_225_600 + seconds).unwrap()
}

fn manager(name: &str, seconds: i64) -> Manager<'_> {
    Manager { name, api_version: "apps/v1", subresource: "", now: at(seconds) }
}

fn created(name: &str) -> Value {
    let mut object = deployment();
    manage_update(deployment_type(), None, &mut object, &manager(name, 0));
    object["metadata"]["uid"] = json!("u");
    object
}

/// The list as (manager, operation, subresource, time, fields).
fn entries(object: &Value) -> Vec<(String, String, String, String, Value)> {
    let text = |entry: &Value, field: &str| entry[field].as_str().unwrap_or_default().to_owned();
    let list = object["metadata"]["managedFields"].as_array().cloned().unwrap_or_default();
    let read = list.iter().map(|e| {
        (text(e, "manager"), text(e, "operation"), text(e, "subresource"), text(e, "time"), e["fieldsV1"].clone())
    });
    read.collect()
}

fn fields_of(object: &Value, manager: &str) -> Value {
    entries(object).into_iter().find(|e| e.0 == manager).map_or(Value::Null, |e| e.4)
}

#[test]
fn a_create_records_its_manager() {
    let object = created("kubectl-create");
    let entry = &object["metadata"]["managedFields"][0];
    let keys: Vec<_> = entry.as_object().unwrap().keys().map(String::as_str).collect();
    assert_eq!(keys, ["manager", "operation", "apiVersion", "time", "fieldsType", "fieldsV1"]);
    assert_eq!(entry["operation"], "Update");
    assert_eq!(entry["time"], "2026-01-01T00:00:00Z");
    assert_eq!(entry["fieldsType"], "FieldsV1");
    let last = deployment()["metadata"].as_object().unwrap().len();
    assert_eq!(object["metadata"].as_object().unwrap().keys().nth(last).unwrap(), "managedFields");
}

#[test]
fn entries_that_come_with_a_create_are_dropped() {
    let mut object = deployment();
    object["metadata"]["managedFields"] = json!([{"manager": "x", "operation": "Apply"}]);
    manage_update(deployment_type(), None, &mut object, &manager("me", 0));
    assert_eq!(entries(&object).iter().map(|e| e.0.as_str()).collect::<Vec<_>>(), ["me"]);
}

#[test]
fn an_update_takes_what_it_changes() {
    let live = created("creator");
    let mut new = live.clone();
    new["spec"]["replicas"] = json!(7);
    new["metadata"]["annotations"] = json!({"a": "b"});
    manage_update(deployment_type(), Some(&live), &mut new, &manager("scaler", 60));
    assert_eq!(
        fields_of(&new, "scaler"),
        json!({"f:metadata": {"f:annotations": {".": {}, "f:a": {}}}, "f:spec": {"f:replicas": {}}})
    );
    assert_eq!(fields_of(&new, "creator")["f:spec"].get("f:replicas"), None);
    let times: Vec<_> = entries(&new).into_iter().map(|e| (e.0, e.3)).collect();
    assert_eq!(
        times,
        [
            ("creator".to_owned(), "2026-01-01T00:00:00Z".to_owned()),
            ("scaler".to_owned(), "2026-01-01T00:01:00Z".to_owned()),
        ]
    );
}

#[test]
fn a_manager_that_updates_again_keeps_one_entry() {
    let live = created("creator");
    let mut new = live.clone();
    new["spec"]["replicas"] = json!(7);
    manage_update(deployment_type(), Some(&live), &mut new, &manager("creator", 60));
    assert_eq!(entries(&new).len(), 1);
    assert_eq!(entries(&new)[0].3, "2026-01-01T00:01:00Z");
    assert_eq!(entries(&new)[0].4, entries(&live)[0].4);
}

#[test]
fn nothing_changes_when_nothing_changed() {
    let live = created("creator");
    for forget in [false, true] {
        let mut new = live.clone();
        if forget {
            new["metadata"].as_object_mut().unwrap().remove("managedFields");
        }
        new["metadata"]["resourceVersion"] = json!("99");
        manage_update(deployment_type(), Some(&live), &mut new, &manager("other", 60));
        assert_eq!(new["metadata"]["managedFields"], live["metadata"]["managedFields"]);
    }
}

#[test]
fn what_is_removed_leaves_its_owner() {
    let live = created("creator");
    let mut new = live.clone();
    new["spec"].as_object_mut().unwrap().remove("strategy");
    new["spec"]["template"]["spec"]["containers"][0].as_object_mut().unwrap().remove("ports");
    manage_update(deployment_type(), Some(&live), &mut new, &manager("other", 60));
    let left = fields_of(&new, "creator");
    assert_eq!(left["f:spec"].get("f:strategy"), None);
    let container = &left["f:spec"]["f:template"]["f:spec"]["f:containers"]["k:{\"name\":\"web\"}"];
    assert_eq!(container.get("f:ports"), None);
    assert_eq!(fields_of(&new, "other"), Value::Null, "a removal alone owns nothing");
}

#[test]
fn a_manager_that_owns_nothing_any_more_is_gone() {
    let live = created("creator");
    let mut scaled = live.clone();
    scaled["spec"]["replicas"] = json!(7);
    manage_update(deployment_type(), Some(&live), &mut scaled, &manager("scaler", 1));
    let mut again = scaled.clone();
    again["spec"]["replicas"] = json!(8);
    manage_update(deployment_type(), Some(&scaled), &mut again, &manager("creator", 2));
    assert_eq!(entries(&again).iter().map(|e| e.0.as_str()).collect::<Vec<_>>(), ["creator"]);
}

#[test]
fn a_status_update_is_an_entry_of_its_own() {
    let live = created("hythe");
    let mut new = live.clone();
    new["status"] = json!({"replicas": 3});
    let through_status = Manager { subresource: "status", ..manager("hythe", 5) };
    manage_update(deployment_type(), Some(&live), &mut new, &through_status);
    let found: Vec<_> = entries(&new).into_iter().map(|e| (e.0, e.2)).collect();
    assert_eq!(found, [("hythe".to_owned(), String::new()), ("hythe".to_owned(), "status".to_owned())]);
    assert_eq!(entries(&new)[1].4, json!({"f:status": {"f:replicas": {}}}));
    assert_eq!(new["metadata"]["managedFields"][1].as_object().unwrap().keys().next_back().unwrap(), "subresource");
}

#[test]
fn the_list_can_be_edited_but_not_through_a_subresource() {
    let live = created("creator");
    let edited = json!([{
        "manager": "chosen", "operation": "Update", "apiVersion": "apps/v1", "fieldsType": "FieldsV1",
        "fieldsV1": {"f:spec": {"f:replicas": {}}},
    }]);
    let mut new = live.clone();
    new["metadata"]["managedFields"] = edited.clone();
    manage_update(deployment_type(), Some(&live), &mut new, &manager("editor", 60));
    assert_eq!(entries(&new).iter().map(|e| e.0.as_str()).collect::<Vec<_>>(), ["chosen"]);
    let mut new = live.clone();
    new["metadata"]["managedFields"] = edited;
    let through_status = Manager { subresource: "status", ..manager("editor", 60) };
    manage_update(deployment_type(), Some(&live), &mut new, &through_status);
    assert_eq!(entries(&new).iter().map(|e| e.0.as_str()).collect::<Vec<_>>(), ["creator"]);
}

#[test]
fn an_unreadable_list_is_replaced_by_the_live_one() {
    let live = created("creator");
    for broken in [json!([{"manager": "x"}]), json!([{"operation": "Spin", "apiVersion": "v1"}]), json!("x")] {
        let mut new = live.clone();
        new["metadata"]["managedFields"] = broken;
        new["spec"]["replicas"] = json!(7);
        manage_update(deployment_type(), Some(&live), &mut new, &manager("scaler", 60));
        let found: Vec<_> = entries(&new).into_iter().map(|e| e.0).collect();
        assert_eq!(found, ["creator", "scaler"]);
    }
}

#[test]
fn an_empty_list_ends_the_tracking() {
    let live = created("creator");
    for reset in [json!([]), json!([{}])] {
        let mut new = live.clone();
        new["metadata"]["managedFields"] = reset;
        new["spec"]["replicas"] = json!(7);
        manage_update(deployment_type(), Some(&live), &mut new, &manager("scaler", 60));
        assert_eq!(new["metadata"].get("managedFields"), None);
        // And it stays so for updates.
        let mut again = new.clone();
        again["spec"]["replicas"] = json!(8);
        manage_update(deployment_type(), Some(&new), &mut again, &manager("scaler", 61));
        assert_eq!(again["metadata"].get("managedFields"), None);
    }
}

#[test]
fn ten_updaters_are_kept_and_older_ones_put_together() {
    let mut live = created("creator");
    for number in 1..=11 {
        let mut new = live.clone();
        new["metadata"]["labels"][format!("l{number}")] = json!("x");
        let name = format!("m{number:02}");
        manage_update(deployment_type(), Some(&live), &mut new, &manager(&name, number));
        live = new;
    }
    let names: Vec<_> = entries(&live).into_iter().map(|e| e.0).collect();
    assert_eq!(
        names,
        ["ancient-changes", "m03", "m04", "m05", "m06", "m07", "m08", "m09", "m10", "m11"],
        "the three oldest have become one"
    );
    let ancient = fields_of(&live, "ancient-changes");
    assert_eq!(ancient["f:metadata"]["f:labels"], json!({".": {}, "f:app": {}, "f:l1": {}, "f:l2": {}}));
    assert!(ancient["f:spec"].is_object());
    assert_eq!(entries(&live)[0].3, "2026-01-01T00:00:02Z");
}

#[test]
fn managers_are_named_by_parameter_or_user_agent() {
    assert_eq!(manager_name(Some("me"), "kubectl/v1.32"), "me");
    assert_eq!(manager_name(None, "kubectl/v1.32.0 (linux/amd64)"), "kubectl");
    assert_eq!(manager_name(Some(""), "hythe"), "hythe");
    assert_eq!(manager_name(None, &"x".repeat(200)).len(), 128);
    let mut object = deployment();
    manage_update(deployment_type(), None, &mut object, &manager("", 0));
    assert_eq!(entries(&object)[0].0, "unknown");
    assert_eq!(validate_manager_name("ok"), None);
    assert_eq!(validate_manager_name(&"x".repeat(129)).unwrap(), "may not be more than 128 bytes");
    assert_eq!(validate_manager_name("a\nb").unwrap(), "should only contain printable characters (position 1)");
}
