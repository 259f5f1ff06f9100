//! `log`, `exec`, `attach` and `portforward`: the request goes on to the agent of the pod's node, at the kubelet's
//! paths, upgrades included. `proxy` is beside this file.

use api::status::{Cause, Status};
use form_urlencoded::Serializer;
use http::{Method, request::Parts};
use serde_json::Value;

use super::proxy;
use crate::{
    body::RequestBody,
    call::{Call, Reply},
    failure::Outcome,
    node_proxy,
};

pub(super) async fn stream(call: &Call<'_>, method: Method, parts: Parts, body: RequestBody) -> Outcome<Reply> {
    let subresource = call.resource.subresource(&call.path.subresource).ok_or_else(Status::no_such_resource)?;
    let verb = match method {
        Method::GET | Method::HEAD => "get",
        Method::POST => "create",
        Method::PUT => "update",
        Method::PATCH => "patch",
        Method::DELETE => "delete",
        _ => "",
    };
    if !subresource.verbs.contains(&verb) {
        return Err(Status::method_not_allowed());
    }
    call.server.cache.fresh().await;
    if call.path.subresource == "proxy" {
        return proxy::proxy(call, parts, body).await.map(Reply::Response);
    }
    let pod = call.kind.get(&call.key()).ok_or_else(|| call.not_found())?.parse();
    let node = pod["spec"]["nodeName"].as_str().unwrap_or("");
    let (namespace, name) = (&call.path.namespace, &call.path.name);
    let target = match call.path.subresource.as_str() {
        "log" => {
            check_log_options(call)?;
            let container = container_of(call, &pod)?;
            if node.is_empty() {
                // As upstream: nothing ran yet, so nothing was said.
                return Ok(Reply::Response(crate::respond::with_type(204, "text/plain", crate::body::Body::Empty)));
            }
            format!("/containerLogs/{namespace}/{name}/{container}{}", log_query(call))
        }
        "portforward" => {
            let mut query = Serializer::new(String::new());
            for port in call.query.all("ports").flat_map(|ports| ports.split(',')) {
                query.append_pair("port", port);
            }
            format!("/portForward/{namespace}/{name}{}", suffix(query.finish()))
        }
        action => {
            let container = container_of(call, &pod)?;
            // A pod that runs nowhere is the first thing to say.
            let query = if node.is_empty() { String::new() } else { session_query(call)? };
            format!("/{action}/{namespace}/{name}/{container}{query}")
        }
    };
    if node.is_empty() {
        return Err(Status::bad_request(format!("pod {name} does not have a host assigned")));
    }
    let answer = node_proxy::to_node(call.server, node, &target, parts, body).await?;
    // A log that can't be had is told as a `Status`; sessions' clients read the node's own words.
    let answer = if call.path.subresource == "log" { node_proxy::checked(answer).await? } else { answer };
    Ok(Reply::Response(answer))
}

/// The container that is meant, as upstream chooses and words it.
fn container_of(call: &Call<'_>, pod: &Value) -> Outcome<String> {
    let names = |field: &str| -> Vec<&str> {
        pod["spec"][field].as_array().into_iter().flatten().filter_map(|c| c["name"].as_str()).collect()
    };
    let (containers, init, ephemeral) = (names("containers"), names("initContainers"), names("ephemeralContainers"));
    let (asked, name) = (call.query.text("container"), &call.path.name);
    if asked.is_empty() {
        return match containers.as_slice() {
            [one] => Ok((*one).to_owned()),
            [] => Err(Status::bad_request(format!("a container name must be specified for pod {name}"))),
            many => {
                let mut message =
                    format!("a container name must be specified for pod {name}, choose one of: [{}]", many.join(" "));
                if !init.is_empty() {
                    message.push_str(&format!(" or one of the init containers: [{}]", init.join(" ")));
                }
                if !ephemeral.is_empty() {
                    message.push_str(&format!(" or one of the ephemeral containers: [{}]", ephemeral.join(" ")));
                }
                Err(Status::bad_request(message))
            }
        };
    }
    if [containers, init, ephemeral].concat().contains(&asked) {
        return Ok(asked.to_owned());
    }
    Err(Status::bad_request(format!("container {asked} is not valid for pod {name}")))
}

fn check_log_options(call: &Call<'_>) -> Outcome<()> {
    let mut faults = Vec::new();
    for (field, least, words) in [
        ("tailLines", 0, "must be greater than or equal to 0"),
        ("limitBytes", 1, "must be greater than 0"),
        ("sinceSeconds", 1, "must be greater than 0"),
    ] {
        if let Some(number) = call.query.number(field)?.filter(|number| *number < least) {
            faults.push(Cause::invalid(field, number, words));
        }
    }
    if call.query.first("sinceSeconds").is_some() && call.query.first("sinceTime").is_some() {
        faults.push(Cause::forbidden("", "at most one of `sinceTime` or `sinceSeconds` may be specified"));
    }
    if faults.is_empty() { Ok(()) } else { Err(Status::invalid("", "PodLogOptions", &call.path.name, faults)) }
}

fn log_query(call: &Call<'_>) -> String {
    let mut query = Serializer::new(String::new());
    for flag in ["follow", "previous", "timestamps"] {
        if call.query.flag(flag) {
            query.append_pair(flag, "true");
        }
    }
    for field in ["sinceSeconds", "sinceTime", "tailLines", "limitBytes", "stream"] {
        if let Some(value) = call.query.first(field).filter(|v| !v.is_empty()) {
            query.append_pair(field, value);
        }
    }
    suffix(query.finish())
}

/// `stdin`, `stdout`, `stderr` are `input`, `output`, `error` to the kubelet.
fn session_query(call: &Call<'_>) -> Outcome<String> {
    let mut query = Serializer::new(String::new());
    let mut any = false;
    for (asked, told) in [("stdin", "input"), ("stdout", "output"), ("stderr", "error"), ("tty", "tty")] {
        if call.query.flag(asked) {
            any |= asked != "tty";
            query.append_pair(told, "1");
        }
    }
    if !any {
        return Err(Status::bad_request("you must specify at least 1 of stdin, stdout, stderr"));
    }
    if call.path.subresource == "exec" {
        let mut commands = call.query.all("command").peekable();
        if commands.peek().is_none() {
            return Err(Status::bad_request("you must specify a command"));
        }
        for command in commands {
            query.append_pair("command", command);
        }
    }
    Ok(suffix(query.finish()))
}

fn suffix(query: String) -> String {
    if query.is_empty() { query } else { format!("?{query}") }
}
