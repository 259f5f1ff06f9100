//! Which pods stand behind a Service: EndpointSlices, and the older Endpoints.

pub(crate) mod legacy;
pub(crate) mod mirror;
pub(crate) mod slices;
mod topology;

use std::{collections::BTreeMap, sync::Arc};

use k8s_openapi::{
    api::core::v1::{Pod, Service},
    apimachinery::pkg::util::intstr::IntOrString,
};
use kube::{Resource, ResourceExt};

use crate::{
    Shared,
    informer::Change,
    pods,
    queue::{Key, Queue},
};

/// Has `queue` told of every Service whose endpoints may have changed.
fn listen(shared: &Shared, queue: &Queue) {
    let on_service = queue.clone();
    shared.services.listen(move |change| on_service.add(Key::of(&**change.object())));
    let (on_pod, services) = (queue.clone(), shared.services.clone());
    shared.pods.listen(move |change| {
        if let Change::Applied { old: Some(old), new } = &change
            && same_for_endpoints(old, new)
        {
            return;
        }
        let namespace = change.object().namespace().unwrap_or_default();
        for service in services.in_namespace(&namespace) {
            if change.states().any(|pod| selects(&service, pod)) {
                on_pod.add(Key::of(&*service));
            }
        }
    });
}

/// Whether nothing that endpoints show differs.
fn same_for_endpoints(a: &Pod, b: &Pod) -> bool {
    let facts = |pod: &Pod| {
        let status = pod.status.clone().unwrap_or_default();
        (
            pod.labels().clone(),
            pod.meta().deletion_timestamp.is_some(),
            pods::phase(pod).to_owned(),
            pods::is_ready(pod),
            status.pod_ips,
            pod.spec.as_ref().and_then(|s| s.node_name.clone()),
            pod.spec.as_ref().map(|s| (s.hostname.clone(), s.subdomain.clone())),
        )
    };
    facts(a) == facts(b)
}

/// The Service's selector; an empty one is none.
fn selector(service: &Service) -> Option<&BTreeMap<String, String>> {
    service.spec.as_ref().and_then(|s| s.selector.as_ref()).filter(|s| !s.is_empty())
}

/// Whether the Service has a selector and it matches.
fn selects(service: &Service, pod: &Pod) -> bool {
    selector(service).is_some_and(|s| s.iter().all(|(k, v)| pod.labels().get(k) == Some(v)))
}

/// One address behind a Service.
#[derive(Clone, Debug)]
struct Backend {
    pod: Arc<Pod>,
    address: String,
    ready: bool,
    serving: bool,
    terminating: bool,
    /// Only if the pod asks to be found by name through this headless Service.
    hostname: Option<String>,
}

/// The pods behind a Service that have an address and have not ended.
fn backends(service: &Service, pods: &[Arc<Pod>]) -> Vec<Backend> {
    let publish_all = service.spec.as_ref().and_then(|s| s.publish_not_ready_addresses).unwrap_or(false);
    let mut found: Vec<Backend> = pods
        .iter()
        .filter(|pod| selects(service, pod) && !pods::is_terminal(pod))
        .filter_map(|pod| {
            let address = pod.status.as_ref()?.pod_ip.clone().filter(|ip| !ip.is_empty())?;
            let serving = pods::is_ready(pod);
            let terminating = pod.metadata.deletion_timestamp.is_some();
            let spec = pod.spec.as_ref()?;
            let named = spec.subdomain.as_deref() == Some(service.name_any().as_str());
            Some(Backend {
                address,
                ready: publish_all || (serving && !terminating),
                serving,
                terminating,
                hostname: spec.hostname.clone().filter(|h| named && !h.is_empty()),
                pod: pod.clone(),
            })
        })
        .collect();
    found.sort_by_key(|backend| backend.pod.name_any());
    found
}

/// A Service's port as one pod serves it.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
struct BackendPort {
    name: String,
    protocol: String,
    port: i32,
    app_protocol: Option<String>,
}

/// The ports of a Service resolved against a pod; a named port that the pod lacks is left out.
fn ports_of(service: &Service, pod: &Pod) -> Vec<BackendPort> {
    let ports = service.spec.as_ref().and_then(|s| s.ports.clone()).unwrap_or_default();
    ports
        .iter()
        .filter_map(|port| {
            let protocol = port.protocol.clone().unwrap_or_else(|| "TCP".into());
            let number = match &port.target_port {
                None => Some(port.port),
                Some(IntOrString::Int(0)) => Some(port.port),
                Some(IntOrString::Int(number)) => Some(*number),
                Some(IntOrString::String(name)) => container_port(pod, name, &protocol),
            }?;
            Some(BackendPort {
                name: port.name.clone().unwrap_or_default(),
                protocol,
                port: number,
                app_protocol: port.app_protocol.clone(),
            })
        })
        .collect()
}

fn container_port(pod: &Pod, name: &str, protocol: &str) -> Option<i32> {
    let spec = pod.spec.as_ref()?;
    let restartable = spec.init_containers.iter().flatten().filter(|c| c.restart_policy.as_deref() == Some("Always"));
    spec.containers
        .iter()
        .chain(restartable)
        .flat_map(|c| c.ports.iter().flatten())
        .find(|p| p.name.as_deref() == Some(name) && p.protocol.as_deref().unwrap_or("TCP") == protocol)
        .map(|p| p.container_port)
}

/// The annotation that tells how long a change took to arrive (upstream measures its latency by it).
const TRIGGER_TIME: &str = "endpoints.kubernetes.io/last-change-trigger-time";
