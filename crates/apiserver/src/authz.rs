//! Whether a user may do something. RBAC will be one more [`Authorizer`].

use crate::{authn, config::User};

/// What a request wants to do (`authorization.k8s.io/v1 ResourceAttributes` or `NonResourceAttributes`).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Action<'a> {
    /// `get`, `list`, `create`, …
    pub verb: &'a str,
    /// API group.
    pub group: &'a str,
    /// API version.
    pub version: &'a str,
    /// Plural of the resource; empty for paths that are no resource.
    pub resource: &'a str,
    /// For instance `status`; empty for the resource itself.
    pub subresource: &'a str,
    /// Empty for cluster scope.
    pub namespace: &'a str,
    /// Empty for collections.
    pub name: &'a str,
    /// The path, for what is no resource.
    pub path: &'a str,
}

/// The answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Decision {
    /// Go ahead.
    Allow,
    /// Refuse, for this reason (may be empty).
    Deny(String),
}

/// Decides; must not block.
pub trait Authorizer: Send + Sync + 'static {
    /// May `user` do `action`?
    fn authorize(&self, user: &User, action: &Action<'_>) -> Decision;
}

/// Everyone who is authenticated may do everything; the others may ask for health.
pub struct AllowAll;

impl Authorizer for AllowAll {
    fn authorize(&self, user: &User, action: &Action<'_>) -> Decision {
        if !authn::is_anonymous(user) || is_public(action.path) {
            Decision::Allow
        } else {
            Decision::Deny(String::new())
        }
    }
}

/// Paths that need no authentication: health and version, as upstream's `system:public-info-viewer`.
pub(crate) fn is_public(path: &str) -> bool {
    let first = path.split('/').nth(1).unwrap_or("");
    matches!(first, "healthz" | "livez" | "readyz") || path == "/version"
}
