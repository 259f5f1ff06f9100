//! Pod Security Standards (KEP-2579): the labels of a namespace say which pods may run in it, and about which its users
//! are warned. Nothing is asked of namespaces without such labels, as upstream by default.

mod checks;
mod policy;

use std::collections::{BTreeMap, HashSet};

use api::status::Status;
use serde_json::Value;

use self::{
    checks::{Fault, Pod},
    policy::{Level, Limit, Policy},
};
use super::{Attributes, Operation};
use crate::failure::Outcome;

/// As many pods are looked at when a namespace gets another limit (upstream's number).
const MOST_PODS: usize = 3000;

/// What of a pod may be written to without asking for other rights in it.
const HARMLESS: [&str; 8] = ["exec", "attach", "binding", "eviction", "log", "portforward", "proxy", "status"];

pub(super) fn judge(request: &Attributes<'_>, object: &mut Value) -> Outcome<()> {
    match (request.resource.group, request.resource.plural) {
        ("", "pods") if !HARMLESS.contains(&request.subresource) => judge_pod(request, object),
        ("", "namespaces") if request.subresource.is_empty() => judge_namespace(request, object),
        _ if !request.subresource.is_empty() => Ok(()),
        ("", "podtemplates") => {
            warn(request, &object["template"]);
            Ok(())
        }
        ("", "replicationcontrollers")
        | ("apps", "daemonsets" | "deployments" | "replicasets" | "statefulsets")
        | ("batch", "jobs") => {
            warn(request, &object["spec"]["template"]);
            Ok(())
        }
        ("batch", "cronjobs") => {
            warn(request, &object["spec"]["jobTemplate"]["spec"]["template"]);
            Ok(())
        }
        _ => Ok(()),
    }
}

fn judge_pod(request: &Attributes<'_>, pod: &Value) -> Outcome<()> {
    if request.old.is_some_and(|old| !changes_images(pod, old)) {
        return Ok(());
    }
    let policy = policy_of(request);
    let faults = faults(policy.enforce, pod);
    if faults.is_empty() {
        warn_by(request, policy.warn, pod);
        return Ok(());
    }
    Err(request.forbidden(format!("violates PodSecurity \"{}\": {}", policy.enforce, details(&faults))))
}

/// Whether containers are more or other ones, which is all that matters of what may change in a pod.
fn changes_images(new: &Value, old: &Value) -> bool {
    let images = |pod: &Value, list: &str| -> Vec<(String, String)> {
        let text = |value: &Value| value.as_str().unwrap_or("").to_owned();
        let containers = pod["spec"][list].as_array().into_iter().flatten();
        containers.map(|container| (text(&container["name"]), text(&container["image"]))).collect()
    };
    ["containers", "initContainers", "ephemeralContainers"]
        .into_iter()
        .any(|list| images(new, list) != images(old, list))
}

fn judge_namespace(request: &Attributes<'_>, namespace: &Value) -> Outcome<()> {
    let (new, causes) = Policy::of(&namespace["metadata"]["labels"]);
    let Some(old) = request.old else {
        return refuse(request, causes);
    };
    let (old, earlier) = Policy::of(&old["metadata"]["labels"]);
    if causes != earlier {
        refuse(request, causes)?;
    }
    let (new, old) = (new.enforce, old.enforce);
    let is_eased = new.version == old.version && new.level <= old.level;
    if request.operation == Operation::Update && new != old && new.level != Level::Privileged && !is_eased {
        warn_of_pods(request, new);
    }
    Ok(())
}

fn refuse(request: &Attributes<'_>, causes: Vec<api::status::Cause>) -> Outcome<()> {
    if causes.is_empty() {
        return Ok(());
    }
    Err(Status::invalid(request.resource.group, request.resource.kind, request.name, causes))
}

/// Warns of the pods that would not be let in under the namespace's new limit, those with the same faults together.
fn warn_of_pods(request: &Attributes<'_>, limit: Limit) {
    let pods = request.objects("pods", request.name);
    let (mut first, mut others) = (Vec::new(), Vec::new());
    let mut controllers = HashSet::new();
    for pod in &pods {
        let pod = pod.parse();
        let owners = pod["metadata"]["ownerReferences"].as_array().into_iter().flatten();
        let controller = owners.filter(|owner| owner["controller"] == true).find_map(|owner| owner["uid"].as_str());
        let is_new = controller.is_none_or(|uid| controllers.insert(uid.to_owned()));
        if is_new { first.push(pod) } else { others.push(pod) }
    }
    let mut faulty: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for pod in first.into_iter().chain(others).take(MOST_PODS) {
        let faults = faults(limit, &pod);
        if !faults.is_empty() {
            let reasons: Vec<&str> = faults.iter().map(|fault| fault.reason.as_str()).collect();
            let name = pod["metadata"]["name"].as_str().unwrap_or("").to_owned();
            faulty.entry(reasons.join(", ")).or_default().push(name);
        }
    }
    if pods.len() > MOST_PODS {
        request.warn(format!(
            "new PodSecurity enforce level only checked against the first {MOST_PODS} of {} existing pods",
            pods.len()
        ));
    }
    if !faulty.is_empty() {
        request.warn(format!(
            "existing pods in namespace \"{}\" violate the new PodSecurity enforce level \"{limit}\"",
            request.name
        ));
    }
    let mut lines: Vec<String> =
        faulty.into_iter().map(|(reasons, names)| format!("{}: {reasons}", some(names))).collect();
    lines.sort();
    lines.into_iter().for_each(|line| request.warn(line));
}

/// The first of some pods, and how many there are besides.
fn some(mut names: Vec<String>) -> String {
    names.sort();
    match names.as_slice() {
        [one] => one.clone(),
        [one, _] => format!("{one} (and 1 other pod)"),
        [one, rest @ ..] => format!("{one} (and {} other pods)", rest.len()),
        [] => String::new(),
    }
}

/// Warns of pods that a template would make.
fn warn(request: &Attributes<'_>, template: &Value) {
    if template["spec"].is_object() {
        warn_by(request, policy_of(request).warn, template);
    }
}

fn warn_by(request: &Attributes<'_>, limit: Limit, pod: &Value) {
    let faults = faults(limit, pod);
    if !faults.is_empty() {
        request.warn(format!("would violate PodSecurity \"{limit}\": {}", details(&faults)));
    }
}

/// Labels that can't be read mean the strictest limit, except for warnings, which there are none of then.
fn policy_of(request: &Attributes<'_>) -> Policy {
    let namespace = request.server.cache.kind("namespaces").named("", request.namespace);
    // Most namespaces ask for nothing, which their text tells without being parsed.
    let asking = namespace.filter(|found| memchr::memmem::find(&found.bytes, policy::PREFIX.as_bytes()).is_some());
    asking.map_or_else(Policy::default, |namespace| Policy::of(&namespace.parse()["metadata"]["labels"]).0)
}

fn faults(limit: Limit, pod: &Value) -> Vec<Fault> {
    let minor = limit.version.minor();
    checks::of(limit.level, minor).filter_map(|judge| judge(Pod { pod, minor })).collect()
}

fn details(faults: &[Fault]) -> String {
    let shown = faults.iter().map(|fault| format!("{} ({})", fault.reason, fault.detail));
    shown.collect::<Vec<_>>().join(", ")
}
