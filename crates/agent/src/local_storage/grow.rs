//! Expansion: a claim that asks for more than its volume has gets it while the disk has it.

use api::quantity::Quantity;
use jiff::Timestamp;
use k8s_openapi::{api::core::v1::PersistentVolumeClaim, apimachinery::pkg::apis::meta::v1::Time};
use kube::{
    ResourceExt,
    api::{Patch, PatchParams},
};
use serde_json::{Value, json};

use super::{Fault, Local, block, quantity_list};

/// Whether the claim is bound and asks for more than it has.
pub fn wants_more(claim: &PersistentVolumeClaim) -> bool {
    let status = claim.status.as_ref();
    let bound = status.and_then(|s| s.phase.as_deref()) == Some("Bound");
    bound && claim.metadata.deletion_timestamp.is_none() && claims::requested(claim) > capacity(claim)
}

fn capacity(claim: &PersistentVolumeClaim) -> Option<Quantity> {
    claim.status.as_ref()?.capacity.as_ref()?.get("storage")?.0.parse().ok()
}

impl Local {
    /// A directory needs nothing: what grows is what may be counted on. A block device grows under its pods.
    pub(super) async fn grow(&self, claim: &PersistentVolumeClaim) -> Result<(), Fault> {
        let name = claims::volume_name(claim);
        let Some(volume) = self.volumes().get_opt(name).await?.filter(|v| self.owns(v)) else { return Ok(()) };
        let requests = claim.spec.as_ref().and_then(|s| s.resources.as_ref()).and_then(|r| r.requests.as_ref());
        let Some(wanted) = requests.and_then(|r| r.get("storage")).map(|q| q.0.clone()) else { return Ok(()) };
        let (new, old) = (claims::requested(claim), claims::size(&volume));
        if new > old {
            let note = format!("External resizer is resizing volume {name}");
            self.recorder.normal(claim, "Resizing", note);
            let bytes = new.map_or(0, |q| q.value());
            let more = bytes - old.map_or(0, |q| q.value());
            let free = self.free()?;
            if more > free {
                let fault = Fault::Claim(format!(
                    "not enough free space on node {}: {more} more bytes requested, {free} bytes free",
                    self.context.config.node_name
                ));
                let note =
                    format!("resize volume \"{name}\" by resizer \"{}\" failed: {fault}", claims::LOCAL_PROVISIONER);
                self.recorder.warning(claim, "VolumeResizeFailed", note);
                let condition =
                    json!([{"type": "Resizing", "status": "True", "lastTransitionTime": Time(Timestamp::now())}]);
                if !is_resizing(claim) {
                    self.write(claim, json!({"conditions": condition})).await?;
                }
                return Err(fault);
            }
            let path = self.root().join(name);
            if block::is_file(&path) {
                block::make(&path, bytes.unsigned_abs())?;
            }
            let patch = json!({"metadata": {"resourceVersion": volume.resource_version()},
                "spec": {"capacity": quantity_list(&wanted)}});
            self.volumes().patch(name, &PatchParams::default(), &Patch::Merge(patch)).await?;
        }
        self.write(claim, json!({"capacity": quantity_list(&wanted), "conditions": null})).await?;
        let note = "Resize volume succeeded".to_owned();
        self.recorder.normal(claim, "VolumeResizeSuccessful", note);
        Ok(())
    }

    async fn write(&self, claim: &PersistentVolumeClaim, status: Value) -> Result<(), Fault> {
        let patch = json!({"metadata": {"uid": claim.uid()}, "status": status});
        let api = self.claims(&claim.namespace().unwrap_or_default());
        Ok(api.patch_status(&claim.name_any(), &PatchParams::default(), &Patch::Merge(patch)).await.map(drop)?)
    }
}

fn is_resizing(claim: &PersistentVolumeClaim) -> bool {
    let conditions = claim.status.iter().flat_map(|s| s.conditions.iter().flatten());
    conditions.into_iter().any(|c| c.type_ == "Resizing" && c.status == "True")
}
