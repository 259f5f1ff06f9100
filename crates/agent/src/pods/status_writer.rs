//! Writes a pod's status: one patch at a time, the newest wins, errors are retried with backoff.

use std::{sync::Arc, time::Duration};

use k8s_openapi::api::core::v1::{Pod, PodStatus};
use kube::{
    Api, Client,
    api::{Patch, PatchParams},
    core::Status,
};
use serde_json::Value;
use tokio::time::Instant;

use super::status_patch;

/// What became of a patch.
pub enum Written {
    /// The API has it; the pod as the API has it now.
    Done(Arc<Pod>),
    /// The pod is gone, or another one has its name.
    Gone,
    /// It was refused or not answered.
    Failed(String),
}

/// The state of one pod's reporting. Drives nothing itself: the pod's actor asks what to do.
pub struct StatusWriter {
    reported: PodStatus,
    /// What was found to differ from `reported` in nothing that is to be written.
    settled: Option<PodStatus>,
    in_flight: Option<PodStatus>,
    retry_at: Option<Instant>,
    delay: Duration,
}

const FIRST_DELAY: Duration = Duration::from_millis(100);
const LONGEST_DELAY: Duration = Duration::from_secs(10);

impl StatusWriter {
    /// Begins with what the API has.
    pub fn new(pod: &Pod) -> Self {
        let reported = pod.status.clone().unwrap_or_default();
        Self { reported, settled: None, in_flight: None, retry_at: None, delay: FIRST_DELAY }
    }

    /// Another version of the pod came from the API: its status is what differences count against.
    pub fn observe(&mut self, pod: &Pod) {
        if self.in_flight.is_none() {
            self.take(pod.status.as_ref());
        }
    }

    fn take(&mut self, reported: Option<&PodStatus>) {
        if reported != Some(&self.reported) {
            self.reported = reported.cloned().unwrap_or_default();
            self.settled = None;
        }
    }

    /// The patch to send now, if one is due.
    pub fn next(&mut self, uid: &str, wanted: &PodStatus) -> Option<Value> {
        if self.in_flight.is_some() || self.retry_at.is_some_and(|at| at > Instant::now()) {
            return None;
        }
        let patch = self.difference(uid, wanted)?;
        self.in_flight = Some(wanted.clone());
        Some(patch)
    }

    /// A patch came back.
    pub fn written(&mut self, result: &Written) {
        let sent = self.in_flight.take();
        match result {
            Written::Done(pod) => {
                self.take(pod.status.as_ref());
                self.retry_at = None;
                self.delay = FIRST_DELAY;
            }
            Written::Gone => self.take(sent.as_ref()),
            Written::Failed(_) => {
                self.retry_at = Some(Instant::now() + self.delay);
                self.delay = (self.delay * 2).min(LONGEST_DELAY);
            }
        }
    }

    /// Whether the API has all of `wanted`.
    pub fn settled(&mut self, uid: &str, wanted: &PodStatus) -> bool {
        self.in_flight.is_none() && self.difference(uid, wanted).is_none()
    }

    /// The patch from what is reported to what is wanted. Most calls ask for what was found to be settled before.
    fn difference(&mut self, uid: &str, wanted: &PodStatus) -> Option<Value> {
        if self.settled.as_ref() == Some(wanted) {
            return None;
        }
        if status_patch::is_said(&self.reported, wanted) {
            self.settled = Some(wanted.clone());
            return None;
        }
        let patch = status_patch::between(uid, &value(&self.reported), &value(wanted));
        self.settled = patch.is_none().then(|| wanted.clone());
        patch
    }

    /// When a failed patch is tried again.
    pub fn wake_at(&self) -> Option<Instant> {
        self.retry_at.filter(|_| self.in_flight.is_none())
    }
}

/// Sends one patch.
pub async fn send(client: &Client, pod: &Pod, patch: &Value) -> Written {
    let namespace = pod.metadata.namespace.as_deref().unwrap_or_default();
    let api: Api<Pod> = Api::namespaced(client.clone(), namespace);
    let name = pod.metadata.name.as_deref().unwrap_or_default();
    match api.patch_status(name, &PatchParams::default(), &Patch::Strategic(patch)).await {
        Ok(pod) => Written::Done(Arc::new(pod)),
        Err(kube::Error::Api(status)) if status.code == 404 => Written::Gone,
        Err(kube::Error::Api(status)) if is_anothers(&status) => Written::Gone,
        Err(error) => Written::Failed(error.to_string()),
    }
}

/// Whether the UID in the patch is not that of the pod that has the name now: a field that can't be changed, or (to older
/// servers) a precondition that fails.
fn is_anothers(status: &Status) -> bool {
    let causes = status.details.iter().flat_map(|details| &details.causes);
    status.code == 422 && causes.into_iter().any(|cause| cause.field == "metadata.uid")
        || status.code == 409 && status.message.contains("UID")
}

fn value(status: &PodStatus) -> Value {
    serde_json::to_value(status).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::core::v1::PodStatus;
    use serde_json::json;

    use super::*;

    fn pod(phase: &str) -> Arc<Pod> {
        let pod = json!({"metadata": {"name": "p", "uid": "u"}, "status": {"phase": phase, "qosClass": "BestEffort"}});
        Arc::new(serde_json::from_value(pod).expect("a pod"))
    }

    fn wanted(phase: &str) -> PodStatus {
        PodStatus { phase: Some(phase.to_owned()), ..PodStatus::default() }
    }

    #[test]
    fn a_status_is_sent_once_and_again_when_the_api_has_another_one() {
        let mut writer = StatusWriter::new(&pod("Pending"));
        assert!(writer.settled("u", &wanted("Pending")) && writer.next("u", &wanted("Pending")).is_none());
        let patch = writer.next("u", &wanted("Running")).expect("it differs");
        assert_eq!(patch, json!({"metadata": {"uid": "u"}, "status": {"phase": "Running"}}));
        assert!(writer.next("u", &wanted("Failed")).is_none(), "one at a time");
        writer.written(&Written::Done(pod("Running")));
        assert!(writer.settled("u", &wanted("Running")) && !writer.settled("u", &wanted("Failed")));
        writer.observe(&pod("Running"));
        assert!(writer.next("u", &wanted("Running")).is_none());
        writer.observe(&pod("Pending"));
        assert!(writer.next("u", &wanted("Running")).is_some(), "someone else has changed it");
    }

    #[test]
    fn a_pod_of_the_same_name_is_known_by_its_uid() {
        let refused = |code: u16, message: &str, field: &str| -> Status {
            let details = json!({"causes": [{"reason": "FieldValueInvalid", "field": field}]});
            serde_json::from_value(json!({"status": "Failure", "code": code, "message": message, "details": details}))
                .expect("a status")
        };
        assert!(is_anothers(&refused(422, "field is immutable", "metadata.uid")));
        assert!(is_anothers(&refused(409, "Precondition failed: UID in precondition: a, UID in object meta: b", "")));
        assert!(!is_anothers(&refused(422, "Invalid value", "status.phase")));
        assert!(!is_anothers(&refused(409, "the object has been modified", "")));
    }
}
