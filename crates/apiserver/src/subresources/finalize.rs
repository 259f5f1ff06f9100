//! `namespaces/finalize`: the namespace controller's word that a namespace is empty.

use serde_json::{Value, json};

use crate::{
    call::{Call, Reply},
    decode,
    failure::Outcome,
    managed,
    query::WriteOptions,
    verbs::modify::{Modify, Part, modify},
};

/// Only the finalizers of the spec are taken over.
pub(super) async fn finalize(call: &Call<'_>) -> Outcome<Reply> {
    let options = WriteOptions::parse(&call.query, call.user_agent(), "UpdateOptions")?;
    let given = decode::object(call, &options)?;
    call.check_name(&given)?;
    let pinned = given["metadata"]["resourceVersion"].as_str().is_some_and(|v| !v.is_empty());
    let how = Modify {
        part: Part::Exact,
        options: &options,
        author: managed::Author::Update,
        retries: !pinned,
        unconditional: true,
    };
    modify(call, &how, |old| {
        let mut new = old.clone();
        match given["spec"]["finalizers"].as_array().filter(|f| !f.is_empty()) {
            Some(finalizers) => new["spec"]["finalizers"] = json!(finalizers),
            None => {
                if let Some(spec) = new["spec"].as_object_mut() {
                    spec.shift_remove("finalizers");
                }
            }
        }
        for field in ["resourceVersion", "uid"] {
            if let Some(text) = given["metadata"][field].as_str() {
                new["metadata"][field] = Value::from(text);
            }
        }
        Ok(new)
    })
    .await
}
