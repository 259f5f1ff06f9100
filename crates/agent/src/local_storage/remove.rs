//! The end of a volume: released and to be deleted, its directory goes first, then its object.

use k8s_openapi::api::core::v1::PersistentVolume;
use kube::{
    ResourceExt,
    api::{DeleteParams, Patch, PatchParams, Preconditions},
};
use serde_json::json;

use super::{Fault, Local, block};
use crate::volumes::remove_tree;

/// Keeps the object until its directory is gone.
pub const FINALIZER: &str = "external-provisioner.volume.kubernetes.io/finalizer";

impl Local {
    pub(super) async fn see_to_volume(&self, volume: &PersistentVolume) -> Result<(), Fault> {
        let to_be_deleted =
            volume.spec.as_ref().and_then(|s| s.persistent_volume_reclaim_policy.as_deref()) == Some("Delete");
        let (released, going) =
            (claims::volume_phase(volume) == "Released", volume.metadata.deletion_timestamp.is_some());
        if to_be_deleted && released {
            self.remove_directory(volume).await?;
            if !going {
                let preconditions = Preconditions { uid: volume.uid(), resource_version: None };
                let params = DeleteParams { preconditions: Some(preconditions), ..DeleteParams::default() };
                fine_if_gone(self.volumes().delete(&volume.name_any(), &params).await)?;
            }
            return self.let_go(volume).await;
        }
        // Deleted by hand and kept by its policy: the data stays.
        if going && !to_be_deleted && claims::volume_phase(volume) != "Bound" {
            return self.let_go(volume).await;
        }
        Ok(())
    }

    /// Only what lies where we make them: a path in an object is no reason to remove anything else.
    async fn remove_directory(&self, volume: &PersistentVolume) -> Result<(), Fault> {
        let path = self.root().join(volume.name_any());
        let named = volume.spec.as_ref().and_then(|s| s.local.as_ref()).map(|l| l.path.as_str());
        if named != path.to_str() {
            tracing::warn!(
                volume = volume.name_any(),
                ?named,
                "the directory of a volume is not where its provisioner makes them, and stays"
            );
            return Ok(());
        }
        let removed = tokio::task::spawn_blocking(move || {
            if block::is_file(&path) {
                block::detach(&path)?;
            }
            remove_tree(&path)
        })
        .await;
        Ok(removed.map_err(std::io::Error::other)??)
    }

    async fn let_go(&self, volume: &PersistentVolume) -> Result<(), Fault> {
        let Some(now) = self.volumes().get_opt(&volume.name_any()).await? else { return Ok(()) };
        let ours = now.metadata.uid == volume.metadata.uid && now.finalizers().iter().any(|f| f == FINALIZER);
        if !ours {
            return Ok(());
        }
        let left: Vec<&String> = now.finalizers().iter().filter(|f| *f != FINALIZER).collect();
        let patch = Patch::Merge(json!({"metadata": {
            "uid": now.uid(), "resourceVersion": now.resource_version(), "finalizers": left,
        }}));
        fine_if_gone(self.volumes().patch(&volume.name_any(), &PatchParams::default(), &patch).await)
    }
}

fn fine_if_gone<T>(result: Result<T, kube::Error>) -> Result<(), Fault> {
    match result {
        Err(kube::Error::Api(status)) if status.code == 404 => Ok(()),
        other => Ok(other.map(drop)?),
    }
}
