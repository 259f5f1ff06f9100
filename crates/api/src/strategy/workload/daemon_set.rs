//! `apps/v1 DaemonSet`.

use serde_json::{Value, json};

use super::{
    super::{
        access::{copy, ensure_object, fill, fill_text, get, same_field, set, text, text_at},
        check::{at_most_100_percent, int_or_percent, is_none_at_all, label_selector, nonnegative, selects_all},
        field::{Faults, Path},
        pod::defaults::default_template,
        prepare::{self, PLAIN},
    },
    template,
};
use crate::{resource::Strategy, status::Cause};

/// The strategy of DaemonSets.
pub const DAEMON_SET: Strategy = Strategy {
    default,
    prepare_create,
    prepare_update,
    prepare_status_update: prepare::status_update,
    validate,
    validate_update,
    validate_status_update,
    ..PLAIN
};

const TEMPLATE_GENERATION: &str = "deprecated.daemonset.template.generation";

fn prepare_create(object: &mut Value) {
    prepare::first_generation(object);
    prepare::empty_status(
        object,
        json!({"currentNumberScheduled": 0, "numberMisscheduled": 0, "desiredNumberScheduled": 0, "numberReady": 0}),
    );
    let generation = template_generation(object).max(1);
    set_template_generation(object, generation);
}

/// The template's generation grows with the template, which old clients rely on; nobody else sets it.
fn prepare_update(new: &mut Value, old: &Value) {
    let none = json!({});
    let old_spec = get(old, "spec").unwrap_or(&none);
    let template_changed = get(new, "spec").is_some_and(|spec| !same_field(spec, old_spec, "template"));
    prepare::next_generation(new, old);
    set_template_generation(new, template_generation(old).max(1) + i64::from(template_changed));
    copy(new, old, "status");
}

fn template_generation(object: &Value) -> i64 {
    text_at(object, &["metadata", "annotations", TEMPLATE_GENERATION]).parse().unwrap_or(0)
}

fn set_template_generation(object: &mut Value, generation: i64) {
    let annotations = ensure_object(ensure_object(object, "metadata"), "annotations");
    set(annotations, TEMPLATE_GENERATION, generation.to_string());
}

fn default(object: &mut Value) {
    let spec = ensure_object(object, "spec");
    default_template(spec);
    let strategy = ensure_object(spec, "updateStrategy");
    fill_text(strategy, "type", "RollingUpdate");
    if text(strategy, "type") == "RollingUpdate" {
        let rolling = ensure_object(strategy, "rollingUpdate");
        fill(rolling, "maxUnavailable", 1);
        fill(rolling, "maxSurge", 0);
    }
    fill(spec, "revisionHistoryLimit", 10);
}

fn validate(object: &Value) -> Vec<Cause> {
    let mut faults = Faults::new();
    let none = Value::Null;
    let spec = get(object, "spec").unwrap_or(&none);
    let path = Path::root("spec");
    let selector = get(spec, "selector");
    if let Some(selector) = selector {
        label_selector(&mut faults, &path.field("selector"), selector);
    }
    template::selector_matches(&mut faults, &path, spec);
    if let Some(selector) = selector.filter(|selector| selects_all(selector)) {
        faults.invalid(&path.field("selector"), selector, "empty selector is invalid for daemonset");
    }
    template::endless_template(&mut faults, &path, spec, "DaemonSet");
    nonnegative(&mut faults, &path, spec, "minReadySeconds");
    update_strategy(&mut faults, &path.field("updateStrategy"), get(spec, "updateStrategy").unwrap_or(&none));
    nonnegative(&mut faults, &path, spec, "revisionHistoryLimit");
    faults.into_causes()
}

fn update_strategy(faults: &mut Faults, path: &Path<'_>, strategy: &Value) {
    let at = path.field("rollingUpdate");
    match (text(strategy, "type"), get(strategy, "rollingUpdate")) {
        ("OnDelete", _) => {}
        ("RollingUpdate", None) => faults.required(&at, ""),
        ("RollingUpdate", Some(rolling)) => {
            let (unavailable, surge) = (get(rolling, "maxUnavailable"), get(rolling, "maxSurge"));
            let none = Value::from(0);
            for (field, value) in [("maxUnavailable", unavailable), ("maxSurge", surge)] {
                int_or_percent(faults, &at.field(field), value.unwrap_or(&none));
            }
            for (field, value) in [("maxUnavailable", unavailable), ("maxSurge", surge)] {
                at_most_100_percent(faults, &at.field(field), value.unwrap_or(&none));
            }
            match (is_none_at_all(unavailable), is_none_at_all(surge)) {
                (false, false) => faults.invalid(
                    &at.field("maxSurge"),
                    surge.unwrap_or(&none),
                    "may not be set when maxUnavailable is non-zero",
                ),
                (true, true) => faults.required(&at.field("maxUnavailable"), "cannot be 0 when maxSurge is 0"),
                _ => {}
            }
        }
        (other, rolling) => faults.not_supported(
            path,
            &json!({"Type": other, "RollingUpdate": rolling}),
            &["RollingUpdate", "OnDelete"],
        ),
    }
}

fn validate_update(new: &Value, old: &Value) -> Vec<Cause> {
    let mut faults = Faults::new();
    faults.extend(validate(new));
    template::immutable_selector(&mut faults, new, old);
    faults.into_causes()
}

fn validate_status_update(new: &Value, old: &Value) -> Vec<Cause> {
    let mut faults = Faults::new();
    let status = get(new, "status").unwrap_or(&Value::Null);
    template::status_counts(
        &mut faults,
        status,
        &[
            "currentNumberScheduled",
            "numberMisscheduled",
            "desiredNumberScheduled",
            "numberReady",
            "observedGeneration",
            "updatedNumberScheduled",
            "numberAvailable",
            "numberUnavailable",
            "collisionCount",
        ],
        &[],
    );
    template::collision_count(&mut faults, new, old);
    faults.into_causes()
}
