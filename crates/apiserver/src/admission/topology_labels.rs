//! A pod that has its node says where that is: `PodTopologyLabels` (KEP-4742, on by default since 1.35), so that its
//! containers learn of their zone by the downward API.

use serde_json::Value;

use super::Attributes;
use crate::{failure::Outcome, scan};

const PREFIX: &[u8] = b"\"topology.kubernetes.io/";
const COPIED: [&str; 2] = ["topology.kubernetes.io/zone", "topology.kubernetes.io/region"];

/// Copies the labels of the node, if there is one of that name; what the pod says itself stands.
pub(super) fn give(request: &Attributes<'_>, pod: &mut Value) -> Outcome<()> {
    let Some(name) = pod["spec"]["nodeName"].as_str().filter(|name| !name.is_empty()) else { return Ok(()) };
    let node = request.server.cache.kind("nodes").named("", name);
    // Most nodes know of no zone: they need not be taken apart.
    let Some(node) = node.filter(|node| memchr::memmem::find(&node.bytes, PREFIX).is_some()) else { return Ok(()) };
    let labels = scan::pick(&node.bytes, &["/metadata/labels"]);
    for key in COPIED {
        let label = &labels["metadata"]["labels"][key];
        if label.is_string() && pod["metadata"]["labels"][key].is_null() {
            pod["metadata"]["labels"][key] = label.clone();
        }
    }
    Ok(())
}
