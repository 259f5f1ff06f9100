//! The way of a request: path → authenticate → impersonate → authorize → verb → response.

use std::{sync::Arc, time::Instant};

use api::{catalogue, resource::Resource, status::Status};
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, Request, Response, Version, header, request::Parts};
use parking_lot::Mutex;

use crate::{
    authn::{self, Peer},
    authz::{Action, Decision},
    body::{Body, ReadError, RequestBody},
    call::{Call, Reply},
    components,
    config::User,
    discovery,
    failure::Outcome,
    impersonation,
    metrics::Labels,
    negotiate::{Accept, Offer},
    path::{self, ResourcePath, Route},
    query::{ListOptions, Query},
    respond,
    server::ApiServer,
    subresources, usage,
    verbs::{create, delete, get, list, modify::Part, patch, update, watch},
};

/// Answers one request; never fails.
pub(crate) async fn handle(server: Arc<ApiServer>, request: Request<RequestBody>, peer: Peer) -> Response<Body> {
    let (parts, body) = request.into_parts();
    let head = parts.method == Method::HEAD;
    let mut response = match route(&server, parts, body, &peer).await {
        Ok(response) => response,
        Err((status, accept)) => respond::failure(&status, accept),
    };
    if head {
        *response.body_mut() = Body::Empty;
    }
    response
}

type Refused = (Status, Accept);

async fn route(
    server: &Arc<ApiServer>,
    parts: Parts,
    mut body: RequestBody,
    peer: &Peer,
) -> Result<Response<Body>, Refused> {
    let plain = |status: Status| (status, Accept::of_failures(&parts.headers));
    let url = parts.uri.path();
    let user = authn::authenticate(server, peer, &parts.headers).ok_or_else(|| plain(Status::unauthorized()))?;
    let may = |part: &ResourcePath| authorize(server, &user, part, "impersonate", url);
    let user = impersonation::impersonated(&parts.headers, may).map_err(plain)?.map_or(user, Arc::new);
    let path = match path::parse(url) {
        Route::Resource(path) => path,
        Route::Other => return other(server, &parts, &user).await.map_err(plain),
    };
    let resource = catalogue::by_plural(&path.group, &path.version, &path.resource);
    let query = Query::parse(parts.uri.query());
    let verb = verb_of(&parts.method, &path, &query);
    authorize(server, &user, &path, verb, url).map_err(plain)?;
    let resource = resource.ok_or_else(|| plain(Status::no_such_resource()))?;
    check_scope(resource, &path, verb).map_err(plain)?;
    if subresources::is_stream(resource, &path.subresource) {
        let (uri, headers, method) = (parts.uri.clone(), parts.headers.clone(), parts.method.clone());
        let query = Query::parse(uri.query());
        let call = call(server, resource, path.clone(), user, query, &headers, Accept::JSON, Bytes::new());
        let outcome = subresources::stream(&call, method, parts, body).await;
        let response = respond::respond(&call, outcome);
        server.metrics.requests.answered(Labels::of(&call, "connect"), response.status().as_u16(), None);
        return Ok(response);
    }
    // Questions, which are answered and never kept, have no columns.
    let tables = resource.allows("get") || resource.allows("list");
    // A list that comes as a watch is for machines.
    let tables = tables && !(verb == "watch" && query.flag("sendInitialEvents"));
    let offer = Offer { tables, protobuf: resource.schema.message.is_some(), stream: verb == "watch" };
    let refused = |status| (status, Accept::JSON);
    let accept = Accept::parse(&parts.headers, query.optional_flag("pretty"), offer).map_err(refused)?;
    let body = match parts.method {
        Method::GET | Method::HEAD => Bytes::new(),
        _ => match body.read().await {
            Ok(bytes) => bytes,
            Err(ReadError::TooLarge) => {
                if parts.version == Version::HTTP_2 {
                    body.discard().await;
                }
                return Err((Status::too_large(), accept));
            }
            Err(ReadError::Broken(why)) => {
                return Err((Status::bad_request(format!("the body could not be read: {why}")), accept));
            }
        },
    };
    let call = call(server, resource, path, user, query, &parts.headers, accept, body);
    let (labels, begin, under_way) = (Labels::of(&call, verb), Instant::now(), server.metrics.under_way(verb));
    if let Some(deprecation) = resource.deprecation {
        call.warn(deprecation);
        server.metrics.families.asked_for_deprecated(labels);
    }
    let outcome = match verb {
        "get" | "list" | "watch" => dispatch(&call, verb).await,
        "create" | "patch" | "update" if resource.plural == "events" => {
            let _yielding = server.precedence.give_way().await;
            dispatch(&call, verb).await
        }
        _ => {
            let _urgent = server.precedence.urgent();
            dispatch(&call, verb).await
        }
    };
    let response = respond::respond(&call, outcome);
    let took = under_way.is_some().then(|| begin.elapsed());
    server.metrics.requests.answered(labels, response.status().as_u16(), took);
    if let Some(bytes) = response.body().length() {
        server.metrics.families.answered(labels, bytes);
    }
    Ok(response)
}

#[expect(clippy::too_many_arguments, reason = "the fields of a call, once")]
fn call<'a>(
    server: &'a Arc<ApiServer>,
    resource: &'static Resource,
    path: ResourcePath,
    user: Arc<User>,
    query: Query<'a>,
    headers: &'a HeaderMap,
    accept: Accept,
    body: Bytes,
) -> Call<'a> {
    let kind = server.cache.kind(resource.storage.prefix).clone();
    Call { server, resource, kind, path, user, query, headers, accept, body, warnings: Mutex::default() }
}

async fn dispatch(call: &Call<'_>, verb: &'static str) -> Outcome<Reply> {
    let resource = call.resource;
    if !call.path.subresource.is_empty() {
        return subresources::dispatch(call, verb).await;
    }
    if !call.path.rest.is_empty() {
        return Err(Status::no_such_resource());
    }
    if verb.is_empty() || !resource.allows(verb) {
        return Err(Status::method_not_allowed());
    }
    match verb {
        "get" | "list" if resource.plural == components::PLURAL => components::answer(call, verb).await,
        "get" | "list" if resource.group == usage::GROUP => usage::answer(call, verb).await,
        "get" => get::get(call).await,
        "list" | "watch" => {
            let mut options = ListOptions::parse(&call.query)?;
            if call.path.watch {
                options.watch = true;
            }
            if !call.path.name.is_empty() {
                // The deprecated watch of one object.
                options.fields = format!("metadata.name={}", call.path.name);
            }
            if verb == "watch" { watch::watch(call, &options).await } else { list::list(call, &options).await }
        }
        "create" => match subresources::review(call).await? {
            Some(reply) => Ok(reply),
            None => create::create(call).await,
        },
        "update" => update::update(call, Part::Main).await,
        "patch" => patch::patch(call, Part::Main).await,
        "delete" => delete::delete(call).await,
        "deletecollection" => delete::delete_collection(call).await,
        _ => Err(Status::method_not_allowed()),
    }
}

/// The verb of RBAC; empty for methods that mean nothing here.
fn verb_of(method: &Method, path: &ResourcePath, query: &Query<'_>) -> &'static str {
    let named = !path.name.is_empty();
    match *method {
        Method::GET | Method::HEAD if path.watch || (!named && query.flag("watch")) => "watch",
        Method::GET | Method::HEAD if named => "get",
        Method::GET | Method::HEAD => "list",
        Method::POST if !named || !path.subresource.is_empty() => "create",
        Method::PUT if named => "update",
        Method::PATCH if named => "patch",
        Method::DELETE if named => "delete",
        Method::DELETE => "deletecollection",
        _ => "",
    }
}

fn authorize(server: &ApiServer, user: &User, path: &ResourcePath, verb: &str, url: &str) -> Outcome<()> {
    let action = Action {
        verb,
        group: &path.group,
        version: &path.version,
        resource: &path.resource,
        subresource: &path.subresource,
        namespace: &path.namespace,
        name: &path.name,
        path: url,
    };
    let Decision::Deny(reason) = server.config.authorizer.authorize(user, &action) else { return Ok(()) };
    let what = if path.subresource.is_empty() {
        path.resource.clone()
    } else {
        format!("{}/{}", path.resource, path.subresource)
    };
    let scope = if path.namespace.is_empty() {
        "at the cluster scope".to_owned()
    } else {
        format!("in the namespace \"{}\"", path.namespace)
    };
    let mut why =
        format!("User \"{}\" cannot {verb} resource \"{what}\" in API group \"{}\" {scope}", user.name, path.group);
    if !reason.is_empty() {
        why.push_str(": ");
        why.push_str(&reason);
    }
    Err(Status::forbidden(&path.group, &path.resource, &path.name, why))
}

/// Namespaced resources are in a namespace (over all of them they are listed and watched, no more); the others are not.
fn check_scope(resource: &Resource, path: &ResourcePath, verb: &str) -> Outcome<()> {
    let within = !path.namespace.is_empty();
    if within && !resource.namespaced {
        return Err(Status::no_such_resource());
    }
    if resource.namespaced && !within && !path.watch {
        if !path.name.is_empty() {
            return Err(Status::no_such_resource());
        }
        if !matches!(verb, "list" | "watch") {
            return Err(Status::method_not_allowed());
        }
    }
    Ok(())
}

async fn other(server: &Arc<ApiServer>, parts: &Parts, user: &User) -> Outcome<Response<Body>> {
    let url = parts.uri.path();
    let verb = parts.method.as_str().to_ascii_lowercase();
    let action = Action { verb: &verb, path: url, ..Action::default() };
    if let Decision::Deny(reason) = server.config.authorizer.authorize(user, &action) {
        let mut why = format!("User \"{}\" cannot {verb} path \"{url}\"", user.name);
        if !reason.is_empty() {
            why.push_str(": ");
            why.push_str(&reason);
        }
        return Err(Status::forbidden("", "", "", why));
    }
    if !matches!(parts.method, Method::GET | Method::HEAD) {
        let mut response =
            respond::with_type(405, "text/plain; charset=utf-8", Body::from("405: method not allowed\n".to_owned()));
        response.headers_mut().insert(header::ALLOW, HeaderValue::from_static("GET"));
        return Ok(response);
    }
    discovery::answer(server, url, &Query::parse(parts.uri.query()), &parts.headers).await
}
