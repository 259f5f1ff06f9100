//! ReplicaSets and ReplicationControllers keep their number of pods.

use k8s_openapi::api::{
    apps::v1::ReplicaSet,
    core::v1::{Pod, ReplicationController},
};
use kube::{ResourceExt, api::DeleteParams};
use serde_json::json;

use crate::world::{World, template};

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_pod_is_replaced_and_a_surplus_one_goes() {
    let world = World::new().await;
    world
        .create::<ReplicaSet>(json!({"metadata": {"name": "web"}, "spec": {"replicas": 3,
            "selector": {"matchLabels": {"app": "web"}}, "template": template("web", "i")}}))
        .await;
    let is = |n: i32| {
        move |s: &ReplicaSet| {
            s.status.as_ref().is_some_and(|s| s.replicas == n && s.available_replicas.unwrap_or(0) == n)
        }
    };
    world.until_one("web", "three pods", is(3)).await;
    let pods = world.until("three pods", |all: &[Pod]| all.len() == 3).await;
    world.delete::<Pod>(&pods[0].name_any(), DeleteParams::default()).await;
    world
        .until("another in its place", |all: &[Pod]| all.len() == 3 && all.iter().all(|p| p.uid() != pods[0].uid()))
        .await;
    world.merge::<ReplicaSet>("web", json!({"spec": {"replicas": 1}})).await;
    world.until_one("web", "one pod", is(1)).await;
    world.until("one pod", |all: &[Pod]| all.len() == 1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_orphan_is_adopted_and_a_relabelled_pod_released() {
    let world = World::new().await;
    let mut orphan = template("web", "i");
    orphan["metadata"]["name"] = json!("orphan");
    world.create::<Pod>(orphan).await;
    let set: ReplicaSet = world
        .create(
            json!({"metadata": {"name": "web"}, "spec": {"replicas": 2, "selector": {"matchLabels": {"app": "web"}},
            "template": template("web", "i")}}),
        )
        .await;
    let owner = |p: &Pod| p.owner_references().first().map(|o| o.uid.clone());
    world
        .until("two pods, one of them adopted", |all: &[Pod]| {
            all.len() == 2 && all.iter().all(|p| owner(p) == set.uid())
        })
        .await;
    world.merge::<Pod>("orphan", json!({"metadata": {"labels": {"app": "other"}}})).await;
    let pods = world
        .until("the released pod and two others", |all: &[Pod]| {
            all.len() == 3 && all.iter().any(|p| owner(p).is_none())
        })
        .await;
    assert_eq!(pods.iter().find(|p| owner(p).is_none()).map(|p| p.name_any()).as_deref(), Some("orphan"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replication_controller_works_as_a_replica_set_does() {
    let world = World::new().await;
    world
        .create::<ReplicationController>(
            json!({"metadata": {"name": "old"}, "spec": {"replicas": 2, "template": template("old", "i")}}),
        )
        .await;
    let done = world.until_one("old", "two pods", |c: &ReplicationController| {
        c.status.as_ref().is_some_and(|s| s.ready_replicas == Some(2) && s.available_replicas == Some(2))
    });
    assert_eq!(done.await.status.unwrap().fully_labeled_replicas, Some(2));
    let pods = world.until("two pods", |all: &[Pod]| all.len() == 2).await;
    assert!(pods.iter().all(
        |p| p.owner_references()[0].kind == "ReplicationController" && p.owner_references()[0].api_version == "v1"
    ));
}
