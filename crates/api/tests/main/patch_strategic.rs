//! Strategic merge patch on real types.

use api::{
    patch::strategic::{Error, apply},
    schema::{Type, type_named},
};
use serde_json::{Value, json};

fn named(name: &str) -> &'static Type {
    type_named(name).unwrap_or_else(|| panic!("no type {name}"))
}

fn patched(of: &str, original: Value, patch: Value) -> Value {
    let mut object = original;
    apply(&mut object, patch.clone(), named(of)).unwrap_or_else(|e| panic!("{patch}: {e}"));
    object
}

fn fault(of: &str, original: Value, patch: Value) -> Error {
    let mut object = original;
    apply(&mut object, patch, named(of)).unwrap_err()
}

const SPEC: &str = "io.k8s.api.core.v1.PodSpec";
const META: &str = "io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta";
const DEPLOYMENT: &str = "io.k8s.api.apps.v1.Deployment";
const SERVICE: &str = "io.k8s.api.core.v1.Service";

#[test]
fn keyed_lists_merge_item_by_item() {
    let original = json!({"containers": [{"name": "a", "image": "a:1"}, {"name": "b", "image": "b:1"}]});
    for (patch, wanted) in [
        (
            json!({"containers": [{"name": "b", "image": "b:2"}]}),
            json!([{"name": "a", "image": "a:1"}, {"name": "b", "image": "b:2"}]),
        ),
        (
            json!({"containers": [{"name": "b", "image": null, "command": ["x"]}]}),
            json!([{"name": "a", "image": "a:1"}, {"name": "b", "command": ["x"]}]),
        ),
        (
            json!({"containers": [{"name": "c", "image": "c:1", "tty": null}]}),
            json!([{"name": "c", "image": "c:1"}, {"name": "a", "image": "a:1"}, {"name": "b", "image": "b:1"}]),
        ),
        (json!({"containers": [{"$patch": "delete", "name": "a"}]}), json!([{"name": "b", "image": "b:1"}])),
        (json!({"containers": [{"$patch": "replace"}, {"name": "z"}]}), json!([{"name": "z"}])),
        (json!({"containers": [{"$patch": "replace", "name": "a", "image": "q"}]}), json!([])),
    ] {
        assert_eq!(patched(SPEC, original.clone(), patch.clone())["containers"], wanted, "{patch}");
    }
}

#[test]
fn element_order_says_where_items_stand() {
    let original = json!({"containers": [{"name": "a"}, {"name": "b"}, {"name": "server"}]});
    let patch = json!({
        "$setElementOrder/containers": [{"name": "new"}, {"name": "b"}, {"name": "a"}],
        "containers": [{"name": "new", "image": "n"}],
    });
    assert_eq!(
        patched(SPEC, original.clone(), patch)["containers"],
        json!([{"name": "new", "image": "n"}, {"name": "b"}, {"name": "a"}, {"name": "server"}])
    );
    // Only an order: nothing else changes.
    let patch = json!({"$setElementOrder/containers": [{"name": "server"}, {"name": "a"}]});
    assert_eq!(
        patched(SPEC, original.clone(), patch)["containers"],
        json!([{"name": "b"}, {"name": "server"}, {"name": "a"}])
    );
    // What kubectl sends when it removes one and keeps the rest.
    let patch = json!({
        "$setElementOrder/containers": [{"name": "a"}, {"name": "server"}],
        "containers": [{"$patch": "delete", "name": "b"}],
    });
    assert_eq!(patched(SPEC, original, patch)["containers"], json!([{"name": "a"}, {"name": "server"}]));
}

#[test]
fn an_order_that_the_items_do_not_keep_is_refused() {
    let fault = fault(
        SPEC,
        json!({"containers": [{"name": "a"}]}),
        json!({
            "$setElementOrder/containers": [{"name": "a"}, {"name": "b"}],
            "containers": [{"name": "b"}, {"name": "a"}],
        }),
    );
    assert_eq!(
        fault.to_string(),
        "The order in patch list:\n[map[name:b] map[name:a]]\n doesn't match $setElementOrder list:\n[map[name:a] map[name:b]]\n"
    );
}

#[test]
fn scalar_lists_unite_and_can_be_cut() {
    let original = json!({"finalizers": ["a", "b"]});
    assert_eq!(
        patched(META, original.clone(), json!({"finalizers": ["b", "c"]})),
        json!({"finalizers": ["a", "b", "c"]})
    );
    assert_eq!(
        patched(META, original.clone(), json!({"$deleteFromPrimitiveList/finalizers": ["a"]})),
        json!({"finalizers": ["b"]})
    );
    let both = json!({
        "$deleteFromPrimitiveList/finalizers": ["a"],
        "$setElementOrder/finalizers": ["c", "b"],
        "finalizers": ["c"],
    });
    assert_eq!(patched(META, original.clone(), both), json!({"finalizers": ["c", "b"]}));
    assert_eq!(patched(META, original, json!({"finalizers": null})), json!({}));
}

#[test]
fn lists_without_strategy_are_replaced() {
    let original = json!({"containers": [{"name": "a", "command": ["x", "y"]}]});
    let patch = json!({"containers": [{"name": "a", "command": ["z"]}]});
    assert_eq!(patched(SPEC, original, patch)["containers"][0]["command"], json!(["z"]));
}

#[test]
fn maps_and_nulls_merge_as_in_a_merge_patch() {
    let original = json!({"labels": {"a": "1", "b": "2"}, "annotations": {"x": "y"}});
    let patch = json!({"labels": {"a": null, "c": "3"}, "annotations": null, "uid": null});
    assert_eq!(patched(META, original, patch), json!({"labels": {"b": "2", "c": "3"}}));
}

#[test]
fn map_directives_replace_and_delete() {
    let original = json!({"labels": {"a": "1", "b": "2"}});
    let replaced = patched(META, original.clone(), json!({"labels": {"$patch": "replace", "c": "3"}}));
    assert_eq!(replaced, json!({"labels": {"c": "3"}}));
    let deleted = patched(META, original.clone(), json!({"labels": {"$patch": "delete"}}));
    assert_eq!(deleted, json!({"labels": {}}));
    let fault = fault(META, original, json!({"labels": {"$patch": "spin"}}));
    assert_eq!(fault.to_string(), "unknown patch type: spin in map: map[$patch:spin]");
}

#[test]
fn retain_keys_drops_all_others() {
    let original = json!({"spec": {"strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1}}}});
    let patch = json!({"spec": {"strategy": {"$retainKeys": ["type"], "type": "Recreate"}}});
    assert_eq!(patched(DEPLOYMENT, original.clone(), patch), json!({"spec": {"strategy": {"type": "Recreate"}}}));
    let stray = json!({"spec": {"strategy": {"$retainKeys": ["type"], "type": "x", "rollingUpdate": {}}}});
    assert_eq!(fault(DEPLOYMENT, original, stray), Error::RetainKeys);

    let volumes = json!({"volumes": [{"name": "v", "emptyDir": {}}]});
    let patch = json!({"volumes": [{"$retainKeys": ["name", "configMap"], "name": "v", "configMap": {"name": "c"}}]});
    assert_eq!(patched(SPEC, volumes, patch), json!({"volumes": [{"name": "v", "configMap": {"name": "c"}}]}));
}

#[test]
fn service_ports_merge_by_port() {
    let original = json!({"spec": {"ports": [{"port": 80, "nodePort": 30080}, {"port": 443}]}});
    let patch = json!({"spec": {"ports": [{"port": 443, "targetPort": "tls"}]}});
    assert_eq!(
        patched(SERVICE, original, patch)["spec"]["ports"],
        json!([{"port": 80, "nodePort": 30080}, {"port": 443, "targetPort": "tls"}])
    );
}

#[test]
fn faults_bear_upstreams_words() {
    let original = json!({"containers": [{"name": "a"}]});
    for (patch, message, code) in [
        (
            json!({"containers": [{"image": "nginx"}]}),
            "map: map[image:nginx] does not contain declared merge key: name",
            500,
        ),
        (
            json!({"containers": [{"$patch": "delete"}]}),
            "map: map[$patch:delete] does not contain declared merge key: name",
            500,
        ),
        (
            json!({"containers": [{"$patch": "merge", "name": "a"}]}),
            "merging lists cannot yet be specified in the patch",
            500,
        ),
        (json!({"containers": ["a"]}), "list element types are not identical: [[map[name:a]] [a]]", 500),
        (json!({"$setElementOrder/containers": "a"}), "expected a []interface {}, but received a string", 500),
        (json!({"$retainKeys": "a"}), "invalid patch format of retainKeys", 400),
        (json!({"$deleteFromPrimitiveList": ["a"]}), "invalid patch format of primitive list", 400),
        (json!({"$setElementOrder": ["a"]}), "invalid patch format of setElementOrder list", 400),
        (json!(["a"]), "invalid JSON document", 400),
    ] {
        let fault = fault(SPEC, original.clone(), patch.clone());
        assert_eq!(fault.to_string(), message, "{patch}");
        assert_eq!(fault.code(), code, "{patch}");
    }
}
