//! The class of claims that name none: directories on the node's own disk.

use anyhow::{Context, Result};
use k8s_openapi::api::storage::v1::StorageClass;
use kube::{Api, Client, api::PostParams};
use serde_json::json;

/// Makes it unless there is one of that name; what someone made of it stays.
pub async fn ensure(client: Client) -> Result<()> {
    let class: StorageClass = serde_json::from_value(json!({
        "metadata": {
            "name": "hythe-local",
            "annotations": {"storageclass.kubernetes.io/is-default-class": "true"},
        },
        "provisioner": "hythe.dev/local",
        "reclaimPolicy": "Delete",
        "volumeBindingMode": "WaitForFirstConsumer",
        "allowVolumeExpansion": true,
    }))?;
    match Api::<StorageClass>::all(client).create(&PostParams::default(), &class).await {
        Err(kube::Error::Api(status)) if status.reason == "AlreadyExists" => Ok(()),
        other => other.map(drop).context("the storage class hythe-local"),
    }
}
