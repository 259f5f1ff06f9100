//! What controllers, scheduler and agent use: `kube::Client` on the in-process service.

use std::time::Duration;

use futures::{StreamExt, TryStreamExt};
use k8s_openapi::api::core::v1::{ConfigMap, Pod, ServiceAccount};
use kube::{
    Client,
    api::{Api, DeleteParams, ListParams, ObjectMeta, Patch, PatchParams, PostParams, WatchEvent, WatchParams},
    runtime::{WatchStreamExt, watcher},
};
use serde_json::json;

use super::client;

#[tokio::test(flavor = "multi_thread")]
async fn a_kube_client_works_without_a_socket() {
    let api = client::Api::new().await;
    let client = Client::new(api.server.in_process(), "default");
    let maps: Api<ConfigMap> = Api::default_namespaced(client.clone());
    let object =
        ConfigMap { metadata: ObjectMeta { name: Some("a".into()), ..ObjectMeta::default() }, ..ConfigMap::default() };
    let made = maps.create(&PostParams::default(), &object).await.expect("it is created");
    assert!(made.metadata.uid.is_some());
    let configuration = Patch::Apply(json!({"apiVersion": "v1", "kind": "ConfigMap", "data": {"k": "v"}}));
    let patched = maps.patch("a", &PatchParams::apply("t"), &configuration).await;
    assert_eq!(patched.expect("it is applied").data.expect("it has data")["k"], "v");
    assert_eq!(maps.list(&ListParams::default()).await.expect("it lists").items.len(), 1);
    let mut events = maps.watch(&WatchParams::default(), "0").await.expect("it watches").boxed();
    let first = events.try_next().await.expect("the watch goes on");
    assert!(matches!(first, Some(WatchEvent::Added(_))), "{first:?}");
    maps.delete("a", &DeleteParams::default()).await.expect("it is deleted");
    assert!(maps.get_opt("a").await.expect("the server answers").is_none());
    let fault = maps.get("a").await.expect_err("it is gone");
    assert!(matches!(&fault, kube::Error::Api(status) if status.code == 404), "{fault:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn reflectors_list_and_stream() {
    let api = client::Api::new().await;
    let client = Client::new(api.server.in_process(), "default");
    let accounts: Api<ServiceAccount> = Api::default_namespaced(client.clone());
    let named = |name: &str| ServiceAccount {
        metadata: ObjectMeta { name: Some(name.into()), ..ObjectMeta::default() },
        ..ServiceAccount::default()
    };
    accounts.create(&PostParams::default(), &named("default")).await.expect("it is created");
    for config in [watcher::Config::default(), watcher::Config::default().streaming_lists()] {
        let pods: Api<Pod> = Api::default_namespaced(client.clone());
        let pod = |name: &str| -> Pod {
            serde_json::from_value(
                json!({"metadata": {"name": name}, "spec": {"containers": [{"name": "c", "image": "i"}]}}),
            )
            .expect("a pod")
        };
        pods.create(&PostParams::default(), &pod("first")).await.expect("it is created");
        let mut seen = watcher::watcher(pods.clone(), config).applied_objects().boxed();
        let name = |pod: Option<Pod>| pod.and_then(|p| p.metadata.name).unwrap_or_default();
        let deadline = Duration::from_secs(20);
        let next = tokio::time::timeout(deadline, seen.try_next()).await.expect("in time").expect("no fault");
        assert_eq!(name(next), "first");
        pods.create(&PostParams::default(), &pod("second")).await.expect("it is created");
        let next = tokio::time::timeout(deadline, seen.try_next()).await.expect("in time").expect("no fault");
        assert_eq!(name(next), "second");
        for name in ["first", "second"] {
            pods.delete(name, &DeleteParams::default()).await.expect("it is deleted");
        }
    }
}
