//! Field sets and what objects own.

use api::{
    apply::{FieldSet, PathElement, compare, field_set, fields_of_new, validate},
    schema::{Type, type_named},
};
use serde_json::{Value, json};

pub(crate) fn named(name: &str) -> &'static Type {
    type_named(name).unwrap_or_else(|| panic!("no type {name}"))
}

pub(crate) fn deployment_type() -> &'static Type {
    named("io.k8s.api.apps.v1.Deployment")
}

fn set(fields: Value) -> FieldSet {
    FieldSet::from_fields(&fields).unwrap()
}

pub(crate) fn deployment() -> Value {
    json!({
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": "web", "namespace": "default", "labels": {"app": "web"}},
        "spec": {
            "replicas": 3,
            "selector": {"matchLabels": {"app": "web"}},
            "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": "25%"}},
            "template": {
                "metadata": {"labels": {"app": "web"}},
                "spec": {
                    "containers": [{
                        "name": "web",
                        "image": "nginx",
                        "resources": {},
                        "ports": [{"containerPort": 80, "protocol": "TCP"}],
                        "args": ["-v"],
                    }],
                    "nodeSelector": {"disk": "ssd"},
                },
            },
        },
    })
}

#[test]
fn fields_are_read_and_written_in_canonical_order() {
    let fields = json!({
        "f:metadata": {"f:labels": {".": {}, "f:app": {}}},
        "f:spec": {
            "f:list": {
                "k:{\"name\":\"a\"}": {".": {}, "f:name": {}},
                "k:{\"containerPort\":80,\"protocol\":\"TCP\"}": {".": {}},
                "v:\"x\"": {},
                "v:3": {},
                "i:1": {},
            },
        },
    });
    let read = set(fields);
    assert_eq!(
        read.to_fields().to_string(),
        concat!(
            r#"{"f:metadata":{"f:labels":{".":{},"f:app":{}}},"f:spec":{"f:list":{"#,
            r#""k:{\"containerPort\":80,\"protocol\":\"TCP\"}":{},"k:{\"name\":\"a\"}":{".":{},"f:name":{}},"#,
            r#""v:3":{},"v:\"x\"":{},"i:1":{}}}}"#
        )
    );
    assert_eq!(read.len(), 8);
    assert_eq!(set(read.to_fields()), read);
}

#[test]
fn numbers_in_keys_are_ordered_as_numbers() {
    let read = set(json!({"k:{\"port\":80}": {}, "k:{\"port\":443}": {}, "k:{\"port\":9}": {}}));
    let keys: Vec<String> = read.to_fields().as_object().unwrap().keys().cloned().collect();
    assert_eq!(keys, [r#"k:{"port":9}"#, r#"k:{"port":80}"#, r#"k:{"port":443}"#]);
}

#[test]
fn unknown_steps_are_dropped_and_broken_ones_refused() {
    assert_eq!(set(json!({"x:later": {}, "f:a": {}})), set(json!({"f:a": {}})));
    for broken in [json!({"f": {}}), json!({"fa": {}}), json!({"k:x": {}}), json!({"v:x": {}}), json!([])] {
        assert!(FieldSet::from_fields(&broken).is_err(), "{broken}");
    }
}

#[test]
fn sets_unite_intersect_and_differ_by_path() {
    let left = set(json!({"f:a": {".": {}, "f:x": {}, "f:y": {}}, "f:b": {}}));
    let right = set(json!({"f:a": {"f:x": {}, "f:z": {}}, "f:c": {}}));
    assert_eq!(
        left.union(&right),
        set(json!({"f:a": {".": {}, "f:x": {}, "f:y": {}, "f:z": {}}, "f:b": {}, "f:c": {}}))
    );
    assert_eq!(left.intersection(&right), set(json!({"f:a": {"f:x": {}}})));
    assert_eq!(left.difference(&right), set(json!({"f:a": {".": {}, "f:y": {}}, "f:b": {}})));
    assert!(left.difference(&left).is_empty());
    assert_eq!(left.len(), 4);
    let x = [PathElement::field("a"), PathElement::field("x")];
    assert!(left.contains(&x) && left.contains(&x[..1]) && !right.contains(&x[..1]));
    let mut built = FieldSet::default();
    built.insert(&x);
    assert_eq!(built, set(json!({"f:a": {"f:x": {}}})));
}

#[test]
fn the_creator_owns_what_upstreams_creator_owns() {
    let fields = fields_of_new(deployment_type(), &deployment(), "");
    assert_eq!(
        Value::Object(fields),
        json!({
            "f:metadata": {"f:labels": {".": {}, "f:app": {}}},
            "f:spec": {
                "f:replicas": {},
                "f:selector": {},
                "f:strategy": {"f:rollingUpdate": {".": {}, "f:maxSurge": {}}, "f:type": {}},
                "f:template": {
                    "f:metadata": {"f:labels": {".": {}, "f:app": {}}},
                    "f:spec": {
                        "f:containers": {
                            "k:{\"name\":\"web\"}": {
                                ".": {},
                                "f:args": {},
                                "f:image": {},
                                "f:name": {},
                                "f:ports": {
                                    ".": {},
                                    "k:{\"containerPort\":80,\"protocol\":\"TCP\"}": {
                                        ".": {},
                                        "f:containerPort": {},
                                        "f:protocol": {},
                                    },
                                },
                                "f:resources": {},
                            },
                        },
                        "f:nodeSelector": {},
                    },
                },
            },
        })
    );
}

#[test]
fn a_config_maps_creator_owns_each_key() {
    let object = json!({
        "apiVersion": "v1", "kind": "ConfigMap",
        "metadata": {"name": "c", "namespace": "default", "uid": "u", "resourceVersion": "1"},
        "data": {"b": "2", "a": "1"},
    });
    let fields = fields_of_new(named("io.k8s.api.core.v1.ConfigMap"), &object, "");
    assert_eq!(Value::Object(fields).to_string(), r#"{"f:data":{".":{},"f:a":{},"f:b":{}}}"#);
}

#[test]
fn the_quick_walk_and_the_comparison_agree() {
    let samples = [
        ("io.k8s.api.apps.v1.Deployment", deployment()),
        (
            "io.k8s.api.core.v1.Service",
            json!({
                "metadata": {"name": "s", "annotations": {"b": "", "a": "x"}, "finalizers": ["y", "x"],
                    "ownerReferences": [{"uid": "2", "name": "o", "kind": "K", "apiVersion": "v1"}]},
                "spec": {"ports": [{"port": 80}, {"port": 53, "protocol": "UDP"}], "selector": {"a": "b"}, "clusterIPs": []},
                "status": {"loadBalancer": {}},
            }),
        ),
        (
            "io.k8s.api.core.v1.Pod",
            json!({
                "metadata": {"generateName": "p-", "labels": {}},
                "spec": {"containers": [
                    {"name": "a", "env": [{"name": "X", "value": ""}, {"name": "X", "value": "1"}], "securityContext": {}},
                    {"name": "b", "volumeMounts": [{"mountPath": "/x", "name": "v"}], "tty": false},
                ], "volumes": [{"name": "v", "emptyDir": {}}], "hostNetwork": false, "nodeName": null},
            }),
        ),
        (
            "io.k8s.api.rbac.v1.ClusterRole",
            json!({"metadata": {"name": "r"}, "rules": [{"verbs": ["get"], "resources": ["pods"], "apiGroups": [""]}]}),
        ),
    ];
    for (name, object) in samples {
        let of = named(name);
        let quick = Value::Object(fields_of_new(of, &object, ""));
        let change = compare(of, None, &object, "");
        assert!(change.removed.is_empty() && change.modified.is_empty(), "{name}");
        assert_eq!(quick.to_string(), change.added.to_fields().to_string(), "{name}");
    }
}

#[test]
fn repeated_items_are_owned_as_one() {
    let of = named("io.k8s.api.core.v1.Container");
    let object = json!({"name": "a", "env": [{"name": "X", "value": "0"}, {"name": "X", "value": "1"}]});
    let fields = Value::Object(fields_of_new(of, &object, ""));
    assert_eq!(fields["f:env"], json!({".": {}, "k:{\"name\":\"X\"}": {}}));
}

#[test]
fn comparisons_tell_added_modified_and_removed() {
    let of = deployment_type();
    let old = deployment();
    let mut new = deployment();
    new["spec"]["replicas"] = json!(5);
    new["metadata"]["labels"] = json!({"tier": "front"});
    new["metadata"]["resourceVersion"] = json!("7");
    new["spec"]["template"]["spec"]["containers"][0]["image"] = json!("nginx:2");
    new["spec"]["template"]["spec"]["containers"][0].as_object_mut().unwrap().remove("args");
    new["spec"]["template"]["spec"]["nodeSelector"] = json!({"disk": "hdd"});
    let change = compare(of, Some(&old), &new, "");
    assert_eq!(change.added, set(json!({"f:metadata": {"f:labels": {"f:tier": {}}}})));
    let container = |field: &str| json!({"k:{\"name\":\"web\"}": {field: {}}});
    assert_eq!(
        change.modified,
        set(json!({"f:spec": {
            "f:replicas": {},
            "f:template": {"f:spec": {"f:containers": container("f:image"), "f:nodeSelector": {}}},
        }}))
    );
    assert_eq!(
        change.removed,
        set(json!({
            "f:metadata": {"f:labels": {"f:app": {}}},
            "f:spec": {"f:template": {"f:spec": {"f:containers": container("f:args")}}},
        }))
    );
}

#[test]
fn a_status_write_owns_status_and_a_spec_write_does_not() {
    let of = deployment_type();
    let mut new = deployment();
    new["status"] = json!({"replicas": 3, "conditions": [{"type": "Available", "status": "True"}]});
    new["spec"]["replicas"] = json!(9);
    let through_status = compare(of, Some(&deployment()), &new, "status");
    assert_eq!(
        through_status.added,
        set(json!({"f:status": {
            "f:replicas": {},
            "f:conditions": {".": {}, "k:{\"type\":\"Available\"}": {".": {}, "f:type": {}, "f:status": {}}},
        }}))
    );
    assert!(through_status.modified.is_empty());
    let through_spec = compare(of, Some(&deployment()), &new, "");
    assert_eq!(through_spec.modified, set(json!({"f:spec": {"f:replicas": {}}})));
    assert!(through_spec.added.is_empty());
}

#[test]
fn an_applied_configuration_claims_what_it_says() {
    let mut object = deployment();
    object["spec"]["template"]["spec"]["containers"][0]["ports"] = json!([{"containerPort": 80}]);
    object["metadata"]["annotations"] = json!({});
    object["metadata"]["finalizers"] = json!(["x"]);
    let claimed = field_set(deployment_type(), &object).to_fields();
    assert_eq!(claimed["f:metadata"]["f:labels"], json!({"f:app": {}}));
    assert_eq!(claimed["f:metadata"]["f:annotations"], json!({}));
    assert_eq!(claimed["f:metadata"]["f:finalizers"], json!({"v:\"x\"": {}}));
    assert_eq!(claimed["f:spec"]["f:strategy"]["f:rollingUpdate"], json!({"f:maxSurge": {}}));
    // A port's protocol is TCP by default, and part of its key.
    assert_eq!(
        claimed["f:spec"]["f:template"]["f:spec"]["f:containers"]["k:{\"name\":\"web\"}"]["f:ports"],
        json!({"k:{\"containerPort\":80,\"protocol\":\"TCP\"}": {".": {}, "f:containerPort": {}}})
    );
}

#[test]
fn configurations_that_do_not_fit_are_described_as_upstream_does() {
    let of = deployment_type();
    for (object, faults) in [
        (json!({"spec": {"replica": 1}}), vec![".spec.replica: field not declared in schema"]),
        (
            json!({"spec": {"replicas": "1"}}),
            vec![".spec.replicas: expected numeric (int or float), got string: \"1\""],
        ),
        (json!({"metadata": {"labels": ["a"]}}), vec![".metadata.labels: expected map, got [a]"]),
        (
            json!({"spec": {"template": {"spec": {"containers": [{"name": "a"}, {"name": "a"}]}}}}),
            vec![".spec.template.spec.containers: duplicate entries for key [name=\"a\"]"],
        ),
        (
            json!({"spec": {"template": {"spec": {"containers": [{"name": "a", "imagee": "b"}]}}}}),
            vec![".spec.template.spec.containers[name=\"a\"].imagee: field not declared in schema"],
        ),
        (
            json!({"spec": {"template": {"spec": {"containers": [{"image": "b"}]}}}}),
            vec![
                ".spec.template.spec.containers: element 0: associative list with keys has an element that omits all key fields [\"name\"] (and doesn't have default values for any key fields)",
            ],
        ),
        (deployment(), vec![]),
    ] {
        assert_eq!(validate(of, &object), faults, "{object}");
    }
}
