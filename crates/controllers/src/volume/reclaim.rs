//! Volumes: free, bound, or released and then kept or removed as their reclaim policy says.

use k8s_openapi::api::core::v1::{PersistentVolume, PersistentVolumeClaim};
use kube::ResourceExt;
use kube::api::{Patch, PatchParams};
use serde_json::json;

use super::{Binder, bind::pinned};
use crate::{Error, queue::Key};

impl Binder {
    pub(super) async fn see_to_volume(&self, volume: &PersistentVolume) -> Result<(), Error> {
        let Some(named) = claims::claim_ref(volume).cloned() else { return self.available(volume).await };
        let Some(uid) = named.uid.filter(|uid| !uid.is_empty()) else {
            // Kept for a claim that is to come.
            return self.available(volume).await;
        };
        let key = Key::new(named.namespace.unwrap_or_default(), named.name.unwrap_or_default());
        match self.claim(&key, &uid).await? {
            None => self.release(volume).await,
            Some(claim) => match claims::volume_name(&claim) {
                "" if !claims::same_mode(&claim, volume) => {
                    let (name, other) = (volume.name_any(), claim.name_any());
                    let note = format!(
                        "Cannot bind PersistentVolume to requested PersistentVolumeClaim \"{other}\" due to \
                         incompatible volumeMode."
                    );
                    self.recorder.warning(volume, "VolumeMismatch", note);
                    let note = format!(
                        "Cannot bind PersistentVolume \"{name}\" to requested PersistentVolumeClaim due to \
                         incompatible volumeMode."
                    );
                    self.recorder.warning(&claim, "VolumeMismatch", note);
                    Ok(())
                }
                "" => self.bind(volume, &claim).await,
                name if name == volume.name_any() => self.set_volume_phase(volume, "Bound", "").await.map(drop),
                _ => self.passed_over(volume).await,
            },
        }
    }

    /// The claim that the volume names; the API is asked before it is said to be gone.
    async fn claim(&self, key: &Key, uid: &str) -> Result<Option<PersistentVolumeClaim>, Error> {
        let cached = self.shared.claims.get(key).filter(|c| c.metadata.uid.as_deref() == Some(uid));
        if let Some(claim) = cached {
            return Ok(Some(PersistentVolumeClaim::clone(&claim)));
        }
        let found = self.claims_of(&key.namespace).get_opt(&key.name).await?;
        Ok(found.filter(|c| c.metadata.uid.as_deref() == Some(uid)))
    }

    async fn available(&self, volume: &PersistentVolume) -> Result<(), Error> {
        self.set_volume_phase(volume, "Available", "").await.map(drop)
    }

    /// The claim took another volume.
    async fn passed_over(&self, volume: &PersistentVolume) -> Result<(), Error> {
        let made_for_it = claims::volume_annotation(volume, claims::PROVISIONED_BY).is_some();
        if made_for_it && policy(volume) == "Delete" {
            return self.release(volume).await;
        }
        let by_controller = claims::volume_annotation(volume, claims::BOUND_BY_CONTROLLER).is_some();
        let mut patch =
            json!({"metadata": pinned(volume), "spec": {"claimRef": {"uid": null, "resourceVersion": null}}});
        if by_controller {
            patch["spec"]["claimRef"] = json!(null);
            patch["metadata"]["annotations"] = json!({claims::BOUND_BY_CONTROLLER: null});
        }
        let patched = self.volumes().patch(&volume.name_any(), &PatchParams::default(), &Patch::Merge(patch)).await?;
        self.available(&patched).await
    }

    /// The claim is gone.
    async fn release(&self, volume: &PersistentVolume) -> Result<(), Error> {
        let volume = match claims::volume_phase(volume) {
            "Released" | "Failed" => volume.clone(),
            _ => self.set_volume_phase(volume, "Released", "").await?,
        };
        if claims::volume_phase(&volume) == "Failed" {
            return Ok(());
        }
        match policy(&volume) {
            "Delete" => {
                let in_tree = volume.spec.as_ref().is_some_and(|s| s.csi.is_none());
                // What a provisioner made it also removes.
                if in_tree && claims::volume_annotation(&volume, claims::PROVISIONED_BY).is_none() {
                    let name = volume.name_any();
                    let message = format!(
                        "error getting deleter volume plugin for volume \"{name}\": no deletable volume plugin matched"
                    );
                    self.failed(&volume, "VolumeFailedDelete", message).await?;
                }
                Ok(())
            }
            "Recycle" => {
                self.failed(&volume, "VolumeFailedRecycle", "No recycler plugin found for the volume!".to_owned()).await
            }
            _ => Ok(()),
        }
    }

    async fn failed(&self, volume: &PersistentVolume, reason: &str, message: String) -> Result<(), Error> {
        self.set_volume_phase(volume, "Failed", &message).await?;
        self.recorder.warning(volume, reason, message);
        Ok(())
    }
}

fn policy(volume: &PersistentVolume) -> &str {
    volume.spec.as_ref().and_then(|s| s.persistent_volume_reclaim_policy.as_deref()).unwrap_or("Retain")
}
