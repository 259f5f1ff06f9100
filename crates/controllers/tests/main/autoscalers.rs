//! Autoscalers follow the metrics within their bounds.

use k8s_openapi::api::{apps::v1::Deployment, autoscaling::v2::HorizontalPodAutoscaler, core::v1::Pod};
use kube::ResourceExt;
use serde_json::json;

use crate::world::{World, template};

async fn autoscaled(replicas: i32) -> World {
    let world = World::new().await;
    let mut template = template("web", "i");
    template["spec"]["containers"][0]["resources"] = json!({"requests": {"cpu": "100m"}});
    world
        .create::<Deployment>(json!({"metadata": {"name": "web"}, "spec": {"replicas": replicas,
            "selector": {"matchLabels": {"app": "web"}}, "template": template}}))
        .await;
    world
        .until_one("web", "the rollout", |d: &Deployment| {
            d.status.as_ref().is_some_and(|s| {
                s.available_replicas == Some(replicas) && s.observed_generation == d.metadata.generation
            })
        })
        .await;
    world
}

fn autoscaler() -> serde_json::Value {
    json!({"metadata": {"name": "web"}, "spec": {"scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "web"},
        "minReplicas": 2, "maxReplicas": 5,
        "metrics": [{"type": "Resource", "resource": {"name": "cpu", "target": {"type": "Utilization", "averageUtilization": 50}}}]}})
}

fn condition(autoscaler: &HorizontalPodAutoscaler, kind: &str) -> Option<(String, String)> {
    let conditions = autoscaler.status.as_ref()?.conditions.as_ref()?;
    let found = conditions.iter().find(|c| c.type_ == kind)?;
    Some((found.status.clone(), found.reason.clone().unwrap_or_default()))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_busy_target_grows_to_its_bound() {
    let world = autoscaled(2).await;
    let pods = world.until("two pods", |all: &[Pod]| all.len() == 2).await;
    // Pods that started long ago: only such are judged by their CPU.
    for pod in &pods {
        world.merge_status::<Pod>(&pod.name_any(), json!({"startTime": "2026-01-01T00:00:00Z"})).await;
    }
    let items: Vec<_> = pods
        .iter()
        .map(|p| {
            json!({"metadata": {"name": p.name_any()}, "timestamp": jiff::Timestamp::now().to_string(), "window": "15s",
                "containers": [{"name": "c", "usage": {"cpu": "130m", "memory": "1Mi"}}]})
        })
        .collect();
    *world.metrics.lock().unwrap() =
        json!({"kind": "PodMetricsList", "apiVersion": "metrics.k8s.io/v1beta1", "items": items});
    world.create::<HorizontalPodAutoscaler>(autoscaler()).await;
    world.until_one("web", "five replicas", |d: &Deployment| d.spec.as_ref().unwrap().replicas == Some(5)).await;
    let told = world.until_one("web", "the status", |a: &HorizontalPodAutoscaler| {
        a.status.as_ref().is_some_and(|s| s.desired_replicas == 5)
    });
    let told = told.await;
    assert_eq!(condition(&told, "ScalingActive"), Some(("True".into(), "ValidMetricFound".into())));
    assert_eq!(condition(&told, "ScalingLimited"), Some(("True".into(), "TooManyReplicas".into())));
    let metrics = told.status.unwrap().current_metrics.unwrap();
    assert_eq!(metrics[0].resource.as_ref().unwrap().current.average_utilization, Some(130));
    let counted = "horizontal_pod_autoscaler_controller_reconciliations_total{action=\"scale_up\",error=\"none\"} ";
    assert!(world.counted().await.contains(counted));
}

#[tokio::test(flavor = "multi_thread")]
async fn bounds_hold_without_metrics_and_their_lack_is_told() {
    let world = autoscaled(1).await;
    world.create::<HorizontalPodAutoscaler>(autoscaler()).await;
    world.until_one("web", "the least", |d: &Deployment| d.spec.as_ref().unwrap().replicas == Some(2)).await;
    // A change of the spec has it look again at once.
    world
        .until_one("web", "the scale", |a: &HorizontalPodAutoscaler| {
            a.status.as_ref().is_some_and(|s| s.desired_replicas == 2)
        })
        .await;
    world.merge::<HorizontalPodAutoscaler>("web", json!({"spec": {"maxReplicas": 6}})).await;
    world
        .until_one("web", "the lack to be told", |a: &HorizontalPodAutoscaler| {
            condition(a, "ScalingActive") == Some(("False".into(), "FailedGetResourceMetric".into()))
        })
        .await;
}
