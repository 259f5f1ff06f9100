//! Every kind with every verb that it says it has.

use api::{catalogue, resource::Resource};
use http_body_util::BodyExt;
use serde_json::{Value, json};

use super::{
    client::{Api, revision},
    manifests,
};

fn collection(resource: &Resource) -> String {
    let root = if resource.group.is_empty() {
        "/api/v1".to_owned()
    } else {
        format!("/apis/{}/{}", resource.group, resource.version)
    };
    let namespace = if resource.namespaced { "/namespaces/default" } else { "" };
    format!("{root}{namespace}/{}", resource.plural)
}

#[tokio::test(flavor = "multi_thread")]
async fn every_kind_can_be_created_read_changed_watched_and_deleted() {
    let api = Api::new().await;
    api.made("/api/v1/namespaces/default/serviceaccounts", &json!({"metadata": {"name": "default"}})).await;
    let mut walked = 0;
    let mut faults = Vec::new();
    for resource in catalogue::all().iter().filter(|r| r.allows("create") && r.allows("delete")) {
        let what = format!("{} {}", resource.api_version, resource.kind);
        match walk(&api, resource).await {
            Ok(()) => walked += 1,
            Err(fault) => faults.push(format!("{what}: {fault}")),
        }
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
    assert!(walked > 55, "only {walked} kinds were walked");
}

async fn walk(api: &Api, resource: &Resource) -> Result<(), String> {
    let path = collection(resource);
    let name = manifests::name(resource.group, resource.kind);
    let mut object = manifests::body(resource.group, resource.kind).ok_or("it has no manifest in this test")?;
    object["apiVersion"] = resource.api_version.into();
    object["kind"] = resource.kind.into();
    object["metadata"] = json!({"name": name, "labels": {"walk": "yes"}});
    let check = |what: &str, wanted: u16, (code, answer): (u16, Value)| -> Result<Value, String> {
        if code == wanted { Ok(answer) } else { Err(format!("{what}: {code} {answer}")) }
    };
    check("dry run", 201, api.post(&format!("{path}?dryRun=All"), &object).await)?;
    let one = format!("{path}/{name}");
    check("get after a dry run", 404, api.get(&one).await)?;
    let before = check("list", 200, api.get(&path).await)?;
    let mut events =
        api.watch(&format!("{path}?watch=true&labelSelector=walk%3Dyes&resourceVersion={}", revision(&before))).await;
    let made = check("create", 201, api.post(&path, &object).await)?;
    for field in ["uid", "creationTimestamp", "resourceVersion"] {
        if !made["metadata"][field].is_string() {
            return Err(format!("{field} is not set"));
        }
    }
    check("create again", 409, api.post(&path, &object).await)?;
    let got = check("get", 200, api.get(&one).await)?;
    if got != made {
        return Err(format!("get gives {got}, create gave {made}"));
    }
    let list = check("list", 200, api.get(&format!("{path}?labelSelector=walk%3Dyes")).await)?;
    if list["kind"] != resource.list_kind() || list["items"].as_array().map(Vec::len) != Some(1) {
        return Err(format!("list gives {list}"));
    }
    let mut changed = got.clone();
    changed["metadata"]["annotations"] = json!({"put": "1"});
    let put = check("update", 200, api.put(&one, &changed).await)?;
    if revision(&put) <= revision(&got) {
        return Err("an update does not raise the resourceVersion".into());
    }
    check("stale update", 409, api.put(&one, &changed).await)?;
    for (kind, patch) in [
        ("merge", json!({"metadata": {"annotations": {"merge": "1"}}})),
        ("strategic", json!({"metadata": {"annotations": {"strategic": "1"}}})),
        ("json", json!([{"op": "add", "path": "/metadata/annotations/json", "value": "1"}])),
    ] {
        let patched = check(kind, 200, api.patch(kind, &one, &patch).await)?;
        if patched["metadata"]["annotations"][kind] != "1" {
            return Err(format!("a {kind} patch gives {patched}"));
        }
    }
    let applied = json!({"apiVersion": resource.api_version, "kind": resource.kind, "metadata": {"name": name, "annotations": {"apply": "1"}}});
    let patched = check("apply", 200, api.patch("apply", &format!("{one}?fieldManager=walker"), &applied).await)?;
    if patched["metadata"]["annotations"]["apply"] != "1" {
        return Err(format!("apply gives {patched}"));
    }
    if resource.subresource("status").is_some() {
        let current = check("get", 200, api.get(&one).await)?;
        check("get status", 200, api.get(&format!("{one}/status")).await)?;
        check("put status", 200, api.put(&format!("{one}/status"), &current).await)?;
    }
    let table =
        api.send(http::Method::GET, &path, &[("accept", "application/json;as=Table;v=v1;g=meta.k8s.io")], "").await;
    let table: Value = serde_json::from_slice(&table.into_body().collect_bytes().await.map_err(|e| e.to_string())?)
        .map_err(|e| e.to_string())?;
    let cells = table["rows"][0]["cells"].as_array().map_or(0, Vec::len);
    if table["kind"] != "Table" || cells == 0 || Some(cells) != table["columnDefinitions"].as_array().map(Vec::len) {
        return Err(format!("its table is {table}"));
    }
    check("delete", 200, api.delete(&one, &json!({"gracePeriodSeconds": 0, "propagationPolicy": "Background"})).await)?;
    if resource.kind == "Namespace" {
        // The namespace controller says when it is empty.
        let finalized = json!({"metadata": {"name": name}, "spec": {}});
        check("finalize", 200, api.put(&format!("{one}/finalize"), &finalized).await)?;
    } else if let (200, left) = api.get(&one).await {
        // Finalizers that the kind brings (claims, volumes) keep it until their controller removes them.
        if left["metadata"]["deletionTimestamp"].is_null() {
            return Err(format!("delete leaves {left}"));
        }
        check(
            "remove the finalizers",
            200,
            api.patch("merge", &one, &json!({"metadata": {"finalizers": null}})).await,
        )?;
    }
    check("get after delete", 404, api.get(&one).await)?;
    let mut seen = Vec::new();
    while seen.last().map(String::as_str) != Some("DELETED") {
        let event = events.next().await.ok_or("the watch ended")?;
        if event["object"]["kind"] != resource.kind || event["object"]["apiVersion"] != resource.api_version {
            return Err(format!("the watch shows {event}"));
        }
        seen.push(event["type"].as_str().unwrap_or("").to_owned());
    }
    if seen.first().map(String::as_str) != Some("ADDED")
        || seen[1..seen.len() - 1].iter().any(|kind| kind != "MODIFIED")
    {
        return Err(format!("the watch shows {seen:?}"));
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn verbs_and_paths_that_a_kind_lacks_are_refused() {
    let api = Api::new().await;
    for (path, code, reason) in [
        ("/api/v1/nonsense", 404, "NotFound"),
        ("/apis/apps/v2/deployments", 404, "NotFound"),
        ("/api/v1/namespaces/default/nodes", 404, "NotFound"),
        ("/api/v1/pods/name-without-namespace", 404, "NotFound"),
        ("/api/v1/namespaces/default/pods/p/nonsense", 404, "NotFound"),
        ("/apis/authentication.k8s.io/v1/tokenreviews", 405, "MethodNotAllowed"),
        ("/nonsense", 404, "NotFound"),
    ] {
        let (got, status) = api.get(path).await;
        assert_eq!((got, status["reason"].as_str()), (code, Some(reason)), "{path}: {status}");
        assert_eq!(status["kind"], "Status");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn discovery_openapi_version_and_health_answer() {
    let api = Api::new().await;
    for path in [
        "/",
        "/api",
        "/api/v1",
        "/apis",
        "/apis/apps",
        "/apis/apps/v1",
        "/version",
        "/openapi/v2",
        "/openapi/v3",
        "/openapi/v3/api/v1",
        "/openapi/v3/apis/apps/v1",
        "/openid/v1/jwks",
        "/.well-known/openid-configuration",
    ] {
        let (code, document) = api.get(path).await;
        assert_eq!(code, 200, "{path}");
        assert!(document.is_object(), "{path}");
    }
    assert_eq!(api.get("/api/v1/namespaces/default/endpoints").await.0, 200);
    for path in ["/healthz", "/livez?verbose", "/readyz", "/readyz/etcd", "/metrics"] {
        let response = api.send(http::Method::GET, path, &[], "").await;
        assert_eq!(response.status(), 200, "{path}");
    }
    assert_eq!(api.get("/api/v1/namespaces/default").await.0, 200);
    let response = api.send(http::Method::GET, "/metrics", &[], "").await;
    let text = response.into_body().collect().await.unwrap().to_bytes();
    let text = String::from_utf8_lossy(&text);
    let of =
        "component=\"apiserver\",dry_run=\"\",group=\"\",resource=\"namespaces\",scope=\"resource\",subresource=\"\"";
    for line in [
        format!("apiserver_request_total{{code=\"200\",{of},verb=\"GET\",version=\"v1\"}} "),
        format!("apiserver_request_duration_seconds_bucket{{{of},verb=\"GET\",version=\"v1\",le=\"+Inf\"}} "),
        "apiserver_current_inflight_requests{request_kind=\"mutating\"} 0\n".to_owned(),
        "apiserver_storage_objects{resource=\"leases.coordination.k8s.io\"} ".to_owned(),
        "apiserver_resource_objects{group=\"coordination.k8s.io\",resource=\"leases\"} ".to_owned(),
        "apiserver_response_sizes_bucket{component=\"apiserver\",group=\"\",resource=\"namespaces\",scope=\"resource\",subresource=\"\",verb=\"GET\",version=\"v1\",le=\"1e+06\"} ".to_owned(),
        "apiserver_requested_deprecated_apis{group=\"\",removed_release=\"\",resource=\"endpoints\",subresource=\"\",version=\"v1\"} 1\n".to_owned(),
        "apiserver_storage_size_bytes{storage_cluster_id=\"etcd-0\"} ".to_owned(),
    ] {
        assert!(text.contains(&line), "{line} is not in {text}");
    }
    assert_eq!(api.get("/healthz/nonsense").await.0, 404);
    let response = api.send(http::Method::GET, "/metrics/slis", &[], "").await;
    let text = response.into_body().collect().await.unwrap().to_bytes();
    let text = String::from_utf8_lossy(&text);
    assert!(text.contains("kubernetes_healthcheck{name=\"etcd\",type=\"readyz\"} 1\n"), "{text}");
    // Asked for twice above, and once by this.
    let total = "kubernetes_healthchecks_total{name=\"etcd\",status=\"success\",type=\"readyz\"} 3\n";
    assert!(text.contains(total), "{text}");
}
