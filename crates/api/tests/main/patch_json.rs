//! JSON patch, with the errors of upstream's library.

use api::patch::json::{Error, MAX_OPERATIONS, apply};
use serde_json::{Value, json};

#[test]
fn operations_change_the_object() {
    let cases = [
        (json!({"a": 1}), json!([{"op": "add", "path": "/b", "value": 2}]), json!({"a": 1, "b": 2})),
        (json!({"a": 1}), json!([{"op": "replace", "path": "/a", "value": 2}]), json!({"a": 2})),
        (json!({"a": 1, "b": 2}), json!([{"op": "remove", "path": "/a"}]), json!({"b": 2})),
        (json!({"a": [1, 3]}), json!([{"op": "add", "path": "/a/1", "value": 2}]), json!({"a": [1, 2, 3]})),
        (json!({"a": [1]}), json!([{"op": "add", "path": "/a/-", "value": 2}]), json!({"a": [1, 2]})),
        (json!({"a": [1, 2]}), json!([{"op": "remove", "path": "/a/-1"}]), json!({"a": [1]})),
        (json!({"a": [1, 2]}), json!([{"op": "add", "path": "/a/-1", "value": 3}]), json!({"a": [1, 2, 3]})),
        (json!({"a": {"x/y~z": 1}}), json!([{"op": "remove", "path": "/a/x~1y~0z"}]), json!({"a": {}})),
        (json!({"a": 1}), json!([{"op": "move", "from": "/a", "path": "/b"}]), json!({"b": 1})),
        (
            json!({"a": {"c": 1}}),
            json!([{"op": "copy", "from": "/a", "path": "/b"}]),
            json!({"a": {"c": 1}, "b": {"c": 1}}),
        ),
        (json!({"a": 1}), json!([{"op": "test", "path": "/a", "value": 1.0}]), json!({"a": 1})),
        (json!({"a": null}), json!([{"op": "test", "path": "/a", "value": null}]), json!({"a": null})),
        (json!({"a": 1}), json!([]), json!({"a": 1})),
    ];
    for (mut object, patch, wanted) in cases {
        apply(&mut object, &patch).unwrap_or_else(|e| panic!("{patch}: {e}"));
        assert_eq!(object, wanted, "{patch}");
    }
}

#[test]
fn failures_bear_upstreams_words_and_change_nothing() {
    let original = json!({"spec": {"replicas": 1, "list": [1, 2]}});
    for (patch, message) in [
        (
            json!([{"op": "test", "path": "/spec/replicas", "value": 2}]),
            "testing value /spec/replicas failed: test failed",
        ),
        (
            json!([{"op": "remove", "path": "/spec/nothing"}]),
            "error in remove for path: '/spec/nothing': Unable to remove nonexistent key: nothing: missing value",
        ),
        (
            json!([{"op": "remove", "path": "/status/nothing"}]),
            "remove operation does not apply: doc is missing path: \"/status/nothing\": missing value",
        ),
        (
            json!([{"op": "replace", "path": "/spec/nothing", "value": 1}]),
            "replace operation does not apply: doc is missing key: /spec/nothing: missing value",
        ),
        (
            json!([{"op": "replace", "path": "/status/x", "value": 1}]),
            "replace operation does not apply: doc is missing path: /status/x: missing value",
        ),
        (
            json!([{"op": "add", "path": "/a/b/c", "value": 1}]),
            "add operation does not apply: doc is missing path: \"/a/b/c\": missing value",
        ),
        (
            json!([{"op": "add", "path": "/spec/list/9", "value": 1}]),
            "error in add for path: '/spec/list/9': Unable to access invalid index: 9: invalid index referenced",
        ),
        (
            json!([{"op": "remove", "path": "/spec/list/2"}]),
            "error in remove for path: '/spec/list/2': Unable to access invalid index: 2: invalid index referenced",
        ),
        (
            json!([{"op": "test", "path": "/spec/nothing", "value": 1}]),
            "error in test for path: '/spec/nothing': unable to get nonexistent key: nothing: missing value",
        ),
        (
            json!([{"op": "move", "from": "/status/x", "path": "/spec/x"}]),
            "move operation does not apply: doc is missing from path: /status/x: missing value",
        ),
        (json!([{"op": "spin", "path": "/spec"}]), "Unexpected kind: spin"),
        (json!([{"op": "add", "value": 1}]), "add operation failed to decode path: missing value"),
    ] {
        let mut object = original.clone();
        let fault = apply(&mut object, &patch).unwrap_err();
        assert_eq!(fault, Error::Apply(message.to_owned()), "{patch}");
        assert_eq!(object, original);
    }
}

#[test]
fn an_earlier_operation_is_undone_when_a_later_one_fails() {
    let mut object = json!({"a": 1});
    let patch = json!([{"op": "replace", "path": "/a", "value": 2}, {"op": "remove", "path": "/b"}]);
    assert!(apply(&mut object, &patch).is_err());
    assert_eq!(object, json!({"a": 1}));
}

#[test]
fn what_is_no_patch_is_refused() {
    let mut object = json!({});
    assert_eq!(
        apply(&mut object, &json!({})).unwrap_err().to_string(),
        "json: cannot unmarshal object into Go value of type jsonpatch.Patch"
    );
    assert_eq!(
        apply(&mut object, &json!([1])).unwrap_err().to_string(),
        "json: cannot unmarshal number into Go value of type jsonpatch.Operation"
    );
}

#[test]
fn a_patch_has_at_most_ten_thousand_operations() {
    let mut object = json!({"a": 1});
    let one = json!({"op": "test", "path": "/a", "value": 1});
    let patch = Value::Array(vec![one; MAX_OPERATIONS + 1]);
    assert_eq!(
        apply(&mut object, &patch).unwrap_err().to_string(),
        "The allowed maximum operations in a JSON patch is 10000, got 10001"
    );
}
