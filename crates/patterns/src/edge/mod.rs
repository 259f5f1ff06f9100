//! The edge: one Deployment of proxies that serves all Ingresses and Gateways of the classes called `hythe`. It exists
//! only while there is one.
//!
//! Its configuration and all certificates are one Secret, so that they change together.

mod addresses;
mod deploy;
mod gateway;
mod grants;
mod ingress;
mod model;
mod routes;
#[cfg(test)]
mod tests;

use std::{collections::BTreeMap, sync::Arc};

use base64::{Engine, engine::general_purpose::STANDARD};
use controllers::{
    Error,
    informer::{Informer, untouched},
    queue::{Key, Queue},
    recorder::Recorder,
};
use k8s_openapi::api::{
    core::v1::{Namespace, Secret},
    networking::v1::{Ingress, IngressClass},
};
use kube::{
    Api, Client, ResourceExt,
    api::{ListParams, Patch, PatchParams},
};
use parking_lot::Mutex;
use pattern_kinds::gateway::{Gateway, GatewayClass, HTTPRoute, ReferenceGrant};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use tokio::{sync::OnceCell, task::JoinSet};

use crate::{
    MANAGER, apply,
    conditions::{Said, conditions},
    world::{Touched, Watched, World},
};
use model::Model;

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

/// How the edge is reached.
#[derive(Clone, Debug)]
pub struct EdgeSettings {
    /// Its namespace, which is made if it is not there.
    pub namespace: String,
    /// The port of nodes that leads to port 80 of the edge; 0 for none.
    pub http_port: u16,
    /// The port of nodes that leads to port 443 of the edge; 0 for none.
    pub https_port: u16,
    /// Whether its pods are in the network of their node instead.
    pub host_network: bool,
    /// How many pods.
    pub replicas: i32,
    /// The type of a Service before its pods; without one they have ports of their nodes, which an old pod must leave
    /// before a new one can have them.
    pub service_type: Option<String>,
    /// That Service's ports are open on all addresses of the nodes, as Hythe's own nodes do it, and it is told so.
    pub open_on_nodes: bool,
}

impl Default for EdgeSettings {
    fn default() -> Self {
        Self {
            namespace: "hythe-system".to_owned(),
            http_port: 80,
            https_port: 443,
            host_network: false,
            replicas: 1,
            service_type: None,
            open_on_nodes: false,
        }
    }
}

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
            recorder: Recorder::new(client, "hythe-edge"),
            world,
            ingresses,
            gateways,
            gateway_classes,
            more: Arc::default(),
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
    let namespaces = edge.namespaces().await?;
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
        port_named: &|namespace: &str, service: &str, port: &str| watched.port_named(namespace, service, port),
    };
    let model = Model::of(&inputs);
    if model.is_empty() {
        retire(&client, &settings).await?;
        return say(&edge, &model, &[]).await;
    }
    if proxy::config::check(&model.config).is_ok() {
        write(&edge, watched, &model).await?;
    } else if let Err(problem) = proxy::config::check(&model.config) {
        tracing::error!(%problem, "the edge's configuration is not written");
    }
    let addresses = addresses::of(&client, &settings, watched).await?;
    say(&edge, &model, &addresses).await
}

impl Edge {
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
                let queue = self.queue.clone();
                more.secrets.listen(move |change| {
                    if change.object().type_.as_deref() == Some(TLS) {
                        queue.add(all());
                    }
                });
                more
            })
            .await
    }

    /// The labels of namespaces, if a listener asks for them.
    async fn namespaces(&self) -> Result<BTreeMap<String, BTreeMap<String, String>>, Error> {
        let asked = self.gateways.all().iter().flat_map(|g| g.spec.listeners.clone()).any(|listener| {
            let from = listener.allowed_routes.and_then(|a| a.namespaces).and_then(|n| n.from);
            from.as_deref() == Some("Selector")
        });
        if !asked {
            return Ok(BTreeMap::new());
        }
        let all = Api::<Namespace>::all(self.world.client()).list(&ListParams::default()).await?;
        Ok(all.items.into_iter().map(|n| (n.name_any(), n.labels().clone())).collect())
    }
}

const TLS: &str = "kubernetes.io/tls";

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
    }
    edge.queue.add(all());
    Ok(())
}

async fn retire(client: &Client, settings: &EdgeSettings) -> Result<(), Error> {
    let deployments = apply::api(client.clone(), &settings.namespace, "apps/v1", "Deployment");
    if deployments.get_opt(NAME).await?.is_some() {
        apply::remove(client, &settings.namespace, "apps/v1", "Deployment", NAME).await?;
        apply::remove(client, &settings.namespace, "v1", "Service", NAME).await?;
        apply::remove(client, &settings.namespace, "v1", "Secret", NAME).await?;
    }
    Ok(())
}

/// The Secret first, since new pods read it.
async fn write(edge: &Edge, watched: &Watched, model: &Model) -> Result<(), Error> {
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
    Ok(())
}

async fn patch_status<K>(api: &Api<K>, name: &str, status: &Value) -> Result<(), Error>
where
    K: Clone + std::fmt::Debug + serde::de::DeserializeOwned,
{
    let parameters = PatchParams { field_manager: Some(MANAGER.to_owned()), ..Default::default() };
    match api.patch_status(name, &parameters, &Patch::Merge(status)).await.map_err(Error::from) {
        Err(error) if !error.is_not_found() => Err(error),
        _ => Ok(()),
    }
}

/// Writes what is known into every object's status where it says something else.
async fn say(edge: &Edge, model: &Model, addresses: &[String]) -> Result<(), Error> {
    let client = edge.world.client();
    let now = jiff::Timestamp::now();
    for key in &model.ingresses {
        let Some(object) = edge.ingresses.get(key) else { continue };
        let wanted: Vec<Value> = addresses.iter().map(|address| addresses::ingress(address)).collect();
        let status = object.status.as_ref().and_then(|s| s.load_balancer.as_ref());
        let before: Vec<Value> = status.iter().flat_map(|s| s.ingress.iter().flatten()).map(|i| json!(i)).collect();
        if before != wanted {
            let api: Api<Ingress> = Api::namespaced(client.clone(), &key.namespace);
            patch_status(&api, &key.name, &json!({"status": {"loadBalancer": {"ingress": wanted}}})).await?;
            if !addresses.is_empty() {
                edge.recorder.normal(&*object, "Sync", "Program", "Scheduled for sync".to_owned());
            }
        }
    }
    for (key, note) in &model.warnings {
        // The recorder folds what it has said already into one event.
        if let Some(object) = edge.ingresses.get(key) {
            edge.recorder.warning(&*object, "Rejected", "Program", note.clone());
        }
    }
    for said in &model.gateways {
        let Some(object) = edge.gateways.get(&said.key) else { continue };
        let status = said.status(&object, addresses, now);
        if object.status.as_ref() != Some(&status) {
            let api: Api<Gateway> = Api::namespaced(client.clone(), &said.key.namespace);
            patch_status(&api, &said.key.name, &json!({"status": status})).await?;
        }
    }
    let more = edge.more().await;
    for object in more.routes.all() {
        let key = Key::of(&*object);
        let status = routes::status(&object, model.routes.get(&key).map_or(&[], Vec::as_slice), now);
        if object.status.as_ref().map(|s| &s.parents) != Some(&status.parents)
            && !(object.status.is_none() && status.parents.is_empty())
        {
            let api: Api<HTTPRoute> = Api::namespaced(client.clone(), &key.namespace);
            patch_status(&api, &key.name, &json!({"status": status})).await?;
        }
    }
    Ok(())
}

/// A name for content that changes with it.
fn digest(bytes: &[u8]) -> String {
    hex::encode(&Sha256::digest(bytes)[..8])
}
