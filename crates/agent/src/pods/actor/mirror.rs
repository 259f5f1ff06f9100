//! A static pod's actor keeps its mirror in the API: made when it is missing or another's, and given the status.

use std::{sync::Arc, time::Duration};

use k8s_openapi::api::core::v1::{Node, Pod};
use kube::{
    Api,
    api::{DeleteParams, PostParams, Preconditions},
};
use tokio::time::Instant;

use super::{Actor, Message, revision};
use crate::{
    pods::status_writer::StatusWriter,
    static_pods::{CONFIG_HASH, CONFIG_MIRROR, is_static, mirror_of},
};

/// Before the API is asked again.
const RETRY: Duration = Duration::from_secs(5);

/// Between a mirror's end and its successor. `kubectl delete` asks for the pod, then lists and watches: were there another
/// one of the name in between, it would wait for the end of that one.
const SUCCESSION: Duration = Duration::from_secs(1);

/// What the API shows of a static pod.
#[derive(Default)]
pub struct Mirror {
    pod: Option<Arc<Pod>>,
    busy: bool,
    retry_at: Option<Instant>,
}

impl Mirror {
    /// That of the object in the API.
    pub fn uid(&self) -> Option<String> {
        self.pod.as_ref().and_then(|p| p.metadata.uid.clone())
    }
}

impl Actor {
    /// Whether the pod comes from a file.
    pub(super) fn is_static(&self) -> bool {
        is_static(&self.pod)
    }

    /// The pod as the API knows it, whose status is written: the mirror of a static pod, if it has one.
    pub(super) fn reported_as(&self) -> Option<Arc<Pod>> {
        if self.is_static() { self.mirror.pod.clone() } else { Some(Arc::clone(&self.pod)) }
    }

    pub(super) fn mirrored(&mut self, mirror: Option<Arc<Pod>>) {
        let known = self.mirror.uid();
        match mirror {
            // The answer to a write may come after the word of what happened to the mirror since, above all that it is
            // to go: who took it for the present state would never let it go.
            Some(pod) if is_past(&pod, self.mirror.pod.as_deref()) => {}
            Some(pod) => {
                if known != pod.metadata.uid {
                    self.writer = StatusWriter::new(&pod);
                } else {
                    self.writer.observe(&pod);
                }
                self.take_reported(&pod);
                self.mirror.pod = Some(pod);
            }
            None => {
                if self.mirror.pod.take().is_some() {
                    self.mirror.retry_at = Some(Instant::now() + SUCCESSION);
                }
            }
        }
    }

    /// The mirror carries what was reported, such as the times of transitions.
    pub(super) fn take_reported(&mut self, mirror: &Pod) {
        if self.is_mirror(mirror) {
            let mut pod = (*self.pod).clone();
            pod.status.clone_from(&mirror.status);
            self.adopt_version(Arc::new(pod));
        }
    }

    fn is_mirror(&self, mirror: &Pod) -> bool {
        let of = |pod: &Pod, key: &str| pod.metadata.annotations.as_ref().and_then(|a| a.get(key).cloned());
        of(mirror, CONFIG_MIRROR) == of(&self.pod, CONFIG_HASH)
    }

    /// Makes the mirror, or removes one that shows something else. Whether there is one that shows this pod.
    pub(super) fn keep_mirror(&mut self) -> bool {
        let right =
            self.mirror.pod.as_ref().is_some_and(|m| self.is_mirror(m) && m.metadata.deletion_timestamp.is_none());
        if right || self.mirror.busy || self.ending.as_ref().is_some_and(|e| e.torn_down) {
            return right;
        }
        if let Some(at) = self.mirror.retry_at.filter(|at| *at > Instant::now()) {
            self.wake_at(at);
            return false;
        }
        self.mirror.busy = true;
        let old = self.mirror.pod.clone();
        let (client, pod) = (self.context.client.clone(), Arc::clone(&self.pod));
        let node_name = self.context.config.node_name.clone();
        self.spawn(async move {
            let api: Api<Pod> = Api::namespaced(client.clone(), pod.metadata.namespace.as_deref().unwrap_or("default"));
            let result = match old {
                Some(old) => remove(&api, &old).await.map(|()| None),
                None => {
                    let node = Api::<Node>::all(client).get_opt(&node_name).await.ok().flatten();
                    let mirror = mirror_of(&pod, node.as_ref());
                    match api.create(&PostParams::default(), &mirror).await {
                        Ok(made) => Ok(Some(Arc::new(made))),
                        // One of an earlier agent: it is looked at.
                        Err(kube::Error::Api(status)) if status.code == 409 => {
                            let name = pod.metadata.name.clone().unwrap_or_default();
                            api.get_opt(&name).await.map(|found| found.map(Arc::new)).map_err(|e| e.to_string())
                        }
                        Err(error) => Err(error.to_string()),
                    }
                }
            };
            Message::MirrorKept(result)
        });
        false
    }

    pub(super) fn mirror_kept(&mut self, result: Result<Option<Arc<Pod>>, String>) {
        self.mirror.busy = false;
        match result {
            Ok(mirror) => self.mirrored(mirror),
            Err(error) => {
                tracing::debug!(pod = self.record.name, error, "the mirror of a static pod can't be kept yet");
                self.mirror.retry_at = Some(Instant::now() + RETRY);
            }
        }
    }

    /// The file is gone and the pod's end is done: the mirror goes, too. Should the API not answer, the next start or
    /// the next word of the mirror removes it.
    pub(super) fn delete_mirror(&mut self) {
        let mirror = self.mirror.pod.take();
        let client = self.context.client.clone();
        self.spawn(async move {
            if let Some(mirror) = mirror {
                let api: Api<Pod> = Api::namespaced(client, mirror.metadata.namespace.as_deref().unwrap_or("default"));
                if let Err(error) = remove(&api, &mirror).await {
                    tracing::debug!(error, "the mirror of a static pod that is gone is still there");
                }
            }
            Message::Gone
        });
    }
}

/// Whether a version is older than the one that is known. Versions are those of the whole store, so that this also
/// tells a mirror from its successor.
fn is_past(pod: &Pod, known: Option<&Pod>) -> bool {
    known.is_some_and(|known| revision(pod) < revision(known))
}

/// Removes a mirror at once.
pub async fn remove(api: &Api<Pod>, mirror: &Pod) -> Result<(), String> {
    let preconditions = Preconditions { uid: mirror.metadata.uid.clone(), resource_version: None };
    let parameters = DeleteParams { preconditions: Some(preconditions), ..DeleteParams::default().grace_period(0) };
    match api.delete(mirror.metadata.name.as_deref().unwrap_or_default(), &parameters).await {
        Ok(_) => Ok(()),
        // Gone already, or another one has the name now.
        Err(kube::Error::Api(status)) if matches!(status.code, 404 | 409) => Ok(()),
        Err(error) => Err(error.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_late_answer_does_not_hide_that_a_mirror_is_to_go() {
        let version = |version: &str, deleted: Option<&str>| -> Pod {
            serde_json::from_value(
                json!({"metadata": {"uid": "u", "resourceVersion": version, "deletionTimestamp": deleted}}),
            )
            .expect("a pod")
        };
        let leaving = version("10", Some("2026-01-01T00:00:00Z"));
        assert!(is_past(&version("9", None), Some(&leaving)));
        assert!(!is_past(&version("10", None), Some(&leaving)));
        assert!(!is_past(&version("12", None), Some(&leaving)), "its successor");
        assert!(!is_past(&version("9", None), None));
    }
}
