//! `apps/v1 Deployment`.

use serde_json::{Value, json};

use super::{
    super::{
        access::{ensure_object, fill, fill_text, get, int, set, text},
        check::{at_most_100_percent, int_or_percent, is_none_at_all, nonnegative},
        field::{Faults, Path},
        pod::defaults::default_template,
        prepare::{self, PLAIN},
    },
    template,
};
use crate::{resource::Strategy, status::Cause};

/// The strategy of Deployments.
pub const DEPLOYMENT: Strategy = Strategy {
    default,
    prepare_create: prepare::first_generation,
    prepare_update,
    prepare_status_update: prepare::status_update_keeping_labels,
    validate,
    validate_update,
    validate_status_update,
    ..PLAIN
};

fn default(object: &mut Value) {
    let spec = ensure_object(object, "spec");
    fill(spec, "replicas", 1);
    default_template(spec);
    let strategy = ensure_object(spec, "strategy");
    fill_text(strategy, "type", "RollingUpdate");
    if text(strategy, "type") == "RollingUpdate" {
        let rolling = ensure_object(strategy, "rollingUpdate");
        fill(rolling, "maxUnavailable", "25%");
        fill(rolling, "maxSurge", "25%");
    }
    fill(spec, "revisionHistoryLimit", 10);
    fill(spec, "progressDeadlineSeconds", 600);
}

/// The generation also counts changes of annotations, which carry to the ReplicaSets.
fn prepare_update(new: &mut Value, old: &Value) {
    prepare::next_generation(new, old);
    let annotations =
        |object: &Value| get(object, "metadata").and_then(|metadata| get(metadata, "annotations")).cloned();
    let before = super::super::access::at(old, &["metadata", "generation"]).and_then(Value::as_i64).unwrap_or(0);
    let changed = match (annotations(new), annotations(old)) {
        (Some(new), Some(old)) => new != old,
        (Some(one), None) | (None, Some(one)) => one.as_object().is_some_and(|map| !map.is_empty()),
        (None, None) => false,
    };
    if changed && let Some(metadata) = new.as_object_mut().and_then(|map| map.get_mut("metadata")) {
        set(metadata, "generation", before + 1);
    }
}

fn validate(object: &Value) -> Vec<Cause> {
    let mut faults = Faults::new();
    spec(&mut faults, get(object, "spec").unwrap_or(&Value::Null));
    faults.into_causes()
}

fn validate_update(new: &Value, old: &Value) -> Vec<Cause> {
    let mut faults = Faults::new();
    spec(&mut faults, get(new, "spec").unwrap_or(&Value::Null));
    template::immutable_selector(&mut faults, new, old);
    faults.into_causes()
}

fn spec(faults: &mut Faults, spec: &Value) {
    let path = Path::root("spec");
    nonnegative(faults, &path, spec, "replicas");
    template::selector(faults, &path, spec, "deployment");
    template::selector_matches(faults, &path, spec);
    template::endless_template(faults, &path, spec, "ReplicaSet");
    strategy(faults, &path.field("strategy"), get(spec, "strategy").unwrap_or(&Value::Null));
    nonnegative(faults, &path, spec, "minReadySeconds");
    nonnegative(faults, &path, spec, "revisionHistoryLimit");
    if let Some(deadline) = int(spec, "progressDeadlineSeconds") {
        nonnegative(faults, &path, spec, "progressDeadlineSeconds");
        if deadline <= int(spec, "minReadySeconds").unwrap_or(0) {
            faults.invalid(&path.field("progressDeadlineSeconds"), deadline, "must be greater than minReadySeconds");
        }
    }
}

fn strategy(faults: &mut Faults, path: &Path<'_>, strategy: &Value) {
    let at = path.field("rollingUpdate");
    match (text(strategy, "type"), get(strategy, "rollingUpdate")) {
        ("Recreate", Some(_)) => {
            faults.forbidden(&at, "may not be specified when strategy `type` is 'Recreate'");
        }
        ("Recreate", None) => {}
        ("RollingUpdate", None) => faults.required(&at, "this should be defaulted and never be nil"),
        ("RollingUpdate", Some(rolling)) => {
            let (unavailable, surge) = (get(rolling, "maxUnavailable"), get(rolling, "maxSurge"));
            let none = Value::from(0);
            int_or_percent(faults, &at.field("maxUnavailable"), unavailable.unwrap_or(&none));
            int_or_percent(faults, &at.field("maxSurge"), surge.unwrap_or(&none));
            if is_none_at_all(unavailable) && is_none_at_all(surge) {
                faults.invalid(
                    &at.field("maxUnavailable"),
                    unavailable.unwrap_or(&none),
                    "may not be 0 when `maxSurge` is 0",
                );
            }
            at_most_100_percent(faults, &at.field("maxUnavailable"), unavailable.unwrap_or(&none));
        }
        (other, rolling) => faults.not_supported(
            path,
            &json!({"Type": other, "RollingUpdate": rolling}),
            &["Recreate", "RollingUpdate"],
        ),
    }
}

fn validate_status_update(new: &Value, old: &Value) -> Vec<Cause> {
    let mut faults = Faults::new();
    let status = get(new, "status").unwrap_or(&Value::Null);
    template::status_counts(
        &mut faults,
        status,
        &[
            "observedGeneration",
            "replicas",
            "updatedReplicas",
            "readyReplicas",
            "availableReplicas",
            "unavailableReplicas",
            "collisionCount",
        ],
        &["updatedReplicas", "readyReplicas", "availableReplicas"],
    );
    let available = int(status, "availableReplicas").unwrap_or(0);
    if available > int(status, "readyReplicas").unwrap_or(0) {
        faults.invalid(&Path::root("status.availableReplicas"), available, "cannot be greater than readyReplicas");
    }
    template::collision_count(&mut faults, new, old);
    faults.into_causes()
}
