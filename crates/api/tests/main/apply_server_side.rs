//! Server-side apply.

use api::apply::{ApplyError, LAST_APPLIED, Manager, manage_update, server_side_apply};
use jiff::Timestamp;
use serde_json::{Value, json};

use crate::apply_fields::{deployment_type, named};

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_second(1_767_225_600 + seconds).unwrap()
}

fn manager(name: &str, seconds: i64) -> Manager<'_> {
    Manager { name, api_version: "apps/v1", subresource: "", now: at(seconds) }
}

fn apply(live: Option<&Value>, applied: &Value, name: &str, seconds: i64) -> Result<Value, ApplyError> {
    server_side_apply(deployment_type(), live, applied, &manager(name, seconds), false)
}

fn config(spec: Value) -> Value {
    json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "web", "namespace": "default"}, "spec": spec})
}

fn containers(items: Value) -> Value {
    config(json!({"template": {"spec": {"containers": items}}}))
}

fn update(live: &Value, name: &str, seconds: i64, change: impl FnOnce(&mut Value)) -> Value {
    let mut new = live.clone();
    change(&mut new);
    manage_update(deployment_type(), Some(live), &mut new, &manager(name, seconds));
    new
}

fn entry<'a>(object: &'a Value, manager: &str) -> Option<&'a Value> {
    let list = object["metadata"]["managedFields"].as_array()?;
    list.iter().find(|e| e["manager"] == manager)
}

fn owned(object: &Value, manager: &str) -> Value {
    entry(object, manager).map_or(Value::Null, |e| e["fieldsV1"].clone())
}

fn names(list: &Value) -> Vec<&str> {
    list.as_array().unwrap().iter().map(|c| c["name"].as_str().unwrap()).collect()
}

#[test]
fn an_apply_creates_and_owns_what_it_says() {
    let created = apply(None, &config(json!({"replicas": 3})), "me", 0).unwrap();
    assert_eq!(created["spec"], json!({"replicas": 3}));
    assert_eq!(
        created["metadata"]["managedFields"],
        json!([{
            "manager": "me", "operation": "Apply", "apiVersion": "apps/v1", "time": "2026-01-01T00:00:00Z",
            "fieldsType": "FieldsV1", "fieldsV1": {"f:spec": {"f:replicas": {}}},
        }])
    );
}

#[test]
fn applying_the_same_again_changes_nothing_at_all() {
    let created = apply(None, &config(json!({"replicas": 3})), "me", 0).unwrap();
    let again = apply(Some(&created), &config(json!({"replicas": 3})), "me", 60).unwrap();
    assert_eq!(again.to_string(), created.to_string());
}

#[test]
fn an_own_field_can_be_changed_and_its_time_moves() {
    let created = apply(None, &config(json!({"replicas": 3})), "me", 0).unwrap();
    let changed = apply(Some(&created), &config(json!({"replicas": 4})), "me", 60).unwrap();
    assert_eq!(changed["spec"]["replicas"], 4);
    assert_eq!(entry(&changed, "me").unwrap()["time"], "2026-01-01T00:01:00Z");
}

#[test]
fn what_is_no_longer_applied_goes_away() {
    let created = apply(
        None,
        &config(json!({"replicas": 3, "paused": true, "template": {"metadata": {"labels": {"a": "1", "b": "2"}}}})),
        "me",
        0,
    )
    .unwrap();
    let less =
        apply(Some(&created), &config(json!({"template": {"metadata": {"labels": {"b": "2"}}}})), "me", 1).unwrap();
    assert_eq!(less["spec"], json!({"template": {"metadata": {"labels": {"b": "2"}}}}));
    let nothing = apply(Some(&less), &config(json!({})), "me", 2).unwrap();
    assert_eq!(nothing.get("spec"), None);
}

#[test]
fn a_removed_item_takes_what_was_in_it_along() {
    let created =
        apply(None, &containers(json!([{"name": "a", "image": "x"}, {"name": "b", "image": "y"}])), "me", 0).unwrap();
    let less = apply(Some(&created), &containers(json!([{"name": "b", "image": "y"}])), "me", 1).unwrap();
    assert_eq!(less["spec"]["template"]["spec"]["containers"], json!([{"name": "b", "image": "y"}]));
}

#[test]
fn an_object_whose_last_label_goes_keeps_its_name() {
    let mut labelled = config(json!({"paused": true}));
    labelled["metadata"]["labels"] = json!({"a": "b"});
    let created = apply(None, &labelled, "me", 0).unwrap();
    for mut less in [config(json!({"paused": true})), labelled.clone()] {
        less["metadata"]["labels"].as_object_mut().map(serde_json::Map::clear);
        let less = apply(Some(&created), &less, "me", 1).unwrap();
        assert_eq!(less["metadata"]["name"], "web");
        assert_eq!(less["metadata"].get("labels"), None);
    }
}

#[test]
fn what_others_own_stays() {
    let created = apply(None, &containers(json!([{"name": "a", "image": "x"}])), "me", 0).unwrap();
    // An updater adds to the item and an applier shares a field.
    let updated = update(&created, "editor", 1, |o| {
        o["spec"]["template"]["spec"]["containers"][0]["tty"] = json!(true);
        o["spec"]["replicas"] = json!(2);
    });
    let shared = apply(Some(&updated), &containers(json!([{"name": "a", "image": "x"}])), "peer", 2).unwrap();
    let gone = apply(Some(&shared), &config(json!({"paused": false})), "me", 3).unwrap();
    assert_eq!(
        gone["spec"],
        json!({
            "template": {"spec": {"containers": [{"name": "a", "image": "x", "tty": true}]}},
            "replicas": 2,
            "paused": false,
        })
    );
    assert_eq!(owned(&gone, "me"), json!({"f:spec": {"f:paused": {}}}));
}

#[test]
fn fields_that_nobody_owns_survive_an_apply() {
    let mut created = apply(None, &config(json!({"replicas": 1})), "me", 0).unwrap();
    created["spec"]["revisionHistoryLimit"] = json!(10); // by defaulting
    let applied = apply(Some(&created), &config(json!({"paused": true})), "me", 1).unwrap();
    assert_eq!(applied["spec"], json!({"revisionHistoryLimit": 10, "paused": true}));
}

#[test]
fn changing_what_another_owns_is_a_conflict() {
    let created = apply(None, &config(json!({"replicas": 3})), "me", 0).unwrap();
    let fault = apply(Some(&created), &config(json!({"replicas": 4})), "you", 1).unwrap_err();
    assert_eq!(fault.to_string(), "Apply failed with 1 conflict: conflict with \"me\": .spec.replicas");

    let updated = update(&created, "kubectl-client-side-apply", 1, |o| o["spec"]["replicas"] = json!(5));
    let fault = apply(Some(&updated), &config(json!({"replicas": 4})), "you", 1).unwrap_err();
    assert_eq!(
        fault.to_string(),
        "Apply failed with 1 conflict: conflict with \"kubectl-client-side-apply\" using apps/v1: .spec.replicas"
    );
    let status = fault.to_status();
    assert_eq!((status.code, status.reason.as_str()), (409, "Conflict"));
    let causes = &status.details.unwrap().causes;
    assert_eq!(causes.len(), 1);
    assert_eq!(causes[0].reason, "FieldManagerConflict");
    assert_eq!(causes[0].message, "conflict with \"kubectl-client-side-apply\" using apps/v1");
    assert_eq!(causes[0].field, ".spec.replicas");
}

#[test]
fn several_conflicts_are_listed_by_manager() {
    let created = apply(None, &config(json!({"replicas": 3, "paused": true})), "zed", 0).unwrap();
    let through_status = Manager { subresource: "scale", ..manager("abe", 1) };
    let mut updated = created.clone();
    updated["spec"]["template"] = json!({"spec": {"containers": [{"name": "a", "image": "x"}]}});
    manage_update(deployment_type(), Some(&created), &mut updated, &through_status);
    let applied = config(json!({
        "replicas": 4, "paused": false,
        "template": {"spec": {"containers": [{"name": "a", "image": "y"}]}},
    }));
    let fault = apply(Some(&updated), &applied, "me", 2).unwrap_err();
    assert_eq!(
        fault.to_string(),
        "Apply failed with 3 conflicts: conflicts with \"abe\" with subresource \"scale\" using apps/v1:\n\
         - .spec.template.spec.containers[name=\"a\"].image\n\
         conflicts with \"zed\":\n\
         - .spec.paused\n\
         - .spec.replicas"
    );
}

#[test]
fn the_same_value_is_shared_without_conflict() {
    let created = apply(None, &config(json!({"replicas": 3})), "me", 0).unwrap();
    let shared = apply(Some(&created), &config(json!({"replicas": 3})), "you", 1).unwrap();
    assert_eq!(owned(&shared, "me"), json!({"f:spec": {"f:replicas": {}}}));
    assert_eq!(owned(&shared, "you"), json!({"f:spec": {"f:replicas": {}}}));
    // One gives it up: it stays for the other. (An empty object is a claim of its own.)
    let left = apply(Some(&shared), &config(json!({})), "me", 2).unwrap();
    assert_eq!(left["spec"], json!({"replicas": 3}));
    assert_eq!(owned(&left, "me"), json!({"f:spec": {}}));
    let mut bare = config(json!({}));
    bare.as_object_mut().unwrap().remove("spec");
    let left = apply(Some(&left), &bare, "me", 3).unwrap();
    assert_eq!(left["spec"], json!({"replicas": 3}));
    assert!(entry(&left, "me").is_none(), "who owns nothing is not listed");
}

#[test]
fn force_takes_the_field_over() {
    let created = apply(None, &config(json!({"replicas": 3, "paused": true})), "me", 0).unwrap();
    let forced =
        server_side_apply(deployment_type(), Some(&created), &config(json!({"replicas": 4})), &manager("you", 1), true)
            .unwrap();
    assert_eq!(forced["spec"], json!({"replicas": 4, "paused": true}));
    assert_eq!(owned(&forced, "me"), json!({"f:spec": {"f:paused": {}}}));
    assert_eq!(owned(&forced, "you"), json!({"f:spec": {"f:replicas": {}}}));
}

#[test]
fn items_of_keyed_lists_have_owners_of_their_own() {
    let created = apply(None, &containers(json!([{"name": "a", "image": "x"}])), "me", 0).unwrap();
    let both = apply(Some(&created), &containers(json!([{"name": "b", "image": "y"}])), "you", 1).unwrap();
    assert_eq!(names(&both["spec"]["template"]["spec"]["containers"]), ["a", "b"]);
    let less = apply(Some(&both), &config(json!({})), "you", 2).unwrap();
    assert_eq!(names(&less["spec"]["template"]["spec"]["containers"]), ["a"]);
}

#[test]
fn merged_lists_keep_the_applied_order_and_weave_in_the_rest() {
    let list = |names: &[&str]| Value::Array(names.iter().map(|n| json!({"name": n, "image": "x"})).collect());
    for (live, applied, merged) in [
        (&["a", "b", "c"][..], &["c", "a"][..], &["b", "c", "a"][..]),
        (&["a", "b"], &["a", "n", "b"], &["a", "n", "b"]),
        (&["s", "a", "b"], &["b", "a"], &["s", "b", "a"]),
        (&["a", "s", "b"], &["a", "b"], &["a", "s", "b"]),
        (&["a"], &["n", "a"], &["n", "a"]),
        (&["x", "y"], &["n"], &["x", "y", "n"]),
    ] {
        let first = apply(None, &containers(list(live)), "other", 0).unwrap();
        let then = apply(Some(&first), &containers(list(applied)), "me", 1).unwrap();
        assert_eq!(names(&then["spec"]["template"]["spec"]["containers"]), merged, "{live:?} {applied:?}");
    }
}

#[test]
fn a_ports_protocol_is_tcp_when_not_said() {
    let created = apply(
        None,
        &containers(json!([{"name": "a", "ports": [{"containerPort": 53, "protocol": "TCP"}, {"containerPort": 53, "protocol": "UDP"}]}])),
        "me",
        0,
    )
    .unwrap();
    let named = apply(
        Some(&created),
        &containers(json!([{"name": "a", "ports": [{"containerPort": 53, "name": "dns"}]}])),
        "you",
        1,
    )
    .unwrap();
    assert_eq!(
        named["spec"]["template"]["spec"]["containers"][0]["ports"],
        json!([
            {"containerPort": 53, "protocol": "TCP", "name": "dns"},
            {"containerPort": 53, "protocol": "UDP"},
        ])
    );
}

#[test]
fn what_is_atomic_is_owned_and_replaced_as_a_whole() {
    let created = apply(None, &config(json!({"selector": {"matchLabels": {"a": "1"}}})), "me", 0).unwrap();
    assert_eq!(owned(&created, "me"), json!({"f:spec": {"f:selector": {}}}));
    let fault = apply(Some(&created), &config(json!({"selector": {"matchLabels": {"b": "1"}}})), "you", 1).unwrap_err();
    assert_eq!(fault.to_string(), "Apply failed with 1 conflict: conflict with \"me\": .spec.selector");
    let changed = apply(Some(&created), &config(json!({"selector": {"matchLabels": {"b": "1"}}})), "me", 1).unwrap();
    assert_eq!(changed["spec"]["selector"], json!({"matchLabels": {"b": "1"}}));

    let of = named("io.k8s.api.core.v1.Service");
    let service = |selector: Value| json!({"metadata": {"name": "s"}, "spec": {"selector": selector}});
    let who = Manager { api_version: "v1", ..manager("me", 0) };
    let first = server_side_apply(of, None, &service(json!({"a": "1", "b": "2"})), &who, false).unwrap();
    let second = server_side_apply(of, Some(&first), &service(json!({"c": "3"})), &who, false).unwrap();
    assert_eq!(second["spec"]["selector"], json!({"c": "3"}));
}

#[test]
fn sets_merge_by_value() {
    let finalizers = |items: Value| {
        let mut object = config(json!({}));
        object["metadata"]["finalizers"] = items;
        object
    };
    let first = apply(None, &finalizers(json!(["a", "b"])), "me", 0).unwrap();
    let second = apply(Some(&first), &finalizers(json!(["c"])), "you", 1).unwrap();
    assert_eq!(second["metadata"]["finalizers"], json!(["a", "b", "c"]));
    let third = apply(Some(&second), &finalizers(json!(["b"])), "me", 2).unwrap();
    assert_eq!(third["metadata"]["finalizers"], json!(["b", "c"]));
}

#[test]
fn names_and_versions_are_never_owned() {
    let mut applied = config(json!({"replicas": 1}));
    applied["metadata"]["uid"] = json!("u");
    applied["metadata"]["resourceVersion"] = json!("1");
    applied["metadata"]["labels"] = json!({"a": "b"});
    applied["status"] = json!({"replicas": 3});
    let created = apply(None, &applied, "me", 0).unwrap();
    assert_eq!(owned(&created, "me"), json!({"f:metadata": {"f:labels": {"f:a": {}}}, "f:spec": {"f:replicas": {}}}));
}

#[test]
fn an_untracked_object_gets_an_owner_before_the_first_apply() {
    let live = config(json!({"replicas": 3, "paused": true}));
    let fault = apply(Some(&live), &config(json!({"replicas": 4})), "me", 0).unwrap_err();
    assert_eq!(
        fault.to_string(),
        "Apply failed with 1 conflict: conflict with \"before-first-apply\" using apps/v1: .spec.replicas"
    );
    let applied = apply(Some(&live), &config(json!({"replicas": 3})), "me", 0).unwrap();
    assert_eq!(owned(&applied, "before-first-apply"), json!({"f:spec": {"f:paused": {}, "f:replicas": {}}}));
}

#[test]
fn a_null_removes_and_is_owned() {
    let created = apply(None, &config(json!({"replicas": 3})), "me", 0).unwrap();
    let nulled = apply(Some(&created), &config(json!({"replicas": null})), "me", 1).unwrap();
    assert_eq!(nulled.pointer("/spec/replicas"), None);
    assert_eq!(owned(&nulled, "me"), json!({"f:spec": {"f:replicas": {}}}));
}

#[test]
fn kubectl_takes_over_what_it_applied_on_the_client() {
    let old = config(json!({"replicas": 3, "paused": true}));
    let mut created = old.clone();
    created["metadata"]["annotations"] = json!({LAST_APPLIED: old.to_string()});
    manage_update(deployment_type(), None, &mut created, &manager("kubectl-client-side-apply", 0));
    created["metadata"]["uid"] = json!("u");

    let applied = config(json!({"replicas": 4}));
    let fault = apply(Some(&created), &applied, "someone", 1).unwrap_err();
    assert!(matches!(fault, ApplyError::Conflicts(_)), "only kubectl may");
    let taken = apply(Some(&created), &applied, "kubectl", 1).unwrap();
    assert_eq!(taken["spec"]["replicas"], 4);
    let annotation = taken["metadata"]["annotations"][LAST_APPLIED].as_str().unwrap();
    assert_eq!(
        annotation,
        "{\"apiVersion\":\"apps/v1\",\"kind\":\"Deployment\",\"metadata\":{\"name\":\"web\",\"namespace\":\"default\"},\"spec\":{\"replicas\":4}}\n"
    );

    // But not what somebody has changed since.
    let edited = update(&created, "kubectl-edit", 1, |o| o["spec"]["replicas"] = json!(9));
    let fault = apply(Some(&edited), &applied, "kubectl", 2).unwrap_err();
    assert_eq!(
        fault.to_string(),
        "Apply failed with 1 conflict: conflict with \"kubectl-edit\" using apps/v1: .spec.replicas"
    );
}

#[test]
fn bad_configurations_are_refused() {
    let mut with_fields = config(json!({}));
    with_fields["metadata"]["managedFields"] = json!([]);
    let fault = apply(None, &with_fields, "me", 0).unwrap_err();
    assert_eq!(fault, ApplyError::BadRequest("metadata.managedFields must be nil".into()));
    assert_eq!(fault.to_status().code, 400);

    let fault = apply(None, &config(json!({"replica": 1})), "me", 0).unwrap_err();
    assert_eq!(
        fault.to_string(),
        "failed to create typed patch object (default/web; apps/v1, Kind=Deployment): .spec.replica: field not declared in schema"
    );
    assert_eq!(fault.to_status().code, 500);
    let fault = apply(None, &config(json!({"replica": 1, "pause": 2})), "me", 0).unwrap_err();
    assert_eq!(
        fault.to_string(),
        "failed to create typed patch object (default/web; apps/v1, Kind=Deployment): errors:\n  .spec.replica: field not declared in schema\n  .spec.pause: field not declared in schema"
    );
}

#[test]
fn an_update_of_an_applied_field_takes_it_from_the_applier() {
    let created = apply(None, &config(json!({"replicas": 3, "paused": true})), "me", 0).unwrap();
    let scaled = update(&created, "autoscaler", 1, |o| o["spec"]["replicas"] = json!(5));
    assert_eq!(owned(&scaled, "me"), json!({"f:spec": {"f:paused": {}}}));
    // Not applying it any more leaves it alone.
    let applied = apply(Some(&scaled), &config(json!({"paused": true})), "me", 2).unwrap();
    assert_eq!(applied["spec"]["replicas"], 5);
    // Applies come first in the list.
    let order: Vec<_> =
        applied["metadata"]["managedFields"].as_array().unwrap().iter().map(|e| e["operation"].clone()).collect();
    assert_eq!(order, ["Apply", "Update"]);
}
