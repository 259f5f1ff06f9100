use std::collections::{BTreeMap, BTreeSet};

use serde_json::json;

use super::*;
use crate::{
    resource::{Column, NameRule},
    schema::Shape,
};

#[test]
fn all_built_in_kinds_are_there() {
    assert_eq!(all().len(), 81);
    assert_eq!(groups().len(), 24);
    assert_eq!(groups()[0].name, "");
    let autoscaling = groups().iter().find(|g| g.name == "autoscaling").expect("it is a group");
    assert_eq!(autoscaling.versions, ["v2", "v1"]);
}

#[test]
fn every_kind_is_found_by_its_names() {
    for resource in all() {
        let found = by_plural(resource.group, resource.version, resource.plural).expect("it is in the catalogue");
        assert!(std::ptr::eq(found, *resource));
        let found = by_kind(resource.group, resource.version, resource.kind).expect("it is in the catalogue");
        assert!(std::ptr::eq(found, *resource));
        assert!(of_group_version(resource.group, resource.version).any(|r| std::ptr::eq(r, *resource)));
    }
    assert!(by_plural("", "v1", "deployments").is_none());
    assert!(by_kind("apps", "v1", "Pod").is_none());
}

#[test]
fn names_are_regular_and_unique_in_their_version() {
    let mut seen = BTreeSet::new();
    for resource in all() {
        let &&Resource { group, version, plural, singular, kind, .. } = resource;
        // What is only measured has no singular name, so that it never stands for the kind that is stored.
        assert_eq!(singular, if group == "metrics.k8s.io" { String::new() } else { kind.to_ascii_lowercase() });
        for name in [plural, singular]
            .iter()
            .chain(resource.short_names)
            .filter(|name| !name.is_empty())
            .collect::<BTreeSet<_>>()
        {
            assert!(seen.insert((group, version, *name)), "{group}/{version} {name} stands twice");
        }
        let api_version = if group.is_empty() { version.to_string() } else { format!("{group}/{version}") };
        assert_eq!(resource.api_version, api_version);
    }
}

#[test]
fn verbs_are_known_sorted_and_go_together() {
    const KNOWN: [&str; 8] = ["create", "delete", "deletecollection", "get", "list", "patch", "update", "watch"];
    for resource in all() {
        let of = resource.plural;
        let subresources = resource.subresources.iter().map(|s| s.verbs);
        for verbs in subresources.chain([resource.verbs]) {
            assert!(verbs.is_sorted() && !verbs.is_empty(), "{of}");
            assert!(verbs.iter().all(|verb| KNOWN.contains(verb)), "{of}");
        }
        assert!(resource.subresources.is_sorted_by_key(|s| s.name), "{of}");
        for (one, other) in [("watch", "list"), ("list", "get"), ("update", "get"), ("deletecollection", "delete")] {
            assert!(!resource.allows(one) || resource.allows(other), "{of} has {one} without {other}");
        }
        // What can be stored can be changed; the rest is only asked.
        assert_eq!(resource.allows("watch"), resource.allows("update"), "{of}");
    }
}

#[test]
fn a_kind_with_a_status_has_the_subresource() {
    // Asked once, or with a status that only an unserved version writes.
    const WITHOUT: [&str; 7] = [
        "componentstatuses",
        "localsubjectaccessreviews",
        "selfsubjectaccessreviews",
        "selfsubjectreviews",
        "selfsubjectrulesreviews",
        "subjectaccessreviews",
        "tokenreviews",
    ];
    for resource in all() {
        let has = resource.schema.field("status").is_some() && !WITHOUT.contains(&resource.plural);
        assert_eq!(resource.subresource("status").is_some(), has, "{}", resource.plural);
    }
}

/// Kinds whose own pods are scaled.
const TIERS: [&str; 5] = ["cachetiers", "ratelimits", "requestsplits", "scattergathers", "shardedservices"];

#[test]
fn what_is_scaled_has_replicas() {
    let scaled: Vec<&str> = all().iter().filter(|r| r.subresource("scale").is_some()).map(|r| r.plural).collect();
    let (ours, upstreams): (Vec<&str>, Vec<&str>) = scaled.iter().partition(|plural| TIERS.contains(plural));
    assert_eq!(upstreams, ["replicationcontrollers", "deployments", "replicasets", "statefulsets"]);
    assert_eq!(ours, TIERS);
    for resource in all().iter().filter(|r| r.subresource("scale").is_some()) {
        assert!(matches!(resource.shape_at(resource.replicas_at), Some(Shape::Int32)), "{}", resource.plural);
        assert!(matches!(resource.shape_at("/status/replicas"), Some(Shape::Int32)));
    }
}

#[test]
fn every_object_has_type_and_metadata() {
    for resource in all() {
        assert!(matches!(resource.shape_at("/apiVersion"), Some(Shape::String)), "{}", resource.plural);
        assert!(matches!(resource.shape_at("/kind"), Some(Shape::String)), "{}", resource.plural);
        let Some(Shape::Object { of, .. }) = resource.shape_at("/metadata") else { panic!("{}", resource.plural) };
        assert_eq!(of.name, "io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta");
    }
}

#[test]
fn selectable_fields_exist_and_are_scalars() {
    for resource in all() {
        for (label, pointer) in resource.selectable {
            let shape = resource.shape_at(pointer);
            assert!(
                matches!(shape, Some(Shape::String | Shape::Boolean | Shape::Int32)),
                "{} {label}: {shape:?}",
                resource.plural
            );
        }
    }
}

#[test]
fn an_absent_field_is_selected_by_its_zero_value() {
    let of = |plural| by_plural("", "v1", plural).expect("it is in the catalogue");
    let pod = json!({"metadata": {"name": "a", "namespace": "n"}, "spec": {"nodeName": "b", "hostNetwork": true}});
    let selected = |label| of("pods").selected(label, &pod).map(|value| value.into_owned());
    assert_eq!(selected("metadata.name").as_deref(), Some("a"));
    assert_eq!(selected("metadata.namespace").as_deref(), Some("n"));
    assert_eq!(selected("spec.nodeName").as_deref(), Some("b"));
    assert_eq!(selected("spec.hostNetwork").as_deref(), Some("true"));
    assert_eq!(selected("status.phase").as_deref(), Some(""));
    assert_eq!(selected("spec.containers"), None);
    let node = json!({"metadata": {"name": "a"}});
    assert_eq!(of("nodes").selected("spec.unschedulable", &node).as_deref(), Some("false"));
    assert_eq!(of("nodes").selected("metadata.namespace", &node), None);
    assert_eq!(of("replicationcontrollers").selected("status.replicas", &node).as_deref(), Some("0"));
}

#[test]
fn a_kind_is_stored_once_and_others_convert() {
    let mut owners: BTreeMap<&str, &Resource> = BTreeMap::new();
    for resource in all().iter().filter(|r| r.storage.to_stored.is_none()) {
        assert_eq!(resource.storage.version, (resource.group, resource.version));
        assert!(owners.insert(resource.storage.prefix, resource).is_none(), "{}", resource.storage.prefix);
    }
    for resource in all().iter().filter(|r| r.storage.to_stored.is_some()) {
        let owner = owners.get(resource.storage.prefix).expect("another kind owns the prefix");
        assert_eq!(resource.storage.version, (owner.group, owner.version));
        assert_eq!(resource.namespaced, owner.namespaced);
        let (to, from) = (resource.storage.to_stored.expect("just asked"), resource.storage.from_stored);
        let own = json!({"apiVersion": resource.api_version, "kind": resource.kind, "metadata": {"name": "a"}});
        let mut object = own.clone();
        to(&mut object);
        assert_eq!(object["apiVersion"], owner.api_version);
        from.expect("there is a way back")(&mut object);
        assert_eq!(object, own);
    }
    assert!(owners.contains_key("pods") && owners.contains_key("deployments.apps"));
}

#[test]
fn a_strategy_never_stumbles_over_an_empty_object() {
    for resource in all() {
        let mut object = json!({"apiVersion": resource.api_version, "kind": resource.kind, "metadata": {"name": "a"}});
        let strategy = &resource.strategy;
        (strategy.default)(&mut object);
        let once = object.clone();
        (strategy.default)(&mut object);
        assert_eq!(object, once, "defaults of {} are idempotent", resource.plural);
        (strategy.prepare_create)(&mut object);
        let old = object.clone();
        (strategy.prepare_update)(&mut object, &old);
        (strategy.prepare_status_update)(&mut object, &old);
        (strategy.validate)(&object);
        (strategy.validate_update)(&object, &old);
        (strategy.validate_status_update)(&object, &old);
        if let Some(grace) = strategy.grace {
            assert!(grace(&object) >= 0);
        }
    }
    let rule = |group, plural| by_plural(group, "v1", plural).map(|r| r.strategy.name);
    assert_eq!(rule("rbac.authorization.k8s.io", "roles"), Some(NameRule::PathSegment));
}

#[test]
fn tables_begin_with_the_name() {
    let now = jiff::Timestamp::UNIX_EPOCH;
    for resource in all().iter().filter(|r| r.allows("list")) {
        let object = json!({"apiVersion": resource.api_version, "kind": resource.kind, "metadata": {"name": "a"}});
        let columns: Vec<&Column> = resource.columns.iter().collect();
        let is_event = resource.kind == "Event";
        assert!(is_event || columns.first().is_some_and(|c| c.name == "Name"), "{}", resource.plural);
        for column in columns {
            let cell = (column.cell)(&object, now);
            assert!(!cell.is_object(), "{} {}", resource.plural, column.name);
        }
    }
}
