//! The kernel's rules and the cluster's zone.

use network::{
    dns::{EndpointRecord, ServiceRecord, Zone},
    service::{ServiceId, ServiceRules, ServiceTable},
};

use super::ServiceSink;

/// Both together.
#[derive(Clone)]
pub struct KernelServices {
    table: ServiceTable,
    zone: Option<Zone>,
}

impl KernelServices {
    /// `zone` is `None` where no name server runs.
    pub fn new(table: ServiceTable, zone: Option<Zone>) -> Self {
        Self { table, zone }
    }
}

impl ServiceSink for KernelServices {
    fn replace_all(&self, all: Vec<(ServiceId, ServiceRules)>) -> Result<(), String> {
        self.table.replace_all(all).map_err(|e| e.to_string())
    }

    fn apply(&self, id: &ServiceId, rules: Option<ServiceRules>) -> Result<(), String> {
        self.table.apply(id, rules).map_err(|e| e.to_string())
    }

    fn set_service(&self, namespace: &str, name: &str, record: ServiceRecord) {
        if let Some(zone) = &self.zone {
            zone.set_service(namespace, name, record);
        }
    }

    fn remove_service(&self, namespace: &str, name: &str) {
        if let Some(zone) = &self.zone {
            zone.remove_service(namespace, name);
        }
    }

    fn set_endpoints(&self, namespace: &str, name: &str, endpoints: Vec<EndpointRecord>) {
        if let Some(zone) = &self.zone {
            zone.set_endpoints(namespace, name, endpoints);
        }
    }

    fn set_namespace(&self, namespace: &str, exists: bool) {
        if let Some(zone) = &self.zone {
            zone.set_namespace(namespace, exists);
        }
    }
}
