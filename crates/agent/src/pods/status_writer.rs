//! Writes a pod's status: one patch at a time, the newest wins, errors are retried with backoff.

use std::{sync::Arc, time::Duration};

use k8s_openapi::api::core::v1::{Pod, PodStatus};
use kube::{
    Api, Client,
    api::{Patch, PatchParams},
};
use serde_json::Value;
use tokio::time::Instant;

use super::status_patch;

/// What became of a patch.
pub enum Written {
    /// The API has it; the pod as the API has it now.
    Done(Box<Pod>),
    /// The pod is gone, or another one has its name.
    Gone,
    /// It was refused or not answered.
    Failed(String),
}

/// The state of one pod's reporting. Drives nothing itself: the pod's actor asks what to do.
pub struct StatusWriter {
    reported: Value,
    in_flight: Option<Value>,
    retry_at: Option<Instant>,
    delay: Duration,
}

const FIRST_DELAY: Duration = Duration::from_millis(100);
const LONGEST_DELAY: Duration = Duration::from_secs(10);

impl StatusWriter {
    /// Begins with what the API has.
    pub fn new(pod: &Pod) -> Self {
        Self { reported: value(pod.status.as_ref()), in_flight: None, retry_at: None, delay: FIRST_DELAY }
    }

    /// Another version of the pod came from the API: its status is what differences count against.
    pub fn observe(&mut self, pod: &Pod) {
        if self.in_flight.is_none() {
            self.reported = value(pod.status.as_ref());
        }
    }

    /// The patch to send now, if one is due.
    pub fn next(&mut self, uid: &str, wanted: &PodStatus) -> Option<Value> {
        if self.in_flight.is_some() || self.retry_at.is_some_and(|at| at > Instant::now()) {
            return None;
        }
        let wanted = value(Some(wanted));
        let patch = status_patch::between(uid, &self.reported, &wanted)?;
        self.in_flight = Some(wanted);
        Some(patch)
    }

    /// A patch came back.
    pub fn written(&mut self, result: &Written) {
        let sent = self.in_flight.take();
        match result {
            Written::Done(pod) => {
                self.reported = value(pod.status.as_ref());
                self.retry_at = None;
                self.delay = FIRST_DELAY;
            }
            Written::Gone => self.reported = sent.unwrap_or_default(),
            Written::Failed(_) => {
                self.retry_at = Some(Instant::now() + self.delay);
                self.delay = (self.delay * 2).min(LONGEST_DELAY);
            }
        }
    }

    /// Whether the API has all of `wanted`.
    pub fn settled(&self, uid: &str, wanted: &PodStatus) -> bool {
        self.in_flight.is_none() && status_patch::between(uid, &self.reported, &value(Some(wanted))).is_none()
    }

    /// When a failed patch is tried again.
    pub fn wake_at(&self) -> Option<Instant> {
        self.retry_at.filter(|_| self.in_flight.is_none())
    }
}

/// Sends one patch.
pub async fn send(client: Client, pod: Arc<Pod>, patch: Value) -> Written {
    let namespace = pod.metadata.namespace.as_deref().unwrap_or_default();
    let api: Api<Pod> = Api::namespaced(client, namespace);
    let name = pod.metadata.name.as_deref().unwrap_or_default();
    match api.patch_status(name, &PatchParams::default(), &Patch::Strategic(patch)).await {
        Ok(pod) => Written::Done(Box::new(pod)),
        Err(kube::Error::Api(status)) if status.code == 404 => Written::Gone,
        // The UID in the patch is another pod's.
        Err(kube::Error::Api(status)) if status.code == 409 && status.message.contains("UID") => Written::Gone,
        Err(error) => Written::Failed(error.to_string()),
    }
}

fn value(status: Option<&PodStatus>) -> Value {
    status.and_then(|s| serde_json::to_value(s).ok()).unwrap_or_default()
}
