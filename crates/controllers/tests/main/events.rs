//! Events do not stay for ever.

use std::time::Duration;

use k8s_openapi::api::core::v1::Event;
use kube::ResourceExt;
use serde_json::json;

use crate::world::World;

#[tokio::test(flavor = "multi_thread")]
async fn an_event_goes_its_time_after_it_was_seen_last() {
    let world = World::with(&["node-a"], Duration::from_secs(1)).await;
    let about = json!({"kind": "Pod", "namespace": "default", "name": "p"});
    world
        .create::<Event>(
            json!({"metadata": {"name": "e"}, "involvedObject": about, "reason": "Told", "type": "Normal"}),
        )
        .await;
    let is_there = |all: &[Event]| all.iter().any(|e| e.name_any() == "e");
    world.until("the event to be gone", |all: &[Event]| !is_there(all)).await;
}
