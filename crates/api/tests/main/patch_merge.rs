//! JSON merge patch.

use api::patch::merge::apply;
use serde_json::json;

/// The examples of RFC 7396, appendix A, whose patch is an object.
#[test]
fn the_rfcs_examples_hold() {
    for (original, patch, wanted) in [
        (json!({"a": "b"}), json!({"a": "c"}), json!({"a": "c"})),
        (json!({"a": "b"}), json!({"b": "c"}), json!({"a": "b", "b": "c"})),
        (json!({"a": "b"}), json!({"a": null}), json!({})),
        (json!({"a": "b", "b": "c"}), json!({"a": null}), json!({"b": "c"})),
        (json!({"a": ["b"]}), json!({"a": "c"}), json!({"a": "c"})),
        (json!({"a": "c"}), json!({"a": ["b"]}), json!({"a": ["b"]})),
        (json!({"a": {"b": "c"}}), json!({"a": {"b": "d", "c": null}}), json!({"a": {"b": "d"}})),
        (json!({"a": [{"b": "c"}]}), json!({"a": [1]}), json!({"a": [1]})),
        (json!({"e": null}), json!({"a": 1}), json!({"e": null, "a": 1})),
        (json!([1, 2]), json!({"a": "b", "c": null}), json!({"a": "b"})),
        (json!({}), json!({"a": {"bb": {"ccc": null}}}), json!({"a": {"bb": {}}})),
        (json!({"a": {"b": 1}}), json!({"a": [1]}), json!({"a": [1]})),
    ] {
        let mut object = original.clone();
        apply(&mut object, patch.clone()).unwrap();
        assert_eq!(object, wanted, "{original} {patch}");
    }
}

#[test]
fn a_patch_must_be_an_object() {
    let mut object = json!({"a": 1});
    assert_eq!(apply(&mut object, json!([1])).unwrap_err().to_string(), "Invalid JSON Patch");
    assert_eq!(object, json!({"a": 1}));
}

#[test]
fn fields_keep_their_order() {
    let mut object = json!({"z": 1, "a": {"y": 1, "b": 2}, "m": 3});
    apply(&mut object, json!({"a": {"y": null, "c": 3}, "m": 4})).unwrap();
    assert_eq!(object.to_string(), r#"{"z":1,"a":{"b":2,"c":3},"m":4}"#);
}
