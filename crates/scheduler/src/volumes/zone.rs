//! Labels of volumes that say in which zone and region they are, from before volumes had node affinities.

use k8s_openapi::api::core::v1::PersistentVolume;

use crate::node::NodeInfo;

/// A label and the one that replaces it.
const LABELS: [(&str, &str); 4] = [
    ("failure-domain.beta.kubernetes.io/zone", "topology.kubernetes.io/zone"),
    ("failure-domain.beta.kubernetes.io/region", "topology.kubernetes.io/region"),
    ("topology.kubernetes.io/zone", "topology.kubernetes.io/zone"),
    ("topology.kubernetes.io/region", "topology.kubernetes.io/region"),
];

/// Whether the node is where the volume is. A node that does not say where it is has all volumes; a volume may name
/// several zones, with two underscores between them.
pub fn reaches(volume: &PersistentVolume, node: &NodeInfo) -> bool {
    let Some(labels) = &volume.metadata.labels else { return true };
    let mut told = LABELS.iter().filter_map(|(key, newer)| Some((key, newer, labels.get(*key)?))).peekable();
    if told.peek().is_none() || LABELS.iter().all(|(key, _)| node.label(key).is_none()) {
        return true;
    }
    told.all(|(key, newer, places)| {
        let here = node.label(key).or_else(|| node.label(newer));
        here.is_some_and(|here| places.split("__").any(|place| place.trim() == here))
    })
}
