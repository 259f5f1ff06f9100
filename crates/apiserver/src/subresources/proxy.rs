//! `proxy`: a request goes on to a pod, to an endpoint of a Service or to a node's agent, and what comes back is made to
//! work below the path it was asked at (as upstream's apimachinery, `util/proxy`).

use api::status::Status;
use http::{HeaderValue, Method, Response, StatusCode, header, request::Parts};
use percent_encoding::{AsciiSet, CONTROLS, utf8_percent_encode};
use serde_json::Value;

use crate::{
    body::{Body, RequestBody},
    call::Call,
    failure::Outcome,
    links::Prefix,
    node_proxy,
};

/// `nodes/NAME/proxy/…`, `pods/[SCHEME:]NAME[:PORT]/proxy/…`, `services/[SCHEME:]NAME[:PORT]/proxy/…`.
pub(super) async fn proxy(call: &Call<'_>, mut parts: Parts, body: RequestBody) -> Outcome<Response<Body>> {
    let (asked, rest) = below(call, parts.uri.path());
    let query = parts.uri.query().map(|q| format!("?{q}")).unwrap_or_default();
    let upgrades = parts.headers.contains_key(header::UPGRADE);
    if rest.is_empty() && !upgrades && matches!(parts.method, Method::GET | Method::HEAD) {
        // Relative links of what is there would lead beside it.
        return Ok(moved(&format!("{asked}/{query}")));
    }
    let target = if rest.is_empty() { format!("/{query}") } else { format!("{rest}{query}") };
    let host = host_of(&parts);
    let prefix = Prefix { path: asked.to_owned(), host: host.clone() };
    if let Ok(uri) = HeaderValue::from_str(&format!("{asked}{rest}")) {
        parts.headers.insert("x-forwarded-uri", uri);
    }
    let (scheme, name, port) = split_name(&call.path.name)?;
    let tls = scheme == "https";
    let object =
        |storage: &str, namespace: &str| call.server.cache.kind(storage).named(namespace, name).map(|o| o.parse());
    let missing = || Status::not_found("", call.resource.plural, name);
    let address = match call.resource.plural {
        "nodes" => {
            object("nodes", "").ok_or_else(missing)?;
            let answer = node_proxy::to_node(call.server, name, &target, parts, body).await?;
            return Ok(prefix.apply(answer));
        }
        "pods" => {
            let pod = object("pods", &call.path.namespace).ok_or_else(missing)?;
            let address = pod["status"]["podIP"].as_str().unwrap_or("");
            if address.is_empty() {
                return Err(Status::bad_request("address not allowed"));
            }
            let first = pod.pointer("/spec/containers/0/ports/0/containerPort").and_then(Value::as_u64).unwrap_or(80);
            let port = if port.is_empty() { first } else { number_or_named(&pod, port)? };
            format!("{address}:{port}")
        }
        _ => {
            let service = object("services", &call.path.namespace).ok_or_else(missing)?;
            let ports = service["spec"]["ports"].as_array().map(Vec::as_slice).unwrap_or_default();
            if let Ok(number) = port.parse::<u64>()
                && !ports.iter().any(|p| p["port"].as_u64() == Some(number))
            {
                let none = format!("no service port {number} found for service {name:?}");
                return Err(Status::service_unavailable(none));
            }
            service_endpoint(call, name, port).ok_or_else(|| {
                Status::service_unavailable(format!("no endpoints available for service {:?}", call.path.name))
            })?
        }
    };
    let answer = node_proxy::to_address(&address, tls, &host, &target, parts, body).await?;
    Ok(prefix.apply(answer))
}

/// Splits a path, still escaped, behind the segment `proxy`.
fn below<'a>(call: &Call<'_>, path: &'a str) -> (&'a str, &'a str) {
    let given = |part: &str, count: usize| if part.is_empty() { 0 } else { count };
    // `api`, or `apis` and the group; the version; the resource, the name, `proxy`.
    let segments = 1 + given(&call.path.group, 1) + 1 + given(&call.path.namespace, 2) + 3;
    let mut at = 0;
    for _ in 0..segments {
        at += path[at..].len() - path[at..].trim_start_matches('/').len();
        at = path[at..].find('/').map_or(path.len(), |length| at + length);
    }
    path.split_at(at)
}

fn moved(to: &str) -> Response<Body> {
    let mut response = Response::new(Body::Empty);
    *response.status_mut() = StatusCode::MOVED_PERMANENTLY;
    const UNSAFE: &AsciiSet = &CONTROLS.add(b' ').add(b'"').add(b'<').add(b'>');
    if let Ok(to) = HeaderValue::from_str(&utf8_percent_encode(to, UNSAFE).to_string()) {
        response.headers_mut().insert(header::LOCATION, to);
    }
    response
}

/// Where the client believes to be.
fn host_of(parts: &Parts) -> String {
    let header = parts.headers.get(header::HOST).and_then(|v| v.to_str().ok());
    header.or_else(|| parts.uri.authority().map(|a| a.as_str())).unwrap_or("node").to_owned()
}

fn split_name(text: &str) -> Outcome<(&str, &str, &str)> {
    let parts: Vec<&str> = text.split(':').collect();
    match parts.as_slice() {
        [name] => Ok(("http", name, "")),
        [name, port] => Ok(("http", name, port)),
        [scheme, name, port] => Ok((scheme, name, port)),
        _ => Err(Status::bad_request(format!("invalid name {text:?}"))),
    }
}

fn number_or_named(pod: &Value, port: &str) -> Outcome<u64> {
    if let Ok(number) = port.parse() {
        return Ok(number);
    }
    let containers = pod["spec"]["containers"].as_array().into_iter().flatten();
    let mut ports = containers.flat_map(|c| c["ports"].as_array().into_iter().flatten());
    let named = ports.find(|p| p["name"] == port).and_then(|p| p["containerPort"].as_u64());
    named.ok_or_else(|| Status::service_unavailable(format!("no port named {port:?} in the pod")))
}

/// A ready endpoint of the service's port (by name or number; the first one if none is named).
fn service_endpoint(call: &Call<'_>, name: &str, port: &str) -> Option<String> {
    let service = call.server.cache.kind("services").named(&call.path.namespace, name)?.parse();
    let ports = service["spec"]["ports"].as_array()?;
    let number: Option<u64> = port.parse().ok();
    let fits = |p: &&Value| port.is_empty() || p["name"] == port || (number.is_some() && p["port"].as_u64() == number);
    let wanted = ports.iter().find(fits)?;
    let port_name = wanted["name"].as_str().unwrap_or("");
    let slices = call.server.cache.kind("endpointslices.discovery.k8s.io");
    let slices = slices.snapshot(&call.path.namespace, None, 0, |_| true).objects;
    let mut found: Vec<String> = Vec::new();
    for slice in
        slices.iter().map(|s| s.parse()).filter(|s| s["metadata"]["labels"]["kubernetes.io/service-name"] == name)
    {
        let mut its_ports = slice["ports"].as_array().into_iter().flatten();
        let Some(number) =
            its_ports.find(|p| p["name"].as_str().unwrap_or("") == port_name).and_then(|p| p["port"].as_u64())
        else {
            continue;
        };
        for endpoint in
            slice["endpoints"].as_array().into_iter().flatten().filter(|e| e["conditions"]["ready"] != false)
        {
            found.extend(endpoint["addresses"][0].as_str().map(|address| format!("{address}:{number}")));
        }
    }
    (!found.is_empty()).then(|| found.swap_remove(rand::random_range(0..found.len())))
}
