//! `tests/invalid.yaml`: one row a manifest that is wrong in one way, and all that the server says of it.
//!
//! A row names a sound manifest of [`manifest`]. `set` changes it before a create; `update` changes what was created
//! (after the changes of `given`); `unset` removes fields last; `status` is written where `was` stood (after `given`).
//! `faults` reads `field: reason: message`.

use std::{fmt::Write, fs, path::Path};

use serde_json::Value;

use super::{change, create, manifest, strategy_of, update};

fn rows() -> Vec<Value> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/invalid.yaml");
    let text = fs::read_to_string(path).expect("the table is beside the tests");
    serde_yaml_ng::from_str(&text).expect("the table is YAML")
}

fn apply(object: &mut Value, changes: &Value) {
    for (pointer, value) in changes.as_object().into_iter().flatten() {
        change(object, &[(pointer, &value.to_string())]);
    }
}

fn remove(object: &mut Value, pointers: &Value) {
    for pointer in pointers.as_array().into_iter().flatten().filter_map(Value::as_str) {
        change(object, &[(pointer, "-")]);
    }
}

/// What the server says of a row's manifest.
fn faults(row: &Value) -> Vec<String> {
    let mut object = manifest(row["of"].as_str().expect("a row names a manifest"));
    let faults = if let Some(status) = row.get("status") {
        apply(&mut object, &row["given"]);
        let (mut old, faults) = create(object);
        assert!(faults.is_empty(), "what is updated is sound: {row}: {faults:?}");
        old["status"] = row["was"].clone();
        let mut new = old.clone();
        new["status"] = status.clone();
        (strategy_of(&old).2.validate_status_update)(&new, &old)
    } else if row.get("update").is_some() {
        apply(&mut object, &row["given"]);
        let (old, faults) = create(object);
        assert!(faults.is_empty(), "what is updated is sound: {row}: {faults:?}");
        let mut new = old.clone();
        apply(&mut new, &row["update"]);
        remove(&mut new, &row["unset"]);
        update(new, &old).1
    } else {
        apply(&mut object, &row["set"]);
        remove(&mut object, &row["unset"]);
        create(object).1
    };
    faults.into_iter().map(|cause| format!("{}: {}: {}", cause.field, cause.reason, cause.message)).collect()
}

#[test]
fn every_wrong_manifest_is_refused_in_upstreams_words() {
    let rows = rows();
    assert!(rows.len() >= 400, "the table has {} rows", rows.len());
    let mut wrong = String::new();
    let mut dump = Vec::new();
    for row in &rows {
        let wanted: Vec<&str> = row["faults"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
        let found = faults(row);
        dump.push(found.clone());
        if found.is_empty() || found != wanted {
            writeln!(wrong, "{row}\n  found {found:#?}").expect("writing to a string can't fail");
        }
    }
    if let Ok(path) = std::env::var("DUMP") {
        fs::write(path, serde_json::to_string(&dump).unwrap()).unwrap();
    }
    assert!(wrong.is_empty(), "{wrong}");
}
