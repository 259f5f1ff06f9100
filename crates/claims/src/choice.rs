//! The choice of a volume for a claim.

use std::collections::BTreeMap;

use api::quantity::Quantity;
use k8s_openapi::api::core::v1::{PersistentVolume, PersistentVolumeClaim};

use crate::{claim_ref, class_of, class_of_volume, reaches, selector::selects, volume_phase};

/// A node that the volume has to be had on.
#[derive(Clone, Copy, Debug)]
pub struct Node<'a> {
    /// Its name.
    pub name: &'a str,
    /// Its labels.
    pub labels: &'a BTreeMap<String, String>,
}

/// The volume that a claim gets: the one that names it, else the smallest that does and that nobody has. Without a
/// node, a claim that waits for its consumer (`delayed`) gets only a volume that names it. `taken` tells of volumes
/// that are spoken for though nothing on them says so yet.
///
/// Of two that are equally large the first is taken (`FindMatchingVolume`).
pub fn choose<'a>(
    claim: &PersistentVolumeClaim,
    volumes: impl IntoIterator<Item = &'a PersistentVolume>,
    node: Option<Node<'_>>,
    delayed: bool,
    taken: impl Fn(&str) -> bool,
) -> Option<&'a PersistentVolume> {
    let wanted = requested(claim);
    let selector = claim.spec.as_ref().and_then(|s| s.selector.as_ref());
    let mut best: Option<(Quantity, &PersistentVolume)> = None;
    for volume in volumes {
        if taken(volume.metadata.name.as_deref().unwrap_or_default()) || !same_mode(claim, volume) {
            continue;
        }
        let has = size(volume);
        if wanted.as_ref().is_some_and(|wanted| has.as_ref().is_none_or(|has| has < wanted)) {
            continue;
        }
        if volume.metadata.deletion_timestamp.is_some() || !modes_fit(claim, volume) {
            continue;
        }
        let within_reach = node.is_none_or(|node| reaches(volume, node.name, node.labels));
        if is_bound_to(volume, claim) {
            // What was made for the claim is not passed over for another.
            return within_reach.then_some(volume);
        }
        if node.is_none() && delayed {
            continue;
        }
        let free = volume_phase(volume) == "Available" && claim_ref(volume).is_none();
        let alike = class_of_volume(volume) == class_of(claim)
            && same_attributes(claim, volume)
            && selects(selector, volume.metadata.labels.as_ref());
        if !free || !alike || !within_reach {
            continue;
        }
        let Some(has) = has else { continue };
        if best.as_ref().is_none_or(|(smallest, _)| has < *smallest) {
            best = Some((has, volume));
        }
    }
    best.map(|(_, volume)| volume)
}

/// Whether the volume names this claim: by name, and by UID where it names one.
pub fn is_bound_to(volume: &PersistentVolume, claim: &PersistentVolumeClaim) -> bool {
    claim_ref(volume).is_some_and(|r| {
        r.name == claim.metadata.name
            && r.namespace == claim.metadata.namespace
            && r.uid.as_ref().is_none_or(|uid| uid.is_empty() || Some(uid) == claim.metadata.uid.as_ref())
    })
}

/// Why a volume that the claim asks for by name will not do, in upstream's words.
pub fn unsuitable(volume: &PersistentVolume, claim: &PersistentVolumeClaim) -> Option<&'static str> {
    if requested(claim).is_some_and(|wanted| size(volume).is_none_or(|has| has < wanted)) {
        return Some("requested PV is too small");
    }
    if class_of_volume(volume) != class_of(claim) {
        return Some("storageClassName does not match");
    }
    if !same_attributes(claim, volume) {
        return Some("volumeAttributesClassName does not match");
    }
    if !same_mode(claim, volume) {
        return Some("incompatible volumeMode");
    }
    (!modes_fit(claim, volume)).then_some("incompatible accessMode")
}

/// What the claim asks for.
pub fn requested(claim: &PersistentVolumeClaim) -> Option<Quantity> {
    let requests = claim.spec.as_ref()?.resources.as_ref()?.requests.as_ref()?;
    requests.get("storage")?.0.parse().ok()
}

/// How much the volume holds.
pub fn size(volume: &PersistentVolume) -> Option<Quantity> {
    volume.spec.as_ref()?.capacity.as_ref()?.get("storage")?.0.parse().ok()
}

/// Whether the volume has all the access modes that the claim asks for.
pub fn modes_fit(claim: &PersistentVolumeClaim, volume: &PersistentVolume) -> bool {
    let has = volume.spec.as_ref().and_then(|s| s.access_modes.as_deref()).unwrap_or_default();
    claim.spec.iter().flat_map(|s| s.access_modes.iter().flatten()).all(|mode| has.contains(mode))
}

/// Whether both name the same VolumeAttributesClass, or none.
pub fn same_attributes(claim: &PersistentVolumeClaim, volume: &PersistentVolume) -> bool {
    let wanted = claim.spec.as_ref().and_then(|s| s.volume_attributes_class_name.as_deref());
    let has = volume.spec.as_ref().and_then(|s| s.volume_attributes_class_name.as_deref());
    wanted.unwrap_or_default() == has.unwrap_or_default()
}

/// Whether both mean a file system, or both a block device.
pub fn same_mode(claim: &PersistentVolumeClaim, volume: &PersistentVolume) -> bool {
    let mode = |mode: Option<&String>| mode.map_or("Filesystem", String::as_str).to_owned();
    mode(claim.spec.as_ref().and_then(|s| s.volume_mode.as_ref()))
        == mode(volume.spec.as_ref().and_then(|s| s.volume_mode.as_ref()))
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn claim(extra: Value) -> PersistentVolumeClaim {
        let mut spec = json!({"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "5Gi"}}});
        spec.as_object_mut().unwrap().extend(extra.as_object().unwrap().clone());
        serde_json::from_value(json!({"metadata": {"name": "c", "namespace": "n", "uid": "u"}, "spec": spec})).unwrap()
    }

    fn volume(name: &str, size: &str, extra: Value) -> PersistentVolume {
        let mut spec = json!({"accessModes": ["ReadWriteOnce", "ReadOnlyMany"], "capacity": {"storage": size}});
        spec.as_object_mut().unwrap().extend(extra.as_object().unwrap().clone());
        let labels = json!({"size": size});
        serde_json::from_value(
            json!({"metadata": {"name": name, "labels": labels}, "spec": spec, "status": {"phase": "Available"}}),
        )
        .unwrap()
    }

    fn chosen<'a>(claim: &PersistentVolumeClaim, volumes: &'a [PersistentVolume]) -> Option<&'a str> {
        choose(claim, volumes, None, false, |_| false)?.metadata.name.as_deref()
    }

    #[test]
    fn the_smallest_that_does_is_taken() {
        let volumes =
            [volume("big", "50Gi", json!({})), volume("fits", "6Gi", json!({})), volume("small", "1Gi", json!({}))];
        assert_eq!(chosen(&claim(json!({})), &volumes), Some("fits"));
        assert_eq!(chosen(&claim(json!({"selector": {"matchLabels": {"size": "50Gi"}}})), &volumes), Some("big"));
        assert_eq!(chosen(&claim(json!({"storageClassName": "fast"})), &volumes), None);
        assert_eq!(chosen(&claim(json!({"accessModes": ["ReadWriteMany"]})), &volumes), None);
        assert_eq!(chosen(&claim(json!({"volumeMode": "Block"})), &volumes), None);
        assert_eq!(chosen(&claim(json!({"volumeAttributesClassName": "gold"})), &volumes), None);
        assert_eq!(chosen(&claim(json!({"volumeAttributesClassName": ""})), &volumes), Some("fits"));
        let gold = [volume("gold", "7Gi", json!({"volumeAttributesClassName": "gold"}))];
        assert_eq!(chosen(&claim(json!({"volumeAttributesClassName": "gold"})), &gold), Some("gold"));
        assert_eq!(chosen(&claim(json!({})), &gold), None);
        let none = choose(&claim(json!({})), &volumes, None, true, |_| false);
        assert!(none.is_none(), "a claim that waits for its consumer is bound once there is a node");
        let other = choose(&claim(json!({})), &volumes, None, false, |name| name == "fits");
        assert_eq!(other.and_then(|v| v.metadata.name.as_deref()), Some("big"));
    }

    #[test]
    fn a_volume_that_names_the_claim_comes_before_all_others() {
        let named = json!({"claimRef": {"namespace": "n", "name": "c"}});
        let volumes = [volume("fits", "5Gi", json!({})), volume("named", "70Gi", named)];
        assert_eq!(chosen(&claim(json!({})), &volumes), Some("named"));
        let others = json!({"claimRef": {"namespace": "n", "name": "c", "uid": "before"}});
        let volumes = [volume("named", "70Gi", others)];
        assert_eq!(chosen(&claim(json!({})), &volumes), None, "it names one that had this name before");
    }

    #[test]
    fn a_volume_has_to_be_had_on_the_node() {
        let affinity = json!({"nodeAffinity": {"required": {"nodeSelectorTerms": [
            {"matchExpressions": [{"key": "disk", "operator": "In", "values": ["ssd"]}]}]}}});
        let volumes = [volume("local", "5Gi", affinity), volume("far", "9Gi", json!({}))];
        let on = |disk: &str| {
            let labels = BTreeMap::from([("disk".to_owned(), disk.to_owned())]);
            let node = Node { name: "node", labels: &labels };
            choose(&claim(json!({})), &volumes, Some(node), true, |_| false).and_then(|v| v.metadata.name.clone())
        };
        assert_eq!(on("ssd").as_deref(), Some("local"));
        assert_eq!(on("hdd").as_deref(), Some("far"));
    }

    #[test]
    fn a_volume_asked_for_by_name_is_refused_with_the_reason() {
        let ask = claim(json!({}));
        for (volume, why) in [
            (volume("v", "1Gi", json!({})), Some("requested PV is too small")),
            (volume("v", "5Gi", json!({"storageClassName": "x"})), Some("storageClassName does not match")),
            (
                volume("v", "5Gi", json!({"volumeAttributesClassName": "x"})),
                Some("volumeAttributesClassName does not match"),
            ),
            (volume("v", "5Gi", json!({"volumeMode": "Block"})), Some("incompatible volumeMode")),
            (volume("v", "5Gi", json!({"accessModes": ["ReadOnlyMany"]})), Some("incompatible accessMode")),
            (volume("v", "5Gi", json!({})), None),
        ] {
            assert_eq!(unsuitable(&volume, &ask), why);
        }
    }
}
