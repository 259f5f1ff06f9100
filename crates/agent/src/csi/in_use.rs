//! `status.volumesInUse` of the Node: what must not be detached from it.

use std::sync::Arc;

use k8s_openapi::api::core::v1::Node;
use kube::{
    Api,
    api::{Patch, PatchParams},
};
use serde_json::json;

use super::held::Held;
use crate::context::Context;

/// Brings the Node up to date with what the node holds. Whoever is told of an error tries again.
pub async fn try_tell(context: &Arc<Context>) -> Result<(), kube::Error> {
    let mut told = context.holding.told.lock().await;
    let wanted = names(Held::all(context.data_dir()));
    if told.as_ref() == Some(&wanted) {
        return Ok(());
    }
    let api: Api<Node> = Api::all(context.client.clone());
    let patch = json!({"status": {"volumesInUse": (!wanted.is_empty()).then_some(&wanted)}});
    api.patch_status(&context.config.node_name, &PatchParams::default(), &Patch::Merge(patch)).await?;
    *told = Some(wanted);
    Ok(())
}

/// The same when a volume has left: the next one who tells makes up for a failure.
pub async fn tell(context: &Arc<Context>) {
    if let Err(error) = try_tell(context).await {
        tracing::debug!(%error, "the volumes in use could not be told yet");
    }
}

/// The Node is another one now, and knows nothing.
pub async fn tell_again(context: &Arc<Context>) {
    *context.holding.told.lock().await = None;
    tell(context).await;
}

/// What the Node says, when the agent starts.
pub async fn adopt(context: &Arc<Context>, node: &Node) -> Result<(), kube::Error> {
    {
        let mut told = context.holding.told.lock().await;
        if told.is_none() {
            *told = Some(node.status.as_ref().and_then(|s| s.volumes_in_use.clone()).unwrap_or_default());
        }
    }
    try_tell(context).await
}

fn names(held: Vec<Held>) -> Vec<String> {
    let mut names: Vec<String> = held.iter().filter(|held| held.attachable).map(Held::unique_name).collect();
    names.sort();
    names
}
