//! The node's CSINode, its annotation with the drivers' ids of it, and its topology labels.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use k8s_openapi::api::{core::v1::Node, storage::v1::CSINode};
use kube::{
    Api,
    api::{Patch, PatchParams, PostParams},
};
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use super::{driver::Driver, in_use};
use crate::context::Context;

/// What the drivers call the node, on the Node.
const NODE_ID: &str = "csi.volume.kubernetes.io/nodeid";

/// Brings both objects up to date with the drivers and volumes there are; tried until it is done.
pub async fn write(context: &Arc<Context>, stop: &CancellationToken) {
    let mut rest = Duration::from_millis(50);
    while let Err(error) = try_write(context).await {
        tracing::debug!(%error, "the CSINode could not be written yet");
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(rest) => rest = (rest * 2).min(Duration::from_secs(10)),
        }
    }
}

async fn try_write(context: &Arc<Context>) -> Result<(), kube::Error> {
    let drivers = context.csi.all();
    let name = context.config.node_name.clone();
    let nodes: Api<Node> = Api::all(context.client.clone());
    let node = nodes.get(&name).await?;
    in_use::adopt(context, &node).await?;
    let csi_nodes: Api<CSINode> = Api::all(context.client.clone());
    let spec = json!({"drivers": drivers.iter().map(|d| entry(d)).collect::<Vec<_>>()});
    match csi_nodes.get_opt(&name).await? {
        Some(_) => {
            let patch = Patch::Merge(json!({"spec": spec}));
            csi_nodes.patch(&name, &PatchParams::default(), &patch).await?;
        }
        None => {
            let owner = json!({"apiVersion": "v1", "kind": "Node", "name": name, "uid": node.metadata.uid});
            let object = json!({"metadata": {"name": name, "ownerReferences": [owner]}, "spec": spec});
            let object = serde_json::from_value(object).map_err(kube::Error::SerdeError)?;
            csi_nodes.create(&PostParams::default(), &object).await?;
        }
    }
    let ids: BTreeMap<&str, &str> = drivers.iter().map(|d| (d.name.as_str(), d.node_id.as_str())).collect();
    let topology: BTreeMap<&String, &String> = drivers.iter().flat_map(|d| &d.topology).collect();
    let annotation = (!ids.is_empty()).then(|| json!(ids).to_string());
    let known = node.metadata.annotations.as_ref().and_then(|a| a.get(NODE_ID));
    let labels = node.metadata.labels.unwrap_or_default();
    if known != annotation.as_ref() || topology.iter().any(|(key, value)| labels.get(*key) != Some(*value)) {
        let patch = json!({"metadata": {"annotations": {(NODE_ID): annotation}, "labels": topology}});
        nodes.patch(&name, &PatchParams::default(), &Patch::Merge(patch)).await?;
    }
    Ok(())
}

fn entry(driver: &Driver) -> Value {
    let keys: Vec<&String> = driver.topology.keys().collect();
    let mut entry = json!({"name": driver.name, "nodeID": driver.node_id, "topologyKeys": keys});
    if driver.max_volumes > 0 {
        entry["allocatable"] = json!({"count": driver.max_volumes});
    }
    entry
}
