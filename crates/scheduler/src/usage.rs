//! `/metrics/resources`: what each pod asks for and may have, as upstream's scheduler tells it
//! (`pkg/scheduler/metrics/resources`).

use k8s_openapi::api::core::v1::Pod;
use kube::{Api, Client, ResourceExt, api::ListParams};
use metrics::{Exposition, Served};

use crate::resources::{Resources, pod_limits, pod_requests};

const HELP: &str = "workloads on the cluster, broken down by pod. This shows the resource usage the scheduler and kubelet expect per pod for resources along with the unit for the resource if any.";

/// Shows the page as long as the value is held.
pub(crate) fn serve(client: Client) -> Served {
    metrics::serve("resources", move || {
        let client = client.clone();
        Box::pin(async move {
            let pods = Api::<Pod>::all(client).list(&ListParams::default()).await;
            pods.map(|pods| render(&pods.items)).unwrap_or_default()
        })
    })
}

fn render(pods: &[Pod]) -> String {
    let mut out = Exposition::default();
    let families =
        [("kube_pod_resource_limit", "Resources limit for"), ("kube_pod_resource_request", "Resources requested by")];
    for (index, (name, what)) in families.into_iter().enumerate() {
        let mut family = out.family(name, "gauge", &format!("[STABLE] {what} {HELP}"));
        for pod in pods.iter().filter(|pod| !is_over(pod)) {
            let Some(spec) = &pod.spec else { continue };
            let amounts = if index == 0 { pod_limits(spec) } else { pod_requests(spec, None) };
            let (namespace, name) = (pod.namespace().unwrap_or_default(), pod.name_any());
            let priority = spec.priority.map(|priority| priority.to_string()).unwrap_or_default();
            for (resource, unit, amount) in each(&amounts) {
                let labels = [
                    ("namespace", namespace.as_str()),
                    ("node", spec.node_name.as_deref().unwrap_or_default()),
                    ("pod", &name),
                    ("priority", &priority),
                    ("resource", resource),
                    ("scheduler", spec.scheduler_name.as_deref().unwrap_or_default()),
                    ("unit", unit),
                ];
                family.sample(&labels, amount);
            }
        }
    }
    out.into_text()
}

/// A pod that has a node and has ended uses nothing any more.
fn is_over(pod: &Pod) -> bool {
    let phase = pod.status.as_ref().and_then(|status| status.phase.as_deref());
    let placed = pod.spec.as_ref().is_some_and(|spec| spec.node_name.as_deref().is_some_and(|name| !name.is_empty()));
    placed && matches!(phase, Some("Succeeded" | "Failed"))
}

/// Resource, unit and amount of what is not nothing.
fn each(amounts: &Resources) -> impl Iterator<Item = (&str, &'static str, f64)> {
    let first = [
        ("cpu", "cores", amounts.milli_cpu as f64 / 1e3),
        ("ephemeral-storage", "bytes", amounts.ephemeral_storage as f64),
        ("memory", "bytes", amounts.memory as f64),
    ];
    let rest = amounts.scalars.iter().map(|(name, amount)| {
        let unit = match &**name {
            name if name.starts_with("hugepages-") => "bytes",
            name if name.starts_with("attachable-volumes-") => "integer",
            _ => "",
        };
        (&**name, unit, *amount as f64)
    });
    first.into_iter().chain(rest).filter(|(.., amount)| *amount != 0.0)
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn pod(name: &str, phase: &str, node: &str, more: Value) -> Pod {
        let container = |requests: Value, limits: Value| json!({"name": "c", "resources": {"requests": requests, "limits": limits}});
        let mut spec = json!({
            "schedulerName": "s", "priority": 7, "overhead": {"memory": "1Ki", "cpu": "1"},
            "containers": [container(json!({"cpu": "500m", "memory": "1Ki"}), json!({"memory": "2Ki", "example.com/gpu": "1"}))],
            "initContainers": [container(json!({"cpu": "2"}), json!({"memory": "5Ki"}))],
        });
        spec.as_object_mut().expect("an object").extend(more.as_object().expect("an object").clone());
        spec["nodeName"] = json!(node);
        serde_json::from_value(
            json!({"metadata": {"name": name, "namespace": "n"}, "spec": spec, "status": {"phase": phase}}),
        )
        .expect("a pod")
    }

    #[test]
    fn what_pods_ask_for_and_may_have_is_told_until_they_end() {
        let pods = [
            pod("p", "Running", "a", json!({})),
            pod("ended", "Failed", "a", json!({})),
            pod("waits", "Pending", "", json!({})),
        ];
        let text = render(&pods);
        let of = |pod: &str, node: &str, resource: &str, unit: &str| {
            format!(
                "{{namespace=\"n\",node=\"{node}\",pod=\"{pod}\",priority=\"7\",resource=\"{resource}\",scheduler=\"s\",unit=\"{unit}\"}}"
            )
        };
        for line in [
            format!("kube_pod_resource_request{} 3\n", of("p", "a", "cpu", "cores")),
            format!("kube_pod_resource_request{} 2048\n", of("p", "a", "memory", "bytes")),
            format!("kube_pod_resource_limit{} 6144\n", of("p", "a", "memory", "bytes")),
            format!("kube_pod_resource_limit{} 1\n", of("p", "a", "example.com/gpu", "")),
            format!("kube_pod_resource_request{} 3\n", of("waits", "", "cpu", "cores")),
        ] {
            assert!(text.contains(&line), "{line} is not in {text}");
        }
        assert!(!text.contains("ended"), "{text}");
        let no_limit = format!("kube_pod_resource_limit{}", of("p", "a", "cpu", "cores"));
        assert!(!text.contains(&no_limit), "overhead alone is no limit: {text}");
    }
}
