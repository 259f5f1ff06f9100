//! Pods that nobody will end: those on nodes that are gone or out of service, those deleted before they had a node,
//! and the oldest of too many that have ended.

use std::{collections::HashSet, time::Duration};

use k8s_openapi::api::core::v1::{Node, Pod};
use kube::{
    Api, ResourceExt,
    api::{DeleteParams, Preconditions},
};

use crate::{
    Error, Shared, disruption_target,
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

/// By this taint an administrator vouches that nothing runs any longer on a node that is not ready.
pub(crate) const OUT_OF_SERVICE: &str = "node.kubernetes.io/out-of-service";

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
        let host = nodes.get(&Key::new("", node));
        let lost = !node.is_empty() && host.is_none();
        let left = pod.metadata.deletion_timestamp.is_some() && host.is_none_or(|node| is_out_of_service(&node));
        if lost || left || pods::is_terminal(pod) {
            match lost {
                true => on_pod.add_after(Key::new("", LOST), QUARANTINE),
                false => on_pod.add_after(Key::new("", ENDED), SETTLE),
            }
        }
    });
    let on_node = queue.clone();
    shared.nodes.listen(move |change| match change {
        Change::Deleted(_) => on_node.add_after(Key::new("", LOST), QUARANTINE),
        Change::Applied { new: node, .. } if is_out_of_service(node) => on_node.add(Key::new("", ENDED)),
        Change::Applied { .. } => {}
    });
    queue.work("podgc", 1, |key| sweep(shared.clone(), key)).await;
}

fn is_out_of_service(node: &Node) -> bool {
    let tainted = node.spec.iter().flat_map(|s| s.taints.iter().flatten()).any(|t| t.key == OUT_OF_SERVICE);
    let mut conditions = node.status.iter().flat_map(|s| s.conditions.iter().flatten());
    tainted && !conditions.any(|c| c.type_ == "Ready" && c.status == "True")
}

async fn sweep(shared: Shared, what: Key) -> Result<(), Error> {
    let all = shared.pods.all();
    let known = shared.nodes.all();
    let nodes: HashSet<String> = known.iter().map(|n| n.name_any()).collect();
    let out_of_service: HashSet<String> = known.iter().filter(|n| is_out_of_service(n)).map(|n| n.name_any()).collect();
    let mut ended: Vec<_> = Vec::new();
    for pod in &all {
        let node = pod.spec.as_ref().and_then(|s| s.node_name.clone()).unwrap_or_default();
        if !node.is_empty() && !nodes.contains(&node) {
            if what.name != LOST {
                continue;
            }
            // Ask before judging: the cache may lag behind a node that has just joined.
            let api: Api<Node> = Api::all(shared.client.clone());
            if api.get_opt(&node).await?.is_none() {
                let words = ("DeletionByPodGC", "PodGC: node no longer exists");
                end(&shared, pod, Some(words)).await?;
            }
        } else if (node.is_empty() || out_of_service.contains(&node)) && pod.metadata.deletion_timestamp.is_some() {
            end(&shared, pod, None).await?;
        } else if pods::is_terminal(pod) {
            ended.push(pod);
        }
    }
    ended.sort_by_key(|p| p.creation_timestamp());
    let surplus = ended.len().saturating_sub(KEPT);
    for pod in ended.into_iter().take(surplus) {
        end(&shared, pod, None).await?;
    }
    Ok(())
}

/// Deletes for good; a pod that has not ended is marked as failed first, so that its owner counts it.
async fn end(shared: &Shared, pod: &Pod, why: Option<(&str, &str)>) -> Result<(), Error> {
    if !pods::is_terminal(pod) {
        disruption_target::mark(&shared.client, pod, Some("Failed"), why).await?;
    }
    let api: Api<Pod> = Api::namespaced(shared.client.clone(), &pod.namespace().unwrap_or_default());
    let params =
        DeleteParams::default().grace_period(0).preconditions(Preconditions { uid: pod.uid(), resource_version: None });
    gone_is_fine(api.delete(&pod.name_any(), &params).await)
}
