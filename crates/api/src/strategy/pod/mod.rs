//! Pods, and the pod templates of other kinds.

mod container;
pub mod defaults;
mod environment;
mod handler;
mod label_keys;
mod mount;
pub mod part;
pub mod placement;
mod security;
pub mod spec;
pub mod update;
pub mod volume;
mod windows;

use serde_json::{Value, json};

use super::{
    access::{at, get, is_empty, list, set, text},
    field::{Faults, Path},
    prepare::{self, PLAIN},
};
use crate::{resource::Strategy, status::Cause};

/// Where kinds keep their pod template, by group and kind; a pod is one itself.
const TEMPLATES: &[(&str, &str, &str)] = &[
    ("", "Pod", ""),
    ("", "PodTemplate", "template"),
    ("", "ReplicationController", "spec.template"),
    ("apps", "Deployment", "spec.template"),
    ("apps", "ReplicaSet", "spec.template"),
    ("apps", "StatefulSet", "spec.template"),
    ("apps", "DaemonSet", "spec.template"),
    ("batch", "Job", "spec.template"),
    ("batch", "CronJob", "spec.jobTemplate.spec.template"),
];

/// The path of a kind's pod template; empty for a pod itself, `None` for kinds without one.
pub(crate) fn template_of(group: &str, kind: &str) -> Option<&'static str> {
    TEMPLATES.iter().find(|row| row.0 == group && row.1 == kind).map(|row| row.2)
}

/// `v1 Pod`.
pub const POD: Strategy = Strategy {
    default: defaults::default_pod,
    prepare_create,
    prepare_update,
    prepare_status_update,
    validate,
    validate_update,
    validate_status_update,
    grace: Some(grace),
    ..PLAIN
};

/// `v1 PodTemplate`.
pub const POD_TEMPLATE: Strategy = Strategy {
    default: default_pod_template,
    prepare_create: prepare::first_generation_only,
    prepare_update: |new, old| prepare::count_generation(new, old, &["template"]),
    validate: validate_template,
    validate_update: |new, _| validate_template(new),
    ..PLAIN
};

fn default_pod_template(object: &mut Value) {
    defaults::default_template(object);
}

fn prepare_create(pod: &mut Value) {
    label_keys::merge(pod);
    prepare::set_generation(pod, 1);
    let mut status = json!({"phase": "Pending", "qosClass": defaults::qos_class(pod)});
    if get(pod, "spec").is_some_and(|spec| !is_empty(spec, "schedulingGates")) {
        set(
            &mut status,
            "conditions",
            json!([{
                "type": "PodScheduled",
                "status": "False",
                "reason": "SchedulingGated",
                "message": "Scheduling is blocked due to non-empty scheduling gates",
                "lastProbeTime": null,
                "lastTransitionTime": null,
            }]),
        );
    }
    set(pod, "status", status);
}

fn prepare_update(new: &mut Value, old: &Value) {
    prepare::next_generation(new, old);
}

fn prepare_status_update(new: &mut Value, old: &Value) {
    prepare::status_update(new, old);
    prepare::keep_metadata(new, old, &["ownerReferences"]);
    if let Some(status) = new.as_object_mut().and_then(|map| map.get_mut("status"))
        && text(status, "qosClass").is_empty()
    {
        let class = text(get(old, "status").unwrap_or(&Value::Null), "qosClass");
        if !class.is_empty() {
            set(status, "qosClass", class);
        }
    }
}

fn validate(pod: &Value) -> Vec<Cause> {
    let mut faults = Faults::new();
    metadata_and_spec(&mut faults, pod);
    let none = Value::Null;
    let spec = get(pod, "spec").unwrap_or(&none);
    let path = Path::root("spec");
    if !list(spec, "ephemeralContainers").is_empty() {
        faults.forbidden(&path.field("ephemeralContainers"), "cannot be set on create");
    }
    if !text(spec, "nodeName").is_empty() && !list(spec, "schedulingGates").is_empty() {
        faults.forbidden(&path.field("nodeName"), "cannot be set until all schedulingGates have been cleared");
    }
    faults.into_causes()
}

fn validate_update(new: &Value, old: &Value) -> Vec<Cause> {
    let mut faults = Faults::new();
    metadata_and_spec(&mut faults, new);
    update::pod_update(&mut faults, new, old);
    faults.into_causes()
}

fn validate_status_update(new: &Value, old: &Value) -> Vec<Cause> {
    let mut faults = Faults::new();
    update::status_update(&mut faults, new, old);
    faults.into_causes()
}

fn validate_template(object: &Value) -> Vec<Cause> {
    let mut faults = Faults::new();
    spec::template(&mut faults, &Path::root("template"), get(object, "template").unwrap_or(&Value::Null));
    faults.into_causes()
}

/// What holds for a pod at every write.
fn metadata_and_spec(faults: &mut Faults, pod: &Value) {
    let none = Value::Null;
    let (metadata, spec) = (get(pod, "metadata").unwrap_or(&none), get(pod, "spec").unwrap_or(&none));
    let path = Path::root("spec");
    spec::annotations(faults, &Path::root("metadata.annotations"), metadata, spec);
    spec::pod_spec(faults, &path, spec, text(metadata, "name"), true);
    if text(spec, "serviceAccountName").is_empty() {
        for (i, volume) in list(spec, "volumes").iter().enumerate() {
            let sources = get(volume, "projected").map_or(&[][..], |projected| list(projected, "sources"));
            for (j, source) in sources.iter().enumerate() {
                if get(source, "serviceAccountToken").is_some() {
                    faults.forbidden(
                        &path
                            .field("volumes")
                            .index(i)
                            .field("projected")
                            .field("sources")
                            .index(j)
                            .field("serviceAccountToken"),
                        "must not be specified when serviceAccountName is not set",
                    );
                }
            }
        }
    }
    for field in ["containers", "initContainers"] {
        for (i, container) in list(spec, field).iter().enumerate() {
            container::image_whitespace(faults, &path.field(field).index(i), container);
        }
    }
}

/// Seconds that a delete without a wish of its own waits: the pod's, 0 for a pod that no node has or that ended,
/// at least 1 for a negative one.
fn grace(pod: &Value) -> i64 {
    if effective_grace_is_zero(pod) {
        return 0;
    }
    match at(pod, &["spec", "terminationGracePeriodSeconds"]).and_then(Value::as_i64) {
        None => 30,
        Some(seconds) if seconds < 0 => 1,
        Some(seconds) => seconds,
    }
}

/// Whether a delete waits for nobody, whatever grace the caller wishes: the pod is on no node, or ended.
pub fn effective_grace_is_zero(pod: &Value) -> bool {
    at(pod, &["spec", "nodeName"]).and_then(Value::as_str).unwrap_or("").is_empty()
        || matches!(at(pod, &["status", "phase"]).and_then(Value::as_str), Some("Failed" | "Succeeded"))
}

/// The grace of a pod's delete in seconds, given the caller's wish (`DeleteOptions.gracePeriodSeconds`), as
/// `podStrategy.CheckGracefulDelete`.
pub fn deletion_grace(pod: &Value, wish: Option<i64>) -> i64 {
    if effective_grace_is_zero(pod) {
        return 0;
    }
    match wish {
        Some(seconds) if seconds < 0 => 1,
        Some(seconds) => seconds,
        None => grace(pod),
    }
}
