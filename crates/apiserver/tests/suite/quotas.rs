//! What a namespace may take, however many ask at once.

use futures::future::join_all;
use serde_json::{Value, json};

use super::client::Api;

const PODS: &str = "/api/v1/namespaces/default/pods";
const MAPS: &str = "/api/v1/namespaces/default/configmaps";
const QUOTAS: &str = "/api/v1/namespaces/default/resourcequotas";

/// A quota whose usage is known, as the quota controller leaves it.
async fn with_quota(spec: Value) -> Api {
    let api = Api::new().await;
    api.made("/api/v1/namespaces/default/serviceaccounts", &json!({"metadata": {"name": "default"}})).await;
    let used: serde_json::Map<String, Value> =
        spec["hard"].as_object().into_iter().flatten().map(|(name, _)| (name.clone(), json!("0"))).collect();
    api.made(QUOTAS, &json!({"metadata": {"name": "q"}, "spec": spec})).await;
    let status = json!({"status": {"hard": spec["hard"], "used": used}});
    let (code, answer) = api.patch("merge", &format!("{QUOTAS}/q/status"), &status).await;
    assert_eq!(code, 200, "{answer}");
    api
}

async fn used(api: &Api) -> Value {
    api.get(&format!("{QUOTAS}/q")).await.1["status"]["used"].clone()
}

fn pod(name: &str, resources: Value) -> Value {
    json!({"metadata": {"name": name}, "spec": {"containers": [{"name": "c", "image": "i", "resources": resources}]}})
}

#[tokio::test(flavor = "multi_thread")]
async fn creates_at_once_never_overshoot() {
    let api = with_quota(json!({"hard": {"count/configmaps": "7"}})).await;
    let creates = (0..30).map(|n| {
        let api = &api;
        async move { api.post(MAPS, &json!({"metadata": {"name": format!("m{n}")}})).await }
    });
    let answers = join_all(creates).await;
    assert_eq!(answers.iter().filter(|(code, _)| *code == 201).count(), 7);
    for (code, status) in answers.iter().filter(|(code, _)| *code != 201) {
        assert_eq!((*code, &status["reason"]), (403, &json!("Forbidden")), "{status}");
        let message = status["message"].as_str().unwrap_or("");
        assert!(
            message.ends_with(
                "is forbidden: exceeded quota: q, requested: count/configmaps=1, used: count/configmaps=7, limited: count/configmaps=7"
            ),
            "{message}"
        );
    }
    assert_eq!(used(&api).await, json!({"count/configmaps": "7"}));
}

#[tokio::test(flavor = "multi_thread")]
async fn pods_are_charged_what_they_ask_for() {
    let api = with_quota(json!({"hard": {"pods": "5", "requests.cpu": "1", "limits.memory": "1Gi"}})).await;
    let (code, status) = api.post(PODS, &pod("silent", json!({}))).await;
    assert_eq!(
        (code, &status["message"]),
        (
            403,
            &json!(
                "pods \"silent\" is forbidden: failed quota: q: must specify limits.memory for: c; requests.cpu for: c"
            )
        )
    );
    let half = json!({"requests": {"cpu": "600m"}, "limits": {"memory": "256Mi"}});
    let (code, _) = api.post(&format!("{PODS}?dryRun=All"), &pod("a", half.clone())).await;
    assert_eq!(code, 201);
    assert_eq!(used(&api).await["pods"], "0", "a dry run takes nothing");
    api.made(PODS, &pod("a", half.clone())).await;
    assert_eq!(used(&api).await, json!({"limits.memory": "256Mi", "pods": "1", "requests.cpu": "600m"}));
    let (code, status) = api.post(PODS, &pod("b", half)).await;
    assert_eq!(
        (code, &status["message"]),
        (
            403,
            &json!(
                "pods \"b\" is forbidden: exceeded quota: q, requested: requests.cpu=600m, used: requests.cpu=600m, limited: requests.cpu=1"
            )
        )
    );
    assert_eq!(used(&api).await["pods"], "1");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_resize_is_charged_the_difference() {
    let api = with_quota(json!({"hard": {"requests.cpu": "1"}})).await;
    api.made(PODS, &pod("a", json!({"requests": {"cpu": "600m"}}))).await;
    let resize = |cpu: &str| json!({"spec": {"containers": [{"name": "c", "resources": {"requests": {"cpu": cpu}}}]}});
    let (code, answer) = api.patch("strategic", &format!("{PODS}/a/resize"), &resize("900m")).await;
    assert_eq!(code, 200, "{answer}");
    assert_eq!(used(&api).await["requests.cpu"], "900m");
    let (code, answer) = api.patch("strategic", &format!("{PODS}/a/resize"), &resize("1100m")).await;
    assert_eq!(
        (code, &answer["message"]),
        (
            403,
            &json!(
                "pods \"a\" is forbidden: exceeded quota: q, requested: requests.cpu=200m, used: requests.cpu=900m, limited: requests.cpu=1"
            )
        )
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn scopes_choose_what_is_charged() {
    let selector = json!({"matchExpressions": [{"scopeName": "PriorityClass", "operator": "In", "values": ["high"]}]});
    let api = with_quota(json!({"hard": {"pods": "1"}, "scopeSelector": selector})).await;
    let class = json!({"metadata": {"name": "high"}, "value": 10});
    api.made("/apis/scheduling.k8s.io/v1/priorityclasses", &class).await;
    for name in ["a", "b"] {
        api.made(PODS, &pod(name, json!({}))).await;
    }
    assert_eq!(used(&api).await["pods"], "0");
    let mut high = pod("c", json!({}));
    high["spec"]["priorityClassName"] = "high".into();
    api.made(PODS, &high).await;
    high["metadata"]["name"] = "d".into();
    let (code, status) = api.post(PODS, &high).await;
    assert_eq!(
        (code, &status["message"]),
        (403, &json!("pods \"d\" is forbidden: exceeded quota: q, requested: pods=1, used: pods=1, limited: pods=1"))
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn other_groups_are_counted_by_their_names() {
    let api = with_quota(json!({"hard": {"count/deployments.apps": "1", "services.nodeports": "1"}})).await;
    let spec = json!({
        "selector": {"matchLabels": {"a": "b"}},
        "template": {"metadata": {"labels": {"a": "b"}}, "spec": {"containers": [{"name": "c", "image": "i"}]}},
    });
    let deployments = "/apis/apps/v1/namespaces/default/deployments";
    api.made(deployments, &json!({"metadata": {"name": "a"}, "spec": spec})).await;
    let (code, status) = api.post(deployments, &json!({"metadata": {"name": "b"}, "spec": spec})).await;
    assert_eq!(
        (code, &status["message"]),
        (
            403,
            &json!(
                "deployments.apps \"b\" is forbidden: exceeded quota: q, requested: count/deployments.apps=1, used: count/deployments.apps=1, limited: count/deployments.apps=1"
            )
        )
    );
    let services = "/api/v1/namespaces/default/services";
    let service = |kind: &str| json!({"metadata": {"name": "s"}, "spec": {"type": kind, "ports": [{"name": "a", "port": 1}, {"name": "b", "port": 2}]}});
    api.made(services, &service("ClusterIP")).await;
    let (code, status) = api.patch("merge", &format!("{services}/s"), &json!({"spec": {"type": "NodePort"}})).await;
    assert_eq!(
        (code, &status["message"]),
        (
            403,
            &json!(
                "services \"s\" is forbidden: exceeded quota: q, requested: services.nodeports=2, used: services.nodeports=0, limited: services.nodeports=1"
            )
        )
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_quota_whose_usage_is_not_known_lets_nothing_in() {
    let api = with_quota(json!({"hard": {"pods": "5"}})).await;
    api.patch("json", &format!("{QUOTAS}/q/status"), &json!([{"op": "remove", "path": "/status/used"}])).await;
    let (code, status) = api.post(PODS, &pod("a", json!({}))).await;
    assert_eq!(
        (code, &status["message"]),
        (403, &json!("pods \"a\" is forbidden: status unknown for quota: q, resources: pods"))
    );
}
