//! Events about pods, their containers and claims, and the node, in the kubelet's name.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{Node, ObjectReference, PersistentVolumeClaim, Pod};
use kube::Client;
pub use recording::Severity;

/// Takes events; cheap to clone. They are written in the background and dropped if the API can't keep up.
#[derive(Clone)]
pub struct Recorder(recording::Recorder);

impl Recorder {
    /// Starts the writer; it ends with the last clone of the recorder.
    pub fn start(client: Client, node_name: &str) -> Self {
        Self(recording::Recorder::start_on(client, "kubelet", node_name))
    }

    /// Records an event about a pod.
    pub fn pod(&self, pod: &Pod, severity: Severity, reason: &'static str, message: impl Into<String>) {
        self.0.record(pod_reference(pod, None), severity, reason, message);
    }

    /// The same, with annotations on the event.
    pub fn pod_annotated(
        &self,
        pod: &Pod,
        annotations: BTreeMap<String, String>,
        severity: Severity,
        reason: &'static str,
        message: impl Into<String>,
    ) {
        self.0.record_annotated(pod_reference(pod, None), annotations, severity, reason, message);
    }

    /// Records an event about one container of a pod.
    pub fn container(
        &self,
        pod: &Pod,
        container: &str,
        severity: Severity,
        reason: &'static str,
        message: impl Into<String>,
    ) {
        self.0.record(pod_reference(pod, Some(container)), severity, reason, message);
    }

    /// Records an event about a claim.
    pub fn claim(
        &self,
        claim: &PersistentVolumeClaim,
        severity: Severity,
        reason: &'static str,
        message: impl Into<String>,
    ) {
        let about = ObjectReference {
            api_version: Some("v1".to_owned()),
            kind: Some("PersistentVolumeClaim".to_owned()),
            namespace: claim.metadata.namespace.clone(),
            name: claim.metadata.name.clone(),
            uid: claim.metadata.uid.clone(),
            resource_version: claim.metadata.resource_version.clone(),
            ..ObjectReference::default()
        };
        self.0.record(about, severity, reason, message);
    }

    /// Records an event about the node.
    pub fn node(&self, node: &Node, severity: Severity, reason: &'static str, message: impl Into<String>) {
        let about = ObjectReference {
            kind: Some("Node".to_owned()),
            name: node.metadata.name.clone(),
            uid: node.metadata.uid.clone(),
            ..ObjectReference::default()
        };
        self.0.record(about, severity, reason, message);
    }
}

fn pod_reference(pod: &Pod, container: Option<&str>) -> ObjectReference {
    let field_path = container.map(|name| {
        let init = pod.spec.iter().flat_map(|s| s.init_containers.iter().flatten()).any(|c| c.name == name);
        let ephemeral = pod.spec.iter().flat_map(|s| s.ephemeral_containers.iter().flatten()).any(|c| c.name == name);
        let list = match (init, ephemeral) {
            (true, _) => "initContainers",
            (_, true) => "ephemeralContainers",
            _ => "containers",
        };
        format!("spec.{list}{{{name}}}")
    });
    ObjectReference {
        api_version: Some("v1".to_owned()),
        kind: Some("Pod".to_owned()),
        namespace: pod.metadata.namespace.clone(),
        name: pod.metadata.name.clone(),
        uid: pod.metadata.uid.clone(),
        resource_version: pod.metadata.resource_version.clone(),
        field_path,
    }
}
