//! The agent of a node at a port of its own, as the kubelet serves it (10250): metrics, summaries, logs, exec. Whoever
//! scrapes nodes at their addresses finds them here. Who may ask is decided as for the API, by upstream's attributes of
//! `nodes` (kubelet authorization; KEP-2862 for the fine-grained ones).

use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderValue, Method, Request, Response, StatusCode, header, request::Parts};

use crate::{
    authn::{self, Peer},
    authz::{Action, Decision},
    body::{Body, RequestBody},
    negotiate::Accept,
    node_proxy, respond,
    server::ApiServer,
};

/// Answers one request for the agent of `node`; never fails.
pub(crate) async fn handle(
    server: Arc<ApiServer>,
    request: Request<RequestBody>,
    peer: Peer,
    node: Arc<str>,
) -> Response<Body> {
    let (parts, body) = request.into_parts();
    if let Err((code, why)) = permit(&server, &parts, &peer, &node) {
        return text(code, &why);
    }
    let target = parts.uri.path_and_query().map_or("/", |target| target.as_str()).to_owned();
    let answer = node_proxy::to_node(&server, &node, &target, parts, body).await;
    answer.unwrap_or_else(|status| respond::failure(&status, Accept::JSON))
}

/// Nobody asks without a name, and those with one only what the authorizer lets them.
fn permit(server: &ApiServer, parts: &Parts, peer: &Peer, node: &str) -> Result<(), (StatusCode, String)> {
    let user = authn::authenticate(server, peer, &parts.headers).filter(|user| !authn::is_anonymous(user));
    let user = user.ok_or_else(|| (StatusCode::UNAUTHORIZED, "Unauthorized\n".to_owned()))?;
    let verb = verb_of(&parts.method);
    let subresources = subresources_of(parts.uri.path());
    let may = |subresource: &&str| {
        let action = Action { verb, version: "v1", resource: "nodes", subresource, name: node, ..Action::default() };
        server.config.authorizer.authorize(&user, &action) == Decision::Allow
    };
    if subresources.iter().any(may) {
        return Ok(());
    }
    let names = subresources.join(" ");
    let why = format!("Forbidden (user={}, verb={verb}, resource=nodes, subresource(s)=[{names}])\n", user.name);
    Err((StatusCode::FORBIDDEN, why))
}

fn verb_of(method: &Method) -> &'static str {
    match *method {
        Method::POST => "create",
        Method::PUT => "update",
        Method::PATCH => "patch",
        Method::DELETE => "delete",
        _ => "get",
    }
}

/// The subresources of the node of which any opens a path.
fn subresources_of(path: &str) -> &'static [&'static str] {
    match path.split('/').nth(1).unwrap_or_default() {
        "stats" => &["stats"],
        "metrics" => &["metrics"],
        "logs" => &["log"],
        "pods" | "runningpods" => &["pods", "proxy"],
        "healthz" => &["healthz", "proxy"],
        "configz" => &["configz", "proxy"],
        _ => &["proxy"],
    }
}

fn text(status: StatusCode, why: &str) -> Response<Body> {
    let mut response = Response::new(Body::Full(Bytes::copy_from_slice(why.as_bytes())));
    *response.status_mut() = status;
    let plain = HeaderValue::from_static("text/plain; charset=utf-8");
    response.headers_mut().insert(header::CONTENT_TYPE, plain);
    response
}
