//! The edge: one Deployment of proxies that serves all Ingresses and Gateways of the classes called `hythe`. It exists
//! only while there is one.
//!
//! Its configuration and all certificates are one Secret, so that they change together.

mod addresses;
mod deploy;
mod events;
mod gateway;
mod grants;
mod ingress;
mod model;
mod report;
mod routes;
mod settings;
#[cfg(test)]
mod tests;

use std::{collections::BTreeMap, net::IpAddr, sync::Arc};

use base64::{Engine, engine::general_purpose::STANDARD};
use controllers::{
    Error,
    informer::{Informer, untouched},
    queue::{Key, Queue},
};
use k8s_openapi::{
    api::{
        core::v1::{Namespace, Secret, Service},
        networking::v1::{Ingress, IngressClass},
    },
    apimachinery::pkg::util::intstr::IntOrString,
};
use kube::{
    Api, Client, ResourceExt,
    api::{DynamicObject, ListParams},
};
use parking_lot::Mutex;
use pattern_kinds::gateway::{Gateway, GatewayClass, HTTPRoute, ReferenceGrant};
use recording::Recorder;
use serde_json::json;
use sha2::{Digest, Sha256};
use tokio::{sync::OnceCell, task::JoinSet};

use crate::{
    apply,
    conditions::{Said, conditions},
    world::{Touched, Watched, World},
};
use model::{Model, OwnPorts};
use report::{Reached, patch_status, requested, say};
pub use settings::EdgeSettings;

/// What says in an IngressClass that its Ingresses are served here.
pub const INGRESS_CONTROLLER: &str = "hythe.dev/ingress";
/// What says in a GatewayClass that its Gateways are.
pub const GATEWAY_CONTROLLER: &str = "hythe.dev/gateway";
/// The names of both classes.
pub const CLASS: &str = "hythe";
/// The name of the edge's Deployment and Secret.
pub const NAME: &str = "hythe-edge";

/// Set on the edge's Service, opens its ports on all addresses of Hythe's nodes.
pub const OPEN_ON_NODES: &str = "hythe.dev/open-on-nodes";
/// What is written below it is ours.
const OWN_DOMAIN: &str = "hythe.dev";

/// Makes the two classes unless there are some of their names; what someone made of them stays.
pub async fn ensure_classes(client: &Client) -> Result<(), Error> {
    for (api_version, kind, mut class) in [
        ("networking.k8s.io/v1", "IngressClass", json!({"spec": {"controller": INGRESS_CONTROLLER}})),
        ("gateway.networking.k8s.io/v1", "GatewayClass", json!({"spec": {"controllerName": GATEWAY_CONTROLLER}})),
    ] {
        let api = apply::api(client.clone(), "", api_version, kind);
        if api.get_opt(CLASS).await?.is_some() {
            continue;
        }
        class["apiVersion"] = api_version.into();
        class["kind"] = kind.into();
        class["metadata"] = json!({"name": CLASS});
        if kind == "IngressClass" && default_class(client).await?.is_none() {
            class["metadata"]["annotations"] = json!({"ingressclass.kubernetes.io/is-default-class": "true"});
        }
        apply::force(client, &class).await?;
    }
    Ok(())
}

async fn default_class(client: &Client) -> Result<Option<IngressClass>, Error> {
    let all = Api::<IngressClass>::all(client.clone()).list(&ListParams::default()).await?;
    let is_default = |c: &IngressClass| {
        c.annotations().get("ingressclass.kubernetes.io/is-default-class").is_some_and(|value| value == "true")
    };
    Ok(all.items.into_iter().find(is_default))
}

/// The caches of the edge: its own kinds from the start, what they refer to once there is one of them.
#[derive(Clone)]
struct Edge {
    world: World,
    ingresses: Informer<Ingress>,
    gateways: Informer<Gateway>,
    gateway_classes: Informer<GatewayClass>,
    more: Arc<OnceCell<More>>,
    /// Watched once a listener selects namespaces by their labels.
    labelled: Arc<OnceCell<Informer<Namespace>>>,
    /// The proxies' ports for those of Gateways, as chosen last: the cache of Services may not know yet.
    own_ports: Arc<Mutex<OwnPorts>>,
    tasks: Arc<Mutex<JoinSet<()>>>,
    queue: Queue,
    recorder: Recorder,
}

struct More {
    classes: Informer<IngressClass>,
    routes: Informer<HTTPRoute>,
    grants: Informer<ReferenceGrant>,
    secrets: Informer<Secret>,
}

/// Begins to watch Ingresses and Gateways.
pub fn start(world: &World, tasks: &mut JoinSet<()>) {
    let client = world.client();
    let ingresses = Informer::start(client.clone(), untouched, tasks);
    let gateways = Informer::start(client.clone(), untouched, tasks);
    let gateway_classes = Informer::start(client.clone(), untouched, tasks);
    let world = world.clone();
    tasks.spawn(async move {
        let edge = Edge {
            recorder: Recorder::start(client, "hythe-edge"),
            world,
            ingresses,
            gateways,
            gateway_classes,
            more: Arc::default(),
            labelled: Arc::default(),
            own_ports: Arc::default(),
            tasks: Arc::default(),
            queue: Queue::default(),
        };
        edge.ingresses.synced().await;
        edge.gateways.synced().await;
        edge.gateway_classes.synced().await;
        let queue = edge.queue.clone();
        edge.ingresses.listen(move |_| queue.add(all()));
        let queue = edge.queue.clone();
        edge.gateways.listen(move |_| queue.add(all()));
        let queue = edge.queue.clone();
        edge.gateway_classes.listen(move |change| queue.add(Key::new("", change.object().name_any())));
        // Whatever a former process left of an edge that nobody needs any more.
        edge.queue.add(all());
        let (queue, settings) = (edge.queue.clone(), edge.world.settings().edge.clone());
        edge.world.listen(move |touched| match touched {
            Touched::Service(_) => queue.add(all()),
            Touched::Deployment(key) if key.name == NAME && key.namespace == settings.namespace => queue.add(all()),
            _ => {}
        });
        edge.queue.clone().work("hythe-edge", 1, |key| reconcile(edge.clone(), key)).await;
    });
}

/// The one key of the edge as a whole: a change anywhere may change everything.
fn all() -> Key {
    Key::new("edge", "edge")
}

async fn reconcile(edge: Edge, key: Key) -> Result<(), Error> {
    if key != all() {
        return accept_class(&edge, &key).await;
    }
    let settings = edge.world.settings().edge.clone();
    let client = edge.world.client();
    if edge.ingresses.all().is_empty() && edge.gateways.all().is_empty() {
        return retire(&client, &settings).await;
    }
    let more = edge.more().await;
    let watched = edge.world.watched().await;
    let namespaces = edge.namespaces().await;
    let inputs = model::Inputs {
        ingresses: edge.ingresses.all(),
        ingress_classes: more.classes.all(),
        gateways: edge.gateways.all(),
        gateway_classes: edge.gateway_classes.all(),
        routes: more.routes.all(),
        grants: more.grants.all(),
        namespaces,
        secret: &|key: &Key| more.secrets.get(key),
        reach: &|namespace: &str, service: &str, port: i32| {
            watched.reach(edge.world.settings(), namespace, service, port)
        },
        speaks: &|namespace: &str, service: &str, port: i32| watched.speaks(namespace, service, port),
        port_named: &|namespace: &str, service: &str, port: &str| watched.port_named(namespace, service, port),
        on_nodes: &|port| settings.on_nodes(port),
        own_ports: edge.own_ports(watched),
    };
    let model = Model::of(&inputs);
    edge.own_ports.lock().clone_from(&model.own_ports);
    if model.is_empty() {
        retire(&client, &settings).await?;
        return say(&edge, &model, &Reached::default()).await;
    }
    let mut reached = Reached::default();
    match proxy::config::check(&model.config) {
        Ok(()) => reached.own = write(&edge, watched, &model).await?,
        Err(problem) => tracing::error!(%problem, "the edge's configuration is not written"),
    }
    reached.shared = addresses::of(&client, &settings, watched).await?;
    let deployment = watched.deployments.get(&Key::new(&settings.namespace, NAME));
    let available = deployment.and_then(|d| d.status.as_ref()?.available_replicas);
    reached.ready = available.is_some_and(|replicas| replicas > 0);
    say(&edge, &model, &reached).await
}

impl Edge {
    /// The proxies' ports for those of Gateways, as their Services have them and as they were chosen since.
    fn own_ports(&self, watched: &Watched) -> OwnPorts {
        let mut known = self.own_ports.lock().clone();
        for service in watched.services.in_namespace(&self.world.settings().edge.namespace) {
            let Some(gateway) = deploy::gateway_of(&service) else { continue };
            let ports = known.entry(gateway).or_default();
            for port in service.spec.iter().flat_map(|s| s.ports.iter().flatten()) {
                if let Some(IntOrString::Int(own)) = port.target_port {
                    ports.entry(port.port).or_insert(own);
                }
            }
        }
        known
    }

    async fn more(&self) -> &More {
        self.more
            .get_or_init(|| async {
                let client = self.world.client();
                let more = {
                    let mut tasks = self.tasks.lock();
                    More {
                        classes: Informer::start(client.clone(), untouched, &mut tasks),
                        routes: Informer::start(client.clone(), untouched, &mut tasks),
                        grants: Informer::start(client.clone(), untouched, &mut tasks),
                        secrets: Informer::start(client, only_certificates, &mut tasks),
                    }
                };
                more.classes.synced().await;
                more.routes.synced().await;
                more.grants.synced().await;
                more.secrets.synced().await;
                let queue = self.queue.clone();
                more.classes.listen(move |_| queue.add(all()));
                let queue = self.queue.clone();
                more.routes.listen(move |_| queue.add(all()));
                let queue = self.queue.clone();
                more.grants.listen(move |_| queue.add(all()));
                let (queue, settings) = (self.queue.clone(), self.world.settings().edge.clone());
                let own = Key::new(&settings.namespace, NAME);
                more.secrets.listen(move |change| {
                    if change.object().type_.as_deref() == Some(TLS) || Key::of(&**change.object()) == own {
                        queue.add(all());
                    }
                });
                more
            })
            .await
    }

    /// The labels of namespaces, if a listener asks for them.
    async fn namespaces(&self) -> BTreeMap<String, BTreeMap<String, String>> {
        let asked = self.gateways.all().iter().flat_map(|g| g.spec.listeners.clone()).any(|listener| {
            let from = listener.allowed_routes.and_then(|a| a.namespaces).and_then(|n| n.from);
            from.as_deref() == Some("Selector")
        });
        if !asked {
            return BTreeMap::new();
        }
        let follow = || async {
            let all = Informer::start(self.world.client(), only_labels, &mut self.tasks.lock());
            all.synced().await;
            let queue = self.queue.clone();
            all.listen(move |change| {
                let mut labels = change.states().map(|namespace| namespace.labels());
                // Gone, new, or labelled otherwise: most changes are of none of these.
                if labels.next() != labels.next() {
                    queue.add(self::all());
                }
            });
            all
        };
        let all = self.labelled.get_or_init(follow).await;
        all.all().into_iter().map(|namespace| (namespace.name_any(), namespace.labels().clone())).collect()
    }
}

const TLS: &str = "kubernetes.io/tls";

fn only_labels(namespace: &mut Namespace) {
    namespace.metadata.managed_fields = None;
    namespace.metadata.annotations = None;
    namespace.spec = None;
    namespace.status = None;
}

/// Certificates are kept, other secrets only by name.
fn only_certificates(secret: &mut Secret) {
    secret.metadata.managed_fields = None;
    secret.metadata.annotations = None;
    if secret.type_.as_deref() != Some(TLS) {
        secret.data = None;
    }
}

async fn accept_class(edge: &Edge, key: &Key) -> Result<(), Error> {
    let Some(class) = edge.gateway_classes.get(key).filter(|c| c.spec.controller_name == GATEWAY_CONTROLLER) else {
        return Ok(());
    };
    let before = class.status.clone().unwrap_or_default();
    let known = before.conditions.as_deref().unwrap_or_default();
    let generation = class.metadata.generation;
    let said = match class.spec.parameters_ref {
        None => Said::yes("Accepted", "Accepted", "Gateways of this class are served by the edge"),
        Some(_) => Said::no("Accepted", "InvalidParameters", "the class takes no parameters"),
    };
    let now = conditions(&[said], known, generation, jiff::Timestamp::now());
    let features = routes::FEATURES.iter().map(|name| json!({"name": name})).collect::<Vec<_>>();
    if known != now {
        let status = json!({"status": {"conditions": now, "supportedFeatures": features}});
        patch_status::<GatewayClass>(&Api::all(edge.world.client()), &key.name, &status).await?;
        events::of_class(&edge.recorder, &class, &now, known);
    }
    edge.queue.add(all());
    Ok(())
}

async fn retire(client: &Client, settings: &EdgeSettings) -> Result<(), Error> {
    let deployments = apply::api(client.clone(), &settings.namespace, "apps/v1", "Deployment");
    if deployments.get_opt(NAME).await?.is_some() {
        let services: Api<Service> = Api::namespaced(client.clone(), &settings.namespace);
        for service in services.list(&ListParams::default().labels(deploy::GATEWAY_ROLE)).await?.items {
            apply::remove(client, &settings.namespace, "v1", "Service", &service.name_any()).await?;
        }
        apply::remove(client, &settings.namespace, "v1", "Service", NAME).await?;
        apply::remove(client, &settings.namespace, "v1", "Secret", NAME).await?;
        // Last: as long as it is there, there may be something to remove.
        apply::remove(client, &settings.namespace, "apps/v1", "Deployment", NAME).await?;
    }
    Ok(())
}

/// The Secret first, since new pods read it. Returns the Gateways' own addresses.
async fn write(edge: &Edge, watched: &Watched, model: &Model) -> Result<BTreeMap<Key, Vec<String>>, Error> {
    let (client, settings) = (edge.world.client(), &edge.world.settings().edge);
    let namespaces: Api<Namespace> = Api::all(client.clone());
    if namespaces.get_opt(&settings.namespace).await?.is_none() {
        apply::force(
            &client,
            &json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": settings.namespace}}),
        )
        .await?;
    }
    let text = serde_yaml_ng::to_string(&model.config).map_err(|error| Error::Object(error.to_string()))?;
    let mut data: BTreeMap<String, String> =
        model.files.iter().map(|(name, bytes)| (name.clone(), STANDARD.encode(bytes))).collect();
    data.insert("config.yaml".to_owned(), STANDARD.encode(&text));
    apply::force(&client, &deploy::secret(settings, &data)).await?;
    match deploy::service(settings, &model.ports) {
        Some(service) => drop(apply::force(&client, &service).await?),
        None if watched.services.get(&Key::new(&settings.namespace, NAME)).is_some() => {
            apply::remove(&client, &settings.namespace, "v1", "Service", NAME).await?;
        }
        None => {}
    }
    apply::force(&client, &deploy::deployment(settings, &edge.world.settings().image, &model.ports)).await?;
    let mut own = BTreeMap::new();
    for (key, ports) in &model.own_ports {
        if let Some(gateway) = edge.gateways.get(key) {
            let service = own_service(&client, settings, &gateway, ports).await?;
            own.insert(key.clone(), addresses::of_gateway(settings, &service));
        }
    }
    for service in watched.services.in_namespace(&settings.namespace) {
        if deploy::gateway_of(&service).is_some_and(|gateway| !model.own_ports.contains_key(&gateway)) {
            apply::remove(&client, &settings.namespace, "v1", "Service", &service.name_any()).await?;
        }
    }
    Ok(own)
}

/// Makes the Service that is a Gateway's address: at the one that it asks for, if it can be had.
async fn own_service(
    client: &Client,
    settings: &EdgeSettings,
    gateway: &Gateway,
    ports: &BTreeMap<i32, i32>,
) -> Result<Service, Error> {
    let read = |object: DynamicObject| object.try_parse::<Service>().map_err(|error| Error::Object(error.to_string()));
    let asked = requested(gateway).into_iter().find(|address| address.parse::<IpAddr>().is_ok());
    if let Some(asked) = asked {
        let wanted = deploy::gateway_service(settings, gateway, ports, Some(asked));
        match apply::force(client, &wanted).await {
            Ok(service) => return read(service),
            // Somebody else's, or nobody's to give.
            Err(error) if error.is_invalid() => {}
            Err(error) => return Err(error),
        }
    }
    read(apply::force(client, &deploy::gateway_service(settings, gateway, ports, None)).await?)
}

/// A name for content that changes with it.
fn digest(bytes: &[u8]) -> String {
    hex::encode(&Sha256::digest(bytes)[..8])
}
