//! Other resources for containers that run.

use serde_json::{Value, json};

use crate::cluster::{Node, PODS, condition, container};

fn declare(node: &Node, name: &str, cpu: &str, policy: Value) -> String {
    node.declare(name, |pod| {
        pod["metadata"]["generation"] = json!(1);
        pod["spec"]["containers"][0]["resources"] =
            json!({"requests": {"cpu": cpu, "memory": "64Mi"}, "limits": {"memory": "64Mi"}});
        pod["spec"]["containers"][0]["resizePolicy"] = policy;
    })
}

fn ask(node: &Node, name: &str, resources: Value) {
    node.api.edit(&format!("{PODS}/{name}"), |pod| {
        pod["metadata"]["generation"] = json!(pod["metadata"]["generation"].as_i64().unwrap_or_default() + 1);
        pod["spec"]["containers"][0]["resources"] = resources;
    });
}

#[tokio::test]
async fn a_running_container_gets_other_limits_in_place() {
    let node = Node::start();
    let uid = declare(&node, "web", "100m", json!([]));
    let before = node.ready("web").await;
    assert_eq!(container(&before)["resources"]["requests"]["cpu"], "100m");
    let wanted = json!({"requests": {"cpu": "200m", "memory": "64Mi"}, "limits": {"cpu": "500m", "memory": "128Mi"}});
    ask(&node, "web", wanted.clone());
    let pod = node.pod("web", |p| (container(p)["resources"] == wanted).then(|| p.clone())).await;
    let status = container(&pod);
    assert_eq!((&status["allocatedResources"], &status["restartCount"]), (&wanted["requests"], &json!(0)));
    let limits = node.fake.spec(&format!("{uid}.0"), "c.0").expect("a container").resources;
    assert_eq!((limits.cpu_shares, limits.cpu_quota, limits.memory_limit), (Some(204), Some(50_000), Some(128 << 20)));
    let resources = r#"{"requests":{"cpu":"200m","memory":"64Mi"},"limits":{"cpu":"500m","memory":"128Mi"}}"#;
    let told: Value = serde_json::from_str(
        node.event("ResizeCompleted").await.strip_prefix("Pod resize completed: ").expect("its words"),
    )
    .expect("JSON");
    let expected: Value = serde_json::from_str(resources).expect("JSON");
    assert_eq!((&told["containers"][0]["resources"], &told["generation"]), (&expected, &json!(2)));
    node.pod("web", |p| condition(p, "PodResizeInProgress").is_empty().then_some(())).await;
}

#[tokio::test]
async fn a_container_that_can_only_be_resized_by_a_restart_is_restarted_at_once() {
    let node = Node::start();
    let uid = declare(&node, "web", "100m", json!([{"resourceName": "memory", "restartPolicy": "RestartContainer"}]));
    node.ready("web").await;
    let wanted = json!({"requests": {"cpu": "100m", "memory": "64Mi"}, "limits": {"memory": "32Mi"}});
    ask(&node, "web", wanted.clone());
    let pod = node
        .pod("web", |p| (container(p)["restartCount"] == 1 && container(p)["ready"] == true).then(|| p.clone()))
        .await;
    assert_eq!(container(&pod)["resources"], wanted);
    assert_eq!(node.event("Killing").await, "Container c resize requires restart");
    let limits = node.fake.spec(&format!("{uid}.0"), "c.1").expect("a container").resources;
    assert_eq!(limits.memory_limit, Some(32 << 20));
}

#[tokio::test]
async fn a_resize_that_does_not_fit_waits_for_room_and_one_that_never_will_says_so() {
    let node = Node::start();
    let cpus = std::thread::available_parallelism().map_or(1, usize::from);
    declare(&node, "big", &format!("{}m", cpus * 1000 - 500), json!([]));
    node.ready("big").await;
    declare(&node, "web", "100m", json!([]));
    node.ready("web").await;
    let ask_for = |cpu: &str| json!({"requests": {"cpu": cpu, "memory": "64Mi"}, "limits": {"memory": "64Mi"}});
    ask(&node, "web", ask_for("100000"));
    let why = |p: &Value, reason: &str| {
        let pending = p["status"]["conditions"].as_array()?.iter().find(|c| c["type"] == "PodResizePending")?;
        (pending["reason"] == reason).then(|| pending["message"].as_str().unwrap_or_default().to_owned())
    };
    let message = node.pod("web", |p| why(p, "Infeasible")).await;
    let capacity = cpus * 1000;
    assert_eq!(message, format!("Node didn't have enough capacity: cpu, requested: 100000000, capacity: {capacity}"));
    ask(&node, "web", ask_for("600m"));
    let message = node.pod("web", |p| why(p, "Deferred")).await;
    let used = capacity - 500;
    assert_eq!(
        message,
        format!("Node didn't have enough resource: cpu, requested: 600, used: {used}, capacity: {capacity}")
    );
    assert!(node.event("ResizeDeferred").await.starts_with("Pod resize Deferred: {\"containers\":"));
    let pod = node.api.get(&format!("{PODS}/web")).expect("the pod");
    assert_eq!(container(&pod)["allocatedResources"]["cpu"], "100m");
    node.delete("big", 0);
    node.gone("big").await;
    let pod = node.pod("web", |p| (container(p)["resources"]["requests"]["cpu"] == "600m").then(|| p.clone())).await;
    assert_eq!(condition(&pod, "PodResizePending"), "");
}

#[tokio::test]
async fn a_pod_as_a_whole_grows_before_its_containers_and_shrinks_after_them() {
    let node = Node::start();
    let restart = json!([{"resourceName": "memory", "restartPolicy": "RestartContainer"}]);
    let uid = node.declare("web", |pod| {
        pod["metadata"]["generation"] = json!(1);
        pod["spec"]["resources"] = json!({"requests": {"cpu": "100m"}, "limits": {"cpu": "1", "memory": "64Mi"}});
        pod["spec"]["containers"][0]["resources"] = json!({"limits": {"cpu": "500m"}});
        pod["spec"]["containers"][0]["resizePolicy"] = restart;
    });
    let before = node.ready("web").await;
    assert_eq!(before["status"]["allocatedResources"], json!({"cpu": "100m"}));
    assert_eq!(before["status"]["resources"]["limits"], json!({"cpu": "1", "memory": "64Mi"}));
    let ask = |whole: Value, cpu: &str| {
        node.api.edit(&format!("{PODS}/web"), |pod| {
            pod["metadata"]["generation"] = json!(pod["metadata"]["generation"].as_i64().unwrap_or_default() + 1);
            pod["spec"]["resources"] = whole.clone();
            pod["spec"]["containers"][0]["resources"] = json!({"limits": {"cpu": cpu}});
        });
    };
    let order = |since: usize| -> Vec<String> {
        let journal = node.fake.journal().into_iter().skip(since);
        journal.filter(|entry| entry == "limit" || entry.starts_with("update")).collect()
    };
    let until = async |whole: &Value| {
        node.pod("web", |p| {
            let done = p["status"]["resources"] == *whole && condition(p, "PodResizeInProgress").is_empty();
            done.then(|| p.clone())
        })
        .await
    };
    let more = json!({"requests": {"cpu": "200m"}, "limits": {"cpu": "2", "memory": "64Mi"}});
    let since = node.fake.journal().len();
    ask(more.clone(), "1500m");
    let pod = until(&more).await;
    assert_eq!(
        (&pod["status"]["allocatedResources"], &container(&pod)["restartCount"]),
        (&json!({"cpu": "200m"}), &json!(0))
    );
    assert_eq!(order(since), ["limit", "update c.0"]);
    let whole = node.fake.sandbox(&format!("{uid}.0")).expect("a sandbox").resources;
    assert_eq!((whole.cpu_shares, whole.cpu_quota, whole.memory_limit), (Some(204), Some(200_000), Some(64 << 20)));
    node.event("ResizeCompleted").await;
    let less = json!({"requests": {"cpu": "200m"}, "limits": {"cpu": "1", "memory": "64Mi"}});
    let since = node.fake.journal().len();
    ask(less.clone(), "500m");
    until(&less).await;
    assert_eq!(order(since), ["update c.0", "limit"]);
    // The container has no limit of memory but the pod's, and wants to be started anew when that changes.
    let other = json!({"requests": {"cpu": "200m"}, "limits": {"cpu": "1", "memory": "128Mi"}});
    ask(other.clone(), "500m");
    let again = |p: &Value| (container(p)["restartCount"] == 1 && container(p)["ready"] == true).then_some(());
    node.pod("web", again).await;
    until(&other).await;
}
