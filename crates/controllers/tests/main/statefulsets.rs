//! StatefulSets keep names, order, claims and revisions.

use k8s_openapi::api::{
    apps::v1::{ControllerRevision, StatefulSet},
    core::v1::{PersistentVolumeClaim, Pod},
};
use kube::{ResourceExt, api::DeleteParams};
use serde_json::{Value, json};

use crate::world::{OUTCOME, World, template};

fn db(extra: Value) -> Value {
    let mut spec = json!({"replicas": 3, "serviceName": "db", "selector": {"matchLabels": {"app": "db"}}, "template": template("db", "one"),
        "volumeClaimTemplates": [{"metadata": {"name": "data"}, "spec": {"accessModes": ["ReadWriteOnce"],
            "resources": {"requests": {"storage": "1Gi"}}}}]});
    spec.as_object_mut().unwrap().extend(extra.as_object().unwrap().clone());
    json!({"metadata": {"name": "db"}, "spec": spec})
}

fn names(pods: &[Pod]) -> Vec<String> {
    pods.iter().map(|p| p.name_any()).collect()
}

fn image(pod: &Pod) -> &str {
    pod.spec.as_ref().and_then(|s| s.containers[0].image.as_deref()).unwrap_or_default()
}

fn is_ready(set: &StatefulSet, n: i32) -> bool {
    let status = set.status.clone().unwrap_or_default();
    status.observed_generation == set.metadata.generation
        && (status.replicas, status.ready_replicas, status.available_replicas, status.updated_replicas)
            == (n, Some(n), Some(n), Some(n))
}

#[tokio::test(flavor = "multi_thread")]
async fn pods_come_one_after_the_other_with_names_labels_and_claims_of_their_own() {
    let world = World::new().await;
    let mut held = db(json!({}));
    held["spec"]["template"]["metadata"]["annotations"] = json!({OUTCOME: "running"});
    world.create::<StatefulSet>(held).await;
    for number in 0..3 {
        let pods = world.until("the next pod", |all: &[Pod]| {
            assert!(all.len() <= number + 1, "no pod comes before its predecessor is ready");
            all.len() == number + 1
        });
        let pods = pods.await;
        let pod = &pods[number];
        assert_eq!(pod.name_any(), format!("db-{number}"));
        assert_eq!(pod.labels()["statefulset.kubernetes.io/pod-name"], pod.name_any());
        assert_eq!(pod.labels()["apps.kubernetes.io/pod-index"], number.to_string());
        let spec = pod.spec.as_ref().unwrap();
        assert_eq!((spec.hostname.as_deref(), spec.subdomain.as_deref()), (pod.metadata.name.as_deref(), Some("db")));
        world.get::<PersistentVolumeClaim>(&format!("data-db-{number}")).await;
        world.outcome(&pod.name_any(), "ready").await;
    }
    let set: StatefulSet = world.until_one("db", "readiness", |s: &StatefulSet| is_ready(s, 3)).await;
    assert_eq!(set.status.and_then(|s| s.collision_count), Some(0), "always told, as upstream does");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rolling_update_goes_down_from_the_highest_ordinal_to_the_partition() {
    let world = World::new().await;
    world
        .create::<StatefulSet>(db(
            json!({"updateStrategy": {"type": "RollingUpdate", "rollingUpdate": {"partition": 1}}}),
        ))
        .await;
    let first = world.until_one("db", "readiness", |s: &StatefulSet| is_ready(s, 3)).await;
    world.merge::<StatefulSet>("db", json!({"spec": {"template": template("db", "two")}})).await;
    let pods = world
        .until("the upper two to be new", |all: &[Pod]| {
            let images: Vec<_> = all.iter().map(image).collect();
            assert!(!images.starts_with(&["one", "two", "one"]), "the highest goes first");
            images == ["one", "two", "two"]
        })
        .await;
    assert_eq!(names(&pods), ["db-0", "db-1", "db-2"]);
    let old = first.status.unwrap().current_revision.unwrap();
    world
        .until_one("db", "the status to tell of both", |s: &StatefulSet| {
            let status = s.status.clone().unwrap();
            (status.current_replicas, status.updated_replicas, status.ready_replicas) == (Some(1), Some(2), Some(3))
                && status.current_revision.as_ref() == Some(&old)
                && status.update_revision.as_ref() != Some(&old)
        })
        .await;
    world.merge::<StatefulSet>("db", json!({"spec": {"updateStrategy": {"rollingUpdate": {"partition": 0}}}})).await;
    let done = world.until_one("db", "the update to be over", |s: &StatefulSet| is_ready(s, 3)).await;
    let status = done.status.unwrap();
    assert_eq!(status.current_revision, status.update_revision);
    world.until("two revisions", |all: &[ControllerRevision]| all.len() == 2).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn scaling_down_keeps_claims_or_deletes_them_as_the_policy_says() {
    let world = World::new().await;
    world.create::<StatefulSet>(db(json!({"podManagementPolicy": "Parallel"}))).await;
    world.until_one("db", "readiness", |s: &StatefulSet| is_ready(s, 3)).await;
    world.merge::<StatefulSet>("db", json!({"spec": {"replicas": 2}})).await;
    world.until("two pods", |all: &[Pod]| names(all) == ["db-0", "db-1"]).await;
    world.get::<PersistentVolumeClaim>("data-db-2").await;
    let policy = json!({"whenScaled": "Delete", "whenDeleted": "Retain"});
    world.merge::<StatefulSet>("db", json!({"spec": {"persistentVolumeClaimRetentionPolicy": policy}})).await;
    world.merge::<StatefulSet>("db", json!({"spec": {"replicas": 1}})).await;
    world.until("one pod", |all: &[Pod]| names(all) == ["db-0"]).await;
    // Another room protects claims in use; its finalizer is taken away here in its place.
    world
        .until("the claim to go", |all: &[PersistentVolumeClaim]| {
            all.iter().all(|c| c.name_any() != "data-db-1" || c.metadata.deletion_timestamp.is_some())
        })
        .await;
    world.get::<PersistentVolumeClaim>("data-db-0").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deleted_or_failed_pod_comes_back_under_its_name() {
    let world = World::new().await;
    world.create::<StatefulSet>(db(json!({"replicas": 2}))).await;
    world.until_one("db", "readiness", |s: &StatefulSet| is_ready(s, 2)).await;
    let before = world.get::<Pod>("db-1").await;
    world.delete::<Pod>("db-1", DeleteParams::default()).await;
    let after = world.until_one("db-1", "another pod", |p: &Pod| p.uid() != before.uid()).await;
    world.until_one("db", "readiness", |s: &StatefulSet| is_ready(s, 2)).await;
    world.outcome("db-1", "exit:1").await;
    world.until_one("db-1", "yet another pod", |p: &Pod| p.uid() != after.uid()).await;
    world.until_one("db", "readiness", |s: &StatefulSet| is_ready(s, 2)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn going_back_to_an_old_template_uses_its_revision_again_and_history_is_limited() {
    let world = World::new().await;
    world.create::<StatefulSet>(db(json!({"replicas": 1, "revisionHistoryLimit": 1}))).await;
    let first =
        world.until_one("db", "readiness", |s: &StatefulSet| is_ready(s, 1)).await.status.unwrap().update_revision;
    for image in ["two", "three"] {
        world.merge::<StatefulSet>("db", json!({"spec": {"template": template("db", image)}})).await;
        world.until_one("db", "the update", |s: &StatefulSet| is_ready(s, 1)).await;
    }
    let revisions = world.until("two revisions", |all: &[ControllerRevision]| all.len() == 2).await;
    assert!(revisions.iter().all(|r| r.metadata.name != first), "the oldest is gone");
    world.merge::<StatefulSet>("db", json!({"spec": {"template": template("db", "two")}})).await;
    let back = world.until_one("db", "the way back", |s: &StatefulSet| {
        is_ready(s, 1) && revisions.iter().any(|r| r.metadata.name == s.status.as_ref().unwrap().update_revision)
    });
    let name = back.await.status.unwrap().update_revision.unwrap();
    assert_eq!(world.get::<ControllerRevision>(&name).await.revision, 4);
}
