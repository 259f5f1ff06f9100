//! A pod gets the overhead, the node selector and the tolerations of its RuntimeClass.

use api::{quantity::Quantity, status::Status};
use serde_json::{Value, json};

use super::Attributes;
use crate::failure::Outcome;

pub(super) fn give(request: &Attributes<'_>, pod: &mut Value) -> Outcome<()> {
    let refuse = |why: &str| Err(request.forbidden(format!("pod rejected: {why}")));
    let name = pod["spec"]["runtimeClassName"].as_str().unwrap_or("").to_owned();
    let asked = pod["spec"]["overhead"].as_object().is_some_and(|overhead| !overhead.is_empty());
    let class = if name.is_empty() {
        Value::Null
    } else {
        match request.server.cache.kind("runtimeclasses.node.k8s.io").named("", &name) {
            Some(class) => class.parse(),
            None => return refuse(&format!("RuntimeClass {name:?} not found")),
        }
    };
    let overhead = &class["overhead"]["podFixed"];
    if !class["overhead"].is_object() {
        if asked {
            return refuse("Pod Overhead set without corresponding RuntimeClass defined Overhead");
        }
    } else {
        if asked && !same_amounts(&pod["spec"]["overhead"], overhead) {
            return refuse("Pod's Overhead doesn't match RuntimeClass's defined Overhead");
        }
        if overhead.is_object() {
            pod["spec"]["overhead"] = overhead.clone();
        }
    }
    schedule(request, pod, &class["scheduling"])
}

fn same_amounts(a: &Value, b: &Value) -> bool {
    let (Some(a), Some(b)) = (a.as_object(), b.as_object()) else { return false };
    a.len() == b.len()
        && a.iter().all(|(name, amount)| {
            b.get(name).is_some_and(|other| Quantity::from_json(amount).ok() == Quantity::from_json(other).ok())
        })
}

fn schedule(request: &Attributes<'_>, pod: &mut Value, scheduling: &Value) -> Result<(), Status> {
    for (key, value) in scheduling["nodeSelector"].as_object().into_iter().flatten() {
        let present = &pod["spec"]["nodeSelector"][key];
        if present.is_string() && present != value {
            let text = |value: &Value| value.as_str().unwrap_or("").to_owned();
            return Err(request.forbidden(format!(
                "conflict: runtimeClass.scheduling.nodeSelector[{key}] = {}; pod.spec.nodeSelector[{key}] = {}",
                text(value),
                text(present)
            )));
        }
    }
    if let Some(selector) = scheduling["nodeSelector"].as_object().filter(|selector| !selector.is_empty()) {
        if !pod["spec"]["nodeSelector"].is_object() {
            pod["spec"]["nodeSelector"] = json!({});
        }
        for (key, value) in selector {
            pod["spec"]["nodeSelector"][key] = value.clone();
        }
    }
    for toleration in scheduling["tolerations"].as_array().into_iter().flatten() {
        match pod["spec"]["tolerations"].as_array_mut() {
            Some(present) if present.contains(toleration) => {}
            Some(present) => present.push(toleration.clone()),
            None => pod["spec"]["tolerations"] = json!([toleration]),
        }
    }
    Ok(())
}
