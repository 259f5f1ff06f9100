//! Who wants a CSI volume, where it is to be, and what the cluster knows of it.

use std::{collections::BTreeMap, path::PathBuf, sync::Arc};

use k8s_openapi::api::{
    core::v1::{Pod, Secret},
    storage::v1::{CSIDriver, CSIDriverSpec},
};
use kube::{Api, ResourceExt};
use tokio::sync::watch;

use super::driver::Driver;
use crate::{context::Context, volumes::VolumeError};

/// Where block devices are staged and published, below the agent's directory as below the kubelet's.
pub(super) const DEVICES: &str = "plugins/kubernetes.io/csi/volumeDevices";

/// Who wants a volume, and under which name.
pub(super) struct Place<'a> {
    pub context: &'a Arc<Context>,
    pub pod: &'a Pod,
    /// Later versions of the pod.
    pub pods: &'a watch::Receiver<Arc<Pod>>,
    /// Of the PersistentVolume, or of the pod's volume.
    pub name: String,
}

impl Place<'_> {
    pub fn fail(&self, message: impl Into<String>) -> VolumeError {
        VolumeError::SetUp { volume: self.name.clone(), message: message.into() }
    }

    pub fn driver(&self, name: &str) -> Result<Arc<Driver>, VolumeError> {
        self.context.csi.get(name).ok_or_else(|| {
            self.fail(format!(
                "kubernetes.io/csi: mounter.SetUpAt failed to get CSI client: driver name {name} not found in the list \
                 of registered CSI drivers"
            ))
        })
    }

    /// What the cluster knows of the driver; the defaults if nothing.
    pub async fn facts(&self, name: &str) -> Result<CSIDriverSpec, VolumeError> {
        Ok(self.known(name).await?.unwrap_or_default())
    }

    /// What the cluster knows of the driver, if anything.
    pub async fn known(&self, name: &str) -> Result<Option<CSIDriverSpec>, VolumeError> {
        let api: Api<CSIDriver> = Api::all(self.context.client.clone());
        let found = api.get_opt(name).await.map_err(|e| self.fail(e.to_string()))?;
        Ok(found.map(|driver| driver.spec))
    }

    pub async fn secret(&self, namespace: &str, name: Option<&str>) -> Result<BTreeMap<String, String>, VolumeError> {
        let Some(name) = name else { return Ok(BTreeMap::new()) };
        let api: Api<Secret> = Api::namespaced(self.context.client.clone(), namespace);
        let secret = api
            .get(name)
            .await
            .map_err(|e| self.fail(format!("fetching NodePublishSecretRef {namespace}/{name} failed: {e}")))?;
        let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
        Ok(secret.data.unwrap_or_default().into_iter().map(|(k, v)| (k, text(v.0))).collect())
    }

    /// `podInfoOnMount`.
    pub fn pod_info(&self, ephemeral: bool) -> BTreeMap<String, String> {
        let account = self.pod.spec.as_ref().and_then(|s| s.service_account_name.clone()).unwrap_or_default();
        [
            ("pod.name", self.pod.name_any()),
            ("pod.namespace", self.pod.namespace().unwrap_or_default()),
            ("pod.uid", self.pod.uid().unwrap_or_default()),
            ("serviceAccount.name", account),
            ("ephemeral", ephemeral.to_string()),
        ]
        .into_iter()
        .map(|(key, value)| (format!("csi.storage.k8s.io/{key}"), value))
        .collect()
    }

    /// Where the driver is to put the node of a block device.
    pub fn device(&self) -> PathBuf {
        let uid = self.pod.uid().unwrap_or_default();
        self.context.data_dir().join(DEVICES).join("publish").join(&self.name).join(uid)
    }

    /// Where the driver was told to publish it.
    pub fn published(&self, block: bool) -> PathBuf {
        if block { self.device() } else { self.directory().join("mount") }
    }

    pub fn directory(&self) -> PathBuf {
        self.context.paths(self.pod).volume("csi", &self.name)
    }
}
