//! Resource names and amounts: requests and limits, quotas, capacities.

use serde_json::Value;

use super::{
    access::{entries, list, map, text},
    amount,
    check::NEGATIVE,
    field::{Faults, Path},
    names,
};

/// The requests and limits of a container; `claims` are the names in the pod's `resourceClaims`.
pub fn requirements(faults: &mut Faults, path: &Path<'_>, resources: &Value, claims: &[&str]) {
    validate(faults, path, resources, claims, container_resource_name);
}

/// The requests and limits of a whole pod.
pub fn pod_requirements(faults: &mut Faults, path: &Path<'_>, resources: &Value) {
    if !list(resources, "claims").is_empty() {
        faults.forbidden(&path.field("claims"), "claims cannot be set for Resources at pod-level");
    }
    validate(faults, path, resources, &[], pod_resource_name);
}

fn validate(
    faults: &mut Faults,
    path: &Path<'_>,
    resources: &Value,
    claims: &[&str],
    name_check: fn(&mut Faults, &Path<'_>, &str),
) {
    let (limits, requests) = (path.field("limits"), path.field("requests"));
    let (mut compute, mut huge) = (false, false);
    for (name, quantity) in entries(resources, "limits") {
        let at = limits.key(name);
        name_check(faults, &at, name);
        quantity_value(faults, &at, name, quantity);
        huge |= is_huge_page(name);
        compute |= matches!(name.as_str(), "cpu" | "memory");
        huge_page_value(faults, &at, name, quantity);
    }
    for (name, quantity) in entries(resources, "requests") {
        let at = requests.key(name);
        name_check(faults, &at, name);
        quantity_value(faults, &at, name, quantity);
        match map(resources, "limits").and_then(|limits| limits.get(name)) {
            Some(limit) => {
                let order = amount::compare(quantity, limit);
                let shown = amount::shown(quantity);
                if order.is_ne() && !is_overcommit_allowed(name) {
                    faults.invalid(
                        &requests,
                        &shown,
                        format!("must be equal to {name} limit of {}", amount::shown(limit)),
                    );
                } else if order.is_gt() {
                    faults.invalid(
                        &requests,
                        &shown,
                        format!("must be less than or equal to {name} limit of {}", amount::shown(limit)),
                    );
                }
            }
            None if !is_overcommit_allowed(name) => {
                faults.required(&limits, "Limit must be set for non overcommitable resources");
            }
            None => {}
        }
        huge |= is_huge_page(name);
        compute |= matches!(name.as_str(), "cpu" | "memory");
        huge_page_value(faults, &at, name, quantity);
    }
    if huge && !compute {
        faults.forbidden(path, "HugePages require cpu or memory");
    }
    claim_names(faults, &path.field("claims"), list(resources, "claims"), claims);
}

fn claim_names(faults: &mut Faults, path: &Path<'_>, used: &[Value], claims: &[&str]) {
    let mut seen: Vec<String> = Vec::new();
    for (i, claim) in used.iter().enumerate() {
        let (name, request) = (text(claim, "name"), text(claim, "request"));
        let at = path.index(i);
        if name.is_empty() {
            faults.required(&at, "");
            continue;
        }
        if seen.iter().any(|each| each == name) {
            faults.duplicate(&at, name);
        } else {
            let key = if request.is_empty() {
                name.to_owned()
            } else {
                faults.invalid_each(&at.field("request"), request, names::dns1123_label(request));
                format!("{name}/{request}")
            };
            if seen.contains(&key) {
                faults.duplicate(&at, &key);
            } else if request.is_empty()
                && seen.iter().any(|each| each.split_once('/').is_some_and(|(of, _)| of == name))
            {
                faults.duplicate(&at, name);
            }
            seen.push(key);
        }
        if !claims.contains(&name) {
            let detail = if claims.is_empty() {
                "must be one of the names in pod.spec.resourceClaims which is empty".to_owned()
            } else {
                let mut claims = claims.to_vec();
                claims.sort_unstable();
                format!("must be one of the names in pod.spec.resourceClaims: {}", claims.join(", "))
            };
            faults.not_found_because(&at, name, &detail);
        }
    }
}

/// An amount that is not negative, and whole where the resource is counted in pieces.
pub fn quantity_value(faults: &mut Faults, path: &Path<'_>, name: &str, quantity: &Value) {
    let Some(amount) = amount::of(quantity) else { return };
    if amount.signum() < 0 {
        faults.invalid(path, &amount::shown(quantity), NEGATIVE);
    }
    if is_integer(name) && amount.milli_value() % 1000 != 0 {
        faults.invalid(path, &amount::shown(quantity), "must be an integer");
    }
}

/// Any amount (`validateBasicResource`).
pub fn not_negative(faults: &mut Faults, path: &Path<'_>, quantity: &Value) {
    if let Some(amount) = amount::of(quantity).filter(|amount| amount.signum() < 0) {
        faults.invalid(path, amount.value(), "must be a valid resource quantity");
    }
}

/// An amount above nothing.
pub fn positive(faults: &mut Faults, path: &Path<'_>, quantity: &Value) -> bool {
    let sound = amount::of(quantity).is_some_and(|amount| amount.signum() > 0);
    if !sound {
        faults.invalid(path, &amount::shown(quantity), "must be greater than zero");
    }
    sound
}

/// The name of any resource: standard, or qualified.
pub fn resource_name(faults: &mut Faults, path: &Path<'_>, name: &str) -> bool {
    let messages = names::qualified_name(name);
    if !messages.is_empty() {
        faults.invalid_each(path, name, messages);
        return false;
    }
    if !name.contains('/') && !is_standard(name) {
        faults.invalid(path, name, "must be a standard resource type or fully qualified");
        return false;
    }
    true
}

/// The name of a resource that a container can have.
pub fn container_resource_name(faults: &mut Faults, path: &Path<'_>, name: &str) {
    resource_name(faults, path, name);
    if !name.contains('/') {
        if !is_standard_for_containers(name) {
            faults.invalid(path, name, "must be a standard resource for containers");
        }
    } else if !is_native(name) && !is_extended(name) {
        faults.invalid(path, name, "doesn't follow extended resource name standard");
    }
}

fn pod_resource_name(faults: &mut Faults, path: &Path<'_>, name: &str) {
    if resource_name(faults, path, name) && !(matches!(name, "cpu" | "memory") || is_huge_page(name)) {
        faults.not_supported(path, name, &["cpu", "hugepages-", "memory"]);
    }
}

/// The name of a resource that a quota can limit.
pub fn quota_resource_name(faults: &mut Faults, path: &Path<'_>, name: &str) {
    resource_name(faults, path, name);
    if !name.contains('/') && !is_standard_for_quota(name) {
        faults.invalid(path, name, "must be a standard resource for quota");
    }
}

fn huge_page_value(faults: &mut Faults, path: &Path<'_>, name: &str, quantity: &Value) {
    let Some(size) = name.strip_prefix("hugepages-") else { return };
    let (size, value) = (amount::of(&Value::from(size)), amount::of(quantity));
    let divisible = match (size, value) {
        (Some(size), Some(value)) if size.value() != 0 => value.value() % size.value() == 0,
        _ => false,
    };
    if !divisible {
        let shown = amount::shown(quantity);
        faults.invalid(path, &shown, format!("{shown} is not positive integer multiple of {name}"));
    }
}

/// Whether it is the name of a huge page resource.
pub fn is_huge_page(name: &str) -> bool {
    name.starts_with("hugepages-")
}

/// Whether more of it may be requested than there is.
pub fn is_overcommit_allowed(name: &str) -> bool {
    is_native(name) && !is_huge_page(name)
}

fn is_native(name: &str) -> bool {
    !name.contains('/') || name.contains("kubernetes.io/")
}

fn is_extended(name: &str) -> bool {
    !is_native(name) && !name.starts_with("requests.") && names::qualified_name(&format!("requests.{name}")).is_empty()
}

fn is_standard_for_containers(name: &str) -> bool {
    matches!(name, "cpu" | "memory" | "ephemeral-storage") || is_huge_page(name)
}

/// Whether every cluster knows how to count it for quotas.
pub fn is_standard_for_quota(name: &str) -> bool {
    const COUNTED: [&str; 19] = [
        "cpu",
        "memory",
        "ephemeral-storage",
        "requests.cpu",
        "requests.memory",
        "requests.storage",
        "requests.ephemeral-storage",
        "limits.cpu",
        "limits.memory",
        "limits.ephemeral-storage",
        "pods",
        "resourcequotas",
        "services",
        "replicationcontrollers",
        "secrets",
        "persistentvolumeclaims",
        "configmaps",
        "services.nodeports",
        "services.loadbalancers",
    ];
    COUNTED.contains(&name) || is_huge_page(name) || name.starts_with("requests.hugepages-")
}

fn is_standard(name: &str) -> bool {
    is_standard_for_quota(name) || matches!(name, "storage" | "requests" | "limits")
}

fn is_integer(name: &str) -> bool {
    matches!(
        name,
        "pods"
            | "resourcequotas"
            | "services"
            | "replicationcontrollers"
            | "secrets"
            | "configmaps"
            | "persistentvolumeclaims"
            | "services.nodeports"
            | "services.loadbalancers"
    ) || is_extended(name)
}
