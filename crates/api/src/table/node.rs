//! Nodes.

use serde_json::Value;

use super::{
    cell::{at, list_at, text_at, text_or, truth_at},
    column::{AGE, NAME, text, wide},
};
use crate::resource::Column;

pub(super) const NODES: &[Column] = &[
    NAME,
    text("Status", "Whether the node is ready.", |o, _| status(o).into()),
    text("Roles", "Its roles, by its labels.", |o, _| roles(o).into()),
    AGE,
    text("Version", "The version of its agent.", |o, _| text_at(o, "/status/nodeInfo/kubeletVersion").into()),
    wide("Internal-IP", "Its address in the cluster.", |o, _| address(o, "InternalIP").into()),
    wide("External-IP", "Its address outside of the cluster.", |o, _| address(o, "ExternalIP").into()),
    wide("OS-Image", "Its operating system.", |o, _| text_or(o, "/status/nodeInfo/osImage", "<unknown>").into()),
    wide("Kernel-Version", "Its kernel.", |o, _| text_or(o, "/status/nodeInfo/kernelVersion", "<unknown>").into()),
    wide("Arch", "What its processors are.", |o, _| text_or(o, "/status/nodeInfo/architecture", "<unknown>").into()),
    wide("Container-Runtime", "What runs its containers.", |o, _| {
        text_or(o, "/status/nodeInfo/containerRuntimeVersion", "<unknown>").into()
    }),
];

fn status(node: &Value) -> String {
    let conditions = list_at(node, "/status/conditions");
    // The last one counts, as in upstream's map.
    let mut text = match conditions.iter().rfind(|c| text_at(c, "/type") == "Ready") {
        Some(ready) if text_at(ready, "/status") == "True" => "Ready",
        Some(_) => "NotReady",
        None => "Unknown",
    }
    .to_owned();
    if truth_at(node, "/spec/unschedulable", false) {
        text.push_str(",SchedulingDisabled");
    }
    text
}

fn roles(node: &Value) -> String {
    let labels = at(node, "/metadata/labels").and_then(Value::as_object);
    let mut roles: Vec<&str> = labels
        .into_iter()
        .flatten()
        .filter_map(|(key, value)| match key.strip_prefix("node-role.kubernetes.io/") {
            Some(role) => Some(role),
            None if key == "kubernetes.io/role" => value.as_str(),
            None => None,
        })
        .filter(|role| !role.is_empty())
        .collect();
    roles.sort_unstable();
    roles.dedup();
    if roles.is_empty() { "<none>".to_owned() } else { roles.join(",") }
}

fn address<'a>(node: &'a Value, r#type: &str) -> &'a str {
    let found = list_at(node, "/status/addresses").iter().find(|a| text_at(a, "/type") == r#type);
    found.map_or("<none>", |a| text_at(a, "/address"))
}
