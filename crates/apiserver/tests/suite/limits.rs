//! LimitRanges, RuntimeClasses and PriorityClasses: what pods get of them and what they are refused for.

use serde_json::{Value, json};

use super::client::Api;

const PODS: &str = "/api/v1/namespaces/default/pods";
const RANGES: &str = "/api/v1/namespaces/default/limitranges";
const PRIORITIES: &str = "/apis/scheduling.k8s.io/v1/priorityclasses";

async fn with_range(limits: Value) -> Api {
    let api = Api::new().await;
    api.made("/api/v1/namespaces/default/serviceaccounts", &json!({"metadata": {"name": "default"}})).await;
    api.made(RANGES, &json!({"metadata": {"name": "r"}, "spec": {"limits": limits}})).await;
    api
}

fn pod(resources: Value) -> Value {
    json!({"metadata": {"name": "p"}, "spec": {"containers": [{"name": "c", "image": "i", "resources": resources}]}})
}

#[tokio::test(flavor = "multi_thread")]
async fn containers_get_the_defaults_of_the_range() {
    let defaults =
        json!({"type": "Container", "default": {"cpu": "500m", "memory": "512Mi"}, "defaultRequest": {"cpu": "100m"}});
    let api = with_range(json!([defaults])).await;
    let mut asked = pod(json!({"limits": {"memory": "1Gi"}}));
    asked["spec"]["initContainers"] = json!([{"name": "first", "image": "i"}]);
    let made = api.made(PODS, &asked).await;
    assert_eq!(
        made["spec"]["containers"][0]["resources"],
        json!({"limits": {"memory": "1Gi", "cpu": "500m"}, "requests": {"memory": "1Gi", "cpu": "100m"}})
    );
    assert_eq!(
        made["metadata"]["annotations"]["kubernetes.io/limit-ranger"],
        "LimitRanger plugin set: cpu request for container c; cpu limit for container c; cpu, memory request for init container first; cpu, memory limit for init container first"
    );
    assert_eq!(made["status"]["qosClass"], "Burstable");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_range_does_not_allow_is_refused_with_every_reason() {
    let of_container = json!({"type": "Container", "min": {"memory": "64Mi"}, "max": {"cpu": "2"}, "maxLimitRequestRatio": {"cpu": "4"}});
    let of_pod = json!({"type": "Pod", "max": {"cpu": "3"}});
    for (limits, resources, why) in [
        (
            json!([of_container]),
            json!({"requests": {"cpu": "100m", "memory": "1Mi"}, "limits": {"cpu": "3"}}),
            "[minimum memory usage per Container is 64Mi, but request is 1Mi, maximum cpu usage per Container is 2, but limit is 3, cpu max limit to request ratio per Container is 4, but provided ratio is 30.000000]",
        ),
        (
            json!([{"type": "Container", "min": {"memory": "64Mi"}}]),
            json!({"limits": {"memory": "32Mi"}}),
            "minimum memory usage per Container is 64Mi, but request is 32Mi",
        ),
        (json!([of_pod]), json!({}), "maximum cpu usage per Pod is 3.  No limit is specified"),
        (json!([of_pod]), json!({"limits": {"cpu": "3500m"}}), "maximum cpu usage per Pod is 3, but limit is 3500m"),
    ] {
        let api = with_range(limits).await;
        let (code, status) = api.post(PODS, &pod(resources.clone())).await;
        assert_eq!((code, &status["message"]), (403, &json!(format!("pods \"p\" is forbidden: {why}"))), "{resources}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn claims_are_neither_too_small_nor_too_large() {
    let limit = json!({"type": "PersistentVolumeClaim", "min": {"storage": "1Gi"}, "max": {"storage": "2Gi"}});
    let api = with_range(json!([limit])).await;
    let claims = "/api/v1/namespaces/default/persistentvolumeclaims";
    let claim = |size: &str| json!({"metadata": {"name": "d"}, "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": size}}}});
    for (size, why) in [
        ("500Mi", "minimum storage usage per PersistentVolumeClaim is 1Gi, but request is 500Mi"),
        ("3Gi", "maximum storage usage per PersistentVolumeClaim is 2Gi, but request is 3Gi"),
    ] {
        let (code, status) = api.post(claims, &claim(size)).await;
        let wanted = format!("persistentvolumeclaims \"d\" is forbidden: {why}");
        assert_eq!((code, &status["message"]), (403, &json!(wanted)));
    }
    api.made(claims, &claim("1Gi")).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_runtime_class_gives_its_overhead_and_its_place() {
    let api = with_range(json!([])).await;
    let class = json!({
        "metadata": {"name": "vm"}, "handler": "vm", "overhead": {"podFixed": {"cpu": "250m", "memory": "64Mi"}},
        "scheduling": {"nodeSelector": {"vm": "yes"}, "tolerations": [{"key": "vm", "operator": "Exists"}]},
    });
    api.made("/apis/node.k8s.io/v1/runtimeclasses", &class).await;
    let mut asked = pod(json!({}));
    asked["spec"]["runtimeClassName"] = "vm".into();
    asked["spec"]["nodeSelector"] = json!({"zone": "a"});
    let made = api.made(PODS, &asked).await;
    assert_eq!(made["spec"]["overhead"], json!({"cpu": "250m", "memory": "64Mi"}));
    assert_eq!(made["spec"]["nodeSelector"], json!({"zone": "a", "vm": "yes"}));
    assert!(made["spec"]["tolerations"].as_array().is_some_and(|all| all.iter().any(|t| t["key"] == "vm")));
    asked["metadata"]["name"] = "q".into();
    for (field, value, why) in [
        ("overhead", json!({"cpu": "1"}), "pod rejected: Pod's Overhead doesn't match RuntimeClass's defined Overhead"),
        ("runtimeClassName", json!("none"), "pod rejected: RuntimeClass \"none\" not found"),
        (
            "nodeSelector",
            json!({"vm": "no"}),
            "conflict: runtimeClass.scheduling.nodeSelector[vm] = yes; pod.spec.nodeSelector[vm] = no",
        ),
    ] {
        let mut wrong = asked.clone();
        wrong["spec"][field] = value;
        let (code, status) = api.post(PODS, &wrong).await;
        assert_eq!((code, &status["message"]), (403, &json!(format!("pods \"q\" is forbidden: {why}"))));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn there_is_one_default_priority() {
    let api = with_range(json!([])).await;
    let class = |name: &str| json!({"metadata": {"name": name}, "value": 100, "globalDefault": true, "preemptionPolicy": "Never"});
    api.made(PRIORITIES, &class("usual")).await;
    let (code, status) = api.post(PRIORITIES, &class("other")).await;
    assert_eq!(
        (code, &status["message"]),
        (
            403,
            &json!(
                "priorityclasses.scheduling.k8s.io \"other\" is forbidden: PriorityClass usual is already marked as default. Only one default can exist"
            )
        )
    );
    let made = api.made(PODS, &pod(json!({}))).await;
    let spec = &made["spec"];
    assert_eq!(
        (&spec["priorityClassName"], &spec["priority"], &spec["preemptionPolicy"]),
        (&json!("usual"), &json!(100), &json!("Never"))
    );
    let mut wrong = pod(json!({}));
    wrong["metadata"]["name"] = "q".into();
    wrong["spec"]["preemptionPolicy"] = "PreemptLowerPriority".into();
    let (code, status) = api.post(PODS, &wrong).await;
    assert_eq!(
        (code, &status["message"]),
        (
            403,
            &json!(
                "pods \"q\" is forbidden: the string value of PreemptionPolicy (PreemptLowerPriority) must not be provided in pod spec; priority admission controller computed Never from the given PriorityClass name"
            )
        )
    );
}
