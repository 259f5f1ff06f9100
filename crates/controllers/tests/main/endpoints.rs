//! Services know their pods.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use http::Method;
use k8s_openapi::api::{
    apps::v1::Deployment,
    core::v1::{Endpoints, Event, Pod, Service, ServiceAccount},
    discovery::v1::EndpointSlice,
};
use kube::{Client, ResourceExt, api::DeleteParams};
use serde_json::json;
use tokio::sync::watch;
use tower::ServiceExt;

use crate::{
    failpoint::lost,
    world::{World, template},
};

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
    let before = world.get::<Endpoints>("web").await.uid();
    world.delete::<Endpoints>("web", DeleteParams::default()).await;
    world
        .until("others in their place", |all: &[Endpoints]| {
            all.iter().any(|e| e.name_any() == "web" && e.uid() != before && count(e, true) == 2)
        })
        .await;
    world.delete::<Service>("web", DeleteParams::default()).await;
    world.until("no slices", |all: &[EndpointSlice]| all.iter().all(|s| !s.name_any().starts_with("web"))).await;
    world.until("no endpoints", |all: &[Endpoints]| all.iter().all(|e| e.name_any() != "web")).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn endpoints_made_by_hand_are_mirrored_while_the_service_selects_nothing() {
    let world = World::new().await;
    world.create::<Service>(json!({"metadata": {"name": "db"}, "spec": {"ports": [{"port": 5432}]}})).await;
    let subsets = json!([{"addresses": [{"ip": "192.0.2.7"}], "ports": [{"port": 5432}]}]);
    world.create::<Endpoints>(json!({"metadata": {"name": "db"}, "subsets": subsets})).await;
    let mirrored = |all: &[EndpointSlice]| -> Vec<String> {
        let ours = all.iter().filter(|s| s.labels().get("kubernetes.io/service-name").is_some_and(|n| n == "db"));
        ours.flat_map(|s| s.endpoints.iter().flatten()).flat_map(|e| e.addresses.clone()).collect()
    };
    world.until("the address in a slice", |all: &[EndpointSlice]| mirrored(all) == ["192.0.2.7"]).await;
    let more = json!({"subsets": [{"addresses": [{"ip": "192.0.2.8"}], "ports": [{"port": 5432}]}]});
    world.merge::<Endpoints>("db", more).await;
    world.until("the other address", |all: &[EndpointSlice]| mirrored(all) == ["192.0.2.8"]).await;
    world
        .merge::<Endpoints>("db", json!({"metadata": {"labels": {"endpointslice.kubernetes.io/skip-mirror": "true"}}}))
        .await;
    world.until("no mirror", |all: &[EndpointSlice]| mirrored(all).is_empty()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_that_wants_hints_by_topology_hears_why_it_gets_none() {
    let world = World::new().await;
    world
        .create::<Service>(
            json!({"metadata": {"name": "web", "annotations": {"service.kubernetes.io/topology-mode": "Auto"}},
            "spec": {"selector": {"app": "web"}, "ports": [{"port": 80}]}}),
        )
        .await;
    let is_told = |event: &Event| {
        event.reason.as_deref() == Some("TopologyAwareHintsDisabled")
            && event.message.as_deref().is_some_and(|text| text.starts_with("Insufficient Node information"))
    };
    world.until("an event", |all: &[Event]| all.iter().any(is_told)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slice_whose_answer_was_lost_is_not_made_twice_however_late_the_cache() {
    let world = World::without_controllers(&["node-a"]).await;
    world
        .create::<Service>(json!({"metadata": {"name": "web"}, "spec": {"selector": {"app": "web"},
            "ports": [{"port": 80}]}}))
        .await;
    // The first slice is made and its answer lost; no event tells of it until the controller has asked again.
    let made = Arc::new(AtomicUsize::new(0));
    let asked_again = watch::Sender::new(false);
    let (api, count, again) = (world.service(), made.clone(), asked_again.clone());
    let client = tower::service_fn(move |request: http::Request<kube::client::Body>| {
        let (api, count, again) = (api.clone(), count.clone(), again.clone());
        async move {
            if !request.uri().path().ends_with("/endpointslices") {
                return api.oneshot(request).await;
            }
            let is_of_namespace = request.uri().path().contains("/namespaces/");
            if request.uri().query().is_some_and(|query| query.contains("watch=true")) {
                let _ = again.subscribe().wait_for(|again| *again).await;
                return api.oneshot(request).await;
            }
            let makes = *request.method() == Method::POST;
            let earlier = count.fetch_add(usize::from(makes), Ordering::AcqRel);
            let answer = api.oneshot(request).await;
            if earlier > 0 && is_of_namespace {
                again.send_replace(true);
            }
            if makes && earlier == 0 { Ok(lost()) } else { answer }
        }
    });
    let controllers = controllers::run(Client::new(client, "default"), controllers::Config::new("CA"));
    let mut tasks = tokio::task::JoinSet::new();
    tasks.spawn(controllers);
    world.until("the default account", |all: &[ServiceAccount]| all.iter().any(|a| a.name_any() == "default")).await;
    world
        .create::<Pod>(json!({"metadata": {"name": "one", "labels": {"app": "web"}},
        "spec": {"containers": [{"name": "c", "image": "i"}]}}))
        .await;
    world.until("the pod's address", |all: &[EndpointSlice]| addresses(all, true) == 1).await;
    world.outcome("one", "running").await;
    world.until("a pod that is not ready", |all: &[EndpointSlice]| addresses(all, false) == 1).await;
    assert!(*asked_again.borrow());
    // The empty slice of a Service without endpoints, and the one with the pod.
    assert_eq!(made.load(Ordering::Acquire), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn endpoints_that_went_or_were_left_behind_while_nobody_watched_are_put_right() {
    let world = World::without_controllers(&["node-a"]).await;
    let watches = watch::Sender::new(false);
    let (api, may_watch) = (world.service(), watches.clone());
    let client = tower::service_fn(move |request: http::Request<kube::client::Body>| {
        let (api, may_watch) = (api.clone(), may_watch.clone());
        async move {
            let selects_ours = request.uri().query().is_some_and(|query| query.contains("managed-by"));
            if request.uri().path() == "/api/v1/endpoints" && selects_ours {
                let _ = may_watch.subscribe().wait_for(|may| *may).await;
            }
            api.oneshot(request).await
        }
    });
    let mut tasks = tokio::task::JoinSet::new();
    tasks.spawn(controllers::run(Client::new(client, "default"), controllers::Config::new("CA")));
    world.until("the default account", |all: &[ServiceAccount]| all.iter().any(|a| a.name_any() == "default")).await;
    let spec = json!({"selector": {"app": "web"}, "ports": [{"port": 80}]});
    world.create::<Service>(json!({"metadata": {"name": "web"}, "spec": spec})).await;
    world.until("endpoints", |all: &[Endpoints]| all.iter().any(|e| e.name_any() == "web")).await;
    let managed = json!({"endpoints.kubernetes.io/managed-by": "endpoint-controller"});
    world.create::<Endpoints>(json!({"metadata": {"name": "left", "labels": managed}})).await;
    world.create::<Endpoints>(json!({"metadata": {"name": "someone-elses"}})).await;
    world.delete::<Endpoints>("web", DeleteParams::default()).await;
    watches.send_replace(true);
    let names = |all: &[Endpoints]| -> Vec<String> {
        let mut names: Vec<_> = all.iter().map(ResourceExt::name_any).filter(|n| n != "kubernetes").collect();
        names.sort();
        names
    };
    world.until("what Services and people want", |all: &[Endpoints]| names(all) == ["someone-elses", "web"]).await;
}
