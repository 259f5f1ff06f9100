//! What every cluster has from the start: system namespaces, priority classes, the `kubernetes` Service, and from where
//! addresses of Services come.

use std::sync::{Arc, Weak};

use bytes::Bytes;
use http::{Method, Request};
use http_body_util::{BodyExt, Full};
use serde_json::{Value, json};

use crate::{
    authn::Peer,
    body::RequestBody,
    config::User,
    handler,
    server::{ApiServer, StartError},
};

/// Makes what is missing, and brings the endpoint of the `kubernetes` Service up to date.
pub(crate) async fn run(server: &Arc<ApiServer>) -> Result<(), StartError> {
    for namespace in ["default", "kube-system", "kube-public", "kube-node-lease"] {
        let object = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace}});
        make(server, "/api/v1/namespaces", &object, false).await?;
    }
    for (name, value, description) in [
        (
            "system-cluster-critical",
            2_000_000_000,
            "Used for system critical pods that must run in the cluster, but can be moved to another node if necessary.",
        ),
        (
            "system-node-critical",
            2_000_001_000,
            "Used for system critical pods that must not be moved from their current node.",
        ),
    ] {
        let object = json!({
            "apiVersion": "scheduling.k8s.io/v1", "kind": "PriorityClass", "metadata": {"name": name},
            "value": value, "description": description,
        });
        make(server, "/apis/scheduling.k8s.io/v1/priorityclasses", &object, false).await?;
    }
    service_addresses(server).await?;
    let labels = json!({"component": "apiserver", "provider": "kubernetes"});
    let (address, port) = server.config.advertise;
    let service = json!({
        "apiVersion": "v1", "kind": "Service",
        "metadata": {"name": "kubernetes", "namespace": "default", "labels": labels},
        "spec": {
            "type": "ClusterIP", "clusterIP": server.config.service_cidr.nth(1).to_string(), "sessionAffinity": "None",
            "ports": [{"name": "https", "protocol": "TCP", "port": 443, "targetPort": port}],
        },
    });
    make(server, "/api/v1/namespaces/default/services", &service, false).await?;
    if address.is_loopback() || address.is_unspecified() {
        tracing::warn!(%address, "pods can't reach the API through the Service kubernetes: the advertised address is none that others can use");
        return Ok(());
    }
    let endpoints = json!({
        "apiVersion": "v1", "kind": "Endpoints",
        "metadata": {"name": "kubernetes", "namespace": "default", "labels": {"endpointslice.kubernetes.io/skip-mirror": "true"}},
        "subsets": [{
            "addresses": [{"ip": address.to_string()}],
            "ports": [{"name": "https", "port": port, "protocol": "TCP"}],
        }],
    });
    make(server, "/api/v1/namespaces/default/endpoints", &endpoints, true).await?;
    let slice = json!({
        "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice",
        "metadata": {"name": "kubernetes", "namespace": "default", "labels": {"kubernetes.io/service-name": "kubernetes"}},
        "addressType": if address.is_ipv4() { "IPv4" } else { "IPv6" },
        "endpoints": [{"addresses": [address.to_string()], "conditions": {"ready": true}}],
        "ports": [{"name": "https", "port": port, "protocol": "TCP"}],
    });
    make(server, "/apis/discovery.k8s.io/v1/namespaces/default/endpointslices", &slice, true).await
}

/// The default ServiceCIDR: from where addresses of Services come.
async fn service_addresses(server: &Arc<ApiServer>) -> Result<(), StartError> {
    const ALL: &str = "/apis/networking.k8s.io/v1/servicecidrs";
    let path = format!("{ALL}/kubernetes");
    let mut cidr = json!({
        "apiVersion": "networking.k8s.io/v1", "kind": "ServiceCIDR", "metadata": {"name": "kubernetes"},
        "spec": {"cidrs": [server.config.service_cidr.to_string()]},
    });
    make(server, ALL, &cidr, false).await?;
    let (_, present) = send(server, Method::GET, &path, &Value::Null).await;
    let present: Value = serde_json::from_str(&present).unwrap_or_default();
    if present["status"]["conditions"].as_array().is_some_and(|conditions| !conditions.is_empty()) {
        return Ok(());
    }
    cidr["status"] = json!({"conditions": [{
        "type": "Ready", "status": "True", "reason": "", "message": "Kubernetes Service CIDR is ready",
        "lastTransitionTime": present["metadata"]["creationTimestamp"],
    }]});
    let (code, answer) = send(server, Method::PUT, &format!("{path}/status"), &cidr).await;
    if code < 300 { Ok(()) } else { Err(StartError::Bootstrap { object: path, message: answer }) }
}

/// Makes the `kubernetes` Service and where it leads to again when someone deletes them (`kubectl delete service --all`),
/// for as long as the server is held.
pub(crate) async fn keep(server: Weak<ApiServer>) {
    const KEPT: [&str; 3] = ["services", "endpoints", "endpointslices.discovery.k8s.io"];
    let Some(now) = server.upgrade() else { return };
    let mut changes = KEPT.map(|storage| now.cache.kind(storage).changes(None));
    let (address, _) = now.config.advertise;
    let leads = !address.is_loopback() && !address.is_unspecified();
    drop(now);
    let kept = if leads { &KEPT[..] } else { &KEPT[..1] };
    loop {
        let [services, endpoints, slices] = &mut changes;
        let changed = tokio::select! {
            changed = services.changed() => changed,
            changed = endpoints.changed() => changed,
            changed = slices.changed() => changed,
        };
        let (Ok(()), Some(server)) = (changed, server.upgrade()) else { return };
        let there = |storage: &&str| server.cache.kind(storage).named("default", "kubernetes").is_some();
        if !kept.iter().all(there)
            && let Err(error) = run(&server).await
        {
            tracing::warn!(%error, "the Service kubernetes was deleted and can't be made again");
        }
    }
}

/// Creates the object unless it exists; with `replace` one that exists is overwritten.
async fn make(server: &Arc<ApiServer>, collection: &str, object: &Value, replace: bool) -> Result<(), StartError> {
    let name = object["metadata"]["name"].as_str().unwrap_or("");
    let fault = |message: String| StartError::Bootstrap { object: format!("{collection}/{name}"), message };
    let (code, answer) = send(server, Method::POST, collection, object).await;
    match code {
        200..300 => Ok(()),
        409 if !replace => Ok(()),
        409 => {
            let (code, answer) = send(server, Method::PUT, &format!("{collection}/{name}"), object).await;
            if code < 300 { Ok(()) } else { Err(fault(answer)) }
        }
        _ => Err(fault(answer)),
    }
}

/// The answer's code and text. A patch is a merge patch.
pub(crate) async fn send(server: &Arc<ApiServer>, method: Method, path: &str, object: &Value) -> (u16, String) {
    let body = Full::new(Bytes::from(object.to_string())).map_err(|never| match never {}).boxed_unsync();
    let mut request = Request::new(RequestBody::Local(body));
    if method == Method::PATCH {
        let merge = http::HeaderValue::from_static("application/merge-patch+json");
        request.headers_mut().insert(http::header::CONTENT_TYPE, merge);
    }
    *request.method_mut() = method;
    // Paths here are made of names that need no escapes.
    *request.uri_mut() = path.parse().unwrap_or_default();
    request.headers_mut().insert(http::header::USER_AGENT, http::HeaderValue::from_static("hythe"));
    let peer = Peer::Trusted(Arc::new(User::admin("system:apiserver")));
    let response = handler::handle(server.clone(), request, peer).await;
    let code = response.status().as_u16();
    let answer = response.into_body().collect_bytes().await.unwrap_or_default();
    (code, String::from_utf8_lossy(&answer).into_owned())
}
