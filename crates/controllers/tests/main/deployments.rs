//! Deployments roll out, roll back, scale, pause, and recreate.

use k8s_openapi::api::{
    apps::v1::{Deployment, DeploymentStatus, ReplicaSet},
    core::v1::{Event, Pod},
};
use kube::ResourceExt;
use serde_json::{Value, json};

use crate::world::{World, template};

fn web(replicas: i32, image: &str, strategy: Value) -> Value {
    json!({"metadata": {"name": "web"}, "spec": {"replicas": replicas, "selector": {"matchLabels": {"app": "web"}},
        "strategy": strategy, "template": template("web", image)}})
}

fn is_complete(deployment: &Deployment, replicas: i32) -> bool {
    let status = deployment.status.clone().unwrap_or_default();
    status.observed_generation == deployment.metadata.generation
        && [status.replicas, status.updated_replicas, status.ready_replicas, status.available_replicas]
            == [Some(replicas); 4]
}

fn reason(status: &DeploymentStatus, kind: &str) -> Option<String> {
    status.conditions.iter().flatten().find(|c| c.type_ == kind).and_then(|c| c.reason.clone())
}

fn image(set: &ReplicaSet) -> String {
    let spec = set.spec.as_ref().and_then(|s| s.template.as_ref()?.spec.clone()).expect("a set has a template");
    spec.containers[0].image.clone().unwrap_or_default()
}

fn size(set: &ReplicaSet) -> i32 {
    set.spec.as_ref().and_then(|s| s.replicas).unwrap_or(0)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deployment_rolls_out_replaces_its_pods_and_keeps_the_old_set_for_a_way_back() {
    let world = World::new().await;
    world.create::<Deployment>(web(3, "one", json!({"type": "RollingUpdate"}))).await;
    let done = world.until_one("web", "the first rollout", |d: &Deployment| is_complete(d, 3)).await;
    assert_eq!(reason(done.status.as_ref().unwrap(), "Progressing").as_deref(), Some("NewReplicaSetAvailable"));
    assert_eq!(reason(done.status.as_ref().unwrap(), "Available").as_deref(), Some("MinimumReplicasAvailable"));
    world.merge::<Deployment>("web", json!({"spec": {"template": template("web", "two")}})).await;
    world.until_one("web", "the second rollout", |d: &Deployment| is_complete(d, 3)).await;
    let sets = world.until("the old set to be empty", |all: &[ReplicaSet]| {
        all.len() == 2 && all.iter().all(|s| size(s) == if image(s) == "two" { 3 } else { 0 })
    });
    let sets = sets.await;
    let revision = |wanted: &str| {
        let set = sets.iter().find(|s| image(s) == wanted).expect("both sets are there");
        set.annotations()["deployment.kubernetes.io/revision"].clone()
    };
    assert_eq!((revision("one"), revision("two")), ("1".into(), "2".into()));
    world.merge::<Deployment>("web", json!({"spec": {"template": template("web", "one")}})).await;
    world
        .until("the first template again", |all: &[ReplicaSet]| {
            all.len() == 2 && all.iter().all(|s| size(s) == if image(s) == "one" { 3 } else { 0 })
        })
        .await;
    let back = world
        .until_one("web", "its revision", |d: &Deployment| d.annotations()["deployment.kubernetes.io/revision"] == "3")
        .await;
    assert_eq!(back.annotations()["deployment.kubernetes.io/revision"], "3");
    let events = world
        .until("events that tell of it", |all: &[Event]| {
            let told = |reason: &str| all.iter().any(|e| e.reason.as_deref() == Some(reason));
            told("ScalingReplicaSet") && told("SuccessfulCreate") && told("SuccessfulDelete")
        })
        .await;
    // People sort and filter by what upstream's controllers say of time, number and source.
    let scaled = events.iter().find(|e| e.reason.as_deref() == Some("ScalingReplicaSet")).expect("it is told");
    assert!(scaled.count.is_some_and(|count| count > 0) && scaled.first_timestamp <= scaled.last_timestamp);
    assert!(scaled.last_timestamp.is_some() && scaled.involved_object.kind.as_deref() == Some("Deployment"));
    let source = scaled.source.as_ref().and_then(|source| source.component.as_deref());
    assert_eq!((source, scaled.reporting_component.as_deref()), (Some("deployment-controller"), source));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rolling_update_never_goes_below_or_above_its_bounds() {
    let world = World::new().await;
    let strategy = json!({"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1, "maxUnavailable": 0}});
    world.create::<Deployment>(web(4, "one", strategy)).await;
    world.until_one("web", "the first rollout", |d: &Deployment| is_complete(d, 4)).await;
    world.merge::<Deployment>("web", json!({"spec": {"template": template("web", "two")}})).await;
    let new = |p: &&Pod| p.spec.as_ref().is_some_and(|s| s.containers[0].image.as_deref() == Some("two"));
    let ready = |p: &&Pod| {
        let conditions = p.status.as_ref().and_then(|s| s.conditions.as_ref());
        p.metadata.deletion_timestamp.is_none()
            && conditions.is_some_and(|all| all.iter().any(|c| c.type_ == "Ready" && c.status == "True"))
    };
    world
        .until("all pods to be new", |all: &[Pod]| {
            let active = all.iter().filter(|p| p.metadata.deletion_timestamp.is_none()).count();
            assert!(active <= 5, "no more than one pod above the wanted number");
            assert!(all.iter().filter(ready).count() >= 4, "never fewer than wanted serve");
            all.len() == 4 && all.iter().filter(new).count() == 4
        })
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn recreate_starts_no_new_pod_before_the_last_old_one_is_gone() {
    let world = World::new().await;
    world.create::<Deployment>(web(2, "one", json!({"type": "Recreate"}))).await;
    world.until_one("web", "the first rollout", |d: &Deployment| is_complete(d, 2)).await;
    world.merge::<Deployment>("web", json!({"spec": {"template": template("web", "two")}})).await;
    world
        .until("all pods to be new", |all: &[Pod]| {
            let images: Vec<_> =
                all.iter().map(|p| p.spec.as_ref().unwrap().containers[0].image.clone().unwrap()).collect();
            assert!(
                !(images.contains(&"one".to_owned()) && images.contains(&"two".to_owned())),
                "old and new never meet"
            );
            images == ["two", "two"]
        })
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_paused_deployment_scales_but_does_not_roll() {
    let world = World::new().await;
    world.create::<Deployment>(web(1, "one", json!({"type": "RollingUpdate"}))).await;
    world.until_one("web", "the first rollout", |d: &Deployment| is_complete(d, 1)).await;
    world
        .merge::<Deployment>(
            "web",
            json!({"spec": {"paused": true, "replicas": 3, "template": template("web", "two")}}),
        )
        .await;
    let paused = world.until_one("web", "three pods", |d: &Deployment| {
        d.status.as_ref().is_some_and(|s| s.available_replicas == Some(3))
    });
    let paused = paused.await;
    assert_eq!(reason(paused.status.as_ref().unwrap(), "Progressing").as_deref(), Some("DeploymentPaused"));
    let sets = world.until("the set", |all: &[ReplicaSet]| !all.is_empty()).await;
    assert_eq!(sets.iter().map(image).collect::<Vec<_>>(), ["one"]);
    world.merge::<Deployment>("web", json!({"spec": {"paused": false}})).await;
    world.until_one("web", "the resumed rollout", |d: &Deployment| is_complete(d, 3)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rollout_that_does_not_progress_times_out_aloud() {
    let world = World::new().await;
    let mut stuck = web(1, "one", json!({"type": "RollingUpdate"}));
    stuck["spec"]["progressDeadlineSeconds"] = json!(2);
    stuck["spec"]["minReadySeconds"] = json!(0);
    stuck["spec"]["template"]["metadata"]["annotations"] = json!({"test/outcome": "running"});
    world.create::<Deployment>(stuck).await;
    world
        .until_one("web", "the deadline to pass", |d: &Deployment| {
            d.status.as_ref().and_then(|s| reason(s, "Progressing")).as_deref() == Some("ProgressDeadlineExceeded")
        })
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn history_beyond_the_limit_is_deleted() {
    let world = World::new().await;
    let mut web = web(1, "v0", json!({"type": "RollingUpdate"}));
    web["spec"]["revisionHistoryLimit"] = json!(1);
    world.create::<Deployment>(web).await;
    for version in 1..4 {
        world.until_one("web", "the rollout", |d: &Deployment| is_complete(d, 1)).await;
        world.merge::<Deployment>("web", json!({"spec": {"template": template("web", &format!("v{version}"))}})).await;
    }
    world
        .until("the newest two sets alone", |all: &[ReplicaSet]| {
            let mut images: Vec<_> = all.iter().map(image).collect();
            images.sort();
            images == ["v2", "v3"]
        })
        .await;
}
