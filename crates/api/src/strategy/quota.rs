//! `v1 ResourceQuota` and `v1 LimitRange`.

use serde_json::Value;

use super::{
    access::{ensure_object, entries, fill, get, is_empty, items_mut, list, map, remove, text},
    amount,
    field::{Faults, Path},
    names,
    prepare::{PLAIN, WITH_STATUS},
    resources,
};
use crate::{resource::Strategy, status::Cause};

/// The strategy of ResourceQuotas.
pub const RESOURCE_QUOTA: Strategy = Strategy {
    validate: validate_quota,
    validate_update: validate_quota_update,
    validate_status_update: |new, _| validate_quota_status(new),
    ..WITH_STATUS
};

/// The strategy of LimitRanges.
pub const LIMIT_RANGE: Strategy = Strategy {
    default: default_limit_range,
    validate: validate_limit_range,
    validate_update: |new, _| validate_limit_range(new),
    create_on_update: true,
    ..PLAIN
};

fn default_limit_range(object: &mut Value) {
    let Some(spec) = super::access::object_mut(object, "spec") else { return };
    for limit in items_mut(spec, "limits") {
        if text(limit, "type") != "Container" {
            continue;
        }
        let of = |limit: &Value, field: &str| map(limit, field).cloned().unwrap_or_default();
        let (most, least) = (of(limit, "max"), of(limit, "min"));
        let default = ensure_object(limit, "default");
        for (name, value) in most {
            fill(default, &name, value);
        }
        let limits = of(limit, "default");
        let request = ensure_object(limit, "defaultRequest");
        for (name, value) in limits.into_iter().chain(least) {
            fill(request, &name, value);
        }
        for field in ["default", "defaultRequest"] {
            if is_empty(limit, field) {
                remove(limit, field);
            }
        }
    }
}

fn amounts(faults: &mut Faults, path: &Path<'_>, parent: &Value, field: &str) {
    let path = path.field(field);
    for (name, quantity) in entries(parent, field) {
        resources::quota_resource_name(faults, &path.key(name), name);
        resources::quantity_value(faults, &path.key(name), name, quantity);
    }
}

fn validate_quota(object: &Value) -> Vec<Cause> {
    let mut faults = Faults::new();
    let none = Value::Null;
    let spec = get(object, "spec").unwrap_or(&none);
    let path = Path::root("spec");
    amounts(&mut faults, &path, spec, "hard");
    scopes(&mut faults, &path.field("scopes"), spec);
    if let Some(selector) = get(spec, "scopeSelector") {
        scope_selector(&mut faults, &path.field("scopeSelector").field("matchExpressions"), selector);
    }
    faults.extend(validate_quota_status(object));
    faults.into_causes()
}

const SCOPES: [&str; 7] = [
    "Terminating",
    "NotTerminating",
    "BestEffort",
    "NotBestEffort",
    "PriorityClass",
    "CrossNamespacePodAffinity",
    "VolumeAttributesClass",
];

fn scopes(faults: &mut Faults, path: &Path<'_>, spec: &Value) {
    let scopes: Vec<&str> = list(spec, "scopes").iter().filter_map(Value::as_str).collect();
    let shown = get(spec, "scopes").unwrap_or(&Value::Null);
    for scope in &scopes {
        if !SCOPES.contains(scope) {
            faults.invalid(path, shown, "unsupported scope");
        }
        let compute_only = matches!(*scope, "NotBestEffort" | "Terminating" | "NotTerminating");
        for (name, _) in entries(spec, "hard") {
            let of_pods = name == "pods"
                || ["cpu", "memory", "requests.", "limits.", "hugepages-", "ephemeral-storage"]
                    .iter()
                    .any(|prefix| name.starts_with(prefix))
                    && name != "requests.storage";
            let valid = match *scope {
                "BestEffort" => name == "pods",
                _ if compute_only => of_pods,
                _ => true,
            };
            if !valid && resources::is_standard_for_quota(name) {
                faults.invalid(path, shown, "unsupported scope applied to resource");
            }
        }
    }
    for [one, other] in [["BestEffort", "NotBestEffort"], ["Terminating", "NotTerminating"]] {
        if scopes.contains(&one) && scopes.contains(&other) {
            faults.invalid(path, shown, "conflicting scopes");
        }
    }
}

fn scope_selector(faults: &mut Faults, path: &Path<'_>, selector: &Value) {
    for requirement in list(selector, "matchExpressions") {
        let (scope, operator) = (text(requirement, "scopeName"), text(requirement, "operator"));
        if !SCOPES.contains(&scope) {
            faults.invalid(&path.field("scopeName"), scope, "unsupported scope");
        }
        if !matches!(scope, "PriorityClass" | "VolumeAttributesClass")
            && SCOPES.contains(&scope)
            && operator != "Exists"
        {
            faults.invalid(
                &path.field("operator"),
                operator,
                "must be 'Exists' when scope is any of ResourceQuotaScopeTerminating, ResourceQuotaScopeNotTerminating, ResourceQuotaScopeBestEffort, ResourceQuotaScopeNotBestEffort or ResourceQuotaScopeCrossNamespacePodAffinity",
            );
        }
        let values = list(requirement, "values");
        match operator {
            "In" | "NotIn" => {
                if values.is_empty() {
                    faults.required(
                        &path.field("values"),
                        "must be at least one value when `operator` is 'In' or 'NotIn' for scope selector",
                    );
                }
            }
            "Exists" | "DoesNotExist" => {
                if !values.is_empty() {
                    faults.invalid(
                        &path.field("values"),
                        get(requirement, "values").unwrap_or(&Value::Null),
                        "must be no value when `operator` is 'Exist' or 'DoesNotExist' for scope selector",
                    );
                }
            }
            other => faults.invalid(&path.field("operator"), other, "not a valid selector operator"),
        }
    }
}

fn validate_quota_update(new: &Value, old: &Value) -> Vec<Cause> {
    let mut faults = Faults::new();
    faults.extend(validate_quota(new));
    let scopes = |object: &Value| {
        let mut scopes: Vec<String> = super::access::list_at(object, &["spec", "scopes"])
            .iter()
            .filter_map(Value::as_str)
            .map(str::to_owned)
            .collect();
        scopes.sort();
        scopes.dedup();
        scopes
    };
    if scopes(new) != scopes(old) {
        faults.invalid(
            &Path::root("spec.scopes"),
            super::access::at(new, &["spec", "scopes"]).unwrap_or(&Value::Null),
            super::check::IMMUTABLE,
        );
    }
    faults.into_causes()
}

fn validate_quota_status(object: &Value) -> Vec<Cause> {
    let mut faults = Faults::new();
    if let Some(status) = get(object, "status") {
        let path = Path::root("status");
        amounts(&mut faults, &path, status, "hard");
        amounts(&mut faults, &path, status, "used");
    }
    faults.into_causes()
}

fn validate_limit_range(object: &Value) -> Vec<Cause> {
    let mut faults = Faults::new();
    let path = Path::root("spec.limits");
    let limits = super::access::list_at(object, &["spec", "limits"]);
    for (i, limit) in limits.iter().enumerate() {
        let at = path.index(i);
        let kind = text(limit, "type");
        let messages = names::qualified_name(kind);
        if !messages.is_empty() {
            faults.invalid_each(&at.field("type"), kind, messages);
        } else if !kind.contains('/') && !matches!(kind, "Pod" | "Container" | "PersistentVolumeClaim") {
            faults.invalid(&at.field("type"), kind, "must be a standard limit type or fully qualified");
        }
        if limits[..i].iter().any(|before| text(before, "type") == kind) {
            faults.duplicate(&at.field("type"), kind);
        }
        limit_names(&mut faults, &at, limit, kind);
        limit_order(&mut faults, &at, limit, kind);
    }
    faults.into_causes()
}

fn limit_names(faults: &mut Faults, path: &Path<'_>, limit: &Value, kind: &str) {
    for field in ["max", "min", "default", "defaultRequest", "maxLimitRequestRatio"] {
        let at = path.field(field);
        if kind == "Pod" && field.starts_with("default") {
            if !is_empty(limit, field) {
                faults.forbidden(&at, "may not be specified when `type` is 'Pod'");
            }
            continue;
        }
        for (name, _) in entries(limit, field) {
            if matches!(kind, "Pod" | "Container") {
                resources::container_resource_name(faults, &at.key(name), name);
            } else {
                resources::resource_name(faults, &at.key(name), name);
            }
        }
    }
    let has = |field: &str| map(limit, field).is_some_and(|map| map.contains_key("storage"));
    if kind == "PersistentVolumeClaim" && !has("min") && !has("max") {
        faults.required(
            &path.field("limits"),
            "either minimum or maximum storage value is required, but neither was provided",
        );
    }
}

fn limit_order(faults: &mut Faults, path: &Path<'_>, limit: &Value, kind: &str) {
    // (the smaller, the larger, where it is reported, whose value is shown, their names)
    const ORDER: [(&str, &str, &str, &str, &str, &str); 6] = [
        ("min", "max", "min", "min", "min value", "max value"),
        ("min", "defaultRequest", "defaultRequest", "defaultRequest", "min value", "default request value"),
        ("defaultRequest", "max", "defaultRequest", "defaultRequest", "default request value", "max value"),
        (
            "defaultRequest",
            "default",
            "defaultRequest",
            "defaultRequest",
            "default request value",
            "default limit value",
        ),
        ("min", "default", "default", "min", "min value", "default value"),
        ("default", "max", "default", "max", "default value", "max value"),
    ];
    let mut all: Vec<&String> = Vec::new();
    for field in ["max", "min", "default", "defaultRequest", "maxLimitRequestRatio"] {
        for (name, _) in entries(limit, field) {
            if !all.contains(&name) {
                all.push(name);
            }
        }
    }
    for name in all {
        let value = |field: &str| {
            let usable = kind != "Pod" || !field.starts_with("default");
            map(limit, field).and_then(|map| map.get(name)).filter(|_| usable)
        };
        for (small, large, at, shown, small_name, large_name) in ORDER {
            let (Some(a), Some(b)) = (value(small), value(large)) else { continue };
            if amount::compare(a, b).is_gt() {
                faults.invalid(
                    &path.field(at).key(name),
                    &amount::shown(value(shown).unwrap_or(&Value::Null)),
                    format!("{small_name} {} is greater than {large_name} {}", amount::shown(a), amount::shown(b)),
                );
            }
        }
        if let Some(ratio) = value("maxLimitRequestRatio") {
            let at = path.field("maxLimitRequestRatio");
            let number = |value: &Value| amount::of(value).map_or(0.0, |amount| amount.as_f64());
            let shown = amount::shown(ratio);
            if number(ratio) < 1.0 {
                faults.invalid(&at.key(name), &shown, format!("ratio {shown} is less than 1"));
            }
            if let (Some(least), Some(most)) = (value("min"), value("max")) {
                let bound = number(most) / number(least);
                if number(ratio) > bound {
                    faults.invalid(
                        &at.key(name),
                        &shown,
                        format!("ratio {shown} is greater than max/min = {bound:.6}"),
                    );
                }
            }
        }
        if let (Some(default), Some(request)) = (value("default"), value("defaultRequest"))
            && !resources::is_overcommit_allowed(name)
            && !amount::same(default, request)
        {
            let (default, request) = (amount::shown(default), amount::shown(request));
            faults.invalid(
                &path.field("defaultRequest").key(name),
                &request,
                format!("default value {default} must equal to defaultRequest value {request} in {name}"),
            );
        }
    }
}
