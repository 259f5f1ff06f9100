//! The parts of a pod that change through doors of their own: `pods/ephemeralcontainers`, `pods/resize`, `pods/binding`.
//!
//! Each door takes over its part of what the client sends, so `prepare_…` first, then `validate_…`.

use serde_json::Value;

use super::{
    super::{
        access::{
            at, copy, get, int, is_empty, items_mut, list, map, object_mut, same, same_field, set, text, text_at,
        },
        field::{Faults, Path},
        prepare,
    },
    defaults, metadata_and_spec,
    update::difference,
};
use crate::status::{Cause, quoted};

/// Before an update of `pods/ephemeralcontainers`: `new` keeps only its ephemeral containers, defaults filled in.
pub fn prepare_ephemeral(new: &mut Value, old: &Value) {
    let asked = at(new, &["spec", "ephemeralContainers"]).cloned();
    copy(new, old, "spec");
    copy(new, old, "status");
    if let Some(spec) = object_mut(new, "spec") {
        match asked {
            Some(asked) => set(spec, "ephemeralContainers", asked),
            None => {
                super::super::access::remove(spec, "ephemeralContainers");
            }
        }
        defaults::default_pod_spec(spec);
    }
    prepare::count_generation(new, old, &["spec"]);
}

/// All faults of an update of `pods/ephemeralcontainers`: what is there stays as it is.
pub fn validate_ephemeral(new: &Value, old: &Value) -> Vec<Cause> {
    let mut faults = Faults::new();
    if at(old, &["metadata", "annotations", "kubernetes.io/config.mirror"]).is_some() {
        faults.forbidden(&Path::root(""), "static pods do not support ephemeral containers");
        return faults.into_causes();
    }
    metadata_and_spec(&mut faults, new);
    let path = Path::root("spec.ephemeralContainers");
    let of = |pod| super::super::access::list_at(pod, &["spec", "ephemeralContainers"]);
    for before in of(old) {
        let name = text(before, "name");
        match of(new).iter().find(|after| text(after, "name") == name) {
            None => {
                faults.forbidden(&path, &format!("existing ephemeral containers {} may not be removed\n", quoted(name)))
            }
            Some(after) if !same(after, before) => faults.forbidden(
                &path,
                &format!(
                    "existing ephemeral containers {} may not be changed\n{}",
                    quoted(name),
                    difference("core.EphemeralContainer", before, after)
                ),
            ),
            Some(_) => {}
        }
    }
    faults.into_causes()
}

/// Before an update of `pods/resize`: `new` keeps only the resources of the pod and the resources and resize policies of
/// its containers. Containers that were added, removed or renamed are left for [`validate_resize`] to refuse, and so are
/// other resize policies.
pub fn prepare_resize(new: &mut Value, old: &Value) {
    let names = |pod: &Value, field: &str| -> Vec<String> {
        super::super::access::list_at(pod, &["spec", field]).iter().map(|c| text(c, "name").to_owned()).collect()
    };
    if CONTAINERS.iter().any(|field| names(new, field) != names(old, field)) {
        return;
    }
    let asked = new.clone();
    copy(new, old, "spec");
    copy(new, old, "status");
    if let Some(spec) = object_mut(new, "spec") {
        copy(spec, get(&asked, "spec").unwrap_or(&Value::Null), "resources");
        for field in CONTAINERS {
            let wanted = super::super::access::list_at(&asked, &["spec", field]);
            for (container, wanted) in items_mut(spec, field).zip(wanted) {
                copy(container, wanted, "resources");
                copy(container, wanted, "resizePolicy");
            }
        }
    }
    prepare::count_generation(new, old, &["spec"]);
}

const CONTAINERS: [&str; 2] = ["containers", "initContainers"];

/// All faults of an update of `pods/resize`.
pub fn validate_resize(new: &Value, old: &Value) -> Vec<Cause> {
    let mut faults = Faults::new();
    metadata_and_spec(&mut faults, new);
    let path = Path::root("spec");
    let none = Value::Null;
    let (new_spec, old_spec) = (get(new, "spec").unwrap_or(&none), get(old, "spec").unwrap_or(&none));
    if at(old, &["metadata", "annotations", "kubernetes.io/config.mirror"]).is_some() {
        faults.forbidden(&Path::root(""), "static pods cannot be resized");
        return faults.into_causes();
    }
    let class = text_at(old, &["status", "qosClass"]);
    if !class.is_empty() && class != defaults::qos_class(new) {
        faults.invalid(
            &path,
            text_at(new, &["status", "qosClass"]),
            "Pod QOS Class may not change as a result of resizing",
        );
    }
    let mut rest = new_spec.clone();
    whole_resize(&mut faults, &path, &mut rest, old_spec);
    if !same_containers(&mut faults, &path, new_spec, old_spec) {
        return faults.into_causes();
    }
    for field in CONTAINERS {
        for (i, (after, before)) in list(new_spec, field).iter().zip(list(old_spec, field)).enumerate() {
            nothing_removed(&mut faults, &path.field(field).index(i).field("resources"), after, before, "resource");
        }
    }
    for (container, before) in items_mut(&mut rest, "containers").zip(list(old_spec, "containers")) {
        keep_cpu_and_memory(container, before);
        if !same(container, before) {
            faults.forbidden(&path, "only cpu and memory resources are mutable");
        }
    }
    let init = path.field("initContainers");
    for (i, before) in list(old_spec, "initContainers").iter().enumerate() {
        let Some(container) = items_mut(&mut rest, "initContainers").nth(i) else { continue };
        let at = init.index(i);
        keep_cpu_and_memory(container, before);
        if !same(container, before) {
            faults.forbidden(&at, "only cpu and memory resources for init or sidecar containers are mutable");
        }
    }
    if faults.count() == 0 && !same(&rest, old_spec) {
        faults.forbidden(&path, "only cpu and memory resources are mutable");
    }
    faults.into_causes()
}

/// The resources of the pod as a whole (KEP-5419).
fn whole_resize(faults: &mut Faults, path: &Path<'_>, rest: &mut Value, old_spec: &Value) {
    let is_set = |spec: &Value| {
        get(spec, "resources").is_some_and(|r| ["requests", "limits"].iter().any(|field| !is_empty(r, field)))
    };
    if !is_set(rest) && !is_set(old_spec) {
        return;
    }
    let at = path.field("resources");
    if get(rest, "resources").is_none() {
        faults.forbidden(&at, "pod-level resources cannot be removed");
        copy(rest, old_spec, "resources");
        return;
    }
    nothing_removed(faults, &at, rest, old_spec, "pod-level resource");
    keep_cpu_and_memory(rest, old_spec);
    if !same_field(rest, old_spec, "resources") {
        faults.forbidden(path, "only cpu and memory resources are mutable at pod-level");
    }
    copy(rest, old_spec, "resources");
}

/// Whether the containers are those that were there, in their order.
fn same_containers(faults: &mut Faults, path: &Path<'_>, new_spec: &Value, old_spec: &Value) -> bool {
    let before = faults.count();
    for field in CONTAINERS {
        let (new, old) = (list(new_spec, field), list(old_spec, field));
        let at = path.field(field);
        if new.len() != old.len() {
            faults.forbidden(&at, &format!("{field} may not be added or removed on resize"));
            continue;
        }
        for (i, _) in new.iter().zip(old).enumerate().filter(|(_, (n, o))| text(n, "name") != text(o, "name")) {
            let at = at.index(i);
            faults.forbidden(&at.field("name"), &format!("{field} may not be renamed or reordered on resize"));
        }
    }
    faults.count() == before
}

fn nothing_removed(faults: &mut Faults, path: &Path<'_>, after: &Value, before: &Value, what: &str) {
    let none = Value::Null;
    let (new, old) = (get(after, "resources").unwrap_or(&none), get(before, "resources").unwrap_or(&none));
    for field in ["requests", "limits"] {
        let kept = map(old, field)
            .is_none_or(|old| old.keys().all(|name| map(new, field).is_some_and(|new| new.contains_key(name))));
        if !kept {
            faults.forbidden(&path.field(field), &format!("{what} {field} cannot be removed"));
        }
    }
}

/// Makes the CPU and memory of a container or a pod what they were, so that what else differs shows.
fn keep_cpu_and_memory(of: &mut Value, before: &Value) {
    let none = serde_json::json!({});
    let old = get(before, "resources").unwrap_or(&none);
    if let Some(resources) = object_mut(of, "resources") {
        for field in ["requests", "limits"] {
            if get(old, field).is_some() {
                super::super::access::ensure_object(resources, field);
            }
            if let Some(amounts) = object_mut(resources, field) {
                for name in ["cpu", "memory"] {
                    copy(amounts, get(old, field).unwrap_or(&none), name);
                }
            }
        }
    }
}

/// All faults of a `Binding`.
pub fn validate_binding(binding: &Value) -> Vec<Cause> {
    let mut faults = Faults::new();
    let target = get(binding, "target").unwrap_or(&Value::Null);
    let path = Path::root("target");
    if !matches!(text(target, "kind"), "" | "Node") {
        faults.not_supported(&path.field("kind"), text(target, "kind"), &["Node", "<empty>"]);
    }
    if is_empty(target, "name") {
        faults.required(&path.field("name"), "");
    }
    faults.into_causes()
}

/// All faults of a `Scale`.
pub fn validate_scale(scale: &Value) -> Vec<Cause> {
    let mut faults = Faults::new();
    if let Some(replicas) = get(scale, "spec").and_then(|spec| int(spec, "replicas")).filter(|replicas| *replicas < 0) {
        faults.invalid(&Path::root("spec.replicas"), replicas, super::super::check::NEGATIVE);
    }
    faults.into_causes()
}
