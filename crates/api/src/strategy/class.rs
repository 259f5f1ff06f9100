//! `PriorityClass` and `RuntimeClass`.

use serde_json::Value;

use super::{
    access::{at, fill, get, int, same_field, text, text_at},
    check::{IMMUTABLE, optional_one_of},
    field::{Faults, Path},
    metadata::validate_labels,
    names,
    pod::placement::tolerations,
    prepare::{self, PLAIN},
    resources,
};
use crate::{resource::Strategy, status::Cause};

/// The strategy of PriorityClasses.
pub const PRIORITY_CLASS: Strategy = Strategy {
    default: |object| fill(object, "preemptionPolicy", "PreemptLowerPriority"),
    prepare_create: prepare::first_generation_only,
    prepare_update: |new, old| prepare::count_generation(new, old, &["value", "globalDefault", "preemptionPolicy"]),
    validate: validate_priority,
    validate_update: validate_priority_update,
    ..PLAIN
};

/// The strategy of RuntimeClasses.
pub const RUNTIME_CLASS: Strategy = Strategy {
    validate: validate_runtime,
    validate_update: validate_runtime_update,
    unconditional_update: false,
    ..PLAIN
};

/// The highest priority that users can give.
const MOST_FOR_USERS: i64 = 1_000_000_000;
/// The classes that the system itself has, and their values.
const OF_THE_SYSTEM: [(&str, i64); 2] =
    [("system-node-critical", 2_000_001_000), ("system-cluster-critical", 2_000_000_000)];

fn validate_priority(object: &Value) -> Vec<Cause> {
    let mut faults = Faults::new();
    let (name, value) = (text_at(object, &["metadata", "name"]), int(object, "value").unwrap_or(0));
    if name.starts_with("system-") {
        let fault = match OF_THE_SYSTEM.iter().find(|(known, _)| *known == name) {
            None => Some(format!("{name} is not a known system priority class")),
            Some((_, fixed)) if *fixed != value => Some(format!("value of {name} PriorityClass must be {fixed}")),
            Some(_) => None,
        };
        if let Some(fault) = fault {
            faults.forbidden(
                &Path::root("metadata.name"),
                &format!("priority class names with 'system-' prefix are reserved for system use only. error: {fault}"),
            );
        }
    } else if value > MOST_FOR_USERS {
        faults.forbidden(
            &Path::root("value"),
            &format!("maximum allowed value of a user defined priority is {MOST_FOR_USERS}"),
        );
    }
    optional_one_of(&mut faults, &Path::root(""), object, "preemptionPolicy", &["PreemptLowerPriority", "Never"]);
    faults.into_causes()
}

fn validate_priority_update(new: &Value, old: &Value) -> Vec<Cause> {
    let mut faults = Faults::new();
    if int(new, "value").unwrap_or(0) != int(old, "value").unwrap_or(0) {
        faults.forbidden(&Path::root("value"), "may not be changed in an update.");
    }
    if !same_field(new, old, "preemptionPolicy") {
        faults.invalid(
            &Path::root("preemptionPolicy"),
            get(new, "preemptionPolicy").unwrap_or(&Value::Null),
            IMMUTABLE,
        );
    }
    faults.into_causes()
}

fn validate_runtime(object: &Value) -> Vec<Cause> {
    let mut faults = Faults::new();
    let handler = text(object, "handler");
    faults.invalid_each(&Path::root("handler"), handler, names::dns1123_label(handler));
    if let Some(fixed) = at(object, &["overhead", "podFixed"]) {
        let path = Path::root("overhead.podFixed");
        for (name, quantity) in fixed.as_object().into_iter().flatten() {
            let at = path.field("limits");
            resources::container_resource_name(&mut faults, &at.key(name), name);
            resources::quantity_value(&mut faults, &at.key(name), name, quantity);
        }
    }
    if let Some(scheduling) = get(object, "scheduling") {
        let path = Path::root("scheduling");
        validate_labels(&mut faults, &path, scheduling, "nodeSelector");
        tolerations(&mut faults, &path.field("tolerations"), super::access::list(scheduling, "tolerations"));
    }
    faults.into_causes()
}

fn validate_runtime_update(new: &Value, old: &Value) -> Vec<Cause> {
    let mut faults = Faults::new();
    faults.extend(validate_runtime(new));
    if text(new, "handler") != text(old, "handler") {
        faults.invalid(&Path::root("handler"), text(new, "handler"), IMMUTABLE);
    }
    faults.into_causes()
}
