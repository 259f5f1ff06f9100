//! Services on this node: rules in the kernel, names in the DNS, variables in containers.

mod endpoints;
mod follow;
mod real;
mod translate;
mod variables;

use network::{
    dns::{EndpointRecord, ServiceRecord},
    service::{ServiceId, ServiceRules},
};

pub use follow::follow;
pub use real::KernelServices;
pub use variables::ServiceVariables;

/// Where Services take effect, so that a fake can stand in for tests and simulations. Methods may block for a
/// millisecond; they are called from a thread of their own, one at a time.
pub trait ServiceSink: Send + Sync + 'static {
    /// All rules at once, after a start.
    fn replace_all(&self, all: Vec<(ServiceId, ServiceRules)>) -> Result<(), String>;
    /// The rules of one Service; `None` removes them.
    fn apply(&self, id: &ServiceId, rules: Option<ServiceRules>) -> Result<(), String>;
    /// The names of one Service.
    fn set_service(&self, namespace: &str, name: &str, record: ServiceRecord);
    /// Removes them.
    fn remove_service(&self, namespace: &str, name: &str);
    /// The endpoints below its name.
    fn set_endpoints(&self, namespace: &str, name: &str, endpoints: Vec<EndpointRecord>);
    /// Whether a namespace exists.
    fn set_namespace(&self, namespace: &str, exists: bool);
}
