//! What the scheduler tells the API server: the binding of a pod, or why there is none.

use std::{collections::HashMap, sync::Arc, time::Instant};

use k8s_openapi::{
    api::core::v1::{Binding, ObjectReference, PersistentVolume, PersistentVolumeClaim, Pod, PodCondition},
    apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time},
};
use kube::{
    Api, Client,
    api::{Patch, PatchParams},
};
use serde_json::{Value, json};

use crate::{
    counts::{self, Step},
    pod::PodInfo,
    volumes::Plan,
};

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
    /// The pod's volumes were asked for: the versions of its claims after that, or why not.
    VolumesAsked {
        pod: Arc<PodInfo>,
        result: Result<HashMap<String, u64>, String>,
    },
}

/// Why a pod was not bound.
pub(crate) enum BindError {
    /// There is no such pod any more.
    Gone,
    /// A retry may help; why, for people.
    Failed(String),
    /// Its volumes can't be had there now.
    Volumes(String),
}

/// `POST pods/NAME/binding`.
pub(crate) async fn bind(client: Client, pod: Arc<PodInfo>, node: Arc<str>) -> Outcome {
    let begin = Instant::now();
    let result = post(&client, &pod, &node).await;
    counts::stepped(&pod, Step::Bind, if result.is_ok() { "Success" } else { "Error" }, begin.elapsed());
    match result {
        Ok(()) => Outcome::Bound { pod, node },
        Err(kube::Error::Api(status)) if status.code == 404 => Outcome::NotBound { pod, error: BindError::Gone },
        Err(kube::Error::Api(status)) => Outcome::NotBound { pod, error: BindError::Failed(status.message.clone()) },
        Err(error) => Outcome::NotBound { pod, error: BindError::Failed(error.to_string()) },
    }
}

/// Has the volumes of a pod bound and made: found ones name their claims, claims of others name the node.
pub(crate) async fn ask_for_volumes(client: Client, pod: Arc<PodInfo>, node: Arc<str>, plan: Plan) -> Outcome {
    let result = write_volumes(&client, &pod, &node, &plan).await.map_err(|error| match error {
        kube::Error::Api(status) => status.message.clone(),
        other => other.to_string(),
    });
    Outcome::VolumesAsked { pod, result }
}

async fn write_volumes(
    client: &Client,
    pod: &PodInfo,
    node: &str,
    plan: &Plan,
) -> Result<HashMap<String, u64>, kube::Error> {
    let volumes = Api::<PersistentVolume>::all(client.clone());
    for (volume, claim) in &plan.matched {
        if claims::is_bound_to(volume, claim) {
            continue;
        }
        let meta = &claim.metadata;
        let patch = json!({
            "metadata": {
                "resourceVersion": volume.metadata.resource_version,
                "annotations": {(claims::BOUND_BY_CONTROLLER): "yes"},
            },
            "spec": {"claimRef": {
                "apiVersion": "v1", "kind": "PersistentVolumeClaim", "namespace": meta.namespace, "name": meta.name,
                "uid": meta.uid, "resourceVersion": meta.resource_version,
            }},
        });
        let name = volume.metadata.name.as_deref().unwrap_or_default();
        volumes.patch(name, &PatchParams::default(), &Patch::Merge(patch)).await?;
    }
    let api = Api::<PersistentVolumeClaim>::namespaced(client.clone(), &pod.namespace);
    let mut written = HashMap::new();
    for claim in plan.claims() {
        let meta = &claim.metadata;
        let name = meta.name.clone().unwrap_or_default();
        let mut version = meta.resource_version.clone();
        let wants_node = plan.provisioned.iter().any(|c| c.metadata.name == meta.name);
        if wants_node && claims::annotation(claim, claims::SELECTED_NODE) != Some(node) {
            let annotations = json!({claims::SELECTED_NODE: node});
            // Whatever else of the claim has changed, a finalizer say, the node stands.
            let mut patch = json!({"metadata": {"uid": meta.uid}});
            patch["metadata"]["annotations"] = annotations;
            let patched = api.patch(&name, &PatchParams::default(), &Patch::Merge(patch)).await?;
            version = patched.metadata.resource_version;
        }
        written.insert(name, version.and_then(|v| v.parse().ok()).unwrap_or(0));
    }
    Ok(written)
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
    client.request_text(request).await.map(drop)
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
