//! The LimitRanges of a namespace: containers get its defaults, and what is too small or too large is refused.
//!
//! Upstream: `plugin/pkg/admission/limitranger`.

use api::{
    quantity::Quantity,
    quota::{Amounts, of_containers, read},
};
use serde_json::{Value, json};

use super::Attributes;
use crate::failure::Outcome;

const ANNOTATION: &str = "kubernetes.io/limit-ranger";
/// The largest number of which upstream compares thousandths.
const MAX_MILLI: i64 = i64::MAX / 1000;

pub(super) fn fill_in(request: &Attributes<'_>, pod: &mut Value) -> Outcome<()> {
    for range in ranges(request) {
        let limits = range["spec"]["limits"].as_array().into_iter().flatten();
        let (mut requests, mut most) = (Amounts::new(), Amounts::new());
        for limit in limits.filter(|limit| limit["type"] == "Container") {
            requests.extend(read(&limit["defaultRequest"]));
            most.extend(read(&limit["default"]));
        }
        let mut notes = Vec::new();
        for (field, what) in [("containers", "container"), ("initContainers", "init container")] {
            let Some(containers) = pod["spec"][field].as_array_mut() else { continue };
            for container in containers {
                let name = container["name"].as_str().unwrap_or("").to_owned();
                for (of, defaults, word) in [("requests", &requests, "request"), ("limits", &most, "limit")] {
                    let set = complete(container, of, defaults);
                    if !set.is_empty() {
                        notes.push(format!("{} {word} for {what} {name}", set.join(", ")));
                    }
                }
            }
        }
        if !notes.is_empty() {
            if !pod["metadata"]["annotations"].is_object() {
                pod["metadata"]["annotations"] = json!({});
            }
            pod["metadata"]["annotations"][ANNOTATION] = format!("LimitRanger plugin set: {}", notes.join("; ")).into();
        }
    }
    Ok(())
}

/// Sets what the container does not say; returns the names of what was set.
fn complete(container: &mut Value, field: &str, defaults: &Amounts) -> Vec<String> {
    let mut set = Vec::new();
    for (name, amount) in defaults {
        if !container["resources"][field][name].is_null() {
            continue;
        }
        for step in [&["resources"][..], &["resources", field]] {
            let at = step.iter().fold(&mut *container, |at, key| &mut at[*key]);
            if !at.is_object() {
                *at = json!({});
            }
        }
        container["resources"][field][name] = amount.to_string().into();
        set.push(name.clone());
    }
    set
}

pub(super) fn judge(request: &Attributes<'_>, object: &mut Value) -> Outcome<()> {
    if object["metadata"]["deletionTimestamp"].is_string() {
        return Ok(());
    }
    for range in ranges(request) {
        let faults = match request.resource.plural {
            "pods" => faults_of_pod(&range, object),
            _ => faults_of_claim(&range, object),
        };
        match faults.as_slice() {
            [] => {}
            [one] => return Err(request.forbidden(one)),
            all => return Err(request.forbidden(format!("[{}]", all.join(", ")))),
        }
    }
    Ok(())
}

fn ranges(request: &Attributes<'_>) -> Vec<Value> {
    request.objects("limitranges", request.namespace).iter().map(|range| range.parse()).collect()
}

fn faults_of_pod(range: &Value, pod: &Value) -> Vec<String> {
    let mut faults = Vec::new();
    for limit in range["spec"]["limits"].as_array().into_iter().flatten() {
        match limit["type"].as_str() {
            Some("Container") => {
                for field in ["containers", "initContainers"] {
                    for container in pod["spec"][field].as_array().into_iter().flatten() {
                        let of = |kind: &str| read(&container["resources"][kind]);
                        Bounds { limit, of: "Container" }.judge(&of("requests"), &of("limits"), &mut faults);
                    }
                }
            }
            Some("Pod") => {
                let (requests, limits) = (of_containers(pod, "requests"), of_containers(pod, "limits"));
                Bounds { limit, of: "Pod" }.judge(&requests, &limits, &mut faults);
            }
            _ => {}
        }
    }
    faults
}

fn faults_of_claim(range: &Value, claim: &Value) -> Vec<String> {
    let requests = read(&claim["spec"]["resources"]["requests"]);
    let mut faults = Vec::new();
    for limit in range["spec"]["limits"].as_array().into_iter().flatten() {
        let bounds = Bounds { limit, of: "PersistentVolumeClaim" };
        if limit["type"] != bounds.of {
            continue;
        }
        for (name, least) in read(&limit["min"]) {
            faults.extend(bounds.too_small(&name, &least, requests.get(&name), None));
        }
        for (name, most) in read(&limit["max"]) {
            let what = format!("maximum {name} usage per {} is {most}", bounds.of);
            match requests.get(&name) {
                None => faults.push(format!("{what}.  No request is specified")),
                Some(request) if *request > most => faults.push(format!("{what}, but request is {request}")),
                Some(_) => {}
            }
        }
    }
    faults
}

/// One limit, and the kind it is of.
struct Bounds<'a> {
    limit: &'a Value,
    of: &'static str,
}

impl Bounds<'_> {
    fn judge(&self, requests: &Amounts, limits: &Amounts, faults: &mut Vec<String>) {
        for (name, least) in read(&self.limit["min"]) {
            faults.extend(self.too_small(&name, &least, requests.get(&name), limits.get(&name)));
        }
        for (name, most) in read(&self.limit["max"]) {
            faults.extend(self.too_large(&name, &most, requests.get(&name), limits.get(&name)));
        }
        for (name, most) in read(&self.limit["maxLimitRequestRatio"]) {
            faults.extend(self.too_uneven(&name, &most, requests.get(&name), limits.get(&name)));
        }
    }

    fn too_small(
        &self,
        name: &str,
        least: &Quantity,
        request: Option<&Quantity>,
        limit: Option<&Quantity>,
    ) -> Option<String> {
        let what = format!("minimum {name} usage per {} is {least}", self.of);
        match (request, limit) {
            (None, _) => Some(format!("{what}.  No request is specified")),
            (Some(request), _) if request < least => Some(format!("{what}, but request is {request}")),
            (_, Some(limit)) if limit < least => Some(format!("{what}, but limit is {limit}")),
            _ => None,
        }
    }

    fn too_large(
        &self,
        name: &str,
        most: &Quantity,
        request: Option<&Quantity>,
        limit: Option<&Quantity>,
    ) -> Option<String> {
        let what = format!("maximum {name} usage per {} is {most}", self.of);
        match (request, limit) {
            (_, None) => Some(format!("{what}.  No limit is specified")),
            (_, Some(limit)) if limit > most => Some(format!("{what}, but limit is {limit}")),
            (Some(request), _) if request > most => Some(format!("{what}, but request is {request}")),
            _ => None,
        }
    }

    fn too_uneven(
        &self,
        name: &str,
        most: &Quantity,
        request: Option<&Quantity>,
        limit: Option<&Quantity>,
    ) -> Option<String> {
        let what = format!("{name} max limit to request ratio per {} is {most}", self.of);
        let amount = |quantity: &Quantity| {
            let fine = quantity.value() <= MAX_MILLI;
            if fine { quantity.milli_value() as f64 / 1000.0 } else { quantity.value() as f64 }
        };
        let some = |quantity: Option<&Quantity>| quantity.map(amount).filter(|amount| *amount != 0.0);
        let Some(request) = some(request) else {
            return Some(format!("{what}, but no request is specified or request is 0"));
        };
        let Some(limit) = some(limit) else {
            return Some(format!("{what}, but no limit is specified or limit is 0"));
        };
        let ratio = limit / request;
        (ratio > amount(most)).then(|| format!("{what}, but provided ratio is {ratio:.6}"))
    }
}
