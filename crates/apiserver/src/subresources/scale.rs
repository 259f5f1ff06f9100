//! `scale`: the number of replicas, for any kind that has one.

use api::{
    resource::Resource,
    schema,
    selector::LabelSelector,
    status::{Cause, Status},
    strict::Expected,
};
use serde_json::{Value, json};

use crate::{
    call::{Call, Reply},
    failure::Outcome,
    managed, negotiate,
    query::{WriteOptions, options_kind},
    verbs::{
        modify::{Modify, Part, modify},
        patch::{self, Asked},
    },
    version,
};

const KIND: &str = "Scale";
const API_VERSION: &str = "autoscaling/v1";

fn expected() -> Expected {
    let schema = schema::type_named("io.k8s.api.autoscaling.v1.Scale").expect("a type of the catalogue");
    Expected { group: "autoscaling", version: "v1", api_version: API_VERSION, kind: KIND, schema }
}

pub(super) async fn dispatch(call: &Call<'_>, verb: &str) -> Outcome<Reply> {
    if verb == "get" {
        call.server.cache.fresh().await;
        let object = call.kind.get(&call.key()).ok_or_else(|| call.not_found())?;
        return Ok(Reply::Tree {
            code: 200,
            tree: scale_of(call.resource, &version::served_tree(call.resource, &object)),
        });
    }
    let options = WriteOptions::parse(&call.query, call.user_agent(), options_kind(verb))?;
    if verb == "patch" && negotiate::media_type(call.headers) == patch::APPLY {
        return apply(call, &options).await;
    }
    let body = Asked::read(call, &options, expected(), verb)?;
    let how = Modify {
        part: Part::Main,
        options: &options,
        author: managed::Author::Update,
        retries: !body.is_pinned(),
        unconditional: true,
    };
    let reply = modify(call, &how, |old| {
        let scale = body.ask(call, &options, expected(), || scale_of(call.resource, old))?;
        call.check_name(&scale)?;
        let replicas = replicas_of(call, &scale)?;
        let mut new = old.clone();
        put(&mut new, call.resource.replicas_at, replicas);
        for field in ["resourceVersion", "uid"] {
            if let Some(text) = scale["metadata"][field].as_str() {
                new["metadata"][field] = text.into();
            }
        }
        Ok(new)
    })
    .await?;
    Ok(shown(call, reply))
}

/// Server-side apply of the number alone: who applies it owns that field of the object, by way of `scale`.
async fn apply(call: &Call<'_>, options: &WriteOptions) -> Outcome<Reply> {
    patch::needs_manager(call)?;
    let scale = managed::applied_document(call, options, expected())?;
    call.check_name(&scale)?;
    let mut part = json!({
        "apiVersion": call.resource.api_version, "kind": call.resource.kind, "metadata": {"name": call.path.name},
    });
    if call.resource.namespaced {
        part["metadata"]["namespace"] = call.path.namespace.as_str().into();
    }
    if !scale["metadata"]["resourceVersion"].is_null() {
        part["metadata"]["resourceVersion"] = scale["metadata"]["resourceVersion"].clone();
    }
    if !scale["spec"]["replicas"].is_null() {
        put(&mut part, call.resource.replicas_at, replicas_of(call, &scale)?);
    }
    let reply = patch::apply_part(call, Part::Main, options, &part).await?;
    Ok(shown(call, reply))
}

fn replicas_of(call: &Call<'_>, scale: &Value) -> Outcome<i64> {
    let replicas = scale["spec"]["replicas"].as_i64().unwrap_or(0);
    if replicas >= 0 {
        return Ok(replicas);
    }
    let fault = Cause::invalid("spec.replicas", replicas, "must be greater than or equal to 0");
    Err(Status::invalid("autoscaling", KIND, &call.path.name, vec![fault]))
}

/// The Scale of the object that was written.
fn shown(call: &Call<'_>, reply: Reply) -> Reply {
    let tree = match reply {
        Reply::Stored { bytes, .. } => {
            serde_json::from_slice(&version::served_bytes(call.resource, &bytes)).unwrap_or_default()
        }
        Reply::Tree { tree, .. } => tree,
        other => return other,
    };
    Reply::Tree { code: 200, tree: scale_of(call.resource, &tree) }
}

/// Writes a number where a pointer leads, through objects that need not be there.
fn put(object: &mut Value, pointer: &str, number: i64) {
    let place = pointer.split('/').skip(1).fold(object, |at, name| &mut at[name]);
    *place = number.into();
}

fn scale_of(resource: &Resource, object: &Value) -> Value {
    let metadata = &object["metadata"];
    let mut out = json!({
        "kind": KIND, "apiVersion": API_VERSION, "metadata": {},
        "spec": {}, "status": {"replicas": object["status"]["replicas"].as_i64().unwrap_or(0)},
    });
    for field in ["name", "namespace", "uid", "resourceVersion", "creationTimestamp"] {
        if !metadata[field].is_null() {
            out["metadata"][field] = metadata[field].clone();
        }
    }
    let replicas = object.pointer(resource.replicas_at).and_then(Value::as_i64).unwrap_or(0);
    if replicas != 0 {
        out["spec"]["replicas"] = replicas.into();
    }
    let selector = &object["spec"]["selector"];
    let selector = match selector.as_object() {
        Some(labels) if object["kind"] == "ReplicationController" => LabelSelector::from_labels(labels),
        _ => LabelSelector::from_object(selector).unwrap_or_else(|_| LabelSelector::nothing()),
    };
    // Kinds of ours have theirs as text in their status, as custom resources do.
    let text = object["status"]["selector"].as_str().map_or_else(|| selector.to_string(), str::to_owned);
    if !text.is_empty() {
        out["status"]["selector"] = text.into();
    }
    out
}
