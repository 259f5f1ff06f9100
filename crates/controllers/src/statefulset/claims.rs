//! The claims of a StatefulSet's pods: made before the pod, kept after it, and owned as the retention policy says.

use k8s_openapi::api::{
    apps::v1::StatefulSet,
    core::v1::{PersistentVolumeClaim, Pod},
};
use kube::{
    Api, ResourceExt,
    api::{Patch, PatchParams, PostParams},
};
use serde_json::json;

use super::{Controller, identity};
use crate::{Error, error::gone_is_fine, queue::Key};

impl Controller {
    /// Makes the claims that the pod lacks. One that is being deleted has to be gone first.
    pub(super) async fn make_claims(
        &self,
        set: &StatefulSet,
        pod: Option<&Pod>,
        name: &str,
        ordinal: i32,
    ) -> Result<(), Error> {
        for mut claim in identity::claims(set, ordinal) {
            match self.shared.claims.get(&Key::of(&claim)) {
                Some(there) if there.metadata.deletion_timestamp.is_some() => {
                    return Err(Error::NotYet("a claim of that name is being deleted"));
                }
                Some(there) => self.own_claim(set, pod, ordinal, &there).await?,
                None => {
                    let owners = identity::claim_owners(set, pod, ordinal, &[]);
                    claim.metadata.owner_references = (!owners.is_empty()).then_some(owners);
                    self.make_claim(set, name, &claim).await?;
                }
            }
        }
        Ok(())
    }

    async fn make_claim(&self, set: &StatefulSet, pod: &str, claim: &PersistentVolumeClaim) -> Result<(), Error> {
        let (name, owner) = (claim.name_any(), set.name_any());
        match self.claims_api(set).create(&PostParams::default(), claim).await.map_err(Error::from) {
            Ok(_) => {
                let note = format!("create Claim {name} Pod {pod} in StatefulSet {owner} success");
                self.recorder.normal(set, "SuccessfulCreate", note);
                Ok(())
            }
            Err(error) if error.is_already_exists() => Ok(()),
            Err(error) => {
                let note = format!(
                    "create Claim {name} for Pod {pod} in StatefulSet {owner} failed error: {}",
                    error.message()
                );
                self.recorder.warning(set, "FailedCreate", note);
                Err(error)
            }
        }
    }

    /// Has the pod's claims owned as the policy says now.
    pub(super) async fn keep_claims(&self, set: &StatefulSet, pod: &Pod, ordinal: i32) -> Result<(), Error> {
        for claim in identity::claims(set, ordinal) {
            if let Some(there) = self.shared.claims.get(&Key::of(&claim)) {
                self.own_claim(set, Some(pod), ordinal, &there).await?;
            }
        }
        Ok(())
    }

    async fn own_claim(
        &self,
        set: &StatefulSet,
        pod: Option<&Pod>,
        ordinal: i32,
        claim: &PersistentVolumeClaim,
    ) -> Result<(), Error> {
        let owners = identity::claim_owners(set, pod, ordinal, claim.owner_references());
        if owners == claim.owner_references() {
            return Ok(());
        }
        let patch = Patch::Merge(json!({"metadata": {
            "uid": claim.uid(), "resourceVersion": claim.resource_version(), "ownerReferences": owners,
        }}));
        gone_is_fine(self.claims_api(set).patch(&claim.name_any(), &PatchParams::default(), &patch).await)
    }

    fn claims_api(&self, set: &StatefulSet) -> Api<PersistentVolumeClaim> {
        Api::namespaced(self.shared.client.clone(), &set.namespace().unwrap_or_default())
    }
}
