//! Nodes that fall silent, and come back.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::{
    coordination::v1::Lease,
    core::v1::{Node, Pod, Taint},
};
use kube::{
    Api, Client, ResourceExt,
    api::{DeleteParams, Patch, PatchParams, PostParams},
};
use serde_json::json;
use tokio_util::task::AbortOnDropHandle;

use crate::world::{OUTCOME, World, until_in};

const UNREACHABLE: &str = "node.kubernetes.io/unreachable";
/// Between two signs of life; far shorter than the silence after which the node is taken for lost.
const BEAT: Duration = Duration::from_millis(100);
const GRACE: Duration = Duration::from_secs(5);

fn ready(node: &Node) -> &str {
    let conditions = node.status.iter().flat_map(|s| s.conditions.iter().flatten());
    conditions.into_iter().find(|c| c.type_ == "Ready").map_or("", |c| c.status.as_str())
}

fn taints(node: &Node) -> Vec<Taint> {
    node.spec.iter().flat_map(|s| s.taints.iter().flatten()).cloned().collect()
}

/// What an agent does for its node: it renews the lease, and says that the node is ready if others say otherwise.
pub fn live(client: Client, node: &str) -> AbortOnDropHandle<()> {
    let node = node.to_owned();
    let task = async move {
        let leases: Api<Lease> = Api::namespaced(client.clone(), "kube-node-lease");
        let nodes: Api<Node> = Api::all(client);
        let new = serde_json::from_value(json!({"metadata": {"name": node}})).expect("a lease");
        // The second time it is there.
        let _ = leases.create(&PostParams::default(), &new).await;
        loop {
            let renewal = json!({"spec": {"holderIdentity": node, "renewTime": Timestamp::now().to_string()}});
            let patch = Patch::Merge(renewal);
            leases.patch(&node, &PatchParams::default(), &patch).await.expect("the lease is there");
            if ready(&nodes.get(&node).await.expect("the node is there")) != "True" {
                let status =
                    json!({"status": {"conditions": [{"type": "Ready", "status": "True", "reason": "KubeletReady"}]}});
                nodes
                    .patch_status(&node, &PatchParams::default(), &Patch::Strategic(status))
                    .await
                    .expect("it can be said");
            }
            tokio::time::sleep(BEAT).await;
        }
    };
    AbortOnDropHandle::new(tokio::spawn(task))
}

/// A pod that tolerates its node's silence for so long; for good without a number.
async fn pod(world: &World, name: &str, tolerated: Option<i64>) {
    let mut toleration = json!({"key": UNREACHABLE, "operator": "Exists", "effect": "NoExecute"});
    if let Some(seconds) = tolerated {
        toleration["tolerationSeconds"] = seconds.into();
    }
    let spec = json!({"containers": [{"name": "c", "image": "i"}], "tolerations": [toleration]});
    world.create::<Pod>(json!({"metadata": {"name": name}, "spec": spec})).await;
    world.until_one(name, "a ready pod", |pod: &Pod| is_ready(pod) == Some(true)).await;
    // Who plays the kubelet leaves it alone from now on.
    world.merge::<Pod>(name, json!({"metadata": {"annotations": {OUTCOME: "pending"}}})).await;
}

fn is_ready(pod: &Pod) -> Option<bool> {
    let conditions = pod.status.as_ref()?.conditions.as_ref()?;
    Some(conditions.iter().find(|c| c.type_ == "Ready")?.status == "True")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_comes_back_is_trusted_again_and_has_lost_what_did_not_wait_for_it() {
    let config = controllers::Config { node_grace: GRACE, ..controllers::Config::new("CA") };
    let world = World::configured(&["node-a"], config).await;
    let nodes = || Api::<Node>::all(world.client.clone());
    let life = live(world.client.clone(), "node-a");
    until_in(nodes(), "a node in order", |all| all.iter().all(|n| ready(n) == "True" && taints(n).is_empty())).await;
    for (name, tolerated) in [("leaves", Some(0)), ("waits", Some(300)), ("stays", None)] {
        pod(&world, name, tolerated).await;
    }

    drop(life);
    let lost = |node: &Node| {
        let effects: Vec<String> =
            taints(node).into_iter().filter(|t| t.key == UNREACHABLE).map(|taint| taint.effect).collect();
        ready(node) == "Unknown" && effects == ["NoSchedule", "NoExecute"]
    };
    let all = until_in(nodes(), "the node to be taken for lost", |all| all.iter().all(lost)).await;
    let names = |pods: &[Pod]| pods.iter().map(ResourceExt::name_any).collect::<Vec<_>>();
    world
        .until("what does not tolerate the silence to leave, and the others to be out of service", |pods: &[Pod]| {
            names(pods) == ["stays", "waits"] && pods.iter().all(|pod| is_ready(pod) == Some(false))
        })
        .await;

    assert!(world.counted().await.contains("\nnode_collector_evictions_total{zone=\"\"} "), "it is counted");

    // An hour passes.
    let mut aged = taints(&all[0]);
    for taint in &mut aged {
        if let Some(added) = &mut taint.time_added {
            added.0 -= SignedDuration::from_hours(1);
        }
    }
    let past = Timestamp::now() - SignedDuration::from_hours(1);
    let bound = json!({"type": "PodScheduled", "status": "True", "lastTransitionTime": past.to_string()});
    let conditions = json!([bound, {"type": "Ready", "status": "False"}]);
    world.merge_status::<Pod>("waits", json!({"conditions": conditions})).await;
    let aged = Patch::Merge(json!({"spec": {"taints": aged}}));
    nodes().patch("node-a", &PatchParams::default(), &aged).await.expect("taints can be changed");
    world.until("what waited five minutes to leave", |pods: &[Pod]| names(pods) == ["stays"]).await;

    let _life = live(world.client.clone(), "node-a");
    let back = |node: &Node| ready(node) == "True" && taints(node).is_empty();
    until_in(nodes(), "the node to be trusted again", |all| all.iter().all(back)).await;
    // Pods that come now find it as it was before the silence.
    pod(&world, "new", Some(0)).await;
    assert_eq!(names(&world.until("all pods", |pods: &[Pod]| pods.len() == 2).await), ["new", "stays"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_taint_by_hand_evicts_at_once_or_when_its_time_is_over_and_says_why() {
    let world = World::new().await;
    let nodes = Api::<Node>::all(world.client.clone());
    let tolerating = |tolerations: serde_json::Value| json!({"containers": [{"name": "c", "image": "i"}], "tolerations": tolerations});
    let mine = json!({"key": "mine", "operator": "Exists", "effect": "NoExecute"});
    let mut briefly = mine.clone();
    briefly["tolerationSeconds"] = 1.into();
    for (name, tolerations) in [("leaves", json!([])), ("stays", json!([mine])), ("waits", json!([briefly]))] {
        let metadata = json!({"name": name, "finalizers": (name == "leaves").then_some(["test/hold"])});
        world.create::<Pod>(json!({"metadata": metadata, "spec": tolerating(tolerations)})).await;
        world.until_one(name, "a ready pod", |pod: &Pod| is_ready(pod) == Some(true)).await;
        world.merge::<Pod>(name, json!({"metadata": {"annotations": {OUTCOME: "pending"}}})).await;
    }
    let host = world.get::<Pod>("stays").await.spec.unwrap().node_name.unwrap();
    let taint = Patch::Merge(json!({"spec": {"taints": [{"key": "mine", "effect": "NoExecute"}]}}));
    nodes.patch(&host, &PatchParams::default(), &taint).await.expect("a node can be tainted");
    let going = world.until_one("leaves", "its end", |pod: &Pod| pod.metadata.deletion_timestamp.is_some()).await;
    let said = going.status.unwrap().conditions.unwrap().into_iter().find(|c| c.type_ == "DisruptionTarget").unwrap();
    assert_eq!((said.status.as_str(), said.reason.as_deref()), ("True", Some("DeletionByTaintManager")));
    let going = |pod: &Pod| pod.metadata.deletion_timestamp.is_some();
    let all = world
        .until("what tolerates it for a second to leave", |pods: &[Pod]| {
            pods.iter().find(|p| p.name_any() == "waits").is_none_or(going)
        })
        .await;
    assert!(all.iter().any(|p| p.name_any() == "stays" && !going(p)));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_left_on_a_node_out_of_service_goes() {
    let world = World::new().await;
    let nodes = Api::<Node>::all(world.client.clone());
    let dead = serde_json::from_value(json!({"metadata": {"name": "dead"}})).expect("a node");
    nodes.create(&PostParams::default(), &dead).await.expect("a node is made");
    let everything = json!([{"operator": "Exists"}]);
    let spec = json!({"nodeName": "dead", "containers": [{"name": "c", "image": "i"}], "tolerations": everything});
    let metadata = json!({"name": "left", "annotations": {OUTCOME: "none"}, "finalizers": ["test/hold"]});
    world.create::<Pod>(json!({"metadata": metadata, "spec": spec})).await;
    world.delete::<Pod>("left", DeleteParams::default()).await;
    let taint = json!({"key": "node.kubernetes.io/out-of-service", "value": "nodeshutdown", "effect": "NoExecute"});
    let taint = Patch::Merge(json!({"spec": {"taints": [taint]}}));
    nodes.patch("dead", &PatchParams::default(), &taint).await.expect("a node can be tainted");
    let phase = |pod: &Pod| pod.status.as_ref().and_then(|s| s.phase.clone());
    world.until_one("left", "its end", |pod: &Pod| phase(pod).as_deref() == Some("Failed")).await;
    world.merge::<Pod>("left", json!({"metadata": {"finalizers": null}})).await;
    world.until("no pods", |all: &[Pod]| all.is_empty()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_is_told_for_how_long_it_may_use_what_it_has() {
    let world = World::new().await;
    let nodes = Api::<Node>::all(world.client.clone());
    let told = |node: &Node, seconds: &str| {
        node.annotations().get("node.alpha.kubernetes.io/ttl").is_some_and(|found| found == seconds)
    };
    until_in(nodes.clone(), "the annotation", |all: &[Node]| told(&all[0], "0")).await;
    for i in 0..100 {
        let node = serde_json::from_value(json!({"metadata": {"name": format!("more-{i}")}})).expect("a node");
        nodes.create(&PostParams::default(), &node).await.expect("a node is made");
    }
    let is_last = |node: &&Node| node.name_any() == "more-99";
    until_in(nodes, "the next step", |all: &[Node]| all.iter().find(is_last).is_some_and(|n| told(n, "15"))).await;
}
