//! Where clients reach the edge: Ingresses all at one place, Gateways each at its own.

use std::net::IpAddr;

use controllers::{Error, queue::Key};
use k8s_openapi::api::core::v1::{Node, Pod, Service};
use kube::{Api, Client, api::ListParams};
use serde_json::{Value, json};

use super::{EdgeSettings, NAME, report::patch_status};
use crate::world::Watched;

/// The addresses: those that a load balancer gave its Service, else those of the nodes on which it is ready. Where the
/// ports of its Service are open on nodes, the Service is told which.
pub async fn of(client: &Client, settings: &EdgeSettings, watched: &Watched) -> Result<Vec<String>, Error> {
    let balanced = settings.service_type.as_deref() == Some("LoadBalancer");
    let service = watched.services.get(&Key::new(&settings.namespace, NAME));
    let given = given(service.as_deref());
    if balanced && !settings.open_on_nodes {
        return Ok(given);
    }
    let nodes = of_nodes(client, settings).await?;
    if settings.open_on_nodes && service.is_some() && given != nodes {
        let ingress: Vec<Value> = nodes.iter().map(|address| json!({"ip": address, "ipMode": "VIP"})).collect();
        let api: Api<Service> = Api::namespaced(client.clone(), &settings.namespace);
        patch_status(&api, NAME, &json!({"status": {"loadBalancer": {"ingress": ingress}}})).await?;
    }
    Ok(nodes)
}

/// Those of a Gateway: its own Service's.
pub fn of_gateway(settings: &EdgeSettings, service: &Service) -> Vec<String> {
    if settings.gateway_service_type() == "LoadBalancer" {
        return given(Some(service));
    }
    let spec = service.spec.as_ref();
    let all = spec.and_then(|s| s.cluster_ips.clone()).unwrap_or_default();
    all.into_iter().filter(|address| address.parse::<IpAddr>().is_ok()).collect()
}

/// An address as the status of an Ingress has it.
pub fn ingress(address: &str) -> Value {
    match address.parse::<IpAddr>() {
        Ok(_) => json!({"ip": address}),
        Err(_) => json!({"hostname": address}),
    }
}

fn given(service: Option<&Service>) -> Vec<String> {
    let status = service.and_then(|s| s.status.as_ref()?.load_balancer.as_ref()?.ingress.as_ref());
    let mut all: Vec<String> =
        status.into_iter().flatten().filter_map(|i| i.ip.clone().or(i.hostname.clone())).collect();
    all.sort();
    all
}

async fn of_nodes(client: &Client, settings: &EdgeSettings) -> Result<Vec<String>, Error> {
    let pods: Api<Pod> = Api::namespaced(client.clone(), &settings.namespace);
    let pods = pods.list(&ListParams::default().labels(&format!("app.kubernetes.io/instance={NAME}"))).await?;
    let mut all: Vec<String> = Vec::new();
    for pod in pods.items {
        let status = pod.status.unwrap_or_default();
        let ready = status.conditions.iter().flatten().any(|c| c.type_ == "Ready" && c.status == "True");
        if ready && pod.metadata.deletion_timestamp.is_none() {
            all.extend(status.host_ip);
        }
    }
    // Where a node says that it is reached from outside elsewhere, that is what clients need.
    if !all.is_empty() {
        let nodes: Api<Node> = Api::all(client.clone());
        if let Ok(nodes) = nodes.list(&ListParams::default()).await {
            for node in nodes.items {
                let addresses = node.status.and_then(|s| s.addresses).unwrap_or_default();
                let internal = addresses.iter().find(|a| a.type_ == "InternalIP").map(|a| a.address.clone());
                let external = addresses.iter().find(|a| a.type_ == "ExternalIP").map(|a| a.address.clone());
                if let (Some(internal), Some(external)) = (internal, external) {
                    all.iter_mut().filter(|address| **address == internal).for_each(|a| a.clone_from(&external));
                }
            }
        }
    }
    all.sort();
    all.dedup();
    Ok(all)
}
