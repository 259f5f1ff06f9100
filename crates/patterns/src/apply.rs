//! Writing what an object needs: server-side apply in the controllers' name, never over what is somebody else's.

use controllers::{Error, ownership::is_controlled_by};
use kube::{
    Api, Client, Resource,
    api::{ApiResource, DeleteParams, DynamicObject, Patch, PatchParams},
};
use serde_json::Value;

use crate::MANAGER;

/// Why an object could not be written.
#[derive(Debug)]
pub enum Refused {
    /// Something of that kind and name is there already and is not ours.
    Taken(String),
    /// The API said so for good: it is invalid or forbidden.
    Rejected(String),
    /// Worth another try.
    Later(Error),
}

fn plural(kind: &str) -> &'static str {
    match kind {
        "ConfigMap" => "configmaps",
        "Secret" => "secrets",
        "Service" => "services",
        "Namespace" => "namespaces",
        "Deployment" => "deployments",
        "StatefulSet" => "statefulsets",
        "IngressClass" => "ingressclasses",
        "GatewayClass" => "gatewayclasses",
        "CustomResourceDefinition" => "customresourcedefinitions",
        "MutatingWebhookConfiguration" => "mutatingwebhookconfigurations",
        "Lease" => "leases",
        other => unreachable!("{other} is never written"),
    }
}

/// The API of a kind by its `apiVersion` and `kind`.
pub fn api(client: Client, namespace: &str, api_version: &str, kind: &str) -> Api<DynamicObject> {
    let (group, version) = api_version.split_once('/').unwrap_or(("", api_version));
    let resource = ApiResource {
        group: group.to_owned(),
        version: version.to_owned(),
        api_version: api_version.to_owned(),
        kind: kind.to_owned(),
        plural: plural(kind).to_owned(),
    };
    match namespace {
        "" => Api::all_with(client, &resource),
        _ => Api::namespaced_with(client, namespace, &resource),
    }
}

fn part<'a>(object: &'a Value, pointer: &str) -> &'a str {
    object.pointer(pointer).and_then(Value::as_str).unwrap_or_default()
}

/// Applies an object whoever owns its fields.
pub async fn force(client: &Client, object: &Value) -> Result<DynamicObject, Error> {
    let api =
        api(client.clone(), part(object, "/metadata/namespace"), part(object, "/apiVersion"), part(object, "/kind"));
    let parameters = PatchParams::apply(MANAGER).force();
    Ok(api.patch(part(object, "/metadata/name"), &parameters, &Patch::Apply(object)).await?)
}

/// Applies an object that `owner` controls, unless another one has its name.
pub async fn owned(client: &Client, owner: &impl Resource, object: &Value) -> Result<(), Refused> {
    let (kind, name) = (part(object, "/kind"), part(object, "/metadata/name"));
    let api = api(client.clone(), part(object, "/metadata/namespace"), part(object, "/apiVersion"), kind);
    let later = |error: kube::Error| Refused::Later(error.into());
    if let Some(present) = api.get_opt(name).await.map_err(later)?
        && !is_controlled_by(&present, owner)
    {
        return Err(Refused::Taken(format!("{kind} {name:?} is there already and belongs to somebody else")));
    }
    let parameters = PatchParams::apply(MANAGER).force();
    match api.patch(name, &parameters, &Patch::Apply(object)).await.map_err(Error::from) {
        Ok(_) => Ok(()),
        Err(error) if error.is_invalid() || error.is_forbidden() => Err(Refused::Rejected(error.message())),
        Err(error) => Err(Refused::Later(error)),
    }
}

/// Removes an object and what depends on it (of some kinds, that would stay by default); absent is fine.
pub async fn remove(client: &Client, namespace: &str, api_version: &str, kind: &str, name: &str) -> Result<(), Error> {
    let api = api(client.clone(), namespace, api_version, kind);
    match api.delete(name, &DeleteParams::background()).await.map_err(Error::from) {
        Err(error) if !error.is_not_found() => Err(error),
        _ => Ok(()),
    }
}
