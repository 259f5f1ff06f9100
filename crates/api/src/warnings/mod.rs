//! What upstream warns of in objects that it takes all the same (`WarningsOnCreate`, `WarningsOnUpdate` of its
//! strategies). Pure; nothing is allocated for an object without oddities.

mod address;
mod label;
mod network;
mod pod;
mod port;
mod service;
mod volume;

use serde_json::Value;

use crate::strategy::{
    access::{get, list, text},
    field::Path,
    names,
    pod::template_of,
};

/// Names of pods and hosts come of these kinds' names.
const NAMED: &str =
    "this is used in Pod names and hostnames, which can result in surprising behavior; a DNS label is recommended";
const HOSTNAME: &str =
    "this is used in the Pod's hostname, which can result in surprising behavior; a DNS label is recommended";

/// What is said of a name that is no DNS label.
fn words_for_name(kind: &str) -> Option<&'static str> {
    match kind {
        "Pod" => Some(HOSTNAME),
        "ReplicationController" | "Deployment" | "ReplicaSet" | "Job" | "CronJob" => Some(NAMED),
        _ => None,
    }
}

/// The warnings that upstream gives for an object that is made (`old` is `None`) or changed, in upstream's order.
/// Of workloads it warns again only when their spec changes, of pods only when they are made.
pub fn of(group: &str, kind: &str, new: &Value, old: Option<&Value>) -> Vec<String> {
    let mut found = Vec::new();
    if let Some(template) = template_of(group, kind) {
        let same = |old: &Value| kind == "Pod" || old["metadata"]["generation"] == new["metadata"]["generation"];
        if old.is_some_and(same) {
            return found;
        }
        if let (Some(words), None) = (words_for_name(kind), old) {
            name(&mut found, new, words);
        }
        of_workload(&mut found, kind, new, template);
        return found;
    }
    match (group, kind) {
        ("", "Service") => service::warn(&mut found, new),
        ("", "PersistentVolumeClaim") => volume::claim(&mut found, new),
        ("", "PersistentVolume") => volume::volume(&mut found, new),
        ("", "Node") => node(&mut found, new),
        ("", "Endpoints") => network::endpoints(&mut found, new),
        ("discovery.k8s.io", "EndpointSlice") => network::slice(&mut found, new, old.is_none()),
        ("networking.k8s.io", "Ingress") if old.is_none() => network::ingress(&mut found, new),
        ("networking.k8s.io", "NetworkPolicy") => network::policy(&mut found, new),
        ("storage.k8s.io", "StorageClass") => label::topologies(&mut found, new),
        ("storage.k8s.io", "CSIStorageCapacity") => {
            label::selector(&mut found, &Path::root("nodeTopology"), &new["nodeTopology"]);
        }
        ("node.k8s.io", "RuntimeClass") => label::runtime_class(&mut found, new),
        _ => {}
    }
    found
}

/// A Node's fields that nobody reads any more, and its ranges.
fn node(found: &mut Vec<String>, node: &Value) {
    let spec = &node["spec"];
    if get(spec, "configSource").is_some() {
        found.push("spec.configSource: the feature is removed".to_owned());
    }
    if !text(spec, "externalID").is_empty() {
        found.push("spec.externalID: this field is deprecated, and is unused by Kubernetes".to_owned());
    }
    for (index, range) in list(spec, "podCIDRs").iter().filter_map(Value::as_str).enumerate() {
        address::cidr(found, &Path::root("spec.podCIDRs").index(index), range);
    }
}

fn of_workload(found: &mut Vec<String>, kind: &str, new: &Value, template: &str) {
    match template {
        "" => pod::warn(found, &Path::root(""), new, false),
        path => {
            if kind == "Job" || kind == "CronJob" {
                job(found, new, path.strip_suffix(".template").unwrap_or_default());
            }
            let place = path.split('.').fold(new, |tree, field| &tree[field]);
            pod::warn(found, &Path::root(path), place, true);
        }
    }
    if kind == "StatefulSet" {
        for (index, claim) in list(&new["spec"], "volumeClaimTemplates").iter().enumerate() {
            let path = Path::root("spec.volumeClaimTemplates");
            volume::claim_spec(found, &path.index(index).field("spec"), &claim["spec"]);
        }
        if new["spec"]["revisionHistoryLimit"].as_i64().is_some_and(|limit| limit < 0) {
            let words = "a negative value retains all historical revisions; a value >= 0 is recommended";
            found.push(format!("spec.revisionHistoryLimit: {words}"));
        }
    }
}

fn name(found: &mut Vec<String>, object: &Value, words: &str) {
    let name = object["metadata"]["name"].as_str().unwrap_or_default();
    if !names::is_label(name) {
        let faults = names::dns1123_label(name).join(" ");
        found.push(format!("metadata.name: {words}: [{faults}]"));
    }
}

/// Statuses of Indexed Jobs grow with the indexes that fail here and there.
fn job(found: &mut Vec<String>, object: &Value, path: &str) {
    let spec = path.split('.').fold(object, |tree, field| &tree[field]);
    let number = |field: &str| spec[field].as_i64().unwrap_or(0);
    if spec["completionMode"] == "Indexed" && number("completions") > 100_000 && number("parallelism") > 10_000 {
        found.push(format!(
            "{path}: In Indexed Jobs with a number of completions higher than 10^5 and a parallelism higher than 10^4, \
             Kubernetes might not be able to track completedIndexes when a big number of indexes fail"
        ));
    }
}
