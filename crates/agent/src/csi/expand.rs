//! A volume that grows while a pod has it: its driver is told on the node (`NodeExpandVolume`), and the claim's status
//! says when that is done.

use std::{path::PathBuf, sync::Arc, time::Duration};

use api::quantity::Quantity;
use futures::StreamExt;
use k8s_openapi::api::core::v1::{PersistentVolume, PersistentVolumeClaim, Pod};
use kube::{
    Api,
    api::{Patch, PatchParams},
    runtime::{WatchStreamExt, watcher},
};
use serde_json::{Value, json};
use tokio::task::AbortHandle;

use super::driver::{Driver, Request};
use crate::{context::Context, events::Severity};

/// Between two tries.
const FIRST_REST: Duration = Duration::from_secs(1);
const LONGEST_REST: Duration = Duration::from_secs(120);

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

impl Growth {
    /// Follows the volume until the pod lets go of it.
    pub fn follow(self) -> AbortHandle {
        tokio::spawn(async move {
            let api: Api<PersistentVolume> = Api::all(self.context.client.clone());
            let config = watcher::Config::default().fields(&format!("metadata.name={}", self.volume));
            let mut changes = watching::watch(api, config).applied_objects();
            while let Some(change) = changes.next().await {
                let Ok(volume) = change else { continue };
                let mut rest = FIRST_REST;
                while let Err(message) = self.catch_up(&volume).await {
                    let text = format!(
                        "MountVolume.NodeExpandVolume failed for volume \"{}\" : Expander.NodeExpand failed to expand the volume : {message}",
                        self.volume
                    );
                    self.context.recorder.pod(&self.pod, Severity::Warning, "FileSystemResizeFailed", text);
                    tokio::time::sleep(rest).await;
                    rest = (rest * 2).min(LONGEST_REST);
                }
            }
        })
        .abort_handle()
    }

    /// Tells the driver if the volume has more than the claim's status says, and then the claim.
    pub async fn catch_up(&self, volume: &PersistentVolume) -> Result<(), String> {
        let api: Api<PersistentVolumeClaim> = Api::namespaced(self.context.client.clone(), &self.claim.0);
        let Some(claim) = api.get_opt(&self.claim.1).await.map_err(|e| e.to_string())? else { return Ok(()) };
        let Some(size) = grown(volume, &claim) else { return Ok(()) };
        let bytes = size.parse::<Quantity>().map_or(0, |q| u64::try_from(q.value()).unwrap_or_default());
        self.driver.expand(&self.request, &self.path, bytes).await.map_err(|error| error.to_string())?;
        let patch = Patch::Merge(done(&claim, &size));
        api.patch_status(&self.claim.1, &PatchParams::default(), &patch).await.map_err(|e| e.to_string())?;
        let text = format!("MountVolume.NodeExpandVolume succeeded for volume \"{}\" ", self.volume);
        self.context.recorder.pod(&self.pod, Severity::Normal, "FileSystemResizeSuccessful", text);
        Ok(())
    }
}

/// The volume's size, if it is more than the claim has.
fn grown(volume: &PersistentVolume, claim: &PersistentVolumeClaim) -> Option<String> {
    let size = volume.spec.as_ref()?.capacity.as_ref()?.get("storage")?;
    let has = claim.status.as_ref()?.capacity.as_ref()?.get("storage")?;
    (size.0.parse::<Quantity>().ok()? > has.0.parse().ok()?).then(|| size.0.clone())
}

/// The claim's status once it has that size.
fn done(claim: &PersistentVolumeClaim, size: &str) -> Value {
    let conditions = claim.status.iter().flat_map(|s| s.conditions.iter().flatten());
    let left: Vec<_> =
        conditions.filter(|c| !matches!(c.type_.as_str(), "FileSystemResizePending" | "Resizing")).collect();
    json!({
        "metadata": {"resourceVersion": claim.metadata.resource_version},
        "status": {"capacity": {"storage": size}, "conditions": left, "allocatedResourceStatuses": null},
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_volume_has_more_than_the_claim_is_caught_up_with() {
        let volume = |size: &str| -> PersistentVolume {
            serde_json::from_value(json!({"spec": {"capacity": {"storage": size}}})).expect("a volume")
        };
        let claim: PersistentVolumeClaim = serde_json::from_value(json!({"status": {"capacity": {"storage": "1Gi"},
            "conditions": [{"type": "FileSystemResizePending", "status": "True"}, {"type": "Other", "status": "True"}]}}))
        .expect("a claim");
        assert_eq!(grown(&volume("1024Mi"), &claim), None);
        assert_eq!(grown(&volume("2Gi"), &claim).as_deref(), Some("2Gi"));
        assert_eq!(grown(&volume("2Gi"), &PersistentVolumeClaim::default()), None);
        let status = &done(&claim, "2Gi")["status"];
        assert_eq!(
            (&status["capacity"]["storage"], status["conditions"].as_array().map(Vec::len)),
            (&json!("2Gi"), Some(1))
        );
        assert_eq!(status["conditions"][0]["type"], "Other");
    }
}
