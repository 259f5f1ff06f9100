//! The writes of a binding: the volume names the claim, then the claim the volume, each with its phase. A binder that
//! is stopped between any two of them goes on where it was.

use jiff::Timestamp;
use k8s_openapi::{
    api::core::v1::{PersistentVolume, PersistentVolumeClaim},
    apimachinery::pkg::apis::meta::v1::Time,
};
use kube::{
    ResourceExt,
    api::{Patch, PatchParams},
};
use serde_json::{Value, json};

use super::Binder;
use crate::{Error, error::gone_is_fine};

impl Binder {
    /// Completes the binding of the two.
    pub(super) async fn bind(&self, volume: &PersistentVolume, claim: &PersistentVolumeClaim) -> Result<(), Error> {
        let volume = self.name_claim(volume, claim).await?;
        let volume = self.set_volume_phase(&volume, "Bound", "").await?;
        let claim = self.name_volume(&volume, claim).await?;
        self.set_bound(&volume, &claim).await
    }

    async fn name_claim(
        &self,
        volume: &PersistentVolume,
        claim: &PersistentVolumeClaim,
    ) -> Result<PersistentVolume, Error> {
        let named = claims::claim_ref(volume).filter(|_| claims::is_bound_to(volume, claim));
        if named.is_some_and(|r| r.uid == claim.metadata.uid) {
            return Ok(volume.clone());
        }
        let mut patch = json!({"metadata": pinned(volume), "spec": {"claimRef": {
            "apiVersion": "v1", "kind": "PersistentVolumeClaim", "namespace": claim.namespace(),
            "name": claim.name_any(), "uid": claim.uid(), "resourceVersion": claim.resource_version(),
        }}});
        if named.is_none() {
            patch["metadata"]["annotations"] = json!({claims::BOUND_BY_CONTROLLER: "yes"});
        }
        Ok(self.volumes().patch(&volume.name_any(), &PatchParams::default(), &Patch::Merge(patch)).await?)
    }

    async fn name_volume(
        &self,
        volume: &PersistentVolume,
        claim: &PersistentVolumeClaim,
    ) -> Result<PersistentVolumeClaim, Error> {
        let by_user = !claims::volume_name(claim).is_empty();
        let marked = |name| claims::annotation(claim, name).is_some();
        if by_user && marked(claims::BIND_COMPLETED) {
            return Ok(claim.clone());
        }
        let mut patch = json!({"metadata": pinned(claim)});
        patch["metadata"]["annotations"] = json!({claims::BIND_COMPLETED: "yes"});
        if !by_user {
            patch["spec"] = json!({"volumeName": volume.name_any()});
            patch["metadata"]["annotations"][claims::BOUND_BY_CONTROLLER] = "yes".into();
        }
        let api = self.claims_of(&claim.namespace().unwrap_or_default());
        Ok(api.patch(&claim.name_any(), &PatchParams::default(), &Patch::Merge(patch)).await?)
    }

    /// What the claim has is what the volume offers. Its capacity is taken over once: later it grows with the
    /// file system.
    async fn set_bound(&self, volume: &PersistentVolume, claim: &PersistentVolumeClaim) -> Result<(), Error> {
        let status = claim.status.clone().unwrap_or_default();
        let spec = volume.spec.clone().unwrap_or_default();
        let was_bound = status.phase.as_deref() == Some("Bound");
        let mut patch = json!({});
        if !was_bound {
            patch["phase"] = "Bound".into();
        }
        if status.access_modes != spec.access_modes {
            patch["accessModes"] = json!(spec.access_modes);
        }
        if !was_bound || status.capacity.is_none() {
            patch["capacity"] = json!({"storage": spec.capacity.unwrap_or_default().get("storage")});
        }
        if !was_bound && spec.volume_attributes_class_name.is_some() {
            patch["currentVolumeAttributesClassName"] = json!(spec.volume_attributes_class_name);
        }
        if patch.as_object().is_some_and(|p| p.is_empty()) {
            return Ok(());
        }
        self.patch_claim_status(claim, patch).await
    }

    /// `Pending` or `Lost`.
    pub(super) async fn set_claim_phase(&self, claim: &PersistentVolumeClaim, phase: &str) -> Result<(), Error> {
        let now = claim.status.as_ref().and_then(|s| s.phase.as_deref()).unwrap_or_default();
        if now == phase {
            return Ok(());
        }
        self.patch_claim_status(claim, json!({"phase": phase, "accessModes": null, "capacity": null})).await
    }

    async fn patch_claim_status(&self, claim: &PersistentVolumeClaim, status: Value) -> Result<(), Error> {
        let patch = Patch::Merge(json!({"metadata": pinned(claim), "status": status}));
        let api = self.claims_of(&claim.namespace().unwrap_or_default());
        gone_is_fine(api.patch_status(&claim.name_any(), &PatchParams::default(), &patch).await)
    }

    /// Gives the volume as it is then.
    pub(super) async fn set_volume_phase(
        &self,
        volume: &PersistentVolume,
        phase: &str,
        message: &str,
    ) -> Result<PersistentVolume, Error> {
        if claims::volume_phase(volume) == phase {
            return Ok(volume.clone());
        }
        let message = Some(message).filter(|m| !m.is_empty());
        let status = json!({
            "phase": phase, "message": message, "lastPhaseTransitionTime": Time(Timestamp::now()),
        });
        let patch = Patch::Merge(json!({"metadata": pinned(volume), "status": status}));
        Ok(self.volumes().patch_status(&volume.name_any(), &PatchParams::default(), &patch).await?)
    }
}

/// Metadata that lets a patch through only if the object is as it was seen.
pub(super) fn pinned(object: &impl kube::Resource) -> Value {
    json!({"uid": object.meta().uid, "resourceVersion": object.meta().resource_version})
}
