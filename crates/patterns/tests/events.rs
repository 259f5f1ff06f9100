//! What people read of Gateways and routes in `kubectl describe`.

use patterns::Settings;
use serde_json::{Value, json};

use crate::api::Api;

const GATEWAY: &str = "/apis/gateway.networking.k8s.io/v1/namespaces/default/gateways/web";
const ROUTES: &str = "/apis/gateway.networking.k8s.io/v1/namespaces/default/httproutes";
const EDGE: &str = "/apis/apps/v1/namespaces/hythe-system/deployments/hythe-edge";

fn object(kind: &str, name: &str, spec: Value) -> Value {
    json!({
        "apiVersion": "gateway.networking.k8s.io/v1", "kind": kind, "spec": spec,
        "metadata": {"name": name, "namespace": "default", "generation": 1},
    })
}

fn gateway(listeners: Value) -> Value {
    object("Gateway", "web", json!({"gatewayClassName": "hythe", "listeners": listeners}))
}

fn route(name: &str, parent: Value, backend: &str) -> Value {
    let rules = json!([{"backendRefs": [{"name": backend, "port": 80}]}]);
    object("HTTPRoute", name, json!({"parentRefs": [parent], "rules": rules}))
}

#[tokio::test(start_paused = true)]
async fn gateways_and_routes_tell_in_events_that_they_are_served_or_why_not() {
    let api = Api::new();
    let both =
        json!([{"name": "http", "port": 80, "protocol": "HTTP"}, {"name": "odd", "port": 81, "protocol": "TCP"}]);
    api.put(GATEWAY, gateway(both), true);
    api.put(&format!("{ROUTES}/astray"), route("astray", json!({"name": "web", "sectionName": "none"}), "there"), true);
    api.put(&format!("{ROUTES}/lacking"), route("lacking", json!({"name": "web"}), "nowhere"), true);
    patterns::edge::ensure_classes(&api.client()).await.expect("the classes are made");
    let work = tokio::spawn(patterns::run(api.client(), Settings::new("patterns:1")));
    api.until("the edge", |api| api.get(EDGE).is_some()).await;

    api.until("the class is accepted", |api| {
        api.events_of("GatewayClass", "hythe").iter().any(|event| event.starts_with("Normal Accepted "))
    })
    .await;
    let wrong = "Warning UnsupportedProtocol listener odd: protocol TCP is not served";
    api.until("the listener's fault", |api| api.events_of("Gateway", "web").contains(&wrong.to_owned())).await;
    let astray = "Warning NoMatchingParent Gateway web, listener none: the Gateway has no such listener";
    api.until("the lost route", |api| api.events_of("HTTPRoute", "astray") == [astray]).await;
    api.until("the missing Service", |api| {
        let events = api.events_of("HTTPRoute", "lacking");
        events.contains(&"Normal Accepted Gateway web: a listener serves it".to_owned())
            && events.iter().any(|event| event.starts_with("Warning BackendNotFound Gateway web: "))
    })
    .await;

    // What it refers to is there now.
    let service = json!({
        "apiVersion": "v1", "kind": "Service", "metadata": {"name": "nowhere", "namespace": "default"},
        "spec": {"clusterIP": "10.0.0.1", "ports": [{"port": 80}]},
    });
    api.put("/api/v1/namespaces/default/services/nowhere", service, true);
    api.until("the Service is found", |api| {
        api.events_of("HTTPRoute", "lacking").iter().any(|event| event.starts_with("Normal ResolvedRefs Gateway web: "))
    })
    .await;
    let told = api.events_of("Gateway", "web");
    assert!(!told.iter().any(|event| event.contains("Pending")), "that it is new is no news: {told:?}");
    work.abort();
}

#[tokio::test(start_paused = true)]
async fn a_sidecar_tells_in_events_that_it_is_in_force() {
    let api = Api::new();
    let sidecar = json!({
        "apiVersion": "patterns.hythe.dev/v1", "kind": "Sidecar", "metadata": {"name": "top", "namespace": "default", "generation": 1},
        "spec": {"selector": {"matchLabels": {"app": "web"}}, "containers": [{"name": "top", "args": ["sidecar", "topz"]}]},
    });
    api.put("/apis/patterns.hythe.dev/v1/namespaces/default/sidecars/top", sidecar, true);
    let work = tokio::spawn(patterns::run(api.client(), Settings::new("patterns:1")));
    let words = "new pods that it selects get its containers";
    let both = [format!("Normal Accepted {words}"), format!("Normal Injecting {words}")];
    api.until("both events", |api| api.events_of("Sidecar", "top") == both).await;
    work.abort();
}
