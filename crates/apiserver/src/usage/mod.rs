//! `metrics.k8s.io`: what nodes and pods use, measured when someone asks. The agents of the nodes count
//! (`/stats/summary`, read from cgroups at that moment); nothing is polled and nothing is stored but the last sample of
//! each node, from which the next one's rates are taken.

mod sample;

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
    time::Duration,
};

use api::status::Status;
use bytes::Bytes;
use futures::future::join_all;
use http::Request;
use http_body_util::{BodyExt, Empty};
use jiff::{SignedDuration, Timestamp};
use parking_lot::Mutex;
use serde_json::Value;

use crate::{
    body::RequestBody,
    cache::Cached,
    call::{Call, Reply},
    failure::Outcome,
    node_proxy,
    query::ListOptions,
    selection::Selection,
    server::ApiServer,
    verbs::list::Page,
};
use sample::{Sample, Used};

/// The group of the kinds that are served here.
pub(crate) const GROUP: &str = "metrics.k8s.io";

/// Rates over less time than this say little.
const LEAST_WINDOW: SignedDuration = SignedDuration::from_secs(1);
/// Rates over more time than this say little about now.
const MOST_WINDOW: SignedDuration = SignedDuration::from_secs(90);
/// An agent that takes longer is left out.
const PATIENCE: Duration = Duration::from_secs(5);

/// What is remembered of each node.
#[derive(Default)]
pub(crate) struct Usage {
    nodes: Mutex<HashMap<String, Arc<tokio::sync::Mutex<Memory>>>>,
}

#[derive(Default)]
struct Memory {
    sample: Option<Sample>,
    used: Option<Arc<Used>>,
}

/// GET of one object or of a list.
pub(crate) async fn answer(call: &Call<'_>, verb: &str) -> Outcome<Reply> {
    call.server.cache.fresh().await;
    let of_nodes = call.resource.kind == "NodeMetrics";
    if verb == "get" {
        let objects =
            if of_nodes { nodes(call, Some(&call.path.name)).await } else { pods(call, Some(&call.path.name)).await };
        let (_, tree) = objects.into_iter().next().ok_or_else(|| match of_nodes {
            true => Status::not_found(GROUP, "nodemetrics", &call.path.name),
            false => {
                let name = format!("{}/{}", call.path.namespace, call.path.name);
                Status::not_found(GROUP, "podmetrics", &name)
            }
        })?;
        return Ok(Reply::Tree { code: 200, tree });
    }
    let options = ListOptions::parse(&call.query)?;
    let selection = Selection::parse(call.resource, &options.labels, &options.fields)?;
    let objects = if of_nodes { nodes(call, None).await } else { pods(call, None).await };
    let objects = objects.into_iter().map(|(key, tree)| Arc::new(Cached::new(key, Bytes::from(tree.to_string()), 0)));
    let objects = objects.filter(|object| selection.wants(&call.kind, object)).collect();
    Ok(Reply::List(Page { objects, revision: 0, continue_token: String::new(), remaining: None }))
}

type Object = (Arc<str>, Value);

async fn nodes(call: &Call<'_>, name: Option<&str>) -> Vec<Object> {
    let all = call.server.cache.kind("nodes").snapshot("", None, 0, |_| true).objects;
    let all = all.iter().map(|node| node.parse()).filter(|node| name.is_none_or(|n| node["metadata"]["name"] == n));
    let all: BTreeMap<String, Value> =
        all.map(|node| (node["metadata"]["name"].as_str().unwrap_or("").to_owned(), node)).collect();
    let used = used_by(call.server, all.keys()).await;
    let each =
        all.iter().filter_map(|(name, node)| Some((call.kind.key("", name), used.get(name)?.node_metrics(node))));
    each.collect()
}

async fn pods(call: &Call<'_>, name: Option<&str>) -> Vec<Object> {
    let stored = call.server.cache.kind("pods").snapshot(&call.path.namespace, None, 0, |_| true).objects;
    let running = stored
        .iter()
        .filter(|pod| name.is_none_or(|name| call.kind.name_of(&pod.key) == name))
        .map(|pod| pod.parse())
        .filter(|pod| pod["status"]["phase"] == "Running");
    let running: Vec<Value> = running.collect();
    let node_of = |pod: &Value| pod["spec"]["nodeName"].as_str().unwrap_or("").to_owned();
    let nodes: BTreeMap<String, ()> = running.iter().map(|pod| (node_of(pod), ())).collect();
    let used = used_by(call.server, nodes.keys()).await;
    let each = running.iter().filter_map(|pod| {
        let metrics = used.get(&node_of(pod))?.pod_metrics(pod)?;
        let text = |field: &str| pod["metadata"][field].as_str().unwrap_or("");
        Some((call.kind.key(text("namespace"), text("name")), metrics))
    });
    each.collect()
}

/// What each node uses now; nodes that do not answer are left out.
async fn used_by(server: &ApiServer, nodes: impl Iterator<Item = &String>) -> HashMap<String, Arc<Used>> {
    let each = nodes.map(|node| async move {
        match tokio::time::timeout(PATIENCE, used_by_node(server, node)).await {
            Ok(Ok(used)) => Some((node.clone(), used)),
            Ok(Err(status)) => {
                tracing::debug!(node, error = status.message, "what a node uses is not known");
                None
            }
            Err(_) => {
                tracing::debug!(node, "the agent of a node does not say in time what it uses");
                None
            }
        }
    });
    join_all(each).await.into_iter().flatten().collect()
}

async fn used_by_node(server: &ApiServer, node: &str) -> Outcome<Arc<Used>> {
    let memory = server.usage.nodes.lock().entry(node.to_owned()).or_default().clone();
    // Those who ask at the same time share the answer.
    let mut memory = memory.lock().await;
    let now = Timestamp::now();
    if let Some(used) = memory.used.as_ref().filter(|used| now.duration_since(used.at).abs() < LEAST_WINDOW) {
        return Ok(used.clone());
    }
    let mut sample = ask(server, node).await?;
    let earlier = match memory.sample.take().filter(|earlier| sample.follows(earlier, LEAST_WINDOW, MOST_WINDOW)) {
        Some(earlier) => earlier,
        None => {
            // Nobody has asked lately: a rate needs a window.
            let earlier = sample;
            tokio::time::sleep(LEAST_WINDOW.unsigned_abs()).await;
            sample = ask(server, node).await?;
            earlier
        }
    };
    let used = Arc::new(Used::between(&earlier, &sample));
    *memory = Memory { sample: Some(sample), used: Some(used.clone()) };
    Ok(used)
}

async fn ask(server: &ApiServer, node: &str) -> Outcome<Sample> {
    let (parts, ()) = Request::new(()).into_parts();
    let body = RequestBody::Local(Empty::new().map_err(|never| match never {}).boxed_unsync());
    let response = node_proxy::to_node(server, node, "/stats/summary?only_cpu_and_memory=true", parts, body).await?;
    let bytes = node_proxy::checked(response).await?.into_body().collect_bytes().await;
    let bytes = bytes.map_err(|error| Status::internal_error(error.to_string()))?;
    let summary = serde_json::from_slice(&bytes).ok().and_then(|tree: Value| Sample::read(&tree));
    summary.ok_or_else(|| Status::internal_error(format!("node {node} answers with something that is no summary")))
}
