//! Claims and Ingresses that name no class get the default one.

use serde_json::Value;

use super::Attributes;
use crate::failure::Outcome;

pub(super) fn of_claim(request: &Attributes<'_>, claim: &mut Value) -> Outcome<()> {
    let beta = &claim["metadata"]["annotations"]["volume.beta.kubernetes.io/storage-class"];
    if claim["spec"]["storageClassName"].is_string() || beta.is_string() {
        return Ok(());
    }
    let marks = ["storageclass.kubernetes.io/is-default-class", "storageclass.beta.kubernetes.io/is-default-class"];
    if let Some(name) = default_of(request, "storageclasses.storage.k8s.io", &marks) {
        claim["spec"]["storageClassName"] = name;
    }
    Ok(())
}

pub(super) fn of_ingress(request: &Attributes<'_>, ingress: &mut Value) -> Outcome<()> {
    let annotation = &ingress["metadata"]["annotations"]["kubernetes.io/ingress.class"];
    if ingress["spec"]["ingressClassName"].is_string() || annotation.is_string() {
        return Ok(());
    }
    let marks = ["ingressclass.kubernetes.io/is-default-class"];
    if let Some(name) = default_of(request, "ingressclasses.networking.k8s.io", &marks) {
        ingress["spec"]["ingressClassName"] = name;
    }
    Ok(())
}

/// Of several classes that are marked as default the newest, and of those the first by name.
fn default_of(request: &Attributes<'_>, storage: &str, marks: &[&str]) -> Option<Value> {
    let classes = request.objects(storage, "");
    let is_default = |class: &Value| marks.iter().any(|mark| class["metadata"]["annotations"][*mark] == "true");
    let mut best: Option<Value> = None;
    for class in classes.iter().map(|class| class.parse()).filter(is_default) {
        let made = |class: &Value| class["metadata"]["creationTimestamp"].as_str().unwrap_or("").to_owned();
        if best.as_ref().is_none_or(|best| made(&class) > made(best)) {
            best = Some(class);
        }
    }
    best.map(|class| class["metadata"]["name"].clone())
}
