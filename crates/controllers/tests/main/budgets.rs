//! Disruption budgets say how many pods may be evicted, and evictions ask them.

use k8s_openapi::api::{apps::v1::Deployment, core::v1::Pod, policy::v1::PodDisruptionBudget};
use kube::{ResourceExt, api::EvictParams};
use serde_json::json;

use crate::world::{World, template};

#[tokio::test(flavor = "multi_thread")]
async fn as_many_pods_may_be_evicted_as_the_budget_leaves_and_more_once_they_are_replaced() {
    let world = World::new().await;
    world
        .create::<Deployment>(json!({"metadata": {"name": "web"}, "spec": {"replicas": 3,
            "selector": {"matchLabels": {"app": "web"}}, "template": template("web", "i")}}))
        .await;
    world.create::<PodDisruptionBudget>(json!({"metadata": {"name": "web"}, "spec": {"maxUnavailable": 1, "selector": {"matchLabels": {"app": "web"}}}})).await;
    let allows = |n: i32| {
        move |b: &PodDisruptionBudget| {
            b.status.as_ref().is_some_and(|s| {
                (s.disruptions_allowed, s.expected_pods, s.desired_healthy) == (Some(n), Some(3), Some(2))
                    && s.current_healthy == Some(2 + n)
            })
        }
    };
    world.until_one("web", "one to be spared", allows(1)).await;
    let pods = world.until("three pods", |all: &[Pod]| all.len() == 3).await;
    // One that does not get ready keeps the others from being evicted.
    world.outcome(&pods[0].name_any(), "running").await;
    world.until_one("web", "none to be spared", allows(0)).await;
    let refused = world.api::<Pod>().evict(&pods[1].name_any(), &EvictParams::default()).await.unwrap_err();
    assert!(matches!(&refused, kube::Error::Api(status) if status.code == 429), "{refused}");
    world.outcome(&pods[0].name_any(), "ready").await;
    world.until_one("web", "one to be spared", allows(1)).await;
    world.api::<Pod>().evict(&pods[1].name_any(), &EvictParams::default()).await.expect("it may go");
    world
        .until("another in its place", |all: &[Pod]| all.len() == 3 && all.iter().all(|p| p.uid() != pods[1].uid()))
        .await;
    world.until_one("web", "one to be spared", allows(1)).await;
}
