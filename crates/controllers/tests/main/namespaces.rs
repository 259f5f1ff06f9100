//! Namespaces are furnished when they come and emptied when they go.

use k8s_openapi::api::core::v1::{ConfigMap, Namespace, Pod, Secret, ServiceAccount};
use kube::{
    Api, ResourceExt,
    api::{DeleteParams, Patch, PatchParams, PostParams},
};
use serde_json::json;

use crate::world::{World, template, until_in};

#[tokio::test(flavor = "multi_thread")]
async fn a_new_namespace_has_its_account_and_the_clusters_authority_and_gets_them_back() {
    let world = World::new().await;
    let namespaces: Api<Namespace> = Api::all(world.client.clone());
    let namespace = serde_json::from_value(json!({"metadata": {"name": "n"}})).unwrap();
    namespaces.create(&PostParams::default(), &namespace).await.unwrap();
    let accounts: Api<ServiceAccount> = Api::namespaced(world.client.clone(), "n");
    let there = |all: &[ServiceAccount]| all.iter().any(|a| a.name_any() == "default");
    let first = until_in(accounts.clone(), "the account", there).await;
    let maps: Api<ConfigMap> = Api::namespaced(world.client.clone(), "n");
    until_in(maps, "the authority", |all: &[ConfigMap]| {
        all.iter().any(|m| m.name_any() == "kube-root-ca.crt" && m.data.as_ref().is_some_and(|d| d["ca.crt"] == "CA"))
    })
    .await;
    accounts.delete("default", &DeleteParams::default()).await.unwrap();
    until_in(accounts, "another account", |all: &[ServiceAccount]| there(all) && all[0].uid() != first[0].uid()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_namespace_that_goes_takes_everything_along_and_says_what_holds_it() {
    let world = World::new().await;
    let namespaces: Api<Namespace> = Api::all(world.client.clone());
    let namespace = serde_json::from_value(json!({"metadata": {"name": "n"}})).unwrap();
    namespaces.create(&PostParams::default(), &namespace).await.unwrap();
    let accounts: Api<ServiceAccount> = Api::namespaced(world.client.clone(), "n");
    until_in(accounts, "the account", |all: &[ServiceAccount]| !all.is_empty()).await;
    let pods: Api<Pod> = Api::namespaced(world.client.clone(), "n");
    let mut pod = template("web", "i");
    pod["metadata"]["name"] = json!("web");
    pods.create(&PostParams::default(), &serde_json::from_value(pod).unwrap()).await.unwrap();
    let secrets: Api<Secret> = Api::namespaced(world.client.clone(), "n");
    let held = json!({"metadata": {"name": "held", "finalizers": ["example.com/hold"]}});
    secrets.create(&PostParams::default(), &serde_json::from_value(held).unwrap()).await.unwrap();
    namespaces.delete("n", &DeleteParams::default()).await.unwrap();
    until_in(namespaces.clone(), "the conditions", |all: &[Namespace]| {
        let conditions = all
            .iter()
            .filter(|n| n.name_any() == "n")
            .flat_map(|n| n.status.iter().flat_map(|s| s.conditions.iter().flatten()));
        let words = "Some content in the namespace has finalizers remaining: example.com/hold in 1 resource instances";
        conditions.filter(|c| c.status == "True").any(|c| c.message.as_deref() == Some(words))
    })
    .await;
    assert!(pods.list(&Default::default()).await.unwrap().items.is_empty(), "pods go first");
    let free = Patch::Merge(json!({"metadata": {"finalizers": null}}));
    secrets.patch("held", &PatchParams::default(), &free).await.unwrap();
    until_in(namespaces, "the namespace to be gone", |all: &[Namespace]| all.iter().all(|n| n.name_any() != "n")).await;
}
