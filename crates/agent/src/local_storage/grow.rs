//! Expansion: a claim that asks for more than its volume has gets it while the disk has it. How far that is stands in the
//! claim, so that whoever was refused may ask for less (KEP-1790).

use api::quantity::Quantity;
use jiff::Timestamp;
use k8s_openapi::{
    api::core::v1::{PersistentVolumeClaim, PersistentVolumeClaimCondition},
    apimachinery::pkg::apis::meta::v1::Time,
};
use kube::{
    ResourceExt,
    api::{Patch, PatchParams},
};
use serde_json::{Value, json};

use super::{Fault, Local, block, quantity_list};

const IN_PROGRESS: &str = "ControllerResizeInProgress";
const INFEASIBLE: &str = "ControllerResizeInfeasible";

/// Whether the claim is bound and asks for more than it has.
pub fn wants_more(claim: &PersistentVolumeClaim) -> bool {
    let status = claim.status.as_ref();
    let bound = status.and_then(|s| s.phase.as_deref()) == Some("Bound");
    bound && claim.metadata.deletion_timestamp.is_none() && claims::requested(claim) > capacity(claim)
}

fn capacity(claim: &PersistentVolumeClaim) -> Option<Quantity> {
    claim.status.as_ref()?.capacity.as_ref()?.get("storage")?.0.parse().ok()
}

/// Which size was last said to be made.
fn allocated(claim: &PersistentVolumeClaim) -> Option<Quantity> {
    claim.status.as_ref()?.allocated_resources.as_ref()?.get("storage")?.0.parse().ok()
}

fn is_refused(claim: &PersistentVolumeClaim) -> bool {
    let statuses = claim.status.as_ref().and_then(|s| s.allocated_resource_statuses.as_ref());
    statuses.and_then(|s| s.get("storage")).is_some_and(|status| status == INFEASIBLE)
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
            let mut claim = claim.clone();
            if allocated(&claim) != new {
                claim = self.write(&claim, &progress(&claim, &wanted, IN_PROGRESS, "Resizing", None)).await?;
            }
            let note = format!("External resizer is resizing volume {name}");
            self.recorder.normal(&claim, "Resizing", note);
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
                self.recorder.warning(&claim, "VolumeResizeFailed", note);
                if !is_refused(&claim) {
                    let why = Some(format!("failed to expand pvc with {fault}"));
                    self.write(&claim, &progress(&claim, &wanted, INFEASIBLE, "ControllerResizeError", why)).await?;
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
        let size = quantity_list(&wanted);
        let done = json!({"capacity": size, "conditions": null, "allocatedResources": size,
            "allocatedResourceStatuses": null});
        self.write(claim, &done).await?;
        let note = "Resize volume succeeded".to_owned();
        self.recorder.normal(claim, "VolumeResizeSuccessful", note);
        Ok(())
    }

    async fn write(&self, claim: &PersistentVolumeClaim, status: &Value) -> Result<PersistentVolumeClaim, Fault> {
        let patch = json!({"metadata": {"uid": claim.uid()}, "status": status});
        let api = self.claims(&claim.namespace().unwrap_or_default());
        Ok(api.patch_status(&claim.name_any(), &PatchParams::default(), &Patch::Merge(patch)).await?)
    }
}

/// How far the growth of a claim to that size is: what its status is to say.
fn progress(claim: &PersistentVolumeClaim, size: &str, state: &str, condition: &str, message: Option<String>) -> Value {
    let mut conditions = claim.status.as_ref().and_then(|s| s.conditions.clone()).unwrap_or_default();
    if state == IN_PROGRESS {
        // Of an earlier size.
        conditions.retain(|c| c.type_ != "ControllerResizeError");
    }
    if !conditions.iter().any(|c| c.type_ == condition) {
        conditions.push(PersistentVolumeClaimCondition {
            type_: condition.to_owned(),
            status: "True".to_owned(),
            last_transition_time: Some(Time(Timestamp::now())),
            message,
            ..PersistentVolumeClaimCondition::default()
        });
    }
    json!({"allocatedResources": {"storage": size}, "allocatedResourceStatuses": {"storage": state},
        "conditions": conditions})
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_stands_until_another_size_is_asked_for() {
        let claim = |status: &Value| -> PersistentVolumeClaim {
            serde_json::from_value(json!({"status": status})).expect("a claim")
        };
        let kinds = |status: &Value| -> Vec<String> {
            status["conditions"]
                .as_array()
                .into_iter()
                .flatten()
                .map(|c| c["type"].as_str().unwrap_or("").into())
                .collect()
        };
        let begun = progress(&claim(&json!({})), "9Gi", IN_PROGRESS, "Resizing", None);
        assert_eq!((kinds(&begun), is_refused(&claim(&begun))), (vec!["Resizing".to_owned()], false));
        assert_eq!(allocated(&claim(&begun)), "9Gi".parse().ok());
        let refused = progress(&claim(&begun), "9Gi", INFEASIBLE, "ControllerResizeError", Some("no".to_owned()));
        assert!(is_refused(&claim(&refused)));
        assert_eq!(kinds(&refused), ["Resizing", "ControllerResizeError"]);
        let again = progress(&claim(&refused), "2Gi", IN_PROGRESS, "Resizing", None);
        assert_eq!((kinds(&again), is_refused(&claim(&again))), (vec!["Resizing".to_owned()], false));
    }
}
