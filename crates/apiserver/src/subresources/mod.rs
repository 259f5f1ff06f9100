//! What is special: parts of objects with a verb of their own, streams to nodes, and questions.

mod access_review;
mod binding;
mod eviction;
mod finalize;
mod pod_parts;
mod proxy;
mod scale;
mod stream;
mod token_request;

use api::{resource::Resource, status::Status};
use http::{Method, request::Parts};

use crate::{
    body::RequestBody,
    call::{Call, Reply},
    failure::Outcome,
    verbs::{get, modify::Part, patch, update},
};

/// Whether the request's body must stay a stream (its connection may be upgraded).
pub(crate) fn is_stream(resource: &Resource, subresource: &str) -> bool {
    let core = resource.group.is_empty();
    match subresource {
        "log" | "exec" | "attach" | "portforward" => core && resource.plural == "pods",
        "proxy" => core && matches!(resource.plural, "pods" | "services" | "nodes"),
        _ => false,
    }
}

/// Proxies to the agent of a node, or to a pod.
pub(crate) async fn stream(call: &Call<'_>, method: Method, parts: Parts, body: RequestBody) -> Outcome<Reply> {
    stream::stream(call, method, parts, body).await
}

/// Questions that are answered and never stored; `None` for ordinary kinds.
pub(crate) async fn review(call: &Call<'_>) -> Outcome<Option<Reply>> {
    match (call.resource.group, call.resource.plural) {
        ("authentication.k8s.io" | "authorization.k8s.io", _) => access_review::answer(call).await.map(Some),
        ("", "bindings") => binding::of_body(call).await.map(Some),
        _ => Ok(None),
    }
}

/// All others.
pub(crate) async fn dispatch(call: &Call<'_>, verb: &'static str) -> Outcome<Reply> {
    let resource = call.resource;
    let subresource = resource.subresource(&call.path.subresource).filter(|_| call.path.rest.is_empty());
    let subresource = subresource.ok_or_else(Status::no_such_resource)?;
    if !subresource.verbs.contains(&verb) {
        return Err(Status::method_not_allowed());
    }
    match (resource.plural, subresource.name, verb) {
        (_, "scale", _) => scale::dispatch(call, verb).await,
        ("pods", "binding", _) => binding::of_path(call).await,
        ("pods", "eviction", _) => eviction::evict(call).await,
        ("pods", "ephemeralcontainers" | "resize", "update" | "patch") => pod_parts::change(call, verb).await,
        ("serviceaccounts", "token", _) => token_request::create(call).await,
        ("namespaces", "finalize", _) => finalize::finalize(call).await,
        (_, _, "get") => get::get(call).await,
        (_, "status" | "approval", "update") => update::update(call, Part::Status).await,
        (_, "status" | "approval", "patch") => patch::patch(call, Part::Status).await,
        _ => Err(Status::no_such_resource()),
    }
}
