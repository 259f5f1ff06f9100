//! What all controllers look at besides their own kinds: watched from the first time that somebody looks.

use std::sync::Arc;

use controllers::{
    informer::{Informer, untouched},
    ownership::controller_of,
    queue::Key,
};
use k8s_openapi::api::{
    apps::v1::{Deployment, StatefulSet},
    core::v1::{ConfigMap, Service},
    discovery::v1::EndpointSlice,
};
use kube::{Client, Resource, ResourceExt};
use parking_lot::{Mutex, RwLock};
use proxy::config::{Discovery, Duration, Endpoint, HttpVersion, Pool};
use tokio::{sync::OnceCell, task::JoinSet};

use crate::{MANAGER, Settings};

/// Something changed that an object may depend on.
#[derive(Clone, Debug)]
pub enum Touched {
    /// A Service or its endpoints.
    Service(Key),
    /// A StatefulSet, by its own name.
    StatefulSet(Key),
    /// Something that is controlled by an object of that kind.
    Owned {
        /// The kind of the owner.
        kind: String,
        /// The owner.
        owner: Key,
    },
    /// A Deployment, by its own name.
    Deployment(Key),
}

type Listener = Box<dyn Fn(&Touched) + Send + Sync>;

/// The caches and who wants to know of changes. Cheap to clone.
#[derive(Clone)]
pub struct World {
    inner: Arc<Inner>,
}

struct Inner {
    client: Client,
    settings: Settings,
    watched: OnceCell<Watched>,
    tasks: Mutex<JoinSet<()>>,
    listeners: RwLock<Vec<Listener>>,
}

/// What is watched once an object exists.
pub struct Watched {
    /// All Services.
    pub services: Informer<Service>,
    /// All slices of endpoints, where configuration lists them.
    pub slices: Option<Informer<EndpointSlice>>,
    /// All Deployments.
    pub deployments: Informer<Deployment>,
    /// All StatefulSets.
    pub stateful_sets: Informer<StatefulSet>,
    /// The names of the configurations that were written.
    config_maps: Informer<ConfigMap>,
}

impl World {
    /// Watches nothing yet.
    pub fn new(client: Client, settings: Settings) -> Self {
        let inner = Inner {
            client,
            settings,
            watched: OnceCell::new(),
            tasks: Mutex::new(JoinSet::new()),
            listeners: RwLock::default(),
        };
        Self { inner: Arc::new(inner) }
    }

    /// The API.
    pub fn client(&self) -> Client {
        self.inner.client.clone()
    }

    /// What was set.
    pub fn settings(&self) -> &Settings {
        &self.inner.settings
    }

    /// Calls `listener` on every change from now on. It must not block.
    pub fn listen(&self, listener: impl Fn(&Touched) + Send + Sync + 'static) {
        self.inner.listeners.write().push(Box::new(listener));
    }

    fn tell(&self, touched: &Touched) {
        self.inner.listeners.read().iter().for_each(|listener| listener(touched));
    }

    /// The caches; the first call begins to watch and waits until they are whole.
    pub async fn watched(&self) -> &Watched {
        self.inner.watched.get_or_init(|| self.watch()).await
    }

    async fn watch(&self) -> Watched {
        let watched = {
            let (client, mut tasks) = (self.client(), self.inner.tasks.lock());
            Watched {
                services: Informer::start(client.clone(), untouched, &mut tasks),
                slices: self.settings().list_endpoints.then(|| Informer::start(client.clone(), untouched, &mut tasks)),
                deployments: Informer::start(client.clone(), trim_deployment, &mut tasks),
                stateful_sets: Informer::start(client.clone(), trim_stateful_set, &mut tasks),
                config_maps: Informer::start_labelled(
                    client,
                    Some(format!("app.kubernetes.io/managed-by={MANAGER}")),
                    trim_config_map,
                    &mut tasks,
                ),
            }
        };
        watched.services.synced().await;
        if let Some(slices) = &watched.slices {
            slices.synced().await;
        }
        watched.deployments.synced().await;
        watched.stateful_sets.synced().await;
        watched.config_maps.synced().await;
        let world = self.clone();
        watched.services.listen(move |change| {
            let object = &**change.object();
            world.tell_owner(object);
            world.tell(&Touched::Service(Key::of(object)));
        });
        let world = self.clone();
        watched.config_maps.listen(move |change| world.tell_owner(&**change.object()));
        let world = self.clone();
        watched.slices.iter().for_each(|slices| {
            slices.listen({
                let world = world.clone();
                move |change| {
                    if let Some(service) = change.object().labels().get(SERVICE_NAME) {
                        let namespace = change.object().namespace().unwrap_or_default();
                        world.tell(&Touched::Service(Key::new(namespace, service.clone())));
                    }
                }
            })
        });
        let world = self.clone();
        watched.deployments.listen(move |change| {
            let object = &**change.object();
            world.tell_owner(object);
            world.tell(&Touched::Deployment(Key::of(object)));
        });
        let world = self.clone();
        watched.stateful_sets.listen(move |change| {
            let object = &**change.object();
            world.tell_owner(object);
            world.tell(&Touched::StatefulSet(Key::of(object)));
        });
        watched
    }

    fn tell_owner(&self, object: &impl Resource) {
        if let Some(owner) = controller_of(object).filter(|owner| owner.api_version.starts_with("patterns.hythe.dev/"))
        {
            let key = Key::new(object.namespace().unwrap_or_default(), owner.name.clone());
            self.tell(&Touched::Owned { kind: owner.kind.clone(), owner: key });
        }
    }
}

const SERVICE_NAME: &str = "kubernetes.io/service-name";

fn trim_deployment(object: &mut Deployment) {
    object.metadata.managed_fields = None;
    if let Some(spec) = &mut object.spec {
        spec.template = Default::default();
    }
}

fn trim_config_map(object: &mut ConfigMap) {
    object.metadata.managed_fields = None;
    object.data = None;
}

fn trim_stateful_set(object: &mut StatefulSet) {
    object.metadata.managed_fields = None;
    if let Some(spec) = &mut object.spec {
        spec.template = Default::default();
    }
}

/// Why a Service can't be reached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Missing {
    /// There is none of that name.
    Service(String),
    /// It has no such port.
    Port(String, i32),
}

impl std::fmt::Display for Missing {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Service(name) => write!(f, "Service {name:?} not found"),
            Self::Port(name, port) => write!(f, "Service {name:?} has no port {port}"),
        }
    }
}

/// How a Service is reached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reach {
    /// These addresses, all of them ready.
    Addresses(Vec<String>),
    /// This name, whose addresses are all of them.
    Name(String),
    /// This name, which stands for one address.
    One(String),
}

impl Reach {
    /// `host:port` each.
    pub fn hosts(&self) -> Vec<String> {
        match self {
            Self::Addresses(all) => all.clone(),
            Self::Name(name) | Self::One(name) => vec![name.clone()],
        }
    }

    /// As a pool of that name.
    pub fn pool(&self, name: &str) -> Pool {
        let endpoint = |address: &String| Endpoint { address: address.clone(), ..Default::default() };
        // Within a cluster a connection is there at once, or to a pod that is gone.
        let mut pool = Pool { name: name.to_owned(), connect_timeout: Duration::seconds(2), ..Default::default() };
        match self {
            Self::Addresses(all) => pool.endpoints = all.iter().map(endpoint).collect(),
            Self::Name(name) => pool.discovery = Some(Discovery::Dns(name.clone())),
            Self::One(name) => pool.endpoints = vec![endpoint(name)],
        }
        pool
    }
}

impl Watched {
    /// How a port of a Service is reached.
    pub fn reach(&self, settings: &Settings, namespace: &str, name: &str, port: i32) -> Result<Reach, Missing> {
        let service = self.services.get(&Key::new(namespace, name)).ok_or(Missing::Service(name.to_owned()))?;
        let spec = service.spec.as_ref();
        if spec.and_then(|s| s.type_.as_deref()) == Some("ExternalName") {
            let external = spec.and_then(|s| s.external_name.clone()).unwrap_or_default();
            return Ok(Reach::One(format!("{external}:{port}")));
        }
        let of_port = spec.iter().flat_map(|s| s.ports.iter().flatten()).find(|p| p.port == port);
        let of_port = of_port.ok_or(Missing::Port(name.to_owned(), port))?;
        if let Some(slices) = &self.slices {
            let port_name = of_port.name.clone().unwrap_or_default();
            let slices = slices.in_namespace(namespace);
            let slices = slices.iter().filter(|s| s.labels().get(SERVICE_NAME).is_some_and(|n| n == name));
            return Ok(Reach::Addresses(addresses(slices.map(|slice| &**slice), &port_name)));
        }
        let host = service_host(settings, namespace, name);
        if spec.and_then(|s| s.cluster_ip.as_deref()) == Some("None") {
            use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
            let target = match &of_port.target_port {
                Some(IntOrString::Int(number)) => *number,
                _ => port,
            };
            return Ok(Reach::Name(format!("{host}:{target}")));
        }
        Ok(Reach::One(format!("{host}:{port}")))
    }

    /// What the pods behind a port of a Service speak, as its `appProtocol` says (KEP-3726): HTTP/1.1 unless it is `kubernetes.io/h2c`.
    pub fn speaks(&self, namespace: &str, service: &str, port: i32) -> HttpVersion {
        let service = self.services.get(&Key::new(namespace, service));
        let ports = service.as_ref().and_then(|s| s.spec.as_ref()?.ports.as_ref());
        let of_port = ports.and_then(|ports| ports.iter().find(|p| p.port == port));
        match of_port.and_then(|p| p.app_protocol.as_deref()) {
            Some("kubernetes.io/h2c") => HttpVersion::Http2,
            _ => HttpVersion::Http1,
        }
    }

    /// The number of the port of that name.
    pub fn port_named(&self, namespace: &str, service: &str, port: &str) -> Option<i32> {
        let service = self.services.get(&Key::new(namespace, service))?;
        let ports = service.spec.as_ref()?.ports.as_ref()?;
        ports.iter().find(|p| p.name.as_deref() == Some(port)).map(|p| p.port)
    }
}

/// The name by which a Service is found.
pub fn service_host(settings: &Settings, namespace: &str, name: &str) -> String {
    format!("{name}.{namespace}.svc.{}", settings.domain)
}

/// The ready addresses of a port, sorted.
fn addresses<'a>(slices: impl Iterator<Item = &'a EndpointSlice>, port_name: &str) -> Vec<String> {
    let mut all = Vec::new();
    for slice in slices {
        let mut ports = slice.ports.iter().flatten();
        let Some(port) = ports.find(|p| p.name.as_deref().unwrap_or_default() == port_name).and_then(|p| p.port) else {
            continue;
        };
        let ready =
            slice.endpoints.iter().flatten().filter(|e| e.conditions.as_ref().and_then(|c| c.ready) != Some(false));
        for address in ready.flat_map(|e| &e.addresses) {
            all.push(match address.contains(':') {
                true => format!("[{address}]:{port}"),
                false => format!("{address}:{port}"),
            });
        }
    }
    all.sort();
    all.dedup();
    all
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn only_ready_addresses_of_the_right_port_count() {
        let slice = |endpoints: serde_json::Value| -> EndpointSlice {
            serde_json::from_value(json!({
                "metadata": {"name": "a"}, "addressType": "IPv4", "endpoints": endpoints,
                "ports": [{"name": "http", "port": 8080}, {"name": "admin", "port": 9000}],
            }))
            .unwrap()
        };
        let slices = [
            slice(json!([
                {"addresses": ["10.0.0.2"], "conditions": {"ready": true}},
                {"addresses": ["10.0.0.3"], "conditions": {"ready": false}},
                {"addresses": ["10.0.0.1"]},
            ])),
            slice(json!([{"addresses": ["10.0.0.2"], "conditions": {"ready": true}}])),
        ];
        assert_eq!(addresses(slices.iter(), "http"), ["10.0.0.1:8080", "10.0.0.2:8080"]);
        assert_eq!(addresses(slices.iter(), "admin"), ["10.0.0.1:9000", "10.0.0.2:9000"]);
        assert!(addresses(slices.iter(), "grpc").is_empty());
    }
}
