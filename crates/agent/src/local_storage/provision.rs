//! A directory or a file, and its PersistentVolume, for a claim.

use std::{fs, os::unix::fs::PermissionsExt};

use k8s_openapi::api::{
    core::v1::{PersistentVolume, PersistentVolumeClaim},
    storage::v1::StorageClass,
};
use kube::{Api, ResourceExt, api::PostParams};
use serde_json::json;

use super::{Fault, Local, block, quantity_list, remove::FINALIZER};
use crate::volumes::remove_tree;

impl Local {
    pub(super) async fn provision(&self, claim: &PersistentVolumeClaim) -> Result<(), Fault> {
        let class = claims::class_of(claim).to_owned();
        let classes: Api<StorageClass> = Api::all(self.context.client.clone());
        let Some(found) = classes.get_opt(&class).await? else { return Ok(()) };
        let selected = claims::annotation(claim, claims::SELECTED_NODE).is_some();
        if claims::waits_for_consumer(&found) && !selected {
            return Ok(());
        }
        let full_name = format!("{}/{}", claim.namespace().unwrap_or_default(), claim.name_any());
        let name = format!("pvc-{}", claim.uid().unwrap_or_default());
        let note = format!("External provisioner is provisioning volume for claim \"{full_name}\"");
        self.recorder.normal(claim, "Provisioning", note);
        match self.make(claim, &found, &name).await {
            Ok(()) => {
                let note = format!("Successfully provisioned volume {name}");
                self.recorder.normal(claim, "ProvisioningSucceeded", note);
                Ok(())
            }
            Err(fault) => {
                let note = format!("failed to provision volume with StorageClass \"{class}\": {fault}");
                self.recorder.warning(claim, "ProvisioningFailed", note);
                Err(fault)
            }
        }
    }

    async fn make(&self, claim: &PersistentVolumeClaim, class: &StorageClass, name: &str) -> Result<(), Fault> {
        let spec = claim.spec.clone().unwrap_or_default();
        if spec.selector.is_some() {
            return Err(Fault::Claim("claim Selector is not supported".to_owned()));
        }
        if spec.data_source.is_some() || spec.data_source_ref.is_some() {
            return Err(Fault::Claim("a dataSource is not supported: the volume would be empty".to_owned()));
        }
        if let Some(class) = spec.volume_attributes_class_name.filter(|class| !class.is_empty()) {
            return Err(Fault::Claim(format!(
                "VolumeAttributesClass {class} is not supported: a local volume has no attributes"
            )));
        }
        let requests = spec.resources.and_then(|r| r.requests).unwrap_or_default();
        let wanted = requests.get("storage").map(|q| q.0.clone()).unwrap_or_default();
        let (bytes, free) = (claims::requested(claim).map_or(0, |q| q.value()), self.free()?);
        if bytes > free {
            let node = &self.context.config.node_name;
            return Err(Fault::Claim(format!(
                "not enough free space on node {node}: {bytes} bytes requested, {free} bytes free"
            )));
        }
        let path = self.root().join(name);
        let made = !path.exists();
        let block = spec.volume_mode.as_deref() == Some("Block");
        if block {
            block::make(&path, bytes.unsigned_abs())?;
        } else {
            fs::create_dir_all(&path)?;
            if made {
                // For whoever the containers run as; who else may come here is the parent's to say.
                fs::set_permissions(&path, fs::Permissions::from_mode(0o777))?;
            }
        }
        fs::set_permissions(self.root(), fs::Permissions::from_mode(0o711))?;
        let volume: PersistentVolume = serde_json::from_value(json!({
            "metadata": {
                "name": name,
                "annotations": {(claims::PROVISIONED_BY): claims::LOCAL_PROVISIONER},
                "finalizers": [claims::VOLUME_PROTECTION, FINALIZER],
            },
            "spec": {
                "capacity": quantity_list(&wanted),
                "accessModes": spec.access_modes,
                "volumeMode": if block { "Block" } else { "Filesystem" },
                "persistentVolumeReclaimPolicy": class.reclaim_policy.as_deref().unwrap_or("Delete"),
                "storageClassName": class.name_any(),
                "local": {"path": path},
                "claimRef": {
                    "apiVersion": "v1", "kind": "PersistentVolumeClaim", "namespace": claim.namespace(),
                    "name": claim.name_any(), "uid": claim.uid(), "resourceVersion": claim.resource_version(),
                },
                "nodeAffinity": {"required": {"nodeSelectorTerms": [{"matchExpressions": [
                    {"key": "kubernetes.io/hostname", "operator": "In", "values": [self.context.config.node_name]},
                ]}]}},
            },
        }))
        .map_err(kube::Error::SerdeError)?;
        match self.volumes().create(&PostParams::default(), &volume).await {
            // By an earlier attempt of ours, or by another node's: then the directory here is nobody's.
            Err(kube::Error::Api(status)) if status.reason == "AlreadyExists" => {
                let theirs = self.volumes().get_opt(name).await?.is_some_and(|volume| !self.owns(&volume));
                if theirs && made {
                    remove_tree(&path)?;
                }
                Ok(())
            }
            other => Ok(other.map(drop)?),
        }
    }
}
