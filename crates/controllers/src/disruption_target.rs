//! The condition that tells a pod's owner why others than it end the pod.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::Pod;
use kube::{
    Api, Client, ResourceExt,
    api::{Patch, PatchParams},
};
use serde_json::{Value, json};

use crate::{
    Error, Shared,
    error::gone_is_fine,
    informer::Change,
    pods,
    queue::{Key, Queue},
};

const KIND: &str = "DisruptionTarget";
/// The reason that a node's agent gives.
const BY_NODE: &str = "TerminationByKubelet";
/// A pod that is not being deleted after this time stays (upstream's `stalePodDisruptionTimeout`).
const STALE: SignedDuration = SignedDuration::from_mins(2);

/// Writes reason and message of what is about to end the pod, and its phase if that is to change at once. That the
/// pod is gone, or another has its name, is no error.
pub async fn mark(client: &Client, pod: &Pod, phase: Option<&str>, words: Option<(&str, &str)>) -> Result<(), Error> {
    let conditions: Vec<Value> =
        words.iter().map(|(reason, message)| condition(pod, "True", Some(reason), Some(message))).collect();
    write(client, pod, phase, conditions).await
}

/// Takes the condition back from pods that stay after all (upstream's disruption controller).
pub async fn withdraw(shared: Shared) {
    let queue = Queue::default();
    shared.pods.synced().await;
    let on_pod = queue.clone();
    shared.pods.listen(move |change| {
        let Change::Applied { new: pod, .. } = change else { return };
        if let Some(left) = left(pod, Timestamp::now()) {
            on_pod.add_after(Key::of(&**pod), left);
        }
    });
    let again = queue.clone();
    queue.work("stale-disruption", 1, |key| reconsider(shared.clone(), again.clone(), key)).await;
}

async fn reconsider(shared: Shared, queue: Queue, key: Key) -> Result<(), Error> {
    let Some(pod) = shared.pods.get(&key) else { return Ok(()) };
    match left(&pod, Timestamp::now()) {
        None => Ok(()),
        Some(Duration::ZERO) => write(&shared.client, &pod, None, vec![condition(&pod, "False", None, None)]).await,
        Some(left) => {
            queue.add_after(key, left);
            Ok(())
        }
    }
}

/// How long the condition is still to be believed. What the node itself said holds for good, and so does all that is
/// said of pods that go or have ended.
fn left(pod: &Pod, now: Timestamp) -> Option<Duration> {
    let said = pods::condition(pod, KIND).filter(|c| c.status == "True")?;
    if !pods::is_active(pod) || said.reason.as_deref() == Some(BY_NODE) {
        return None;
    }
    let since = said.last_transition_time.as_ref().map_or(now, |t| t.0);
    let left = STALE.checked_sub(now.duration_since(since)).unwrap_or_default();
    Some(Duration::try_from(left).unwrap_or_default())
}

fn condition(pod: &Pod, status: &str, reason: Option<&str>, message: Option<&str>) -> Value {
    let before = pods::condition(pod, KIND).filter(|c| c.status == status);
    let since = before.and_then(|c| c.last_transition_time.as_ref()).map_or_else(Timestamp::now, |t| t.0);
    json!({
        "type": KIND, "status": status, "reason": reason, "message": message,
        "lastTransitionTime": since.strftime("%FT%TZ").to_string(), "observedGeneration": pod.metadata.generation,
    })
}

async fn write(client: &Client, pod: &Pod, phase: Option<&str>, conditions: Vec<Value>) -> Result<(), Error> {
    let patch = patch(pod, phase, conditions);
    let api: Api<Pod> = Api::namespaced(client.clone(), &pod.namespace().unwrap_or_default());
    gone_is_fine(api.patch_status(&pod.name_any(), &PatchParams::default(), &Patch::Strategic(patch)).await)
}

/// Who gives a pod its last phase has seen the pod as it is, in place of a node that no longer does.
fn patch(pod: &Pod, phase: Option<&str>, conditions: Vec<Value>) -> Value {
    let mut status = json!({"conditions": conditions});
    if let Some(phase) = phase {
        status["phase"] = phase.into();
        status["observedGeneration"] = pod.metadata.generation.into();
    }
    json!({"metadata": {"uid": pod.uid()}, "status": status})
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_condition_and_a_last_phase_say_of_which_generation_they_are() {
        let pod: Pod = serde_json::from_value(json!({"metadata": {"name": "p", "generation": 3}})).unwrap();
        let words = condition(&pod, "True", Some("DeletionByPodGC"), None);
        assert_eq!(words["observedGeneration"], json!(3));
        assert_eq!(patch(&pod, Some("Failed"), vec![words.clone()])["status"]["observedGeneration"], json!(3));
        assert_eq!(patch(&pod, None, vec![words])["status"].get("observedGeneration"), None);
    }

    #[test]
    fn what_is_said_of_a_pod_that_stays_is_believed_for_two_minutes() {
        let pod = |reason: &str, more: Value| -> Pod {
            let mut pod = json!({"metadata": {"name": "p"}, "status": {"phase": "Running", "conditions": [
                {"type": KIND, "status": "True", "reason": reason, "lastTransitionTime": "2026-01-01T00:00:00Z"}]}});
            for (section, fields) in more.as_object().unwrap() {
                pod[section].as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
            }
            serde_json::from_value(pod).unwrap()
        };
        let at = |minute: u8| format!("2026-01-01T00:0{minute}:00Z").parse().unwrap();
        let evicted = pod("EvictionByEvictionAPI", json!({}));
        assert_eq!(left(&evicted, at(1)), Some(Duration::from_mins(1)));
        assert_eq!(left(&evicted, at(3)), Some(Duration::ZERO));
        for (reason, more) in [
            (BY_NODE, json!({})),
            ("x", json!({"metadata": {"deletionTimestamp": "2026-01-01T00:01:00Z"}})),
            ("x", json!({"status": {"phase": "Failed"}})),
            ("x", json!({"status": {"conditions": []}})),
        ] {
            assert_eq!(left(&pod(reason, more.clone()), at(3)), None, "{reason} {more}");
        }
    }
}
