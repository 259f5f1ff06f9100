//! `/pods` and `/stats/summary`.

use http::Response;
use jiff::Timestamp;
use serde_json::{Value, json};

use super::respond::{Body, json as answer};
use crate::agent::Agent;

/// A PodList of this node.
pub(super) fn pods(agent: &Agent) -> Response<Body> {
    let items: Vec<Value> =
        agent.pods.all().iter().filter_map(|view| serde_json::to_value(view.pod.as_ref()).ok()).collect();
    answer(&json!({"kind": "PodList", "apiVersion": "v1", "metadata": {}, "items": items}))
}

/// What the containers use (the kubelet's summary API, its basic part).
pub(super) async fn stats(agent: &Agent) -> Response<Body> {
    let now = Timestamp::now().to_string();
    let mut pods = Vec::new();
    for view in agent.pods.all() {
        let Some(sandbox) = &view.sandbox else { continue };
        let usage = agent.context.runtime.usage(sandbox).await.unwrap_or_default();
        let (mut cpu, mut memory) = (0, 0);
        let containers: Vec<Value> = usage
            .iter()
            .map(|u| {
                cpu += u.cpu_nanoseconds;
                memory += u.working_set;
                // Runtime ids are NAME.ATTEMPT.
                let name = u.container.rsplit_once('.').map_or(u.container.as_str(), |(name, _)| name);
                json!({"name": name, "cpu": {"time": now, "usageCoreNanoSeconds": u.cpu_nanoseconds},
                    "memory": {"time": now, "workingSetBytes": u.working_set}})
            })
            .collect();
        let meta = &view.pod.metadata;
        pods.push(json!({
            "podRef": {"name": meta.name, "namespace": meta.namespace, "uid": meta.uid},
            "startTime": view.pod.status.as_ref().and_then(|s| s.start_time.clone()),
            "containers": containers,
            "cpu": {"time": now, "usageCoreNanoSeconds": cpu},
            "memory": {"time": now, "workingSetBytes": memory},
        }));
    }
    let machine = &agent.context.machine;
    let available = crate::node::memory_available().unwrap_or(0);
    answer(&json!({
        "node": {
            "nodeName": agent.context.config.node_name,
            "cpu": {"time": now, "usageCoreNanoSeconds": crate::node::cpu_nanoseconds().unwrap_or(0)},
            "memory": {"time": now, "availableBytes": available, "workingSetBytes": machine.memory_bytes - available},
        },
        "pods": pods,
    }))
}
