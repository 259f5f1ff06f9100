//! What is said of the objects that the edge serves: their statuses and events.

use std::collections::BTreeMap;

use controllers::{Error, queue::Key};
use k8s_openapi::api::networking::v1::Ingress;
use kube::{
    Api,
    api::{Patch, PatchParams},
};
use pattern_kinds::gateway::{Gateway, HTTPRoute};
use serde_json::{Value, json};

use super::{Edge, addresses, events, model::Model, routes, settings::EdgeSettings};
use crate::MANAGER;

/// Where clients reach what is served.
#[derive(Default)]
pub struct Reached {
    /// Whether a proxy is ready.
    pub ready: bool,
    /// What all Ingresses share, and the ports of nodes.
    pub shared: Vec<String>,
    /// Gateways' own.
    pub own: BTreeMap<Key, Vec<String>>,
}

impl Reached {
    /// A Gateway's addresses: its own, and those that it shares with nobody. Where it asks for some, these.
    fn of_gateway(&self, gateway: &Gateway, settings: &EdgeSettings, model: &Model) -> Vec<String> {
        let key = Key::of(gateway);
        let mut all = self.own.get(&key).cloned().unwrap_or_default();
        let asked = requested(gateway);
        let ports = model.own_ports.get(&key);
        let as_named = |port: &i32| settings.on_nodes(*port) && settings.node_port(*port) == Some(*port);
        if ports.is_some_and(|ports| ports.keys().all(as_named)) {
            let alone = model.alone.contains(&key);
            all.extend(self.shared.iter().filter(|address| alone || asked.contains(address)).cloned());
        }
        if !asked.is_empty() && asked.iter().all(|address| all.contains(address)) {
            all.retain(|address| asked.contains(&address));
        }
        all
    }
}

/// The addresses that a Gateway asks for.
pub fn requested(gateway: &Gateway) -> Vec<&String> {
    let values = gateway.spec.addresses.iter().flatten().filter_map(|a| a.value.as_ref());
    values.filter(|value| !value.is_empty()).collect()
}

/// Writes what is known into every object's status where it says something else.
pub async fn say(edge: &Edge, model: &Model, reached: &Reached) -> Result<(), Error> {
    let addresses = &reached.shared;
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
                edge.recorder.normal(&*object, "Sync", "Scheduled for sync");
            }
        }
    }
    for (key, note) in &model.warnings {
        // The recorder folds what it has said already into one event.
        if let Some(object) = edge.ingresses.get(key) {
            edge.recorder.warning(&*object, "Rejected", note.clone());
        }
    }
    for said in &model.gateways {
        let Some(object) = edge.gateways.get(&said.key) else { continue };
        let own = reached.of_gateway(&object, &edge.world.settings().edge, model);
        let status = said.status(&object, &own, reached.ready, now);
        if object.status.as_ref() != Some(&status) {
            let api: Api<Gateway> = Api::namespaced(client.clone(), &said.key.namespace);
            patch_status(&api, &said.key.name, &json!({"status": status})).await?;
            events::of_gateway(&edge.recorder, &object, &status);
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
            events::of_route(&edge.recorder, &object, &status);
        }
    }
    Ok(())
}

/// Writes a status.
pub async fn patch_status<K>(api: &Api<K>, name: &str, status: &Value) -> Result<(), Error>
where
    K: Clone + std::fmt::Debug + serde::de::DeserializeOwned,
{
    let parameters = PatchParams { field_manager: Some(MANAGER.to_owned()), ..Default::default() };
    match api.patch_status(name, &parameters, &Patch::Merge(status)).await.map_err(Error::from) {
        Err(error) if !error.is_not_found() => Err(error),
        _ => Ok(()),
    }
}
