//! Namespaces say by labels what pods may in them.

use http::Method;
use serde_json::{Value, json};

use super::client::Api;

const NAMESPACES: &str = "/api/v1/namespaces";
const PODS: &str = "/api/v1/namespaces/n/pods";

/// Makes the namespace `n` with such labels, and its default account.
async fn namespace(api: &Api, labels: &[(&str, &str)]) {
    let labels: serde_json::Map<String, Value> =
        labels.iter().map(|(name, value)| (format!("pod-security.kubernetes.io/{name}"), (*value).into())).collect();
    api.made(NAMESPACES, &json!({"metadata": {"name": "n", "labels": labels}})).await;
    api.made("/api/v1/namespaces/n/serviceaccounts", &json!({"metadata": {"name": "default"}})).await;
}

fn pod(name: &str, spec: Value) -> Value {
    let mut pod = json!({"metadata": {"name": name}, "spec": {"containers": [{"name": "c", "image": "i"}]}});
    for (field, value) in spec.as_object().into_iter().flatten() {
        pod["spec"][field] = value.clone();
    }
    pod
}

/// Sends, and returns the code and the warnings.
async fn warned(api: &Api, method: Method, path: &str, body: &Value) -> (u16, Vec<String>) {
    let kind = if method == Method::PATCH { "application/merge-patch+json" } else { "application/json" };
    let response = api.send(method, path, &[("content-type", kind)], body.to_string()).await;
    let warnings = response.headers().get_all("warning").iter().map(|w| w.to_str().expect("text").to_owned());
    (response.status().as_u16(), warnings.collect())
}

fn warning(text: &str) -> String {
    format!("299 - \"{}\"", text.replace('"', "\\\""))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pod_beyond_the_limit_is_refused_with_every_reason() {
    let api = Api::new().await;
    namespace(&api, &[("enforce", "restricted"), ("enforce-version", "v1.30")]).await;
    let (code, status) = api.post(PODS, &pod("p", json!({"hostNetwork": true}))).await;
    assert_eq!((code, &status["reason"]), (403, &json!("Forbidden")));
    assert_eq!(
        status["message"],
        "pods \"p\" is forbidden: violates PodSecurity \"restricted:v1.30\": host namespaces (hostNetwork=true), \
         allowPrivilegeEscalation != false (container \"c\" must set securityContext.allowPrivilegeEscalation=false), \
         unrestricted capabilities (container \"c\" must set securityContext.capabilities.drop=[\"ALL\"]), \
         runAsNonRoot != true (pod or container \"c\" must set securityContext.runAsNonRoot=true), \
         seccompProfile (pod or container \"c\" must set securityContext.seccompProfile.type to \"RuntimeDefault\" or \"Localhost\")"
    );
    let modest = json!({"securityContext": {"runAsNonRoot": true, "seccompProfile": {"type": "RuntimeDefault"}},
        "containers": [{"name": "c", "image": "i",
            "securityContext": {"allowPrivilegeEscalation": false, "capabilities": {"drop": ["ALL"]}}}]});
    api.made(PODS, &pod("p", modest)).await;
    // What is added to a running pod is looked at, too.
    let debugger = json!({"spec": {"ephemeralContainers": [{"name": "d", "image": "i"}]}});
    let (code, status) = api.patch("strategic", &format!("{PODS}/p/ephemeralcontainers"), &debugger).await;
    assert_eq!(code, 403, "{status}");
    assert!(status["message"].as_str().is_some_and(|m| m.contains("container \"d\" must set")), "{status}");
    // Other changes are nobody's business here.
    let (code, status) = api.patch("merge", &format!("{PODS}/p"), &json!({"metadata": {"labels": {"a": "b"}}})).await;
    assert_eq!(code, 200, "{status}");
}

#[tokio::test(flavor = "multi_thread")]
async fn users_are_warned_of_templates_whose_pods_would_be_refused() {
    let api = Api::new().await;
    namespace(&api, &[("enforce", "baseline")]).await;
    let template = json!({"metadata": {"labels": {"a": "b"}}, "spec": {"hostPID": true, "containers": [{"name": "c", "image": "i"}]}});
    let spec = json!({"selector": {"matchLabels": {"a": "b"}}, "template": template});
    let text = "would violate PodSecurity \"baseline:latest\": host namespaces (hostPID=true)";
    let deployment = json!({"metadata": {"name": "d"}, "spec": spec});
    let made = warned(&api, Method::POST, "/apis/apps/v1/namespaces/n/deployments", &deployment).await;
    assert_eq!(made, (201, vec![warning(text)]));
    let job = json!({"template": {"spec": {"restartPolicy": "Never", "hostPID": true, "containers": [{"name": "c", "image": "i"}]}}});
    let cron = json!({"metadata": {"name": "c"}, "spec": {"schedule": "* * * * *", "jobTemplate": {"spec": job}}});
    let made = warned(&api, Method::POST, "/apis/batch/v1/namespaces/n/cronjobs", &cron).await;
    assert_eq!(made, (201, vec![warning(text)]));
    // A limit of its own for warnings.
    let label = json!({"metadata": {"labels": {"pod-security.kubernetes.io/warn": "privileged"}}});
    assert_eq!(warned(&api, Method::PATCH, "/api/v1/namespaces/n", &label).await, (200, vec![]));
    let scaled = json!({"spec": {"replicas": 0}});
    let patched = warned(&api, Method::PATCH, "/apis/apps/v1/namespaces/n/deployments/d", &scaled).await;
    assert_eq!(patched, (200, vec![]));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stricter_limit_warns_of_the_pods_that_are_there_and_wrong_labels_are_refused() {
    let api = Api::new().await;
    namespace(&api, &[]).await;
    for name in ["b", "a", "c"] {
        api.made(PODS, &pod(name, json!({"hostIPC": true}))).await;
    }
    let privileged = json!({"containers": [{"name": "c", "image": "i", "securityContext": {"privileged": true}}]});
    api.made(PODS, &pod("d", privileged)).await;
    let label = |value: &str| json!({"metadata": {"labels": {"pod-security.kubernetes.io/enforce": value}}});
    let stricter = warned(&api, Method::PATCH, "/api/v1/namespaces/n", &label("baseline")).await;
    let lines = [
        "existing pods in namespace \"n\" violate the new PodSecurity enforce level \"baseline:latest\"",
        "a (and 2 other pods): host namespaces",
        "d: privileged",
    ];
    assert_eq!(stricter, (200, lines.map(warning).to_vec()));
    let eased = warned(&api, Method::PATCH, "/api/v1/namespaces/n", &label("privileged")).await;
    assert_eq!(eased, (200, vec![]));
    let (code, status) = api.patch("merge", "/api/v1/namespaces/n", &label("none")).await;
    assert_eq!(code, 422);
    assert_eq!(
        status["message"],
        "Namespace \"n\" is invalid: metadata.labels[pod-security.kubernetes.io/enforce]: Invalid value: \"none\": \
         must be one of privileged, baseline, restricted"
    );
}
