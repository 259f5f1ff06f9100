//! Admission: what a request must pass, and what it is given on the way. One small plugin a file.

mod namespace_lifecycle;
mod priority;
mod service_account;
mod toleration;

use std::sync::Arc;

use api::resource::Resource;
use serde_json::Value;

use crate::{config::User, failure::Outcome, server::ApiServer};

/// What is to be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Operation {
    Create,
    Update,
    Delete,
}

/// The request as plugins see it.
pub(crate) struct Attributes<'a> {
    pub server: &'a Arc<ApiServer>,
    pub operation: Operation,
    pub resource: &'static Resource,
    /// Empty for the resource itself.
    pub subresource: &'a str,
    /// Empty for cluster scope.
    pub namespace: &'a str,
    pub name: &'a str,
    #[expect(dead_code, reason = "plugins that judge by user (node restriction, owner references) come with RBAC")]
    pub user: &'a User,
    /// The object before the change.
    #[expect(dead_code, reason = "quota and limit plugins compare with it")]
    pub old: Option<&'a Value>,
}

impl Attributes<'_> {
    /// Whether this is an operation on the main resource of a core kind.
    fn is(&self, operation: Operation, plural: &str) -> bool {
        self.operation == operation
            && self.subresource.is_empty()
            && self.resource.group.is_empty()
            && self.resource.plural == plural
    }
}

/// Changes the object or refuses the request.
pub(crate) trait Plugin: Send + Sync {
    /// For a delete `object` is null.
    fn admit(&self, request: &Attributes<'_>, object: &mut Value) -> Outcome<()>;
}

/// The plugins in upstream's order.
pub(crate) fn plugins() -> Vec<Box<dyn Plugin>> {
    vec![
        Box::new(namespace_lifecycle::NamespaceLifecycle),
        Box::new(service_account::ServiceAccount),
        Box::new(priority::Priority),
        Box::new(toleration::DefaultTolerationSeconds),
    ]
}

/// Whether plugins judge a new object of this kind by objects other than its namespace, which must be up to
/// date then.
pub(crate) fn looks_at_others(resource: &Resource) -> bool {
    resource.group.is_empty() && resource.plural == "pods"
}

/// Runs them all.
pub(crate) fn admit(request: &Attributes<'_>, object: &mut Value) -> Outcome<()> {
    request.server.admission.iter().try_for_each(|plugin| plugin.admit(request, object))
}
