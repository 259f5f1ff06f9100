//! Volumes that are of the past, and paths in volumes that hide each other (`pkg/api/pod`, `pkg/api/persistentvolume`,
//! `pkg/api/persistentvolumeclaim`).

use std::collections::BTreeSet;

use serde_json::Value;

use super::label;
use crate::{
    quantity::Quantity,
    strategy::{
        access::{list, text},
        field::Path,
    },
};

/// Sources, and what became of them.
const PAST: &[(&str, &str)] = &[
    ("photonPersistentDisk", "deprecated in v1.11, non-functional in v1.16+"),
    ("gitRepo", "deprecated in v1.11"),
    ("scaleIO", "deprecated in v1.16, non-functional in v1.22+"),
    ("flocker", "deprecated in v1.22, non-functional in v1.25+"),
    ("storageos", "deprecated in v1.22, non-functional in v1.25+"),
    ("quobyte", "deprecated in v1.22, non-functional in v1.25+"),
    ("glusterfs", "deprecated in v1.25, non-functional in v1.26+"),
    ("cephfs", "deprecated in v1.28, non-functional in v1.31+"),
    ("rbd", "deprecated in v1.28, non-functional in v1.31+"),
];

/// Upstream's path has the name of its own field, not that of the API.
fn shown(source: &str) -> &str {
    if source == "storageos" { "storageOS" } else { source }
}

/// A claim.
pub(super) fn claim(found: &mut Vec<String>, claim: &Value) {
    beta_class(found, claim);
    claim_spec(found, &Path::root("spec"), &claim["spec"]);
}

/// The spec of a claim, or of a template of claims.
pub(super) fn claim_spec(found: &mut Vec<String>, path: &Path<'_>, spec: &Value) {
    for part in ["requests", "limits"] {
        let resources = path.field("resources");
        fractions(found, &resources.field(part), &spec["resources"][part], &["storage"]);
    }
}

/// A PersistentVolume.
pub(super) fn volume(found: &mut Vec<String>, volume: &Value) {
    beta_class(found, volume);
    let spec = &volume["spec"];
    if spec["persistentVolumeReclaimPolicy"] == "Recycle" {
        found.push(
            "spec.persistentVolumeReclaimPolicy: The Recycle reclaim policy is deprecated. Instead, the recommended \
             approach is to use dynamic provisioning."
                .to_owned(),
        );
    }
    let terms = Path::root("spec.nodeAffinity.required.nodeSelectorTerms");
    for (index, term) in list(&spec["nodeAffinity"]["required"], "nodeSelectorTerms").iter().enumerate() {
        label::expressions(found, &terms.index(index), term, true);
    }
    past(found, &Path::root("spec"), spec);
}

fn beta_class(found: &mut Vec<String>, object: &Value) {
    let key = "volume.beta.kubernetes.io/storage-class";
    if !object["metadata"]["annotations"][key].is_null() {
        found.push(format!(
            "metadata.annotations[{key}]: deprecated since v1.8; use \"storageClassName\" attribute instead"
        ));
    }
}

fn past(found: &mut Vec<String>, path: &Path<'_>, parent: &Value) {
    for (source, words) in PAST.iter().filter(|(source, _)| !parent[*source].is_null()) {
        found.push(format!("{}: {words}", path.field(shown(source))));
    }
}

/// A pod's volumes; `path` is theirs.
pub(super) fn of_pod(found: &mut Vec<String>, path: &Path<'_>, volumes: &[Value]) {
    for (index, volume) in volumes.iter().enumerate() {
        let path = path.index(index);
        past(found, &path, volume);
        let (ephemeral, template) = (path.field("ephemeral"), &volume["ephemeral"]["volumeClaimTemplate"]);
        claim_spec(found, &ephemeral.field("volumeClaimTemplate").field("spec"), &template["spec"]);
    }
    for volume in volumes {
        for (source, called, name) in
            [("configMap", "ConfigMap", "name"), ("secret", "Secret", "secretName"), ("downwardAPI", "DownwardAPI", "")]
        {
            let what = described(text(volume, "name"), called, &volume[source], name);
            overlaps(found, &what, paths(&volume[source]).into_iter());
        }
        projected(found, text(volume, "name"), &volume["projected"]);
    }
}

/// Amounts of bytes are whole.
pub(super) fn fractions(found: &mut Vec<String>, path: &Path<'_>, amounts: &Value, resources: &[&str]) {
    for resource in resources {
        let amount = Quantity::from_json(&amounts[*resource]).ok().filter(|q| q.milli_value() % 1000 != 0);
        if let Some(amount) = amount {
            let path = path.key(resource);
            found.push(format!("{path}: fractional byte value \"{amount}\" is invalid, must be an integer"));
        }
    }
}

fn described(volume: &str, called: &str, source: &Value, name: &str) -> String {
    match name {
        "" => format!("volume {volume:?} ({called}): overlapping paths"),
        name => format!("volume {volume:?} ({called} {:?}): overlapping paths", text(source, name)),
    }
}

fn paths(source: &Value) -> Vec<&str> {
    list(source, "items").iter().map(|item| text(item, "path")).collect()
}

fn projected(found: &mut Vec<String>, volume: &str, projected: &Value) {
    let mut before: BTreeSet<&str> = BTreeSet::new();
    for source in list(projected, "sources") {
        let given =
            ["configMap", "secret", "downwardAPI", "serviceAccountToken", "clusterTrustBundle", "podCertificate"];
        let Some(kind) = given.iter().find(|kind| !source[**kind].is_null()) else {
            found.push(format!("volume {volume:?} (Projected) has no sources provided"));
            continue;
        };
        let inner = &source[*kind];
        let (called, name, its) = match *kind {
            "configMap" => ("Projected ConfigMap", "name", paths(inner)),
            "secret" => ("Projected Secret", "name", paths(inner)),
            "downwardAPI" => ("Projected DownwardAPI", "", paths(inner)),
            "serviceAccountToken" => ("Projected ServiceAccountToken", "", vec![text(inner, "path")]),
            _ => continue,
        };
        let what = described(volume, called, inner, name);
        overlaps(found, &what, its.iter().copied());
        let unique: BTreeSet<&str> = its.into_iter().collect();
        let mut all: Vec<&str> = unique.iter().chain(&before).copied().collect();
        all.sort_unstable();
        overlaps(found, &what, all.into_iter());
        before.extend(unique);
    }
}

/// Two items at one path, or one at a path that goes through another's.
fn overlaps<'a>(found: &mut Vec<String>, what: &str, paths: impl Iterator<Item = &'a str>) {
    let below = |path: &str, above: &str| path.strip_prefix(above).is_some_and(|rest| rest.starts_with('/'));
    let mut seen: Vec<&str> = Vec::new();
    for path in paths.map(|path| path.trim_end_matches('/')).filter(|path| !path.is_empty()) {
        if let Some(other) = seen.iter().find(|other| **other == path || below(path, other) || below(other, path)) {
            let words = format!("{what}: {path:?} with {other:?}");
            if !found.contains(&words) {
                found.push(words);
            }
        }
        if !seen.contains(&path) {
            seen.push(path);
        }
    }
}
