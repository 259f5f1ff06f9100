//! Claims: one without a volume gets one, has one made, or waits; one with a volume keeps it or has lost it.

use std::sync::Arc;

use claims::{SELECTED_NODE, STORAGE_PROVISIONER, STORAGE_PROVISIONER_BETA, class_of, volume_name};
use k8s_openapi::api::{
    core::v1::{PersistentVolumeClaim, Pod},
    storage::v1::StorageClass,
};
use kube::{
    ResourceExt,
    api::{Patch, PatchParams},
};
use serde_json::json;

use super::{Binder, bind::pinned};
use crate::{Error, queue::Key};

/// Marks the class of claims that name none.
const DEFAULT_CLASS: [&str; 2] =
    ["storageclass.kubernetes.io/is-default-class", "storageclass.beta.kubernetes.io/is-default-class"];

impl Binder {
    pub(super) async fn see_to_unbound(&self, claim: &PersistentVolumeClaim) -> Result<(), Error> {
        match volume_name(claim) {
            "" => self.find_volume(claim).await,
            name => self.take_volume(claim, name).await,
        }
    }

    async fn find_volume(&self, claim: &PersistentVolumeClaim) -> Result<(), Error> {
        let class = self.shared.classes.get(&Key::new("", class_of(claim)));
        let selected = claims::annotation(claim, SELECTED_NODE).is_some();
        let delayed = !selected && class.as_deref().is_some_and(claims::waits_for_consumer);
        let volumes = self.shared.volumes.all();
        let found = claims::choose(claim, volumes.iter().map(|v| &**v), None, delayed, |_| false);
        if let Some(volume) = found {
            return self.bind(volume, claim).await;
        }
        if delayed {
            self.say_it_waits(claim);
        } else if !class_of(claim).is_empty() {
            self.have_provisioned(claim, class.as_deref()).await?;
        } else if let Some(class) = self.default_class().filter(|_| names_no_class(claim)) {
            // The class was made the default after the claim: it counts from now on.
            let patch =
                Patch::Merge(json!({"metadata": pinned(claim), "spec": {"storageClassName": class.name_any()}}));
            let api = self.claims_of(&claim.namespace().unwrap_or_default());
            return Ok(api.patch(&claim.name_any(), &PatchParams::default(), &patch).await.map(drop)?);
        } else {
            let note = "no persistent volumes available for this claim and no storage class is set";
            self.recorder.normal(claim, "FailedBinding", note);
        }
        self.pending(claim).await
    }

    /// The claim asks for a volume by name.
    async fn take_volume(&self, claim: &PersistentVolumeClaim, name: &str) -> Result<(), Error> {
        let Some(volume) = self.shared.volumes.get(&Key::new("", name)) else { return self.pending(claim).await };
        if claims::claim_ref(&volume).is_none() {
            if let Some(why) = claims::unsuitable(&volume, claim) {
                let note = format!("Cannot bind to requested volume \"{name}\": {why}");
                self.recorder.warning(claim, "VolumeMismatch", note);
                return self.pending(claim).await;
            }
            return self.bind(&volume, claim).await;
        }
        if claims::is_bound_to(&volume, claim) {
            return self.bind(&volume, claim).await;
        }
        if claims::annotation(claim, claims::BOUND_BY_CONTROLLER).is_none() {
            let note = format!("volume \"{name}\" already bound to a different claim.");
            self.recorder.warning(claim, "FailedBinding", note);
            return self.pending(claim).await;
        }
        Err(Error::Object(format!("volume {name} is another claim's, though a controller gave it to this one")))
    }

    pub(super) async fn see_to_bound(&self, claim: &PersistentVolumeClaim) -> Result<(), Error> {
        let name = volume_name(claim);
        if name.is_empty() {
            let note = "Bound claim has lost reference to PersistentVolume. Data on the volume is lost!";
            return self.lost(claim, "ClaimLost", note).await;
        }
        let volume = match self.shared.volumes.get(&Key::new("", name)) {
            Some(volume) => volume,
            // The cache may be behind: what is gone is gone for the API, too.
            None => match self.volumes().get_opt(name).await? {
                Some(volume) => Arc::new(volume),
                None => {
                    let note = "Bound claim has lost its PersistentVolume. Data on the volume is lost!";
                    return self.lost(claim, "ClaimLost", note).await;
                }
            },
        };
        let named = claims::claim_ref(&volume);
        if named.is_none() || named.is_some_and(|r| r.uid == claim.metadata.uid) {
            return self.bind(&volume, claim).await;
        }
        if claims::is_bound_to(&volume, claim) {
            return self.bind(&volume, claim).await;
        }
        self.lost(claim, "ClaimMisbound", "Two claims are bound to the same volume, this one is bound incorrectly")
            .await
    }

    async fn lost(&self, claim: &PersistentVolumeClaim, reason: &str, note: &str) -> Result<(), Error> {
        if claim.status.as_ref().and_then(|s| s.phase.as_deref()) != Some("Lost") {
            self.recorder.warning(claim, reason, note);
        }
        self.set_claim_phase(claim, "Lost").await
    }

    async fn pending(&self, claim: &PersistentVolumeClaim) -> Result<(), Error> {
        self.set_claim_phase(claim, "Pending").await
    }

    fn say_it_waits(&self, claim: &PersistentVolumeClaim) {
        let namespace = claim.namespace().unwrap_or_default();
        let mut pods: Vec<String> =
            self.shared.pods.in_namespace(&namespace).iter().filter(|p| uses(p, claim)).map(|p| p.name_any()).collect();
        pods.sort();
        match pods.as_slice() {
            [] => {
                let note = "waiting for first consumer to be created before binding";
                self.recorder.normal(claim, "WaitForFirstConsumer", note);
            }
            [pod] => {
                let note = format!("waiting for pod {pod} to be scheduled");
                self.recorder.normal(claim, "WaitForPodScheduled", note);
            }
            pods => {
                let note = format!("waiting for pods {} to be scheduled", pods.join(","));
                self.recorder.normal(claim, "WaitForPodScheduled", note);
            }
        }
    }

    /// Provisioners look for claims that bear their name.
    async fn have_provisioned(&self, claim: &PersistentVolumeClaim, class: Option<&StorageClass>) -> Result<(), Error> {
        let fail = |note: String| self.recorder.warning(claim, "ProvisioningFailed", note);
        let Some(class) = class else {
            fail(format!("storageclass.storage.k8s.io \"{}\" not found", class_of(claim)));
            return Ok(());
        };
        let provisioner = &class.provisioner;
        if provisioner.starts_with("kubernetes.io/") {
            fail(format!("no volume plugin matched name: {provisioner}"));
            return Ok(());
        }
        if claims::annotation(claim, STORAGE_PROVISIONER) != Some(provisioner) {
            let annotations = json!({STORAGE_PROVISIONER: provisioner, STORAGE_PROVISIONER_BETA: provisioner});
            let mut patch = json!({"metadata": pinned(claim)});
            patch["metadata"]["annotations"] = annotations;
            let api = self.claims_of(&claim.namespace().unwrap_or_default());
            api.patch(&claim.name_any(), &PatchParams::default(), &Patch::Merge(patch)).await?;
            let note = format!(
                "Waiting for a volume to be created either by the external provisioner '{provisioner}' or manually by \
                 the system administrator. If volume creation is delayed, please verify that the provisioner is \
                 running and correctly registered."
            );
            self.recorder.normal(claim, "ExternalProvisioning", note);
            // What the patch changed brings the claim here again.
            return Err(Error::NotYet("the claim was handed to its provisioner"));
        }
        Ok(())
    }

    /// The newest of those that are marked; of equally old ones the first by name.
    fn default_class(&self) -> Option<Arc<StorageClass>> {
        let classes = self.shared.classes.all().into_iter();
        let marked =
            classes.filter(|c| DEFAULT_CLASS.iter().any(|a| c.annotations().get(*a).is_some_and(|v| v == "true")));
        marked.max_by_key(|c| (c.creation_timestamp(), std::cmp::Reverse(c.name_any())))
    }
}

fn names_no_class(claim: &PersistentVolumeClaim) -> bool {
    claim.spec.as_ref().is_some_and(|s| s.storage_class_name.is_none()) && class_of(claim).is_empty()
}

/// Whether the pod mounts the claim, be it by name or as a generic ephemeral volume of its own.
pub(super) fn uses(pod: &Pod, claim: &PersistentVolumeClaim) -> bool {
    let name = claim.name_any();
    pod.spec.iter().flat_map(|s| s.volumes.iter().flatten()).any(|volume| {
        volume.persistent_volume_claim.as_ref().is_some_and(|c| c.claim_name == name)
            || (volume.ephemeral.is_some()
                && format!("{}-{}", pod.name_any(), volume.name) == name
                && crate::ownership::is_controlled_by(claim, pod))
    })
}
