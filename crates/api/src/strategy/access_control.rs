//! RBAC, certificates and service account tokens.

use serde_json::Value;

use super::{
    access::{ensure_object, fill_text, get, is_empty, items_mut, list, same_field, set, text},
    field::{Faults, Path},
    names,
    prepare::{PLAIN, WITH_STATUS},
};
use crate::{
    resource::{NameRule, Strategy},
    status::Cause,
};

/// The strategy of Roles and ClusterRoles.
pub const ROLE: Strategy = Strategy {
    validate: validate_role,
    validate_update: |new, _| validate_role(new),
    name: NameRule::PathSegment,
    create_on_update: true,
    ..PLAIN
};

/// The strategy of RoleBindings and ClusterRoleBindings.
pub const ROLE_BINDING: Strategy = Strategy {
    default: default_binding,
    validate: validate_binding,
    validate_update: validate_binding_update,
    name: NameRule::PathSegment,
    create_on_update: true,
    ..PLAIN
};

/// The strategy of CertificateSigningRequests.
pub const CERTIFICATE_SIGNING_REQUEST: Strategy = Strategy { name: NameRule::PathSegment, ..WITH_STATUS };

const GROUP: &str = "rbac.authorization.k8s.io";

fn default_binding(object: &mut Value) {
    fill_text(ensure_object(object, "roleRef"), "apiGroup", GROUP);
    for subject in items_mut(object, "subjects") {
        if text(subject, "apiGroup").is_empty() && matches!(text(subject, "kind"), "User" | "Group") {
            set(subject, "apiGroup", GROUP);
        }
    }
}

fn validate_role(object: &Value) -> Vec<Cause> {
    let mut faults = Faults::new();
    let namespaced = text(object, "kind") == "Role";
    for (i, rule) in list(object, "rules").iter().enumerate() {
        let path = Path::root("rules");
        policy_rule(&mut faults, &path.index(i), rule, namespaced);
    }
    faults.into_causes()
}

fn policy_rule(faults: &mut Faults, path: &Path<'_>, rule: &Value, namespaced: bool) {
    if is_empty(rule, "verbs") {
        faults.required(&path.field("verbs"), "verbs must contain at least one value");
    }
    if let Some(urls) = get(rule, "nonResourceURLs").filter(|_| !is_empty(rule, "nonResourceURLs")) {
        let at = path.field("nonResourceURLs");
        if namespaced {
            faults.invalid(&at, urls, "namespaced rules cannot apply to non-resource URLs");
        }
        if ["apiGroups", "resources", "resourceNames"].iter().any(|field| !is_empty(rule, field)) {
            faults.invalid(&at, urls, "rules cannot apply to both regular resources and non-resource URLs");
        }
        return;
    }
    if is_empty(rule, "apiGroups") {
        faults.required(&path.field("apiGroups"), "resource rules must supply at least one api group");
    }
    if is_empty(rule, "resources") {
        faults.required(&path.field("resources"), "resource rules must supply at least one resource");
    }
}

fn validate_binding(object: &Value) -> Vec<Cause> {
    let mut faults = Faults::new();
    let namespaced = text(object, "kind") == "RoleBinding";
    let none = Value::Null;
    let role = get(object, "roleRef").unwrap_or(&none);
    let path = Path::root("roleRef");
    if text(role, "apiGroup") != GROUP {
        faults.not_supported(&path.field("apiGroup"), text(role, "apiGroup"), &[GROUP]);
    }
    let kinds: &[&str] = if namespaced { &["Role", "ClusterRole"] } else { &["ClusterRole"] };
    if !kinds.contains(&text(role, "kind")) {
        faults.not_supported(&path.field("kind"), text(role, "kind"), kinds);
    }
    match text(role, "name") {
        "" => faults.required(&path.field("name"), ""),
        name => faults.invalid_each(&path.field("name"), name, names::path_segment(name, false)),
    }
    for (i, subject) in list(object, "subjects").iter().enumerate() {
        let path = Path::root("subjects");
        binding_subject(&mut faults, &path.index(i), subject, namespaced);
    }
    faults.into_causes()
}

fn binding_subject(faults: &mut Faults, path: &Path<'_>, subject: &Value, namespaced: bool) {
    let (name, group) = (text(subject, "name"), text(subject, "apiGroup"));
    if name.is_empty() {
        faults.required(&path.field("name"), "");
    }
    match text(subject, "kind") {
        "ServiceAccount" => {
            if !name.is_empty() {
                faults.invalid_each(&path.field("name"), name, names::dns1123_subdomain(name));
            }
            if !group.is_empty() {
                faults.not_supported(&path.field("apiGroup"), group, &[""]);
            }
            if !namespaced && text(subject, "namespace").is_empty() {
                faults.required(&path.field("namespace"), "");
            }
        }
        kind @ ("User" | "Group") => {
            if name.is_empty() {
                faults.invalid(&path.field("name"), name, format!("{} name cannot be empty", kind.to_lowercase()));
            }
            if group != GROUP {
                faults.not_supported(&path.field("apiGroup"), group, &[GROUP]);
            }
        }
        other => faults.not_supported(&path.field("kind"), other, &["ServiceAccount", "User", "Group"]),
    }
}

fn validate_binding_update(new: &Value, old: &Value) -> Vec<Cause> {
    let mut faults = Faults::new();
    faults.extend(validate_binding(new));
    if !same_field(new, old, "roleRef") {
        faults.invalid(&Path::root("roleRef"), get(new, "roleRef").unwrap_or(&Value::Null), "cannot change roleRef");
    }
    faults.into_causes()
}
