//! A running pod may not ask for more than its node has, nor to be resized on a node that can't
//! (upstream's `PodResizeValidator`, since 1.36).

use api::{quantity::Quantity, quota, status::Cause};
use serde_json::Value;

use super::Attributes;
use crate::failure::Outcome;

pub(super) fn judge(request: &Attributes<'_>, pod: &mut Value) -> Outcome<()> {
    let Some(name) = pod["spec"]["nodeName"].as_str().filter(|name| !name.is_empty()) else { return Ok(()) };
    if request.old.is_some_and(|old| old["spec"] == pod["spec"]) {
        return Ok(());
    }
    let Some(node) = request.server.cache.kind("nodes").named("", name) else {
        return Err(request.forbidden(format!("node \"{name}\" not found")));
    };
    let node = node.parse();
    let refuse = |cause: &str, why: &str| {
        let mut status = request.forbidden(why);
        let cause = Cause { reason: cause.to_owned(), ..Cause::default() };
        status.details.get_or_insert_default().causes.push(cause);
        Err(status)
    };
    let requests = quota::of_containers(pod, "requests");
    let lacking: Vec<String> = [("cpu", Quantity::milli_value as fn(&Quantity) -> i64), ("memory", Quantity::value)]
        .into_iter()
        .filter_map(|(resource, number)| {
            let requested = requests.get(resource).map_or(0, number);
            let allocatable = Quantity::from_json(&node["status"]["allocatable"][resource]).map_or(0, |q| number(&q));
            let text = format!("{resource}, requested: {requested}, allocatable: {allocatable}");
            (requested > allocatable).then_some(text)
        })
        .collect();
    if !lacking.is_empty() {
        let lacking = lacking.join("; ");
        return refuse("NodeCapacity", &format!("Node didn't have enough allocatable resources: {lacking}"));
    }
    match node["metadata"]["labels"]["kubernetes.io/os"].as_str().unwrap_or_default() {
        "linux" => Ok(()),
        os => {
            let why = format!("pod resize is only supported on linux nodes, node \"{name}\" is \"{os}\"");
            refuse("UnsupportedPlatform", &why)
        }
    }
}
