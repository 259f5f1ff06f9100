//! `apps/v1 StatefulSet`, and `ControllerRevision`.

use serde_json::{Value, json};

use super::{
    super::{
        access::{copy, ensure_object, fill, fill_text, get, int, items_mut, list, object_mut, same, same_field, text},
        check::{IMMUTABLE, at_most_100_percent, int_or_percent, is_none_at_all, nonnegative},
        field::{Faults, Path},
        pod::{defaults::default_template, spec},
        prepare::{self, PLAIN},
    },
    template,
};
use crate::{
    resource::{NameRule, Strategy},
    status::Cause,
};

/// The strategy of StatefulSets.
pub const STATEFUL_SET: Strategy = Strategy {
    default,
    prepare_create,
    prepare_update: prepare::next_generation,
    prepare_status_update: prepare::status_update,
    validate,
    validate_update,
    validate_status_update,
    name: NameRule::Label,
    ..PLAIN
};

/// The strategy of ControllerRevisions.
pub const CONTROLLER_REVISION: Strategy =
    Strategy { validate: validate_revision, validate_update: validate_revision_update, ..PLAIN };

fn prepare_create(object: &mut Value) {
    prepare::first_generation(object);
    prepare::empty_status(object, json!({"replicas": 0, "availableReplicas": 0}));
}

fn default(object: &mut Value) {
    let spec = ensure_object(object, "spec");
    fill_text(spec, "podManagementPolicy", "OrderedReady");
    default_template(spec);
    let strategy = ensure_object(spec, "updateStrategy");
    if text(strategy, "type").is_empty() {
        fill_text(strategy, "type", "RollingUpdate");
        ensure_object(strategy, "rollingUpdate");
    }
    if text(strategy, "type") == "RollingUpdate"
        && let Some(rolling) = object_mut(strategy, "rollingUpdate")
    {
        fill(rolling, "partition", 0);
        fill(rolling, "maxUnavailable", 1);
    }
    let retention = ensure_object(spec, "persistentVolumeClaimRetentionPolicy");
    fill_text(retention, "whenDeleted", "Retain");
    fill_text(retention, "whenScaled", "Retain");
    fill(spec, "replicas", 1);
    fill(spec, "revisionHistoryLimit", 10);
    for claim in items_mut(spec, "volumeClaimTemplates") {
        fill(claim, "apiVersion", "v1");
        fill(claim, "kind", "PersistentVolumeClaim");
        super::super::volume::default_claim(claim);
    }
}

fn validate(object: &Value) -> Vec<Cause> {
    let mut faults = Faults::new();
    let none = Value::Null;
    let object_spec = get(object, "spec").unwrap_or(&none);
    let path = Path::root("spec");
    match text(object_spec, "podManagementPolicy") {
        "OrderedReady" | "Parallel" => {}
        "" => faults.required(&path.field("podManagementPolicy"), ""),
        other => faults.invalid(&path.field("podManagementPolicy"), other, "must be 'OrderedReady' or 'Parallel'"),
    }
    update_strategy(&mut faults, &path.field("updateStrategy"), get(object_spec, "updateStrategy").unwrap_or(&none));
    if let Some(retention) = get(object_spec, "persistentVolumeClaimRetentionPolicy") {
        for field in ["whenDeleted", "whenScaled"] {
            let value = text(retention, field);
            if !matches!(value, "Retain" | "Delete") {
                faults.not_supported(
                    &path.field("persistentVolumeClaimRetentionPolicy").field(field),
                    value,
                    &["Retain", "Delete"],
                );
            }
        }
    }
    nonnegative(&mut faults, &path, object_spec, "replicas");
    nonnegative(&mut faults, &path, object_spec, "minReadySeconds");
    if let Some(ordinals) = get(object_spec, "ordinals")
        && let Some(start) = int(ordinals, "start").filter(|start| *start < 0)
    {
        faults.invalid(&path.field("ordinals.start"), start, super::super::check::NEGATIVE);
    }
    template::selector(&mut faults, &path, object_spec, "statefulset");
    template::selector_matches(&mut faults, &path, object_spec);
    let at = path.field("template");
    spec::template(&mut faults, &at, &with_claims(object_spec));
    template::endless(&mut faults, &at, object_spec, "StatefulSet");
    faults.into_causes()
}

/// The template as its pods will have it: each claim template stands for a volume of its name.
fn with_claims(object_spec: &Value) -> Value {
    let mut pods = get(object_spec, "template").cloned().unwrap_or_else(|| json!({}));
    let spec = ensure_object(&mut pods, "spec");
    let claims: Vec<&str> = list(object_spec, "volumeClaimTemplates")
        .iter()
        .map(|claim| super::super::access::text_at(claim, &["metadata", "name"]))
        .collect();
    if !claims.is_empty() {
        let volumes = super::super::access::ensure(spec, "volumes", || json!([]));
        if let Some(volumes) = volumes.as_array_mut() {
            volumes.retain(|volume| !claims.contains(&text(volume, "name")));
            for claim in claims {
                volumes.push(json!({"name": claim, "persistentVolumeClaim": {"claimName": claim}}));
            }
        }
    }
    pods
}

fn update_strategy(faults: &mut Faults, path: &Path<'_>, strategy: &Value) {
    let at = path.field("rollingUpdate");
    match (text(strategy, "type"), get(strategy, "rollingUpdate")) {
        ("", _) => faults.required(path, ""),
        ("OnDelete", Some(rolling)) => {
            faults.invalid(&at, rolling, "only allowed for updateStrategy 'RollingUpdate'");
        }
        ("OnDelete", None) | ("RollingUpdate", None) => {}
        ("RollingUpdate", Some(rolling)) => {
            nonnegative(faults, &at, rolling, "partition");
            if let Some(unavailable) = get(rolling, "maxUnavailable") {
                let at = at.field("maxUnavailable");
                int_or_percent(faults, &at, unavailable);
                if is_none_at_all(Some(unavailable)) {
                    faults.invalid(&at, unavailable, "cannot be 0");
                }
                at_most_100_percent(faults, &at, unavailable);
            }
        }
        (other, rolling) => faults.invalid(
            path,
            &json!({"Type": other, "RollingUpdate": rolling}),
            "must be 'RollingUpdate' or 'OnDelete'",
        ),
    }
}

fn validate_update(new: &Value, old: &Value) -> Vec<Cause> {
    let mut faults = Faults::new();
    faults.extend(validate(new));
    let none = Value::Null;
    let (new_spec, old_spec) = (get(new, "spec").unwrap_or(&none), get(old, "spec").unwrap_or(&none));
    let mut munged = new_spec.clone();
    for field in [
        "replicas",
        "ordinals",
        "template",
        "updateStrategy",
        "revisionHistoryLimit",
        "persistentVolumeClaimRetentionPolicy",
        "minReadySeconds",
    ] {
        copy(&mut munged, old_spec, field);
    }
    if !same(&munged, old_spec) {
        faults.forbidden(
            &Path::root("spec"),
            "updates to statefulset spec for fields other than 'replicas', 'ordinals', 'template', 'updateStrategy', 'revisionHistoryLimit', 'persistentVolumeClaimRetentionPolicy' and 'minReadySeconds' are forbidden",
        );
    }
    faults.into_causes()
}

fn validate_status_update(new: &Value, old: &Value) -> Vec<Cause> {
    let mut faults = Faults::new();
    let status = get(new, "status").unwrap_or(&Value::Null);
    let bounded = ["readyReplicas", "currentReplicas", "updatedReplicas", "availableReplicas"];
    template::status_counts(
        &mut faults,
        status,
        &[
            "replicas",
            "readyReplicas",
            "currentReplicas",
            "updatedReplicas",
            "availableReplicas",
            "observedGeneration",
            "collisionCount",
        ],
        &bounded,
    );
    let available = int(status, "availableReplicas").unwrap_or(0);
    if available > int(status, "readyReplicas").unwrap_or(0) {
        faults.invalid(
            &Path::root("status.availableReplicas"),
            available,
            "cannot be greater than status.readyReplicas",
        );
    }
    template::collision_count(&mut faults, new, old);
    faults.into_causes()
}

fn validate_revision(object: &Value) -> Vec<Cause> {
    let mut faults = Faults::new();
    if get(object, "data").is_none() {
        faults.required(&Path::root("data"), "data is mandatory");
    }
    nonnegative(&mut faults, &Path::root(""), object, "revision");
    faults.into_causes()
}

fn validate_revision_update(new: &Value, old: &Value) -> Vec<Cause> {
    let mut faults = Faults::new();
    faults.extend(validate_revision(new));
    if !same_field(new, old, "data") {
        faults.invalid(&Path::root("data"), get(new, "data").unwrap_or(&Value::Null), IMMUTABLE);
    }
    faults.into_causes()
}
