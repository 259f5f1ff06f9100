//! What the scheduler tells the API server: the binding of a pod, or why there is none.

use std::sync::Arc;

use k8s_openapi::{
    api::core::v1::{Binding, ObjectReference, Pod, PodCondition},
    apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time},
};
use kube::{
    Api, Client,
    api::{Patch, PatchParams},
};
use serde_json::{Value, json};

use crate::pod::PodInfo;

/// How a request ended.
pub(crate) enum Outcome {
    /// Nobody waits for it.
    Nothing,
    Bound {
        pod: Arc<PodInfo>,
        node: Arc<str>,
    },
    NotBound {
        pod: Arc<PodInfo>,
        error: BindError,
    },
    /// Others could not be evicted for it; why, for people.
    NoRoom {
        pod: Arc<PodInfo>,
        error: String,
    },
}

/// Why a pod was not bound.
pub(crate) enum BindError {
    /// There is no such pod any more.
    Gone,
    /// A retry may help; why, for people.
    Failed(String),
}

/// `POST pods/NAME/binding`.
pub(crate) async fn bind(client: Client, pod: Arc<PodInfo>, node: Arc<str>) -> Outcome {
    match post(&client, &pod, &node).await {
        Ok(()) => Outcome::Bound { pod, node },
        Err(kube::Error::Api(status)) if status.code == 404 => Outcome::NotBound { pod, error: BindError::Gone },
        Err(kube::Error::Api(status)) => Outcome::NotBound { pod, error: BindError::Failed(status.message.clone()) },
        Err(error) => Outcome::NotBound { pod, error: BindError::Failed(error.to_string()) },
    }
}

async fn post(client: &Client, pod: &PodInfo, node: &str) -> Result<(), kube::Error> {
    let binding = Binding {
        metadata: ObjectMeta {
            name: Some(pod.name.to_string()),
            namespace: Some(pod.namespace.to_string()),
            uid: Some(pod.uid.to_string()),
            ..ObjectMeta::default()
        },
        target: ObjectReference {
            kind: Some("Node".into()),
            name: Some(node.to_owned()),
            ..ObjectReference::default()
        },
    };
    let body = serde_json::to_vec(&binding).map_err(kube::Error::SerdeError)?;
    let request = http::Request::post(format!("/api/v1/namespaces/{}/pods/{}/binding", pod.namespace, pod.name))
        .header(http::header::CONTENT_TYPE, "application/json")
        .body(body)
        .map_err(kube::Error::HttpError)?;
    // A `Status`, in whatever words.
    client.request::<Value>(request).await.map(drop)
}

/// The patch that says in the pod's status why it has no node; `None` if it says so already.
pub(crate) fn condition_patch(pod: &PodInfo, reason: &str, message: &str, now: jiff::Timestamp) -> Option<Value> {
    let old = pod.scheduled.as_ref();
    let same = |c: &PodCondition| {
        c.status == "False" && c.reason.as_deref() == Some(reason) && c.message.as_deref() == Some(message)
    };
    if old.is_some_and(same) {
        return None;
    }
    let since = old.filter(|c| c.status == "False").and_then(|c| c.last_transition_time.clone());
    let condition = PodCondition {
        type_: "PodScheduled".into(),
        status: "False".into(),
        reason: Some(reason.into()),
        message: Some(message.into()),
        last_transition_time: Some(since.unwrap_or(Time(now))),
        observed_generation: pod.generation,
        ..PodCondition::default()
    };
    // The UID keeps it off a namesake.
    Some(json!({"metadata": {"uid": &*pod.uid}, "status": {"conditions": [condition]}}))
}

/// `PATCH pods/NAME/status`. A failure is no harm: the next attempt says it again.
pub(crate) async fn patch_status(client: Client, pod: Arc<PodInfo>, patch: Value) -> Outcome {
    let pods = Api::<Pod>::namespaced(client, &pod.namespace);
    if let Err(error) = pods.patch_status(&pod.name, &PatchParams::default(), &Patch::Strategic(patch)).await {
        tracing::debug!(pod = pod.full_name(), %error, "the pod's condition was not set");
    }
    Outcome::Nothing
}
