//! CustomResourceDefinitions of our kinds, for clusters that do not know them.

use std::time::Duration;

use controllers::Error;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::{
    Api, Client,
    runtime::{conditions::is_crd_established, wait::await_condition},
};

use crate::apply;

/// How long a cluster may take to serve a new kind.
const PATIENCE: Duration = Duration::from_secs(60);

/// Applies the definitions and waits until the kinds are served. Kinds of the Gateway API that the cluster has already
/// stay as they are, and so do kinds that it serves without a definition, as Hythe does.
///
/// # Errors
/// The cluster's; [`Error::NotYet`] if it takes too long.
pub async fn install(client: &Client) -> Result<(), Error> {
    let api: Api<CustomResourceDefinition> = Api::all(client.clone());
    for definition in ::api::openapi::custom_resource_definitions() {
        let name = definition["metadata"]["name"].as_str().unwrap_or_default();
        let foreign = definition["spec"]["group"] == pattern_kinds::gateway::GROUP;
        let present = api.get_opt(name).await?.is_some();
        if (foreign && present) || (!present && is_built_in(client, &definition).await) {
            continue;
        }
        apply::force(client, &definition).await?;
        let established = await_condition(api.clone(), name, is_crd_established());
        match tokio::time::timeout(PATIENCE, established).await {
            Ok(Ok(_)) => {}
            _ => return Err(Error::NotYet("a CustomResourceDefinition is not established")),
        }
    }
    Ok(())
}

/// Whether all versions of a kind are served already.
async fn is_built_in(client: &Client, definition: &serde_json::Value) -> bool {
    let spec = &definition["spec"];
    for version in spec["versions"].as_array().into_iter().flatten() {
        let of = |value: &serde_json::Value| value.as_str().unwrap_or_default().to_owned();
        let group_version = format!("{}/{}", of(&spec["group"]), of(&version["name"]));
        // Where nothing of the group is served there is no such list.
        let Ok(served) = client.list_api_group_resources(&group_version).await else { return false };
        if !served.resources.iter().any(|resource| resource.name == of(&spec["names"]["plural"])) {
            return false;
        }
    }
    true
}
