//! Services know their pods.

use k8s_openapi::api::{
    apps::v1::Deployment,
    core::v1::{Endpoints, Pod, Service},
    discovery::v1::EndpointSlice,
};
use kube::{ResourceExt, api::DeleteParams};
use serde_json::json;

use crate::world::{World, template};

fn addresses(slices: &[EndpointSlice], ready: bool) -> usize {
    let all = slices.iter().filter(|s| s.labels().get("kubernetes.io/service-name").is_some_and(|n| n == "web"));
    all.flat_map(|s| s.endpoints.iter().flatten())
        .filter(|e| e.conditions.as_ref().is_some_and(|c| c.ready == Some(ready)))
        .map(|e| e.addresses.len())
        .sum()
}

#[tokio::test(flavor = "multi_thread")]
async fn slices_and_endpoints_follow_the_pods_readiness_and_go_with_the_service() {
    let world = World::new().await;
    world
        .create::<Service>(json!({"metadata": {"name": "web"}, "spec": {"selector": {"app": "web"},
            "ports": [{"name": "http", "port": 80, "targetPort": "http"}]}}))
        .await;
    world
        .create::<Deployment>(json!({"metadata": {"name": "web"}, "spec": {"replicas": 3,
            "selector": {"matchLabels": {"app": "web"}}, "template": template("web", "i")}}))
        .await;
    let slices = world.until("three endpoints", |all: &[EndpointSlice]| addresses(all, true) == 3).await;
    let ours = slices.iter().find(|s| s.name_any().starts_with("web-")).expect("the slice bears the service's name");
    assert_eq!(ours.ports.as_ref().unwrap()[0].port, Some(8080));
    let pod = world.until("pods", |all: &[Pod]| all.len() == 3).await[0].name_any();
    world.outcome(&pod, "running").await;
    world
        .until("two that serve, one that does not", |all: &[EndpointSlice]| {
            (addresses(all, true), addresses(all, false)) == (2, 1)
        })
        .await;
    let count = |e: &Endpoints, ready: bool| {
        let lists = e.subsets.iter().flatten().flat_map(|s| if ready { &s.addresses } else { &s.not_ready_addresses });
        lists.map(Vec::len).sum::<usize>()
    };
    world
        .until_one("web", "the same in the older kind", |e: &Endpoints| (count(e, true), count(e, false)) == (2, 1))
        .await;
    world.delete::<Service>("web", DeleteParams::default()).await;
    world.until("no slices", |all: &[EndpointSlice]| all.iter().all(|s| !s.name_any().starts_with("web"))).await;
    world.until("no endpoints", |all: &[Endpoints]| all.iter().all(|e| e.name_any() != "web")).await;
}
