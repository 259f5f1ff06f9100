//! `pods/binding`: the scheduler's word. It sets the node once, and says so in the conditions.

use api::status::Status;
use jiff::Timestamp;
use serde_json::{Value, json};

use crate::{
    call::{Call, Reply},
    decode,
    failure::Outcome,
    managed,
    query::WriteOptions,
    verbs::{
        create::rfc3339,
        modify::{Modify, Part, modify},
    },
};

/// POST to the pod.
pub(super) async fn of_path(call: &Call<'_>) -> Outcome<Reply> {
    let binding = decode::document(call, "io.k8s.api.core.v1.Binding")?;
    let name = binding["metadata"]["name"].as_str().unwrap_or("");
    if !name.is_empty() && name != call.path.name {
        return Err(Status::bad_request("name in URL does not match name in Binding object"));
    }
    bind(call, &binding).await
}

/// POST to the collection of bindings: the pod is named in the body.
pub(super) async fn of_body(call: &Call<'_>) -> Outcome<Reply> {
    let binding = decode::document(call, "io.k8s.api.core.v1.Binding")?;
    let pods = api::catalogue::by_plural("", "v1", "pods").ok_or_else(Status::no_such_resource)?;
    let mut path = call.path.clone();
    path.resource = "pods".into();
    path.name = binding["metadata"]["name"].as_str().unwrap_or("").to_owned();
    path.subresource = "binding".into();
    let call = Call {
        server: call.server,
        resource: pods,
        kind: call.server.cache.kind("pods").clone(),
        path,
        user: call.user.clone(),
        query: crate::query::Query::default(),
        headers: call.headers,
        accept: call.accept,
        body: call.body.clone(),
        warnings: parking_lot::Mutex::default(),
    };
    bind(&call, &binding).await
}

async fn bind(call: &Call<'_>, binding: &Value) -> Outcome<Reply> {
    let options = WriteOptions::parse(&call.query, call.user_agent(), "CreateOptions")?;
    let target = &binding["target"];
    let node = target["name"].as_str().unwrap_or("");
    let kind = target["kind"].as_str().unwrap_or("");
    let mut faults = Vec::new();
    if !matches!(kind, "" | "Node") {
        faults.push(api::status::Cause::not_supported("target.kind", kind, &["Node", "<empty>"]));
    }
    if node.is_empty() {
        faults.push(api::status::Cause::required("target.name", ""));
    }
    if !faults.is_empty() {
        return Err(Status::invalid("", "Binding", &call.path.name, faults));
    }
    let conflict = |why: String| Status::conflict_because("", "pods/binding", &call.path.name, &why);
    let how = Modify {
        part: Part::Exact,
        options: &options,
        author: managed::Author::Update,
        retries: true,
        unconditional: true,
    };
    modify(call, &how, |old| {
        let name = &call.path.name;
        if let Some(uid) =
            binding["metadata"]["uid"].as_str().filter(|uid| !uid.is_empty() && old["metadata"]["uid"] != **uid)
        {
            let present = old["metadata"]["uid"].as_str().unwrap_or("");
            return Err(conflict(format!(
                "Precondition failed: UID in precondition: {uid}, UID in object meta: {present}"
            )));
        }
        if old["metadata"]["deletionTimestamp"].is_string() {
            return Err(conflict(format!("pod {name} is being deleted, cannot be assigned to a host")));
        }
        if let Some(present) = old["spec"]["nodeName"].as_str().filter(|n| !n.is_empty()) {
            return Err(conflict(format!("pod {name} is already assigned to node {present:?}")));
        }
        if old["spec"]["schedulingGates"].as_array().is_some_and(|gates| !gates.is_empty()) {
            return Err(conflict(format!("pod {name} has non-empty .spec.schedulingGates")));
        }
        let mut new = managed::without(old);
        new["spec"]["nodeName"] = node.into();
        // It has its node: the room that was held for it is needed no longer (`ClearingNominatedNodeNameAfterBinding`).
        if let Some(status) = new["status"].as_object_mut() {
            status.remove("nominatedNodeName");
        }
        for (key, value) in binding["metadata"]["annotations"].as_object().into_iter().flatten() {
            new["metadata"]["annotations"][key] = value.clone();
        }
        for (key, value) in binding["metadata"]["labels"].as_object().into_iter().flatten() {
            if new["metadata"]["labels"][key].is_null() {
                new["metadata"]["labels"][key] = value.clone();
            }
        }
        set_scheduled(&mut new);
        Ok(new)
    })
    .await?;
    Ok(Reply::Tree {
        code: 201,
        tree: json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "code": 201}),
    })
}

fn set_scheduled(pod: &mut Value) {
    let generation = pod["metadata"]["generation"].as_i64();
    let mut condition = json!({
        "type": "PodScheduled", "status": "True", "lastProbeTime": null, "lastTransitionTime": rfc3339(Timestamp::now()),
    });
    if let Some(generation) = generation {
        condition["observedGeneration"] = generation.into();
    }
    match pod["status"]["conditions"].as_array_mut() {
        Some(conditions) => match conditions.iter_mut().find(|c| c["type"] == "PodScheduled") {
            Some(present) => *present = condition,
            None => conditions.push(condition),
        },
        None => pod["status"]["conditions"] = json!([condition]),
    }
}
