//! A volume that grows while a pod has it: its driver is told on the node (`NodeExpandVolume`), and the claim's status
//! says how far that is (KEP-1790: what a resizer or a driver can't do may be asked for anew).

use std::{path::PathBuf, sync::Arc};

use api::quantity::Quantity;
use futures::StreamExt;
use grpc::Status;
use jiff::Timestamp;
use k8s_openapi::{
    api::core::v1::{PersistentVolume, PersistentVolumeClaim, PersistentVolumeClaimCondition, Pod},
    apimachinery::pkg::apis::meta::v1::Time,
};
use kube::{
    Api,
    api::{Patch, PatchParams},
    runtime::WatchStreamExt,
};
use serde_json::{Value, json};
use tokio::task::AbortHandle;

use super::{
    call::is_final,
    driver::{Driver, Request},
};
use crate::{
    context::Context,
    events::Severity,
    volumes::{FIRST_REST, LONGEST_REST},
};

/// Conditions of a claim that end with its growth.
const OF_GROWTH: [&str; 4] = ["FileSystemResizePending", "Resizing", "ControllerResizeError", "NodeResizeError"];

const PENDING: &str = "NodeResizePending";
const IN_PROGRESS: &str = "NodeResizeInProgress";
const INFEASIBLE: &str = "NodeResizeInfeasible";

/// A published volume whose driver can make it larger.
pub struct Growth {
    /// Of the node.
    pub context: Arc<Context>,
    /// The pod that has it.
    pub pod: Pod,
    /// Namespace and name of the claim.
    pub claim: (String, String),
    /// Name of the PersistentVolume.
    pub volume: String,
    /// Its driver.
    pub driver: Arc<Driver>,
    /// As it was published, with the secrets for expansion.
    pub request: Request,
    /// Where it was published.
    pub path: PathBuf,
}

/// How a try went.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tried {
    /// The driver said surely no.
    refused: bool,
    /// It can't do that while the volume is in use: it is not asked again here.
    in_use: bool,
}

impl Growth {
    /// Follows the volume and its claim until the pod lets go of it. `tried` is what came of it so far.
    pub fn follow(self, mut tried: Tried) -> AbortHandle {
        tokio::spawn(async move {
            let volumes = watching::one(self.volumes(), &self.volume).applied_objects().map(drop).boxed();
            let claims = watching::one(self.claims(), &self.claim.1).applied_objects().map(drop).boxed();
            let mut changes = futures::stream::select(volumes, claims);
            while !tried.in_use && changes.next().await.is_some() {
                let mut rest = FIRST_REST;
                loop {
                    match self.catch_up(tried.refused).await {
                        Ok(outcome) => {
                            tried = outcome;
                            break;
                        }
                        Err(message) => {
                            let volume = &self.volume;
                            let text =
                                format!("NodeExpandVolume.NodeExpandVolume failed for volume \"{volume}\" : {message}");
                            self.context.recorder.pod(&self.pod, Severity::Warning, "VolumeResizeFailed", text);
                            tried.refused = true;
                        }
                    }
                    tokio::time::sleep(rest).await;
                    rest = (rest * 2).min(LONGEST_REST);
                }
            }
        })
        .abort_handle()
    }

    /// Tells the driver if the volume has more than the claim's status says, and then the claim. `refused`: the driver
    /// said no before. An error is worth another try.
    pub async fn catch_up(&self, refused: bool) -> Result<Tried, String> {
        let nothing = Tried::default();
        let claim = self.claims().get_opt(&self.claim.1).await.map_err(|e| e.to_string())?;
        let volume = self.volumes().get_opt(&self.volume).await.map_err(|e| e.to_string())?;
        let (Some(mut claim), Some(volume)) = (claim, volume) else { return Ok(nothing) };
        let Some(size) = grown(&volume, &claim) else { return Ok(nothing) };
        let recorded = match status_of(&claim) {
            None if allocated(&claim) => return Ok(nothing),
            // A resizer from before there was such a record.
            None => false,
            Some(PENDING | IN_PROGRESS) => true,
            Some(_) => return Ok(nothing),
        };
        if recorded {
            let patch = json!({"metadata": {"resourceVersion": claim.metadata.resource_version},
                "status": {"allocatedResourceStatuses": {"storage": IN_PROGRESS}}});
            claim = self.write(patch).await?;
        }
        let bytes = size.parse::<Quantity>().map_or(0, |q| u64::try_from(q.value()).unwrap_or_default());
        if let Err(error) = self.driver.expand(&self.request, &self.path, bytes).await {
            let text = format!("Expander.NodeExpand failed to expand the volume : {error}");
            if recorded && is_final(&error) {
                // The user wants another size by now: whoever resizes may look at it again.
                let other = refused && claims::requested(&claim) != size.parse().ok();
                let status = refusal(&claim, is_infeasible(&error) || other, &text, Timestamp::now());
                self.write(json!({"status": status})).await?;
            }
            if error.code == Status::FAILED_PRECONDITION {
                return Ok(Tried { refused: true, in_use: true });
            }
            return Err(text);
        }
        let node = &self.context.config.node_name;
        let text = format!("MountVolume.NodeExpandVolume succeeded for volume \"{}\" {node}", self.volume);
        self.context.recorder.pod(&self.pod, Severity::Normal, "FileSystemResizeSuccessful", text.clone());
        self.context.recorder.claim(&claim, Severity::Normal, "FileSystemResizeSuccessful", text);
        self.write(done(&claim, &size)).await?;
        Ok(nothing)
    }

    async fn write(&self, patch: Value) -> Result<PersistentVolumeClaim, String> {
        let written = self.claims().patch_status(&self.claim.1, &PatchParams::default(), &Patch::Merge(patch)).await;
        written.map_err(|error| error.to_string())
    }

    fn claims(&self) -> Api<PersistentVolumeClaim> {
        Api::namespaced(self.context.client.clone(), &self.claim.0)
    }

    fn volumes(&self) -> Api<PersistentVolume> {
        Api::all(self.context.client.clone())
    }
}

/// The volume's size, if it is more than the claim has.
fn grown(volume: &PersistentVolume, claim: &PersistentVolumeClaim) -> Option<String> {
    let size = volume.spec.as_ref()?.capacity.as_ref()?.get("storage")?;
    let has = claim.status.as_ref()?.capacity.as_ref()?.get("storage")?;
    (size.0.parse::<Quantity>().ok()? > has.0.parse().ok()?).then(|| size.0.clone())
}

/// How far the growth is, if its resizer says so.
fn status_of(claim: &PersistentVolumeClaim) -> Option<&str> {
    claim.status.as_ref()?.allocated_resource_statuses.as_ref()?.get("storage").map(String::as_str)
}

/// Whether a resizer has said which size it makes.
fn allocated(claim: &PersistentVolumeClaim) -> bool {
    claim.status.as_ref().is_some_and(|status| status.allocated_resources.is_some())
}

/// Whether asking again for the same is of no use.
fn is_infeasible(error: &Status) -> bool {
    matches!(error.code, Status::INVALID_ARGUMENT | Status::NOT_FOUND | Status::OUT_OF_RANGE)
}

/// The claim's status after the driver has refused.
fn refusal(claim: &PersistentVolumeClaim, infeasible: bool, text: &str, now: Timestamp) -> Value {
    let mut conditions = claim.status.as_ref().and_then(|s| s.conditions.clone()).unwrap_or_default();
    if !conditions.iter().any(|c| c.type_ == "NodeResizeError" && c.status == "True") {
        conditions.retain(|c| c.type_ != "NodeResizeError");
        conditions.push(PersistentVolumeClaimCondition {
            type_: "NodeResizeError".to_owned(),
            status: "True".to_owned(),
            last_transition_time: Some(Time(now)),
            message: Some(format!("failed to expand pvc with {text}")),
            ..PersistentVolumeClaimCondition::default()
        });
    }
    let mut status = json!({"conditions": conditions});
    if infeasible {
        status["allocatedResourceStatuses"] = json!({"storage": INFEASIBLE});
    }
    status
}

/// The claim's status once it has that size.
fn done(claim: &PersistentVolumeClaim, size: &str) -> Value {
    let conditions = claim.status.iter().flat_map(|s| s.conditions.iter().flatten());
    let left: Vec<_> = conditions.filter(|c| !OF_GROWTH.contains(&c.type_.as_str())).collect();
    json!({
        "metadata": {"resourceVersion": claim.metadata.resource_version},
        "status": {"capacity": {"storage": size}, "conditions": left, "allocatedResourceStatuses": {"storage": null}},
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn claim() -> PersistentVolumeClaim {
        serde_json::from_value(json!({"status": {"capacity": {"storage": "1Gi"},
            "allocatedResources": {"storage": "2Gi"}, "allocatedResourceStatuses": {"storage": PENDING},
            "conditions": [{"type": "FileSystemResizePending", "status": "True"}, {"type": "Other", "status": "True"}]}}))
        .expect("a claim")
    }

    #[test]
    fn what_the_volume_has_more_than_the_claim_is_caught_up_with() {
        let volume = |size: &str| -> PersistentVolume {
            serde_json::from_value(json!({"spec": {"capacity": {"storage": size}}})).expect("a volume")
        };
        let claim = claim();
        assert_eq!(grown(&volume("1024Mi"), &claim), None);
        assert_eq!(grown(&volume("2Gi"), &claim).as_deref(), Some("2Gi"));
        assert_eq!(grown(&volume("2Gi"), &PersistentVolumeClaim::default()), None);
        assert_eq!((status_of(&claim), allocated(&claim)), (Some(PENDING), true));
        let status = &done(&claim, "2Gi")["status"];
        assert_eq!(
            (&status["capacity"]["storage"], status["conditions"].as_array().map(Vec::len)),
            (&json!("2Gi"), Some(1))
        );
        assert_eq!(status["conditions"][0]["type"], "Other");
    }

    #[test]
    fn a_refusal_is_told_once_and_may_be_the_end() {
        let now = Timestamp::UNIX_EPOCH;
        let status = refusal(&claim(), false, "no", now);
        assert_eq!(
            (status["conditions"].as_array().map(Vec::len), &status["allocatedResourceStatuses"]),
            (Some(3), &Value::Null)
        );
        assert_eq!(status["conditions"][2]["message"], "failed to expand pvc with no");
        let told: PersistentVolumeClaim = serde_json::from_value(json!({"status": status})).expect("a claim");
        let status = refusal(&told, true, "no again", now);
        assert_eq!(status["conditions"].as_array().map(Vec::len), Some(3));
        assert_eq!(status["conditions"][2]["message"], "failed to expand pvc with no");
        assert_eq!(status["allocatedResourceStatuses"]["storage"], INFEASIBLE);
        let of = |code| is_infeasible(&Status::new(code, ""));
        assert_eq!([3, 5, 11, 13, 4].map(of), [true, true, true, false, false]);
    }
}
