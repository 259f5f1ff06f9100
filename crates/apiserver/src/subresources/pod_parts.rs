//! `pods/ephemeralcontainers` and `pods/resize`: the two parts of a running pod's spec that may change, each
//! through its own door.

use api::{
    status::{Cause, Status},
    strategy::pod::part,
};
use serde_json::Value;

use crate::{
    call::{Call, Reply},
    decode,
    failure::Outcome,
    managed,
    query::{WriteOptions, options_kind},
    verbs::{
        modify::{Modify, Part, modify},
        patch,
    },
};

pub(super) async fn change(call: &Call<'_>, verb: &str) -> Outcome<Reply> {
    let options = WriteOptions::parse(&call.query, call.user_agent(), options_kind(verb))?;
    let given = if verb == "update" { Some(decode::object(call, &options)?) } else { None };
    let pinned =
        given.as_ref().is_some_and(|pod| pod["metadata"]["resourceVersion"].as_str().is_some_and(|v| !v.is_empty()));
    let how = Modify {
        part: Part::Exact,
        options: &options,
        author: managed::Author::Update,
        retries: !pinned,
        unconditional: true,
    };
    modify(call, &how, |old| {
        let mut asked = old.clone();
        match &given {
            Some(given) => asked = given.clone(),
            None => {
                patch::patch_tree(call, &mut asked)?;
                asked = decode::patched(call, &options, asked, None)?;
            }
        }
        let mut new = old.clone();
        for field in ["resourceVersion", "uid"] {
            if let Some(text) = asked["metadata"][field].as_str() {
                new["metadata"][field] = text.into();
            }
        }
        let faults = match call.path.subresource.as_str() {
            "ephemeralcontainers" => take_ephemeral(&mut new, &asked),
            _ => take_resources(&mut new, &asked),
        };
        if !faults.is_empty() {
            return Err(Status::invalid("", "Pod", &call.path.name, faults));
        }
        if new["spec"] != old["spec"] {
            let generation = old["metadata"]["generation"].as_i64().unwrap_or(0);
            new["metadata"]["generation"] = (generation + 1).into();
        }
        Ok(new)
    })
    .await
}

/// Containers may be added; those that are there stay as they are.
fn take_ephemeral(new: &mut Value, asked: &Value) -> Vec<Cause> {
    let list = |pod: &Value| pod["spec"]["ephemeralContainers"].as_array().cloned().unwrap_or_default();
    let (before, after) = (list(new), list(asked));
    let taken: Vec<&str> = ["containers", "initContainers"]
        .iter()
        .flat_map(|field| new["spec"][*field].as_array().into_iter().flatten())
        .filter_map(|container| container["name"].as_str())
        .collect();
    let mut faults = Vec::new();
    for old in &before {
        let name = old["name"].as_str().unwrap_or("");
        match after.iter().find(|c| c["name"] == old["name"]) {
            None => faults.push(Cause::forbidden(
                "spec.ephemeralContainers",
                &format!("existing ephemeral containers {name:?} may not be removed\n"),
            )),
            Some(same) if same["image"] != old["image"] || same["command"] != old["command"] => {
                faults.push(Cause::forbidden(
                    "spec.ephemeralContainers",
                    &format!("existing ephemeral containers {name:?} may not be changed\n"),
                ));
            }
            Some(_) => {}
        }
    }
    let mut completed = Vec::new();
    for (index, container) in after.iter().enumerate() {
        let name = container["name"].as_str().unwrap_or("");
        let at = |field: &str| format!("spec.ephemeralContainers[{index}].{field}");
        if name.is_empty() {
            faults.push(Cause::required(at("name"), ""));
        }
        if taken.contains(&name) || after[..index].iter().any(|c| c["name"] == container["name"]) {
            faults.push(Cause::duplicate(at("name"), name));
        }
        if container["image"].as_str().unwrap_or("").is_empty() {
            faults.push(Cause::required(at("image"), ""));
        }
        let mut container = container.clone();
        for (field, value) in [
            ("terminationMessagePath", "/dev/termination-log"),
            ("terminationMessagePolicy", "File"),
            ("imagePullPolicy", "IfNotPresent"),
        ] {
            if container[field].is_null() {
                container[field] = value.into();
            }
        }
        completed.push(container);
    }
    if faults.is_empty() && !completed.is_empty() {
        new["spec"]["ephemeralContainers"] = Value::Array(completed);
    }
    faults
}

/// Only the resources of containers may differ.
fn take_resources(new: &mut Value, asked: &Value) -> Vec<Cause> {
    let old = new.clone();
    new["spec"] = asked["spec"].clone();
    part::prepare_resize(new, &old);
    part::validate_resize(new, &old)
}
