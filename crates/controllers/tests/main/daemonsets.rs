//! DaemonSets have one pod on every node that fits.

use k8s_openapi::api::{
    apps::v1::DaemonSet,
    core::v1::{Node, Pod},
};
use kube::{
    Api, ResourceExt,
    api::{DeleteParams, Patch, PatchParams, PostParams},
};
use serde_json::{Value, json};

use crate::world::{World, node, template};

fn daemon(image: &str, strategy: Value) -> Value {
    json!({"metadata": {"name": "d"}, "spec": {"selector": {"matchLabels": {"app": "d"}}, "template": template("d", image),
        "updateStrategy": strategy}})
}

fn places(pods: &[Pod]) -> Vec<String> {
    let mut nodes: Vec<_> =
        pods.iter().map(|p| p.spec.as_ref().and_then(|s| s.node_name.clone()).unwrap_or_default()).collect();
    nodes.sort();
    nodes
}

fn is_done(set: &DaemonSet, n: i32) -> bool {
    let status = set.status.clone().unwrap_or_default();
    status.observed_generation == set.metadata.generation
        && (status.desired_number_scheduled, status.number_available, status.updated_number_scheduled)
            == (n, Some(n), Some(n))
}

#[tokio::test(flavor = "multi_thread")]
async fn every_node_that_fits_has_one_pod_as_nodes_come_change_and_go() {
    let world = World::with_nodes(&["node-a", "node-b"]).await;
    world.create::<DaemonSet>(daemon("one", json!({"type": "RollingUpdate"}))).await;
    world.until("a pod on both", |all: &[Pod]| places(all) == ["node-a", "node-b"]).await;
    world.until_one("d", "the status", |s: &DaemonSet| is_done(s, 2)).await;
    let nodes: Api<Node> = Api::all(world.client.clone());
    nodes.create(&PostParams::default(), &node("node-c")).await.unwrap();
    world.until("a pod on the third", |all: &[Pod]| places(all) == ["node-a", "node-b", "node-c"]).await;
    let taint = Patch::Merge(json!({"spec": {"taints": [{"key": "k", "effect": "NoExecute"}]}}));
    nodes.patch("node-b", &PatchParams::default(), &taint).await.unwrap();
    world.until("none on the tainted one", |all: &[Pod]| places(all) == ["node-a", "node-c"]).await;
    let cordon = Patch::Merge(json!({"spec": {"unschedulable": true}}));
    nodes.patch("node-a", &PatchParams::default(), &cordon).await.unwrap();
    let pod = world.api::<Pod>().list(&Default::default()).await.unwrap();
    let on_a = pod.items.iter().find(|p| places(std::slice::from_ref(p)) == ["node-a"]).unwrap().name_any();
    world.delete::<Pod>(&on_a, DeleteParams::default()).await;
    world
        .until("another on the cordoned one", |all: &[Pod]| {
            places(all) == ["node-a", "node-c"] && all.iter().all(|p| p.name_any() != on_a)
        })
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rolling_update_replaces_pods_node_by_node() {
    let world = World::with_nodes(&["node-a", "node-b", "node-c"]).await;
    world.create::<DaemonSet>(daemon("one", json!({"type": "RollingUpdate"}))).await;
    world.until_one("d", "the first rollout", |s: &DaemonSet| is_done(s, 3)).await;
    world.merge::<DaemonSet>("d", json!({"spec": {"template": template("d", "two")}})).await;
    let new = |p: &Pod| p.spec.as_ref().unwrap().containers[0].image.as_deref() == Some("two");
    world
        .until("all pods to be new", |all: &[Pod]| {
            assert!(all.len() <= 3, "never two on a node");
            all.len() == 3 && all.iter().all(new)
        })
        .await;
    world.until_one("d", "the second rollout", |s: &DaemonSet| is_done(s, 3)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_surging_update_never_leaves_a_node_without() {
    let world = World::with_nodes(&["node-a", "node-b"]).await;
    let strategy = json!({"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1, "maxUnavailable": 0}});
    world.create::<DaemonSet>(daemon("one", strategy)).await;
    world.until_one("d", "the first rollout", |s: &DaemonSet| is_done(s, 2)).await;
    world.merge::<DaemonSet>("d", json!({"spec": {"template": template("d", "two")}})).await;
    let serves = |p: &Pod| {
        let conditions = p.status.as_ref().and_then(|s| s.conditions.as_ref());
        p.metadata.deletion_timestamp.is_none()
            && conditions.is_some_and(|all| all.iter().any(|c| c.type_ == "Ready" && c.status == "True"))
    };
    world
        .until("all pods to be new", |all: &[Pod]| {
            let serving: Vec<_> = all.iter().filter(|p| serves(p)).cloned().collect();
            let mut nodes = places(&serving);
            nodes.dedup();
            assert_eq!(nodes, ["node-a", "node-b"], "every node is served all the time");
            all.len() == 2 && all.iter().all(|p| p.spec.as_ref().unwrap().containers[0].image.as_deref() == Some("two"))
        })
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn on_delete_waits_for_pods_to_be_deleted_and_failed_ones_are_replaced() {
    let world = World::with_nodes(&["node-a"]).await;
    world.create::<DaemonSet>(daemon("one", json!({"type": "OnDelete"}))).await;
    let pods = world.until("a pod", |all: &[Pod]| places(all) == ["node-a"]).await;
    world.merge::<DaemonSet>("d", json!({"spec": {"template": template("d", "two")}})).await;
    world
        .until_one("d", "the old pod to be known as old", |s: &DaemonSet| {
            s.status.as_ref().is_some_and(|s| s.observed_generation == Some(2) && s.updated_number_scheduled.is_none())
        })
        .await;
    assert_eq!(world.get::<Pod>(&pods[0].name_any()).await.uid(), pods[0].uid());
    world.outcome(&pods[0].name_any(), "exit:3").await;
    world
        .until("a new pod in its place", |all: &[Pod]| {
            all.len() == 1 && all[0].spec.as_ref().unwrap().containers[0].image.as_deref() == Some("two")
        })
        .await;
}
