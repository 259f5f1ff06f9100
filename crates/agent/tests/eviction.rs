//! The node defends itself.

use std::time::Duration;

use agent::{AgentConfig, KubeletConfiguration};
use serde_json::{Value, json};

use crate::cluster::{Node, condition};

fn configured(config: &mut AgentConfig, fields: Value) {
    let mut document = json!({"kind": "KubeletConfiguration", "apiVersion": "kubelet.config.k8s.io/v1beta1"});
    document.as_object_mut().expect("an object").extend(fields.as_object().expect("an object").clone());
    KubeletConfiguration::parse(document).and_then(|c| c.apply(config)).expect("a configuration");
    config.housekeeping = Duration::from_millis(20);
}

#[tokio::test]
async fn a_node_short_of_memory_says_so_and_ends_who_takes_more_than_asked_for() {
    // Short of memory only in the end: a soft threshold leaves the pods the time to start.
    let node = Node::start_as(|config| {
        configured(
            config,
            json!({"evictionHard": {}, "evictionSoft": {"memory.available": "4Ei"},
            "evictionSoftGracePeriod": {"memory.available": "2s"}, "evictionMaxPodGracePeriod": 1}),
        );
    });
    node.api.until("/api/v1/nodes/node", |n| n.filter(|n| condition(n, "MemoryPressure") == "True").map(|_| ())).await;
    let asks = |amount: &'static str| {
        move |pod: &mut Value| pod["spec"]["containers"][0]["resources"] = json!({"requests": {"memory": amount}})
    };
    node.declare("modest", asks("10Mi"));
    node.declare("greedy", asks("1Mi"));
    node.declare("late", |_| {});
    let late = node.pod("late", |p| (p["status"]["phase"] == "Failed").then(|| p.clone())).await;
    assert_eq!(late["status"]["reason"], "Evicted");
    assert_eq!(late["status"]["message"], "Pod was rejected: The node had condition: [MemoryPressure]. ");
    let gone = node.pod("greedy", |p| (p["status"]["phase"] == "Failed").then(|| p.clone())).await;
    let message = gone["status"]["message"].as_str().expect("a message");
    assert_eq!(gone["status"]["reason"], "Evicted");
    assert!(
        message.starts_with("The node was low on resource: memory. Threshold quantity: 4Ei, available: "),
        "{message}"
    );
    let end = ". Container c was using 10Mi, request is 1Mi, has larger consumption of memory. ";
    assert!(message.ends_with(end), "{message}");
    assert_eq!(condition(&gone, "DisruptionTarget"), "True");
    node.fake.until("its sandbox goes", |f| f.journal().iter().any(|l| l.starts_with("destroy"))).await;
    let told = node.event("EvictionThresholdMet").await;
    assert_eq!(told, "Attempting to reclaim memory");
    let events = || node.api.all("/api/v1/namespaces/default/events");
    let evicted = events().into_iter().find(|e| e["reason"] == "Evicted" && e["involvedObject"]["name"] == "greedy");
    let annotations = &evicted.expect("an event of the eviction")["metadata"]["annotations"];
    let told = json!({"starved_resource": "memory", "offending_containers": "c", "offending_containers_usage": "10Mi"});
    assert_eq!(*annotations, told);
    // An event that someone deleted is told again when it happens again.
    let met = |events: Vec<Value>| events.into_iter().find(|e| e["reason"] == "EvictionThresholdMet");
    let first = met(events()).expect("told");
    let name = |event: &Value| event["metadata"]["name"].as_str().unwrap_or_default().to_owned();
    node.api.remove(&format!("/api/v1/namespaces/default/events/{}", name(&first)));
    node.api.until("", |_| met(events()).filter(|again| name(again) != name(&first))).await;
}

#[tokio::test]
async fn unused_images_go_before_pods_when_the_disk_is_short() {
    let node = Node::start_as(|config| {
        configured(config, json!({"evictionHard": {"nodefs.available": "99.9%"}}));
    });
    // Only what was pulled for a pod is the node's to remove.
    node.fake.allow_pull("pulled:1");
    node.fake.add_image("imported:1");
    node.declare("short", |pod| {
        pod["spec"]["priority"] = json!(2_000_000_000);
        pod["spec"]["containers"][0]["image"] = json!("pulled:1");
    });
    node.ready("short").await;
    let removed =
        |f: &crate::fake_runtime::Fake, name: &str| f.journal().contains(&format!("remove image sha256:{name}"));
    assert!(!removed(&node.fake, "pulled:1"), "it is in use");
    node.delete("short", 0);
    node.fake.until("the unused image goes", |f| removed(f, "pulled:1")).await;
    assert!(!removed(&node.fake, "imported:1") && !removed(&node.fake, "app:1"));
}

#[tokio::test]
async fn a_node_is_made_as_it_was_told_and_keeps_what_is_reserved_from_its_pods() {
    let fields = json!({"systemReserved": {"memory": "64Mi"},
        "registerWithTaints": [{"key": "example.com/kind", "value": "gpu", "effect": "NoExecute"}]});
    let node = Node::start_as(move |config| configured(config, fields.clone()));
    assert_eq!(node.event("NodeAllocatableEnforced").await, "Updated Node Allocatable limit across pods");
    let made = node.api.get("/api/v1/nodes/node").expect("the node");
    assert_eq!(made["spec"]["taints"], json!([{"key": "example.com/kind", "value": "gpu", "effect": "NoExecute"}]));
    let kib = |text: &str| text.strip_suffix("Ki").and_then(|n| n.parse::<u64>().ok()).expect("an amount");
    let memory = kib(made["status"]["capacity"]["memory"].as_str().expect("text")) - (64 << 10);
    let limits: Vec<String> = node.fake.journal().into_iter().filter(|l| l.starts_with("limit all")).collect();
    assert_eq!(limits, [format!("limit all {}", memory << 10)]);
}

#[tokio::test]
async fn a_critical_pod_takes_the_place_of_another() {
    let node = Node::start_as(|config| configured(config, json!({"maxPods": 2, "evictionHard": {}})));
    node.declare("guaranteed", |pod| {
        pod["spec"]["containers"][0]["resources"] = json!({"limits": {"cpu": "10m", "memory": "1Mi"}});
    });
    node.declare("idle", |_| {});
    node.ready("guaranteed").await;
    node.ready("idle").await;
    node.declare("third", |_| {});
    node.pod("third", |p| (p["status"]["reason"] == "OutOfpods").then_some(())).await;
    node.declare("critical", |pod| pod["spec"]["priority"] = json!(2_000_000_000));
    node.ready("critical").await;
    let idle = node.pod("idle", |p| (p["status"]["phase"] == "Failed").then(|| p.clone())).await;
    assert_eq!(idle["status"]["reason"], "Preempting");
    assert_eq!(idle["status"]["message"], "Preempted in order to admit critical pod");
    assert_eq!(condition(&node.ready("guaranteed").await, "DisruptionTarget"), "");
}
