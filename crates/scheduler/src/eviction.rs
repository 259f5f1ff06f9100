//! Carrying a preemption out: victims are told why, and go; who gets the room is written down.

use std::sync::Arc;

use k8s_openapi::{
    api::core::v1::{Pod, PodCondition},
    apimachinery::pkg::apis::meta::v1::Time,
};
use kube::{
    Api, Client,
    api::{DeleteParams, Patch, PatchParams, Preconditions},
};
use serde_json::{Value, json};

use crate::{
    binding::{Outcome, patch_status},
    pod::PodInfo,
    preempt::Victims,
};

/// Deletes the victims with their grace, and records on the pod the node that is being cleared.
pub(crate) async fn make_room(client: Client, scheduler: String, pod: Arc<PodInfo>, victims: Victims) -> Outcome {
    for other in victims.disappointed {
        patch_status(client.clone(), other.clone(), nomination_patch(&other, None)).await;
    }
    let evictions: Vec<_> = victims
        .pods
        .into_iter()
        .filter(|victim| !victim.terminating)
        .map(|victim| evict(client.clone(), scheduler.clone(), victim))
        .collect();
    // Who could not be evicted is in the way: the pod is tried anew.
    let evicted = futures::future::try_join_all(evictions).await;
    if let Err(error) = evicted {
        return Outcome::NoRoom { pod, error: error.to_string() };
    }
    patch_status(client, pod.clone(), nomination_patch(&pod, Some(&victims.node))).await
}

async fn evict(client: Client, scheduler: String, victim: Arc<PodInfo>) -> Result<(), kube::Error> {
    let pods = Api::<Pod>::namespaced(client, &victim.namespace);
    let condition = PodCondition {
        type_: "DisruptionTarget".into(),
        status: "True".into(),
        reason: Some("PreemptionByScheduler".into()),
        message: Some(format!("{scheduler}: preempting to accommodate a higher priority pod")),
        last_transition_time: Some(Time(jiff::Timestamp::now())),
        observed_generation: victim.generation,
        ..PodCondition::default()
    };
    let patch = json!({"metadata": {"uid": &*victim.uid}, "status": {"conditions": [condition]}});
    let told = pods.patch_status(&victim.name, &PatchParams::default(), &Patch::Strategic(patch)).await;
    gone_is_fine(told.map(drop))?;
    let same = Preconditions { uid: Some(victim.uid.to_string()), ..Preconditions::default() };
    let params = DeleteParams { preconditions: Some(same), ..DeleteParams::default() };
    gone_is_fine(pods.delete(&victim.name, &params).await.map(drop))
}

/// A victim that has gone by itself, or whose name another has taken, is no obstacle.
fn gone_is_fine(result: Result<(), kube::Error>) -> Result<(), kube::Error> {
    match result {
        Err(kube::Error::Api(status)) if matches!(status.code, 404 | 409) => Ok(()),
        other => other,
    }
}

/// The patch that records, or takes back, for which node room is being made.
pub(crate) fn nomination_patch(pod: &PodInfo, node: Option<&str>) -> Value {
    json!({"metadata": {"uid": &*pod.uid}, "status": {"nominatedNodeName": node}})
}
