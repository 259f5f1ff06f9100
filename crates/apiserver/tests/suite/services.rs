use std::collections::HashSet;

use apiserver::Config;
use futures::future::join_all;
use serde_json::{Value, json};

use super::client::Api;

const SERVICES: &str = "/api/v1/namespaces/default/services";

fn service(name: &str, spec: Value) -> Value {
    let mut spec = spec;
    spec["ports"] = json!([{"port": 80}]);
    json!({"metadata": {"name": name}, "spec": spec})
}

#[tokio::test(flavor = "multi_thread")]
async fn every_service_gets_an_address_of_its_own() {
    let api = Api::with(Config { service_cidr: "10.7.0.0/27".parse().expect("a network"), ..Config::default() }).await;
    let (_, kubernetes) = api.get(&format!("{SERVICES}/kubernetes")).await;
    assert_eq!(kubernetes["spec"]["clusterIP"], "10.7.0.1");
    let services: Vec<Value> = (0..29).map(|n| service(&format!("s{n}"), json!({}))).collect();
    let made = join_all(services.iter().map(|body| api.post(SERVICES, body))).await;
    let addresses: HashSet<String> = made
        .iter()
        .map(|(code, object)| {
            assert_eq!(*code, 201, "{object}");
            object["spec"]["clusterIP"].as_str().unwrap_or("").to_owned()
        })
        .collect();
    assert_eq!(addresses.len(), 29);
    assert!(
        addresses.iter().all(|ip| ip.starts_with("10.7.0."))
            && !addresses.contains("10.7.0.31")
            && !addresses.contains("10.7.0.0")
    );
    let (code, full) = api.post(SERVICES, &service("one-more", json!({}))).await;
    assert_eq!(code, 500, "{full}");
    api.delete(&format!("{SERVICES}/s3"), &Value::Null).await;
    api.made(SERVICES, &service("one-more", json!({}))).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_address_can_be_asked_for_once() {
    let api = Api::new().await;
    api.made(SERVICES, &service("a", json!({"clusterIP": "10.43.0.10"}))).await;
    let (code, status) = api.post(SERVICES, &service("b", json!({"clusterIP": "10.43.0.10"}))).await;
    assert_eq!(code, 422);
    let message = status["message"].as_str().unwrap_or("");
    assert!(
        message.contains("spec.clusterIPs: Invalid value")
            && message.ends_with("failed to allocate IP 10.43.0.10: provided IP is already allocated"),
        "{message}"
    );
    let (code, status) = api.post(SERVICES, &service("b", json!({"clusterIP": "192.0.2.1"}))).await;
    assert_eq!(code, 422);
    assert!(
        status["message"].as_str().is_some_and(|m| m.ends_with("The range of valid IPs is 10.43.0.0/16")),
        "{status}"
    );
    api.delete(&format!("{SERVICES}/a"), &Value::Null).await;
    api.made(SERVICES, &service("b", json!({"clusterIP": "10.43.0.10"}))).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn node_ports_are_drawn_kept_and_given_back() {
    let api = Api::new().await;
    let made = api.made(SERVICES, &service("a", json!({"type": "NodePort"}))).await;
    let port = made["spec"]["ports"][0]["nodePort"].as_u64().expect("a node port");
    assert!((30000..=32767).contains(&port));
    let taken =
        json!({"metadata": {"name": "b"}, "spec": {"type": "NodePort", "ports": [{"port": 80, "nodePort": port}]}});
    let (code, status) = api.post(SERVICES, &taken).await;
    assert_eq!(code, 422);
    assert_eq!(
        status["details"]["causes"][0]["message"],
        format!("Invalid value: {port}: provided port is already allocated")
    );
    assert_eq!(status["details"]["causes"][0]["field"], "spec.ports[0].nodePort");
    // A PUT that leaves the allocated values out keeps them.
    let (code, same) = api.put(&format!("{SERVICES}/a"), &service("a", json!({"type": "NodePort"}))).await;
    assert_eq!(code, 200, "{same}");
    assert_eq!(
        (&same["spec"]["ports"][0]["nodePort"], &same["spec"]["clusterIP"]),
        (&json!(port), &made["spec"]["clusterIP"])
    );
    // Another type has no use for the port.
    let (code, plain) = api.patch("merge", &format!("{SERVICES}/a"), &json!({"spec": {"type": "ClusterIP"}})).await;
    assert_eq!(code, 200, "{plain}");
    assert!(plain["spec"]["ports"][0]["nodePort"].is_null());
    api.made(SERVICES, &taken).await;
    let outside =
        json!({"metadata": {"name": "c"}, "spec": {"type": "NodePort", "ports": [{"port": 80, "nodePort": 80}]}});
    let (code, status) = api.post(SERVICES, &outside).await;
    assert_eq!(code, 422);
    assert!(
        status["message"].as_str().is_some_and(
            |m| m.ends_with("provided port is not in the valid range. The range of valid ports is 30000-32767")
        ),
        "{status}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn headless_and_external_services_have_no_address() {
    let api = Api::new().await;
    let headless = api.made(SERVICES, &service("h", json!({"clusterIP": "None", "selector": {"a": "b"}}))).await;
    assert_eq!(headless["spec"]["clusterIPs"], json!(["None"]));
    let external = json!({"metadata": {"name": "e"}, "spec": {"type": "ExternalName", "externalName": "example.com"}});
    let external = api.made(SERVICES, &external).await;
    assert!(external["spec"]["clusterIP"].is_null(), "{external}");
    let (code, now) = api
        .patch(
            "merge",
            &format!("{SERVICES}/e"),
            &json!({"spec": {"type": "ClusterIP", "externalName": null, "ports": [{"port": 80}]}}),
        )
        .await;
    assert_eq!(code, 200, "{now}");
    assert!(now["spec"]["clusterIP"].as_str().is_some_and(|ip| ip.starts_with("10.43.")), "{now}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_service_of_the_api_comes_back_when_it_is_deleted() {
    let advertise = (std::net::IpAddr::from([192, 0, 2, 7]), 6443);
    let api = Api::with(apiserver::Config { advertise, ..apiserver::Config::default() }).await;
    for collection in [
        "/api/v1/namespaces/default/services",
        "/api/v1/namespaces/default/endpoints",
        "/apis/discovery.k8s.io/v1/namespaces/default/endpointslices",
    ] {
        let (_, before) = api.get(&format!("{collection}/kubernetes")).await;
        let since = super::client::revision(&before);
        let path = format!("{collection}?watch=1&fieldSelector=metadata.name%3Dkubernetes&resourceVersion={since}");
        let mut events = api.watch(&path).await;
        assert_eq!(api.delete(&format!("{collection}/kubernetes"), &Value::Null).await.0, 200);
        assert_eq!(events.brief().await.0, "DELETED", "{collection}");
        assert_eq!(events.brief().await.0, "ADDED", "{collection}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn where_addresses_come_from_is_told() {
    let api = Api::new().await;
    let (code, cidr) = api.get("/apis/networking.k8s.io/v1/servicecidrs/kubernetes").await;
    assert_eq!((code, &cidr["spec"]["cidrs"]), (200, &json!(["10.43.0.0/16"])));
    let condition = &cidr["status"]["conditions"][0];
    assert_eq!((&condition["type"], &condition["status"]), (&json!("Ready"), &json!("True")));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_family_that_the_cluster_lacks_is_refused() {
    let api = Api::new().await;
    for (spec, fault) in [
        (
            json!({"ipFamilies": ["IPv6"]}),
            "spec.ipFamilies[0]: Invalid value: \"IPv6\": not configured on this cluster",
        ),
        (
            json!({"ipFamilyPolicy": "RequireDualStack"}),
            "spec.ipFamilyPolicy: Invalid value: \"RequireDualStack\": this cluster is not configured for dual-stack services",
        ),
        (
            json!({"clusterIP": "fd00::1"}),
            "spec.clusterIPs[0]: Invalid value: [\"fd00::1\"]: IPv6 is not configured on this cluster",
        ),
    ] {
        let (code, status) = api.post(SERVICES, &service("s", spec)).await;
        assert_eq!((code, &status["message"]), (422, &json!(format!("Service \"s\" is invalid: {fault}"))));
    }
    let preferred = api.made(SERVICES, &service("p", json!({"ipFamilyPolicy": "PreferDualStack"}))).await;
    assert_eq!(preferred["spec"]["ipFamilies"], json!(["IPv4"]));
    // Without a selector it may point anywhere.
    let anywhere = api.made(SERVICES, &service("h", json!({"clusterIP": "None"}))).await;
    assert_eq!(
        (&anywhere["spec"]["ipFamilyPolicy"], &anywhere["spec"]["ipFamilies"]),
        (&json!("RequireDualStack"), &json!(["IPv4", "IPv6"]))
    );
    let (code, same) = api.put(&format!("{SERVICES}/h"), &anywhere).await;
    assert_eq!((code, &same["spec"]), (200, &anywhere["spec"]));
}
