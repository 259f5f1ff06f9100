//! `autoscaling HorizontalPodAutoscaler` (both versions) and `policy/v1 PodDisruptionBudget`.

use serde_json::{Value, json};

use super::{
    access::{ensure_object, fill, get, int, is_empty, list, object_mut, set, text},
    amount,
    check::{at_most_100_percent, int_or_percent, label_selector, nonnegative, optional_one_of},
    field::{Faults, Path},
    names,
    prepare::{self, WITH_GENERATION, WITH_STATUS},
};
use crate::{
    resource::{NameRule, Strategy},
    status::Cause,
};

/// The strategy of HorizontalPodAutoscalers.
pub const HORIZONTAL_POD_AUTOSCALER: Strategy = Strategy {
    default: default_autoscaler,
    prepare_create: |object| prepare::empty_status(object, json!({"desiredReplicas": 0, "currentMetrics": null})),
    validate: validate_autoscaler,
    validate_update: |new, _| validate_autoscaler(new),
    validate_status_update: |new, _| status_counts(new, &["currentReplicas", "desiredReplicas"]),
    ..WITH_STATUS
};

/// The strategy of PodDisruptionBudgets.
pub const POD_DISRUPTION_BUDGET: Strategy = Strategy {
    prepare_create: |object| {
        prepare::first_generation(object);
        prepare::empty_status(
            object,
            json!({"disruptionsAllowed": 0, "currentHealthy": 0, "desiredHealthy": 0, "expectedPods": 0}),
        );
    },
    validate: validate_budget,
    validate_update: |new, _| validate_budget(new),
    validate_status_update: |new, _| {
        status_counts(new, &["disruptionsAllowed", "currentHealthy", "desiredHealthy", "expectedPods"])
    },
    name: NameRule::PathSegment,
    unconditional_update: false,
    ..WITH_GENERATION
};

fn default_autoscaler(object: &mut Value) {
    let first = super::access::text(object, "apiVersion") == "autoscaling/v1";
    let spec = ensure_object(object, "spec");
    fill(spec, "minReplicas", 1);
    if first {
        fill(spec, "targetCPUUtilizationPercentage", 80);
        return;
    }
    if is_empty(spec, "metrics") {
        set(
            spec,
            "metrics",
            json!([{"type": "Resource", "resource": {
                "name": "cpu",
                "target": {"type": "Utilization", "averageUtilization": 80},
            }}]),
        );
    }
    if let Some(behavior) = object_mut(spec, "behavior") {
        let up = ensure_object(behavior, "scaleUp");
        fill(up, "stabilizationWindowSeconds", 0);
        fill(up, "selectPolicy", "Max");
        if get(up, "policies").is_none() {
            set(
                up,
                "policies",
                json!([
                    {"type": "Pods", "value": 4, "periodSeconds": 15},
                    {"type": "Percent", "value": 100, "periodSeconds": 15},
                ]),
            );
        }
        let down = ensure_object(behavior, "scaleDown");
        fill(down, "selectPolicy", "Max");
        if get(down, "policies").is_none() {
            set(down, "policies", json!([{"type": "Percent", "value": 100, "periodSeconds": 15}]));
        }
    }
}

fn status_counts(object: &Value, counts: &[&str]) -> Vec<Cause> {
    let mut faults = Faults::new();
    if let Some(status) = get(object, "status") {
        for count in counts {
            nonnegative(&mut faults, &Path::root("status"), status, count);
        }
    }
    faults.into_causes()
}

fn validate_budget(object: &Value) -> Vec<Cause> {
    let mut faults = Faults::new();
    let Some(spec) = get(object, "spec") else { return Vec::new() };
    let path = Path::root("spec");
    let (least, most) = (get(spec, "minAvailable"), get(spec, "maxUnavailable"));
    if least.is_some() && most.is_some() {
        faults.invalid(&path, spec, "minAvailable and maxUnavailable cannot be both set");
    }
    for (field, value) in [("minAvailable", least), ("maxUnavailable", most)] {
        if let Some(value) = value {
            int_or_percent(&mut faults, &path.field(field), value);
            at_most_100_percent(&mut faults, &path.field(field), value);
        }
    }
    if let Some(selector) = get(spec, "selector") {
        label_selector(&mut faults, &path.field("selector"), selector);
    }
    optional_one_of(&mut faults, &path, spec, "unhealthyPodEvictionPolicy", &["AlwaysAllow", "IfHealthyBudget"]);
    faults.into_causes()
}

fn validate_autoscaler(object: &Value) -> Vec<Cause> {
    let mut faults = Faults::new();
    let none = Value::Null;
    let spec = get(object, "spec").unwrap_or(&none);
    let path = Path::root("spec");
    let (least, most) = (int(spec, "minReplicas"), int(spec, "maxReplicas").unwrap_or(0));
    let to_zero = list(spec, "metrics").iter().any(|metric| matches!(text(metric, "type"), "External" | "Object"));
    if let Some(least) = least.filter(|least| *least < 1 && !(to_zero && *least == 0)) {
        faults.invalid(&path.field("minReplicas"), least, "must be greater than or equal to 1");
    }
    if most < 1 {
        faults.invalid(&path.field("maxReplicas"), most, "must be greater than 0");
    }
    if least.is_some_and(|least| most < least) {
        faults.invalid(&path.field("maxReplicas"), most, "must be greater than or equal to `minReplicas`");
    }
    reference(&mut faults, &path.field("scaleTargetRef"), get(spec, "scaleTargetRef").unwrap_or(&none));
    if let Some(percent) = int(spec, "targetCPUUtilizationPercentage").filter(|percent| *percent < 1) {
        // Upstream validates what v1 is converted to.
        let at = path.field("metrics[0].resource.target.averageUtilization");
        faults.invalid(&at, percent, "must be greater than 0");
    }
    for (i, metric) in list(spec, "metrics").iter().enumerate() {
        metric_spec(&mut faults, &path.field("metrics").index(i), metric);
    }
    if least == Some(0) && !to_zero {
        let detail = "must specify at least one Object or External metric to support scaling to zero replicas";
        faults.forbidden(&path.field("metrics"), detail);
    }
    if let Some(behavior) = get(spec, "behavior") {
        for direction in ["scaleUp", "scaleDown"] {
            if let Some(rules) = get(behavior, direction) {
                scaling_rules(&mut faults, &path.field("behavior").field(direction), rules);
            }
        }
    }
    faults.into_causes()
}

fn reference(faults: &mut Faults, path: &Path<'_>, reference: &Value) {
    for field in ["kind", "name"] {
        match text(reference, field) {
            "" => faults.required(&path.field(field), ""),
            value => faults.invalid_each(&path.field(field), value, names::path_segment(value, false)),
        }
    }
}

const METRICS: [(&str, &str); 5] = [
    ("ContainerResource", "containerResource"),
    ("External", "external"),
    ("Object", "object"),
    ("Pods", "pods"),
    ("Resource", "resource"),
];

fn metric_spec(faults: &mut Faults, path: &Path<'_>, metric: &Value) {
    let kind = text(metric, "type");
    if kind.is_empty() {
        faults.required(&path.field("type"), "must specify a metric source type");
    }
    let known = METRICS.iter().find(|(name, _)| *name == kind);
    if known.is_none() {
        faults.not_supported(&path.field("type"), kind, &METRICS.map(|(name, _)| name));
    }
    for (_, field) in METRICS {
        let Some(source) = get(metric, field) else { continue };
        let at = path.field(field);
        if known.is_some_and(|(_, expected)| *expected != field) {
            faults.forbidden(&at, "must populate the given metric source only");
            continue;
        }
        match field {
            "resource" | "containerResource" => {
                if text(source, "name").is_empty() {
                    faults.required(&at.field("name"), "must specify a resource name");
                }
                if field == "containerResource" && text(source, "container").is_empty() {
                    faults.required(&at.field("container"), "must specify a container");
                }
            }
            _ => {
                if let Some(object) = get(source, "describedObject") {
                    reference(faults, &at.field("describedObject"), object);
                }
                let name = get(source, "metric").map_or("", |metric| text(metric, "name"));
                let at_metric = at.field("metric");
                if name.is_empty() {
                    faults.required(&at_metric.field("name"), "must specify a metric name");
                } else {
                    faults.invalid_each(&at_metric.field("name"), name, names::path_segment(name, false));
                }
            }
        }
        let target = get(source, "target").unwrap_or(&Value::Null);
        metric_target(faults, &at.field("target"), target);
        target_of(faults, &at.field("target"), field, target);
    }
    if let Some((_, field)) = known.filter(|(_, field)| get(metric, field).is_none()) {
        faults.required(&path.field(field), "must populate information for the given metric source");
    }
}

/// Which amounts a target must have depends on what is measured.
fn target_of(faults: &mut Faults, path: &Path<'_>, source: &str, target: &Value) {
    let has = |field: &str| get(target, field).is_some();
    match source {
        "resource" | "containerResource" => {
            if !has("averageUtilization") && !has("averageValue") {
                faults.required(
                    &path.field("averageUtilization"),
                    "must set either a target raw value or a target utilization",
                );
            }
            if has("averageUtilization") && has("averageValue") {
                faults.forbidden(
                    &path.field("averageValue"),
                    "may not set both a target raw value and a target utilization",
                );
            }
        }
        "pods" => {
            if !has("averageValue") {
                faults.required(&path.field("averageValue"), "must specify a positive target averageValue");
            }
        }
        "object" => {
            if !has("value") && !has("averageValue") {
                faults.required(&path.field("averageValue"), "must set either a target value or averageValue");
            }
        }
        _ => {
            if !has("value") && !has("averageValue") {
                faults.required(
                    &path.field("averageValue"),
                    "must set either a target value for metric or a per-pod target",
                );
            }
            if has("value") && has("averageValue") {
                faults
                    .forbidden(&path.field("value"), "may not set both a target value for metric and a per-pod target");
            }
        }
    }
}

fn metric_target(faults: &mut Faults, path: &Path<'_>, target: &Value) {
    match text(target, "type") {
        "" => faults.required(&path.field("type"), "must specify a metric target type"),
        "Utilization" | "Value" | "AverageValue" => {}
        other => faults.invalid(&path.field("type"), other, "must be either Utilization, Value, or AverageValue"),
    }
    for field in ["value", "averageValue"] {
        if let Some(value) = get(target, field)
            && amount::of(value).is_none_or(|amount| amount.signum() <= 0)
        {
            faults.invalid(&path.field(field), &amount::shown(value), "must be positive");
        }
    }
    if let Some(percent) = int(target, "averageUtilization").filter(|percent| *percent < 1) {
        faults.invalid(&path.field("averageUtilization"), percent, "must be greater than 0");
    }
}

fn scaling_rules(faults: &mut Faults, path: &Path<'_>, rules: &Value) {
    nonnegative(faults, path, rules, "stabilizationWindowSeconds");
    if let Some(seconds) = int(rules, "stabilizationWindowSeconds").filter(|seconds| *seconds > 3600) {
        faults.invalid(&path.field("stabilizationWindowSeconds"), seconds, "must be less than or equal to 3600");
    }
    optional_one_of(faults, path, rules, "selectPolicy", &["Disabled", "Max", "Min"]);
    if is_empty(rules, "policies") {
        faults.required(&path.field("policies"), "must specify at least one Policy");
    }
    for (i, policy) in list(rules, "policies").iter().enumerate() {
        let at = path.field("policies");
        let at = at.index(i);
        if !matches!(text(policy, "type"), "Pods" | "Percent") {
            faults.not_supported(&at.field("type"), text(policy, "type"), &["Percent", "Pods"]);
        }
        for (field, most) in [("value", i64::MAX), ("periodSeconds", 1800)] {
            let number = int(policy, field).unwrap_or(0);
            if number <= 0 {
                faults.invalid(&at.field(field), number, "must be greater than zero");
            } else if number > most {
                faults.invalid(&at.field(field), number, format!("must be less than or equal to {most}"));
            }
        }
    }
    if let Some(tolerance) = get(rules, "tolerance")
        && amount::of(tolerance).is_some_and(|amount| amount.signum() < 0)
    {
        faults.invalid(&path.field("tolerance"), &amount::shown(tolerance), "must be greater than or equal to 0");
    }
}
