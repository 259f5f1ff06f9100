//! What is owned goes with its owner, before it, or not at all, as the deletion says.

use k8s_openapi::api::{
    apps::v1::{Deployment, ReplicaSet},
    core::v1::{ConfigMap, Pod},
};
use kube::{
    ResourceExt,
    api::{DeleteParams, PropagationPolicy},
};
use serde_json::json;

use crate::world::{World, template};

async fn deployed() -> World {
    let world = World::new().await;
    world
        .create::<Deployment>(json!({"metadata": {"name": "web"}, "spec": {"replicas": 2,
            "selector": {"matchLabels": {"app": "web"}}, "template": template("web", "i")}}))
        .await;
    world
        .until_one("web", "the rollout", |d: &Deployment| {
            d.status.as_ref().is_some_and(|s| s.available_replicas == Some(2))
        })
        .await;
    world
}

fn with(policy: PropagationPolicy) -> DeleteParams {
    DeleteParams { propagation_policy: Some(policy), ..DeleteParams::default() }
}

#[tokio::test(flavor = "multi_thread")]
async fn background_deletion_takes_dependents_along() {
    let world = deployed().await;
    world.delete::<Deployment>("web", with(PropagationPolicy::Background)).await;
    world.until("no sets", |all: &[ReplicaSet]| all.is_empty()).await;
    world.until("no pods", |all: &[Pod]| all.is_empty()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn foreground_deletion_lets_the_owner_go_last() {
    let world = deployed().await;
    // A pod that nobody may take yet holds all its owners.
    let pods = world.until("two pods", |all: &[Pod]| all.len() == 2).await;
    let held = pods[0].name_any();
    world.merge::<Pod>(&held, json!({"metadata": {"finalizers": ["test/hold"]}})).await;
    world.delete::<Deployment>("web", with(PropagationPolicy::Foreground)).await;
    world.until("the other pod to be gone", |all: &[Pod]| all.len() == 1).await;
    assert!(world.get::<Deployment>("web").await.metadata.deletion_timestamp.is_some());
    world.merge::<Pod>(&held, json!({"metadata": {"finalizers": null}})).await;
    world.until("no deployment", |all: &[Deployment]| all.is_empty()).await;
    assert!(world.api::<Pod>().list(&Default::default()).await.unwrap().items.is_empty());
    assert!(world.api::<ReplicaSet>().list(&Default::default()).await.unwrap().items.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn orphaned_dependents_stay_and_have_no_owner() {
    let world = deployed().await;
    world.delete::<Deployment>("web", with(PropagationPolicy::Orphan)).await;
    world.until("no deployment", |all: &[Deployment]| all.is_empty()).await;
    let sets = world.until("the set", |all: &[ReplicaSet]| all.len() == 1).await;
    assert!(sets[0].owner_references().is_empty());
    assert_eq!(world.api::<Pod>().list(&Default::default()).await.unwrap().items.len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_object_goes_with_its_last_owner_only() {
    let world = World::new().await;
    let map = |name: &str, owners: &[&ConfigMap]| {
        let owners: Vec<_> = owners
            .iter()
            .map(|o| json!({"apiVersion": "v1", "kind": "ConfigMap", "name": o.name_any(), "uid": o.uid()}))
            .collect();
        json!({"metadata": {"name": name, "ownerReferences": owners}})
    };
    let one: ConfigMap = world.create(map("one", &[])).await;
    let two: ConfigMap = world.create(map("two", &[])).await;
    world.create::<ConfigMap>(map("child", &[&one, &two])).await;
    world.delete::<ConfigMap>("one", DeleteParams::default()).await;
    let child = world.until_one("child", "one owner less", |c: &ConfigMap| c.owner_references().len() == 1).await;
    assert_eq!(child.owner_references()[0].uid, two.uid().unwrap());
    world.delete::<ConfigMap>("two", DeleteParams::default()).await;
    world.until("the child to be gone", |all: &[ConfigMap]| all.iter().all(|c| c.name_any() != "child")).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_object_whose_owner_never_was_goes() {
    let world = World::new().await;
    let owner = json!({"apiVersion": "v1", "kind": "ConfigMap", "name": "nobody", "uid": "11111111-2222-3333-4444-555555555555"});
    world.create::<ConfigMap>(json!({"metadata": {"name": "child", "ownerReferences": [owner]}})).await;
    world.until("the child to be gone", |all: &[ConfigMap]| all.iter().all(|c| c.name_any() != "child")).await;
}
