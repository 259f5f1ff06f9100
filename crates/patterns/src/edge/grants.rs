//! ReferenceGrants: who may refer to objects of another namespace.

use std::sync::Arc;

use pattern_kinds::gateway::ReferenceGrant;

/// One end of a reference.
pub struct End<'a> {
    /// Empty for the core group.
    pub group: &'a str,
    pub kind: &'a str,
    pub namespace: &'a str,
}

/// Whether an object may refer to another of that name.
pub fn may_refer(grants: &[Arc<ReferenceGrant>], from: &End<'_>, to: &End<'_>, name: &str) -> bool {
    from.namespace == to.namespace
        || grants.iter().any(|grant| {
            grant.metadata.namespace.as_deref() == Some(to.namespace)
                && grant
                    .spec
                    .from
                    .iter()
                    .any(|f| f.group == from.group && f.kind == from.kind && f.namespace == from.namespace)
                && grant.spec.to.iter().any(|t| {
                    t.group == to.group
                        && t.kind == to.kind
                        && t.name.as_deref().is_none_or(|n| n.is_empty() || n == name)
                })
        })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_reference_into_another_namespace_needs_a_grant_there() {
        let grant: ReferenceGrant = serde_json::from_value(json!({
            "metadata": {"name": "a", "namespace": "backends"},
            "spec": {
                "from": [{"group": "gateway.networking.k8s.io", "kind": "HTTPRoute", "namespace": "web"}],
                "to": [{"group": "", "kind": "Service", "name": "app"}],
            },
        }))
        .unwrap();
        let grants = [Arc::new(grant)];
        let from = |namespace| End { group: "gateway.networking.k8s.io", kind: "HTTPRoute", namespace };
        let to = |kind, namespace| End { group: "", kind, namespace };
        assert!(may_refer(&grants, &from("web"), &to("Service", "backends"), "app"));
        assert!(!may_refer(&grants, &from("web"), &to("Service", "backends"), "other"));
        assert!(!may_refer(&grants, &from("elsewhere"), &to("Service", "backends"), "app"));
        assert!(!may_refer(&grants, &from("web"), &to("Secret", "backends"), "app"));
        assert!(may_refer(&[], &from("web"), &to("Service", "web"), "app"));
    }
}
