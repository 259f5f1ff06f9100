use serde_json::{Value, json};

use super::client::Api;

const PODS: &str = "/api/v1/namespaces/default/pods";

fn pod() -> Value {
    json!({"metadata": {"name": "p"}, "spec": {"containers": [{"name": "c", "image": "i"}]}})
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pod_gets_its_account_its_token_its_tolerations_and_its_priority() {
    let api = Api::new().await;
    let (code, status) = api.post(PODS, &pod()).await;
    assert_eq!(code, 403);
    assert_eq!(
        status["message"],
        "pods \"p\" is forbidden: error looking up service account default/default: serviceaccount \"default\" not found"
    );
    let account = json!({"metadata": {"name": "default"}, "imagePullSecrets": [{"name": "pull"}]});
    // A namespace's account comes a moment after the namespace: the pod waits for it.
    let pod = pod();
    let account = api.made("/api/v1/namespaces/default/serviceaccounts", &account);
    let (made, _) = futures::join!(api.made(PODS, &pod), account);
    let spec = &made["spec"];
    assert_eq!((&spec["serviceAccountName"], &spec["priority"]), (&json!("default"), &json!(0)));
    assert_eq!(spec["imagePullSecrets"], json!([{"name": "pull"}]));
    let volume = spec["volumes"][0]["name"].as_str().expect("a volume for the token");
    assert!(volume.starts_with("kube-api-access-"));
    assert_eq!(
        spec["containers"][0]["volumeMounts"],
        json!([{"name": volume, "readOnly": true, "mountPath": "/var/run/secrets/kubernetes.io/serviceaccount"}])
    );
    let keys: Vec<&str> =
        spec["tolerations"].as_array().into_iter().flatten().filter_map(|t| t["key"].as_str()).collect();
    assert_eq!(keys, ["node.kubernetes.io/not-ready", "node.kubernetes.io/unreachable"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pod_may_do_without_a_token() {
    let api = Api::new().await;
    api.made("/api/v1/namespaces/default/serviceaccounts", &json!({"metadata": {"name": "default"}})).await;
    let mut without = pod();
    without["spec"]["automountServiceAccountToken"] = false.into();
    let made = api.made(PODS, &without).await;
    assert!(made["spec"]["volumes"].is_null());
    // What is given besides is given to a replacement, too.
    without["spec"]["serviceAccountName"] = "default".into();
    without["spec"]["containers"][0]["image"] = "j".into();
    let (code, replaced) = api.put(&format!("{PODS}/p"), &without).await;
    assert_eq!(code, 200, "{replaced}");
    assert_eq!(replaced["spec"]["containers"][0]["image"], "j");
    for given in ["tolerations", "priority", "preemptionPolicy"] {
        assert_eq!(replaced["spec"][given], made["spec"][given], "{given}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn priority_comes_from_the_class() {
    let api = Api::new().await;
    api.made("/api/v1/namespaces/default/serviceaccounts", &json!({"metadata": {"name": "default"}})).await;
    let mut wanted = pod();
    wanted["spec"]["priorityClassName"] = "system-node-critical".into();
    let made = api.made(PODS, &wanted).await;
    assert_eq!(made["spec"]["priority"], 2_000_001_000);
    wanted["metadata"]["name"] = "q".into();
    wanted["spec"]["priorityClassName"] = "none".into();
    let (code, status) = api.post(PODS, &wanted).await;
    assert_eq!(
        (code, &status["message"]),
        (403, &json!("pods \"q\" is forbidden: no PriorityClass with name none was found"))
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_made_in_a_namespace_that_is_missing() {
    let api = Api::new().await;
    let (code, status) = api.post("/api/v1/namespaces/nope/configmaps", &json!({"metadata": {"name": "a"}})).await;
    assert_eq!((code, &status["message"]), (404, &json!("namespaces \"nope\" not found")));
}
