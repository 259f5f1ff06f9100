//! Quotas tell how much is used.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{ConfigMap, Pod, ResourceQuota};
use kube::api::DeleteParams;
use serde_json::json;

use crate::world::{World, template};

fn used(quota: &ResourceQuota) -> BTreeMap<String, String> {
    let used = quota.status.as_ref().and_then(|s| s.used.clone()).unwrap_or_default();
    used.into_iter().map(|(name, amount)| (name, amount.0)).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn usage_follows_what_comes_ends_and_goes() {
    let world = World::new().await;
    let hard = json!({"pods": "10", "requests.cpu": "4", "count/configmaps": "10", "services": "5", "count/deployments.apps": "2"});
    world.create::<ResourceQuota>(json!({"metadata": {"name": "q"}, "spec": {"hard": hard}})).await;
    let is = |pods: &'static str, cpu: &'static str, maps: &'static str| {
        move |quota: &ResourceQuota| {
            let used = used(quota);
            let of = |name: &str| used.get(name).map(String::as_str).unwrap_or_default();
            (of("pods"), of("requests.cpu"), of("count/configmaps"), of("count/deployments.apps"))
                == (pods, cpu, maps, "0")
        }
    };
    // The cluster's authority is one, and the Service of the API itself is another's.
    world.until_one("q", "what is there from the start", is("0", "0", "1")).await;
    for name in ["a", "b"] {
        let mut pod = template("web", "i");
        pod["metadata"]["name"] = json!(name);
        pod["spec"]["containers"][0]["resources"] = json!({"requests": {"cpu": "250m"}});
        world.create::<Pod>(pod).await;
    }
    world.create::<ConfigMap>(json!({"metadata": {"name": "m"}})).await;
    world.until_one("q", "both pods and the map", is("2", "500m", "2")).await;
    world.outcome("a", "exit:0").await;
    world.until_one("q", "one pod to have ended", is("1", "250m", "2")).await;
    world.delete::<Pod>("b", DeleteParams::default()).await;
    world.delete::<ConfigMap>("m", DeleteParams::default()).await;
    world.until_one("q", "all to be free again", is("0", "0", "1")).await;
}
