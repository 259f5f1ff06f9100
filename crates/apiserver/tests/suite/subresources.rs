use serde_json::{Value, json};

use super::client::{Api, revision};

const PODS: &str = "/api/v1/namespaces/default/pods";
const DEPLOYMENTS: &str = "/apis/apps/v1/namespaces/default/deployments";

async fn with_pod() -> Api {
    let api = Api::new().await;
    api.made("/api/v1/namespaces/default/serviceaccounts", &json!({"metadata": {"name": "default"}})).await;
    let pod = json!({"metadata": {"name": "p", "labels": {"app": "a"}}, "spec": {"containers": [{"name": "c", "image": "i"}]}});
    api.made(PODS, &pod).await;
    api
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pod_is_bound_once() {
    let api = with_pod().await;
    let binding = |node: &str| json!({"apiVersion": "v1", "kind": "Binding", "metadata": {"name": "p"}, "target": {"kind": "Node", "name": node}});
    let (code, status) = api.post(&format!("{PODS}/p/binding"), &binding("n1")).await;
    assert_eq!((code, &status["status"]), (201, &json!("Success")));
    let (_, pod) = api.get(&format!("{PODS}/p")).await;
    assert_eq!(pod["spec"]["nodeName"], "n1");
    let condition = &pod["status"]["conditions"][0];
    assert_eq!((&condition["type"], &condition["status"]), (&json!("PodScheduled"), &json!("True")));
    let (code, status) = api.post(&format!("{PODS}/p/binding"), &binding("n2")).await;
    assert_eq!(code, 409);
    assert_eq!(
        status["message"],
        "Operation cannot be fulfilled on pods/binding \"p\": pod p is already assigned to node \"n1\""
    );
    assert_eq!(
        api.post(&format!("{PODS}/nope/binding"), &json!({"target": {"kind": "Node", "name": "n"}})).await.0,
        404
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_status_and_the_rest_change_apart() {
    let api = with_pod().await;
    let (_, pod) = api.get(&format!("{PODS}/p")).await;
    let mut changed = pod.clone();
    changed["status"]["phase"] = "Running".into();
    changed["spec"]["containers"][0]["image"] = "other".into();
    changed["metadata"]["resourceVersion"] = Value::Null;
    let (code, through_status) = api.put(&format!("{PODS}/p/status"), &changed).await;
    assert_eq!(code, 200, "{through_status}");
    assert_eq!(
        (&through_status["status"]["phase"], &through_status["spec"]["containers"][0]["image"]),
        (&json!("Running"), &json!("i"))
    );
    changed["status"]["phase"] = "Failed".into();
    let (code, through_main) = api.put(&format!("{PODS}/p"), &changed).await;
    assert_eq!(code, 200, "{through_main}");
    assert_eq!(
        (&through_main["status"]["phase"], &through_main["spec"]["containers"][0]["image"]),
        (&json!("Running"), &json!("other"))
    );
    let (code, patched) = api
        .patch(
            "strategic",
            &format!("{PODS}/p/status"),
            &json!({"status": {"conditions": [{"type": "Ready", "status": "True"}]}}),
        )
        .await;
    assert_eq!(code, 200);
    assert_eq!(patched["status"]["phase"], "Running");
    assert!(
        patched["status"]["conditions"].as_array().is_some_and(|c| c.iter().any(|c| c["type"] == "Ready")),
        "{patched}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_scale_shows_and_changes_the_replicas() {
    let api = Api::new().await;
    let spec = json!({
        "replicas": 2, "selector": {"matchLabels": {"a": "b"}},
        "template": {"metadata": {"labels": {"a": "b"}}, "spec": {"containers": [{"name": "c", "image": "i"}]}},
    });
    let made = api.made(DEPLOYMENTS, &json!({"metadata": {"name": "d"}, "spec": spec})).await;
    let path = format!("{DEPLOYMENTS}/d/scale");
    let (code, scale) = api.get(&path).await;
    assert_eq!(
        (code, &scale["kind"], &scale["spec"]["replicas"], &scale["status"]["selector"]),
        (200, &json!("Scale"), &json!(2), &json!("a=b"))
    );
    let mut more = scale.clone();
    more["spec"]["replicas"] = 5.into();
    let (code, answer) = api.put(&path, &more).await;
    assert_eq!((code, &answer["spec"]["replicas"]), (200, &json!(5)), "{answer}");
    assert_eq!(api.put(&path, &more).await.0, 409, "the version is stale now");
    let (code, answer) = api.patch("merge", &path, &json!({"spec": {"replicas": 1}})).await;
    assert_eq!((code, &answer["spec"]["replicas"]), (200, &json!(1)));
    let (_, deployment) = api.get(&format!("{DEPLOYMENTS}/d")).await;
    assert_eq!(deployment["spec"]["replicas"], 1);
    assert!(deployment["metadata"]["generation"].as_i64() > made["metadata"]["generation"].as_i64());
    assert_eq!(api.patch("merge", &path, &json!({"spec": {"replicas": -1}})).await.0, 422);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_eviction_asks_the_budget() {
    let api = with_pod().await;
    let binding = json!({"metadata": {"name": "p"}, "target": {"kind": "Node", "name": "n"}});
    api.made(&format!("{PODS}/p/binding"), &binding).await;
    api.patch("merge", &format!("{PODS}/p/status"), &json!({"status": {"phase": "Running"}})).await;
    let budgets = "/apis/policy/v1/namespaces/default/poddisruptionbudgets";
    api.made(
        budgets,
        &json!({"metadata": {"name": "b"}, "spec": {"minAvailable": 1, "selector": {"matchLabels": {"app": "a"}}}}),
    )
    .await;
    let status = json!({"status": {"observedGeneration": 1, "disruptionsAllowed": 0, "currentHealthy": 1, "desiredHealthy": 1, "expectedPods": 1}});
    let (code, answer) = api.patch("merge", &format!("{budgets}/b/status"), &status).await;
    assert_eq!(code, 200, "{answer}");
    let eviction =
        json!({"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": "p", "namespace": "default"}});
    let (code, refused) = api.post(&format!("{PODS}/p/eviction"), &eviction).await;
    assert_eq!(
        (code, &refused["message"]),
        (429, &json!("Cannot evict pod as it would violate the pod's disruption budget."))
    );
    assert_eq!(
        refused["details"]["causes"][0]["message"],
        "The disruption budget b needs 1 healthy pods and has 1 currently"
    );
    api.patch("merge", &format!("{budgets}/b/status"), &json!({"status": {"disruptionsAllowed": 1}})).await;
    let (code, answer) = api.post(&format!("{PODS}/p/eviction"), &eviction).await;
    assert_eq!(code, 201, "{answer}");
    let (_, pod) = api.get(&format!("{PODS}/p")).await;
    assert!(pod["metadata"]["deletionTimestamp"].is_string());
    let (_, budget) = api.get(&format!("{budgets}/b")).await;
    assert_eq!(budget["status"]["disruptionsAllowed"], 0);
    assert!(budget["status"]["disruptedPods"]["p"].is_string());
}

#[tokio::test(flavor = "multi_thread")]
async fn containers_for_debugging_are_added_and_never_taken_away() {
    let api = with_pod().await;
    let path = format!("{PODS}/p/ephemeralcontainers");
    let add = json!({"spec": {"ephemeralContainers": [{"name": "debug", "image": "busybox"}]}});
    let (code, pod) = api.patch("strategic", &path, &add).await;
    assert_eq!(code, 200, "{pod}");
    assert_eq!(pod["spec"]["ephemeralContainers"][0]["imagePullPolicy"], "IfNotPresent");
    let (_, before) = api.get(&format!("{PODS}/p")).await;
    let (code, status) = api.patch("merge", &path, &json!({"spec": {"ephemeralContainers": []}})).await;
    assert_eq!(code, 422, "{status}");
    let (_, after) = api.get(&format!("{PODS}/p")).await;
    assert_eq!(revision(&before), revision(&after));
}
