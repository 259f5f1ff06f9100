//! The names of the cluster.

use crate::dns::{EndpointRecord, ServiceRecord};

/// The cluster's names. Cheap to clone; all clones are one. Methods never block for long.
#[derive(Clone)]
pub struct Zone {}

impl Zone {
    /// Creates or replaces a Service. Its endpoints, set separately, are kept.
    pub fn set_service(&self, namespace: &str, name: &str, service: ServiceRecord) {
        let _ = (namespace, name, service);
        todo!()
    }

    /// Removes a Service's names. Endpoints set for it are forgotten too.
    pub fn remove_service(&self, namespace: &str, name: &str) {
        let _ = (namespace, name);
        todo!()
    }

    /// Replaces the endpoints of a Service (the union of its EndpointSlices). May come before `set_service`.
    pub fn set_endpoints(&self, namespace: &str, name: &str, endpoints: Vec<EndpointRecord>) {
        let _ = (namespace, name, endpoints);
        todo!()
    }

    /// Declares that a namespace exists: `*.<namespace>.pod` answers only in existing namespaces. Namespaces with a
    /// Service exist anyway.
    pub fn set_namespace(&self, namespace: &str, exists: bool) {
        let _ = (namespace, exists);
        todo!()
    }
}
