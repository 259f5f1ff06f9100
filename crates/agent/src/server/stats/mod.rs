//! What the node, its pods and their containers use, measured when someone asks: the summary API and what Prometheus
//! scrapes, in the kubelet's forms.

mod cadvisor;
mod cadvisor_families;
mod fill;
mod measure;
mod node;
mod probes;
mod process;
mod rates;
mod resource;
mod summary;

use http::{Response, StatusCode};
use serde_json::{Value, json};

pub use self::rates::Rates;

use self::measure::{Depth, measure};
use super::respond::{Body, json as answer, with_type};
use crate::agent::Agent;

const EXPOSITION: &str = "text/plain; version=0.0.4; charset=utf-8";

/// A PodList of this node; with `running` only those that have a sandbox.
pub(super) fn pods(agent: &Agent, running: bool) -> Response<Body> {
    let views = agent.pods.all();
    let views = views.iter().filter(|view| !running || view.sandbox.is_some());
    let items: Vec<Value> = views.filter_map(|view| serde_json::to_value(view.pod.as_ref()).ok()).collect();
    answer(&json!({"kind": "PodList", "apiVersion": "v1", "metadata": {}, "items": items}))
}

/// `/stats/summary`
pub(super) async fn summary(agent: &Agent, only_cpu_and_memory: bool) -> Response<Body> {
    let depth = if only_cpu_and_memory { Depth::CpuAndMemory } else { Depth::Files };
    let measured = measure(agent, depth).await;
    let pods = agent.context.runtime.usage_of_node().await;
    answer(&summary::render(agent, &measured, pods, depth))
}

/// `/metrics`: of the agent itself, and how full volumes are.
pub(super) async fn metrics(agent: &Agent) -> Response<Body> {
    let measured = measure(agent, Depth::Volumes).await;
    exposed(node::render(agent, &measured))
}

/// `/metrics/cadvisor`
pub(super) async fn cadvisor(agent: &Agent) -> Response<Body> {
    let measured = measure(agent, Depth::All).await;
    exposed(cadvisor::render(agent, &measured))
}

/// `/metrics/resource`
pub(super) async fn resource(agent: &Agent) -> Response<Body> {
    let measured = measure(agent, Depth::CpuAndMemory).await;
    exposed(resource::render(&measured))
}

/// `/metrics/probes`
pub(super) fn probes(agent: &Agent) -> Response<Body> {
    exposed(probes::render(agent))
}

/// `/metrics/slis`
pub(super) fn slis(agent: &Agent) -> Response<Body> {
    exposed(probes::slis(agent))
}

fn exposed(text: String) -> Response<Body> {
    with_type(StatusCode::OK, EXPOSITION, text.into())
}
