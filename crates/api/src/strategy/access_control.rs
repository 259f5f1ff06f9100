//! RBAC, certificates and service account tokens.

use serde_json::Value;

use super::{
    access::{ensure_object, fill_text, items_mut, set, text},
    prepare::{PLAIN, WITH_STATUS},
};
use crate::resource::{NameRule, Strategy};

/// The strategy of Roles and ClusterRoles.
pub const ROLE: Strategy = Strategy { name: NameRule::PathSegment, create_on_update: true, ..PLAIN };

/// The strategy of RoleBindings and ClusterRoleBindings.
pub const ROLE_BINDING: Strategy = Strategy { default: default_binding, ..ROLE };

/// The strategy of CertificateSigningRequests.
pub const CERTIFICATE_SIGNING_REQUEST: Strategy = Strategy { ..WITH_STATUS };

const GROUP: &str = "rbac.authorization.k8s.io";

fn default_binding(object: &mut Value) {
    fill_text(ensure_object(object, "roleRef"), "apiGroup", GROUP);
    for subject in items_mut(object, "subjects") {
        if text(subject, "apiGroup").is_empty() && matches!(text(subject, "kind"), "User" | "Group") {
            set(subject, "apiGroup", GROUP);
        }
    }
}
