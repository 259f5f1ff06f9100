//! The Services that containers are told of by environment variables.

use std::{collections::BTreeMap, sync::Arc};

use k8s_openapi::api::core::v1::Service;
use parking_lot::RwLock;
use tokio::sync::watch;

use crate::spec::service_environment;

/// By namespace and name.
type Services = BTreeMap<(String, String), Arc<Service>>;

/// All Services. Cheap to clone.
#[derive(Clone)]
pub struct ServiceVariables {
    services: Arc<RwLock<Services>>,
    synced: watch::Sender<bool>,
}

impl Default for ServiceVariables {
    fn default() -> Self {
        Self { services: Arc::default(), synced: watch::channel(false).0 }
    }
}

impl ServiceVariables {
    /// The variables of a container in `namespace`: its Services (if `links`) and the API server's. Waits until the
    /// Services were read once.
    pub async fn of(&self, namespace: &str, links: bool) -> Vec<(String, String)> {
        let mut synced = self.synced.subscribe();
        // The sender lives as long as self.
        let _ = synced.wait_for(|s| *s).await;
        let services = self.services.read();
        let api = services.get(&("default".to_owned(), "kubernetes".to_owned()));
        let own = services
            .range((namespace.to_owned(), String::new())..)
            .take_while(|((ns, _), _)| ns == namespace)
            .filter(|(key, _)| links && (key.0 != "default" || key.1 != "kubernetes"))
            .map(|(_, service)| service.as_ref());
        service_environment::variables(api.map(Arc::as_ref).into_iter().chain(own))
    }

    pub(super) fn set(&self, namespace: &str, name: &str, service: Option<Arc<Service>>) {
        let key = (namespace.to_owned(), name.to_owned());
        let mut services = self.services.write();
        match service {
            Some(service) => services.insert(key, service),
            None => services.remove(&key),
        };
    }

    /// Services were read; containers may start.
    pub fn mark_synced(&self) {
        self.synced.send_replace(true);
    }
}
