//! What upstream's objects hold even when nobody set it.
//!
//! Upstream compares Go structs, in which embedded structs and required fields are always there. A manager
//! that fills such a field in owns what is inside and not the field itself, which shows as a missing `"."`.

use crate::schema::{Field, Type};

/// Whether a Go zero value of `of` shows this field: it is required, or a struct that is no pointer.
pub(super) fn always_there(of: &Type, field: &Field, root: bool) -> bool {
    if root && matches!(field.name, "metadata" | "spec" | "status") {
        return true;
    }
    field.required || {
        let short = of.name.rsplit('.').next().unwrap_or(of.name);
        VALUE_STRUCTS.binary_search(&(short, field.name)).is_ok()
    }
}

/// Optional fields that are structs by value, as (type, field), sorted. Only those matter that can be
/// reached from an object's root without passing a pointer or a list.
const VALUE_STRUCTS: &[(&str, &str)] = &[
    ("CustomResourceDefinitionStatus", "acceptedNames"),
    ("DaemonSetSpec", "updateStrategy"),
    ("DeploymentSpec", "strategy"),
    ("Event", "deprecatedSource"),
    ("Event", "regarding"),
    ("Event", "source"),
    ("IngressStatus", "loadBalancer"),
    ("JobTemplateSpec", "metadata"),
    ("JobTemplateSpec", "spec"),
    ("NodeDaemonEndpoints", "kubeletEndpoint"),
    ("NodeStatus", "daemonEndpoints"),
    ("NodeStatus", "nodeInfo"),
    ("PersistentVolumeClaimSpec", "resources"),
    ("PodTemplate", "template"),
    ("PodTemplateSpec", "metadata"),
    ("PodTemplateSpec", "spec"),
    ("ResourceClaimSpec", "devices"),
    ("ResourceClaimTemplateSpec", "metadata"),
    ("ServiceStatus", "loadBalancer"),
    ("StatefulSetSpec", "updateStrategy"),
];

/// Fields of `metadata` that nobody owns.
pub(super) fn is_unowned_metadata(name: &str) -> bool {
    matches!(
        name,
        "name"
            | "namespace"
            | "creationTimestamp"
            | "selfLink"
            | "uid"
            | "clusterName"
            | "generation"
            | "managedFields"
            | "resourceVersion"
    )
}

/// Fields of the root that a write through `subresource` never owns: it does not change them.
pub(super) fn is_reset(name: &str, subresource: &str) -> bool {
    match subresource {
        "" => name == "status",
        "status" => name == "spec",
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_table_is_sorted() {
        assert!(super::VALUE_STRUCTS.is_sorted());
    }
}
