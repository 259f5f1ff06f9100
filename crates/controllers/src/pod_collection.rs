//! Pods that nobody will end: those on nodes that are gone, those deleted before they had a node, and the oldest
//! of too many that have ended.

use std::{collections::HashSet, time::Duration};

use k8s_openapi::api::core::v1::Pod;
use kube::{
    Api, ResourceExt,
    api::{DeleteParams, Patch, PatchParams, Preconditions},
};
use serde_json::json;

use crate::{
    Error, Shared,
    error::gone_is_fine,
    informer::Change,
    pods,
    queue::{Key, Queue},
};

/// Ended pods that are kept (upstream's default).
const KEPT: usize = 12_500;
/// After a change that may have made work.
const SETTLE: Duration = Duration::from_secs(20);
/// How long a node must be gone before its pods go too.
const QUARANTINE: Duration = Duration::from_secs(40);

/// The sweeps: one for pods of nodes that are gone, one for the rest.
const LOST: &str = "lost";
const ENDED: &str = "ended";

pub(crate) async fn run(shared: Shared) {
    let queue = Queue::default();
    shared.pods.synced().await;
    shared.nodes.synced().await;
    let on_pod = queue.clone();
    let nodes = shared.nodes.clone();
    shared.pods.listen(move |change| {
        let Change::Applied { new: pod, .. } = change else { return };
        let node = pod.spec.as_ref().and_then(|s| s.node_name.as_deref()).unwrap_or_default();
        let lost = !node.is_empty() && nodes.get(&Key::new("", node)).is_none();
        let unborn = node.is_empty() && pod.metadata.deletion_timestamp.is_some();
        if lost || unborn || pods::is_terminal(pod) {
            match lost {
                true => on_pod.add_after(Key::new("", LOST), QUARANTINE),
                false => on_pod.add_after(Key::new("", ENDED), SETTLE),
            }
        }
    });
    let on_node = queue.clone();
    shared.nodes.listen(move |change| {
        if matches!(change, Change::Deleted(_)) {
            on_node.add_after(Key::new("", LOST), QUARANTINE);
        }
    });
    queue.work("podgc", 1, |key| sweep(shared.clone(), key)).await;
}

async fn sweep(shared: Shared, what: Key) -> Result<(), Error> {
    let all = shared.pods.all();
    let nodes: HashSet<String> = shared.nodes.all().iter().map(|n| n.name_any()).collect();
    let mut ended: Vec<_> = Vec::new();
    for pod in &all {
        let node = pod.spec.as_ref().and_then(|s| s.node_name.clone()).unwrap_or_default();
        if !node.is_empty() && !nodes.contains(&node) {
            if what.name != LOST {
                continue;
            }
            // Ask before judging: the cache may lag behind a node that has just joined.
            let api: Api<k8s_openapi::api::core::v1::Node> = Api::all(shared.client.clone());
            if api.get_opt(&node).await?.is_none() {
                end(&shared, pod, true).await?;
            }
        } else if node.is_empty() && pod.metadata.deletion_timestamp.is_some() {
            end(&shared, pod, false).await?;
        } else if pods::is_terminal(pod) {
            ended.push(pod);
        }
    }
    ended.sort_by_key(|p| p.creation_timestamp());
    let surplus = ended.len().saturating_sub(KEPT);
    for pod in ended.into_iter().take(surplus) {
        end(&shared, pod, false).await?;
    }
    Ok(())
}

/// Deletes for good; a pod that was still running is marked as failed first, so that its owner counts it.
async fn end(shared: &Shared, pod: &Pod, orphaned: bool) -> Result<(), Error> {
    let api: Api<Pod> = Api::namespaced(shared.client.clone(), &pod.namespace().unwrap_or_default());
    if orphaned && !pods::is_terminal(pod) {
        let patch = json!({"metadata": {"uid": pod.uid()}, "status": {"phase": "Failed", "conditions": [{
            "type": "DisruptionTarget", "status": "True", "reason": "DeletionByPodGC",
            "message": "PodGC: node no longer exists", "lastTransitionTime": jiff::Timestamp::now().strftime("%FT%TZ").to_string(),
        }]}});
        gone_is_fine(api.patch_status(&pod.name_any(), &PatchParams::default(), &Patch::Strategic(patch)).await)?;
    }
    let params =
        DeleteParams::default().grace_period(0).preconditions(Preconditions { uid: pod.uid(), resource_version: None });
    gone_is_fine(api.delete(&pod.name_any(), &params).await)
}
